//! Every coalition over every erasure pattern, and schemes that were broken on purpose.

use std::collections::HashMap;

use rand::RngExt;
use rayon::prelude::*;
use seccogc::algebra::field::M61;
use seccogc::algebra::grid::Public;
use seccogc::algebra::quantise::Quantisation;
use seccogc::algebra::{KeyStream, LinearForm, Scalar, Symbol, Unknown};
use seccogc::audit::erasures::Lost;
use seccogc::audit::{Adversaries, Assumptions, Erasures, audit};
use seccogc::coding::{CodeKind, Coefficient};
use seccogc::keys::{FormalKeys, KeyKind, KeySource};
use seccogc::message::Observed;
use seccogc::network::{LinkUse, Perfect};
use seccogc::privacy::defect::{self, Defect};
use seccogc::privacy::exact::ExactViews;
use seccogc::privacy::rank::Determined;
use seccogc::privacy::view::{Coalition, View};
use seccogc::protocol::cogc::{CoGc, CoGcMessage, Codes, Key, Role, SecCoGcConfig};
use seccogc::protocol::exchange::{FieldSession, Session, Setup, formal};
use seccogc::protocol::groupwise::{Groupwise, GroupwiseConfig};
use seccogc::protocol::light_sec_agg::LightSecAgg;
use seccogc::protocol::sec_agg::{Cryptographic, SecAgg, SecAggConfig, SecAggPlusConfig};
use seccogc::protocol::two_round::Rounds;
use seccogc::protocol::{
    Aggregator, Arithmetic, Clock, Decoded, Envelope, Input, Message, Party, PartyId, Phase, Protocol,
    ProtocolConfig, Scheme, SharedKeys, Views, uncoded,
};
use seccogc::seed::Seed;

use crate::by_rank::Rule;

const KINDS: [KeyKind; 3] = [KeyKind::Plain, KeyKind::Fair, KeyKind::Pairwise];

fn scheme(clients: usize, config: SecCoGcConfig) -> Box<dyn Aggregator> {
    ProtocolConfig::SecCoGc(config).build(clients, Seed::new(1)).unwrap()
}

fn assumptions(clients: usize) -> Assumptions {
    Assumptions {
        input_std: 1.0,
        clip: Some(1.0),
        weights: vec![1.0; clients].into(),
        delta: 1e-5,
        rounds: 1,
        coordinates: None,
    }
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

/// Without losses no coalition of up to three parties determines more than its own updates and the sum, and
/// the sum only with the server's messages or a share of every other client. Over every erasure pattern,
/// every message is one that is also sent without losses, so that no coalition sees more. M = 5 with s ≥ 3
/// has 2²⁰ and 2²⁵ patterns; they are covered by all losses of one client's shares, since a party is a state
/// machine that knows its own inbox only, with 4096 seeded patterns on top.
#[test]
fn exhaustive_audit_of_every_key_construction() {
    for clients in 2..=5 {
        for stragglers in 1..clients {
            for keys in KINDS {
                let config = SecCoGcConfig {
                    keys: keys.into(),
                    key_std: 2.0,
                    stragglers: stragglers.into(),
                    ..Default::default()
                };
                let scheme = scheme(clients, config);
                let code = scheme.code().unwrap();
                let lossless = scheme.views(1, &Perfect, 1).unwrap();
                for members in subsets(clients + 1, 3.min(clients)) {
                    let view = View::of(&lossless, coalition(&members, clients));
                    let honest: Vec<usize> = view.honest().collect();
                    if honest.len() < 2 {
                        continue;
                    }
                    let determined = Determined::of(&view).unwrap();
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
                let uses: Vec<(u32, u8, PartyId, PartyId)> =
                    sent.keys().map(|&(from, to)| (0, 0, from, to)).collect();
                let all = 1usize << uses.len();
                // The parties' control flow does not depend on the keys: 2¹⁶ patterns once are enough.
                let most = if keys == KeyKind::Fair { 16 } else { 15 };
                let patterns: Vec<usize> = if uses.len() <= most {
                    (0..all).collect()
                } else {
                    let mut rng = Seed::new(30).rng();
                    let mut patterns: Vec<usize> = (0..4096).map(|_| rng.random_range(0..all)).collect();
                    for receiver in 0..clients as u16 {
                        let to_receiver = |&i: &usize| uses[i].3 == PartyId::Client(receiver);
                        let inbound: Vec<usize> = (0..uses.len()).filter(to_receiver).collect();
                        assert_eq!(inbound.len(), stragglers);
                        patterns.extend((0..1usize << stragglers).map(|choice| {
                            let lost = inbound.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1);
                            lost.map(|(_, &i)| 1 << i).sum::<usize>()
                        }));
                    }
                    patterns
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

struct Flawed<K>(CoGc<K>, Flaw);

struct FlawedRole<S: Symbol> {
    role: Role<S>,
    id: PartyId,
    flaw: Flaw,
}

impl<S: Symbol<Scalar: Coefficient>> Party<CoGcMessage<S>, S> for FlawedRole<S> {
    fn refusal(&self, message: &Envelope<CoGcMessage<S>>) -> Option<String> {
        self.role.refusal(message)
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<CoGcMessage<S>>>) -> Vec<Envelope<CoGcMessage<S>>> {
        let shares: Vec<Vec<S>> = inbox.iter().flat_map(|envelope| envelope.body.reveals()).collect();
        let sent = self.role.step(clock, inbox);
        if self.flaw == Flaw::IncompleteSum && clock.phase == 1 && sent.is_empty() && !shares.is_empty() {
            let terms: Vec<_> = shares.iter().map(|share| (S::Scalar::ONE, share.as_slice())).collect();
            let body = CoGcMessage::Sum(S::combine(shares[0].len(), &terms).into());
            return vec![Envelope { sent: clock, from: self.id, to: PartyId::Server, body }];
        }
        sent
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        self.role.decoded()
    }
}

impl<S: Symbol<Scalar: Coefficient>> Protocol<S> for Flawed<S::Scalar> {
    type Message = CoGcMessage<S>;
    type Key = Key<S>;
    type Party = FlawedRole<S>;

    fn parties(&self) -> Vec<PartyId> {
        Protocol::<S>::parties(&self.0)
    }

    fn phases(&self) -> Vec<Phase> {
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

/// The defects that the audit finds when one share is lost.
fn named(scheme: &dyn Aggregator, lost: &Lost) -> Vec<Defect> {
    let adversaries = Adversaries::default();
    let assumptions = assumptions(5);
    let audit = audit("a", scheme, Erasures::These(lost), 1, &adversaries, &assumptions).unwrap();
    audit.findings.iter().map(|finding| finding.defect).collect()
}

/// M = 5, s = 2 with a flaw.
fn flawed<K: Coefficient>(flaw: Flaw, link_std: f64) -> Flawed<K> {
    let code = K::code(CodeKind::CyclicRandom, 5, 2, Seed::new(1)).unwrap();
    let codes = Codes::new(code.into(), None).into();
    Flawed(
        CoGc {
            codes,
            keys: Some((KeyKind::Fair.into(), 2.0)),
            link_std,
            grid: None,
            public: Public::default(),
            least: 1,
        },
        flaw,
    )
}

#[test]
fn broken_variants_are_caught_by_name() {
    let one_share = Lost([(0, 0, PartyId::Client(1), PartyId::Client(0))].into());
    for arithmetic in [Arithmetic::F64, Arithmetic::Field] {
        let sound = scheme(5, SecCoGcConfig { stragglers: 2.into(), arithmetic, ..Default::default() });
        assert_eq!(named(&*sound, &one_share), []);
    }
    let setup = || Setup::new(5, Seed::new(1), Scheme::default());
    for (flaw, want) in [
        (Flaw::ReusedKey, vec![Defect::ReusedKey]),
        (Flaw::NotZeroSum, vec![Defect::KeysNotZeroSum]),
        (Flaw::IncompleteSum, vec![Defect::LinkKeyUncancelled, Defect::WrongSum]),
    ] {
        let link_std = if flaw == Flaw::IncompleteSum { 1.0 } else { 0.0 };
        let broken = Session { protocol: flawed::<f64>(flaw, link_std), single: false, setup: setup() };
        assert_eq!(named(&broken, &one_share), want);
    }
    let quantiser = Quantisation::default().quantiser(5).unwrap();
    for (flaw, want) in [
        (Flaw::ReusedKey, vec![Defect::ReusedKey]),
        (Flaw::NotZeroSum, vec![Defect::KeysNotZeroSum]),
        // An incomplete sum in place of a complete one decodes to a wrong sum with keys in it.
        (Flaw::IncompleteSum, vec![Defect::KeysNotZeroSum, Defect::WrongSum]),
    ] {
        let broken = FieldSession::<_, M61>::new(flawed::<M61>(flaw, 0.0), quantiser, setup());
        assert_eq!(named(&broken, &one_share), want);
    }
}

/// What is wrong with the keys of a scheme that is otherwise left as it is.
#[derive(Clone, Copy)]
enum Broken {
    /// Deals the first round's keys in every round.
    Reused,
    /// One client's keys are from another draw, so that masks shared with it do not cancel.
    Mismatched,
    /// The draws with this name are the constant 0.
    Constant(&'static str),
}

struct Keyed<P>(P, Broken);

struct Altered<'a, K>(&'a K, Broken);

impl<S: Symbol, K: KeySource<S>> KeySource<S> for Altered<'_, K> {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]) {
        match self.1 {
            Broken::Constant(purpose) if purpose == name.purpose => out.fill(S::zero()),
            _ => self.0.fill(name, chunk, out),
        }
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [S::Draw]) {
        match self.1 {
            Broken::Constant(purpose) if purpose == name.purpose => out.fill(S::Draw::zero()),
            _ => self.0.noise(name, chunk, out),
        }
    }

    fn coins(&self, name: KeyStream, chunk: usize, out: &mut [u8]) {
        self.0.coins(name, chunk, out);
    }
}

impl<S: Symbol, P: Protocol<S>> Protocol<S> for Keyed<P> {
    type Message = P::Message;
    type Key = P::Key;
    type Party = P::Party;

    fn parties(&self) -> Vec<PartyId> {
        self.0.parties()
    }

    fn phases(&self) -> Vec<Phase> {
        self.0.phases()
    }

    fn formal_len(&self) -> usize {
        self.0.formal_len()
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<P::Key> {
        let deal = |round| self.0.deal(round, len, &Altered(source, self.1));
        let mut keys = deal(if matches!(self.1, Broken::Reused) { 1 } else { round });
        if matches!(self.1, Broken::Mismatched) {
            std::mem::swap(&mut keys[0], &mut deal(round + 1000)[0]);
        }
        keys
    }

    fn party(&self, id: PartyId, key: P::Key, input: Option<&dyn Input<S>>) -> P::Party {
        self.0.party(id, key, input)
    }
}

/// The audit of five clients over a field, with the server and up to two of them as adversaries: the defects,
/// and how many clients must join the server to learn something beyond the sum.
fn examined<P>(protocol: P, lost: &Lost) -> (Vec<Defect>, Option<usize>)
where
    P: Protocol<M61> + Protocol<LinearForm<M61>>,
{
    let setup = Setup::new(5, Seed::new(1), Scheme::default());
    let scheme = FieldSession::<_, M61>::new(protocol, Quantisation::default().quantiser(5).unwrap(), setup);
    let adversaries = Adversaries { all: 2, coalition: None };
    let audit = audit("a", &scheme, Erasures::These(lost), 1, &adversaries, &assumptions(5)).unwrap();
    let colluders = (0..3).find(|size| {
        let layer = match size {
            0 => "server".to_owned(),
            1 => "server + 1 client".to_owned(),
            size => format!("server + {size} clients"),
        };
        let mut entries = audit.entries.iter().filter(|entry| entry.layer == layer).peekable();
        assert!(entries.peek().is_some(), "no layer {layer}");
        entries.any(|entry| entry.symbols > 0)
    });
    (audit.findings.iter().map(|finding| finding.defect).collect(), colluders)
}

/// SecAgg with t = 3, and SecAgg+ with t = 3 among four neighbours each.
#[test]
fn broken_keys_of_secagg_are_caught() {
    let nobody = Lost([].into());
    for degree in [None, Some(4)] {
        let scheme = || SecAgg::<Cryptographic>::new(5, degree, Some(3), Seed::new(1)).unwrap();
        let broken = |broken| Keyed(scheme(), broken);
        assert_eq!(examined(scheme(), &nobody), (vec![], None));
        assert_eq!(examined(broken(Broken::Reused), &nobody).0, [Defect::ReusedKey]);
        assert_eq!(examined(broken(Broken::Mismatched), &nobody).0, [Defect::KeysNotZeroSum]);
        // Polynomials of degree 0: every share is the secret, and one colluder reads everything.
        assert_eq!(examined(broken(Broken::Constant("noise")), &nobody), (vec![], Some(1)));
        // Without encryption of the shares the server, which forwards them, needs nobody.
        let (defects, colluders) = examined(broken(Broken::Constant("pad")), &nobody);
        assert_eq!((defects, colluders), (vec![Defect::BeyondSum], Some(0)));
        // Without masks of the pairs only self masks are left, and those of survivors the server removes.
        assert_eq!(examined(broken(Broken::Constant("pair")), &nobody), (vec![Defect::BeyondSum], Some(0)));
    }
}

/// Agreed and uniform keys have one formal view; only the audit of the former rests on cryptography, and says
/// so.
#[test]
fn the_audit_of_agreed_keys_names_its_idealisation() {
    let of = |keys| {
        let groupwise = GroupwiseConfig { survivors: 3, group_size: 3, keys, ..Default::default() };
        let plus = SecAggPlusConfig { neighbours: 4, keys, ..Default::default() };
        [
            ProtocolConfig::Groupwise(groupwise),
            ProtocolConfig::SecAgg(SecAggConfig { keys, ..Default::default() }),
            ProtocolConfig::SecAggPlus(plus),
        ]
    };
    for (agreed, uniform) in of(SharedKeys::Agreement).into_iter().zip(of(SharedKeys::Uniform)) {
        let [agreed, uniform] = [agreed, uniform].map(|config| {
            let scheme = config.build(5, Seed::new(1)).unwrap();
            let lost = Lost([(0, 0, PartyId::Client(1), PartyId::Server)].into());
            let erasures = Erasures::These(&lost);
            audit("a", &*scheme, erasures, 1, &Adversaries::default(), &assumptions(5)).unwrap()
        });
        assert_eq!((&agreed.findings, &agreed.entries), (&uniform.findings, &uniform.entries));
        assert_eq!(agreed.findings, []);
        let server = agreed.entries.iter().filter(|entry| entry.layer == "server");
        assert!(server.clone().count() == 5 && server.clone().all(|entry| entry.symbols == 0));
        let named = agreed.idealised.unwrap();
        assert!(named.contains("independent uniform symbols") && named.contains("X25519"), "{named}");
        assert_eq!(uniform.idealised, None);
        assert!(serde_json::to_string(&agreed).unwrap().contains("independent uniform symbols"));
    }
}

/// Self masks protect a client who counts as a drop-out but whose upload arrives after all: the server has
/// learned its pair keys.
#[test]
fn a_missing_self_mask_is_caught_where_an_upload_comes_late() {
    let late = Rule(|link: LinkUse| link.transfer != 2 || link.from != PartyId::Client(4));
    let adversary =
        Coalition { parties: vec![PartyId::Server], links: vec![(PartyId::Client(4), PartyId::Server)] };
    let leaked = |broken| {
        let scheme = SecAgg::<Cryptographic>::new(5, None, Some(3), Seed::new(1)).unwrap();
        let views = formal::<M61, _>(&Keyed(scheme, broken), 5, 1, &FormalKeys, &late, 1);
        assert!(matches!(&views.decoded, Decoded::Sum { included, .. } if included[..] == [0, 1, 2, 3]));
        views.exposed(&adversary)
    };
    assert_eq!(leaked(Broken::Constant("nothing")).symbols, 0);
    let exposed = leaked(Broken::Constant("self"));
    assert!(exposed.symbols > 0, "{exposed:?}");
}

#[test]
fn broken_group_keys_and_shared_masks_are_caught() {
    let nobody = Lost([].into());
    let groupwise = || Rounds::new(Groupwise::<M61>::new(5, 3, 3, Seed::new(1)).unwrap());
    assert_eq!(examined(groupwise(), &nobody), (vec![], Some(1)), "no collusion is covered");
    assert_eq!(examined(Keyed(groupwise(), Broken::Reused), &nobody).0, [Defect::ReusedKey]);
    assert_eq!(examined(Keyed(groupwise(), Broken::Mismatched), &nobody).0, [Defect::KeysNotZeroSum]);
    let constant = examined(Keyed(groupwise(), Broken::Constant("group")), &nobody);
    assert_eq!(constant, (vec![Defect::BeyondSum], Some(0)));
    let shared = || Rounds::new(LightSecAgg::<M61>::new(5, 4, 2).unwrap());
    assert_eq!(examined(shared(), &nobody), (vec![], None));
    assert_eq!(examined(Keyed(shared(), Broken::Reused), &nobody).0, [Defect::ReusedKey]);
    assert_eq!(examined(Keyed(shared(), Broken::Constant("noise")), &nobody).1, Some(1));
}

/// The pairwise keys of a round in which one client is left out: nobody adds the draws shared with it.
struct Without(u16);

impl KeySource<LinearForm> for Without {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [LinearForm]) {
        if name.a == self.0 || name.b == self.0 {
            out.fill(LinearForm::zero());
        } else {
            FormalKeys.fill(name, chunk, out);
        }
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [LinearForm]) {
        self.fill(name, chunk, out);
    }

    fn coins(&self, _: KeyStream, _: usize, _: &mut [u8]) {}
}

#[test]
fn two_decodings_from_one_key_draw_are_caught_by_name() {
    let clients = 4u16;
    let message = |attempt: u32, k: u16, mask: &[LinearForm]| {
        let mut form = mask.to_vec();
        LinearForm::axpy(&mut form, 1.0, &[LinearForm::unknown(Unknown::Input(k, 0))]);
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
    let all = KeyKind::Pairwise.masks::<LinearForm>(4, 1, 3.0, None, 1, &FormalKeys);
    let without_last = KeyKind::Pairwise.masks::<LinearForm>(4, 1, 3.0, None, 1, &Without(3));
    let first = (0..clients).map(|k| message(0, k, &all[usize::from(k)]));
    let second = (0..clients - 1).map(|k| message(1, k, &without_last[usize::from(k)]));
    let views = |messages: Vec<Observed>| Views {
        holds: Vec::new(),
        clients: 4,
        len: 1,
        messages,
        keys: Vec::new(),
        announced: None,
        decoded: Decoded::lost(),
    };
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
