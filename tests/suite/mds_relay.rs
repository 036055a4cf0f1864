//! Coded cooperation: the server finds the updates that the received rows determine, all of them and no
//! other.

use std::collections::HashSet;
use std::sync::Arc;

use nalgebra::DMatrix;
use rayon::prelude::*;
use seccogc::algebra::Scalar;
use seccogc::algebra::field::{M61, Small};
use seccogc::algebra::linear::{cauchy, rank};
use seccogc::audit::erasures::Lost;
use seccogc::keys::SeededKeys;
use seccogc::message::HEADER_BYTES;
use seccogc::network::Perfect;
use seccogc::privacy::view::Coalition;
use seccogc::protocol::exchange::{Outcome, run};
use seccogc::protocol::mds_relay::{MdsRelay, determined};
use seccogc::protocol::{Aggregator, Decoded, Formal, Input, PartyId, ProtocolConfig, Update};
use seccogc::seed::Seed;

use crate::two_round::{Vector, inputs};

type Use = (u8, PartyId, PartyId);

const SERVER: PartyId = PartyId::Server;

fn client(k: usize) -> PartyId {
    PartyId::Client(k as u16)
}

fn losing(uses: impl IntoIterator<Item = Use>) -> Lost {
    Lost(uses.into_iter().map(|(transfer, from, to)| (0, transfer, from, to)).collect())
}

fn play(protocol: &MdsRelay<M61>, inputs: &[Vector<M61>], links: &Lost) -> Outcome<M61> {
    let inputs: Vec<&dyn Input<M61>> = inputs.iter().map(|x| x as _).collect();
    run(protocol, 1, &inputs, &SeededKeys(Seed::new(1)), links, 1, |_, _, _| ())
}

fn integers<F: Scalar>(rows: &[&[i64]]) -> Vec<Vec<F>> {
    rows.iter().map(|row| row.iter().map(|&n| F::integer(n)).collect()).collect()
}

/// x = (1, 2, 4). Client 1 uploads x₁ and x₁ + x₂ + x₃; client 3, who did not hear client 1, uploads 3 x₂ +
/// 9 x₃: 1, 7 and 42. Client 2 and what client 3 sends of its own are lost.
#[test]
fn three_rows_by_hand() {
    let generator = DMatrix::from_fn(3, 3, |k, i| M61::integer((k as i64 + 1).pow(i as u32)));
    let protocol = MdsRelay::new(3, 2).unwrap().with_generator(generator);
    let inputs: Vec<Vector<M61>> = [1, 2, 4].map(|x| Vector(vec![M61::integer(x)])).into();
    let lost = losing([
        (0, client(0), client(2)),
        (0, client(1), SERVER),
        (1, client(1), SERVER),
        (0, client(2), SERVER),
    ]);
    let outcome = play(&protocol, &inputs, &lost);
    assert_eq!(outcome.decoded, Decoded::exact(vec![M61::integer(7)], vec![0, 1, 2]));
    let singles: Vec<_> = outcome.singles.iter().map(|single| single[0]).collect();
    assert_eq!(singles, [1, 2, 4].map(M61::integer));

    // The same rows, solved: x₂ = (9·7 − 9·1 − 42)/6, x₃ = (42 − 3·7 + 3·1)/6.
    let rows = integers::<M61>(&[&[1, 0, 0], &[1, 1, 1], &[0, 3, 9]]);
    let rows: Vec<&[M61]> = rows.iter().map(Vec::as_slice).collect();
    let sixth = M61::integer(6).inverse().unwrap();
    let over_six = |row: [i64; 3]| row.map(|n| sixth * M61::integer(n)).to_vec();
    assert_eq!(
        determined(&rows, 3),
        [(0, over_six([6, 0, 0])), (1, over_six([-9, 9, -1])), (2, over_six([3, -3, 1]))]
    );
    assert_eq!(determined(&rows[..2], 3), [(0, [1, 0].map(M61::integer).to_vec())]);
    assert_eq!(determined(&rows[1..], 3), []);
}

/// All 2¹² patterns of three clients who upload twice.
#[test]
fn every_pattern_of_three_clients_gives_the_sum_over_those_who_are_determined() {
    let clients = 3;
    let generator = cauchy::<M61>(clients, clients).unwrap();
    let protocol = MdsRelay::new(clients, 2).unwrap();
    let inputs = inputs::<M61>(clients, 2);
    let shares: Vec<Use> = (0..clients)
        .flat_map(|from| (0..clients).filter(move |to| *to != from).map(move |to| (from, to)))
        .map(|(from, to)| (0, client(from), client(to)))
        .collect();
    let uploads = (0..clients).flat_map(|k| [(0, client(k), SERVER), (1, client(k), SERVER)]);
    let uses: Vec<Use> = shares.into_iter().chain(uploads).collect();
    assert_eq!(uses.len(), 12);
    let sizes: Vec<usize> = (0..1u32 << 12)
        .into_par_iter()
        .map(|choice| {
            let lost: HashSet<Use> = (0..12).filter(|i| choice >> i & 1 == 1).map(|i| uses[i]).collect();
            let Outcome { decoded, singles, refused, .. } =
                play(&protocol, &inputs, &losing(lost.iter().copied()));
            assert!(refused.is_empty(), "{refused:?}");
            // What arrives, from the pattern alone.
            let mut rows: Vec<Vec<M61>> = Vec::new();
            for k in 0..clients {
                let heard = |i: usize| i == k || !lost.contains(&(0, client(i), client(k)));
                let unit = (0..clients).map(|i| M61::integer(i64::from(i == k))).collect();
                let combination = |i: usize| if heard(i) { generator[(k, i)] } else { M61::ZERO };
                let both = [unit, (0..clients).map(combination).collect::<Vec<_>>()];
                let arrived = (0u8..).zip(both).filter(|(t, _)| !lost.contains(&(*t, client(k), SERVER)));
                rows.extend(arrived.map(|(_, row)| row));
            }
            let spans = |target: &[M61]| {
                let of = |rows: &[Vec<M61>]| rank(&DMatrix::from_fn(rows.len(), 3, |i, j| rows[i][j]));
                of(&rows) == of(&[rows.clone(), vec![target.to_vec()]].concat())
            };
            let unit = |k: usize| -> Vec<M61> { (0..3).map(|i| M61::integer(i64::from(i == k))).collect() };
            let want: Vec<u16> = (0..3).filter(|&k| spans(&unit(k))).map(|k| k as u16).collect();
            // Coefficients are generic: the sum over all is determined with every single update, or not.
            assert_eq!(spans(&[M61::ONE; 3]), want.len() == 3, "{lost:?}");
            if want.is_empty() {
                assert_eq!(decoded, Decoded::lost(), "{lost:?}");
                return 0;
            }
            let mut sum = vec![M61::ZERO; 2];
            want.iter().for_each(|&k| inputs[usize::from(k)].add_to(&mut sum));
            assert_eq!(decoded, Decoded::exact(sum, want.clone()), "{lost:?}");
            assert!(want.iter().zip(&singles).all(|(&k, single)| **single == inputs[usize::from(k)].0));
            want.len()
        })
        .collect();
    let count = |n: usize| sizes.iter().filter(|size| **size == n).count();
    // Nothing is determined if all uploads are lost, for 2⁶ patterns of shares, and some other times.
    assert!(count(0) >= 64 && (1..=3).all(|n| count(n) > 300), "{:?}", [0, 1, 2, 3].map(count));
}

/// [I | Gᵀ] is an MDS code: any four of the twelve uploads of four clients who heard everybody, over the
/// smallest prime field with enough points for it.
#[test]
fn any_m_uploads_of_clients_who_heard_everybody_show_all() {
    type F = Small<13>;
    let generator = cauchy::<F>(8, 4).unwrap();
    assert_eq!(cauchy::<F>(10, 4), None);
    let mut rows: Vec<Vec<F>> =
        (0..4).map(|k| (0..4).map(|i| F::integer(i64::from(i == k))).collect()).collect();
    rows.extend(generator.row_iter().map(|row| row.iter().copied().collect::<Vec<F>>()));
    for set in (0u32..1 << 12).filter(|set| set.count_ones() == 4) {
        let some: Vec<&[F]> = (0..12).filter(|i| set >> i & 1 == 1).map(|i| rows[i].as_slice()).collect();
        assert_eq!(determined(&some, 4).len(), 4, "{set:b}");
        assert!(determined(&some[1..], 4).len() < 4, "three equations have not one solution");
    }
}

fn scheme(clients: usize, text: &str) -> Box<dyn Aggregator> {
    let config: ProtocolConfig = toml::from_str(&format!("kind = 'mds-relay'\n{text}")).unwrap();
    config.build(clients, Seed::new(1)).unwrap()
}

fn updates(clients: usize) -> Vec<Update> {
    (0..clients).map(|k| Update { weight: 1.0, delta: Arc::new(vec![k as f32 / 8.0; 5]) }).collect()
}

#[test]
fn what_is_sent_and_what_is_asked_of_a_sum() {
    let updates = updates(4);
    let (vector, header) = (5 * 8, HEADER_BYTES as u64);
    let played = scheme(4, "combinations = 3").aggregate(1, &updates, &Perfect, 1).unwrap();
    assert_eq!(played.traffic.client_client, 12 * (header + vector));
    // The first upload has no list of updates, the others have their number and one of four bits.
    assert_eq!(played.traffic.client_server, 4 * (3 * (header + vector) + 2 * 2));
    let alone = scheme(4, "combinations = 1").aggregate(1, &updates, &Perfect, 1).unwrap();
    assert_eq!((alone.traffic.client_client, alone.traffic.client_server), (0, 4 * (header + vector)));

    // Client 1 alone arrives, and heard nobody: three times its own update.
    let uploads = (1..4).flat_map(|k| (0..3).map(move |transfer| (transfer, client(k), SERVER)));
    let shares = (1..4).map(|k| (0, client(k), client(0)));
    let lost = losing(uploads.chain(shares));
    let (played, singles) = scheme(4, "combinations = 3").aggregate_singly(1, &updates, &lost, 1).unwrap();
    assert_eq!(played.decoded.included(), [0]);
    assert!(singles.len() == 1 && singles[0].delta == updates[0].delta);
    let asking = scheme(4, "combinations = 3\nleast_included = 2").aggregate(1, &updates, &lost, 1).unwrap();
    assert_eq!(asking.decoded.reason(), Some(seccogc::protocol::Reason::TooFew));
    // Who heard nobody but uploads thrice is heard if any of the three arrives.
    let lost = losing(lost.0.iter().map(|&(_, t, from, to)| (t, from, to)).chain([(0, client(0), SERVER)]));
    let played = scheme(4, "combinations = 3").aggregate(1, &updates, &lost, 1).unwrap();
    assert_eq!(played.decoded.included(), [0]);
}

/// Every other client and the server learn everything that they hear; nothing here is secret.
#[test]
fn the_audit_sees_single_updates() {
    let formal = scheme(3, "combinations = 2").formal(1, &Perfect, 1).unwrap();
    let Formal::Field(views) = formal else { panic!("over a field") };
    for party in [SERVER, client(1)] {
        let exposed = views.exposed(&Coalition::of([party]));
        assert_eq!(exposed.hidden, [false; 3], "{party}");
        // Of three inputs the sum is allowed, and a client's own one.
        assert_eq!(exposed.symbols, if party == SERVER { 2 } else { 1 }, "{party}");
    }
}

#[test]
fn wrong_numbers_are_refused_in_one_line() {
    let refused = |clients: usize, text: &str| {
        let config: ProtocolConfig = toml::from_str(&format!("kind = 'mds-relay'\n{text}")).unwrap();
        config.build(clients, Seed::new(1)).err().unwrap().to_string()
    };
    assert_eq!(refused(4, "combinations = 0"), "combinations: 0 is out of range; give 1 to 100");
    assert_eq!(refused(4, "combinations = 101"), "combinations: 101 is out of range; give 1 to 100");
    assert_eq!(
        refused(1000, "combinations = 2"),
        "combinations: 2 uploads of each of 1000 clients have 2000000 coefficients, and at most 1048576 are solved for; take fewer, \
         or cohorts of fewer clients (cohort.sample)"
    );
    assert_eq!(
        refused(4, "least_included = 5"),
        "least_included: 5 is out of range; of 4 clients give 1 to 4"
    );
}
