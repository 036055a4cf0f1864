//! The decoder `gc-plus-partial`: the largest determined sum for every pattern of lost messages, how often
//! there is one, repeats, and what it would take under keys.

use std::collections::HashSet;
use std::sync::Arc;

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use seccogc::algebra::field::M61;
use seccogc::algebra::grid::Public;
use seccogc::algebra::linear::rank;
use seccogc::algebra::{LinearForm, Scalar, Unknown};
use seccogc::audit::erasures::Lost;
use seccogc::coding::{CodeKind, Coefficient, partial, solve};
use seccogc::keys::{FormalKeys, KeyKind};
use seccogc::message::{Decoded, LinkUse, Observed, PartyId, Views};
use seccogc::network::{LinkModel, NetworkConfig, Node, Perfect};
use seccogc::privacy::defect::Defect;
use seccogc::privacy::exact::ExactViews;
use seccogc::privacy::view::Coalition;
use seccogc::protocol::cogc::{CoGc, CoGcConfig, Codes, DecoderKind};
use seccogc::protocol::exchange::formal;
use seccogc::protocol::{Aggregate, Aggregator, ProtocolConfig, Reason, Update};
use seccogc::recover::{Estimate, Sizes, closed_form, estimate};
use seccogc::seed::Seed;

const SERVER: PartyId = PartyId::Server;

fn client(k: usize) -> PartyId {
    PartyId::Client(k as u16)
}

fn config(code: CodeKind, stragglers: usize) -> CoGcConfig {
    let decoder = DecoderKind::GcPlusPartial;
    CoGcConfig { code, stragglers: stragglers.into(), decoder, ..CoGcConfig::default() }
}

fn build(clients: usize, config: CoGcConfig) -> Box<dyn Aggregator> {
    ProtocolConfig::CoGc(config).build(clients, Seed::new(1)).unwrap()
}

fn updates(clients: usize) -> Vec<Update> {
    let delta = |k: usize| Arc::new((0..3).map(|i| ((k * 5 + i) as f32 * 0.7).sin()).collect());
    (0..clients).map(|k| Update { weight: 0.5 + k as f64, delta: delta(k) }).collect()
}

/// The clients of a decoded sum, which must be right.
fn included(updates: &[Update], aggregate: &Aggregate) -> Vec<u16> {
    if let Decoded::Sum { sum, included, .. } = &aggregate.decoded {
        for (i, got) in sum.iter().enumerate() {
            let own = |&k: &u16| updates[usize::from(k)].weight * f64::from(updates[usize::from(k)].delta[i]);
            let want: f64 = included.iter().map(own).sum();
            assert!((got - want).abs() < 1e-6, "{included:?}: {got} for {want}");
        }
    }
    aggregate.decoded.included().to_vec()
}

/// The messages of one attempt.
fn uses(scheme: &dyn Aggregator) -> Vec<(u32, u8, PartyId, PartyId)> {
    let formal = scheme.formal(1, &Perfect, 1).unwrap();
    formal.links().into_iter().map(|(l, _)| (l.attempt, l.transfer, l.from, l.to)).collect()
}

fn pattern(uses: &[(u32, u8, PartyId, PartyId)], choice: u32) -> Lost {
    Lost((0..uses.len()).filter(|i| choice >> i & 1 == 1).map(|i| uses[i]).collect())
}

/// What reached the server, as rows of coefficients over the inputs.
fn rows<K: Scalar>(views: &Views<K>) -> Vec<Vec<K>> {
    let arrived = views.messages.iter().filter(|m| m.delivered && m.link.to == SERVER);
    let row = |message: &Observed<K>| -> Vec<K> {
        (0..views.clients as u16).map(|k| message.forms[0].coefficient(Unknown::Input(k, 0))).collect()
    };
    arrived.map(row).collect()
}

/// Sets of clients as bits, the largest last.
fn sets(clients: usize) -> Vec<u32> {
    let mut sets: Vec<u32> = (1..1 << clients).collect();
    sets.sort_by_key(|set| set.count_ones());
    sets
}

fn bits(clients: &[u16]) -> u32 {
    clients.iter().map(|k| 1 << k).sum()
}

/// The protocol over a field, with keys of a kind or none.
fn protocol(kind: CodeKind, clients: usize, stragglers: usize, keys: Option<KeyKind>) -> CoGc<M61> {
    let code = Arc::new(M61::code(kind, clients, stragglers, Seed::new(1)).unwrap());
    let codes = Codes::new(code, Some((Seed::new(1), f64::INFINITY))).with_partial_sums();
    let keys = keys.map(|kind| (kind.into(), 1.0));
    CoGc { codes: codes.into(), keys, link_std: 0.0, grid: None, public: Public::default(), least: 1 }
}

#[test]
fn every_pattern_gives_a_largest_determined_sum_over_the_field() {
    for (kind, clients, stragglers) in [
        (CodeKind::CyclicRandom, 3, 1),
        (CodeKind::CyclicRandom, 4, 2),
        (CodeKind::FractionalRepetition, 4, 1),
        (CodeKind::FractionalRepetition, 3, 2),
    ] {
        let protocol = protocol(kind, clients, stragglers, None);
        let scheme = build(clients, config(kind, stragglers));
        let uses = uses(&*scheme);
        let sizes: HashSet<usize> = (0..1u32 << uses.len())
            .into_par_iter()
            .map(|choice| {
                let links = pattern(&uses, choice);
                let views = formal::<M61, _>(&protocol, clients, 1, &FormalKeys, &links, 1);
                let rows = rows(&views);
                let of = |rows: &[Vec<M61>]| rank(&DMatrix::from_fn(rows.len(), clients, |i, j| rows[i][j]));
                let is_determined = |set: u32| {
                    let target = (0..clients).map(|k| M61::integer(i64::from(set >> k & 1))).collect();
                    of(&rows) == of(&[rows.clone(), vec![target]].concat())
                };
                let found: Vec<u32> = sets(clients).into_iter().filter(|&set| is_determined(set)).collect();
                let largest = found.last().map_or(0, |set| set.count_ones());
                let got = views.decoded.included();
                assert_eq!(got.len() as u32, largest, "{kind:?} M={clients} lost {links:?}");
                let single = found.iter().filter(|set| set.count_ones() == 1).fold(0, |all, set| all | set);
                assert_eq!(single & !bits(got), 0, "every single client is in it");
                if let Decoded::Sum { sum, included, .. } = &views.decoded {
                    let want = included.iter().map(|&k| (Unknown::Input(k, 0), M61::ONE));
                    assert!(sum[0].terms().eq(want), "{:?} over {included:?}", sum[0]);
                }
                got.len()
            })
            .collect();
        assert!(sizes.contains(&0) && sizes.contains(&1) && sizes.contains(&clients), "{sizes:?}");
    }
}

/// In floating point: what is found is right, is as large as sets that are tried one by one, and is the sum
/// over all whenever `gc-plus` finds it.
#[test]
fn every_pattern_gives_a_largest_determined_sum_in_floating_point() {
    for (kind, clients, stragglers) in
        [(CodeKind::CyclicRandom, 3, 1), (CodeKind::CyclicMds, 4, 1), (CodeKind::FractionalRepetition, 4, 1)]
    {
        let scheme = build(clients, config(kind, stragglers));
        let plus = build(clients, CoGcConfig { decoder: DecoderKind::GcPlus, ..config(kind, stragglers) });
        let (updates, uses) = (updates(clients), uses(&*scheme));
        let more: usize = (0..1u32 << uses.len())
            .into_par_iter()
            .map(|choice| {
                let links = pattern(&uses, choice);
                let got = included(&updates, &scheme.aggregate(1, &updates, &links, 1).unwrap());
                let rows = rows(&scheme.views(1, &links, 1).unwrap());
                let matrix = DMatrix::from_fn(rows.len(), clients, |i, j| rows[i][j]);
                let is_determined = |set: &u32| {
                    let target = DVector::from_fn(clients, |k, _| f64::from(*set >> k & 1));
                    solve(&matrix, &target).is_some()
                };
                let largest = sets(clients).into_iter().filter(is_determined).map(u32::count_ones).max();
                assert_eq!(got.len() as u32, largest.unwrap_or(0), "{kind:?} M={clients} lost {links:?}");
                let whole = plus.aggregate(1, &updates, &links, 1).unwrap().decoded.is_sum();
                assert_eq!(whole, got.len() == clients, "{kind:?} M={clients} lost {links:?}");
                usize::from(!whole && !got.is_empty())
            })
            .sum();
        assert!(more > 20, "{kind:?} M={clients}: {more}");
    }
}

/// Groups of two under a fractional repetition with p = q = 0.4. A client's upload arrives with both updates
/// with probability 0.36, with its own alone with 0.24. So a group's sum is determined with f = 1 − 0.64² +
/// 0.24² = 0.648 (both sent their own, or one sent both), no single update of it with n = 0.76² = 0.5776, and
/// the sum but no single one with b = n − 0.4² = 0.4176. Of the rounds that fail, a share of 1 − (nᴳ − bᴳ)/(1
/// − fᴳ) determines a client: 83.5 % for three groups, 94.2 % for five. Some partial sum is determined unless
/// all uploads are lost: in all but 0.16ᴳ of all rounds.
#[test]
fn most_rounds_that_fail_tell_single_updates() {
    let (f, n, b) = (0.648f64, 0.5776f64, 0.4176f64);
    // One group, by enumeration.
    let scheme = build(2, config(CodeKind::FractionalRepetition, 1));
    let uses = uses(&*scheme);
    assert_eq!(uses.len(), 4);
    let mut exact = [0.0; 3];
    for choice in 0..16u32 {
        let chance = 0.4f64.powi(choice.count_ones() as i32) * 0.6f64.powi(4 - choice.count_ones() as i32);
        let views = scheme.views(1, &pattern(&uses, choice), 1).unwrap();
        let singly = partial::determined(&rows(&views)).iter().any(|set| set.len() == 1);
        let summed = views.decoded.included().len() == 2;
        exact[0] += if summed { chance } else { 0.0 };
        exact[1] += if singly { 0.0 } else { chance };
        exact[2] += if summed && !singly { chance } else { 0.0 };
    }
    assert!(exact.iter().zip([f, n, b]).all(|(got, want)| (got - want).abs() < 1e-12), "{exact:?}");

    for (clients, reported) in [(6usize, 0.83), (10, 0.94)] {
        let groups = (clients / 2) as i32;
        let failing = 1.0 - f.powi(groups);
        let told = 1.0 - (n.powi(groups) - b.powi(groups)) / failing;
        assert!((told - reported).abs() < 0.006, "{told}");
        // The scheme itself over 3000 rounds; four standard errors a statistic, α = 6.4·10⁻⁵ each.
        let erasure = "{ kind = 'bernoulli', erasure = 0.4 }";
        let text = format!("client_client = {erasure}\nclient_server = {erasure}");
        let links =
            toml::from_str::<NetworkConfig>(&text).unwrap().build(clients, 3000, Seed::new(3)).unwrap();
        let scheme = build(clients, config(CodeKind::FractionalRepetition, 1));
        let of_round = |round: u64| {
            let views = scheme.views(round, &links, 1).unwrap();
            let got = views.decoded.included().len();
            let singly = partial::determined(&rows(&views)).iter().any(|set| set.len() == 1);
            [got < clients, got < clients && singly, got < clients && got > 0]
        };
        let rounds: Vec<[bool; 3]> = (1..=3000u64).into_par_iter().map(of_round).collect();
        let count = |i: usize| rounds.iter().filter(|round| round[i]).count() as f64;
        let near = |got: f64, of: f64, want: f64| {
            let bound = 4.0 * (want * (1.0 - want) / of).sqrt();
            println!("M = {clients}: {} for {want} ± {bound}", got / of);
            assert!((got / of - want).abs() <= bound, "M = {clients}: {} for {want} ± {bound}", got / of);
        };
        near(count(0), 3000.0, failing);
        near(count(1), count(0), told);
        near(count(2), count(0), 1.0 - 0.16f64.powi(groups) / failing);
    }
}

#[test]
fn few_clients_are_an_outage_where_more_are_asked_for() {
    let updates = updates(4);
    // Of the first attempt client 1's upload arrives alone and without client 2's share; then all does.
    struct First(Lost);
    impl LinkModel for First {
        fn delivers(&self, link: LinkUse<Node>) -> bool {
            link.attempt > 0 || self.0.delivers(link)
        }
        fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
            0.5
        }
    }
    let lost = (1..4).map(|k| (0, 0, client(k), SERVER)).chain([(0, 0, client(1), client(0))]);
    let links = First(Lost(lost.collect()));
    let plain = config(CodeKind::FractionalRepetition, 1);
    let once = build(4, plain.clone()).aggregate(1, &updates, &links, 2).unwrap();
    assert_eq!((included(&updates, &once), once.attempts), (vec![0], 1));
    let asking = build(4, CoGcConfig { least_included: Some(2), ..plain.clone() });
    assert_eq!(asking.scheme().least_included, Some(2));
    let once = asking.aggregate(1, &updates, &links, 1).unwrap();
    assert_eq!(once.decoded.reason(), Some(Reason::TooFew));
    let twice = asking.aggregate(1, &updates, &links, 2).unwrap();
    assert_eq!((included(&updates, &twice).len(), twice.attempts), (4, 2));
    let error = ProtocolConfig::CoGc(CoGcConfig { least_included: Some(5), ..plain }).build(4, Seed::new(1));
    assert_eq!(
        error.err().unwrap().to_string(),
        "least_included: 5 is out of range; of 4 clients give 1 to 4"
    );
}

/// Repeats are sent whatever arrives, and what is counted without learning is what the protocol does.
#[test]
fn repeats_are_always_sent_and_decoded_once() {
    let (clients, rounds) = (6, 300);
    let text = "client_client = { kind = 'bernoulli', erasure = 0.3 }\n\
                client_server = { kind = 'bernoulli', erasure = 0.5 }";
    let links = toml::from_str::<NetworkConfig>(text).unwrap().build(clients, rounds, Seed::new(3)).unwrap();
    let updates = updates(clients);
    for (code, stragglers) in [(CodeKind::FractionalRepetition, 1), (CodeKind::CyclicRandom, 2)] {
        let mut recovered = Vec::new();
        for (decoder, repeats, attempts) in [
            (DecoderKind::Standard, 1, 1),
            (DecoderKind::Standard, 3, 2),
            (DecoderKind::GcPlus, 3, 1),
            (DecoderKind::GcPlus, 2, 2),
            (DecoderKind::GcPlusPartial, 3, 1),
        ] {
            let scheme = build(clients, CoGcConfig { decoder, repeats, ..config(code, stragglers) });
            let mut played = Estimate { rounds, ..Estimate::default() };
            for round in 1..=rounds {
                let aggregate = scheme.aggregate(round, &updates, &links, attempts).unwrap();
                let got = included(&updates, &aggregate);
                played.recovered += u64::from(got.len() == clients);
                played.attempts += u64::from(aggregate.attempts);
                played.bytes_client_client += aggregate.traffic.client_client;
                played.bytes_client_server += aggregate.traffic.client_server;
            }
            let sizes = Sizes::of(&*scheme, clients, 3).unwrap();
            let shares = (clients * stragglers) as u64 * sizes.share * u64::from(repeats);
            assert_eq!(played.bytes_client_client, played.attempts * shares, "whatever arrives");
            let code = scheme.code().unwrap();
            assert_eq!(estimate(code, &links, sizes, attempts, rounds), played, "{decoder:?} {repeats}");
            if decoder == DecoderKind::Standard {
                let law = closed_form(code, &links, sizes, attempts).unwrap();
                let many = estimate(code, &links, sizes, attempts, 20_000);
                let bound = 4.0 * (law * (1.0 - law) / 20_000.0).sqrt();
                assert!((many.probability() - law).abs() < bound, "{} for {law}", many.probability());
            }
            recovered.push(played.recovered);
        }
        let [once, standard, plus, stacked, partly] = recovered[..] else { panic!() };
        assert!(once < standard && plus == partly && once < plus && once < stacked, "{recovered:?}");
    }
    let error = |repeats| {
        let config = CoGcConfig { repeats, ..config(CodeKind::Auto, 1) };
        ProtocolConfig::CoGc(config).build(4, Seed::new(1)).err().unwrap().to_string()
    };
    assert_eq!(error(0), "repeats: 0 is out of range; give 1 to 100");
    assert_eq!(error(101), "repeats: 101 is out of range; give 1 to 100");
}

/// What the server would learn if it were told Σ_T u_k, to take the keys out of a partial sum.
fn told(views: &Views<M61>, of: &[u16]) -> Observed<M61> {
    let forms = of.iter().map(|&k| {
        let (_, keys) = views.keys.iter().find(|(id, _)| *id == PartyId::Client(k)).unwrap();
        keys[0].clone()
    });
    let forms: Vec<LinearForm<M61>> = forms.collect();
    let terms: Vec<_> = forms.iter().map(|form| (M61::ONE, std::slice::from_ref(form))).collect();
    let sum = seccogc::algebra::Symbol::combine(1, &terms);
    let link = LinkUse { round: 1, attempt: 0, transfer: 1, from: client(0), to: SERVER, bytes: 0 };
    Observed { link, delivered: true, forms: sum }
}

/// With keys a partial sum keeps the keys of its clients: by itself it tells nothing, and is worth nothing.
/// The server would have to learn their sum, for every set of clients that losses leave; then one update
/// stands alone where one client does, or where two such sets differ by one.
#[test]
fn under_keys_a_partial_sum_is_masked_and_its_masks_must_not_be_told() {
    let protocol = protocol(CodeKind::CyclicRandom, 4, 2, Some(KeyKind::Fair));
    let beyond = |views: &Views<M61>, more: &[Observed<M61>]| {
        // In the name of the sum over all, which is what the keys allow.
        let messages = views.messages.iter().cloned().chain(more.iter().cloned()).collect();
        let views = Views { messages, decoded: Decoded::lost(), ..views.clone() };
        let exposed = views.exposed(&Coalition::of([SERVER]));
        (exposed.symbols, exposed.counterexample)
    };
    // Client 1 heard nobody and is heard alone.
    let alone =
        Lost((1..4).flat_map(|k| [(0, 0, client(k), SERVER), (0, 0, client(k), client(0))]).collect());
    let views = formal::<M61, _>(&protocol, 4, 1, &FormalKeys, &alone, 1);
    assert_eq!(views.decoded.included(), [0]);
    let keeps = views.findings_of_sum();
    assert!(keeps.iter().any(|finding| finding.defect == Defect::KeysNotZeroSum), "{keeps:?}");
    assert_eq!(beyond(&views, &[]), (0, None), "a masked update tells nothing");
    assert_eq!(beyond(&views, &[told(&views, &[0])]), (1, Some("x1".into())));

    // All four are heard, with their own updates alone.
    let shares = (0..4).flat_map(|k| (0..4).map(move |m| (0, 0, client(k), client(m))));
    let views = formal::<M61, _>(&protocol, 4, 1, &FormalKeys, &Lost(shares.collect()), 1);
    assert_eq!(views.decoded.included(), [0, 1, 2, 3]);
    assert_eq!(beyond(&views, &[]), (0, None), "Σ u_k = 0, and the sum over all is there");
    // Two sums over two and three clients, neither of which is one update.
    let two = [told(&views, &[0, 1]), told(&views, &[0, 1, 2])];
    assert_eq!(beyond(&views, &two[..1]).0, 1);
    assert_eq!(beyond(&views, &two), (2, Some("x3".into())));
}

#[test]
fn sec_cogc_refuses_it_and_says_why() {
    let text = "kind = 'sec-cogc'\ndecoder = 'gc-plus-partial'";
    let config: ProtocolConfig = toml::from_str(text).unwrap();
    let error = config.build(8, Seed::new(1)).err().unwrap().to_string();
    assert_eq!(
        error,
        "decoder: the keys of a partial sum do not cancel, and to take them out the server would have to learn them, and then sums \
         over few clients down to a single one; take \"gc-plus\""
    );
}
