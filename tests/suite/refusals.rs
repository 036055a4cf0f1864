//! Parties that send bodies of another form: the honest ones refuse them with a reason, and the server
//! obtains an exact sum or an outage. What changes no body, and other lengths of inputs, are acts of the kit
//! ([`seccogc::conformance::withstands`], in `kit/offenders.rs`).

use std::sync::Arc;

use seccogc::algebra::Scalar;
use seccogc::algebra::field::M61;
use seccogc::algebra::grid::Public;
use seccogc::coding::assignment::{AssignmentKind, ReplicatedCode};
use seccogc::coding::{CodeKind, Coefficient};
use seccogc::crypto::{KEY_BYTES, Secret};
use seccogc::keys::{KeyKind, KeySource, SeededKeys};
use seccogc::network::Perfect;
use seccogc::protocol::cogc::{CoGc, CoGcMessage, Codes};
use seccogc::protocol::exchange::{Outcome, run};
use seccogc::protocol::groupwise::{Groupwise, Seeds};
use seccogc::protocol::hierarchical::{Hierarchical, HierarchicalMessage};
use seccogc::protocol::light_sec_agg::LightSecAgg;
use seccogc::protocol::secure_gc::SecureGc;
use seccogc::protocol::two_round::{Rounds, Symbols, TwoRoundMessage};
use seccogc::protocol::uncoded::{Uncoded, Upload};
use seccogc::protocol::zhao_sun::ZhaoSun;
use seccogc::protocol::{Clock, Decoded, Envelope, Input, Party, PartyId, Phase, Protocol};
use seccogc::seed::Seed;

use crate::two_round::{Vector, inputs};

fn sum(inputs: &[Vector<M61>], included: &[u16]) -> Vec<M61> {
    let mut sum = vec![M61::ZERO; inputs[0].0.len()];
    included.iter().for_each(|&k| inputs[usize::from(k)].add_to(&mut sum));
    sum
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// One symbol or entry is missing.
    Truncated,
    /// One symbol or entry too much.
    Extended,
    /// Nothing at all in every vector and list.
    Empty,
}

const ACTS: [Act; 3] = [Act::Truncated, Act::Extended, Act::Empty];

/// Changes the form of a message.
pub trait Deform {
    /// The number of entries becomes what `len` makes of it.
    fn deform(&mut self, len: &dyn Fn(usize) -> usize);
}

fn resize<T: Clone>(vector: &mut Vec<T>, len: &dyn Fn(usize) -> usize, fill: T) {
    vector.resize(len(vector.len()), fill);
}

fn symbols(vector: &mut Arc<Vec<M61>>, len: &dyn Fn(usize) -> usize) {
    resize(Arc::make_mut(vector), len, M61::ONE);
}

impl Deform for Upload<M61> {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        symbols(&mut self.0, len);
    }
}

impl Deform for CoGcMessage<M61> {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        match self {
            Self::Share { vector, .. } | Self::Sum(vector) => symbols(vector, len),
            Self::Partial { held, .. } => resize(held, len, true),
        }
    }
}

impl Deform for HierarchicalMessage<M61> {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        match self {
            Self::Share(vector) | Self::Sum(vector) => symbols(vector, len),
            Self::Report(held) => resize(held, len, true),
            // A list that is shorter is another list; one client twice is not.
            Self::Announcement(holdings, _) => {
                let holdings = Arc::make_mut(holdings);
                holdings.push(holdings[0].clone());
            }
            Self::Repair(shares) => shares.iter_mut().for_each(|(_, share)| resize(share, len, M61::ONE)),
        }
    }
}

impl Deform for Symbols<M61> {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        resize(&mut self.0, len, M61::ONE);
    }
}

impl Deform for Seeds {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        resize(&mut self.0, len, Secret::new([0; KEY_BYTES]));
    }
}

impl<H: Deform + Clone> Deform for TwoRoundMessage<M61, Symbols<M61>, H> {
    fn deform(&mut self, len: &dyn Fn(usize) -> usize) {
        match self {
            Self::Share(share) => Arc::make_mut(share).deform(len),
            Self::Answer(answer) => Arc::make_mut(answer).deform(len),
            Self::Upload(upload) => symbols(upload, len),
            Self::Survivors { included, .. } => {
                let included = Arc::make_mut(included);
                included.push(included[0]);
            }
        }
    }
}

/// A protocol in which one party, or everybody, misbehaves.
struct Misbehaving<P: Protocol<M61>> {
    protocol: P,
    offender: Option<PartyId>,
    act: Act,
}

struct Offender<P: Protocol<M61>> {
    party: P::Party,
    /// `None` behaves.
    act: Option<Act>,
}

impl<P: Protocol<M61, Message: Deform>> Party<P::Message, M61> for Offender<P> {
    fn refusal(&self, message: &Envelope<P::Message>) -> Option<String> {
        self.party.refusal(message)
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<P::Message>>) -> Vec<Envelope<P::Message>> {
        let mut sent = self.party.step(clock, inbox);
        let len = |len| match self.act {
            None => len,
            Some(Act::Truncated) => len - 1,
            Some(Act::Extended) => len + 1,
            Some(Act::Empty) => 0,
        };
        if self.act.is_some() {
            sent.iter_mut().for_each(|envelope| envelope.body.deform(&len));
        }
        sent
    }

    fn decoded(&mut self) -> Option<Decoded<M61>> {
        self.party.decoded()
    }
}

impl<P: Protocol<M61, Message: Deform>> Protocol<M61> for Misbehaving<P> {
    type Message = P::Message;
    type Key = P::Key;
    type Party = Offender<P>;

    fn parties(&self) -> Vec<PartyId> {
        self.protocol.parties()
    }

    fn phases(&self) -> Vec<Phase> {
        self.protocol.phases()
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<M61>) -> Vec<Self::Key> {
        self.protocol.deal(round, len, source)
    }

    fn holds(&self, client: u16) -> Vec<u16> {
        self.protocol.holds(client)
    }

    fn party(&self, id: PartyId, key: Self::Key, input: Option<&dyn Input<M61>>) -> Offender<P> {
        let act = self.offender.is_none_or(|offender| offender == id).then_some(self.act);
        Offender { party: self.protocol.party(id, key, input), act }
    }
}

/// Runs two rounds for every offender and every act. `survives` says whether the sum must be recovered
/// although this offender's messages count as lost.
pub fn withstands<P>(name: &str, scheme: impl Fn() -> P, clients: usize, survives: impl Fn(PartyId) -> bool)
where
    P: Protocol<M61, Message: Deform>,
{
    let len = 5;
    let x = inputs::<M61>(clients, len);
    let inputs: Vec<&dyn Input<M61>> = x.iter().map(|x| x as _).collect();
    let keys = SeededKeys(Seed::new(4));
    let offenders = scheme().parties().into_iter().map(Some).chain([None]);
    for (offender, act) in offenders.flat_map(|offender| ACTS.map(|act| (offender, act))) {
        let protocol = Misbehaving { protocol: scheme(), offender, act };
        let mut refusals = 0;
        let mut sent = 0;
        for round in 1..=2 {
            let count = |_: &_, _, link: seccogc::network::LinkUse| {
                sent += usize::from(offender.is_none_or(|offender| offender == link.from));
            };
            let Outcome { decoded, refused, .. } = run(&protocol, round, &inputs, &keys, &Perfect, 2, count);
            let name = format!("{name}, {act:?} by {offender:?}, round {round}");
            refusals += refused.len();
            let by_offender = refused.iter().all(|r| offender.is_none_or(|offender| r.from == offender));
            assert!(by_offender, "{name}: {refused:?}");
            match decoded {
                Decoded::Estimate { .. } => panic!("{name}"),
                Decoded::Outage(_) => {
                    assert!(offender.is_none_or(|offender| !survives(offender)), "{name}");
                }
                Decoded::Sum { sum: got, included, .. } => {
                    assert_eq!(got, sum(&x, &included), "{name}: a wrong sum over {included:?}");
                }
            }
        }
        assert!(refusals > 0 || sent == 0, "{name}: nobody refuses {act:?} by {offender:?}");
    }
}

#[test]
fn schemes_without_answers() {
    withstands("fedavg", || Uncoded::new(4), 4, |_| true);
    let code = |stragglers| Arc::new(M61::code(CodeKind::CyclicRandom, 4, stragglers, Seed::new(1)).unwrap());
    let keys = || Some((KeyKind::Fair.into(), 1.0));
    for stacking in [None, Some((Seed::new(1), f64::INFINITY))] {
        let scheme = || CoGc {
            codes: Codes::new(code(2), stacking).into(),
            keys: keys(),
            link_std: 0.0,
            grid: None,
            public: Public::default(),
            least: 1,
        };
        // The lost shares of one client leave one complete row of four, and two are needed.
        withstands("sec-cogc", scheme, 4, |_| false);
    }
    let code = || ReplicatedCode::<M61>::build(AssignmentKind::Cyclic, 5, 4, 2, Seed::new(1)).unwrap().0;
    withstands("secure-gc", || SecureGc::new(code()), 5, |_| true);
}

#[test]
fn schemes_with_announcements() {
    let client = |id: PartyId| matches!(id, PartyId::Client(_));
    let hierarchical = || Hierarchical::<M61>::new(3, 4, 3, 1).unwrap();
    withstands("hierarchical", hierarchical, 3, |id| id != PartyId::Server);
    withstands("zhao-sun", || Rounds::new(ZhaoSun::<M61>::new(4, 3, 1).unwrap()), 4, client);
    // Nobody else has the offender's shares, so that nobody can answer for a set with it.
    withstands("light-sec-agg", || Rounds::new(LightSecAgg::<M61>::new(4, 3, 1).unwrap()), 4, |_| false);
    let groupwise = || Rounds::new(Groupwise::<M61>::new(4, 3, 2, Seed::new(3)).unwrap());
    withstands("groupwise", groupwise, 4, client);
    // Nor its seeds.
    let apart = || Rounds::new(Groupwise::<M61>::new(4, 3, 3, Seed::new(3)).unwrap().apart());
    withstands("groupwise, keys made by their owners", apart, 4, |_| false);
}
