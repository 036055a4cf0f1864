//! `fedacs`: who is drawn how often, and that every client is in the mean as often as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use seccogc::algebra::Unknown;
use seccogc::audit::{Adversaries, Assumptions, Erasures, audit};
use seccogc::config::Config;
use seccogc::message::{Decoded, LinkUse};
use seccogc::network::{LinkModel, Node};
use seccogc::protocol::fedacs::Draws;
use seccogc::protocol::{Aggregator, ProtocolConfig, Update};
use seccogc::seed::Seed;

use crate::relaying::refused_run;

const UP: [f64; 3] = [0.9, 0.5, 0.1];

fn scheme(draws: u32, more: &str) -> Box<dyn Aggregator> {
    let text = format!(
        "kind = 'fedacs'\narithmetic = 'f64'\ndraws = {draws}\n{more}\n[assumed]\nclient_client = 0.0\n\
         client_server = [0.1, 0.5, 0.9]"
    );
    toml::from_str::<ProtocolConfig>(&text).unwrap().build(3, Seed::new(1)).unwrap()
}

/// The uses of links that arrive.
struct Arrive(BTreeMap<(u16, u8), bool>);

impl LinkModel for Arrive {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let Node::Client(k) = link.from else { return true };
        self.0[&(k as u16, link.transfer)]
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        f64::NAN
    }
}

#[test]
fn the_chances_are_those_of_the_rule() {
    let draws = Draws::new(&UP, &[0.5, 0.3, 0.2], 2, Seed::new(1)).unwrap();
    for (k, want) in [0.176_06, 0.190_14, 0.633_80].into_iter().enumerate() {
        assert!((draws.chance(k) - want).abs() < 1e-5, "{}", draws.chance(k));
    }
    let arrives: f64 = (0..3).map(|k| draws.chance(k) * UP[k]).sum();
    assert!((arrives - 0.316_90).abs() < 1e-5, "{arrives}");
    // Over many rounds everybody is drawn as often.
    let mut counts = [0.0; 3];
    for round in 1..=20_000 {
        let of = draws.of(round);
        assert_eq!(of.values().sum::<u32>(), 2);
        assert_eq!(of, draws.of(round));
        of.into_iter().for_each(|(k, times)| counts[usize::from(k)] += f64::from(times));
    }
    for (k, count) in counts.into_iter().enumerate() {
        let q = draws.chance(k);
        // α = 10⁻⁶ for three comparisons at 5.1 standard errors.
        assert!((count - 40_000.0 * q).abs() < 5.1 * (40_000.0 * q * (1.0 - q)).sqrt(), "{k}: {count}");
    }
}

/// All draws of two and of three, and all their losses, weighed by their probabilities: given that anything
/// arrives, the law of what the mean is made of is (0.5, 0.3, 0.2) before the shares are taken out, and the
/// estimate is Σ x_k.
#[test]
fn the_estimate_is_unbiased_given_that_anything_arrives() {
    for count in [1, 2, 3] {
        let shares = [0.5, 0.3, 0.2];
        let scheme = scheme(count, "shares = [0.5, 0.3, 0.2]");
        let draws = Draws::new(&UP, &shares, count, Seed::new(1).child("draws", 0)).unwrap();
        // One round for every multiset of draws.
        let mut rounds: BTreeMap<Vec<(u16, u32)>, u64> = BTreeMap::new();
        (1..3000).for_each(|round| {
            rounds.entry(draws.of(round).into_iter().collect()).or_insert(round);
        });
        let multisets = [3, 6, 10][count as usize - 1];
        assert_eq!(rounds.len(), multisets, "every multiset of {count} draws is met");
        let factorial = |n: u32| (1..=n).product::<u32>() as f64;
        let (mut arrived, mut mean) = (0.0, [0.0; 3]);
        for (drawn, round) in rounds {
            let of_draws = drawn.iter().fold(factorial(count), |p, (k, times)| {
                p * draws.chance(usize::from(*k)).powi(*times as i32) / factorial(*times)
            });
            let uses: Vec<(u16, u8)> =
                drawn.iter().flat_map(|(k, times)| (0..*times as u8).map(move |n| (*k, n))).collect();
            for lost in 0..1u32 << uses.len() {
                let pattern = uses.iter().enumerate().map(|(i, at)| (*at, lost >> i & 1 == 0));
                let pattern = Arrive(pattern.collect());
                let one = |(at, arrives): (&(u16, u8), &bool)| {
                    let p = UP[usize::from(at.0)];
                    if *arrives { p } else { 1.0 - p }
                };
                let p = of_draws * pattern.0.iter().map(one).product::<f64>();
                match scheme.views(round, &pattern, 1).unwrap().decoded {
                    Decoded::Estimate { sum, .. } => {
                        arrived += p;
                        (0..3).for_each(|k| mean[k] += p * sum[0].coefficient(Unknown::Input(k as u16, 0)));
                    }
                    Decoded::Outage(_) => assert!(pattern.0.values().all(|arrives| !arrives)),
                    Decoded::Sum { .. } => panic!("a sum"),
                }
            }
        }
        assert!((arrived - (1.0 - (1.0f64 - 0.316_901_408).powi(count as i32))).abs() < 1e-8, "{arrived}");
        for mean in mean {
            assert!((mean / arrived - 1.0).abs() < 1e-12, "{count} draws: {mean} of {arrived}");
        }
    }
}

#[test]
fn an_audit_sees_everybody_and_numbers_are_those_of_the_forms() {
    let scheme = scheme(2, "");
    let assumptions = Assumptions {
        input_std: 1.0,
        clip: Some(1.0),
        weights: vec![1.0; 3].into(),
        delta: 1e-5,
        rounds: 10,
        coordinates: Some(100),
    };
    let audit = audit("a", &*scheme, Erasures::Worst(Seed::new(1)), 1, &Adversaries::default(), &assumptions);
    let audit = audit.unwrap();
    let server: Vec<_> = audit.entries.iter().filter(|entry| entry.layer == "server").collect();
    assert_eq!(server.len(), 3);
    assert!(server.iter().all(|entry| entry.epsilon_view.is_infinite()), "{server:?}");
    let updates: Vec<Update> =
        [3.0f32, -1.0, 0.5].map(|x| Update { weight: 1.0, delta: Arc::new(vec![x]) }).to_vec();
    for round in 1..20 {
        let all = Arrive((0..3).flat_map(|k| (0..2).map(move |n| ((k, n), true))).collect());
        let Decoded::Estimate { sum: got, .. } = scheme.aggregate(round, &updates, &all, 1).unwrap().decoded
        else {
            panic!("no estimate")
        };
        let Decoded::Estimate { sum, .. } = scheme.views(round, &all, 1).unwrap().decoded else { panic!() };
        let want: f64 = (0..3)
            .map(|k| sum[0].coefficient(Unknown::Input(k, 0)) * f64::from(updates[usize::from(k)].delta[0]))
            .sum();
        assert!((got[0] - want).abs() < 1e-12, "{got:?} for {want}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |protocol: &str, rest: &str, key: &str, rule: &str| {
        let text = format!("clients = 3\nrounds = 1\n{rest}\n[protocol]\nkind = 'fedacs'\n{protocol}");
        let config: Config = toml::from_str(&text).unwrap();
        let line = refused_run(config);
        assert!(line.contains(key) && line.contains(rule) && !line.contains('\n'), "{line}");
    };
    refused("draws = 0", "", "protocol.draws", "1 to 100");
    refused("shares = [1.0, 2.0]", "", "protocol.shares", "one each");
    refused("shares = [1.0, 2.0, 0.0]", "", "protocol.shares", "client 3");
    refused("arithmetic = 'field'", "", "protocol.arithmetic", "real numbers");
    refused("assumed.client_server = [0.5, 1.0, 0.5]", "", "protocol.assumed.client_server", "client 2");
    refused("", "[cohort]\nsample = 3", "cohort", "for all clients");
    refused("", "[solver]\nkind = 'scaffold'", "protocol.kind", "control vectors");
    refused("", "[participation]\nkind = 'mifa'", "participation.kind", "sum only");
}
