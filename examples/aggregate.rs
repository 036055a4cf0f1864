//! The exact sum of ten vectors over failing links, or nothing: no training, no configuration file.

use std::sync::Arc;

use seccogc::network::NetworkConfig;
use seccogc::protocol::{Decoded, ProtocolConfig, Update};
use seccogc::seed::Seed;

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> T {
    toml::from_str(text).expect("a section as in a configuration file")
}

pub fn main() -> seccogc::Result<()> {
    let (clients, rounds, seed) = (10, 20, Seed::new(7));
    let protocol: ProtocolConfig = parse("kind = 'sec-cogc'\nstragglers = 7\nkeys = 'fair'\nkey_std = 100.0");
    let network: NetworkConfig = parse(
        "client_client = { kind = 'bernoulli', erasure = 0.1 }
         client_server = { kind = 'bernoulli', erasure = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] }",
    );
    let scheme = protocol.build(clients, seed.child("protocol", 0))?;
    let links = network.build(clients, rounds, seed.child("links", 0))?;
    let update = |k: usize| Update { weight: 1.0, delta: Arc::new(vec![k as f32; 1000]) };
    let updates: Vec<Update> = (0..clients).map(update).collect();

    let mut sums = 0;
    for round in 1..=rounds {
        let aggregate = scheme.aggregate(round, &updates, &links, 1)?;
        match aggregate.decoded {
            Decoded::Sum { sum, error, .. } => {
                sums += 1;
                println!("round {round}: 0 + 1 + … + 9 = {}, off by at most {error:.1e} in norm", sum[0]);
                assert!((sum[0] - 45.0).abs() < 1e-6);
            }
            other => println!("round {round}: {:?}", other.reason()),
        }
    }
    assert!(sums > 0 && sums < rounds);
    Ok(())
}
