//! `colrel` and `pricer` against enumeration: every pattern of losses of three clients, weighed by its
//! probability.

use std::sync::Arc;

use seccogc::algebra::grid::Public;
use seccogc::config::Config;
use seccogc::message::{Decoded, LinkUse, PartyId};
use seccogc::network::{LinkModel, Node};
use seccogc::protocol::exchange::Aggregator;
use seccogc::protocol::relaying::weights::{optimal, second_moment, variance};
use seccogc::protocol::{ProtocolConfig, Update};
use seccogc::seed::Seed;

const UP: [f64; 3] = [0.9, 0.5, 0.1];
const BETWEEN: f64 = 0.8;

/// A pattern of losses of three clients, one bit a link; with reciprocal links one bit a pair.
struct Pattern {
    bits: u32,
    reciprocal: bool,
}

impl Pattern {
    fn count(reciprocal: bool) -> u32 {
        if reciprocal { 1 << 6 } else { 1 << 9 }
    }

    fn bit(&self, from: u16, to: PartyId) -> u32 {
        let from = u32::from(from);
        match to {
            PartyId::Client(to) if self.reciprocal => 2 + from + u32::from(to),
            // The two receivers of a sender are 0 and 1 when it steps aside.
            PartyId::Client(to) => 3 + 2 * from + u32::from(to) - u32::from(u32::from(to) > from),
            _ => from,
        }
    }

    fn probability(&self) -> f64 {
        let links = if self.reciprocal { 6 } else { 9 };
        let one = |bit: usize| {
            let arrives = UP.get(bit).copied().unwrap_or(BETWEEN);
            if self.bits >> bit & 1 == 1 { arrives } else { 1.0 - arrives }
        };
        (0..links).map(one).product()
    }
}

impl LinkModel for Pattern {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let (Some(PartyId::Client(from)), Some(to)) = (link.from.party(), link.to.party()) else {
            return true;
        };
        self.bits >> self.bit(from, to) & 1 == 1
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        f64::NAN
    }
}

fn updates(vectors: [[f32; 2]; 3]) -> Vec<Update> {
    vectors.map(|x| Update { weight: 1.0, delta: Arc::new(x.to_vec()) }).to_vec()
}

/// E x̂ and E‖x̂ − x̄‖² over all patterns.
fn moments(scheme: &dyn Aggregator, updates: &[Update], reciprocal: bool) -> ([f64; 2], f64) {
    let mean = [0, 1].map(|i| updates.iter().map(|x| f64::from(x.delta[i])).sum::<f64>() / 3.0);
    let (mut first, mut second) = ([0.0; 2], 0.0);
    for bits in 0..Pattern::count(reciprocal) {
        let pattern = Pattern { bits, reciprocal };
        let played = scheme.aggregate(1, updates, &pattern, 1).unwrap();
        let Decoded::Estimate { sum, .. } = played.decoded else { panic!("{:?}", played.decoded) };
        let p = pattern.probability();
        for i in 0..2 {
            first[i] += p * sum[i] / 3.0;
            second += p * (sum[i] / 3.0 - mean[i]).powi(2);
        }
    }
    (first, second)
}

fn colrel(text: &str) -> Box<dyn Aggregator> {
    let text = format!(
        "kind = 'colrel'\narithmetic = 'f64'\n[assumed]\nclient_client = 0.2\nclient_server = [0.1, 0.5, 0.9]\n{text}"
    );
    toml::from_str::<ProtocolConfig>(&text).unwrap().build(3, Seed::new(1)).unwrap()
}

#[test]
fn the_estimate_is_unbiased_and_its_error_is_the_formula() {
    let links = [0, 1, 2].map(|from| [0, 1, 2].map(|to| (from, to)));
    let pattern = Pattern { bits: 0, reciprocal: false };
    let bits: std::collections::BTreeSet<u32> = links
        .concat()
        .into_iter()
        .filter(|(from, to)| from != to)
        .map(|(from, to)| pattern.bit(from, PartyId::Client(to)))
        .collect();
    assert_eq!(bits.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8], "each link has a bit of its own");
    let updates = updates([[3.0, 0.0], [0.0, 6.0], [9.0, 3.0]]);
    for reciprocal in [false, true] {
        let scheme = colrel(&format!("reciprocal = {reciprocal}"));
        let (first, second) = moments(&*scheme, &updates, reciprocal);
        assert!((first[0] - 4.0).abs() < 1e-12 && (first[1] - 3.0).abs() < 1e-12, "{first:?}");
        let delivery = seccogc::network::assumed::Delivery {
            between: (0..3).map(|k| (0..3).map(|m| if k == m { 1.0 } else { BETWEEN }).collect()).collect(),
            up: UP.to_vec(),
            reciprocal,
        };
        let alpha = optimal(&delivery, &|_, _| 0.0).unwrap();
        let dot = |k: usize, l: usize| -> f64 {
            let pairs = updates[k].delta.iter().zip(&*updates[l].delta);
            pairs.map(|(a, b)| f64::from(a * b)).sum()
        };
        let all = (0..3).flat_map(|k| (0..3).map(move |l| (k, l)));
        let formula: f64 =
            all.map(|(k, l)| second_moment(&delivery, &alpha, k, l) * dot(k, l)).sum::<f64>() / 9.0;
        assert!((second - formula).abs() < 1e-12, "{second} for {formula}");
        assert!((second - 5.393_977).abs() < 1e-6, "{second}");
        assert!(variance(&delivery, &alpha) < 1.242);
    }
    // Inverse probabilities without relays.
    let alone = colrel("").scheme().clone();
    assert!(alone.keys.is_empty());
    let text = "kind = 'colrel'\narithmetic = 'f64'\n[assumed]\nclient_client = 1.0\nclient_server = [0.1, 0.5, 0.9]";
    let alone = toml::from_str::<ProtocolConfig>(text).unwrap().build(3, Seed::new(1)).unwrap();
    let (first, second) = moments(&*alone, &updates, false);
    assert!((first[0] - 4.0).abs() < 1e-12 && (second - 94.1111).abs() < 1e-4, "{first:?} {second}");
}

#[test]
fn wrong_statistics_shrink_and_skew_the_estimate() {
    // The weights take client 1's uplink for 0.9, and it is 0.45: its own share halves, and what it relays.
    let scheme = colrel("");
    for (client, want) in [(0, 0.5), (1, 0.676), (2, 0.581)] {
        let mut vectors = [[0.0; 2]; 3];
        vectors[client] = [3.0, 0.0];
        let updates = updates(vectors);
        let mean: f64 = (0..Pattern::count(false))
            .map(|bits| {
                let pattern = Pattern { bits, reciprocal: false };
                let wrong = if bits & 1 == 1 { 0.45 / 0.9 } else { 0.55 / 0.1 };
                let played = scheme.aggregate(1, &updates, &pattern, 1).unwrap();
                let Decoded::Estimate { sum, .. } = played.decoded else { panic!("no estimate") };
                wrong * pattern.probability() * sum[0] / 3.0
            })
            .sum();
        assert!((mean - want).abs() < 5e-4, "client {}: {mean} for {want}", client + 1);
    }
}

#[test]
fn what_relays_see_of_pricer_is_as_private_as_asked() {
    let text = "kind = 'pricer'\nepsilon = 2.0\ndelta = 1e-4\narithmetic = 'f64'\n[assumed]\nclient_client = 0.2\n\
                client_server = [0.1, 0.5, 0.9]";
    let public = Public { clip: Some(1.0), coordinates: Some(10), ..Public::default() };
    let config: ProtocolConfig = toml::from_str(text).unwrap();
    let scheme = config.build_for(3, Seed::new(1), &public).unwrap();
    // One message carries α x + σ g: 2 α/σ is the μ of Gaussian differential privacy.
    let views = scheme.views(1, &seccogc::network::Perfect, 1).unwrap();
    let shares = views.messages.iter().filter(|message| message.link.to != PartyId::Server);
    let mut seen = 0;
    for share in shares {
        let [form] = share.forms.as_slice() else { panic!("one symbol each") };
        let (mut signal, mut noise) = (0.0, 0.0);
        for (unknown, c) in form.terms() {
            match unknown {
                seccogc::algebra::Unknown::Input(..) => signal += c,
                seccogc::algebra::Unknown::Key(..) => noise += c * c,
            }
        }
        let epsilon = seccogc::privacy::ldp::epsilon(2.0 * signal / noise.sqrt(), 1e-4);
        assert!((epsilon - 2.0).abs() < 1e-6, "{epsilon}");
        seen += 1;
    }
    assert!(seen >= 3, "{seen} messages between clients");
}

#[test]
fn noise_of_pricer_adds_its_power_to_the_error() {
    let text = "kind = 'pricer'\nepsilon = 10.0\ndelta = 1e-3\nown_std = 0.05\narithmetic = 'f64'\n[assumed]\nclient_client = 0.2\n\
                client_server = [0.1, 0.5, 0.9]";
    const D: usize = 4000;
    let public = Public { clip: Some(100.0), coordinates: Some(D), ..Public::default() };
    let config: ProtocolConfig = toml::from_str(text).unwrap();
    let scheme = config.build_for(3, Seed::new(1), &public).unwrap();
    let zero = vec![Update { weight: 1.0, delta: Arc::new(vec![0.0; D]) }; 3];
    let pattern = Pattern { bits: (1 << 9) - 1, reciprocal: false };
    let views = scheme.views(1, &pattern, 1).unwrap();
    let Decoded::Estimate { sum: form, .. } = &views.decoded else { panic!("no estimate") };
    let key = |(unknown, c): (seccogc::algebra::Unknown, f64)| {
        if matches!(unknown, seccogc::algebra::Unknown::Key(..)) { c * c } else { 0.0 }
    };
    let power: f64 = form[0].terms().map(key).sum();
    let played = scheme.aggregate(1, &zero, &pattern, 1).unwrap();
    let Decoded::Estimate { sum, .. } = played.decoded else { panic!("no estimate") };
    let measured = sum.iter().map(|x| x * x).sum::<f64>() / D as f64;
    // χ² of 4000 degrees of freedom, α = 10⁻⁶: within 11 per cent.
    assert!((measured / power - 1.0).abs() < 0.11, "{measured} for {power}");
    assert!(power > 3.0 * 0.05 * 0.05);
}

/// What is said of a configuration of which no run can be made.
pub fn refused_run(config: Config) -> String {
    let error = seccogc::train::Experiment::new(config).build().and_then(|setting| {
        let protocol = setting.config().protocol.clone();
        setting.run(&protocol).map(|_| ())
    });
    error.unwrap_err().to_string()
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |protocol: &str, rest: &str, key: &str, rule: &str| {
        let text = format!("clients = 4\nrounds = 1\n{rest}\n[protocol]\n{protocol}");
        let config: Config = toml::from_str(&text).unwrap();
        let error = refused_run(config);
        assert!(error.contains(key) && error.contains(rule), "{error}");
    };
    refused("kind = 'colrel'", "[cohort]\nsample = 3", "cohort", "for all clients");
    refused("kind = 'colrel'", "[solver]\nkind = 'scaffold'", "protocol.kind", "control vectors");
    refused("kind = 'colrel'", "[participation]\nkind = 'mifa'", "participation.kind", "sum only");
    refused("kind = 'pricer'", "", "protocol.epsilon", "clip_norm");
    refused("kind = 'pricer'\nepsilon = 0.0", "[solver]\nclip_norm = 1.0", "protocol.epsilon", "(0, ∞)");
    refused("kind = 'pricer'\ndelta = 0.0", "[solver]\nclip_norm = 1.0", "protocol.delta", "(0, 1)");
    refused("kind = 'colrel'\narithmetic = 'field'", "", "protocol.arithmetic", "real numbers");
    refused("kind = 'colrel'\nassumed.factor = -1.0", "", "protocol.assumed.factor", "from 0 on");
    refused("kind = 'colrel'\nassumed.client_server = 1.5", "", "protocol.assumed.client_server", "[0, 1]");
    refused("kind = 'colrel'\nassumed.client_server = 1.0", "", "protocol.assumed", "client 1");
    refused(
        "kind = 'colrel'",
        "[network.client_server]\nkind = 'client-outage'",
        "protocol.assumed.client_client",
        "fail together",
    );
}
