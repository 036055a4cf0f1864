use super::*;
use crate::algebra::{LinearForm, Symbol};
use crate::coding::{Code, CodeKind, GradientCode};
use crate::keys::{FormalKeys, KeyKind, pairs};
use crate::message::PartyId;
use crate::privacy::rank::Determined;
use crate::privacy::split::Split;
use crate::privacy::view::{Coalition, View};
use crate::seed::Seed;

fn pair(a: u16, b: u16) -> Unknown {
    Unknown::Key(KeyStream { purpose: "mask", round: 0, a, b }, 0)
}

/// The pairs of 0..h in order, and as unknowns.
fn pairs_of(h: u16) -> Vec<Unknown> {
    (0..h).flat_map(|k| (k + 1..h).map(move |j| pair(k, j))).collect()
}

#[test]
fn one_mask_by_hand() {
    // u_1 = g_12 + g_13 + g_14 has d = (3, −1, −1, −1)/4, and √4 d has the squares (9 + 1 + 1 + 1)/4 = 3.
    let b = DMatrix::from_row_slice(1, 6, &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(paired(b, &pairs_of(4)), DMatrix::from_row_slice(1, 4, &[1.5, -0.5, -0.5, -0.5]));
    // g_12 alone is no difference of clients: it is in u_1, without the others that are in it.
    let b = DMatrix::from_row_slice(1, 6, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(paired(b.clone(), &pairs_of(4)), b);
}

#[test]
fn pairs_of_unequal_strength_stay_as_they_are() {
    // u_1 and u_2 where clients 1 and 2 share twice as much.
    let rows = [[2.0, 1.0, 1.0, 0.0, 0.0, 0.0], [-2.0, 0.0, 0.0, 1.0, 1.0, 0.0]];
    let b = DMatrix::from_row_slice(2, 6, rows.as_flattened());
    assert_eq!(paired(b.clone(), &pairs_of(4)), b);
}

#[test]
fn bare_draws_by_hand() {
    // x_1 + 3 g_1 + g_2 and 2 g_1: what is left is x_1 + g_2, the first less 1.5 times the second.
    let a = DMatrix::from_row_slice(2, 1, &[1.0, 0.0]);
    let b = DMatrix::from_row_slice(2, 2, &[3.0, 1.0, 2.0, 0.0]);
    let fewer = Draws::fewest(&a, b, &[pair(0, 0), pair(1, 1)]);
    assert_eq!((fewer.rows, fewer.taken), (vec![0], vec![(0, 1, 1.5)]));
    assert_eq!(fewer.b, DMatrix::from_element(1, 1, 1.0));
    // A row that shows an input beside the draw is none.
    let a = DMatrix::from_row_slice(2, 1, &[1.0, 1.0]);
    let b = DMatrix::from_row_slice(2, 2, &[3.0, 1.0, 2.0, 0.0]);
    assert_eq!(Draws::fewest(&a, b.clone(), &[pair(0, 0), pair(1, 1)]).b, b);
}

/// What a coalition sees of a round of a code with pairwise keys in which nothing is lost.
fn view(code: &GradientCode, std: f64, colluders: &[usize], server: bool) -> View {
    let m = code.clients();
    let masks: Vec<Vec<LinearForm>> = KeyKind::Pairwise.masks(m, 1, std, None, 0, &FormalKeys);
    let input = |k: usize| LinearForm::unknown(Unknown::Input(k as u16, 0));
    let masked = |k: usize| LinearForm::combine(1, &[(1.0, &[input(k)][..]), (1.0, &masks[k][..])]);
    let share = |row: usize, k: usize| LinearForm::combine(1, &[(code.coefficient(row, k), &masked(k)[..])]);
    let mut rows: Vec<LinearForm> = Vec::new();
    for &c in colluders {
        rows.extend(code.support(c).iter().filter(|&&k| k != c).flat_map(|&k| share(c, k)));
        rows.push(input(c));
        let drawn: Vec<Vec<LinearForm>> =
            pairs::draws_of(c, m, 1, |_| std / (m as f64 - 1.0).sqrt(), 0, &FormalKeys);
        rows.extend(drawn.concat());
    }
    if server {
        for row in 0..m {
            let shares: Vec<Vec<LinearForm>> = code.support(row).iter().map(|&k| share(row, k)).collect();
            let terms: Vec<(f64, &[LinearForm])> = shares.iter().map(|share| (1.0, &share[..])).collect();
            rows.extend(LinearForm::combine(1, &terms));
        }
    }
    let clients = colluders.iter().map(|&c| PartyId::Client(c as u16));
    let parties = clients.chain(server.then_some(PartyId::Server));
    let known = colluders.iter().map(|&c| c as u16).collect();
    let included = (0..m as u16).collect();
    View { clients: m, len: 1, coalition: Coalition::of(parties), known, included, rows }
}

fn close(name: &str, one: f64, other: f64) {
    assert!(one == other || (one - other).abs() <= 1e-9 * one.abs(), "{name}: {one} and {other}");
}

/// Every coalition of up to two clients, with and without the server: the same numbers with all draws and
/// with the fewest.
#[test]
fn fewer_draws_tell_the_same() {
    for (kind, m, s) in [
        (CodeKind::CyclicMds, 6, 3),
        (CodeKind::CyclicMds, 7, 2),
        (CodeKind::CyclicRandom, 6, 2),
        (CodeKind::FractionalRepetition, 6, 1),
        (CodeKind::FractionalRepetition, 6, 5),
    ] {
        let code = GradientCode::build(kind, m, s, Seed::new(3)).unwrap();
        let mut coalitions: Vec<Vec<usize>> = vec![vec![]];
        coalitions.extend((0..m).map(|c| vec![c]));
        coalitions.extend((0..m).flat_map(|c| (0..c).map(move |d| vec![d, c])));
        for (std, colluders, server) in coalitions
            .iter()
            .flat_map(|set| [0.05, 1.0, 40.0].map(|std| (std, set)))
            .flat_map(|(std, set)| [true, false].map(|server| (std, set, server)))
            .filter(|(_, set, server)| *server || !set.is_empty())
        {
            let view = view(&code, std, colluders, server);
            let name = format!("{kind:?} {m} {s} σ = {std} {}", view.coalition);
            let all = Split::with_few(usize::MAX, &view.rows, m).unwrap();
            let fewest = Split::with_few(0, &view.rows, m).unwrap();
            // All draws that colluders hold are seen bare, in one row for each of them.
            assert_eq!(all.a.nrows() - fewest.a.nrows(), colluders.len() * (m - 1), "{name}");
            let stds: Vec<f64> = (0..m).map(|k| 0.5 + 0.1 * k as f64).collect();
            let (one, other) = (all.lmip(&stds).unwrap(), fewest.lmip(&stds).unwrap());
            one.iter().zip(&other).for_each(|(one, other)| close(&name, *one, *other));
            let honest: Vec<usize> = view.honest().collect();
            for &k in &honest {
                close(&name, all.alone(k), fewest.alone(k));
            }
            let (one, other) = (all.between(&honest), fewest.between(&honest));
            one.iter().zip(&other).for_each(|(one, other)| close(&name, *one, *other));
            let (one, other) = (Determined::with(&view, &all), Determined::with(&view, &fewest));
            assert_eq!((one.sum, &one.inputs), (other.sum, &other.inputs), "{name}");
            assert_eq!(one.combinations.len(), other.combinations.len(), "{name}");
            for &k in &honest {
                let estimate = |split: &Split| split.best_estimate(k, &stds).unwrap();
                guesses_alike(&name, &view, (k, &stds), [estimate(&all), estimate(&fewest)]);
            }
        }
    }
}

/// Two weightings of a view's rows: both have coefficient 1 on x_k and the same variance of the rest.
fn guesses_alike(name: &str, view: &View, (k, stds): (usize, &[f64]), guesses: [Option<Vec<f64>>; 2]) {
    let [Some(one), Some(other)] = guesses else {
        let [one, other] = guesses;
        assert_eq!((one, other), (None, None), "{name}");
        return;
    };
    let error = |weights: &[f64]| {
        let terms: Vec<(f64, &[LinearForm])> =
            weights.iter().zip(&view.rows).map(|(c, row)| (*c, std::slice::from_ref(row))).collect();
        let guess = LinearForm::combine(1, &terms).remove(0);
        close(name, guess.coefficient(Unknown::Input(k as u16, 0)), 1.0);
        let square = |(unknown, c): (Unknown, f64)| match unknown {
            Unknown::Input(j, _) if usize::from(j) == k => 0.0,
            Unknown::Input(j, _) => (c * stds[usize::from(j)]).powi(2),
            Unknown::Key(..) => c * c,
        };
        guess.terms().map(square).sum::<f64>()
    };
    let (one, other) = (error(&one), error(&other));
    assert!((one - other).abs() <= 1e-8 * (1e-3 + one.abs()), "{name}, x{}: {one} and {other}", k + 1);
}
