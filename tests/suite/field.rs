//! The exact field mode as a user meets it: accuracy as in double precision, no leakage beyond the sum.

use std::path::Path;

use seccogc::audit::{Adversaries, Erasures, audit};
use seccogc::config::Config;
use seccogc::learn::Device;
use seccogc::protocol::ProtocolConfig;
use seccogc::record::{Outcome, Row};
use seccogc::seed::Seed;
use seccogc::train::Setting;

fn config(sets: &[&str]) -> Config {
    let common = ["rounds=25", "evaluation.every=25", "model.kind=softmax", "protocol.code=cyclic-random"];
    let sets: Vec<String> = common.iter().chain(sets).map(|&set| set.into()).collect();
    Config::load(Path::new("configs/mnist.toml"), &sets).unwrap()
}

fn train(sets: &[&str]) -> Vec<Row> {
    let config = config(sets);
    let setting = Setting::build(&config, "cpu".parse::<Device>().unwrap()).unwrap();
    let run = setting.run(&config.protocol).unwrap();
    let mut state = run.start();
    (0..config.rounds).map(|_| run.round(&mut state).unwrap().0).collect()
}

/// Same links, same codes' supports, same rounds recovered; updates of at most 0.5 a coordinate rounded to
/// 2⁻²³, which moves a test image or two of a thousand at most.
#[test]
fn accuracy_is_that_of_double_precision() {
    let real = train(&["protocol.arithmetic=f64"]);
    for quantisation in [
        "protocol.quantisation={ clip = 2.0 }",
        "protocol.quantisation={ clip = 2.0, rounding = \"stochastic\", modulus = \"2^31-1\" }",
    ] {
        let field = train(&["protocol.arithmetic=field", quantisation]);
        let mut recovered = 0;
        for (a, b) in real.iter().zip(&field) {
            assert_eq!((a.round, a.outcome, a.arrivals), (b.round, b.outcome, b.arrivals));
            if b.outcome == Outcome::Recovered {
                recovered += 1;
                assert!(b.recovery_error.unwrap() < 1e-3, "{b:?}");
            }
            let leaks = [b.leakage_link, b.leakage_neighbour, b.leakage_server];
            assert_eq!(leaks, [Some(0.0); 3], "round {}", b.round);
        }
        assert!(recovered > 3, "{recovered}");
        let [a, b] = [&real, &field].map(|rows| rows.last().unwrap().test_accuracy.unwrap());
        assert!(a > 0.5 && (a - b).abs() <= 0.003, "{a} {b}");
    }
}

#[test]
fn the_audit_finds_no_symbol_beyond_the_sum_for_any_coalition_of_two() {
    for decoder in ["standard", "gc-plus"] {
        let config = config(&["protocol.arithmetic=field", &format!("protocol.decoder={decoder}")]);
        let clients = 5;
        let mut protocol = config.protocol.clone();
        if let ProtocolConfig::SecCoGc(config) = &mut protocol {
            config.stragglers = 2.into();
        }
        let scheme = protocol.build(clients, Seed::new(1)).unwrap();
        let assumptions = config.assumptions(vec![1.0; clients]);
        let adversaries = Adversaries { all: 2, coalition: None };
        let audit =
            audit("field", &*scheme, Erasures::Worst(Seed::new(2)), 2, &adversaries, &assumptions).unwrap();
        assert_eq!((audit.findings.len(), audit.exact), (0, true), "{:?}", audit.findings);
        assert!(audit.entries.iter().any(|entry| entry.layer == "server + 2 clients"));
        for entry in &audit.entries {
            assert_eq!((entry.symbols, entry.epsilon_beyond_sum_total), (0, 0.0), "{entry:?}");
            assert_eq!((entry.lmip_nats, entry.floor_bits), (0.0, 0.0), "{entry:?}");
            // A link or a neighbour sees uniform noise, whatever the update is.
            if !entry.sum {
                assert_eq!(entry.epsilon_view, 0.0, "{entry:?}");
            }
        }
    }
}
