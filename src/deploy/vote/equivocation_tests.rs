//! A server that tells halves of the clients different things, with the vote and without it.

use std::sync::Arc;

use super::*;
use crate::algebra::field::M61;
use crate::algebra::grid::Public;
use crate::deploy::pki;
use crate::deploy::transport::Identity;
use crate::party::agreement::KeyPair;
use crate::party::seat::{Letter, Seat, scheme};
use crate::protocol::sec_agg::{Cryptographic, SecAggConfig, SecAggMessage, Suite};
use crate::protocol::{Envelope, PartyId, ProtocolConfig, Update};
use crate::seed::Seed;
use crate::wire::{self, Form};

type Mail = Envelope<SecAggMessage<M61, Cryptographic>>;

const M: u16 = 6;
const LEN: usize = 5;
const ROUND: u64 = 3;
const VICTIM: u16 = 3;

/// Who signs what.
struct Voters {
    _folder: tempfile::TempDir,
    electorate: Electorate,
    signers: Vec<Signer>,
    authority: Authority,
}

impl Voters {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        pki::init(&pki, &[]).unwrap();
        let names: Vec<String> = (0..M).map(|k| format!("client-{k}")).collect();
        names.iter().for_each(|name| pki::issue(&pki, name, &[], pki::DAYS).unwrap());
        let signers = names.iter().map(|name| Signer::load(&Identity { folder: &pki, name }).unwrap());
        let chain = |name: &String| std::fs::read_to_string(pki.join(format!("{name}.crt"))).unwrap();
        let signers = signers.collect();
        let members = names.iter().map(|name| (name.clone(), chain(name))).collect();
        let (electorate, authority) =
            (Electorate { roster: Hex([5; 32]), members }, Authority::load(&pki).unwrap());
        Self { _folder: folder, electorate, signers, authority }
    }

    /// What clients do with a list before they go on; the server hands all ballots to everybody.
    fn hold(&self, phase: usize, seats: &mut [Box<dyn Seat>]) {
        let votes: Vec<_> = seats
            .iter()
            .map(|seat| seat.told().map(|clients| self.electorate.vote(phase, &clients)))
            .collect();
        let cast = |k: usize| {
            votes[k].as_ref().map(|vote| self.electorate.cast(&self.signers[k], k as u16, vote).unwrap())
        };
        let ballots: Vec<Ballot> = (0..seats.len()).filter_map(cast).collect();
        for (seat, vote) in seats.iter_mut().zip(&votes) {
            let same = |vote| self.electorate.count(&self.authority, vote, &ballots);
            if !vote.as_ref().is_some_and(|vote| self.electorate.suffices(same(vote))) {
                seat.forget();
            }
        }
    }
}

fn updates() -> Vec<Update> {
    let of = |k: u16| (0..LEN).map(|i| (i as f32 - 1.0) * f32::from(k + 1) / 16.0).collect();
    (0..M).map(|k| Update { weight: 1.0, delta: Arc::new(of(k)) }).collect()
}

/// What a server learned that was shown all masked uploads, and made halves of the clients believe that the
/// other half was lost: the shares of the victim's self mask and of its secret key that it was given.
struct Loot {
    keys: Vec<(u16, <Cryptographic as Suite<M61>>::Public)>,
    upload: Option<Vec<M61>>,
    own: Vec<(u16, <Cryptographic as Suite<M61>>::Share)>,
    secret: Vec<(u16, <Cryptographic as Suite<M61>>::Share)>,
}

fn equivocate(voters: Option<&Voters>) -> Loot {
    let config = SecAggConfig { threshold: Some(3), least_included: Some(3), ..SecAggConfig::default() };
    let scheme =
        scheme(&ProtocolConfig::SecAgg(config), M.into(), Seed::new(4), &Public::default(), 1e6).unwrap();
    let pairs: Vec<KeyPair> = (0..M).map(|_| KeyPair::generate().unwrap()).collect();
    let public: Vec<_> = pairs.iter().map(KeyPair::public).collect();
    let mut seats: Vec<Box<dyn Seat>> = (0..)
        .zip(pairs.iter().zip(updates()))
        .map(|(k, (pair, update))| {
            scheme.client(k, ROUND, &update, &pair.agree(k, &public, b"test").unwrap()).unwrap()
        })
        .collect();
    let mut server = scheme.server(ROUND, LEN);
    let mut loot = Loot { keys: Vec::new(), upload: None, own: Vec::new(), secret: Vec::new() };
    let form = Form { len: LEN, members: M.into(), largest: 1e6 };
    let half = |k: u16| if k < 3 { vec![0, 1, 2] } else { vec![3, 4, 5] };
    for (i, phase) in scheme.phases().iter().enumerate() {
        let told = server.step();
        let sent: Vec<Vec<Letter>> = seats.iter_mut().map(|seat| seat.step()).collect();
        for (k, letter) in (0..).zip(sent).flat_map(|(k, sent)| sent.into_iter().map(move |one| (k, one))) {
            server.admit(PartyId::Client(k), &letter.bytes).unwrap();
            let mail: Mail = wire::decode::<M61, _>(&letter.bytes, &form).unwrap();
            match mail.body {
                SecAggMessage::Keys(public) => loot.keys.push((k, public)),
                SecAggMessage::Upload(upload) if k == VICTIM => loot.upload = Some(upload.to_vec()),
                SecAggMessage::Answer(shares) => {
                    let of = shares.iter().find(|(owner, _)| *owner == VICTIM).unwrap();
                    if half(k).contains(&VICTIM) { &mut loot.own } else { &mut loot.secret }
                        .push((k, of.1.clone()));
                }
                _ => {}
            }
        }
        for Letter { to, bytes } in told {
            let PartyId::Client(k) = to else { panic!() };
            let bytes = if phase.name == "survivors" {
                let mut mail: Mail = wire::decode::<M61, _>(&bytes, &form).unwrap();
                mail.body = SecAggMessage::Survivors { included: Arc::new(half(k)), clients: M.into() };
                wire::encode::<M61, _>(&mail)
            } else {
                bytes
            };
            seats[usize::from(k)].admit(PartyId::Server, &bytes).unwrap();
        }
        if let Some(voters) = voters.filter(|_| phase.is_list) {
            voters.hold(i, &mut seats);
        }
    }
    loot
}

/// With its self mask and those of all pairs taken off, the victim's upload is its update.
#[test]
fn without_the_vote_a_server_that_names_two_survivor_sets_reads_an_update() {
    let Loot { keys, upload, own, secret } = equivocate(None);
    assert_eq!((own.len(), secret.len()), (3, 3), "three shares of each suffice");
    fn borrowed<T>(list: &[(u16, T)]) -> Vec<(u16, &T)> {
        list.iter().map(|(k, one)| (*k, one)).collect()
    }
    let mask = <Cryptographic as Suite<M61>>::recover_own(&borrowed(&own)).unwrap();
    let public = &keys[usize::from(VICTIM)].1;
    let peers: Vec<_> = borrowed(&keys).into_iter().filter(|(k, _)| *k != VICTIM).collect();
    let seeds =
        <Cryptographic as Suite<M61>>::recover_pairs(ROUND, (VICTIM, public), &borrowed(&secret), &peers)
            .unwrap();
    let mut terms = vec![(true, mask)];
    // The victim subtracted what it shares with those before it.
    terms.extend(peers.iter().map(|(k, _)| *k >= VICTIM).zip(seeds));
    let mut open = upload.unwrap();
    <Cryptographic as Suite<M61>>::add_masks(&mut open, &terms);
    let read = SecAggConfig::default().quantisation.quantiser(M.into()).unwrap().real(&open);
    for (read, x) in read.iter().zip(updates()[usize::from(VICTIM)].delta.iter()) {
        assert!((read - f64::from(*x)).abs() < 1e-4, "{read} for {x}");
    }
}

#[test]
fn with_the_vote_it_is_told_nothing() {
    let voters = Voters::new();
    let Loot { upload, own, secret, .. } = equivocate(Some(&voters));
    assert!(upload.is_some(), "all were told the same until then");
    assert_eq!((own.len(), secret.len()), (0, 0));
}
