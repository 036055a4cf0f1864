//! Copies of a message over fading links, alone and combined.

use std::sync::Arc;

use seccogc::config::Config;
use seccogc::message::LinkUse;
use seccogc::network::{Dependence, LinkModel, Network, NetworkConfig, Node};
use seccogc::protocol::{ProtocolConfig, Update};
use seccogc::recover::recover;
use seccogc::seed::Seed;
use seccogc::train::Setting;

/// R = 1 and SNR = 2: θ = ½.
fn links(combining: &str) -> Network {
    let text =
        format!("client_server = {{ kind = 'rayleigh', snr = 2, rate = 1, combining = '{combining}' }}");
    toml::from_str::<NetworkConfig>(&text).unwrap().build(10, 4000, Seed::new(7)).unwrap()
}

/// θ = ½: alone (1 − e^−½)^r = 0.393469, 0.154818, 0.060916; combined 1 − e^−½ Σ_{n<r} 2⁻ⁿ/n! = 0.393469,
/// 0.090204, 0.014388, by FedAvg over 40,000 uploads each. Bounds of 4.5 standard errors: α < 10⁻⁵ a value.
#[test]
fn uploads_are_lost_as_often_as_computed() {
    let updates: Vec<Update> = (0..10).map(|_| Update { weight: 1.0, delta: Arc::new(vec![1.0]) }).collect();
    let cases = [("none", [0.393_469, 0.154_818, 0.060_916]), ("chase", [0.393_469, 0.090_204, 0.014_388])];
    for (combining, losses) in cases {
        let links = links(combining);
        for (transmissions, want) in (1..).zip(losses) {
            let text = format!("kind = 'fedavg'\ntransmissions = {transmissions}");
            let scheme = toml::from_str::<ProtocolConfig>(&text).unwrap().build(10, Seed::new(1)).unwrap();
            let heard =
                |round| scheme.aggregate(round, &updates, &links, 1).unwrap().decoded.included().len();
            let lost = 1.0 - (1..=4000).map(heard).sum::<usize>() as f64 / 40_000.0;
            let bound = 4.5 * (want * (1.0 - want) / 40_000.0f64).sqrt();
            assert!((lost - want).abs() < bound, "{combining}, r = {transmissions}: {lost} for {want}");
        }
    }
}

fn at(attempt: u32, transfer: u8, round: u64) -> LinkUse<Node> {
    LinkUse { round, attempt, transfer, from: Node::Client(0), to: Node::Server, bytes: 8 }
}

#[test]
fn combined_copies_only_add_and_a_new_attempt_begins_anew() {
    let (none, chase) = (links("none"), links("chase"));
    assert_eq!((none.combines(), none.dependence()), (false, Dependence::None));
    assert_eq!((chase.combines(), chase.dependence()), (true, Dependence::Time));
    let mut rescued = 0;
    for round in 1..=2000 {
        for attempt in 0..2 {
            let of = |links: &Network| [0, 1, 2].map(|transfer| links.delivers(at(attempt, transfer, round)));
            let (alone, combined) = (of(&none), of(&chase));
            assert_eq!(alone[0], combined[0], "the first copy is alone");
            assert!(combined.is_sorted(), "what has been understood stays understood: {combined:?}");
            assert!((0..3).all(|t| combined[t] >= alone[..=t].contains(&true)), "{alone:?} {combined:?}");
            rescued += usize::from(combined[2] && !alone.contains(&true));
        }
        // A sign of life is no copy of an upload.
        assert_eq!(none.delivers(at(0, 127, round)), chase.delivers(at(0, 127, round)));
    }
    assert!(rescued > 100, "{rescued}");
}

#[test]
fn what_sends_no_copies_is_refused_in_one_line() {
    let text = "rounds = 1\nclients = 4\ndata = { name = \"mnist-subset\" }\nmodel = { kind = \"softmax\" }\n\
        network.client_server = { kind = \"rayleigh\", combining = \"chase\" }";
    let config: Config = toml::from_str(text).unwrap();
    let setting = Setting::build(&config, "cpu".parse().unwrap()).unwrap();
    let run = |kind: &str| setting.run(&toml::from_str(&format!("kind = '{kind}'")).unwrap()).err();
    assert!(["ideal", "fedavg", "gaussian", "zero-sum"].into_iter().all(|kind| run(kind).is_none()));
    for kind in ["cogc", "sec-agg", "coffee"] {
        assert_eq!(
            run(kind).unwrap().to_string(),
            format!(
                "network: {kind} sends other messages in later transfers on a link, and there is nothing to combine; take combining = \
                 \"none\", or fedavg, gaussian or zero-sum"
            )
        );
    }
    let coded = Config { protocol: toml::from_str("kind = 'cogc'").unwrap(), ..config };
    let stop = false.into();
    let error = recover(&coded, 10, Some(&[1]), Some(10), &stop, &mut |_, _, _| Ok(())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "network: gradient codes send no message twice, and there is nothing to combine; take combining = \"none\""
    );
}
