//! The audit against independent answers: closed forms, Monte-Carlo estimates, another implementation of ε, exhaustive erasure
//! patterns, and schemes that were broken on purpose.

use std::collections::HashMap;

use nalgebra::{DMatrix, DVector};
use rand::RngExt;
use rayon::prelude::*;
use seccogc::algebra::{KeyStream, LinearForm, Sample, Symbol, Unknown};
use seccogc::coding::CodeKind;
use seccogc::keys::{FormalKeys, KeyKind, KeySource, SeededKeys};
use seccogc::network::{LinkUse, Perfect};
use seccogc::privacy::audit::{Adversaries, Assumptions, Entry, Erasures, audit};
use seccogc::privacy::calibrate::{Bounds, calibrate};
use seccogc::privacy::defect::{self, Defect};
use seccogc::privacy::erasures::Lost;
use seccogc::privacy::rank::Determined;
use seccogc::privacy::view::{Coalition, View};
use seccogc::privacy::{Leakage, ldp, lmip};
use seccogc::protocol::cogc::{CoGc, CoGcConfig, CoGcMessage, Key, Role, SecCoGcConfig};
use seccogc::protocol::exchange::{Observed, Session, run};
use seccogc::protocol::{
    Aggregator, Arithmetic, Clock, Decoded, Envelope, Input, Message, Party, PartyId, Protocol,
    ProtocolConfig, Scheme, Secret, Update, Views, uncoded,
};
use seccogc::seed::Seed;

const KINDS: [KeyKind; 3] = [KeyKind::Plain, KeyKind::Fair, KeyKind::Pairwise];

fn scheme(clients: usize, config: SecCoGcConfig) -> Box<dyn Aggregator> {
    ProtocolConfig::SecCoGc(config).build(clients, Seed::new(1)).unwrap()
}

fn assumptions(clients: usize) -> Assumptions {
    Assumptions { input_std: 1.0, clip: Some(1.0), weights: vec![1.0; clients], delta: 1e-5, rounds: 1 }
}

fn of_layer<'a>(entries: &'a [Entry], layer: &str) -> Vec<&'a Entry> {
    entries.iter().filter(|entry| entry.layer == layer).collect()
}

/// Every subset of 0..n with 1 to `most` members.
fn subsets(n: usize, most: usize) -> Vec<Vec<usize>> {
    (1..1usize << n)
        .filter(|bits| bits.count_ones() as usize <= most)
        .map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect())
        .collect()
}

/// Parties 0 … M−1 and, as number M, the server.
fn coalition(members: &[usize], clients: usize) -> Coalition {
    let party = |&k: &usize| if k == clients { PartyId::Server } else { PartyId::Client(k as u16) };
    Coalition::of(members.iter().map(party))
}

#[test]
fn epsilon_agrees_with_dp_accounting() {
    let table = include_str!("../experiments/gaussian_dp/epsilon.csv");
    let mut lines = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let &[mu, rounds, delta, closed, low, high] = &fields[..] else { panic!("{line}") };
        let epsilon = ldp::epsilon(mu * rounds.sqrt(), delta);
        assert!((epsilon / closed - 1.0).abs() < 1e-10, "{line}: {epsilon}");
        assert!(low <= epsilon && epsilon <= high * (1.0 + 1e-7), "{line}: {epsilon}");
        lines += 1;
    }
    assert_eq!(lines, 12);
}

#[test]
fn strengths_worked_by_hand() {
    // Independent noise of σ = 4, C = 1: an upload x + σ g moves by 2 on the view, μ = 2/4; with the sum kept, two clients
    // move by 2 each, μ = 2√2/4. Weights 2, 1, 1 stretch the reach of client 1, and of a pair by the smaller one.
    let noise = ProtocolConfig::Gaussian(uncoded::Gaussian { key_std: 4.0, ..Default::default() });
    let scheme = noise.build(3, Seed::new(1)).unwrap();
    let assumptions = Assumptions { weights: vec![2.0, 1.0, 1.0], rounds: 9, ..assumptions(3) };
    let audit =
        audit("noise", &*scheme, Erasures::Worst(Seed::new(2)), 1, &Adversaries::default(), &assumptions)
            .unwrap();
    let server = of_layer(&audit.entries, "server");
    let close = |got: f64, mu: f64| {
        let want = ldp::epsilon(mu, 1e-5);
        assert!((got / want - 1.0).abs() < 1e-9, "{got} for {want}");
    };
    close(server[0].epsilon_view, 1.0);
    close(server[1].epsilon_view, 0.5);
    close(server[0].epsilon_beyond_sum, 0.5 * 2f64.sqrt());
    close(server[1].epsilon_view_total, 1.5);
    close(server[1].epsilon_beyond_sum_total, 1.5 * 2f64.sqrt());
    // A link of Fair-SecCoGC: b (x + u) with Var(u) = σ², μ = 2C/σ and LMIP ½ ln(1 + 1/σ²), whatever b.
    let fair = self::scheme(6, SecCoGcConfig { key_std: 4.0, stragglers: 3.into(), ..Default::default() });
    let assumptions = Assumptions { rounds: 1, ..self::assumptions(6) };
    let audit = seccogc::privacy::audit::audit(
        "fair",
        &*fair,
        Erasures::Worst(Seed::new(2)),
        1,
        &Adversaries::default(),
        &assumptions,
    )
    .unwrap();
    for entry in of_layer(&audit.entries, "link") {
        close(entry.epsilon_view, 0.5);
        assert!((entry.lmip_nats - 0.5 * (1.0 / 16.0f64).ln_1p()).abs() < 1e-12);
    }
}

#[test]
fn without_a_clip_epsilon_is_infinite_for_whoever_sees_something() {
    let scheme = scheme(4, SecCoGcConfig { stragglers: 1.into(), ..Default::default() });
    let assumptions = Assumptions { clip: None, ..assumptions(4) };
    let audit = audit("a", &*scheme, Erasures::Worst(Seed::new(2)), 1, &Adversaries::default(), &assumptions)
        .unwrap();
    assert!(audit.entries.iter().all(|entry| entry.epsilon_view.is_infinite()));
    let fedavg = ProtocolConfig::FedAvg(uncoded::FedAvg::default()).build(4, Seed::new(1)).unwrap();
    let audit = seccogc::privacy::audit::audit(
        "b",
        &*fedavg,
        Erasures::Worst(Seed::new(2)),
        1,
        &Adversaries::default(),
        &assumptions,
    )
    .unwrap();
    for entry in of_layer(&audit.entries, "neighbour") {
        assert_eq!((entry.lmip_nats, entry.epsilon_view), (0.0, 0.0), "another client receives nothing");
    }
    assert!(
        of_layer(&audit.entries, "server")
            .iter()
            .all(|entry| entry.symbols == 3 && entry.counterexample == "x1")
    );
}

#[test]
fn the_layers_agree_with_the_per_round_leakage() {
    let scheme =
        scheme(6, SecCoGcConfig { keys: KeyKind::Plain, stragglers: 3.into(), ..Default::default() });
    let leakage = Leakage::of(&scheme.views(1, &Perfect, 1).unwrap(), 0.7);
    let assumptions = Assumptions { input_std: 0.7, ..assumptions(6) };
    let adversaries = Adversaries { all: 2, coalition: Some(Coalition::parse("server+5+6", 6).unwrap()) };
    let audit = audit("a", &*scheme, Erasures::Worst(Seed::new(2)), 1, &adversaries, &assumptions).unwrap();
    for (layer, want) in
        [("link", &leakage.link), ("neighbour", &leakage.neighbour), ("server", &leakage.server)]
    {
        let entries = of_layer(&audit.entries, layer);
        assert_eq!(entries.len(), 6);
        assert!(
            entries.iter().zip(want).all(|(entry, want)| (entry.lmip_nats - want).abs() < 1e-12),
            "{layer}"
        );
    }
    let (one, two) =
        (of_layer(&audit.entries, "server + 1 client"), of_layer(&audit.entries, "server + 2 clients"));
    let named = of_layer(&audit.entries, "server+5+6");
    assert_eq!((one.len(), two.len(), named.len()), (6, 6, 4));
    for k in 0..4 {
        assert!(
            one[k].lmip_nats <= two[k].lmip_nats + 1e-12 && named[k].lmip_nats <= two[k].lmip_nats + 1e-12
        );
        assert!(two[k].symbols == 0 && two[k].floor_bits < two[k].lmip_bits);
    }
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
}

/// Squared multiple correlation of `x` with the columns of `z`, by least squares over the sample.
fn correlation(x: &DVector<f64>, z: &DMatrix<f64>) -> f64 {
    let gram = z.tr_mul(z);
    let moments = z.tr_mul(x);
    let weights = gram.cholesky().expect("the chosen messages are independent").solve(&moments);
    weights.dot(&moments) / x.norm_squared()
}

/// Every coordinate of a numeric round is one sample of (x_k, what the adversary sees), so that −½ ln(1 − R²) estimates LMIP. With
/// n = 40,000 coordinates its standard error is ρ/√n to first order; the bound of 4.5 of them plus the bias p/2n for p
/// regressors gives α < 10⁻⁵ a comparison for a correct audit.
#[test]
fn monte_carlo_estimates_agree_with_the_closed_forms() {
    let (clients, stragglers, n) = (6, 3, 40_000);
    for keys in KINDS {
        let code =
            ProtocolConfig::SecCoGc(SecCoGcConfig { stragglers: stragglers.into(), ..Default::default() })
                .build(clients, Seed::new(1))
                .unwrap()
                .code()
                .unwrap()
                .clone();
        let protocol = CoGc { code: code.into(), keys: Some((keys, 1.5)), link_std: 0.0 };
        let updates: Vec<Update> = (0..clients as u64)
            .map(|k| {
                let mut delta = vec![0.0f32; n];
                f32::sample(&mut Seed::new(20).child("x", k).rng(), &mut delta);
                Update { weight: 1.0, delta: delta.into() }
            })
            .collect();
        let inputs: Vec<&dyn Input<f64>> = updates.iter().map(|update| update as _).collect();
        let source = SeededKeys(Seed::new(21));
        let mut messages: Vec<(LinkUse, Vec<f64>)> = Vec::new();
        run(&protocol, 1, &inputs, &source, &Perfect, 1, |sent, _, link| {
            messages.push((link, Message::<f64>::reveals(sent).remove(0)));
        })
        .unwrap();
        let masks: Vec<Vec<f64>> =
            protocol.deal(1, n, &source).iter().map(|key: &Key<f64>| key.held().concat()).collect();
        let x = |k: usize| DVector::from_iterator(n, updates[k].delta.iter().map(|x| f64::from(*x)));
        let columns = |seen: &[&[f64]]| DMatrix::from_fn(n, seen.len(), |row, column| seen[column][row]);
        let formal = scheme(
            clients,
            SecCoGcConfig { keys, key_std: 1.5, stragglers: stragglers.into(), ..Default::default() },
        );
        let views = formal.views(1, &Perfect, 1).unwrap();
        let check = |name: &str, k: usize, seen: &[&[f64]], rows: &[LinearForm]| {
            let want = lmip(rows, clients, 1.0)[k];
            let got = -0.5 * (-correlation(&x(k), &columns(seen))).ln_1p();
            let rho = (1.0 - (-2.0 * want).exp()).sqrt();
            let bound = 4.5 * rho / (n as f64).sqrt() + seen.len() as f64 / (2 * n) as f64 + 1e-4;
            assert!((got - want).abs() < bound, "{keys:?} {name} {k}: {got} for {want} ± {bound}");
        };
        let observed = |to: PartyId| -> Vec<(&[f64], &Observed)> {
            let both = messages.iter().zip(&views.messages);
            both.filter(|((link, _), _)| link.to == to)
                .map(|((_, seen), formal)| (&seen[..], formal))
                .collect()
        };
        // A link; client 1 with its own update and key; the server, from as many sums as are independent.
        let (link, (share, form)) = (messages[0].0, (&messages[0].1, &views.messages[0]));
        let PartyId::Client(sender) = link.from else { panic!("the first message is a share") };
        check("link", usize::from(sender), &[share], &form.forms);
        let own: Vec<f64> = updates[0].delta.iter().map(|x| f64::from(*x)).collect();
        let mut seen: Vec<&[f64]> = observed(PartyId::Client(0)).iter().map(|(seen, _)| *seen).collect();
        seen.extend([&own[..], &masks[0][..]]);
        let view = View::of(&views, Coalition::of([PartyId::Client(0)]));
        check("neighbour", 4, &seen, &view.rows);
        let sums = observed(PartyId::Server);
        let seen: Vec<&[f64]> = sums.iter().take(clients - stragglers).map(|(seen, _)| *seen).collect();
        let view = View::of(&views, Coalition::of([PartyId::Server]));
        check("server", 5, &seen, &view.rows);
    }
}

/// Without losses no coalition of up to three parties determines more than its own updates and the sum, and the sum only with the
/// server's messages or a share of every other client. Over every erasure pattern, every message is one that is also sent
/// without losses, so that no coalition sees more. (M = 5 with s ≥ 3 has 2²⁰ and 2²⁵ patterns: 4096 seeded ones.)
#[test]
fn exhaustive_audit_of_every_key_construction() {
    for clients in 2..=5 {
        for stragglers in 1..clients {
            for keys in KINDS {
                let config =
                    SecCoGcConfig { keys, key_std: 2.0, stragglers: stragglers.into(), ..Default::default() };
                let scheme = scheme(clients, config);
                let code = scheme.code().unwrap();
                let lossless = scheme.views(1, &Perfect, 1).unwrap();
                for members in subsets(clients + 1, 3.min(clients)) {
                    let view = View::of(&lossless, coalition(&members, clients));
                    let honest: Vec<usize> = view.honest().collect();
                    if honest.len() < 2 {
                        continue;
                    }
                    let determined = Determined::of(&view);
                    let name = format!("{keys:?} M={clients} s={stragglers} {}", view.coalition);
                    assert!(determined.combinations.is_empty(), "{name}: {:?}", determined.counterexample());
                    let share =
                        |k: &usize| members.iter().any(|&m| m < clients && code.support(m).contains(k));
                    let sum = members.contains(&clients) || honest.iter().all(share);
                    assert_eq!(determined.sum, sum, "{name}");
                }
                let sent: HashMap<(PartyId, PartyId), &Vec<LinearForm>> = lossless
                    .messages
                    .iter()
                    .map(|message| ((message.link.from, message.link.to), &message.forms))
                    .collect();
                let uses: Vec<(u32, PartyId, PartyId)> =
                    sent.keys().map(|&(from, to)| (0, from, to)).collect();
                let all = 1usize << uses.len();
                let patterns: Vec<usize> = if uses.len() <= 16 {
                    (0..all).collect()
                } else {
                    let mut rng = Seed::new(30).rng();
                    (0..4096).map(|_| rng.random_range(0..all)).collect()
                };
                patterns.par_iter().for_each(|&pattern| {
                    let lost = (0..uses.len()).filter(|i| pattern >> i & 1 == 1).map(|i| uses[i]).collect();
                    for message in scheme.views(1, &Lost(lost), 1).unwrap().messages {
                        let same = sent.get(&(message.link.from, message.link.to)) == Some(&&message.forms);
                        assert!(same, "{keys:?} M={clients} s={stragglers}: {message:?}");
                    }
                });
            }
        }
    }
}

/// Rank decisions at the stated tolerances: codes with decoding amplifications up to some 10⁵ and keys from 10⁻⁶ to 10⁶ times the
/// update, against the ranks known by construction.
#[test]
fn rank_decisions_hold_for_bad_codes_and_extreme_keys() {
    let codes = [
        (CodeKind::CyclicMds, 10, 7),
        (CodeKind::CyclicMds, 21, 10),
        (CodeKind::CyclicRandom, 10, 4),
        (CodeKind::CyclicRandom, 21, 4),
        (CodeKind::FractionalRepetition, 12, 3),
    ];
    for (code, clients, stragglers) in codes {
        let bare =
            ProtocolConfig::CoGc(CoGcConfig { code, stragglers: stragglers.into(), ..Default::default() });
        let bare = bare.build(clients, Seed::new(1)).unwrap().views(1, &Perfect, 1).unwrap();
        let server = |views: &Views| Determined::of(&View::of(views, Coalition::of([PartyId::Server])));
        let rank = if code == CodeKind::FractionalRepetition {
            clients / (stragglers + 1)
        } else {
            clients - stragglers
        };
        let without_keys = server(&bare);
        assert_eq!((without_keys.combinations.len(), without_keys.sum), (rank - 1, true), "{code:?}");
        let mut scaled = Vec::new();
        for key_std in [1e-6, 1e-3, 1.0, 1e3, 1e6] {
            let config = SecCoGcConfig { code, stragglers: stragglers.into(), key_std, ..Default::default() };
            let scheme = scheme(clients, config);
            let determined = server(&scheme.views(1, &Perfect, 1).unwrap());
            assert!(
                determined.combinations.is_empty() && determined.sum,
                "{code:?} {clients} {key_std}: {determined:?}"
            );
            let lossless = Lost::default();
            let assumptions = Assumptions { clip: Some(key_std), ..assumptions(clients) };
            let result =
                audit("a", &*scheme, Erasures::These(&lossless), 1, &Adversaries::default(), &assumptions);
            scaled.push(of_layer(&result.unwrap().entries, "server")[0].epsilon_beyond_sum);
        }
        // C and σ grow together: the same ε.
        assert!(scaled.iter().all(|e| (e / scaled[2] - 1.0).abs() < 1e-6), "{code:?} {clients}: {scaled:?}");
    }
}

/// What a broken variant of SecCoGC does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    /// Deals the first round's keys in every round.
    ReusedKey,
    /// One client's mask is from another draw.
    NotZeroSum,
    /// A client that lacks shares sends what it has, link keys included.
    IncompleteSum,
}

struct Flawed(CoGc, Flaw);

struct FlawedRole<S> {
    role: Role<S>,
    id: PartyId,
    flaw: Flaw,
}

impl<S: Symbol> Party<CoGcMessage<S>, S> for FlawedRole<S> {
    fn step(
        &mut self,
        clock: Clock,
        inbox: Vec<Envelope<CoGcMessage<S>>>,
    ) -> seccogc::Result<Vec<Envelope<CoGcMessage<S>>>> {
        let shares: Vec<Vec<S>> = inbox.iter().flat_map(|envelope| envelope.body.reveals()).collect();
        let sent = self.role.step(clock, inbox)?;
        if self.flaw == Flaw::IncompleteSum && clock.phase == 1 && sent.is_empty() && !shares.is_empty() {
            let terms: Vec<_> = shares.iter().map(|share| (1.0, share.as_slice())).collect();
            let body = CoGcMessage::Sum(S::combine(shares[0].len(), &terms).into());
            return Ok(vec![Envelope { phase: 1, from: self.id, to: PartyId::Server, body }]);
        }
        Ok(sent)
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        self.role.decoded()
    }
}

impl<S: Symbol> Protocol<S> for Flawed {
    type Message = CoGcMessage<S>;
    type Key = Key<S>;
    type Party = FlawedRole<S>;

    fn parties(&self) -> Vec<PartyId> {
        Protocol::<S>::parties(&self.0)
    }

    fn phases(&self) -> u8 {
        Protocol::<S>::phases(&self.0)
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let mut keys = self.0.deal(if self.1 == Flaw::ReusedKey { 1 } else { round }, len, source);
        if self.1 == Flaw::NotZeroSum {
            std::mem::swap(&mut keys[0], &mut self.0.deal(round + 1000, len, source)[0]);
        }
        keys
    }

    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> FlawedRole<S> {
        FlawedRole { role: self.0.party(id, key, input), id, flaw: self.1 }
    }
}

#[test]
fn broken_variants_are_caught_by_name() {
    let clients = 5;
    let sound = scheme(clients, SecCoGcConfig { stragglers: 2.into(), ..Default::default() });
    let code = sound.code().unwrap().clone();
    let one_share = Lost([(0, PartyId::Client(code.support(0)[1] as u16), PartyId::Client(0))].into());
    let named = |scheme: &dyn Aggregator| -> Vec<Defect> {
        let adversaries = Adversaries::default();
        let audit =
            audit("a", scheme, Erasures::These(&one_share), 1, &adversaries, &assumptions(clients)).unwrap();
        audit.findings.iter().map(|finding| finding.defect).collect()
    };
    assert_eq!(named(&*sound), []);
    for (flaw, want) in [
        (Flaw::ReusedKey, vec![Defect::ReusedKey]),
        (Flaw::NotZeroSum, vec![Defect::KeysNotZeroSum]),
        (Flaw::IncompleteSum, vec![Defect::LinkKeyUncancelled, Defect::WrongSum]),
    ] {
        let link_std = if flaw == Flaw::IncompleteSum { 1.0 } else { 0.0 };
        let inner = CoGc { code: code.clone().into(), keys: Some((KeyKind::Fair, 2.0)), link_std };
        let broken = Session {
            protocol: Flawed(inner, flaw),
            clients,
            arithmetic: Arithmetic::F64,
            reliable: false,
            seed: Seed::new(1),
            scheme: Scheme::default(),
            code: None,
        };
        assert_eq!(named(&broken), want);
    }
}

/// The pairwise keys of a round in which one client is left out: nobody adds the draws shared with it.
struct Without(u16);

impl KeySource<LinearForm> for Without {
    fn draw(&self, name: KeyStream, len: usize) -> Vec<LinearForm> {
        if name.a == self.0 || name.b == self.0 {
            vec![LinearForm::zero(); len]
        } else {
            FormalKeys.draw(name, len)
        }
    }
}

#[test]
fn two_decodings_from_one_key_draw_are_caught_by_name() {
    let clients = 4u16;
    let message = |attempt: u32, k: u16, mask: &[LinearForm]| {
        let mut form = mask.to_vec();
        LinearForm::axpy(&mut form, 1.0, &[LinearForm::unknown(Unknown::Input(k))]);
        let (from, to) = (PartyId::Client(k), PartyId::Server);
        // A link use of this attempt, whatever else describes it.
        let mut link = None;
        let noise = ProtocolConfig::Ideal(uncoded::Ideal::default()).build(4, Seed::new(1)).unwrap();
        for sent in noise.views(1, &Perfect, 1).unwrap().messages {
            if (sent.link.from, sent.link.to) == (from, to) {
                link = Some(LinkUse { attempt, ..sent.link });
            }
        }
        Observed { link: link.unwrap(), delivered: true, forms: form }
    };
    let all = KeyKind::Pairwise.masks(4, 1, 3.0, 1, &FormalKeys);
    let without_last = KeyKind::Pairwise.masks(4, 1, 3.0, 1, &Without(3));
    let first = (0..clients).map(|k| message(0, k, &all[usize::from(k)]));
    let second = (0..clients - 1).map(|k| message(1, k, &without_last[usize::from(k)]));
    let views =
        |messages: Vec<Observed>| Views { clients: 4, messages, keys: Vec::new(), decoded: Decoded::Outage };
    let names = |views: &Views| -> Vec<Defect> { defect::of_round(views).iter().map(|f| f.defect).collect() };
    assert_eq!(names(&views(first.clone().collect())), []);
    let both = views(first.chain(second).collect());
    assert_eq!(names(&both), [Defect::TwoDecodings]);
    assert!(
        defect::of_round(&both)[0].evidence.ends_with("give the server x4"),
        "{:?}",
        defect::of_round(&both)
    );
}

#[test]
fn calibrated_keys_are_the_weakest_that_suffice() {
    // Independent noise: LMIP ½ log₂(1 + 1/σ²) bits at upload and server, so b bits need σ = (4^b − 1)^−½; and μ = 2C/σ.
    let noise = ProtocolConfig::Gaussian(uncoded::Gaussian::default());
    let smallest = |bounds: Bounds| {
        let found =
            calibrate(&noise, &bounds, Seed::new(1), 1, &Adversaries::default(), &assumptions(3)).unwrap();
        assert_eq!(found.len(), 1);
        found[0].key_std.unwrap()
    };
    let std = smallest(Bounds { epsilon: None, lmip_bits: Some(0.25) });
    let want = (4f64.powf(0.25) - 1.0).sqrt().recip();
    assert!(std >= want * (1.0 - 1e-9) && std <= want * 1.0002, "{std} for {want}");
    let std = smallest(Bounds { epsilon: Some(3.0), lmip_bits: None });
    let (met, missed) = (ldp::epsilon(2.0 / std, 1e-5), ldp::epsilon(2.0 * 1.0002 / std, 1e-5));
    assert!(met <= 3.0 && missed > 3.0, "{met} {missed}");
}

#[test]
fn fair_keys_need_less_power_than_plain_ones() {
    let protocol = ProtocolConfig::SecCoGc(SecCoGcConfig {
        code: CodeKind::CyclicMds,
        stragglers: 7.into(),
        ..Default::default()
    });
    let bounds = Bounds { epsilon: Some(8.0), lmip_bits: None };
    let assumptions = Assumptions { rounds: 150, ..assumptions(10) };
    let adversaries = Adversaries { all: 1, coalition: None };
    let found = calibrate(&protocol, &bounds, Seed::new(1), 1, &adversaries, &assumptions).unwrap();
    let power = |keys| found.iter().find(|one| one.keys == Some(keys)).unwrap().total_power.unwrap();
    let (fair, plain, pairwise) = (power(KeyKind::Fair), power(KeyKind::Plain), power(KeyKind::Pairwise));
    assert!((plain / fair - 2.0).abs() < 1e-3, "{plain} {fair}");
    assert!((pairwise / fair - 1.0).abs() < 1e-3, "the same law: {pairwise} {fair}");
    // No key goes below what the sum itself reveals: ½ log₂(10/9) = 0.0760 bits.
    let bounds = Bounds { epsilon: None, lmip_bits: Some(0.07) };
    let adversaries = Adversaries::default();
    let found = calibrate(&protocol, &bounds, Seed::new(1), 1, &adversaries, &assumptions).unwrap();
    assert!(found.iter().all(|one| one.key_std.is_none()));
    let obstacle = found[0].obstacle.as_ref().unwrap();
    assert!(
        obstacle.starts_with("server, client ") && obstacle.ends_with("(the sum alone gives 0.0760)"),
        "{obstacle}"
    );
}

fn seccogc(args: &[&str]) -> (i32, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_exceeded_bound_is_exit_code_1_after_the_table() {
    let base = ["audit", "configs/mnist.toml", "--set", "protocol.key_std=10"];
    let with = |more: &[&str]| seccogc(&[&base[..], more].concat());
    let (code, out, err) = with(&["--set", "privacy.max_lmip_bits=0.1"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("server + 1 client"));
    let (code, out, err) = with(&["--set", "privacy.max_lmip_bits=0.01"]);
    assert_eq!(code, 1);
    assert!(out.contains("server + 1 client") && err.lines().count() == 1, "{out}{err}");
    assert!(
        err.starts_with("exceeded: sec-cogc: server + 1 client, client ")
            && err.contains("above privacy.max_lmip_bits = 0.01"),
        "{err}"
    );
    let (code, _, err) = with(&["--set", "privacy.max_ldp_epsilon=5"]);
    assert_eq!(code, 1);
    assert!(err.contains("epsilon is unbounded"), "{err}");
    let (code, out, _) = with(&["--erasures", "actual", "--format", "csv"]);
    assert_eq!((code, out.lines().count()), (0, 1 + 5 * 10));
    for (wrong, line) in [
        (["--coalition", "11"], "error: coalition `11`: `11` is not a client; they are numbered 1 to 10\n"),
        (
            ["--set", "privacy.ldp_delta=1"],
            "error: configs/mnist.toml: privacy.ldp_delta: 1 must be greater than 0 and below 1\n",
        ),
        (
            ["--set", "privacy.max_ldp_epsilon=0"],
            "error: configs/mnist.toml: privacy.max_ldp_epsilon: 0 must be a finite number greater than 0\n",
        ),
    ] {
        assert_eq!(with(&wrong), (2, String::new(), line.into()));
    }
}

#[test]
fn erasure_files_are_read_and_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lost.csv");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Lost::load(&path, 3, 2).map_err(|error| error.to_string().replace(&path.display().to_string(), "F"))
    };
    let (one, two, server) = (PartyId::Client(0), PartyId::Client(1), PartyId::Server);
    assert_eq!(load("from,to\n1,2\n").unwrap(), Lost([(0, one, two), (1, one, two)].into()));
    assert_eq!(load("from,to,attempt\n2,server,2\n").unwrap(), Lost([(1, two, server)].into()));
    assert_eq!(load("a,b\n1,2\n").unwrap_err(), "F: the first line must be `from,to` or `from,to,attempt`");
    assert_eq!(
        load("from,to\n1,4\n").unwrap_err(),
        "F: line 2: `4` is neither `server` nor a client from 1 to 3"
    );
    assert_eq!(load("from,to\n1\n").unwrap_err(), "F: line 2: give sender and receiver");
    assert_eq!(load("from,to,attempt\n1,2,3\n").unwrap_err(), "F: line 2: `3` is not an attempt from 1 to 2");
}

#[test]
fn every_run_directory_holds_the_leakage_of_a_lossless_round() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let sets = [
        "rounds=1",
        "solver.steps=1",
        "solver.batch_size=2",
        "solver.clip_norm=1",
        "protocol.key_std=2",
        "model.hidden=2",
    ];
    let mut args = vec!["train", "configs/mnist.toml", "--quiet", "--out", run.to_str().unwrap()];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let (code, _, err) = seccogc(&args);
    assert_eq!(code, 0, "{err}");
    let table = std::fs::read_to_string(run.join("leakage.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 4 * 10);
    let column = |name: &str| lines[0].split(',').position(|header| header == name).unwrap();
    let link: Vec<&str> = lines[1].split(',').collect();
    assert_eq!(link[column("layer")], "link");
    let value = |name: &str| link[column(name)].parse::<f64>().unwrap();
    assert!((value("lmip_nats") - 0.5 * 0.25f64.ln_1p()).abs() < 1e-9, "{table}");
    // Client 1's input is w x with w its share of the examples: μ = 2 w C / σ = w.
    let clients = std::fs::read_to_string(run.join("clients.csv")).unwrap();
    let examples: Vec<f64> =
        clients.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect();
    let weight = examples[0] * 10.0 / examples.iter().sum::<f64>();
    assert!((value("epsilon_view") - ldp::epsilon(weight, 1e-5)).abs() < 1e-9, "{weight} {table}");
}
