//! Exact or nothing in floating point: whatever the strength of the keys, a decoded sum is right or the round
//! is an outage.

use std::sync::Arc;

use seccogc::algebra::grid::{Grid, Public};
use seccogc::coding::CodeKind;
use seccogc::config::Config;
use seccogc::keys::KeyKind;
use seccogc::network::{LinkModel, Perfect};
use seccogc::protocol::cogc::{DecoderKind, SecCoGcConfig};
use seccogc::protocol::{Aggregator, Arithmetic, Decoded, ProtocolConfig, Reason, Update};
use seccogc::seed::Seed;
use seccogc::train::Setting;

const M: usize = 12;
const D: usize = 2000;
const CODES: [CodeKind; 3] = [CodeKind::CyclicMds, CodeKind::CyclicRandom, CodeKind::FractionalRepetition];

fn updates(size: f32) -> Vec<Update> {
    let update = |k: usize| {
        let delta = (0..D).map(|i| size * ((k * 31 + i * 7) as f32 * 0.61).sin()).collect();
        Update { weight: 0.5 + k as f64 / M as f64, delta: Arc::new(delta) }
    };
    (0..M).map(update).collect()
}

fn exact(updates: &[Update]) -> Vec<f64> {
    let of = |i: usize| updates.iter().map(|update| update.weight * f64::from(update.delta[i])).sum();
    (0..D).map(of).collect()
}

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

fn config(std: f64, code: CodeKind, arithmetic: Arithmetic) -> SecCoGcConfig {
    SecCoGcConfig { key_std: std, code, arithmetic, stragglers: 3.into(), ..Default::default() }
}

fn scheme(config: SecCoGcConfig) -> Box<dyn Aggregator> {
    let public = Public { weight: 1.5, coordinates: Some(D), ..Public::default() };
    ProtocolConfig::SecCoGc(config).build_for(M, Seed::new(1), &public).unwrap()
}

fn lossy() -> impl LinkModel {
    let text = "client_client = { kind = 'bernoulli', erasure = 0.03 }\nclient_server = { kind = 'bernoulli', erasure = 0.15 }";
    let network: seccogc::network::NetworkConfig = toml::from_str(text).unwrap();
    network.build(M, 100, Seed::new(4)).unwrap()
}

/// σ from 10⁻³ to 10²⁰ and beyond, every code, decoder, key and arithmetic, over links that fail and links
/// that never do.
#[test]
fn sums_are_right_or_outages_over_the_full_range_of_keys() {
    let (updates, links) = (updates(1e-3), lossy());
    let want = exact(&updates);
    let size = norm(want.iter().copied());
    let (mut recovered, mut imprecise) = (0, 0);
    for arithmetic in [Arithmetic::F32, Arithmetic::F64] {
        for code in CODES {
            for power in (-3..=20).chain([150, 300]) {
                for keys in [KeyKind::Fair, KeyKind::Plain, KeyKind::Pairwise] {
                    for decoder in [DecoderKind::Standard, DecoderKind::GcPlus] {
                        let std = 10f64.powi(power);
                        let config =
                            SecCoGcConfig { keys: keys.into(), decoder, ..config(std, code, arithmetic) };
                        let scheme = scheme(config);
                        let links: [&dyn LinkModel; 2] = [&links, &Perfect];
                        for (round, links) in (1..).zip(links) {
                            match scheme.aggregate(round, &updates, links, 1).unwrap().decoded {
                                Decoded::Estimate { .. } => panic!("{code:?}"),
                                Decoded::Sum { sum, error, .. } => {
                                    let off = norm(sum.iter().zip(&want).map(|(got, want)| got - want));
                                    assert!(
                                        off <= error * 1.01 + 1e-7 * size,
                                        "{code:?} {std}: {off} {error}"
                                    );
                                    assert!(off <= 0.0101 * size, "{arithmetic:?} {code:?} {std}: {off}");
                                    recovered += 1;
                                }
                                Decoded::Outage(Reason::Precision) => imprecise += 1,
                                Decoded::Outage(reason) => assert_eq!((reason, round), (Reason::Links, 1)),
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(recovered > 300 && imprecise > 300, "{recovered} {imprecise}");
}

/// f32 with 10⁷, f64 with 10¹⁶ and 10²⁰ over links that never fail were "recovered" with errors above 1000;
/// 1.7·10³⁰⁸ gave NaN.
#[test]
fn keys_beyond_the_precision_are_an_outage_that_is_not_retried() {
    let updates = updates(1e-3);
    for (arithmetic, std) in [
        (Arithmetic::F32, 1e7),
        (Arithmetic::F64, 1e16),
        (Arithmetic::F64, 1e20),
        (Arithmetic::F64, 1.7e308),
        (Arithmetic::F32, 1.7e308),
    ] {
        let scheme = scheme(config(std, CodeKind::Auto, arithmetic));
        let aggregate = scheme.aggregate(1, &updates, &Perfect, 3).unwrap();
        assert_eq!(aggregate.decoded, Decoded::Outage(Reason::Precision), "{std}");
        assert_eq!(aggregate.attempts, 1);
    }
}

/// The sum of the updates on the grid, whichever rows arrive and however strong the keys: the same bits.
#[test]
fn sums_in_double_precision_are_those_of_the_grid_bit_for_bit() {
    let (updates, links) = (updates(1e-3), lossy());
    let public = Public { weight: 1.5, coordinates: Some(D), ..Public::default() };
    for keys in [KeyKind::Fair, KeyKind::Plain, KeyKind::Pairwise] {
        for std in [1e-2, 1.0, 10.0] {
            let grid = Grid::new(M, keys.stds(M, std), false, &public).unwrap();
            let on_grid = |i: usize| -> f64 {
                updates.iter().map(|u| grid.round(u.weight * f64::from(u.delta[i]))).sum()
            };
            let want: Vec<f64> = (0..D).map(on_grid).collect();
            let mut sums = 0;
            for code in CODES {
                let scheme =
                    scheme(SecCoGcConfig { keys: keys.into(), ..config(std, code, Arithmetic::F64) });
                for round in 1..=20 {
                    if let Decoded::Sum { sum, .. } =
                        scheme.aggregate(round, &updates, &links, 2).unwrap().decoded
                    {
                        assert_eq!(sum, want, "{keys:?} {code:?} {std}");
                        sums += 1;
                    }
                }
            }
            assert!(sums > 20, "{sums}");
        }
    }
}

#[test]
fn updates_of_zero_are_no_outage() {
    for (arithmetic, std) in [(Arithmetic::F32, 1e-3), (Arithmetic::F64, 1.0)] {
        let scheme = scheme(config(std, CodeKind::Auto, arithmetic));
        let Decoded::Sum { sum, .. } = scheme.aggregate(1, &updates(0.0), &Perfect, 1).unwrap().decoded
        else {
            panic!("a sum of zeros")
        };
        assert!(sum.iter().all(|x| x.abs() < 1e-8));
    }
}

/// The tolerance decides, and it is relative to the sum.
#[test]
fn the_tolerance_is_the_configured_one() {
    let outcome = |tolerance: f64, size: f32| {
        let public = Public { tolerance, coordinates: Some(D), weight: 1.5, ..Public::default() };
        let config = ProtocolConfig::SecCoGc(config(1.0, CodeKind::CyclicMds, Arithmetic::F32));
        let scheme = config.build_for(M, Seed::new(1), &public).unwrap();
        scheme.aggregate(1, &updates(size), &Perfect, 1).unwrap().decoded.is_sum()
    };
    assert!(outcome(0.01, 1e-2) && !outcome(1e-6, 1e-2));
    assert!(outcome(0.5, 1e-5) && !outcome(0.01, 1e-5));
}

/// What can be told before the first round is at least what rounds then show, and not ten times as much.
#[test]
fn the_expected_imprecision_is_that_of_rounds() {
    for arithmetic in [Arithmetic::F32, Arithmetic::F64] {
        for code in CODES {
            let std = if arithmetic == Arithmetic::F32 { 10.0 } else { 1e8 };
            let public = Public { tolerance: 1e9, coordinates: Some(D), weight: 1.5, ..Public::default() };
            let config = ProtocolConfig::SecCoGc(config(std, code, arithmetic));
            let scheme = config.build_for(M, Seed::new(1), &public).unwrap();
            let updates = updates(1e-3);
            let want = exact(&updates);
            let size = norm(want.iter().copied());
            let expected = scheme.imprecision(1.0, size / (M as f64 * D as f64).sqrt()).unwrap();
            assert!(scheme.imprecision(0.1, 1e-3).unwrap() < scheme.imprecision(1.0, 1e-3).unwrap());
            let Decoded::Sum { sum, error, .. } = scheme.aggregate(1, &updates, &Perfect, 1).unwrap().decoded
            else {
                panic!("within 10⁹")
            };
            let off = norm(sum.iter().zip(&want).map(|(got, want)| got - want));
            assert!(off < error && off / size < expected, "{code:?} {off} {error} {expected}");
            assert!(expected < 60.0 * off / size, "{arithmetic:?} {code:?}: {expected} for {}", off / size);
        }
    }
}

/// The rows of a run tell why there was no sum.
#[test]
fn rows_have_the_reason() {
    let reasons = |text: &str| -> Vec<Option<Reason>> {
        let config: Config = toml::from_str(text).unwrap();
        let setting = Setting::build(&config, "cpu".parse().unwrap()).unwrap();
        let run = setting.run(&config.protocol).unwrap();
        let mut state = run.start();
        let start = state.server.parameters.clone();
        let reasons = (0..config.rounds).map(|_| run.round(&mut state).unwrap().0.reason).collect();
        if text.contains("1e16") {
            assert_eq!(state.server.parameters, start);
        }
        reasons
    };
    let base = "rounds = 3\nclients = 4\n[solver]\nkind = 'sgd'\nsteps = 1\n[model]\nkind = 'softmax'\n";
    let strong = "[protocol]\nkind = 'sec-cogc'\nstragglers = 1\nkey_std = 1e16\n";
    assert_eq!(reasons(&format!("{base}{strong}")), [Some(Reason::Precision); 3]);
    let lost = "[network]\nclient_server = { kind = 'bernoulli', erasure = 1.0 }\n[protocol]\nkind = 'cogc'\nstragglers = 1\n";
    assert_eq!(reasons(&format!("{base}{lost}")), [Some(Reason::Links); 3]);
    let fine = "[protocol]\nkind = 'sec-cogc'\nstragglers = 1\n";
    assert_eq!(reasons(&format!("{base}{fine}")), [None; 3]);
}

/// `bits = 2` rounds every coordinate to 0 and `clip = 1e-9` clips it: the rows tell, and none is told
/// without a field.
#[test]
fn what_quantising_loses_is_counted() {
    let rows = |protocol: &str| {
        let text = format!(
            "rounds = 2\nclients = 4\n[solver]\nkind = 'sgd'\nsteps = 1\n[model]\nkind = 'softmax'\n\
             [protocol]\nkind = 'sec-cogc'\nstragglers = 1\n{protocol}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        let setting = Setting::build(&config, "cpu".parse().unwrap()).unwrap();
        let run = setting.run(&config.protocol).unwrap();
        let mut state = run.start();
        (0..2).map(|_| run.round(&mut state).unwrap().0).collect::<Vec<_>>()
    };
    for row in rows("arithmetic = 'field'\nquantisation = { bits = 2 }") {
        let (saturated, underflowed) = (row.saturated.unwrap(), row.underflowed.unwrap());
        // Pixels that are always 0 have no update.
        assert!(saturated == 0.0 && underflowed > 0.5, "{saturated} {underflowed}");
    }
    for row in rows("arithmetic = 'field'\nquantisation = { clip = 1e-9 }") {
        assert!(row.saturated.unwrap() > 0.5 && row.underflowed.unwrap() < 0.01, "{row:?}");
    }
    for row in rows("arithmetic = 'field'") {
        assert!(row.saturated.unwrap() == 0.0 && row.recovery_error.unwrap() < 1e-3, "{row:?}");
    }
    assert!(rows("").iter().all(|row| row.saturated.is_none() && row.underflowed.is_none()));
}
