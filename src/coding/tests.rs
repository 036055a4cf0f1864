use super::outage::*;
use super::*;
use crate::algebra::field::M61;
use nalgebra::DVector;
use proptest::prelude::*;
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use std::collections::HashMap;

fn build(kind: CodeKind, clients: usize, stragglers: usize) -> GradientCode {
    GradientCode::build(kind, clients, stragglers, Seed::new(1)).unwrap()
}

/// Every code that exists for M ≤ 7.
fn small_codes() -> Vec<GradientCode> {
    let numbers = (1..=7).flat_map(|m| (0..m).map(move |s| (m, s)));
    let all = numbers.flat_map(|(m, s)| CodeKind::FAMILIES.map(|kind| (kind, m, s)));
    all.filter(|&(kind, m, s)| kind.exists(m, s)).map(|(kind, m, s)| build(kind, m, s)).collect()
}

fn members(set: u32, clients: usize) -> Vec<usize> {
    (0..clients).filter(|m| set >> m & 1 == 1).collect()
}

/// max_k |(a·B_R − 1ᵀ)_k|, summed in plain loops.
fn residual(code: &GradientCode, rows: &[usize], a: &[f64]) -> f64 {
    assert_eq!(rows.len(), a.len());
    let column = |k| rows.iter().zip(a).map(|(&m, a)| a * code.coefficient(m, k)).sum::<f64>();
    (0..code.clients()).map(|k| (column(k) - 1.0).abs()).fold(0.0, f64::max)
}

#[test]
fn enough_rows_decode_and_no_set_decodes_wrongly() {
    for code in small_codes() {
        let (clients, stragglers) = (code.clients(), code.stragglers());
        for set in 0..1_u32 << clients {
            let rows = members(set, clients);
            let a = code.decode(&rows);
            assert!(a.is_some() || rows.len() < clients - stragglers, "{code:?} {rows:?}");
            if let Some(a) = a {
                assert!(residual(&code, &rows, &a) <= 1e-9, "{code:?} {rows:?} {a:?}");
            }
        }
    }
}

#[test]
fn supports_and_holders_describe_the_matrix() {
    for code in small_codes() {
        for m in 0..code.clients() {
            let (support, holders) = (code.support(m), code.holders(m));
            let row: Vec<usize> = (0..code.clients()).filter(|&k| code.coefficient(m, k) != 0.0).collect();
            let column: Vec<usize> = (0..code.clients()).filter(|&r| code.coefficient(r, m) != 0.0).collect();
            assert_eq!((support, holders), (row.as_slice(), column.as_slice()));
            assert!(support.contains(&m) && support.len() == code.stragglers() + 1);
            assert_eq!(code.matrix().row(m).amax(), 1.0);
        }
    }
}

#[test]
fn the_extremes_are_the_identity_and_ones() {
    for kind in CodeKind::FAMILIES.into_iter().chain([CodeKind::Auto]) {
        for clients in [1, 2, 5, 6] {
            assert_eq!(build(kind, clients, 0).matrix(), DMatrix::identity(clients, clients));
            let ones = DMatrix::from_element(clients, clients, 1.0);
            assert_eq!(build(kind, clients, clients - 1).matrix(), ones);
        }
    }
}

#[test]
fn impossible_codes_are_refused_with_advice() {
    let refusal = |kind, m, s| GradientCode::build(kind, m, s, Seed::new(1)).unwrap_err().to_string();
    assert_eq!(
        refusal(CodeKind::FractionalRepetition, 10, 3),
        "code: fractional-repetition needs stragglers + 1 to divide the number of clients, not 10 and 3; \
         take code = \"cyclic-mds\" or stragglers = 4"
    );
    assert_eq!(
        refusal(CodeKind::CyclicMds, 10, 4),
        "code: cyclic-mds needs an even number of clients with odd stragglers, or an odd number with even \
         ones, not 10 and 4; take code = \"fractional-repetition\" or stragglers = 3"
    );
    assert_eq!(
        refusal(CodeKind::Auto, 4, 4),
        "stragglers: 4 stragglers of 4 clients leave nobody to decode from; take at most 3"
    );
    assert!(refusal(CodeKind::Auto, 0, 0).starts_with("clients: "));
    // The code exists, but the runs of 25 consecutive rows do not decode to nine digits.
    assert!(refusal(CodeKind::CyclicMds, 50, 25).contains("conditioned well enough"));
}

#[test]
fn a_missing_code_is_an_error_of_its_own() {
    let real = |kind, m, s| GradientCode::build(kind, m, s, Seed::new(1)).unwrap_err();
    let field = |kind, m, s| GradientCode::<M61>::over_field(kind, m, s, Seed::new(1)).unwrap_err();
    for missing in [
        real(CodeKind::FractionalRepetition, 10, 3),
        real(CodeKind::CyclicMds, 50, 25),
        field(CodeKind::FractionalRepetition, 10, 3),
        field(CodeKind::CyclicMds, 10, 3),
    ] {
        assert!(matches!(&missing, Error::NoCode { key, .. } if key == "code"), "{missing:?}");
    }
    for wrong in [real(CodeKind::Auto, 4, 4), real(CodeKind::Auto, 0, 0), field(CodeKind::Auto, 4, 4)] {
        assert!(matches!(wrong, Error::Config { .. }), "{wrong:?}");
    }
}

#[test]
fn reference_amplifications() {
    let seed = Seed::new(5);
    let of = |m, s| build(CodeKind::CyclicMds, m, s).amplification(300, seed);
    assert!((of(10, 7) - 11.25).abs() < 0.01);
    assert!((of(20, 1) - 10_f64.sqrt()).abs() < 1e-9);
    // The worst of 300 random sets is about 2e3; a run of consecutive rows is worse.
    let hard = build(CodeKind::CyclicMds, 21, 10);
    let mut rng = seed.rng();
    let random = (0..300).map(|_| {
        let rows = index::sample(&mut rng, 21, 11).into_vec();
        DVector::from_vec(hard.decode(&rows).unwrap()).norm()
    });
    let random = random.fold(0.0, f64::max);
    assert!((1e3..4e3).contains(&random), "{random}");
    assert!((hard.amplification(300, seed) - 8881.0).abs() < 1.0);
    // One row of a group of five, and of two groups of five all but four of one.
    let fractional = build(CodeKind::FractionalRepetition, 10, 4).amplification(300, seed);
    assert!((fractional - 1.2_f64.sqrt()).abs() < 1e-12);
}

#[test]
fn the_search_improves_random_codes() {
    // A single draw has a median of some 10³ to 10⁴ here.
    for stragglers in [2, 4, 6, 8] {
        let worst = build(CodeKind::CyclicRandom, 10, stragglers).amplification(300, Seed::new(5));
        assert!(worst < 300.0, "{stragglers}: {worst}");
    }
}

#[test]
fn auto_takes_the_best_conditioned_code() {
    for (clients, stragglers, kind) in [
        (10, 4, CodeKind::FractionalRepetition),
        (10, 7, CodeKind::CyclicMds),
        (10, 6, CodeKind::CyclicRandom),
        (30, 11, CodeKind::CyclicRandom), // cyclic-mds exists and is worse
    ] {
        let auto = build(CodeKind::Auto, clients, stragglers);
        assert_eq!(auto.kind(), kind);
        let worst = auto.amplification(300, Seed::new(1).child("judged", 0));
        for other in CodeKind::FAMILIES.into_iter().filter(|other| other.exists(clients, stragglers)) {
            let other = build(other, clients, stragglers);
            assert!(worst <= other.amplification(300, Seed::new(1).child("judged", 0)));
        }
    }
}

#[test]
fn the_seed_decides_random_codes_only() {
    let of = |kind, seed| GradientCode::build(kind, 7, 4, Seed::new(seed)).unwrap();
    assert_eq!(of(CodeKind::CyclicRandom, 1), of(CodeKind::CyclicRandom, 1));
    assert_ne!(of(CodeKind::CyclicRandom, 1), of(CodeKind::CyclicRandom, 2));
    assert_eq!(of(CodeKind::CyclicMds, 1), of(CodeKind::CyclicMds, 2));
}

#[test]
fn names_are_those_of_configuration_files() {
    for kind in CodeKind::FAMILIES.into_iter().chain([CodeKind::Auto]) {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn combinatorial_decoding_is_the_least_norm_solution() {
    let code = build(CodeKind::FractionalRepetition, 6, 2);
    for set in 0..1_u32 << 6 {
        let rows = members(set, 6);
        let combinatorial = code.decode(&rows).map(DVector::from_vec);
        let solved = solve_ones(&code.matrix().select_rows(&rows));
        assert_eq!(combinatorial.is_some(), solved.is_some(), "{rows:?}");
        if let (Some(a), Some(b)) = (combinatorial, solved) {
            assert!((a - b).amax() < 1e-12);
        }
    }
}

#[test]
fn solve_ones_on_awkward_rows() {
    let solve = |n, entries: &[f64]| solve_ones(&DMatrix::from_row_slice(n, entries.len() / n, entries));
    assert_eq!(solve_ones(&DMatrix::zeros(0, 3)), None);
    assert_eq!(solve(1, &[0.0, 0.0, 0.0]), None);
    assert_eq!(solve(1, &[1.0, f64::NAN, 1.0]), None);
    // Overflows inside, and what would decode is lost to rounding.
    assert_eq!(solve(2, &[1e200, 1.0, 1e200, 0.0]), None);
    // One share of three is off by a millionth: that is not the sum.
    assert_eq!(solve(1, &[1.0, 1.0, 1.0 + 1e-6]), None);
    assert_eq!(solve(2, &[1.0, 1.0, 0.0, 1.0, 1.0, 1e-6]).map(|a| a.norm() > 1e5), Some(true));
    // A duplicate halves, a zero row is left out, a dependent row changes nothing.
    let a = solve(4, &[2.0, 2.0, 0.0, 0.0, 2.0, 2.0, 1.0, -1.0]).unwrap();
    assert!((a - DVector::from_vec(vec![0.25, 0.0, 0.25, 0.0])).amax() < 1e-15);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::with_cases(256)
    })]

    /// Rows with random gaps, as incomplete sums have: whatever is decoded is the sum, and it is decoded if
    /// the last row completes a combination of the others to 1ᵀ.
    #[test]
    fn solve_ones_finds_the_sum_if_it_is_there(
        (n, clients) in (1_usize..12, 1_usize..12),
        seed in any::<u64>(),
        keep in 0.1_f64..1.0,
    ) {
        let mut rng = Seed::new(seed).rng();
        let mut entry = || if rng.random_bool(keep) { rng.random_range(-2.0..2.0) } else { 0.0 };
        let rows = DMatrix::from_fn(n, clients, |_, _| entry());
        let weights = DVector::from_fn(n, |_, _| entry());
        if let Some(a) = solve_ones(&rows) {
            prop_assert!((rows.tr_mul(&a).add_scalar(-1.0)).amax() <= RESIDUAL_TOLERANCE);
        }
        let last = -rows.tr_mul(&weights).add_scalar(-1.0).transpose();
        let mut completed = rows.insert_row(n, 0.0);
        completed.set_row(n, &last);
        let a = solve_ones(&completed);
        prop_assert!(a.is_some());
        let a = a.unwrap();
        prop_assert!((completed.tr_mul(&a).add_scalar(-1.0)).amax() <= RESIDUAL_TOLERANCE);
        // The least norm itself is conditioned like the rows; nearly dependent ones cost digits of it.
        prop_assert!(a.norm() <= weights.push(1.0).norm() * (1.0 + 1e-6));
    }
}

#[test]
fn arrivals_are_poisson_binomial() {
    let pi = [0.1, 0.5, 0.0, 1.0, 0.7];
    let mut pmf = vec![0.0; 6];
    for set in 0_u32..32 {
        let chance = |m| if set >> m & 1 == 1 { pi[m] } else { 1.0 - pi[m] };
        pmf[set.count_ones() as usize] += (0..5).map(chance).product::<f64>();
    }
    for (a, b) in poisson_binomial(&pi).iter().zip(&pmf) {
        assert!((a - b).abs() < 1e-15);
    }
}

#[test]
fn a_row_is_complete_if_its_shares_and_its_upload_arrive() {
    let code = build(CodeKind::CyclicMds, 4, 1);
    let p =
        |to: usize, from: usize| 0.1 * (to + 1) as f64 * if from == (to + 1) % 4 { 1.0 } else { f64::NAN };
    let pi = complete_probability(&code, p, |m| 0.2 * m as f64);
    for (pi, expected) in pi.into_iter().zip([0.9, 0.8 * 0.8, 0.6 * 0.7, 0.4 * 0.6]) {
        assert!((pi - expected).abs() < 1e-15);
    }
}

/// M = 10, p = 0.1, q = 0.4. Also given: frequencies in 400 simulated rounds, which should agree within three
/// standard errors (α = 0.003 each).
#[test]
fn reference_outages() {
    let (mds, random, fractional) =
        (CodeKind::CyclicMds, CodeKind::CyclicRandom, CodeKind::FractionalRepetition);
    for (kind, stragglers, guaranteed, success, simulated) in [
        (mds, 1, 0.0201, 0.0897, 0.08),
        (random, 4, 0.1558, 0.1558, 0.14),
        (mds, 7, 0.5817, 0.6093, 0.58),
        (mds, 9, 0.9290, 0.9290, 0.915),
        (fractional, 4, 0.1558, 0.8428, 0.845),
    ] {
        let code = build(kind, 10, stragglers);
        let at_least = guaranteed_probability(&code, |_, _| 0.1, |_| 0.4);
        let exact = success_probability(&code, |_, _| 0.1, |_| 0.4);
        assert!((at_least - guaranteed).abs() < 5e-5, "{kind:?} {stragglers}: {at_least}");
        assert!((exact - success).abs() < 5e-5, "{kind:?} {stragglers}: {exact}");
        let error = (exact * (1.0 - exact) / 400.0).sqrt();
        assert!((exact - simulated).abs() < 3.0 * error, "{kind:?} {stragglers}");
    }
}

#[test]
fn random_codes_have_no_luck() {
    for code in small_codes().into_iter().filter(|code| code.kind() == CodeKind::CyclicRandom) {
        let (clients, stragglers) = (code.clients(), code.stragglers());
        for rows in (0..1_u32 << clients).map(|set| members(set, clients)) {
            assert_eq!(code.decode(&rows).is_some(), rows.len() >= clients - stragglers, "{code:?} {rows:?}");
        }
    }
}

/// Link by link, with unequal links: the frequency of decoding agrees with the closed form. Two-sided normal
/// test, α = 0.001 for each of the six codes.
#[test]
fn simulated_rounds_decode_as_often_as_the_closed_form_says() {
    const ROUNDS: usize = 20_000;
    let p = |to: usize, from: usize| 0.02 * ((3 * to + 5 * from) % 7) as f64;
    let q = |m: usize| 0.1 * (m % 6) as f64;
    for (kind, clients, stragglers) in [
        (CodeKind::CyclicRandom, 10, 4),
        (CodeKind::CyclicRandom, 9, 1),
        (CodeKind::CyclicMds, 10, 1),
        (CodeKind::CyclicMds, 10, 7),
        (CodeKind::FractionalRepetition, 10, 1),
        (CodeKind::FractionalRepetition, 9, 2),
    ] {
        let code = build(kind, clients, stragglers);
        let mut rng = Seed::new(11).child(kind.name(), stragglers as u64).rng();
        let mut decodes: HashMap<Vec<usize>, bool> = HashMap::new();
        let mut successes = 0;
        for _ in 0..ROUNDS {
            let mut rows = Vec::new();
            for m in 0..clients {
                let lost = code.support(m).iter().filter(|&&k| k != m && rng.random_bool(p(m, k))).count();
                if !rng.random_bool(q(m)) && lost == 0 {
                    rows.push(m);
                }
            }
            let decoded = decodes.entry(rows).or_insert_with_key(|rows| code.decode(rows).is_some());
            successes += usize::from(*decoded);
        }
        let (seen, expected) = (successes as f64 / ROUNDS as f64, success_probability(&code, p, q));
        let z = (seen - expected) / (expected * (1.0 - expected) / ROUNDS as f64).sqrt();
        assert!(z.abs() < 3.29, "{kind:?} {clients} {stragglers}: {seen} against {expected}, z = {z}");
    }
}

#[test]
fn more_rows_decode_better() {
    for (kind, clients, stragglers) in
        [(CodeKind::CyclicMds, 21, 10), (CodeKind::CyclicMds, 30, 11), (CodeKind::CyclicRandom, 20, 6)]
    {
        let code = build(kind, clients, stragglers);
        let mut rng = Seed::new(3).rng();
        for size in clients - stragglers..=clients {
            let rows = index::sample(&mut rng, clients, size).into_vec();
            let norm = |rows: &[usize]| {
                let a = code.decode(rows).unwrap();
                assert!(residual(&code, rows, &a) <= 1e-9);
                DVector::from_vec(a).norm()
            };
            assert!(norm(&rows) <= norm(&rows[..clients - stragglers]) * (1.0 + 1e-6));
        }
    }
}

/// A thousand clients: rows are kept sparse, and a set of rows is solved once.
#[test]
fn codes_of_a_thousand_clients() {
    let code = build(CodeKind::FractionalRepetition, 1000, 9);
    let mut rng = Seed::new(4).rng();
    let mut rows = index::sample(&mut rng, 1000, 991).into_vec();
    rows.sort_unstable();
    assert!(residual(&code, &rows, &code.decode(&rows).unwrap()) < 1e-12);
    let code = GradientCode::<M61>::over_field(CodeKind::Auto, 1000, 9, Seed::new(1)).unwrap();
    assert_eq!(code.kind(), CodeKind::FractionalRepetition);
    assert!(code.decodes(&rows));
    // Random rows of 300 clients; of 1000 the search takes some ten seconds.
    let code = build(CodeKind::CyclicRandom, 300, 3);
    let rows: Vec<usize> = (0..300).filter(|m| ![7, 8, 200].contains(m)).collect();
    let a = code.decode(&rows).unwrap();
    assert!(residual(&code, &rows, &a) <= RESIDUAL_TOLERANCE);
    assert_eq!(code.solved.get(&rows, || unreachable!("remembered")), Some(a));
}

/// Large matrices are made triangular first: the factors are those of the matrix, also of a lower rank.
#[test]
fn singular_triples_of_large_matrices() {
    let mut rng = Seed::new(12).rng();
    for (rows, columns, rank) in [(40, 60, 40), (60, 40, 40), (50, 50, 3), (70, 45, 20)] {
        let mut random = |n, m| DMatrix::from_fn(n, m, |_, _| StandardNormal.sample(&mut rng));
        let (left, right): (DMatrix<f64>, DMatrix<f64>) = (random(rows, rank), random(rank, columns));
        let matrix = left * right;
        let triples = singular_triples(&matrix);
        assert_eq!(triples.len(), rank);
        assert!(triples.windows(2).all(|two| two[0].0 >= two[1].0));
        let mut rest = matrix.clone();
        for (i, (sigma, left, right)) in triples.iter().enumerate() {
            rest -= left * right.transpose() * *sigma;
            for (j, (_, other_left, other_right)) in triples.iter().enumerate() {
                let want = f64::from(u8::from(i == j));
                assert!((left.dot(other_left) - want).abs() < 1e-12);
                assert!((right.dot(other_right) - want).abs() < 1e-12);
            }
        }
        assert!(rest.norm() < 1e-12 * matrix.norm(), "{}", rest.norm());
    }
    assert!(singular_triples(&DMatrix::zeros(40, 40)).is_empty());
}
