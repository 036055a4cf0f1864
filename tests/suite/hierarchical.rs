//! The hierarchical scheme: the paper's matrices, correctness and leakage over erasure patterns, keys that
//! are all needed.
//!
//! What is exhaustive: for N ≤ 10 every N_r and T, every set of N_r helpers and every helper that misses a
//! share; for N ≤ 3 and two clients every pattern of lost uploads and lost sums. Views: for N ≤ 10 every N_r
//! and T, over *all* patterns at once, since the union of what T helpers can receive under any pattern is one
//! view; all sets of T helpers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::by_rank::{Rule, Without, inputs, leakage, subsets, sum};
use nalgebra::DMatrix;
use rand::RngExt;
use rayon::prelude::*;
use seccogc::algebra::field::{M31, Prime, Small};
use seccogc::algebra::linear::row_times;
use seccogc::algebra::quantise::Quantisation;
use seccogc::algebra::{KeyStream, LinearForm, Scalar};
use seccogc::keys::{FormalKeys, KeySource};
use seccogc::message::HEADER_BYTES;
use seccogc::network::{LinkUse, Perfect};
use seccogc::privacy::view::Coalition;
use seccogc::protocol::exchange;
use seccogc::protocol::hierarchical::{Hierarchical, HierarchicalConfig, Matrices};
use seccogc::protocol::{
    Arithmetic, Decoded, Formal, PartyId, ProtocolConfig, Reason, Update, Views, uncoded,
};
use seccogc::seed::Seed;

type F7 = Small<7>;

fn f7(rows: usize, columns: usize, entries: &[u64]) -> DMatrix<F7> {
    DMatrix::from_row_iterator(rows, columns, entries.iter().map(|&n| F7::new(n)))
}

/// Section IV-A: K = 2, N = 4, N_r = 3, T = 1 over F_7 with α_i = i.
#[test]
fn the_matrices_of_the_example_over_f7() {
    let matrices = Hierarchical::<F7>::new(2, 4, 3, 1).unwrap().matrices;
    assert_eq!(matrices.upload, f7(4, 3, &[1, 1, 1, 1, 2, 4, 1, 3, 2, 1, 4, 2]), "(13)");
    assert_eq!(matrices.repair[2], f7(4, 3, &[1, 2, 5, 2, 5, 1, 1, 0, 0, 5, 1, 2]), "S_3");
    assert_eq!(matrices.repair[3], f7(4, 3, &[3, 6, 6, 6, 6, 3, 3, 4, 1, 1, 0, 0]), "S_4");
    assert_eq!(matrices.masks[2], f7(4, 2, &[0, 5, 6, 3, 0, 0, 3, 3]), "(14), left");
    assert_eq!(matrices.masks[3], f7(4, 2, &[5, 3, 2, 6, 5, 5, 0, 0]), "(14), right");
    let row = |entries: [u64; 3]| entries.map(F7::new).to_vec();
    assert_eq!(matrices.missing_share(2, &[0, 1, 3]).unwrap(), row([2, 1, 5]), "(17b)");
    assert_eq!(matrices.missing_share(3, &[0, 1, 2]).unwrap(), row([1, 4, 3]), "(18)");
    // (17c): X_{2,3} = W_1 + 3 W_2 + 2 F and no Q.
    let [v, z] = [&matrices.upload, &matrices.masks[2]].map(|m| m.select_rows(&[0, 1, 3]));
    assert_eq!(row_times(&row([2, 1, 5]), &v), row([1, 3, 2]));
    assert_eq!(row_times(&row([2, 1, 5]), &z), [F7::ZERO; 2]);
}

#[test]
fn parameters_that_break_a_rule_are_refused() {
    let of = |helpers, threshold, colluding| {
        Hierarchical::<F7>::new(2, helpers, threshold, colluding).unwrap_err().to_string()
    };
    assert!(of(4, 2, 2).starts_with("colluding: 2 helpers that may collude could decode"), "{}", of(4, 2, 2));
    assert_eq!(of(1, 1, 0), "helpers: 1 is out of range; give 2 to 1024");
    assert_eq!(of(3, 4, 1), "threshold: 4 is out of range; of 3 helpers give 1 to 3");
    assert_eq!(of(3, 0, 0), "threshold: 0 is out of range; of 3 helpers give 1 to 3");
    assert_eq!(of(5, 3, 1), "helpers: needs 5 + 3 field elements, and the field has 7");
    let points = |points: &[u64]| Matrices::new(2, 1, points.iter().map(|&n| F7::new(n)).collect());
    assert!(points(&[1, 2, 3, 4]).is_ok());
    for wrong in [&[0, 1, 2, 3][..], &[1, 2, 2, 3], &[1, 2], &[1, 8, 2]] {
        assert!(points(wrong).unwrap_err().to_string().contains("distinct field elements other than 0"));
    }
}

/// Every N ≤ 10 and N_r: every set of N_r holders repairs the share of every helper without a mask left, and
/// every set of N_r sums gives the parts of the update alone.
#[test]
fn every_set_of_helpers_repairs_and_decodes() {
    let cases: Vec<(usize, usize)> = (2..=10).flat_map(|n| (1..=n).map(move |r| (n, r))).collect();
    cases.par_iter().for_each(|&(helpers, threshold)| {
        let matrices = Hierarchical::<M31>::new(2, helpers, threshold, 0).unwrap().matrices;
        for holders in subsets(helpers, threshold) {
            let decoding = matrices.decoding(&holders).unwrap();
            for j in 0..threshold {
                let weights: Vec<M31> = decoding.row(j).iter().copied().collect();
                let unit: Vec<M31> = (0..threshold).map(|i| M31::integer(i64::from(i == j))).collect();
                assert_eq!(row_times(&weights, &matrices.upload.select_rows(&holders)), unit);
            }
            for n in (0..helpers).filter(|n| !holders.contains(n)) {
                let weights = matrices.missing_share(n, &holders).unwrap();
                let share: Vec<M31> = matrices.upload.row(n).iter().copied().collect();
                assert_eq!(row_times(&weights, &matrices.upload.select_rows(&holders)), share);
                let masks = row_times(&weights, &matrices.masks[n].select_rows(&holders));
                assert!(masks.iter().all(|&z| z == M31::ZERO), "N={helpers} N_r={threshold} n={n}");
            }
        }
    });
}

/// What must come out of one attempt, from the pattern alone.
fn expected(
    (clients, helpers, threshold): (usize, usize, usize),
    arrives: &dyn Fn(u8, PartyId, PartyId) -> bool,
) -> Result<Vec<u16>, Reason> {
    let (client, helper) = (PartyId::Client, PartyId::Helper);
    let all = || 0..helpers as u16;
    let reporting: Vec<u16> = all().filter(|&n| arrives(1, helper(n), PartyId::Server)).collect();
    let holders = |k: u16| -> Vec<u16> {
        reporting.iter().copied().filter(|&n| arrives(0, client(k), helper(n))).collect()
    };
    let included: Vec<u16> = (0..clients as u16).filter(|&k| holders(k).len() >= threshold).collect();
    if included.len() < 2.min(clients) {
        return Err(if included.is_empty() { Reason::Links } else { Reason::TooFew });
    }
    let complete = |n: u16| {
        let takes_part = included.iter().any(|&k| holders(k).contains(&n));
        takes_part
            && included.iter().all(|&k| {
                let repairs = holders(k).iter().filter(|&&i| arrives(3, helper(i), helper(n))).count();
                holders(k).contains(&n) || repairs >= threshold
            })
    };
    let sums = reporting.iter().filter(|&&n| complete(n) && arrives(4, helper(n), PartyId::Server)).count();
    if sums >= threshold { Ok(included) } else { Err(Reason::Links) }
}

/// The phase of a transfer: shares, reports, repairs, sums.
fn phase(link: LinkUse) -> u8 {
    match (link.from, link.to) {
        (PartyId::Client(_), _) => 0,
        (PartyId::Helper(_), PartyId::Server) => 1 + 3 * link.transfer,
        (PartyId::Helper(_), _) => 3,
        (PartyId::Server, _) => 2,
    }
}

fn check(
    (clients, helpers, threshold, colluding): (usize, usize, usize, usize),
    arrives: &(impl Fn(u8, PartyId, PartyId) -> bool + Sync + Send),
) -> bool {
    let protocol = Hierarchical::<M31>::new(clients, helpers, threshold, colluding).unwrap();
    let links = Rule(|link: LinkUse| arrives(phase(link), link.from, link.to));
    let views = exchange::formal(&protocol, clients, 1, &FormalKeys, &links, 1);
    let want = match expected((clients, helpers, threshold), arrives) {
        Err(reason) => Decoded::Outage(reason),
        Ok(included) => Decoded::exact(sum(&included, views.len), included),
    };
    assert_eq!(views.decoded, want, "K={clients} N={helpers} N_r={threshold} T={colluding}");
    want.is_sum()
}

/// Two clients, N ≤ 3: every pattern of lost uploads, reports and sums.
#[test]
fn every_pattern_of_small_systems_gives_the_sum_or_an_outage() {
    for (helpers, threshold) in [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)] {
        for colluding in 0..threshold {
            let bits = 4 * helpers;
            let decoded = (0u32..1 << bits)
                .into_par_iter()
                .filter(|pattern| {
                    let bit = |i: usize| pattern >> i & 1 == 1;
                    check((2, helpers, threshold, colluding), &|phase, from, to| match (phase, from, to) {
                        (0, PartyId::Client(k), PartyId::Helper(n)) => {
                            bit(usize::from(k) * helpers + usize::from(n))
                        }
                        (1, PartyId::Helper(n), _) => bit(2 * helpers + usize::from(n)),
                        (4, PartyId::Helper(n), _) => bit(3 * helpers + usize::from(n)),
                        _ => true,
                    })
                })
                .count();
            assert!(decoded > 0 && decoded < 1 << bits, "N={helpers} N_r={threshold}: {decoded}");
        }
    }
}

/// Every N ≤ 10, N_r and T: eight seeded patterns of all kinds of losses each.
#[test]
fn seeded_patterns_of_larger_systems_give_the_sum_or_an_outage() {
    let cases: Vec<(usize, usize, usize)> =
        (2..=10).flat_map(|n| (1..=n).flat_map(move |r| (0..r).map(move |t| (n, r, t)))).collect();
    let decoded: usize = cases
        .par_iter()
        .map(|&(helpers, threshold, colluding)| {
            let run = |pattern: u64| {
                let seed =
                    Seed::new(pattern).child("pattern", (helpers * 100 + threshold * 10 + colluding) as u64);
                let density = seed.rng().random_range(0.0..0.3);
                let arrives = move |phase: u8, from: PartyId, to: PartyId| {
                    let link = u64::from(from.code()) << 32 | u64::from(to.code());
                    seed.child("link", link).child("phase", phase.into()).rng().random::<f64>() >= density
                };
                check((3, helpers, threshold, colluding), &arrives)
            };
            (0..8).filter(|&pattern| run(pattern)).count()
        })
        .sum();
    assert!(decoded > cases.len() && decoded < 8 * cases.len(), "{decoded} of {}", 8 * cases.len());
}

/// A symbol of a message by sender and receiver.
type Sent = (PartyId, PartyId, LinearForm<M31>);

/// Every message of the round that can be sent under some pattern in which all `clients` clients are
/// included, by link and content: a run for each client and helper in which this helper alone misses this
/// client's share, and the run without a loss.
fn everything_sent(
    protocol: &Hierarchical<M31>,
    keys: &impl KeySource<LinearForm<M31>>,
) -> (Views<M31>, Vec<Sent>) {
    let clients = protocol.clients;
    let lossless = exchange::formal(protocol, clients, 1, keys, &Perfect, 1);
    let mut sent: Vec<Sent> = Vec::new();
    let add = |views: &Views<M31>, sent: &mut Vec<Sent>| {
        for message in &views.messages {
            for form in &message.forms {
                let entry = (message.link.from, message.link.to, form.clone());
                if !sent.contains(&entry) {
                    sent.push(entry);
                }
            }
        }
    };
    add(&lossless, &mut sent);
    if protocol.matrices.threshold < protocol.matrices.helpers() {
        for k in 0..clients as u16 {
            for n in 0..protocol.matrices.helpers() as u16 {
                let missed = (PartyId::Client(k), PartyId::Helper(n));
                let links = Rule(move |link: LinkUse| (link.from, link.to) != missed);
                add(&exchange::formal(protocol, clients, 1, keys, &links, 1), &mut sent);
            }
        }
    }
    (lossless, sent)
}

/// What the helpers, the clients and perhaps the server hold and receive, and what they may learn.
fn view(
    (views, sent): &(Views<M31>, Vec<Sent>),
    helpers: &[usize],
    users: &[u16],
    server: bool,
) -> (Vec<LinearForm<M31>>, Vec<LinearForm<M31>>) {
    let has = |party: PartyId| match party {
        PartyId::Helper(n) => helpers.contains(&usize::from(n)),
        PartyId::Client(k) => users.contains(&k),
        PartyId::Server => server,
    };
    let own: Vec<LinearForm<M31>> = users.iter().flat_map(|&k| inputs(k, views.len)).collect();
    let received = sent.iter().filter(|(_, to, _)| has(*to)).map(|(.., form)| form.clone());
    let held = views.keys.iter().filter(|(id, _)| has(*id)).flat_map(|(_, forms)| forms.clone());
    let view = received.chain(held).chain(own.clone()).collect();
    let all: Vec<u16> = (0..views.clients as u16).collect();
    let allowed = if server { [own, sum(&all, views.len)].concat() } else { own };
    (view, allowed)
}

/// T helpers with no, one or all of two clients learn nothing, with the server nothing beyond the sum, even
/// from the union of what all erasure patterns could bring them. Fewer helpers see less. The two clients are
/// alike.
fn learn_nothing(helpers: usize, threshold: usize, colluding: usize, coalitions: &[Vec<usize>]) {
    let protocol = Hierarchical::<M31>::new(2, helpers, threshold, colluding).unwrap();
    let everything = everything_sent(&protocol, &FormalKeys);
    for coalition in coalitions {
        for users in [&[][..], &[1], &[0, 1]] {
            for server in [false, true] {
                let (view, allowed) = view(&everything, coalition, users, server);
                let name =
                    format!("N={helpers} N_r={threshold} T={colluding} {coalition:?} {users:?} {server}");
                assert_eq!(leakage(&view, &allowed), 0, "{name}");
            }
        }
    }
}

/// (N, N_r, T) with N in `helpers`.
fn sizes(helpers: impl Iterator<Item = usize>) -> Vec<(usize, usize, usize)> {
    helpers.flat_map(|n| (1..=n).flat_map(move |r| (0..r).map(move |t| (n, r, t)))).collect()
}

/// Every N ≤ 10, N_r and T, and every coalition.
#[test]
fn no_coalition_of_up_to_t_helpers_learns_anything() {
    sizes(2..=10).par_iter().for_each(|&(helpers, threshold, colluding)| {
        learn_nothing(helpers, threshold, colluding, &subsets(helpers, colluding));
    });
}

/// Messages do not depend on the pattern, so that the union of the test above is complete: every message of
/// seeded patterns is in it.
#[test]
fn every_pattern_sends_from_the_same_messages() {
    for (helpers, threshold, colluding) in [(3, 2, 1), (4, 3, 1), (5, 3, 2), (6, 4, 2)] {
        let protocol = Hierarchical::<M31>::new(2, helpers, threshold, colluding).unwrap();
        let (_, sent) = everything_sent(&protocol, &FormalKeys);
        for pattern in 0..60u64 {
            let seed = Seed::new(pattern);
            let links = Rule(move |link: LinkUse| {
                let ends = u64::from(link.from.code()) << 32 | u64::from(link.to.code());
                phase(link) == 1 || seed.child("link", ends).rng().random::<f64>() > 0.2
            });
            let views = exchange::formal(&protocol, 2, 1, &FormalKeys, &links, 1);
            for message in views.messages {
                for form in message.forms {
                    assert!(sent.contains(&(message.link.from, message.link.to, form)), "{:?}", message.link);
                }
            }
        }
    }
}

/// N ≤ 5 with T ≥ 1 and N_r < N: without any one symbol of the keys of client 1, some T helpers learn at
/// least one symbol.
#[test]
fn every_key_symbol_is_needed() {
    let cases: Vec<(usize, usize, usize)> =
        (3..=5).flat_map(|n| (2..n).flat_map(move |r| (1..r).map(move |t| (n, r, t)))).collect();
    cases.par_iter().for_each(|&(helpers, threshold, colluding)| {
        let protocol = Hierarchical::<M31>::new(2, helpers, threshold, colluding).unwrap();
        let blinds = (0..colluding as u16).map(|j| (KeyStream { purpose: "blind", round: 1, a: 0, b: 0 }, j));
        let masks = (0..helpers as u16).flat_map(|n| {
            (0..threshold as u16 - 1).map(move |j| (KeyStream { purpose: "repair", round: 1, a: n, b: 0 }, j))
        });
        for (stream, place) in blinds.chain(masks) {
            let everything = everything_sent(&protocol, &Without(stream, place));
            let most = subsets(helpers, colluding).into_iter().map(|coalition| {
                let (view, allowed) = view(&everything, &coalition, &[], false);
                leakage(&view, &allowed)
            });
            let name = format!("N={helpers} N_r={threshold} T={colluding} {stream:?}({place})");
            assert!(most.max() >= Some(1), "{name}");
        }
        let everything = everything_sent(&protocol, &FormalKeys);
        let more = subsets(helpers, colluding + 1);
        let leak = |coalition: &Vec<usize>| {
            let (view, allowed) = view(&everything, coalition, &[], false);
            leakage(&view, &allowed)
        };
        assert!(more.iter().all(|coalition| leak(coalition) >= 1), "T + 1 helpers are too many");
    });
}

fn updates(clients: usize, len: usize) -> Vec<Update> {
    let mut rng = Seed::new(11).rng();
    let mut delta = || Arc::new((0..len).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>());
    (0..clients).map(|k| Update { weight: 0.5 + k as f64, delta: delta() }).collect()
}

/// Padded inputs, stragglers and bytes: the sum is that of `ideal` over the same field bit by bit, and every
/// message of symbols has 1/(N_r − T) of an update's length.
#[test]
fn rounds_of_real_updates() {
    let (clients, len) = (4, 11);
    let updates = updates(clients, len);
    let config = HierarchicalConfig { quantisation: quantisation(), ..Default::default() };
    let scheme = ProtocolConfig::Hierarchical(config).build(clients, Seed::new(1)).unwrap();
    let arithmetic = Arithmetic::Field;
    let ideal = uncoded::FedAvg { arithmetic, quantisation: Some(quantisation()), ..Default::default() };
    let ideal = ProtocolConfig::FedAvg(ideal).build(clients, Seed::new(1)).unwrap();
    // Client 2 reaches three helpers only; helper 5 misses client 3, helper 1's sum is lost.
    let links = Rule(|link: LinkUse| match (link.from, link.to) {
        (PartyId::Client(1), PartyId::Helper(n)) => n < 3,
        (PartyId::Client(1), PartyId::Server) => false,
        (PartyId::Client(2), PartyId::Helper(4)) => false,
        (PartyId::Helper(0), PartyId::Server) => phase(link) != 4,
        _ => true,
    });
    let got = scheme.aggregate(1, &updates, &links, 1).unwrap();
    let want = ideal.aggregate(1, &updates, &links, 1).unwrap();
    assert_eq!(got.decoded, want.decoded);
    let Decoded::Sum { included, .. } = got.decoded else { panic!("four sums arrive") };
    assert_eq!(included, [0, 2, 3]);
    let message = (HEADER_BYTES + 4 * 8) as u64;
    assert_eq!(got.traffic.client_helper, (clients * 5) as u64 * message);
    assert_eq!(got.traffic.helper_server, 5 * (HEADER_BYTES + 1) as u64 + 5 * message);
    assert_eq!(got.traffic.helper_helper, 4 * (message + 2));
    assert_eq!(got.traffic.server_client, 5 * (HEADER_BYTES + 3 * 3) as u64);
    assert_eq!(got.arrivals, 5 + 4);
}

fn quantisation() -> Quantisation {
    Quantisation { clip: 4.0, bits: 40, ..Default::default() }
}

/// Attempts of one round share the set of clients and the sums, so that the server never sees two different
/// sums.
#[test]
fn retries_show_the_server_one_sum() {
    let (clients, helpers) = (3usize, 4u16);
    let config = HierarchicalConfig {
        helpers: 4,
        threshold: 3,
        least_included: Some(2),
        quantisation: quantisation(),
        ..Default::default()
    };
    let scheme = ProtocolConfig::Hierarchical(config).build(clients, Seed::new(1)).unwrap();
    // First attempt: client 3 straggles and two sums of three arrive; second: client 3 is back, one further
    // sum arrives.
    let links = Rule(move |link: LinkUse| match (link.attempt, link.from, link.to) {
        (0, PartyId::Client(2), PartyId::Helper(n)) => n == 0,
        (attempt, PartyId::Helper(n), PartyId::Server) if phase(link) == 4 => {
            (n < 2 && attempt == 0) || (n + 1 == helpers && attempt == 1)
        }
        _ => true,
    });
    let updates = updates(clients, 5);
    let once = scheme.aggregate(1, &updates, &links, 1).unwrap();
    assert_eq!(once.decoded, Decoded::lost());
    let twice = scheme.aggregate(1, &updates, &links, 2).unwrap();
    let Decoded::Sum { included, .. } = &twice.decoded else { panic!("three sums arrive in all") };
    assert_eq!((included.as_slice(), twice.attempts), (&[0, 1][..], 2));
    let Formal::Field(views) = scheme.formal(1, &links, 2).unwrap() else { panic!("a scheme over a field") };
    assert_eq!(views.findings(), []);
    for helper in 0..helpers {
        let exposed = views.exposed(&Coalition::of([PartyId::Server, PartyId::Helper(helper)]));
        assert_eq!((exposed.symbols, exposed.counterexample), (0, None));
    }
    let by_name: BTreeMap<&str, usize> = [("h1+h2", 2), ("server+h1+h2", 2), ("h1+1+3", 0)]
        .map(|(name, _)| (name, views.exposed(&Coalition::parse(name, clients).unwrap()).symbols))
        .into();
    assert!(by_name["h1+h2"] > 0 && by_name["server+h1+h2"] > 0 && by_name["h1+1+3"] == 0, "{by_name:?}");
}
