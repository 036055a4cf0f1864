//! The two-round schemes: the exact sum for every pair of survivor sets, small fields, lost shares, further
//! attempts and many clients.

mod secrecy;
mod theorems;

use rayon::prelude::*;
use seccogc::algebra::extension::F7Pow5;
use seccogc::algebra::field::{Field, M31, M61, Small};
use seccogc::algebra::{Scalar, Symbol};
use seccogc::keys::SeededKeys;
use seccogc::message::HEADER_BYTES;
use seccogc::network::{LinkModel, LinkUse, Node};
use seccogc::privacy::view::Coalition;
use seccogc::protocol::exchange::run;
use seccogc::protocol::groupwise::{Groupwise, GroupwiseConfig};
use seccogc::protocol::light_sec_agg::{LightSecAgg, LightSecAggConfig};
use seccogc::protocol::two_round::{Rounds, TwoRound};
use seccogc::protocol::zhao_sun::{ZhaoSun, ZhaoSunConfig};
use seccogc::protocol::{Aggregator, Decoded, Formal, Input, PartyId, ProtocolConfig};
use seccogc::seed::Seed;

type F7 = Small<7>;

/// Delivers the uploads of `first` and the answers of `second`, given as bits; attempts from 1 on lose
/// nothing.
struct Survivors {
    first: u32,
    second: u32,
}

impl LinkModel for Survivors {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let (Node::Client(k), Node::Server) = (link.from, link.to) else { return true };
        let set = if link.transfer == 0 { self.first } else { self.second };
        link.attempt > 0 || set >> k & 1 == 1
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        0.5
    }
}

fn members(set: u32) -> Vec<u16> {
    (0..32).filter(|k| set >> k & 1 == 1).collect()
}

/// An input of field symbols.
pub struct Vector<F>(pub Vec<F>);

impl<F: Field> Input<F> for Vector<F> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn add_to(&self, y: &mut [F]) {
        F::axpy(y, F::ONE, &self.0);
    }
}

/// Seeded inputs.
pub fn inputs<F: Field>(clients: usize, len: usize) -> Vec<Vector<F>> {
    let mut rng = Seed::new(5).rng();
    let mut draw = || {
        let mut x = vec![F::ZERO; len];
        F::sample(&mut rng, &mut x);
        Vector(x)
    };
    (0..clients).map(|_| draw()).collect()
}

/// Every (U_1, U_2), also those below U: the exact sum over U_1 if both have U members, else an outage.
fn sums_for_every_pair<F: Field, C: TwoRound<F>>(name: &str, scheme: C, len: usize) {
    let (clients, survivors) = (scheme.clients(), scheme.survivors());
    let inputs = inputs::<F>(clients, len);
    let inputs: Vec<&dyn Input<F>> = inputs.iter().map(|x| x as _).collect();
    let protocol = Rounds::new(scheme);
    let keys = SeededKeys(Seed::new(9));
    for first in 0..1u32 << clients {
        for second in (0..=first).filter(|second| second & !first == 0) {
            let links = Survivors { first, second };
            let decoded = run(&protocol, 1, &inputs, &keys, &links, 1, |_, _, _| {}).decoded;
            let want = if second.count_ones() as usize >= survivors {
                let included = members(first);
                let mut sum = vec![F::ZERO; len];
                included.iter().for_each(|&k| inputs[usize::from(k)].add_to(&mut sum));
                Decoded::exact(sum, included)
            } else {
                Decoded::lost()
            };
            assert_eq!(decoded, want, "{name}: U1 = {first:b}, U2 = {second:b}");
        }
    }
}

/// (K, U, T) with T < U ≤ K, and (K, U, S) with U ≤ K, 2 ≤ S ≤ K.
fn parameters(most: usize) -> (Vec<[usize; 3]>, Vec<[usize; 3]>) {
    let of = |range: fn(usize, usize) -> std::ops::Range<usize>| {
        (2..=most)
            .flat_map(|k| (1..=k).map(move |u| (k, u)))
            .flat_map(|(k, u)| range(k, u).map(move |last| [k, u, last]))
            .collect()
    };
    (of(|_, u| 0..u), of(|k, _| 2..k + 1))
}

#[test]
fn exact_sum_over_u1_for_every_u1_u2_and_all_parameters_up_to_six_clients() {
    let (zhao_sun, groupwise) = parameters(6);
    assert_eq!((zhao_sun.len(), groupwise.len()), (55, 70));
    zhao_sun.into_par_iter().for_each(|[k, u, t]| {
        let name = format!("zhao-sun K={k} U={u} T={t}");
        sums_for_every_pair::<M61, _>(&name, ZhaoSun::<M61>::new(k, u, t).unwrap(), 7);
        sums_for_every_pair::<M31, _>(&name, ZhaoSun::<M31>::new(k, u, t).unwrap(), 5);
        let name = format!("light-sec-agg K={k} U={u} T={t}");
        sums_for_every_pair::<M61, _>(&name, LightSecAgg::<M61>::new(k, u, t).unwrap(), 7);
    });
    groupwise.into_par_iter().for_each(|[k, u, s]| {
        let name = format!("groupwise K={k} U={u} S={s}");
        let seed = Seed::new(3);
        sums_for_every_pair::<M61, _>(&name, Groupwise::<M61>::new(k, u, s, seed).unwrap(), 7);
        sums_for_every_pair::<M31, _>(&name, Groupwise::<M31>::new(k, u, s, seed).unwrap(), 53);
        sums_for_every_pair::<F7Pow5, _>(&name, Groupwise::<F7Pow5>::new(k, u, s, seed).unwrap(), 11);
    });
}

#[test]
fn small_fields_work_where_their_points_and_draws_suffice() {
    // K + U ≤ 7.
    sums_for_every_pair::<F7, _>("zhao-sun over F_7", ZhaoSun::<F7>::new(4, 3, 1).unwrap(), 5);
    let error = ZhaoSun::<F7>::new(4, 4, 1).unwrap_err().to_string();
    assert_eq!(
        error,
        "quantisation.modulus: a field of 7 elements has no 4 + 4 distinct points; take a larger modulus"
    );
    // The paper's example; most draws over F_7 do not decode and are drawn again.
    sums_for_every_pair::<F7, _>(
        "groupwise over F_7",
        Groupwise::<F7>::new(5, 2, 3, Seed::new(1)).unwrap(),
        10,
    );
    let error = Groupwise::<Small<2>>::new(6, 3, 3, Seed::new(1)).unwrap_err().to_string();
    assert!(error.starts_with("quantisation.modulus: 2048 draws over a field of 2 elements"), "{error}");
}

/// The paper's inputs over F_7, packed by fives: (K, U, S) of its example and of two more shapes, every U_1.
#[test]
fn sums_over_f_7_of_packed_symbols() {
    let len = 33;
    for [k, u, s] in [[5, 2, 3], [5, 4, 2], [6, 3, 4]] {
        let plain = inputs::<F7>(k, len);
        let packed: Vec<Vector<F7Pow5>> = plain.iter().map(|x| Vector(F7Pow5::pack(&x.0))).collect();
        let packed: Vec<&dyn Input<F7Pow5>> = packed.iter().map(|x| x as _).collect();
        let protocol = Rounds::new(Groupwise::<F7Pow5>::new(k, u, s, Seed::new(3)).unwrap());
        for first in (0..1u32 << k).filter(|first| first.count_ones() as usize >= u) {
            let links = Survivors { first, second: first };
            let keys = SeededKeys(Seed::new(9));
            let mut uploads = Vec::new();
            let observe = |_: &_, _, link: LinkUse| {
                if link.to == PartyId::Server && link.transfer == 0 {
                    uploads.push(link.bytes as usize - HEADER_BYTES);
                }
            };
            let decoded = run(&protocol, 1, &packed, &keys, &links, 1, observe).decoded;
            let Decoded::Sum { sum, included, .. } = decoded else { panic!("{k} {u} {s} {first:b}") };
            assert_eq!(included, members(first));
            let terms: Vec<_> =
                included.iter().map(|&k| (F7::ONE, plain[usize::from(k)].0.as_slice())).collect();
            assert_eq!(F7Pow5::unpack(&sum)[..len], F7::combine(len, &terms));
            // Seven packed symbols of two bytes, padded to U D and R1 times as many.
            let scheme = protocol.scheme();
            let padded = 7usize.next_multiple_of(TwoRound::<F7Pow5>::unit(scheme));
            assert_eq!(uploads, vec![2 * TwoRound::<F7Pow5>::mask_len(scheme, padded); k]);
        }
    }
}

fn zhao_sun(clients: usize, survivors: usize, colluders: usize) -> Box<dyn Aggregator> {
    let config = ZhaoSunConfig { survivors, colluders, least_included: Some(1), ..Default::default() };
    ProtocolConfig::ZhaoSun(config).build(clients, Seed::new(1)).unwrap()
}

fn light_sec_agg(clients: usize, survivors: usize, colluders: usize) -> Box<dyn Aggregator> {
    let config = LightSecAggConfig { survivors, colluders, least_included: Some(1), ..Default::default() };
    ProtocolConfig::LightSecAgg(config).build(clients, Seed::new(1)).unwrap()
}

fn groupwise(clients: usize, survivors: usize, group_size: usize) -> Box<dyn Aggregator> {
    let config = GroupwiseConfig { survivors, group_size, least_included: Some(1), ..Default::default() };
    ProtocolConfig::Groupwise(config).build(clients, Seed::new(1)).unwrap()
}

/// The adversary of (6) and (7): the server, whom every message reaches after all, with these clients.
fn with_server(clients: usize, colluders: u32) -> Coalition {
    let colluding = members(colluders).into_iter().map(PartyId::Client);
    Coalition {
        parties: [PartyId::Server].into_iter().chain(colluding).collect(),
        links: (0..clients as u16).map(|k| (PartyId::Client(k), PartyId::Server)).collect(),
    }
}

/// Loses the shares between the given senders and receivers.
struct Unshared(&'static [(u32, u32)]);

impl LinkModel for Unshared {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let lost = |&(from, to): &(u32, u32)| (link.from, link.to) == (Node::Client(from), Node::Client(to));
        !self.0.iter().any(lost)
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        0.5
    }
}

#[test]
fn who_lacks_a_share_does_not_answer() {
    let (clients, survivors) = (4, 3);
    let inputs = inputs::<M61>(clients, 5);
    let inputs: Vec<&dyn Input<M61>> = inputs.iter().map(|x| x as _).collect();
    let protocol = Rounds::new(LightSecAgg::<M61>::new(clients, survivors, 1).unwrap());
    let keys = SeededKeys(Seed::new(2));
    let mut sum = vec![M61::ZERO; 5];
    inputs.iter().for_each(|input| input.add_to(&mut sum));
    for (lost, want) in [
        (&[][..], Decoded::exact(sum.clone(), vec![0, 1, 2, 3])),
        (&[(0, 1), (2, 1)], Decoded::exact(sum, vec![0, 1, 2, 3])),
        (&[(0, 1), (1, 2)], Decoded::lost()),
    ] {
        let mut bytes = 0;
        let is_share = |link: LinkUse| link.from != PartyId::Server && link.to != PartyId::Server;
        let count = |_: &_, _, link: LinkUse| bytes += if is_share(link) { link.bytes as usize } else { 0 };
        let decoded = run(&protocol, 1, &inputs, &keys, &Unshared(lost), 1, count).decoded;
        assert_eq!(decoded, want);
        // d = 5 is padded to 6; K (K − 1) shares of 6/(U − T) symbols.
        assert_eq!(bytes, 4 * 3 * (HEADER_BYTES + 3 * M61::BYTES));
    }
}

#[test]
fn attempts_of_a_round_keep_the_survivor_set_and_show_nothing_more() {
    for scheme in [zhao_sun(4, 3, 1), light_sec_agg(4, 3, 1), groupwise(4, 3, 3)] {
        for (first, second, attempts, included) in [
            // Two uploads at first, all four in the second attempt.
            (0b0011, 0b1111, 2, vec![0, 1, 2, 3]),
            // The set of the first attempt stays, although client 4's upload arrives in the second.
            (0b0111, 0b0011, 2, vec![0, 1, 2]),
            (0b0111, 0b0111, 1, vec![0, 1, 2]),
        ] {
            let links = Survivors { first, second };
            let Formal::Field(views) = scheme.formal(1, &links, 3).unwrap() else { panic!("a field") };
            assert_eq!(views.findings(), []);
            let server = views.exposed(&with_server(4, 0));
            assert_eq!((server.symbols, server.sum), (0, true), "{:?}", server.counterexample);
            let updates: Vec<_> = (0..4)
                .map(|k| seccogc::protocol::Update { weight: 1.0, delta: vec![0.25 * k as f32; 7].into() })
                .collect();
            let aggregate = scheme.aggregate(1, &updates, &links, 3).unwrap();
            assert_eq!(aggregate.attempts, attempts);
            let Decoded::Sum { sum, included: got, .. } = aggregate.decoded else { panic!("recovered") };
            assert_eq!(got, included);
            let want: f64 = included.iter().map(|&k| 0.25 * f64::from(k)).sum();
            assert!(sum.iter().all(|sum| (sum - want).abs() < 1e-6), "{sum:?}");
        }
    }
}

#[test]
fn a_hundred_clients() {
    let scheme = zhao_sun(100, 60, 20);
    let updates: Vec<_> = (0..100)
        .map(|k| seccogc::protocol::Update { weight: 1.0, delta: vec![k as f32 / 128.0; 1000].into() })
        .collect();
    let links = Survivors { first: u32::MAX, second: u32::MAX };
    struct Lossy(Survivors);
    impl LinkModel for Lossy {
        fn delivers(&self, link: LinkUse<Node>) -> bool {
            let Node::Client(k) = link.from else { return true };
            if link.transfer == 0 { k % 5 != 0 } else { k % 4 != 0 }
        }
        fn erasure(&self, from: Node, to: Node, round: u64) -> f64 {
            self.0.erasure(from, to, round)
        }
    }
    let Decoded::Sum { sum, included, .. } = scheme.aggregate(1, &updates, &Lossy(links), 1).unwrap().decoded
    else {
        panic!("80 uploads and 60 answers arrive")
    };
    assert_eq!(included, (0..100).filter(|k| k % 5 != 0).collect::<Vec<u16>>());
    // The step is 1/(2²³ − 1).
    let want: f64 = included.iter().map(|&k| f64::from(k) / 128.0).sum();
    assert!(sum.iter().all(|sum| (sum - want).abs() < 80.0 / 2f64.powi(23)), "{} for {want}", sum[0]);
}
