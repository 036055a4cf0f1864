//! An audit is an upper bound: at every scale, for every weight, in every cohort that may occur, over the
//! clients that a sum includes.

use std::process::Command;

use seccogc::audit::calibrate::{Bounds, calibrate};
use seccogc::audit::erasures::Lost;
use seccogc::audit::{Adversaries, Assumptions, Audit, Entry, Erasures, Weights, audit};
use seccogc::config::Config;
use seccogc::keys::KeyKind;
use seccogc::network::{LinkUse, Perfect};
use seccogc::privacy::Leakage;
use seccogc::privacy::view::Coalition;
use seccogc::protocol::cogc::{CoGcConfig, SecCoGcConfig};
use seccogc::protocol::groupwise::GroupwiseConfig;
use seccogc::protocol::hierarchical::HierarchicalConfig;
use seccogc::protocol::light_sec_agg::LightSecAggConfig;
use seccogc::protocol::sec_agg::{SecAggConfig, SecAggPlusConfig};
use seccogc::protocol::zhao_sun::ZhaoSunConfig;
use seccogc::protocol::{Aggregator, Decoded, Formal, PartyId, ProtocolConfig, Reason, Update, uncoded};
use seccogc::seed::Seed;

use crate::by_rank::Rule;

fn assumptions(weights: impl Into<Weights>) -> Assumptions {
    Assumptions {
        input_std: 1.0,
        clip: Some(1.0),
        weights: weights.into(),
        delta: 1e-5,
        rounds: 1,
        coordinates: None,
    }
}

fn build(protocol: &ProtocolConfig, clients: usize) -> Box<dyn Aggregator> {
    protocol.build(clients, Seed::new(1)).unwrap()
}

fn worst(scheme: &dyn Aggregator, all: usize, assumptions: &Assumptions) -> Audit {
    let adversaries = Adversaries { all, coalition: None };
    audit("a", scheme, Erasures::Worst(Seed::new(2)), 1, &adversaries, assumptions).unwrap()
}

fn of_layer<'a>(audit: &'a Audit, layer: &str) -> Vec<&'a Entry> {
    audit.entries.iter().filter(|entry| entry.layer == layer).collect()
}

fn sec_cogc(keys: KeyKind, key_std: f64) -> ProtocolConfig {
    let config =
        SecCoGcConfig { keys: keys.into(), key_std, stragglers: 7.into(), ..SecCoGcConfig::default() };
    ProtocolConfig::SecCoGc(config)
}

/// ½ log₂(10/9) = 0.0760 bits of ten equal clients, for keys and updates of 10⁻²⁰ to 10²⁰.
#[test]
fn whoever_obtains_the_sum_learns_what_the_sum_tells() {
    let floor = Leakage::floor(10) / std::f64::consts::LN_2;
    assert!((floor - 0.0760).abs() < 5e-5);
    let lossless = Erasures::These(&Lost::default());
    for keys in [KeyKind::Fair, KeyKind::Plain, KeyKind::Pairwise] {
        for (key_std, update_std) in [
            (1e9, 1e-3),
            (1e20, 1e-20),
            (1e-20, 1e-20),
            (1e20, 1e20),
            (1e150, 1e-150),
            (1e-3, 1e9),
            (3.0, 1.0),
        ] {
            let scheme = build(&sec_cogc(keys, key_std), 10);
            let assumptions = Assumptions { input_std: update_std, ..assumptions(vec![1.0; 10]) };
            let adversaries = Adversaries { all: 1, coalition: None };
            let audit = audit("a", &*scheme, lossless, 1, &adversaries, &assumptions).unwrap();
            let round = Leakage::of(&scheme.views(1, &Perfect, 1).unwrap(), &[update_std; 10]).unwrap();
            let of_round = round.server.iter().map(|nats| nats / std::f64::consts::LN_2);
            let server = of_layer(&audit, "server").into_iter().map(|entry| entry.lmip_bits);
            for bits in server.chain(of_round) {
                assert!(bits >= floor * (1.0 - 1e-9), "{keys:?} {key_std} {update_std}: {bits}");
                if key_std / update_std > 1e6 {
                    assert!(bits < floor * (1.0 + 1e-6), "{keys:?} {key_std} {update_std}: {bits}");
                }
            }
            let with_one = 0.5 * (9.0f64 / 8.0).log2();
            for entry in of_layer(&audit, "server + 1 client") {
                assert!(
                    entry.lmip_bits >= with_one * (1.0 - 1e-9)
                        && (entry.floor_bits / with_one - 1.0).abs() < 1e-9
                );
            }
            let below = Bounds { epsilon: None, lmip_bits: Some(0.05) };
            let line = below.exceeded(&audit).unwrap();
            assert!(key_std < 1e6 * update_std || line.contains("(the sum alone gives 0."), "{line}");
        }
    }
}

#[test]
fn a_target_below_the_sum_is_refused() {
    let assumptions = [Assumptions { input_std: 1e-3, clip: None, ..assumptions(vec![1.0; 10]) }];
    let find = |bits: f64| {
        let bounds = Bounds { epsilon: None, lmip_bits: Some(bits) };
        let adversaries = Adversaries::default();
        calibrate(&sec_cogc(KeyKind::Fair, 1.0), &bounds, Seed::new(1), 1, &adversaries, &assumptions)
    };
    let refused = find(0.07).unwrap_err().to_string();
    assert!(
        refused.starts_with("privacy.max_lmip_bits: 0.07 is below what the sum alone tells"),
        "{refused}"
    );
    assert!(refused.contains("0.0760 bits per coordinate"), "{refused}");
    assert!(find(0.0766).unwrap().iter().all(|one| one.key_std.is_some()));
}

/// Without keys the scale of the updates says nothing.
#[test]
fn plain_cogc_is_open_at_every_scale() {
    let cogc = build(&ProtocolConfig::CoGc(CoGcConfig { stragglers: 2.into(), ..CoGcConfig::default() }), 5);
    let at = |input_std: f64| {
        let assumptions = Assumptions { input_std, ..assumptions(vec![1.0; 5]) };
        worst(&*cogc, 1, &assumptions)
            .entries
            .into_iter()
            .map(|entry| (entry.layer, entry.lmip_bits))
            .collect()
    };
    let one: Vec<(String, f64)> = at(1.0);
    assert!(one.iter().filter(|(layer, _)| layer == "link").all(|(_, bits)| bits.is_infinite()));
    assert!(one.iter().filter(|(layer, _)| layer == "server").all(|(_, bits)| *bits > 0.3));
    for scale in [1e200, 1e-200] {
        let scaled: Vec<(String, f64)> = at(scale);
        let same = |(a, b): (&(String, f64), &(String, f64))| a.1 == b.1 || (a.1 / b.1 - 1.0).abs() < 1e-9;
        assert!(one.iter().zip(&scaled).all(same), "{scale}: {one:?} {scaled:?}");
    }
}

#[test]
fn numbers_that_are_none_are_errors() {
    let scheme = build(&sec_cogc(KeyKind::Fair, 1.0), 10);
    let fails = |assumptions: &Assumptions| {
        let lossless = Erasures::These(&Lost::default());
        audit("a", &*scheme, lossless, 1, &Adversaries::default(), assumptions).unwrap_err().to_string()
    };
    let good = assumptions(vec![1.0; 10]);
    for input_std in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let message = fails(&Assumptions { input_std, ..good.clone() });
        assert!(message.starts_with("privacy.update_std: "), "{message}");
    }
    assert!(fails(&Assumptions { clip: Some(f64::NAN), ..good.clone() }).starts_with("solver.clip_norm: "));
    assert!(fails(&assumptions(vec![f64::NAN; 10])).starts_with("partition: weights"));
    assert!(fails(&assumptions(vec![1.0; 9])).contains("10 clients was given 9 weights"));
    let views = scheme.views(1, &Perfect, 1).unwrap();
    assert!(Leakage::of(&views, &[f64::INFINITY; 10]).is_err());
    // Keys beyond what a number can be.
    let huge = build(&sec_cogc(KeyKind::Fair, 1.7e308), 10);
    assert!(Leakage::of(&huge.views(1, &Perfect, 1).unwrap(), &[1.0; 10]).is_err());
}

/// A link shows w x + σ key: ½ log₂(1 + w²) bits; a sum −½ log₂(1 − w²/Σ w²).
#[test]
fn leakage_counts_the_weights() {
    let weights = vec![2.287, 0.084, 1.0, 0.629];
    let config = SecCoGcConfig { key_std: 1.0, stragglers: 2.into(), ..SecCoGcConfig::default() };
    let scheme = build(&ProtocolConfig::SecCoGc(config), 4);
    let audit = worst(&*scheme, 0, &assumptions(weights.clone()));
    for (entry, want) in of_layer(&audit, "link").into_iter().zip([1.320, 0.0051, 0.5, 0.240]) {
        assert!((entry.lmip_bits / want - 1.0).abs() < 0.01, "{entry:?}");
    }
    let total: f64 = weights.iter().map(|w| w * w).sum();
    for (entry, w) in of_layer(&audit, "server").into_iter().zip(&weights) {
        let floor = -0.5 * (1.0 - w * w / total).log2();
        assert!((entry.floor_bits / floor - 1.0).abs() < 1e-9 && entry.lmip_bits >= floor, "{entry:?}");
    }
    // The same per round of training.
    let round = Leakage::of(&scheme.views(1, &Perfect, 1).unwrap(), &weights).unwrap();
    let bits = round.link.iter().map(|nats| nats / std::f64::consts::LN_2);
    assert!(bits.zip([1.320, 0.0051]).all(|(got, want)| (got / want - 1.0).abs() < 0.01), "{round:?}");
    // A range is no better than any weights in it.
    let range = worst(&*scheme, 1, &assumptions(Weights::between(4, 0.084, 2.287)));
    for (open, known) in range.entries.iter().zip(&worst(&*scheme, 1, &assumptions(weights)).entries) {
        assert_eq!((&open.layer, open.client), (&known.layer, known.client));
        let pairs = [
            (open.lmip_bits, known.lmip_bits),
            (open.epsilon_view, known.epsilon_view),
            (open.epsilon_beyond_sum, known.epsilon_beyond_sum),
            (open.floor_bits, known.floor_bits),
        ];
        assert!(pairs.iter().all(|(open, known)| *open >= known * (1.0 - 1e-9)), "{open:?} {known:?}");
    }
}

/// Every kind that sums over those who are left, with a configuration among six clients, the size of its
/// smallest sum, and who is promised to learn nothing beyond it.
fn over_survivors() -> Vec<(ProtocolConfig, usize, usize)> {
    let zhao_sun = ZhaoSunConfig { survivors: 3, colluders: 2, ..Default::default() };
    let shared = LightSecAggConfig { survivors: 2, colluders: 1, ..Default::default() };
    let groupwise = GroupwiseConfig { survivors: 2, group_size: 3, ..Default::default() };
    let sec_agg = SecAggConfig { threshold: Some(3), ..Default::default() };
    let plus = SecAggPlusConfig { neighbours: 4, threshold: Some(2), ..Default::default() };
    let hierarchical = HierarchicalConfig { helpers: 3, threshold: 2, ..Default::default() };
    vec![
        (ProtocolConfig::ZhaoSun(zhao_sun), 4, 2),
        (ProtocolConfig::LightSecAgg(shared), 3, 1),
        (ProtocolConfig::Groupwise(groupwise), 3, 0),
        (ProtocolConfig::SecAgg(sec_agg), 4, 2),
        (ProtocolConfig::SecAggPlus(plus), 3, 1),
        (ProtocolConfig::Hierarchical(hierarchical), 3, 1),
    ]
}

/// Only the first `heard` clients are heard.
fn heard(count: u16) -> Rule<impl Fn(LinkUse) -> bool + Send + Sync> {
    Rule(move |link: LinkUse| !matches!(link.from, PartyId::Client(k) if k >= count))
}

fn updates(clients: usize) -> Vec<Update> {
    (0..clients).map(|k| Update { weight: 1.0, delta: vec![k as f32 / 8.0; 12].into() }).collect()
}

#[test]
fn a_sum_over_too_few_is_an_outage_and_nothing_is_unmasked() {
    for (protocol, least, _) in over_survivors() {
        let scheme = build(&protocol, 6);
        assert_eq!(scheme.scheme().least_included, Some(least), "{}", protocol.kind());
        // In a sparse graph those who are heard need not be neighbours.
        let sparse = matches!(protocol, ProtocolConfig::SecAggPlus(_));
        for count in 1..=6u16 {
            let (links, size) = (heard(count), usize::from(count));
            let decoded = scheme.aggregate(1, &updates(6), &links, 1).unwrap().decoded;
            let name = format!("{} with {count}: {decoded:?}", protocol.kind());
            match &decoded {
                Decoded::Sum { included, .. } => {
                    assert!(size >= least && included.len() >= least, "{name}");
                    assert!(sparse || included.len() == size, "{name}");
                }
                Decoded::Estimate { .. } => panic!("{name}"),
                Decoded::Outage(reason) => {
                    assert!(sparse || size < least, "{name}");
                    assert!(sparse || size + 1 < least || *reason == Reason::TooFew, "{name}");
                    // The server learns no combination of updates at all.
                    let Formal::Field(views) = scheme.formal(1, &links, 1).unwrap() else {
                        panic!("a scheme over a field")
                    };
                    let server = views.exposed(&Coalition::of([PartyId::Server]));
                    assert_eq!((server.symbols, server.sum), (0, false), "{name}");
                }
            }
        }
        // A second attempt in which others are heard, too, goes on.
        let links = Rule(
            move |link: LinkUse| !matches!(link.from, PartyId::Client(k) if link.attempt == 0 && usize::from(k) + 1 >= least),
        );
        let round = scheme.aggregate(1, &updates(6), &links, 2).unwrap();
        assert!(round.decoded.is_sum() && round.attempts == 2, "{}: {:?}", protocol.kind(), round.decoded);
    }
}

#[test]
fn coalitions_and_floors_are_those_of_the_included() {
    // Two clients announced: the server with one of them reads the other, and the report says so.
    let pairs =
        HierarchicalConfig { helpers: 3, threshold: 2, least_included: Some(2), ..Default::default() };
    let audited = |protocol: &ProtocolConfig| worst(&*build(protocol, 6), 1, &assumptions(vec![1.0; 6]));
    let pairs = audited(&ProtocolConfig::Hierarchical(pairs));
    assert_eq!(pairs.least_included, Some(2));
    for entry in of_layer(&pairs, "server + 1 client or helper") {
        assert!(entry.floor_bits > 60.0 && entry.lmip_bits >= entry.floor_bits, "{entry:?}");
        assert!(entry.epsilon().is_infinite(), "{entry:?}");
    }
    assert!(Bounds { epsilon: Some(1.0), lmip_bits: None }.exceeded(&pairs).is_some());
    // The smallest sum of every kind, against as many colluders as are promised to learn nothing.
    for (protocol, least, colluders) in over_survivors() {
        let (scheme, links) = (build(&protocol, 6), heard(least as u16));
        let adversaries = Adversaries { all: colluders, coalition: None };
        let smallest = Erasures::Actual(&links);
        let audit = audit("a", &*scheme, smallest, 1, &adversaries, &assumptions(vec![1.0; 6])).unwrap();
        assert_eq!(audit.least_included, Some(least), "{}", protocol.kind());
        for entry in audit.entries.iter().filter(|entry| entry.layer.starts_with("server")) {
            assert!(entry.floor_bits == 0.0 && entry.epsilon() == 0.0 && entry.symbols == 0, "{entry:?}");
        }
    }
}

#[test]
fn gaussian_noise_and_open_updates_have_a_least_sum_too() {
    let fedavg = uncoded::FedAvg { least_included: Some(3), ..Default::default() };
    let scheme = build(&ProtocolConfig::FedAvg(fedavg), 4);
    let of = |count: u16| scheme.aggregate(1, &updates(4), &heard(count), 1).unwrap().decoded;
    assert_eq!(of(2), Decoded::Outage(Reason::TooFew));
    assert!(of(3).is_sum());
    assert_eq!(of(0), Decoded::lost());
    let wrong = uncoded::FedAvg { least_included: Some(5), ..Default::default() };
    let Err(error) = ProtocolConfig::FedAvg(wrong).build(4, Seed::new(1)) else { panic!("5 of 4") };
    assert_eq!(error.to_string(), "least_included: 5 is out of range; of 4 clients give 1 to 4");
    let none = HierarchicalConfig { least_included: Some(0), ..Default::default() };
    assert!(ProtocolConfig::Hierarchical(none).build(4, Seed::new(1)).is_err());
}

fn seccogc(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// What is said where the clients' single classes give way to other shares.
const FALLEN: &str =
    " WARN configs/mnist.toml: partition.classes = 1 falls away: kind = \"quantity\" has no such key\n";

fn audited(sets: &[&str]) -> (i32, String, String) {
    let mut args = vec!["audit", "configs/mnist.toml"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    seccogc(&args)
}

#[test]
fn the_audit_weighs_clients_by_their_examples() {
    let mut args = vec!["audit", "configs/mnist.toml", "--format", "csv"];
    for set in ["partition.kind=quantity", "protocol.key_std=1"] {
        args.extend(["--set", set]);
    }
    let (code, out, err) = seccogc(&args);
    assert_eq!((code, err.as_str()), (0, FALLEN), "{out}");
    let mut table = csv::Reader::from_reader(out.as_bytes());
    let entries: Vec<Entry> = table.deserialize().map(|row| row.unwrap()).collect();
    let link = |client: usize| {
        let found = entries.iter().find(|entry| entry.layer == "link" && entry.client == client);
        found.unwrap().lmip_bits
    };
    assert!((link(4) - 1.32).abs() < 0.005 && (link(1) - 0.005).abs() < 5e-4, "{} {}", link(4), link(1));
}

#[test]
fn every_cohort_that_may_occur_is_audited() {
    // Five of ten are drawn: the scheme among five, each of any weight of the ten.
    let (code, out, err) = audited(&["cohort.sample=5", "partition.kind=quantity", "protocol.stragglers=3"]);
    assert_eq!((code, err.as_str()), (0, FALLEN), "{out}");
    assert!(out.contains("5 clients in a round, each of any weight from 0.0840 to 2.2870"), "{out}");
    // Clients are left out: all sizes from the least on.
    let (code, out, err) = audited(&["cohort.drop_after=2", "cohort.least=8"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for size in [8, 9, 10] {
        assert!(out.contains(&format!("{size} clients ")), "{out}");
    }
    // The smallest cohort counts for a bound: ½ log₂(8/7) = 0.0963 bits, with one colluder ½ log₂(7/6) =
    // 0.1112.
    let strong = ["partition.kind=iid", "protocol.key_std=1000", "privacy.max_lmip_bits=0.105"];
    assert_eq!(audited(&strong).0, 0);
    let (code, _, err) = audited(&[&strong[..], &["cohort.drop_after=2", "cohort.least=8"]].concat());
    assert_eq!(code, 1);
    assert!(err.contains("exceeded: sec-cogc among 8: server + 1 client, client "), "{err}");
    let (code, _, err) = seccogc(&[
        "audit",
        "configs/mnist.toml",
        "--erasures",
        "actual",
        "--set",
        "cohort.sample=5",
        "--set",
        "protocol.stragglers=3",
    ]);
    assert_eq!(code, 2);
    assert!(err.starts_with("error: cohort.sample: who takes part differs from round to round"), "{err}");
}

#[test]
fn deployed_clients_have_the_weights_that_are_assumed() {
    let audit = |sets: &[&str]| {
        let mut args = vec!["audit", "configs/deploy.toml", "--set", "protocol.arithmetic=f64"];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        seccogc(&args)
    };
    let (code, out, err) = audit(&[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("3 clients in a round, each of any weight from 0.0000 to 3.0000"), "{out}");
    let server = out.lines().find(|line| line.starts_with("server ")).unwrap();
    assert!(server.contains('∞'), "one client may hold nearly everything: {server}");
    // With one colluder of weight w another client of 0.5 hides one of 1.5: −½ log₂(1 − 2.25/2.5) = 1.66
    // bits.
    for (bound, want) in [("privacy.max_lmip_bits=1.6", 1), ("privacy.max_lmip_bits=1.7", 0)] {
        let (code, out, _) = audit(&["deploy.weights=[0.5, 1.5]", "protocol.key_std=1000", bound]);
        assert!(out.contains("each of any weight from 0.5000 to 1.5000"), "{out}");
        assert_eq!(code, want, "{out}");
    }
    let (code, _, err) = audit(&["deploy.weights=[2.0, 1.0]"]);
    assert_eq!(code, 2);
    assert!(err.contains("deploy.weights: [2, 1] is no range of weights"), "{err}");
    let config = Config::load("configs/deploy.toml".as_ref(), &[]).unwrap();
    let cases = config.cases(&[1.0, 1.5, 0.5]);
    assert_eq!(cases.len(), 1);
    assert!(!cases[0].weights.are_known());
}
