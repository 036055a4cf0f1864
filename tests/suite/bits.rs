//! The attack on floating-point keys: an adversary who looks at the bits of what is sent. It wins against
//! keys that are added as they come, and loses against those on the grid.

use std::sync::Arc;

use seccogc::algebra::grid::{Grid, Public};
use seccogc::algebra::{Real, Symbol};
use seccogc::audit::erasures::Lost;
use seccogc::audit::{Adversaries, Assumptions, Audit, Erasures, audit, lossless};
use seccogc::keys::{KeyKind, SeededKeys};
use seccogc::privacy::ldp;
use seccogc::protocol::cogc::SecCoGcConfig;
use seccogc::protocol::uncoded::{Mask, Uncoded};
use seccogc::protocol::{Input, PartyId, Protocol, ProtocolConfig, Update};
use seccogc::seed::Seed;

const CLIENTS: usize = 10;
const D: usize = 50_000;
/// Of an update's coordinates.
const SIZE: f64 = 1e-3;

/// n_k M / N of the client under attack: its weighted update has bits far below those of single precision.
const WEIGHT: f64 = 1.127;

/// An update of normal coordinates in single precision.
fn update(seed: u64) -> Vec<f32> {
    let mut draws = vec![0.0f64; D];
    <f64 as seccogc::algebra::Sample>::sample(&mut Seed::new(seed).rng(), &mut draws);
    draws.into_iter().map(|x| (SIZE * x) as f32).collect()
}

/// What client k sends under a key of this construction: x_k + u_k.
fn sent<S: Real>(kind: KeyKind, std: f64, grid: Option<&Grid>, k: usize, x: &[f32]) -> Vec<f64> {
    let source = SeededKeys(Seed::new(7));
    let mut masks = kind.masks::<S>(CLIENTS, D, std, grid, 1, &source);
    let mut masked = masks.swap_remove(k);
    S::axpy_f32(&mut masked, WEIGHT, x, grid);
    S::into_f64(masked)
}

fn grid(kind: KeyKind, std: f64, single: bool) -> Grid {
    let public = Public { clip: Some(1.0), coordinates: Some(D), ..Public::default() };
    Grid::new(CLIENTS, kind.stds(CLIENTS, std), single, &public).unwrap()
}

/// Whether some double-precision g gives fl(fl(σ g) + x) = y.
fn is_possible(y: f64, x: f64, std: f64) -> bool {
    let beside = |u: f64| [u, u.next_up(), u.next_down(), u.next_up().next_up(), u.next_down().next_down()];
    beside(y - x).into_iter().any(|u| u + x == y && beside(u / std).into_iter().any(|g| std * g == u))
}

/// The same on a grid: whether some multiple of γ gives x̂ + û = y.
fn is_possible_on(grid: &Grid, y: f64, x: f64) -> bool {
    let key = (y - grid.round(x)) / grid.step();
    key == key.round()
}

fn share(y: &[f64], x: &[f32], possible: impl Fn(f64, f64) -> bool) -> f64 {
    let survivors = y.iter().zip(x).filter(|(y, x)| possible(**y, WEIGHT * f64::from(**x))).count();
    survivors as f64 / y.len() as f64
}

/// `../cases`: at σ = 100 a wrong update survives with probability 0.87 a coordinate, so that 100 of them
/// decide with error 10⁻⁶.
#[test]
fn holes_between_products_exclude_a_wrong_update_without_the_grid_only() {
    let (truth, wrong) = (update(1), update(2));
    for std in [4.73, 100.0, 1000.0] {
        let y = sent::<f64>(KeyKind::Plain, std, None, 0, &truth);
        let [right, other] = [&truth, &wrong].map(|x| share(&y, x, |y, x| is_possible(y, x, std)));
        assert_eq!(right, 1.0);
        assert!(other < 0.99 && other.powi(1000) < 1e-6, "{std}: {other}");
        let grid = grid(KeyKind::Plain, std, false);
        let y = sent::<f64>(KeyKind::Plain, std, Some(&grid), 0, &truth);
        for x in [&truth, &wrong] {
            assert_eq!(share(&y, x, |y, x| is_possible_on(&grid, y, x)), 1.0);
            // Nor do the holes show: whatever survives of them is the same for both.
            let holes = share(&y, x, |y, x| is_possible(y, grid.round(x), std));
            let of_truth = share(&y, &truth, |y, x| is_possible(y, grid.round(x), std));
            // Two shares of 50,000: 5 standard errors, α = 6·10⁻⁷.
            assert!((holes - of_truth).abs() < 5.0 * (0.5f64 / D as f64).sqrt(), "{holes} {of_truth}");
        }
    }
}

/// Mean distance of y − x from the multiples of `unit`, in units, with its standard error, over the
/// coordinates where y is far below σ: a quarter for numbers that have nothing to do with the unit.
fn distance(y: &[f64], x: &[f64], unit: f64, std: f64) -> (f64, f64) {
    let close = y.iter().zip(x).filter(|(y, _)| y.abs() < std / 256.0).map(|(y, x)| (y - x) / unit);
    let distances: Vec<f64> = close.map(|steps| (steps - steps.round()).abs()).collect();
    let n = distances.len() as f64;
    let mean = distances.iter().sum::<f64>() / n;
    (mean, 1.0 / (48.0 * n).sqrt())
}

/// Fair and pairwise keys are sums: near 0 they are multiples of what their large terms are multiples of, and
/// so is y − x for the right x.
#[test]
fn trailing_zeros_tell_the_update_without_the_grid_only() {
    let (truth, wrong) = (update(1), update(2));
    for kind in [KeyKind::Fair, KeyKind::Pairwise] {
        let std = 100.0;
        let weighted = |x: &[f32]| x.iter().map(|x| WEIGHT * f64::from(*x)).collect::<Vec<f64>>();
        let y = sent::<f64>(kind, std, None, 3, &truth);
        let unit = 2f64.powi(-51);
        let of = |x: &[f32]| distance(&y, &weighted(x), unit, std);
        let ((right, error), (other, _)) = (of(&truth), of(&wrong));
        assert!(
            other - right > 20.0 * error && (other - 0.25).abs() < 5.0 * error,
            "{kind:?}: {right} {other}"
        );
        for single in [false, true] {
            let grid = grid(kind, std, single);
            let y = if single {
                sent::<f32>(kind, std, Some(&grid), 3, &truth)
            } else {
                sent::<f64>(kind, std, Some(&grid), 3, &truth)
            };
            // All are multiples of γ, so whoever looks at coarser bits sees the same of both: 5 standard
            // errors each.
            let on_grid = |x: &[f32]| weighted(x).into_iter().map(|x| grid.round(x)).collect::<Vec<f64>>();
            for coarser in [1.0, 2.0, 4.0, 16.0] {
                let of = |x: &[f32]| distance(&y, &on_grid(x), coarser * grid.step(), std);
                let ((right, error), (other, _)) = (of(&truth), of(&wrong));
                let tolerance = if coarser == 1.0 { 0.0 } else { 2.0 * 5.0 * error };
                assert!((right - other).abs() <= tolerance, "{kind:?}: {right} {other} ± {error}");
            }
        }
    }
}

/// x̂ + û is exact in either precision, and all û sum to zero exactly.
#[test]
fn masked_updates_are_multiples_of_the_step_and_keys_cancel_to_the_last_bit() {
    fn check<S: Real>(kind: KeyKind, std: f64) {
        let grid = grid(kind, std, S::BYTES < 8);
        let masks = kind.masks::<S>(CLIENTS, 5000, std, Some(&grid), 1, &SeededKeys(Seed::new(3)));
        let x = update(5);
        let mut total = vec![0i128; 5000];
        for mask in &masks {
            let key = S::into_f64(mask.clone());
            let mut masked = mask.clone();
            S::axpy_f32(&mut masked, 0.7, &x[..5000], Some(&grid));
            let steps = |x: f64| {
                let n = x / grid.step();
                assert_eq!(n, n.round(), "{kind:?}: {x} is no multiple");
                n as i128
            };
            for (((total, key), y), x) in total.iter_mut().zip(key).zip(S::into_f64(masked)).zip(&x) {
                *total += steps(key);
                assert_eq!(steps(y) - steps(key), steps(grid.round(0.7 * f64::from(*x))), "{kind:?}");
            }
        }
        assert!(total.iter().all(|total| *total == 0), "{kind:?}");
    }
    for kind in [KeyKind::Plain, KeyKind::Fair, KeyKind::Pairwise] {
        for std in [0.03, 1.0, 100.0, 1e6] {
            check::<f64>(kind, std);
            check::<f32>(kind, std);
        }
    }
}

/// The variances that `seccogc::keys` states: at most 0.3 per cent above the ideal ones, and −σ²/(M − 1)
/// between fair keys.
#[test]
fn keys_on_the_grid_have_the_stated_covariance() {
    let (std, n) = (2.0, 400_000);
    for kind in [KeyKind::Plain, KeyKind::Fair, KeyKind::Pairwise] {
        let grid = grid(kind, std, false);
        let masks = kind.masks::<f64>(4, n, std, Some(&grid), 1, &SeededKeys(Seed::new(9)));
        let product =
            |j: usize, k: usize| masks[j].iter().zip(&masks[k]).map(|(a, b)| a * b).sum::<f64>() / n as f64;
        for (k, want) in kind.variances(4, std).into_iter().enumerate() {
            // The spread of D ≤ σ/(8√M) adds at most 0.3 %; 5 standard errors of √(2/n).
            let ratio = product(k, k) / want;
            assert!((-0.012..0.015).contains(&(ratio - 1.0)), "{kind:?} {k}: {ratio}");
        }
        if kind != KeyKind::Plain {
            let want = -std * std / 3.0;
            assert!((product(0, 2) / want - 1.0).abs() < 0.05, "{kind:?}");
        }
    }
}

/// The noise of `gaussian` and what a client of `zero-sum` uploads are on the grid too.
#[test]
fn uncoded_uploads_are_on_the_grid() {
    let grid = grid(KeyKind::Fair, 3.0, true);
    for mask in [Mask::Gaussian(3.0), Mask::zero_sum(KeyKind::Fair, 3.0)] {
        let protocol = Uncoded { mask, grid: Some(grid), ..Uncoded::new(3) };
        let keys = Protocol::<f32>::deal(&protocol, 1, 500, &SeededKeys(Seed::new(1)));
        let x = Update { weight: 1.0, delta: Arc::new(vec![0.0; 500]) };
        let input: &dyn Input<f32> = &x;
        for (k, key) in keys.into_iter().take(3).enumerate() {
            let mut party = Protocol::<f32>::party(&protocol, PartyId::Client(k as u16), key, Some(input));
            let clock = seccogc::protocol::Clock { round: 1, attempt: 0, phase: 1 };
            let sent = seccogc::protocol::Party::step(&mut party, clock, Vec::new());
            let whole = |x: &f32| (f64::from(*x) / grid.step()).fract() == 0.0;
            assert!(sent[0].body.0.iter().all(whole) && f32::energy(&sent[0].body.0) > 0.0);
        }
    }
}

/// The worked numbers: what the server's ten sums tell bit by bit is what all ten masked vectors tell.
#[test]
fn the_audit_prints_what_is_provable_of_bits_beside_the_ideal_figure() {
    // M = 10, s = 7, fair keys, x ~ N(0, 1): nats by layer, ideal and of all masked vectors.
    for (std, ideal, floating) in [(1.0, 0.108_29, 0.373_6), (10.0, 0.053_672, 0.057_2)] {
        let audit = audited(std, 1, vec![1.0; 10]);
        for entry in audit.entries.iter().filter(|entry| entry.layer == "server") {
            assert!((entry.lmip_nats / ideal - 1.0).abs() < 1e-4, "{}", entry.lmip_nats);
            let nats = entry.lmip_bits_floating.unwrap() * std::f64::consts::LN_2;
            assert!((nats - floating).abs() < 5e-5, "{nats}");
            // e_k − e_j against fair keys: √2/(σ √(M/(M − 1))), times 2C.
            let mu = 2.0 * 2f64.sqrt() / (std * (10.0f64 / 9.0).sqrt());
            let epsilon = entry.epsilon_floating.unwrap();
            let want = ldp::epsilon(mu, 1e-5);
            assert!(want <= epsilon && epsilon < 1.001 * want, "{epsilon} for {want}");
        }
        // A neighbour receives multiples of masked vectors one by one: nothing is added but the reach of
        // rounding.
        for entry in audit.entries.iter().filter(|entry| entry.layer == "neighbour") {
            assert!((entry.lmip_bits_floating.unwrap() / entry.lmip_bits - 1.0).abs() < 1e-9);
        }
    }
}

/// σ = 100, C = 1, δ = 10⁻⁵: 0.0586 on a link at weight 1, 0.067 at weight 1.127; with all that the bits add
/// still so.
#[test]
fn a_link_in_floating_point_has_the_audited_epsilon() {
    let mut weights = vec![1.0; 10];
    weights[0] = 1.127;
    let audit = audited(100.0, 1, weights);
    let link = |client: usize| {
        let found = audit.entries.iter().find(|entry| entry.layer == "link" && entry.client == client);
        found.map(|entry| (entry.epsilon_view_total, entry.epsilon_floating.unwrap())).unwrap()
    };
    for (client, want) in [(1, 0.067), (2, 0.0586)] {
        let (ideal, floating) = link(client);
        assert!((ideal - want).abs() < 5e-4, "{ideal}");
        assert!(ideal < floating && floating < 1.001 * ideal, "{floating} for {ideal}");
    }
}

/// Without a grid, or with link keys, nothing is claimed of bits.
#[test]
fn no_claim_is_made_where_none_is_proved() {
    let none = |text: &str| {
        let config: SecCoGcConfig = toml::from_str(text).unwrap();
        let scheme = ProtocolConfig::SecCoGc(config).build(6, Seed::new(1)).unwrap();
        let assumptions = assumptions(1, vec![1.0; 6]);
        let entries = lossless("a", &*scheme, 1, &assumptions).unwrap();
        entries.iter().all(|entry| entry.lmip_bits_floating.is_none() && entry.epsilon_floating.is_none())
    };
    assert!(none("stragglers = 2\ngrid = false"));
    assert!(none("stragglers = 2\nlink_key_std = 1.0"));
    assert!(!none("stragglers = 2"));
}

fn assumptions(rounds: u64, weights: Vec<f64>) -> Assumptions {
    let (input_std, clip, coordinates) = (1.0, Some(1.0), Some(100_000));
    Assumptions { input_std, clip, weights: weights.into(), delta: 1e-5, rounds, coordinates }
}

fn audited(key_std: f64, rounds: u64, weights: Vec<f64>) -> Audit {
    let config = SecCoGcConfig { key_std, ..Default::default() };
    let assumptions = assumptions(rounds, weights);
    let scheme = ProtocolConfig::SecCoGc(config).build_for(10, Seed::new(1), &assumptions.public()).unwrap();
    let nothing = Lost::default();
    audit("a", &*scheme, Erasures::These(&nothing), 1, &Adversaries::default(), &assumptions).unwrap()
}
