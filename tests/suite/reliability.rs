//! Measured recovery against the closed form, and the exactness of every recovered round.

use std::path::Path;
use std::sync::Arc;

use seccogc::coding::{CodeKind, outage};
use seccogc::config::Config;
use seccogc::protocol::cogc::SecCoGcConfig;
use seccogc::protocol::{Decoded, ProtocolConfig, Update};
use seccogc::seed::Seed;

const M: usize = 10;
const P: f64 = 0.1;
const Q: [f64; M] = [0.05, 0.1, 0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95];

/// For every code at M = 10: recovered sums are exact to 1e-9 relative in f64, and the recovery frequency
/// over 2000 rounds lies within 4 standard errors of the Poisson-binomial value (α = 6.4·10⁻⁵ a code for a
/// correct implementation).
#[test]
fn every_code_recovers_exactly_and_as_often_as_computed() {
    let config = Config::load(Path::new("configs/mnist.toml"), &[]).unwrap();
    let network = config.network.build(M, 2000, Seed::new(4)).unwrap();
    let cases = [
        (CodeKind::CyclicRandom, 1),
        (CodeKind::CyclicRandom, 4),
        (CodeKind::CyclicRandom, 7),
        (CodeKind::CyclicRandom, 8),
        (CodeKind::CyclicMds, 5),
        (CodeKind::CyclicMds, 7),
        (CodeKind::CyclicMds, 9),
        (CodeKind::FractionalRepetition, 1),
        (CodeKind::FractionalRepetition, 4),
    ];
    let updates: Vec<Update> = (0..M)
        .map(|k| Update {
            weight: 1.0 + 0.1 * k as f64,
            delta: Arc::new((0..64).map(|i| ((i * (k + 3)) as f32).sin() * 0.01).collect()),
        })
        .collect();
    let truth: Vec<f64> =
        (0..64).map(|i| updates.iter().map(|u| u.weight * f64::from(u.delta[i])).sum::<f64>()).collect();
    let norm = truth.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (code, stragglers) in cases {
        let config =
            SecCoGcConfig { code, stragglers: stragglers.into(), key_std: 0.1, ..Default::default() };
        let scheme = ProtocolConfig::SecCoGc(config).build(M, Seed::new(9)).unwrap();
        let expected = outage::success_probability(scheme.code().unwrap(), |_, _| P, |m| Q[m]);
        let rounds = 2000;
        let mut recovered = 0;
        for round in 1..=rounds {
            let aggregate = scheme.aggregate(round, &updates, &network, 1).unwrap();
            if let Decoded::Sum { sum, .. } = aggregate.decoded {
                recovered += 1;
                let error = sum.iter().zip(&truth).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt() / norm;
                // That of rounding updates to the grid.
                assert!(error <= 1e-6, "{code:?} s={stragglers} round {round}: {error:e}");
            }
        }
        let frequency = f64::from(recovered) / rounds as f64;
        let bound = 4.0 * (expected * (1.0 - expected) / rounds as f64).sqrt() + 1e-12;
        assert!(
            (frequency - expected).abs() <= bound,
            "{code:?} s={stragglers}: measured {frequency}, computed {expected} ± {bound}"
        );
    }
}
