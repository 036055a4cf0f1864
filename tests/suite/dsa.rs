//! `dsa`: the worked examples, the law of what colluders see, and how often anybody has the sum.

use std::collections::BTreeMap;

use seccogc::algebra::field::Small;
use seccogc::algebra::{KeyStream, Scalar};
use seccogc::audit::{Adversaries, Assumptions, Erasures, audit};
use seccogc::keys::KeySource;
use seccogc::message::{Decoded, LinkUse, PartyId};
use seccogc::network::{LinkModel, NetworkConfig, Node, Perfect};
use seccogc::protocol::dsa::Dsa;
use seccogc::protocol::exchange::run;
use seccogc::protocol::{Input, Message, Protocol, ProtocolConfig, Secret, Update};
use seccogc::seed::Seed;

use crate::two_round::Vector;

/// Z_k of all clients but the last.
struct Keys<const P: u32>(Vec<Small<P>>);

impl<const P: u32> KeySource<Small<P>> for Keys<P> {
    fn fill(&self, name: KeyStream, _: usize, out: &mut [Small<P>]) {
        out.fill(self.0[usize::from(name.a)]);
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [Small<P>]) {
        self.fill(name, chunk, out);
    }

    fn coins(&self, _: KeyStream, _: usize, out: &mut [u8]) {
        out.fill(0);
    }
}

fn symbols<const P: u32>(values: &[i64]) -> Vec<Small<P>> {
    values.iter().map(|x| Small::integer(*x)).collect()
}

fn inputs<const P: u32>(values: &[i64]) -> Vec<Vector<Small<P>>> {
    symbols(values).into_iter().map(|x| Vector(vec![x])).collect()
}

/// Links on which only one client hears anything.
struct Only(u16);

impl LinkModel for Only {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        link.to == Node::Client(self.0.into())
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        f64::NAN
    }
}

#[test]
fn every_client_has_the_sum_of_the_worked_example() {
    let inputs = inputs::<7>(&[3, 5, 1, 6]);
    let inputs: Vec<&dyn Input<Small<7>>> = inputs.iter().map(|x| x as _).collect();
    let (protocol, keys) = (Dsa::new(4).unwrap(), Keys(symbols(&[2, 4, 6])));
    for client in 0..4 {
        let mut sent: BTreeMap<PartyId, Vec<Small<7>>> = BTreeMap::new();
        let outcome = run(&protocol, 1, &inputs, &keys, &Only(client), 1, |message, _, link| {
            sent.insert(link.from, message.reveals().concat());
        });
        assert_eq!(outcome.decoded, Decoded::exact(symbols(&[1]), vec![0, 1, 2, 3]));
        assert_eq!(sent.into_values().collect::<Vec<_>>().concat(), symbols(&[5, 2, 0, 1]));
    }
}

/// Clients 1 and 2 of four over F_3, for all 27 keys: inputs of the others with one sum give one law of what
/// both see, and another sum another.
#[test]
fn colluders_see_the_same_of_all_inputs_with_one_sum() {
    let law = |values: [i64; 4]| {
        let inputs = inputs::<3>(&values);
        let inputs: Vec<&dyn Input<Small<3>>> = inputs.iter().map(|x| x as _).collect();
        let protocol = Dsa::new(4).unwrap();
        let mut counts: BTreeMap<Vec<Small<3>>, u32> = BTreeMap::new();
        for draw in 0..27 {
            let keys = Keys(symbols(&[draw % 3, draw / 3 % 3, draw / 9]));
            let dealt = Protocol::<Small<3>>::deal(&protocol, 1, 1, &keys);
            let mut view: Vec<Small<3>> = dealt[..2].iter().flat_map(|key| key.held().concat()).collect();
            run(&protocol, 1, &inputs, &keys, &Perfect, 1, |message, _, link| {
                if [PartyId::Client(0), PartyId::Client(1)].contains(&link.to) {
                    view.extend(message.reveals().concat());
                }
            });
            *counts.entry(view).or_default() += 1;
        }
        counts
    };
    assert_eq!(law([1, 2, 0, 2]), law([1, 2, 1, 1]));
    assert_ne!(law([1, 2, 0, 2]), law([1, 2, 1, 2]));
}

fn scheme(clients: usize) -> Box<dyn seccogc::protocol::Aggregator> {
    let config: ProtocolConfig = toml::from_str("kind = 'dsa'").unwrap();
    config.build(clients, Seed::new(1)).unwrap()
}

#[test]
fn all_but_three_may_collude() {
    let assumptions = Assumptions {
        input_std: 1.0,
        clip: Some(1.0),
        weights: vec![1.0; 5].into(),
        delta: 1e-5,
        rounds: 10,
        coordinates: None,
    };
    let adversaries = Adversaries { all: 4, coalition: None };
    let audit =
        audit("a", &*scheme(5), Erasures::Worst(Seed::new(1)), 1, &adversaries, &assumptions).unwrap();
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
    for entry in &audit.entries {
        let sum = entry.layer.contains("client") || entry.layer == "neighbour";
        assert_eq!((entry.symbols, entry.sum), (0, sum), "{entry:?}");
        // Of two others the sum tells neither; of one it tells all.
        assert_eq!(entry.lmip_bits > 0.0, entry.layer.contains('4'), "{entry:?}");
    }
    assert!(audit.entries.iter().any(|entry| entry.layer == "server" && entry.lmip_bits == 0.0));
    let few: ProtocolConfig = toml::from_str("kind = 'dsa'").unwrap();
    let line = few.build(2, Seed::new(1)).err().unwrap().to_string();
    assert_eq!(line, "kind: the sum over 2 clients shows each of them the others' update; take at least 3");
}

/// Half of all messages are lost: one of four clients has all three with the probability 1/8. A message that
/// was heard in an attempt is not needed again.
#[test]
fn a_round_has_a_sum_where_anybody_has_it() {
    let network: NetworkConfig = toml::from_str("client_client = { erasure = 0.5 }").unwrap();
    let rounds = 2000;
    let links = network.build(4, rounds, Seed::new(3)).unwrap();
    let scheme = scheme(4);
    let updates: Vec<Update> =
        (0..4u8).map(|k| Update { weight: 1.0, delta: vec![f32::from(k) / 8.0; 3].into() }).collect();
    for (attempts, one) in [(1u32, 0.125f64), (2, 0.75f64.powi(3))] {
        let mut found = 0.0;
        for round in 1..=rounds {
            let played = scheme.aggregate(round, &updates, &links, attempts).unwrap();
            if let Decoded::Sum { sum, included, .. } = played.decoded {
                found += 1.0;
                assert!(included.len() == 4 && sum.iter().all(|x| (x - 0.75).abs() < 1e-3), "{sum:?}");
            }
            let (each, sent) = (26 + 8 * 3, played.attempts as u64 * 12);
            assert_eq!((played.traffic.client_client, played.traffic.client_server), (sent * each, 0));
        }
        let p = 1.0 - (1.0 - one).powi(4);
        let (mean, deviation) = (rounds as f64 * p, (rounds as f64 * p * (1.0 - p)).sqrt());
        // α = 10⁻⁶ at 4.9 standard errors.
        assert!((found - mean).abs() < 4.9 * deviation, "{attempts} attempts: {found} for {mean}");
    }
}
