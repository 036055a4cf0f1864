use std::sync::Arc;

use super::*;
use crate::message::LinkUse;
use crate::network::{LinkModel, Network};
use crate::party::agreement::KeyPair;
use crate::protocol::Aggregator;
use crate::seed::Seed;

const M: u16 = 6;
const LEN: usize = 9;

fn config(protocol: &str) -> Config {
    let links = "[network.client_client]\nerasure = 0.2\n[network.client_server]\nerasure = 0.2";
    toml::from_str(&format!("clients = {M}\n[protocol]\n{protocol}\n{links}")).unwrap()
}

const SECURE: &str = "kind = \"sec-cogc\"\nkeys = \"pairwise\"\nstragglers = 3";

fn weights(members: u16) -> Vec<f64> {
    let total: f64 = (1..=members).map(f64::from).sum();
    (1..=members).map(|n| f64::from(n) * f64::from(members) / total).collect()
}

fn updates(members: u16) -> Vec<Update> {
    let of = |k: u16| (0..LEN).map(|i| (i as f32 - 2.3) * f32::from(k + 1) / 17.0).collect();
    let weights = weights(members);
    (0..members).map(|k| Update { weight: weights[usize::from(k)], delta: Arc::new(of(k)) }).collect()
}

fn cohort(members: u16, context: &[u8]) -> (Vec<KeyPair>, Vec<Secrets>) {
    let pairs: Vec<KeyPair> = (0..members).map(|_| KeyPair::generate().unwrap()).collect();
    let public: Vec<_> = pairs.iter().map(KeyPair::public).collect();
    let secrets = (0..).zip(&pairs).map(|(k, pair)| pair.agree(k, &public, context).unwrap()).collect();
    (pairs, secrets)
}

/// What the server decodes when every step is made from bytes and the messages meet these links.
fn play(exchange: &Exchange, round: u64, members: u16, links: &Network) -> Decoded<f64> {
    let (updates, (_, secrets)) = (updates(members), cohort(members, b"test"));
    let mut boxes: Vec<Vec<(u16, Vec<u8>)>> = vec![Vec::new(); members.into()];
    let arrives = |from, to, bytes: usize| {
        links.delivers(LinkUse { round, attempt: 0, transfer: 0, from, to, bytes: bytes as u64 }.into())
    };
    for k in 0..members {
        let own = usize::from(k);
        for (to, sealed) in exchange.shares(k, &updates[own], &secrets[own]).unwrap() {
            assert!(exchange.sources(to).contains(&k));
            if arrives(PartyId::Client(k), PartyId::Client(to), sealed.len()) {
                boxes[usize::from(to)].push((k, sealed));
            }
        }
    }
    let mut decoder = exchange.decoder();
    for k in 0..members {
        let own = usize::from(k);
        let arrived = boxes[own].iter().map(|(from, sealed)| (*from, &sealed[..]));
        let summed = exchange.sum(k, &updates[own], &secrets[own], arrived).unwrap();
        assert!(summed.refused.is_empty(), "{:?}", summed.refused);
        if let Some(sum) = summed.sum
            && arrives(PartyId::Client(k), PartyId::Server, sum.len())
        {
            decoder.admit(k, &sum).unwrap();
        }
    }
    decoder.decode()
}

/// Round for round the sum of the simulation over the same losses, bit for bit on a grid, and its outages.
#[test]
fn sums_are_those_of_the_simulation() {
    for protocol in [
        SECURE,
        "kind = \"cogc\"\nstragglers = 3",
        "kind = \"sec-cogc\"\nkeys = \"pairwise\"\nstragglers = 3\narithmetic = \"field\"",
        "kind = \"fedavg\"",
    ] {
        let config = config(protocol);
        let links = config.links().unwrap();
        let public = public_of(&config, &weights(M), LEN);
        let seed = Seed::new(config.seed).child("protocol", 0);
        let scheme: Box<dyn Aggregator> = config.protocol.build_for(M.into(), seed, &public).unwrap();
        let (mut sums, mut outages) = (0, 0);
        for round in 1..=40 {
            let exchange = Exchange::new(&config, &weights(M), LEN, round).unwrap();
            let got = play(&exchange, round, M, &links);
            let want = scheme.aggregate(round, &updates(M), &links, 1).unwrap().decoded;
            match (&got, &want) {
                (Decoded::Sum { sum, included, .. }, Decoded::Sum { sum: other, included: same, .. }) => {
                    sums += 1;
                    // Without one, rounding is another one: by tossed coins, or in single precision.
                    let tossed = protocol.contains("field") || protocol.contains("fedavg");
                    let near = |(x, y): (&f64, &f64)| if tossed { (x - y).abs() < 1e-5 } else { x == y };
                    assert_eq!(included, same, "{protocol}, round {round}");
                    assert!(
                        sum.iter().zip(other).all(near),
                        "{protocol}, round {round}: {sum:?} for {other:?}"
                    );
                }
                _ => {
                    assert_eq!(got.reason(), want.reason(), "{protocol}, round {round}");
                    outages += 1;
                }
            }
        }
        assert!(sums > 5, "{protocol}: {sums} sums");
        assert!(outages > 0 || protocol.contains("fedavg"), "{protocol}");
    }
}

#[test]
fn a_smaller_cohort_has_a_code_of_its_own() {
    let config = Config { network: Default::default(), ..config(SECURE) };
    let exchange = Exchange::new(&config, &weights(3), LEN, 1).unwrap();
    let Decoded::Sum { sum, included, .. } = play(&exchange, 1, 3, &config.links().unwrap()) else {
        panic!()
    };
    assert_eq!(included, [0, 1, 2]);
    let exact = |i: usize| -> f64 {
        updates(3).iter().map(|update| update.weight * f64::from(update.delta[i])).sum()
    };
    assert!(sum.iter().enumerate().all(|(i, x)| (x - exact(i)).abs() < 1e-6));
}

/// A client that goes on elsewhere sends what it would have sent; nothing of it is in another context.
#[test]
fn stored_pairs_send_the_same_bytes() {
    let config = config(SECURE);
    let exchange = Exchange::new(&config, &weights(M), LEN, 4).unwrap();
    let (pairs, secrets) = cohort(M, b"one");
    let public: Vec<_> = pairs.iter().map(KeyPair::public).collect();
    let update = &updates(M)[2];
    let again = KeyPair::restored(&pairs[2].stored());
    assert_eq!(again.public(), pairs[2].public());
    let shares = |secrets: &Secrets| exchange.shares(2, update, secrets).unwrap();
    let first = shares(&secrets[2]);
    assert_eq!(first.len(), 3);
    assert_eq!(first, shares(&again.agree(2, &public, b"one").unwrap()));
    let other = shares(&again.agree(2, &public, b"two").unwrap());
    assert!(first.iter().zip(&other).all(|(a, b)| a.0 == b.0 && a.1 != b.1));

    // Quantisation tosses coins: the same ones.
    let field = self::config(&format!("{SECURE}\narithmetic = \"field\""));
    let exchange = Exchange::new(&field, &weights(M), LEN, 4).unwrap();
    let shares = |secrets: &Secrets| exchange.shares(2, update, secrets).unwrap();
    assert_eq!(shares(&secrets[2]), shares(&again.agree(2, &public, b"one").unwrap()));
}

#[test]
fn what_is_not_a_share_for_us_is_refused_and_lost() {
    let config = config(SECURE);
    let exchange = Exchange::new(&config, &weights(M), LEN, 1).unwrap();
    let (updates, (_, secrets)) = (updates(M), cohort(M, b"test"));
    let shares: Vec<_> = (0..M)
        .map(|k| exchange.shares(k, &updates[usize::from(k)], &secrets[usize::from(k)]).unwrap())
        .collect();
    let from = exchange.sources(0);
    let share = |k: u16, to: u16| shares[usize::from(k)].iter().find(|(m, _)| *m == to).unwrap().1.clone();
    let mut arrived: Vec<(u16, Vec<u8>)> = from.iter().map(|&k| (k, share(k, 0))).collect();
    let sum = |arrived: &[(u16, Vec<u8>)]| {
        exchange
            .sum(0, &updates[0], &secrets[0], arrived.iter().map(|(k, sealed)| (*k, &sealed[..])))
            .unwrap()
    };
    assert!(sum(&arrived).sum.is_some());
    arrived.push(arrived[0].clone());
    let twice = sum(&arrived);
    assert_eq!(twice.refused, [(from[0], "second message in one phase".into())]);
    assert!(twice.sum.is_some());
    arrived.pop();
    arrived[1].1[40] ^= 1;
    let changed = sum(&arrived);
    assert!(changed.sum.is_none(), "a row without one of its shares");
    let line = "a share that was not sealed by this client for us, or was changed";
    assert_eq!(changed.refused, [(from[1], line.into())]);
    let stranger = sum(&[(M + 3, arrived[0].1.clone())]);
    assert_eq!(stranger.refused, [(M + 3, line.into())]);
    let mut decoder = exchange.decoder();
    assert!(decoder.admit(0, b"").is_err() && decoder.admit(0, &[0; 200]).is_err());
    assert_eq!(decoder.decode(), Decoded::lost());
}

#[test]
fn rounds_that_cannot_be_played_so_say_why() {
    let refusal = |protocol: &str, weights: &[f64]| {
        Exchange::new(&config(protocol), weights, LEN, 1).err().unwrap().to_string()
    };
    let seven = [1.0; 7];
    assert_eq!(refusal(SECURE, &seven), "clients: 6 is too small for a cohort of 7");
    assert_eq!(refusal(SECURE, &[1.0, 0.0, 2.0]), "a client of weight 0; weights are positive numbers");
    let spoken = "protocol.kind: its server speaks to its clients, and here they send shares and sums only; take sec-cogc \
                  with keys = \"pairwise\"";
    for protocol in [
        "kind = \"sec-agg\"",
        "kind = \"light-sec-agg\"\nsurvivors = 4",
        "kind = \"fedavg\"\ntransmissions = 2",
    ] {
        assert_eq!(refusal(protocol, &seven[..6]), spoken);
    }
    let dealt = refusal("kind = \"sec-cogc\"\nstragglers = 3", &seven[..6]);
    assert!(dealt.starts_with("protocol.keys: without a dealer"), "{dealt}");
    let exchange = Exchange::new(&config(SECURE), &weights(M), LEN + 1, 1).unwrap();
    let (_, secrets) = cohort(M, b"");
    let short = exchange.shares(0, &updates(M)[0], &secrets[0]).unwrap_err().to_string();
    assert_eq!(short, "an update of 9 coordinates instead of 10");
}
