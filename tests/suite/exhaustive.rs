//! Every erasure pattern for M ≤ 6, every code, s and decoder, by the locality of the parties: what a client
//! uploads is a function of the shares that reached it, and what the server decodes is a function of the
//! uploads that reached it. So all patterns are covered by all inboxes of each client and all combinations of
//! uploads at the server.
//!
//! With `gc-plus` client m has 2^s + 1 states (which shares it holds, or its upload lost). All (2^s + 1)^M
//! combinations are tried but for (M, s) = (5, 4), (6, 4) and (6, 5), which have 1.4 · 10⁶ and more: there
//! 30,000 seeded ones.

use std::sync::Arc;

use rand::RngExt;
use rayon::prelude::*;
use seccogc::algebra::grid::Public;
use seccogc::coding::{Code, CodeKind, GradientCode};
use seccogc::keys::{KeyKind, SeededKeys};
use seccogc::protocol::cogc::{CoGc, CoGcMessage, Codes, Role};
use seccogc::protocol::{Clock, Decoded, Envelope, Input, Party, PartyId, Protocol, Update};
use seccogc::seed::Seed;

const ALL: u64 = 600_000;
const SAMPLED: u64 = 30_000;
const LEN: usize = 2;

/// Every code that exists for M ≤ 6; without stragglers and with M − 1 all families are one.
fn codes() -> Vec<Arc<GradientCode>> {
    let mut codes = Vec::new();
    for clients in 2..=6 {
        for stragglers in 0..clients {
            for kind in CodeKind::FAMILIES.into_iter().filter(|kind| kind.exists(clients, stragglers)) {
                codes.push(Arc::new(GradientCode::build(kind, clients, stragglers, Seed::new(1)).unwrap()));
            }
        }
    }
    codes
}

struct Round {
    protocol: CoGc,
    code: Arc<GradientCode>,
    inputs: Vec<Update>,
    sum: Vec<f64>,
}

impl Round {
    fn new(code: &Arc<GradientCode>, gc_plus: bool) -> Self {
        let stacking = gc_plus.then(|| (Seed::new(1), 1e6));
        let codes = Arc::new(Codes::new(Arc::clone(code), stacking));
        let protocol = CoGc {
            codes,
            keys: Some((KeyKind::Fair.into(), 3.0)),
            link_std: 0.0,
            grid: None,
            public: Public::default(),
            least: 1,
        };
        let mut rng = Seed::new(2).rng();
        let inputs: Vec<Update> = (0..code.clients())
            .map(|_| {
                let delta = (0..LEN).map(|_| rng.random::<f32>() - 0.5).collect();
                Update { weight: 1.0, delta: Arc::new(delta) }
            })
            .collect();
        let sum = (0..LEN).map(|i| inputs.iter().map(|x| f64::from(x.delta[i])).sum()).collect();
        Self { protocol, code: Arc::clone(code), inputs, sum }
    }

    /// The parties at the start of the round.
    fn parties(&self) -> Vec<Role<f64>> {
        let keys = Protocol::<f64>::deal(&self.protocol, 1, LEN, &SeededKeys(Seed::new(3)));
        let ids = Protocol::<f64>::parties(&self.protocol);
        let parties = ids.into_iter().zip(keys).map(|(id, key)| {
            let input = match id {
                PartyId::Client(k) => Some(&self.inputs[usize::from(k)] as &dyn Input<f64>),
                PartyId::Helper(_) | PartyId::Server => None,
            };
            self.protocol.party(id, key, input)
        });
        parties.collect()
    }

    /// What client m uploads for every set of shares that may reach it (bit i: the i-th other client of its
    /// row).
    fn uploads(&self) -> Vec<Vec<Option<Envelope<CoGcMessage<f64>>>>> {
        let mut parties = self.parties();
        let clock = |phase| Clock { round: 1, attempt: 0, phase };
        let mut shares: Vec<Vec<Envelope<CoGcMessage<f64>>>> = vec![Vec::new(); self.code.clients()];
        for party in &mut parties {
            for share in party.step(clock(0), Vec::new()) {
                let PartyId::Client(to) = share.to else { panic!("shares go to clients") };
                shares[usize::from(to)].push(share);
            }
        }
        let clients = parties.into_iter().take(self.code.clients()).zip(shares);
        clients
            .map(|(mut client, shares)| {
                assert_eq!(shares.len(), self.code.stragglers());
                (0..1usize << shares.len())
                    .map(|set| {
                        let arrived = (0..shares.len()).filter(|i| set >> i & 1 == 1);
                        let inbox = arrived.map(|i| shares[i].clone()).collect();
                        client.step(clock(1), inbox).pop()
                    })
                    .collect()
            })
            .collect()
    }

    /// The server's result for these uploads; whether it is a sum, which must then be exact.
    fn decodes(&self, inbox: Vec<Envelope<CoGcMessage<f64>>>, name: &str) -> bool {
        let mut server = self.parties().pop().unwrap();
        server.step(Clock { round: 1, attempt: 0, phase: 2 }, inbox);
        match Party::<_, f64>::decoded(&mut server).unwrap() {
            Decoded::Outage(_) => false,
            Decoded::Estimate { .. } => panic!("{name} is exact or nothing"),
            Decoded::Sum { sum, included, .. } => {
                assert_eq!(included.len(), self.code.clients());
                // ‖a‖₂ ≤ 10⁶ for stacked rows of masks of size 3.
                let exact = sum.iter().zip(&self.sum).all(|(got, want)| (got - want).abs() < 1e-8);
                assert!(exact, "{name}: {sum:?} for {:?}", self.sum);
                true
            }
        }
    }
}

#[test]
fn standard_decoding_is_exact_or_an_outage_for_every_pattern() {
    for code in codes() {
        let round = Round::new(&code, false);
        let uploads = round.uploads();
        let clients = code.clients();
        for of_client in &uploads {
            // Only the set of all shares makes a sum.
            let complete = of_client.len() - 1;
            assert!(of_client.iter().enumerate().all(|(set, upload)| upload.is_some() == (set == complete)));
        }
        for set in 0..1u32 << clients {
            let rows: Vec<usize> = (0..clients).filter(|m| set >> m & 1 == 1).collect();
            let inbox = rows.iter().filter_map(|&m| uploads[m].last().cloned().flatten()).collect();
            let decoded = round.decodes(inbox, &format!("{code:?} {rows:?}"));
            assert!(decoded || rows.len() < clients - code.stragglers(), "{code:?} {rows:?}");
            assert_eq!(decoded, code.decodes(&rows), "{code:?} {rows:?}");
        }
    }
}

#[test]
fn gc_plus_is_exact_or_an_outage_and_never_recovers_less() {
    for code in codes() {
        let round = Round::new(&code, true);
        let uploads = round.uploads();
        let clients = code.clients();
        assert!(uploads.iter().flatten().all(Option::is_some), "every client sends what it has");
        let states = (1u64 << code.stragglers()) + 1;
        let all = states.pow(clients as u32);
        let recovered: Vec<[bool; 2]> = (0..if all <= ALL { all } else { SAMPLED })
            .into_par_iter()
            .map(|index| {
                let mut choice = if all <= ALL {
                    index
                } else {
                    Seed::new(4).child("combination", index).rng().random_range(0..all)
                };
                let (mut inbox, mut complete) = (Vec::new(), Vec::new());
                for (m, of_client) in uploads.iter().enumerate() {
                    let state = (choice % states) as usize;
                    choice /= states;
                    if let Some(upload) = of_client.get(state) {
                        inbox.extend(upload.clone());
                        if state + 1 == of_client.len() {
                            complete.push(m);
                        }
                    }
                }
                [code.decodes(&complete), round.decodes(inbox, &format!("{code:?} {index}"))]
            })
            .collect();
        assert!(recovered.iter().all(|[standard, gc_plus]| *gc_plus || !standard), "{code:?}");
        let count = |which: usize| recovered.iter().filter(|both| both[which]).count();
        assert!(code.stragglers() == 0 || count(1) > count(0), "{code:?}: incomplete sums are of use");
    }
}
