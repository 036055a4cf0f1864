//! Secure gradient coding with replicated data: every parameter set with N ≤ 14, the paper's Example 1 and
//! what is wrong with it, keys that are all needed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::by_rank::{Rule, Without, inputs, leakage, subsets, sum};
use nalgebra::DMatrix;
use rand::RngExt;
use rayon::prelude::*;
use seccogc::algebra::field::M31;
use seccogc::algebra::linear::{inverse, null_space, product, rank, row_times, solve_left};
use seccogc::algebra::quantise::Quantisation;
use seccogc::algebra::{KeyStream, LinearForm, Scalar, Unknown};
use seccogc::coding::assignment::{
    AssignmentKind, Checked, ReplicatedCode, combined_rank, converse, least_ordered, ordered,
};
use seccogc::keys::{FormalKeys, KeySource};
use seccogc::message::HEADER_BYTES;
use seccogc::network::{LinkUse, Perfect};
use seccogc::privacy::view::Coalition;
use seccogc::protocol::exchange;
use seccogc::protocol::secure_gc::{SecureGc, SecureGcConfig};
use seccogc::protocol::{Arithmetic, Decoded, Formal, PartyId, ProtocolConfig, Update, Views, uncoded};
use seccogc::seed::Seed;

const KINDS: [AssignmentKind; 3] =
    [AssignmentKind::Cyclic, AssignmentKind::FractionalRepetition, AssignmentKind::Combined];

/// Every (kind, N, N_r, m) with N ≤ `most` whose assignment exists.
fn parameters(most: usize) -> Vec<(AssignmentKind, usize, usize, usize)> {
    let mut all = Vec::new();
    for kind in KINDS {
        for servers in 1..=most {
            for responders in 1..=servers {
                let exists = |m: &usize| kind.rank(servers, servers - responders + m, *m).is_some();
                all.extend((1..=responders).filter(exists).map(|m| (kind, servers, responders, m)));
            }
        }
    }
    all
}

fn code(kind: AssignmentKind, servers: usize, responders: usize, m: usize) -> ReplicatedCode<M31> {
    ReplicatedCode::build(kind, servers, responders, m, Seed::new(1)).unwrap().0
}

/// All parameter sets with N ≤ 14: every dataset on M servers, every server with M datasets, no server sends
/// of a gradient that it does not hold, the rank is h, and every set of N_r servers decodes the sum of all
/// gradients, part by part.
#[test]
fn every_code_decodes_from_every_set_of_responders() {
    let all = parameters(14);
    assert!(all.len() > 1000);
    all.par_iter().for_each(|&(kind, servers, responders, m)| {
        let name = format!("{kind:?} N={servers} N_r={responders} m={m}");
        let (code, checked) =
            ReplicatedCode::<M31>::build(kind, servers, responders, m, Seed::new(1)).unwrap();
        let copies = servers - responders + m;
        assert!(code.holders.iter().all(|holders| holders.len() == copies && holders.is_sorted()), "{name}");
        assert!((0..servers).all(|n| code.datasets(n).len() == copies), "{name}");
        assert_eq!(
            (code.rank(), rank(&code.rows)),
            (kind.rank(servers, copies, m).unwrap(), code.rank()),
            "{name}"
        );
        assert!(converse(servers, copies, m) <= code.rank() && code.rank() <= responders, "{name}");
        // Theorem 2: an order in which every server holds a dataset that fewer than m before it hold.
        let order = ordered(&code.holders, servers, m).servers;
        for (i, n) in order.iter().enumerate() {
            let before = |k: &Vec<usize>| order[..i].iter().filter(|n| k.contains(n)).count();
            assert!(!order[..i].contains(n), "{name}");
            assert!(code.holders.iter().any(|k| k.contains(n) && before(k) < m), "{name}");
        }
        assert!(converse(servers, copies, m) <= order.len() && order.len() <= code.rank(), "{name}");
        for n in 0..servers {
            for k in (0..servers).filter(|&k| !code.holders[k].contains(&n)) {
                assert!(code.coefficients(n, k).iter().all(|&c| c == M31::ZERO), "{name}: {n} sends of {k}");
            }
        }
        for columns in &code.columns {
            let top = columns.rows(0, m).into_owned();
            assert_eq!(top, DMatrix::from_fn(m, m, |i, j| M31::integer(i64::from(i == j))), "{name}");
        }
        // The constructor tried them all; here the definition, for a few.
        let sets = subsets(servers, responders);
        assert_eq!(checked, Checked::All(sets.len() as u64), "{name}");
        for set in sets.iter().step_by(1 + sets.len() / 5) {
            let rows = code.rows.select_rows(set);
            for (j, weights) in code.decoding(set).unwrap().iter().enumerate() {
                let unit: Vec<M31> = (0..code.rank()).map(|i| M31::integer(i64::from(i == j))).collect();
                assert_eq!(row_times(weights, &rows), unit, "{name} {set:?}");
            }
        }
    });
}

#[test]
fn ranks_of_theorem_3() {
    // m divides nothing away: N = M, N = 2M, 3M by fractional repetition meet the converse.
    assert_eq!((combined_rank(5, 5, 2), combined_rank(8, 4, 2), combined_rank(12, 4, 2)), (2, 4, 6));
    // (13): h(6, 4) = m + h(2, 2) = 4 for m = 2; (12): h(10, 4) = m + h(6, 4).
    assert_eq!((combined_rank(6, 4, 2), combined_rank(10, 4, 2)), (4, 6));
    // (14) with c = 1: h(5, 3) = 3 for m = 1; (15): h(8, 6) = h(6, 4) = 4.
    assert_eq!((combined_rank(5, 3, 1), combined_rank(8, 6, 2)), (3, 4));
    // M < 2m: cyclic, N_r.
    assert_eq!(combined_rank(7, 5, 3), 5);
    // The corrected (14); for N ≤ 14 it differs from the paper's in these two only.
    assert_eq!((combined_rank(12, 7, 2), combined_rank(13, 7, 2)), (7, 8));
    let refuted: Vec<(usize, usize, usize)> = (1..=14)
        .flat_map(|n| (1..=n).flat_map(move |m| (1..=m).map(move |r| (n, m, r))))
        .filter(|&(n, m, r)| 2 * n >= 3 * m && n < 2 * m && m % 2 == 1 && m > 2 * r)
        .filter(|&(n, m, r)| combined_rank(n, m, r) != n - (3 * m - 1) / 2 + 2 * r)
        .collect();
    assert_eq!(refuted, [(12, 7, 2), (13, 7, 2)]);
    // Beyond, the corrected rank can lie below N_r: (17, 11, 2) has c = 1, (20, 11, 2) c = 4 and N_r = 11.
    assert_eq!((combined_rank(17, 11, 2), combined_rank(18, 11, 2), combined_rank(20, 11, 2)), (5, 7, 11));
}

/// The converse for given assignments, and for all of up to six servers: none does with fewer key symbols
/// than the paper's.
#[test]
fn no_assignment_of_few_servers_is_better_than_the_combined_one() {
    let mut gains = 0;
    for servers in 1..=6 {
        for (copies, m) in (1..=servers).flat_map(|copies| (1..=copies).map(move |m| (copies, m))) {
            let least = least_ordered(servers, copies, m).unwrap();
            assert_eq!(least, combined_rank(servers, copies, m), "N={servers} M={copies} m={m}");
            gains += usize::from(least > converse(servers, copies, m));
        }
    }
    // (11) does not say so for (5, 3, 1) and (6, 4, 2).
    assert_eq!((gains, least_ordered(7, 3, 1)), (2, None));
    // The paper's Example 1 claims h = 6 for an assignment whose order (1, 2, 9, 10, 4, 3, 8) asks for 7.
    let code = code(AssignmentKind::Combined, 12, 7, 2);
    let order = ordered(&code.holders, 12, 2);
    assert_eq!((order.servers.len(), order.is_longest, code.rank()), (7, true, 7));
    // By hand: of cyclic windows of two over four servers, 4, 3, 2 each bring the dataset before; the last
    // has no news. Pairs need one server of each.
    let cyclic: Vec<Vec<usize>> = (0..4).map(|k| vec![(k + 3) % 4, k]).collect();
    let pairs: Vec<Vec<usize>> = (0..4).map(|k| vec![k / 2 * 2, k / 2 * 2 + 1]).collect();
    assert_eq!((ordered(&cyclic, 4, 1).servers.len(), ordered(&pairs, 4, 1).servers.len()), (3, 2));
    // Many servers: an order that was found.
    let cyclic: Vec<Vec<usize>> = (0..24).map(|k| (0..10).map(|i| (k + 24 - i) % 24).collect()).collect();
    let order = ordered(&cyclic, 24, 3);
    assert_eq!((order.servers.len(), order.is_longest), (17, false));
    // What audits print: η = h/m − 1.
    let config: ProtocolConfig = toml::from_str("kind = 'secure-gc'\nresponders = 7\nreduction = 2").unwrap();
    let scheme = config.build(12, Seed::new(1)).unwrap();
    assert_eq!(scheme.scheme().key_size, Some([2.5, 2.5]));
}

/// Where the corrected (14) is neither the paper's nor N_r.
#[test]
fn the_corrected_scheme_3_decodes() {
    let (code, checked) =
        ReplicatedCode::<M31>::build(AssignmentKind::Combined, 18, 9, 2, Seed::new(1)).unwrap();
    assert_eq!((code.rank(), code.holders[0].len(), checked), (7, 11, Checked::All(48_620)));
}

#[test]
fn parameters_that_break_a_rule_are_refused() {
    let refusal = |kind, servers, responders, m| {
        ReplicatedCode::<M31>::build(kind, servers, responders, m, Seed::new(1)).unwrap_err().to_string()
    };
    let cyclic = AssignmentKind::Cyclic;
    assert_eq!(refusal(cyclic, 5, 6, 1), "responders: 6 is out of range; of 5 clients give 1 to 5");
    assert_eq!(refusal(cyclic, 5, 0, 1), "responders: 0 is out of range; of 5 clients give 1 to 5");
    assert_eq!(
        refusal(cyclic, 5, 3, 4),
        "reduction: 4 needs 6 copies of every dataset among 5 clients; give 1 to 3 (responders)"
    );
    assert_eq!(
        refusal(AssignmentKind::FractionalRepetition, 5, 4, 1),
        "assignment: fractional-repetition needs the copies, clients − responders + reduction = 2, to divide the number of \
         clients 5; take \"combined\""
    );
}

/// The paper's (18) and S of Example 1, (N, M, m) = (12, 7, 2), N_r = 7, with the fractions as printed: rows
/// in F_1 … F_6.
fn example_1() -> DMatrix<M31> {
    let quarter = M31::integer(4).inverse().unwrap();
    let third = M31::integer(3).inverse().unwrap();
    let half = M31::integer(2).inverse().unwrap();
    let n = M31::integer;
    let s = [
        [n(2), n(11) * quarter, n(-3) * quarter, quarter],
        [n(4), n(4), n(-2), n(0)],
        [n(2), n(3), n(0), n(-1)],
        [n(8), n(16) * third, n(-4) * third, n(-4) * third],
        [n(6), n(3) * half, n(0), n(-3) * half],
    ];
    let mut rows = vec![
        // X_1 = (F_1 − F_3) + (F_2 − F_4), X_2 = (F_1 − F_3) − (F_2 − F_4).
        [n(1), n(1), n(-1), n(-1), n(0), n(0)],
        [n(1), n(-1), n(-1), n(1), n(0), n(0)],
    ];
    rows.extend(s.map(|[a, b, c, d]| [a + a, b + b, -a, -b, c, d]));
    rows.extend(s.map(|[a, b, c, d]| [n(0), n(0), a, b, c, d]));
    DMatrix::from_fn(12, 6, |i, j| rows[i][j])
}

/// Erratum: with the matrices as printed 82 of the 792 sets of seven responders do not decode, among them {1,
/// 2, 3, 4, 5, 8, 9}; and no other coefficients help, since (1, 2, 9, 10, 4, 3, 8) satisfies the paper's
/// Theorem 2, so that h ≥ 7 for this assignment.
#[test]
fn example_1_does_not_decode() {
    let rows = example_1();
    let decodes = |set: &[usize]| {
        let rows = rows.select_rows(set);
        (0..2).all(|j| {
            let unit: Vec<M31> = (0..6).map(|i| M31::integer(i64::from(i == j))).collect();
            solve_left(&rows, &unit).is_some()
        })
    };
    assert!(!decodes(&[0, 1, 2, 3, 4, 7, 8]));
    let sets = subsets(12, 7);
    let failing = sets.iter().filter(|set| !decodes(set)).count();
    assert_eq!((failing, sets.len()), (82, 792));
    // The assignment of the example.
    let window = |first: usize, length: usize| (0..length).map(move |i| 8 + (first + i) % 5);
    let holds = |server: usize| -> Vec<usize> {
        match server {
            1 | 2 => (1..=7).collect(),
            3..=7 => (1..=3).chain(window(server - 3, 4)).collect(),
            _ => (4..=7).chain(window(server - 8, 3)).collect(),
        }
    };
    let order = [1, 2, 9, 10, 4, 3, 8];
    for (i, &server) in order.iter().enumerate() {
        let before = |k: usize| order[..i].iter().filter(|&&other| holds(other).contains(&k)).count();
        assert!(holds(server).into_iter().any(|k| before(k) <= 1), "(8) for server {server}");
    }
    // What is built instead: rank 7 = N_r.
    assert_eq!(code(AssignmentKind::Combined, 12, 7, 2).rank(), 7);
}

fn views(code: ReplicatedCode<M31>, keys: &impl KeySource<LinearForm<M31>>) -> Views<M31> {
    let servers = code.servers();
    exchange::formal(&SecureGc::new(code), servers, 1, keys, &Perfect, 1)
}

/// N ≤ 14: the view of all N transmissions shows the sum and nothing else; N ≤ 7: with any one key symbol
/// less it shows more.
#[test]
fn all_transmissions_show_the_sum_alone_and_every_key_symbol_is_needed() {
    parameters(14).par_iter().for_each(|&(kind, servers, responders, m)| {
        let code = code(kind, servers, responders, m);
        let name = format!("{kind:?} N={servers} N_r={responders} m={m}");
        let all: Vec<u16> = (0..servers as u16).collect();
        let allowed = sum(&all, m);
        let seen = |views: &Views<M31>| -> Vec<LinearForm<M31>> {
            views.messages.iter().flat_map(|message| message.forms.clone()).collect()
        };
        let complete = views(code.clone(), &FormalKeys);
        assert_eq!(complete.decoded, Decoded::exact(allowed.clone(), all), "{name}");
        assert_eq!(complete.messages.len(), servers, "{name}");
        assert_eq!(leakage(&seen(&complete), &allowed), 0, "{name}");
        if servers <= 7 && servers > 1 {
            // With one client the sum is the update, and h = m leaves no key.
            for i in 0..(code.rank() - m) as u16 {
                let key = KeyStream { purpose: "source", round: 1, a: i, b: i };
                let views = views(code.clone(), &Without(key, 0));
                assert!(leakage(&seen(&views), &allowed) >= 1, "{name}: key {i}");
            }
        }
    });
}

/// The keys of all clients have rank h − m: η = h/m − 1 updates.
#[test]
fn the_source_key_has_the_promised_size() {
    for (kind, servers, responders, m) in parameters(8) {
        let code = code(kind, servers, responders, m);
        let size = kind.rank(servers, servers - responders + m, m).unwrap() - m;
        let dealt: Vec<LinearForm<M31>> =
            views(code, &FormalKeys).keys.into_iter().flat_map(|(_, forms)| forms).collect();
        assert_eq!(dealt.len(), servers, "one symbol a client");
        // The keys as they are dealt, together, over the draws that they are made of.
        let draws: BTreeSet<Unknown> =
            dealt.iter().flat_map(LinearForm::terms).map(|(draw, _)| draw).collect();
        let draws: Vec<Unknown> = draws.into_iter().collect();
        let joint = DMatrix::from_fn(dealt.len(), draws.len(), |n, j| dealt[n].coefficient(draws[j]));
        let name = format!("{kind:?} N={servers} N_r={responders} m={m}");
        assert_eq!((rank(&joint), draws.len()), (size, size), "{name}");
    }
}

/// A client knows the gradients of the shards that it holds and no other; together with the server it may
/// learn more: this scheme covers no collusion.
#[test]
fn a_client_alone_learns_nothing_about_other_shards() {
    let views = views(code(AssignmentKind::Combined, 10, 8, 2), &FormalKeys);
    for n in 0..10u16 {
        let known = &views.holds[usize::from(n)];
        assert_eq!(known.len(), 4);
        let own: Vec<LinearForm<M31>> = known.iter().flat_map(|&k| inputs(k, 2)).collect();
        let held = views
            .keys
            .iter()
            .filter(|(id, _)| *id == PartyId::Client(n))
            .flat_map(|(_, forms)| forms.clone());
        let view: Vec<LinearForm<M31>> = own.iter().cloned().chain(held).collect();
        assert_eq!(leakage(&view, &own), 0);
    }
    let scheme = ProtocolConfig::SecureGc(SecureGcConfig::default()).build(10, Seed::new(1)).unwrap();
    let Formal::Field(views) = scheme.formal(1, &Perfect, 1).unwrap() else {
        panic!("a scheme over a field")
    };
    assert_eq!(views.findings(), []);
    let alone = views.exposed(&Coalition::of([PartyId::Client(3)]));
    assert_eq!((alone.symbols, alone.sum), (0, false));
    let server = views.exposed(&Coalition::of([PartyId::Server]));
    assert_eq!((server.symbols, server.sum), (0, true));
}

/// Ten clients, any eight suffice, over several attempts; sums are those of `ideal` over the same field bit
/// by bit, and a transmission has half an update's length.
#[test]
fn rounds_of_real_updates() {
    let (clients, len) = (10, 7);
    let mut rng = Seed::new(11).rng();
    let mut delta = || Arc::new((0..len).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<f32>>());
    let updates: Vec<Update> =
        (0..clients).map(|k| Update { weight: 0.5 + k as f64 / 8.0, delta: delta() }).collect();
    let quantisation = Quantisation { clip: 4.0, bits: 40, ..Default::default() };
    let ideal = uncoded::Ideal { arithmetic: Arithmetic::Field, quantisation: Some(quantisation.clone()) };
    let ideal = ProtocolConfig::Ideal(ideal).build(clients, Seed::new(1)).unwrap();
    let want = ideal.aggregate(1, &updates, &Perfect, 1).unwrap().decoded;
    for assignment in [AssignmentKind::Cyclic, AssignmentKind::Combined] {
        let config = SecureGcConfig { assignment, quantisation: quantisation.clone(), ..Default::default() };
        let scheme = ProtocolConfig::SecureGc(config).build(clients, Seed::new(1)).unwrap();
        assert_eq!(scheme.holders().unwrap().len(), clients);
        for lost in subsets(clients, 2) {
            let links = Rule(|link: LinkUse| match link.from {
                PartyId::Client(n) => !lost.contains(&usize::from(n)),
                _ => true,
            });
            let got = scheme.aggregate(1, &updates, &links, 1).unwrap();
            assert_eq!(got.decoded, want, "{assignment:?} without {lost:?}");
            assert_eq!(got.traffic.client_server, (clients * (HEADER_BYTES + 4 * 8)) as u64);
        }
        // Three in the first attempt, six others in the second.
        let links = Rule(|link: LinkUse| match link.from {
            PartyId::Client(n) => (n < 3) == (link.attempt == 0) && n != 9,
            _ => true,
        });
        assert_eq!(scheme.aggregate(1, &updates, &links, 1).unwrap().decoded, Decoded::lost());
        let twice = scheme.aggregate(1, &updates, &links, 2).unwrap();
        assert_eq!((twice.decoded, twice.attempts), (want.clone(), 2));
    }
}

/// The construction of F_k by hand: N = 3, N_r = 2, m = 1, M = 2; s_n F_k = 0 for the one client without
/// shard k.
#[test]
fn columns_vanish_where_a_shard_is_missing() {
    let code = code(AssignmentKind::Cyclic, 3, 2, 1);
    for k in 0..3 {
        let without = (0..3).find(|n| !code.holders[k].contains(n)).unwrap();
        let row = code.rows.row(without).into_owned();
        // F_k = (1, −s_1/s_2)ᵀ.
        let ratio = -(row[0] * row[1].inverse().unwrap());
        assert_eq!((code.columns[k][(0, 0)], code.columns[k][(1, 0)]), (M31::ONE, ratio));
        let null = null_space(&DMatrix::from_row_slice(1, 2, row.as_slice()));
        assert_eq!(rank(&null), 1);
    }
    // The cyclic code has rank N_r, so that its first rows are invertible.
    let square = code.rows.rows(0, 2).into_owned();
    let unit = product(&square, &inverse(&square).unwrap());
    assert_eq!(unit, DMatrix::from_fn(2, 2, |i, j| M31::integer(i64::from(i == j))));
}
