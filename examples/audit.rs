//! Who learns how much of whom: every layer of adversaries, from the party code that runs.

use seccogc::audit::{Adversaries, Assumptions, Erasures, audit};
use seccogc::keys::KeyChoice;
use seccogc::protocol::ProtocolConfig;
use seccogc::protocol::cogc::SecCoGcConfig;
use seccogc::seed::Seed;

pub fn main() -> seccogc::Result<()> {
    let assumptions = Assumptions {
        input_std: 0.01,
        clip: Some(1.0),
        weights: vec![1.0; 6].into(),
        delta: 1e-5,
        rounds: 100,
        coordinates: Some(10_000),
    };
    for keys in [KeyChoice::Plain, KeyChoice::Fair] {
        let config = SecCoGcConfig { keys, key_std: 50.0, stragglers: 3.into(), ..Default::default() };
        let scheme = ProtocolConfig::SecCoGc(config).build_for(6, Seed::new(1), &assumptions.public())?;
        // The server together with any one client, whatever is lost.
        let adversaries = Adversaries { all: 1, coalition: None };
        let report =
            audit(keys.name(), &*scheme, Erasures::Worst(Seed::new(2)), 1, &adversaries, &assumptions)?;
        assert!(report.findings.is_empty());
        let mut layers: Vec<(&str, f64)> = Vec::new();
        for entry in &report.entries {
            match layers.last_mut() {
                Some((layer, worst)) if *layer == entry.layer => *worst = worst.max(entry.provable_epsilon()),
                _ => layers.push((&entry.layer, entry.provable_epsilon())),
            }
        }
        for (layer, epsilon) in layers {
            println!("{:6} {layer:18} ε = {epsilon:.3} over 100 rounds, worst client", keys.name());
        }
    }
    Ok(())
}
