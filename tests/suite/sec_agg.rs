//! SecAgg and SecAgg+: the exact sum or an outage for drop-outs in every step, leakage 0 for every coalition
//! that the schemes promise to withstand and some for every other, message sizes, and misbehaving parties.

use std::collections::BTreeSet;
use std::sync::Arc;

use rayon::prelude::*;
use seccogc::algebra::field::{M31, M61, Prime};
use seccogc::algebra::{LinearForm, Scalar};
use seccogc::keys::{FormalKeys, SeededKeys};
use seccogc::message::HEADER_BYTES;
use seccogc::network::{LinkModel, LinkUse, Perfect};
use seccogc::privacy::exact::ExactViews;
use seccogc::privacy::view::Coalition;
use seccogc::protocol::exchange::{formal, run};
use seccogc::protocol::sec_agg::{
    Choice, Cryptographic, Graph, LongShare, Padded, PublicKeys, SecAgg, SecAggMessage, SecAggPlusConfig,
    ShortShare, Uniform,
};
use seccogc::protocol::{Decoded, Input, PartyId, Protocol};
use seccogc::seed::Seed;

use crate::by_rank::Rule;
use crate::refusals::{Deform, withstands};
use crate::two_round::{Vector, inputs};

fn members(set: u32) -> Vec<u16> {
    (0..32).filter(|k| set >> k & 1 == 1).collect()
}

/// Delivers what the clients of `sets[i]`, given as bits, send in phase 2 i; attempts from 1 on lose nothing.
fn steps(sets: [u32; 4]) -> impl LinkModel {
    Rule(move |link: LinkUse| match link.from {
        PartyId::Client(k) => link.attempt > 0 || sets[usize::from(link.transfer)] >> k & 1 == 1,
        _ => true,
    })
}

/// All chains U_1 ⊇ U_2 ⊇ U_3 ⊇ U_4 of sets of clients.
fn chains(clients: usize) -> Vec<[u32; 4]> {
    // Each client leaves in one of the four steps, or stays.
    (0..5u32.pow(clients as u32))
        .map(|mut code| {
            let mut sets = [0; 4];
            for k in 0..clients {
                let steps = code % 5;
                code /= 5;
                (0..steps as usize).for_each(|step| sets[step] |= 1 << k);
            }
            sets
        })
        .collect()
}

fn exact<F: Prime, C: Choice<F>>(
    scheme: &SecAgg<C>,
    x: &[Vector<F>],
    chain: [u32; 4],
    attempts: u32,
) -> Decoded<F> {
    let inputs: Vec<&dyn Input<F>> = x.iter().map(|x| x as _).collect();
    let outcome =
        run(scheme, 1, &inputs, &SeededKeys(Seed::new(9)), &steps(chain), attempts, |_: &_, _, _| {});
    assert_eq!(outcome.refused, []);
    if let Decoded::Sum { sum, included, .. } = &outcome.decoded {
        let mut want = vec![F::ZERO; sum.len()];
        included.iter().for_each(|&k| x[usize::from(k)].add_to(&mut want));
        assert_eq!(*sum, want, "{chain:?}");
    }
    outcome.decoded
}

fn complete<F: Prime, C: Choice<F>>(clients: usize, threshold: usize) {
    let scheme = SecAgg::<C>::new(clients, None, Some(threshold), Seed::new(1)).unwrap();
    let x = inputs::<F>(clients, 5);
    chains(clients).into_par_iter().for_each(|chain| {
        let decoded = exact(&scheme, &x, chain, 1);
        let enough = chain.iter().all(|set| set.count_ones() as usize >= threshold);
        match decoded {
            Decoded::Sum { included, .. } => assert!(enough && included == members(chain[2]), "{chain:?}"),
            Decoded::Estimate { .. } => panic!("{chain:?}"),
            Decoded::Outage(_) => assert!(!enough, "t = {threshold}, {chain:?}"),
        }
    });
}

#[test]
fn exact_sum_for_drop_outs_in_every_step() {
    for threshold in 2..=4 {
        complete::<M61, Cryptographic>(4, threshold);
        complete::<M61, Uniform>(4, threshold);
    }
    complete::<M31, Cryptographic>(3, 2);
    complete::<M31, Uniform>(3, 2);
}

#[test]
fn a_sparse_graph_decodes_when_every_masked_client_has_enough_neighbours() {
    let scheme = SecAgg::<Uniform>::new(5, Some(4), Some(2), Seed::new(1)).unwrap();
    let sparse = SecAgg::<Uniform>::new(5, Some(2), Some(2), Seed::new(1)).unwrap();
    let x = inputs::<M61>(5, 3);
    let count = |scheme: &SecAgg<Uniform>| {
        let sums = chains(5).into_par_iter().filter(|chain| {
            let graph = scheme.graph(1);
            let decoded = exact(scheme, &x, *chain, 1);
            // Where nobody is lost before uploading, the rule is one line.
            if chain[1] == 0b11111 && chain[2] == chain[3] {
                let left = members(chain[2]);
                let enough = |k: u16| left.iter().filter(|v| graph.holds(**v, k)).count() >= 2;
                let masked =
                    |k: u16| left.contains(&k) || graph.neighbours(k).iter().any(|v| left.contains(v));
                let want = !left.is_empty() && (0..5).all(|k| !masked(k) || enough(k));
                assert_eq!(decoded.is_sum(), want, "{chain:?}");
            }
            decoded.is_sum()
        });
        sums.count()
    };
    let (dense, sparse) = (count(&scheme), count(&sparse));
    assert!(sparse > 0 && dense > sparse, "{dense} and {sparse} of {}", 5u32.pow(5));
}

#[test]
fn further_attempts_keep_the_sets_and_decode() {
    let scheme = SecAgg::<Cryptographic>::new(4, None, Some(3), Seed::new(1)).unwrap();
    let x = inputs::<M61>(4, 3);
    let all = 0b1111;
    for (chain, want) in [
        ([0b11, all, all, all], vec![0, 1, 2, 3]),
        ([all, 0b11, all, all], vec![0, 1, 2, 3]),
        ([all, 0b111, 0b11, all], vec![0, 1, 2]),
        ([all, all, 0b1110, 0b11], vec![1, 2, 3]),
    ] {
        assert_eq!(exact(&scheme, &x, chain, 1), Decoded::lost());
        let Decoded::Sum { included, .. } = exact(&scheme, &x, chain, 2) else { panic!("{chain:?}") };
        assert_eq!(included, want, "{chain:?}");
        let views = formal::<M61, _>(&scheme, 4, 1, &FormalKeys, &steps(chain), 2);
        assert_eq!(views.findings(), [], "{chain:?}");
    }
}

/// Leakage for every coalition of the server and clients: 0 if and only if `promised(coalition, U_2, U_3)`.
fn audit<C: Choice<LinearForm<M61>>>(
    scheme: &SecAgg<C>,
    clients: usize,
    promised: impl Fn(u32, u32, u32) -> bool + Sync,
) {
    let all = (1u32 << clients) - 1;
    let sets = (0..=all).flat_map(|second| (0..=second).map(move |third| (second, third)));
    let sets: Vec<(u32, u32)> = sets.filter(|(second, third)| third & !second == 0).collect();
    sets.into_par_iter().for_each(|(second, third)| {
        let views = formal::<M61, _>(scheme, clients, 1, &FormalKeys, &steps([all, second, third, third]), 1);
        let Decoded::Sum { .. } = views.decoded else { return };
        assert_eq!(views.findings(), []);
        for colluders in (0..=all).filter(|colluders| (all & !colluders).count_ones() >= 2) {
            let colluding = members(colluders).into_iter().map(PartyId::Client);
            let coalition = Coalition {
                parties: [PartyId::Server].into_iter().chain(colluding.clone()).collect(),
                links: (0..clients as u16).map(|k| (PartyId::Client(k), PartyId::Server)).collect(),
            };
            let server = views.exposed(&coalition);
            let name = format!("U_2 = {second:b}, U_3 = {third:b}, server + {colluders:b}");
            assert!(server.sum, "{name}");
            let promised = promised(colluders, second, third);
            assert_eq!(server.symbols == 0, promised, "{name}: {:?}", server.counterexample);
            if promised {
                let alone = views.exposed(&Coalition::of(colluding));
                assert_eq!(
                    (alone.symbols, alone.sum),
                    (0, third & !colluders == 0),
                    "{name}, without server"
                );
            }
        }
    });
}

#[test]
fn the_server_with_fewer_than_t_clients_learns_the_sum_alone_and_with_t_everything() {
    for threshold in 2..=4 {
        let scheme = SecAgg::<Cryptographic>::new(4, None, Some(threshold), Seed::new(1)).unwrap();
        audit(&scheme, 4, |colluders, second, third| {
            // Whoever advertised a key can read the shares for it that the server received, whether it went
            // on or not. With t holders each upload is unmasked; if a single one is left, the sum tells as
            // much.
            let unmasked = second & !colluders;
            let nothing = unmasked == 0 || unmasked.count_ones() == 1 && unmasked & third != 0;
            (colluders.count_ones() as usize) < threshold || nothing
        });
    }
}

#[test]
fn over_a_graph_neighbours_and_connections_decide() {
    let scheme = SecAgg::<Cryptographic>::new(5, Some(2), Some(2), Seed::new(1)).unwrap();
    let graph = scheme.graph(1);
    audit(&scheme, 5, |colluders, second, third| {
        let honest = members(second & !colluders);
        let exposed = |k: u16| members(colluders).iter().filter(|&&v| graph.holds(v, k)).count() >= 2;
        // What stays masked: components of honest survivors who are not exposed, told apart by nothing but
        // their sums.
        let (open, masked): (Vec<u16>, Vec<u16>) = honest.iter().partition(|&&k| exposed(k));
        let survivors: Vec<u16> = masked.into_iter().filter(|k| third >> k & 1 == 1).collect();
        let mut left: BTreeSet<u16> = survivors.iter().copied().collect();
        let mut components = 0;
        while let Some(start) = left.pop_first() {
            components += 1;
            let mut queue = vec![start];
            while let Some(k) = queue.pop() {
                for v in graph.neighbours(k) {
                    if left.remove(v) {
                        queue.push(*v);
                    }
                }
            }
        }
        // The sum of all is known: one of the open clients or components follows from the others.
        let told = open.len() + components;
        let allowed = usize::from(honest.iter().any(|k| third >> k & 1 == 1));
        told <= allowed
    });
}

#[test]
fn graphs_are_regular_symmetric_and_fresh() {
    for (clients, degree) in [(5, 2), (5, 4), (8, 3), (10, 6), (101, 20)] {
        let scheme = SecAgg::<Uniform>::new(clients, Some(degree), None, Seed::new(2)).unwrap();
        let graph = scheme.graph(1);
        for k in 0..clients as u16 {
            let neighbours = graph.neighbours(k);
            assert!(neighbours.len() == degree && neighbours.is_sorted_by(|a, b| a < b));
            assert!(!graph.holds(k, k) && neighbours.iter().all(|&v| graph.holds(k, v)));
        }
        assert_eq!(graph, scheme.graph(1));
        assert!(graph != scheme.graph(2) || degree + 1 == clients);
        assert_eq!(scheme.threshold(), (2 * degree).div_ceil(3));
    }
}

/// Bytes of the bodies that client 1 and the server send in every phase.
fn sizes<C: Choice<M61>>(scheme: &SecAgg<C>, clients: usize, len: usize) -> Vec<u64> {
    let x = inputs::<M61>(clients, len);
    let inputs: Vec<&dyn Input<M61>> = x.iter().map(|x| x as _).collect();
    let mut bytes = vec![0; 7];
    run(scheme, 1, &inputs, &SeededKeys(Seed::new(1)), &Perfect, 1, |_: &_, _, link| {
        // Uploads and announcements in turns.
        let phase = 2 * usize::from(link.transfer) + usize::from(link.from == PartyId::Server);
        if [link.from, link.to].contains(&PartyId::Client(0)) {
            bytes[phase] += link.bytes - HEADER_BYTES as u64;
        }
    });
    bytes
}

#[test]
fn messages_have_the_sizes_of_the_papers() {
    let scheme = SecAgg::<Cryptographic>::new(10, None, None, Seed::new(1)).unwrap();
    // Nine others: two keys each; two shares of five words and a tag each; ten shares.
    assert_eq!(sizes(&scheme, 10, 1000), [64, 9 * 66, 9 * 98, 9 * 98, 8000, 2, 10 * 42]);
    let plus = SecAgg::<Cryptographic>::new(10, Some(4), None, Seed::new(1)).unwrap();
    assert_eq!(sizes(&plus, 10, 1000), [64, 4 * 66, 4 * 98, 4 * 98, 8000, 2, 4 * 42]);
    // Uniform keys: shares as long as what they share, of one self mask and nine pairs.
    let uniform = SecAgg::<Uniform>::new(10, None, None, Seed::new(1)).unwrap();
    let long = 9 * (2 + 10 * 8000);
    assert_eq!(sizes(&uniform, 10, 1000), [0, 9 * 2, long, long, 8000, 2, 10 * 8002]);
}

fn deform_list<T: Clone>(list: &mut Arc<Vec<(u16, T)>>, len: &dyn Fn(usize) -> usize) {
    let list = Arc::make_mut(list);
    let first = list[0].clone();
    list.resize(len(list.len()), first);
}

fn upload(upload: &mut Arc<Vec<M61>>, len: &dyn Fn(usize) -> usize) {
    let new = len(upload.len());
    Arc::make_mut(upload).resize(new, M61::ONE);
}

fn set(included: &mut Arc<Vec<u16>>) {
    let included = Arc::make_mut(included);
    included.push(included[0]);
}

impl Deform for SecAggMessage<M61, Cryptographic> {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        match self {
            Self::Keys(public) => *public = PublicKeys::new([0; 32], [0; 32]),
            Self::Roster(list) => {
                let list = Arc::make_mut(list);
                list.push(list[0].clone());
            }
            Self::Shares(list) => deform_list(list, len),
            Self::Forwarded(list) => {
                let list = Arc::make_mut(list);
                list.push(list[0].clone());
            }
            Self::Upload(vector) => upload(vector, len),
            Self::Survivors { included, .. } => set(included),
            Self::Answer(list) => {
                for (_, ShortShare(limbs)) in Arc::make_mut(list) {
                    limbs.resize(len(limbs.len()), M61::ONE);
                }
            }
        }
    }
}

impl Deform for SecAggMessage<M61, Uniform> {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        match self {
            // There is nothing to deform in a message without content.
            Self::Keys(()) => {}
            Self::Roster(list) => {
                let list = Arc::make_mut(list);
                list.push(list[0]);
            }
            // As many as there should be, but of another length.
            Self::Shares(list) | Self::Forwarded(list) => {
                for (_, Padded(sealed, _)) in Arc::make_mut(list) {
                    sealed.resize(len(sealed.len()), M61::ONE);
                }
            }
            Self::Upload(vector) => upload(vector, len),
            Self::Survivors { included, .. } => set(included),
            Self::Answer(list) => {
                for (_, LongShare(shares)) in Arc::make_mut(list) {
                    shares.iter_mut().for_each(|(_, share)| share.resize(len(share.len()), M61::ONE));
                }
            }
        }
    }
}

#[test]
fn misbehaving_parties_count_as_drop_outs() {
    let client = |id: PartyId| matches!(id, PartyId::Client(_));
    fn scheme<C>(degree: Option<usize>) -> SecAgg<C> {
        SecAgg::new(5, degree, Some(3), Seed::new(1)).unwrap()
    }
    withstands("sec-agg", || scheme::<Cryptographic>(None), 5, client);
    withstands("sec-agg, uniform keys", || scheme::<Uniform>(None), 5, client);
    withstands("sec-agg-plus", || scheme::<Cryptographic>(Some(4)), 5, client);
}

#[test]
fn the_same_seed_gives_the_same_masked_uploads() {
    let scheme = SecAgg::<Cryptographic>::new(4, None, None, Seed::new(1)).unwrap();
    let x = inputs::<M61>(4, 40_000);
    let uploads = |round| {
        let inputs: Vec<&dyn Input<M61>> = x.iter().map(|x| x as _).collect();
        let mut seen = Vec::new();
        run(&scheme, round, &inputs, &SeededKeys(Seed::new(1)), &Perfect, 1, |message: &_, _, _| {
            if let SecAggMessage::Upload(upload) = message {
                seen.push(Arc::clone(upload));
            }
        });
        seen
    };
    let first = uploads(1);
    assert_eq!(first, rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| uploads(1)));
    let differ = |a: &[M61], b: &[M61]| a.iter().zip(b).filter(|(a, b)| a != b).count() > 39_990;
    assert!(uploads(2).iter().zip(&first).all(|(a, b)| differ(a, b)), "fresh keys in every round");
    assert!(first.iter().zip(&x).all(|(a, b)| differ(a, &b.0)), "no coordinate is in the clear");
}

#[test]
fn parameters_that_break_a_rule_are_refused() {
    let of = |clients, degree, threshold| {
        SecAgg::<Uniform>::new(clients, degree, threshold, Seed::new(1)).unwrap_err().to_string()
    };
    let tail = "one share must not unmask, and more shares do not exist";
    assert_eq!(
        of(5, None, Some(6)),
        format!("threshold: 6 is out of range; of 5 clients give 2 to 5: {tail}")
    );
    assert_eq!(
        of(5, None, Some(1)),
        format!("threshold: 1 is out of range; of 5 clients give 2 to 5: {tail}")
    );
    assert_eq!(
        of(9, Some(4), Some(5)),
        format!("threshold: 5 is out of range; of 4 neighbours give 2 to 4: {tail}")
    );
    assert_eq!(of(9, Some(9), None), "neighbours: 9 is out of range; of 9 clients give 2 to 8");
    assert_eq!(
        of(9, Some(3), None),
        "neighbours: no graph of 9 clients has 3 neighbours everywhere; take an even number"
    );
    assert_eq!(SecAgg::<Uniform>::new(10, None, None, Seed::new(1)).unwrap().threshold(), 7);
    assert_eq!(
        Protocol::<M61>::phases(&SecAgg::<Uniform>::new(4, None, None, Seed::new(1)).unwrap()).len(),
        7
    );
}

/// What a server that deviates makes of a round over a sparse graph.
struct Deviation<'a> {
    graph: &'a Graph,
    threshold: usize,
    colluders: &'a BTreeSet<u16>,
    /// U_3.
    survivors: &'a BTreeSet<u16>,
    /// With whom each client masks.
    masked: &'a [BTreeSet<u16>],
}

impl Deviation<'_> {
    fn honest_survivors(&self) -> BTreeSet<u16> {
        self.survivors.difference(self.colluders).copied().collect()
    }

    fn answers(&self, v: u16) -> bool {
        let left = || self.graph.neighbours(v).iter().filter(|k| self.survivors.contains(k));
        left().count() >= self.threshold && left().all(|k| self.masked[usize::from(v)].contains(k))
    }

    /// The sets of honest clients of whom a weighted sum is free of masks.
    fn shown(&self) -> Vec<BTreeSet<u16>> {
        let honest = self.honest_survivors();
        let tells = |v: &&u16| self.colluders.contains(v) || honest.contains(v) && self.answers(**v);
        let unmasked = |u: u16| {
            self.masked[usize::from(u)].len() >= self.threshold
                && self.graph.neighbours(u).iter().filter(tells).count() >= self.threshold
        };
        let (mut left, mut shown) = (honest.clone(), Vec::new());
        while let Some(first) = left.pop_first() {
            let (mut together, mut next, mut free) = (BTreeSet::from([first]), vec![first], true);
            while let Some(u) = next.pop() {
                free &= unmasked(u);
                for &v in self.graph.neighbours(u).iter().filter(|v| honest.contains(v)) {
                    let sides = [(u, v), (v, u)].map(|(a, b)| self.masked[usize::from(a)].contains(&b));
                    free &= sides[0] == sides[1];
                    if sides == [true; 2] && together.insert(v) {
                        next.push(v);
                    }
                }
            }
            left.retain(|k| !together.contains(k));
            if free {
                shown.push(together);
            }
        }
        shown
    }
}

/// Whether a server shows itself less than the sum over all honest survivors, when it cuts off those nearest
/// to a client: with colluders at the edge, by losing whoever is beyond it, or by telling neither side of the
/// other.
fn a_part_is_shown(graph: &Graph, threshold: usize, colluders: usize) -> bool {
    let clients = graph.clients() as u16;
    let beyond = |part: &BTreeSet<u16>| -> BTreeSet<u16> {
        let edge = part.iter().flat_map(|k| graph.neighbours(*k)).copied();
        edge.filter(|k| !part.contains(k)).collect()
    };
    let all: BTreeSet<u16> = (0..clients).collect();
    (0..clients).any(|first| {
        let mut part = BTreeSet::from([first]);
        while part.len() + colluders + 1 < usize::from(clients) {
            let edge = beyond(&part);
            let bad: BTreeSet<u16> = edge.iter().copied().take(colluders).collect();
            let lost: BTreeSet<u16> = edge.difference(&bad).copied().collect();
            let everybody: Vec<BTreeSet<u16>> =
                (0..clients).map(|k| graph.neighbours(k).iter().copied().collect()).collect();
            let one_side = |k: u16| -> BTreeSet<u16> {
                let side = |v: &u16| bad.contains(v) || part.contains(v) == part.contains(&k);
                let kept: BTreeSet<u16> = graph.neighbours(k).iter().copied().filter(side).collect();
                if kept.len() < threshold { everybody[usize::from(k)].clone() } else { kept }
            };
            let one_side: Vec<BTreeSet<u16>> = (0..clients).map(one_side).collect();
            let without: BTreeSet<u16> = all.difference(&lost).copied().collect();
            for (survivors, masked) in
                [(&without, &everybody), (&all, &one_side), (&without, &one_side), (&part, &everybody)]
            {
                let colluders = &bad;
                let survivors = &survivors.union(&bad).copied().collect();
                let deviation = Deviation { graph, threshold, colluders, survivors, masked };
                if deviation.shown().iter().any(|shown| *shown != deviation.honest_survivors()) {
                    return true;
                }
            }
            part.insert(*edge.first().unwrap());
        }
        false
    })
}

/// Thresholds beyond ¾ of the neighbours, and what colluders cost, leave a server that chooses the graph
/// nothing to choose; with the default it is shown the sum of a few neighbours.
#[test]
fn no_graph_is_cut_where_the_threshold_is_large() {
    let mut cut = BTreeSet::new();
    for (clients, neighbours) in [(14, 4), (16, 5), (20, 6), (18, 7), (24, 8)] {
        for threshold in 2..=neighbours {
            let config = SecAggPlusConfig { neighbours, threshold: Some(threshold), ..Default::default() };
            for colluders in 0..threshold.min(4) {
                let withstood = config.withstood_in_any_graph().is_some_and(|most| colluders <= most);
                for draw in 0..4 {
                    let graph = Graph::harary(clients, neighbours, &mut Seed::new(draw).rng());
                    let shown = a_part_is_shown(&graph, threshold, colluders);
                    assert!(
                        !(withstood && shown),
                        "{neighbours} neighbours, t = {threshold}, {colluders} collude"
                    );
                    if shown {
                        cut.insert((neighbours, threshold, colluders));
                    }
                }
            }
        }
    }
    assert!(cut.contains(&(6, 4, 2)) && cut.contains(&(4, 2, 0)), "{cut:?}");
}
