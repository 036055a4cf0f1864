//! Known answers of the optimiser, and its bound against other keys.

use nalgebra::DMatrix;
use rand::{Rng, RngExt};

use super::*;
use crate::algebra::LinearForm;
use crate::keys::{FormalKeys, KeyKind};
use crate::seed::Seed;

fn goal(clients: usize) -> Goal {
    Goal {
        measure: Measure::Lmip,
        updates: vec![1.0; clients],
        levels: vec![1.0; clients],
        fair: false,
        fair_share: 1e-6,
    }
}

fn sees(rows: &[&[f64]]) -> Adversary {
    let sees = DMatrix::from_fn(rows.len(), rows[0].len(), |i, k| rows[i][k]);
    Adversary { holds: Vec::new(), sees, counts: 1.0 }
}

/// Readers of one masked update each.
fn links(clients: usize) -> Vec<Adversary> {
    (0..clients)
        .map(|k| Adversary {
            holds: Vec::new(),
            sees: DMatrix::from_fn(1, clients, |_, j| if j == k { 1.0 } else { 0.0 }),
            counts: 1.0,
        })
        .collect()
}

/// The covariance of a closed form, of trace M.
fn closed(kind: KeyKind, clients: usize) -> Covariance {
    let masks = kind.masks::<LinearForm>(clients, 1, 1.0, None, 0, &FormalKeys);
    let matrix = DMatrix::from_fn(clients, clients, |i, j| {
        masks[i][0].terms().map(|(unknown, c)| c * masks[j][0].coefficient(unknown)).sum()
    });
    let trace: f64 = matrix.trace();
    Covariance::new(matrix * (clients as f64 / trace)).unwrap()
}

/// Any keys of trace M that spend the share φ as fair ones.
fn any_keys(clients: usize, fair_share: f64, rng: &mut impl Rng) -> Covariance {
    let spread = DMatrix::from_fn(clients, clients, |_, _| rng.random::<f64>() - 0.5);
    let q = orthogonal_to_ones(clients);
    let some = &q * (q.transpose() * &spread * spread.transpose() * &q) * q.transpose();
    let trace = some.trace();
    let fair = closed(KeyKind::Fair, clients).matrix() * fair_share;
    Covariance::new(some * ((1.0 - fair_share) * clients as f64 / trace) + fair).unwrap()
}

/// The gap is closed, and the covariance is one of the goal.
fn solved(problem: &Problem) -> Optimum {
    let best = problem.optimum().unwrap();
    assert!(best.bound <= best.leakage && best.leakage <= best.bound * (1.0 + 2e-5) + 1e-12, "{best:?}");
    assert!((best.covariance.total_power(1.0) - best.covariance.clients() as f64).abs() < 1e-9);
    assert!((problem.leakage(&best.covariance) / best.leakage - 1.0).abs() < 1e-9);
    best
}

#[test]
fn for_links_all_variances_are_equal_and_for_one_link_it_gets_what_there_is() {
    // ½ ln(1 + 1/Var(u_k)) with Var = σ² = 1.
    let best = solved(&Problem::new(&links(5), &goal(5), 1.0).unwrap());
    assert!((best.leakage - 0.5 * 2f64.ln()).abs() < 1e-5, "{best:?}");
    // All power for client 1: u_1 = −Σ others, a variance of λ (1 − 1/M) for λ = M σ² along one direction.
    let best = solved(&Problem::new(&links(5)[..1], &goal(5), 1.0).unwrap());
    assert!((best.leakage - 0.5 * (1.0f64 + 0.25).ln()).abs() < 1e-5, "{best:?}");
}

#[test]
fn a_client_who_counts_more_gets_what_makes_the_products_equal() {
    // Weak leakage, ½ σ_x²/v_k: w_k/v_k alike, Σ v_k = M, so v = 4 · (2, 1, 1, 1)/5 where sums of zero allow.
    let levels = vec![2.0, 1.0, 1.0, 1.0];
    let weak = Goal { updates: vec![1e-3; 4], levels, ..goal(4) };
    let best = solved(&Problem::new(&links(4), &weak, 1.0).unwrap());
    let variances = best.covariance.variances(1.0);
    for (got, want) in variances.iter().zip([1.6, 0.8, 0.8, 0.8]) {
        assert!((got - want).abs() < 1e-3, "{variances:?}");
    }
    assert!((best.leakage / (0.5e-6 / 0.8) - 1.0).abs() < 1e-4);
    // Equal variances forced: the first client's leakage counts, ½ · 2 · 10⁻⁶.
    let best = solved(&Problem::new(&links(4), &Goal { fair: true, ..weak }, 1.0).unwrap());
    assert!(best.covariance.variances(1.0).iter().all(|v| (v - 1.0).abs() < 1e-6));
    assert!((best.leakage / 1e-6 - 1.0).abs() < 1e-4);
}

#[test]
fn without_a_code_fair_keys_are_the_best_against_the_server_and_against_everybody() {
    let identity = Adversary { holds: Vec::new(), sees: DMatrix::identity(5, 5), counts: 1.0 };
    let inside = Adversary { holds: vec![2], ..identity.clone() };
    let everybody: Vec<Adversary> =
        (0..5).map(|k| Adversary { holds: vec![k], ..identity.clone() }).collect();
    for measure in [Measure::Lmip, Measure::Epsilon] {
        for adversaries in [vec![identity.clone()], everybody.clone(), links(5)] {
            let problem = Problem::new(&adversaries, &Goal { measure, ..goal(5) }, 0.7).unwrap();
            let best = solved(&problem);
            let fair = problem.leakage(&closed(KeyKind::Fair, 5));
            assert!(
                fair >= best.bound * (1.0 - 1e-9) && fair <= best.leakage * (1.0 + 1e-5),
                "{fair} {best:?}"
            );
            assert!(problem.leakage(&closed(KeyKind::Plain, 5)) > 1.01 * fair);
        }
    }
    // One colluder alone: nothing has to be spent on its own key but what hides the others.
    let problem = Problem::new(&[inside], &goal(5), 0.7).unwrap();
    assert!(solved(&problem).leakage < 0.99 * problem.leakage(&closed(KeyKind::Fair, 5)));
}

#[test]
fn a_server_that_sees_two_directions_has_all_power_against_it() {
    // Rows that span 1 and two orthogonal directions of six clients, cos and sin of 60°: the leverage of each
    // client is 1/6 for the sum and 2/6 for the rest, against which λ = 6/2 at σ = 1 stand.
    let angle = |k: usize| k as f64 * std::f64::consts::PI / 3.0;
    let rows: Vec<Vec<f64>> = vec![
        vec![1.0; 6],
        (0..6).map(|k| angle(k).cos() + 0.5).collect(),
        (0..6).map(|k| 3.0 * angle(k).sin()).collect(),
    ];
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let best = solved(&Problem::new(&[sees(&rows)], &goal(6), 1.0).unwrap());
    let told: f64 = 2.0 / 6.0 / (1.0 + 3.0);
    let want = -0.5 * (1.0 - told / (1.0 - 1.0 / 6.0)).ln();
    assert!((best.leakage / want - 1.0).abs() < 2e-5, "{best:?} for {want}");
    // With fair keys 6/5 stand there.
    let problem = Problem::new(&[sees(&rows)], &Goal { fair_share: 1.0, ..goal(6) }, 1.0).unwrap();
    let fair = problem.optimum().unwrap();
    let told: f64 = 2.0 / 6.0 / (1.0 + 1.2);
    assert!((fair.leakage + 0.5 * (1.0 - told / (5.0 / 6.0)).ln()).abs() < 1e-12);
    assert!((fair.leakage - fair.bound).abs() < 1e-12);
    assert!((fair.covariance.matrix() - closed(KeyKind::Fair, 6).matrix()).amax() < 1e-12);
}

/// Adversaries and goals of all kinds: nobody's keys beat the bound.
#[test]
fn no_keys_go_below_the_bound() {
    let mut rng = Seed::new(11).rng();
    for case in 0..24 {
        let clients = 3 + case % 4;
        let adversaries: Vec<Adversary> = (0..3)
            .map(|i| {
                let rows = 1 + rng.random_range(0..clients);
                let sees = DMatrix::from_fn(rows, clients, |_, _| f64::from(rng.random_range(-2..3i32)));
                let holds = if i == 1 { vec![rng.random_range(0..clients)] } else { Vec::new() };
                Adversary { holds, sees, counts: 0.5 + rng.random::<f64>() }
            })
            .chain(links(clients))
            .collect();
        let goal = Goal {
            measure: if case % 3 == 0 { Measure::Epsilon } else { Measure::Lmip },
            updates: (0..clients).map(|_| 0.2 + rng.random::<f64>()).collect(),
            levels: (0..clients).map(|_| 0.5 + rng.random::<f64>()).collect(),
            fair: case % 2 == 1,
            fair_share: 0.1,
        };
        let problem = Problem::new(&adversaries, &goal, 0.8).unwrap();
        let best = solved(&problem);
        for _ in 0..200 {
            let other = any_keys(clients, 0.1, &mut rng);
            let equal = other.variances(1.0).iter().all(|v| (v - 1.0).abs() < 1e-9);
            // Near the optimum, too, where random keys would never come.
            let near = (best.covariance.matrix() * 19.0 + other.matrix()) / 20.0;
            for keys in [other, Covariance::new(near).unwrap()] {
                let leakage = problem.leakage(&keys);
                assert!(
                    goal.fair && !equal || leakage >= best.bound * (1.0 - 1e-9),
                    "{case}: {leakage} {best:?}"
                );
            }
        }
        let fair = problem.leakage(&closed(KeyKind::Fair, clients));
        assert!(fair >= best.bound * (1.0 - 1e-9) && best.leakage <= fair * (1.0 + 1e-9));
    }
}

#[test]
fn what_cannot_be_optimised_is_refused_in_one_line() {
    let refused = |adversaries: &[Adversary], goal: Goal, std: f64, key: &str| {
        let line = Problem::new(adversaries, &goal, std).unwrap_err().to_string();
        assert!(line.starts_with(&format!("{key}: ")) && !line.contains('\n'), "{line}");
    };
    refused(&links(4), Goal { levels: vec![1.0], ..goal(4) }, 1.0, "levels");
    refused(&links(4), Goal { levels: vec![0.0; 4], ..goal(4) }, 1.0, "levels");
    refused(&links(4), Goal { updates: vec![f64::NAN; 4], ..goal(4) }, 1.0, "update_std");
    refused(&links(4), Goal { fair_share: 0.0, ..goal(4) }, 1.0, "fair_share");
    refused(&links(4), Goal { fair_share: 1.1, ..goal(4) }, 1.0, "fair_share");
    refused(&links(4), goal(4), 0.0, "key_std");
    refused(&links(4), goal(4), 1e-5, "key_std");
    refused(&links(1), goal(1), 1.0, "keys");
    refused(&links(41), goal(41), 1.0, "keys");
    // Only the sum is seen.
    refused(&[sees(&[&[1.0; 4]])], goal(4), 1.0, "server");
    let nobody: Vec<Adversary> = links(4).into_iter().map(|one| Adversary { counts: 0.0, ..one }).collect();
    refused(&nobody, goal(4), 1.0, "server");
}
