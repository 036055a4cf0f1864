//! Parties that do not follow the protocol.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Breach;
use crate::algebra::Symbol;
use crate::keys::KeySource;
use crate::message::{Clock, Decoded, Envelope, LinkUse, Message, PartyId, Phase};
use crate::network::{LinkModel, Node, Perfect};
use crate::protocol::exchange::{Outcome, run};
use crate::protocol::{Input, Party, Protocol};

/// What an offender does to everything that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends it twice.
    Twice,
    /// Sends it one phase late.
    Late,
    /// Sends first what it sent at the same time in the round before.
    Replay,
    /// Sends it to the next party too.
    Astray,
    /// Sends it in the name of another party.
    Forged,
    /// Sends what it sent before in this round, with the date of today.
    Stale,
    /// Sends what it would send of a longer input.
    Longer,
    /// Sends what it would send of a shorter input.
    Shorter,
}

impl Act {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Twice,
        Self::Late,
        Self::Replay,
        Self::Astray,
        Self::Forged,
        Self::Stale,
        Self::Longer,
        Self::Shorter,
    ];

    /// Whether it only adds to honest messages, and so must cost nothing.
    fn is_harmless(self) -> bool {
        matches!(self, Self::Twice | Self::Replay | Self::Astray)
    }
}

/// Plays two rounds over links that lose nothing for every offender, all of them together, and every [`Act`].
/// `inputs` makes the clients' inputs of about so many coordinates; `sum` is Σ of the inputs of some of them,
/// to be met exactly; an estimate must be that of a round in which some phases of the offender, or none, are
/// lost. `survives` says whether the round must end with a sum although this offender's messages
/// count as lost.
///
/// # Errors
/// The first rule that is broken.
pub fn withstands<S, P, X>(
    scheme: impl Fn() -> P,
    inputs: impl Fn(usize) -> Vec<X>,
    sum: impl Fn(&[X], &[u16]) -> Vec<S>,
    keys: &impl KeySource<S>,
    survives: impl Fn(PartyId) -> bool,
) -> Result<(), Breach>
where
    S: Symbol + PartialEq,
    P: Protocol<S>,
    X: Input<S>,
{
    const LEN: usize = 12;
    let honest = inputs(LEN);
    let [longer, shorter] =
        [inputs(2 * LEN), inputs(LEN / 2)].map(|inputs| Arc::new(recorded(&scheme(), &inputs, keys)));
    let offenders: Vec<Option<PartyId>> = scheme().parties().into_iter().map(Some).chain([None]).collect();
    let undisturbed = [1, 2].map(|round| {
        let inputs: Vec<&dyn Input<S>> = honest.iter().map(|x| x as _).collect();
        run(&scheme(), round, &inputs, keys, &Perfect, 2, |_, _, _| ()).decoded
    });
    for act in Act::ALL {
        for &offender in &offenders {
            let other = match act {
                Act::Longer => Arc::clone(&longer),
                Act::Shorter => Arc::clone(&shorter),
                _ => Arc::default(),
            };
            let protocol = Misbehaving { protocol: scheme(), offender, act, before: Arc::default(), other };
            let breach = |evidence: String| {
                let who = offender.map_or_else(|| "everybody".into(), |id| id.to_string());
                Err(Breach { rule: "refusal", evidence: format!("{act:?} by {who}: {evidence}") })
            };
            let (mut refusals, mut sent) = (0, 0);
            for (round, undisturbed) in (1..).zip(&undisturbed) {
                let dyns: Vec<&dyn Input<S>> = honest.iter().map(|x| x as _).collect();
                let count = |_: &_, _, link: LinkUse| {
                    sent += usize::from(offender.is_none_or(|offender| link.from == offender));
                };
                let Outcome { decoded, refused, .. } = run(&protocol, round, &dyns, keys, &Perfect, 2, count);
                refusals += refused.len();
                if let Some(other) =
                    refused.iter().find(|r| offender.is_some_and(|offender| r.from != offender))
                {
                    return breach(format!("an honest message is refused: {other}"));
                }
                let must = act.is_harmless() || offender.is_some_and(&survives);
                match decoded {
                    Decoded::Outage(_) if must => return breach(format!("round {round} is an outage")),
                    Decoded::Outage(_) => {}
                    Decoded::Estimate { .. } if undisturbed.is_sum() => {
                        return breach("an estimate where a sum is promised".into());
                    }
                    Decoded::Estimate { sum: got, included } => {
                        let all = act.is_harmless();
                        if !estimates(&scheme(), round, &dyns, keys, offender, all).any(|sum| sum == got) {
                            return breach(format!("a wrong estimate from {included:?}"));
                        }
                        if all && included.len() != honest.len() {
                            return breach(format!("only {included:?} are included"));
                        }
                    }
                    Decoded::Sum { sum: got, included, .. } => {
                        if got != sum(&honest, &included) {
                            return breach(format!("a wrong sum over {included:?}"));
                        }
                        if act.is_harmless() && included.len() != honest.len() {
                            return breach(format!("only {included:?} are included"));
                        }
                    }
                }
            }
            // Stale needs two phases in which the party sends, Late one after it; what has no length is not
            // too long.
            let silent = sent == 0
                || matches!(act, Act::Stale | Act::Late)
                || matches!(act, Act::Longer | Act::Shorter) && !protocol.changes_lengths(keys, &honest);
            if refusals == 0 && !silent {
                return breach("nobody refuses it".into());
            }
        }
    }
    Ok(())
}

/// The estimates of a round without the messages of the offender in some of the phases; with `all` that of
/// all messages only.
fn estimates<'a, S, P>(
    protocol: &'a P,
    round: u64,
    inputs: &'a [&'a dyn Input<S>],
    keys: &'a impl KeySource<S>,
    offender: Option<PartyId>,
    all: bool,
) -> impl Iterator<Item = Vec<S>>
where
    S: Symbol,
    P: Protocol<S>,
{
    let phases = protocol.phases();
    let patterns = if all { 1 } else { 1u64 << phases.len() };
    (0..patterns).filter_map(move |lost| {
        let links = Mute { offender, phases: &phases, lost };
        match run(protocol, round, inputs, keys, &links, 2, |_, _, _| {}).decoded {
            Decoded::Estimate { sum, .. } => Some(sum),
            Decoded::Sum { .. } | Decoded::Outage(_) => None,
        }
    })
}

/// Links that lose what the offender, or everybody, sends in some phases, one bit each.
struct Mute<'a> {
    offender: Option<PartyId>,
    phases: &'a [Phase],
    lost: u64,
}

impl LinkModel for Mute<'_> {
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        let ends = (link.from.role(), link.to.role(), link.transfer);
        let place = |(phase, transfer): (&Phase, u8)| (phase.from, phase.to, transfer) == ends;
        let phase = self.phases.iter().zip(Phase::transfers(self.phases)).position(place);
        let is_offender = self.offender.is_none_or(|offender| link.from == offender.into());
        !is_offender || phase.is_none_or(|phase| self.lost >> phase & 1 == 0)
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
        0.0
    }
}

/// Everything that is sent in a round, by moment and ends.
type Sent<M> = HashMap<(u64, u32, u8, PartyId, PartyId), M>;

/// What is sent in two rounds of honest parties.
fn recorded<S, P, X>(protocol: &P, inputs: &[X], keys: &impl KeySource<S>) -> Sent<P::Message>
where
    S: Symbol,
    P: Protocol<S>,
    X: Input<S>,
{
    let inputs: Vec<&dyn Input<S>> = inputs.iter().map(|x| x as _).collect();
    let mut sent = Sent::new();
    for round in 1..=2 {
        run(protocol, round, &inputs, keys, &Perfect, 1, |message, _, link| {
            sent.insert((round, link.attempt, link.transfer, link.from, link.to), message.clone());
        });
    }
    sent
}

type Memory<M> = Mutex<HashMap<(PartyId, u8), Vec<Envelope<M>>>>;

/// A protocol in which one party, or everybody, misbehaves.
struct Misbehaving<S: Symbol, P: Protocol<S>> {
    protocol: P,
    offender: Option<PartyId>,
    act: Act,
    /// What was sent in the round before, by party and phase.
    before: Arc<Memory<P::Message>>,
    /// What would be sent of inputs of another length.
    other: Arc<Sent<P::Message>>,
}

impl<S: Symbol, P: Protocol<S>> Misbehaving<S, P> {
    /// Whether the offender sends anything whose size depends on the length of inputs.
    fn changes_lengths<X: Input<S>>(&self, keys: &impl KeySource<S>, inputs: &[X]) -> bool {
        recorded(&self.protocol, inputs, keys).iter().any(|(at, message)| {
            let (_, _, _, from, _) = *at;
            self.offender.is_none_or(|offender| offender == from)
                && self.other.get(at).is_some_and(|other| other.bytes() != message.bytes())
        })
    }
}

/// A party of [`Misbehaving`].
struct Offender<S: Symbol, P: Protocol<S>> {
    party: P::Party,
    id: PartyId,
    others: Vec<PartyId>,
    phases: Vec<Phase>,
    /// `None` behaves.
    act: Option<Act>,
    before: Arc<Memory<P::Message>>,
    other: Arc<Sent<P::Message>>,
    last: Vec<Envelope<P::Message>>,
}

impl<S: Symbol, P: Protocol<S>> Offender<S, P> {
    /// The bodies that are sent of inputs of another length.
    fn in_another_length(&self, clock: Clock, sent: Vec<Envelope<P::Message>>) -> Vec<Envelope<P::Message>> {
        let body = |envelope: Envelope<P::Message>| {
            let (from, to) = (envelope.from, envelope.to);
            let earlier = &self.phases[..usize::from(clock.phase).min(self.phases.len())];
            let transfer = Phase::transfer(earlier, from.role(), to.role());
            let at = (clock.round, 0, transfer, from, to);
            let body = self.other.get(&at).cloned().unwrap_or_else(|| envelope.body.clone());
            Envelope { body, ..envelope }
        };
        sent.into_iter().map(body).collect()
    }
}

impl<S: Symbol, P: Protocol<S>> Party<P::Message, S> for Offender<S, P> {
    fn refusal(&self, message: &Envelope<P::Message>) -> Option<String> {
        self.party.refusal(message)
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<P::Message>>) -> Vec<Envelope<P::Message>> {
        let mut sent = self.party.step(clock, inbox);
        let Some(act) = self.act else { return sent };
        let honest = sent.clone();
        let earlier = lock(&self.before).insert((self.id, clock.phase), honest.clone());
        let last = std::mem::replace(&mut self.last, honest.clone());
        let place = self.others.iter().position(|&id| id == self.id).unwrap_or(0);
        let next = self.others[(place + 1) % self.others.len()];
        match act {
            Act::Twice => sent.extend(honest),
            Act::Late => sent = last,
            Act::Replay => {
                let earlier = earlier.unwrap_or_default().into_iter();
                sent = earlier.filter(|envelope| envelope.sent.round < clock.round).chain(sent).collect();
            }
            Act::Astray => sent.extend(honest.into_iter().map(|envelope| Envelope { to: next, ..envelope })),
            Act::Forged => sent.iter_mut().for_each(|envelope| envelope.from = next),
            Act::Stale => {
                let stale = last.into_iter().map(|envelope| Envelope { sent: clock, ..envelope });
                sent = stale.chain(sent).collect();
                self.last.clone_from(&sent);
            }
            Act::Longer | Act::Shorter => sent = self.in_another_length(clock, sent),
        }
        sent
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        self.party.decoded()
    }
}

pub(super) fn lock<T>(memory: &Mutex<T>) -> MutexGuard<'_, T> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Symbol, P: Protocol<S>> Protocol<S> for Misbehaving<S, P> {
    type Message = P::Message;
    type Key = P::Key;
    type Party = Offender<S, P>;

    fn parties(&self) -> Vec<PartyId> {
        self.protocol.parties()
    }

    fn phases(&self) -> Vec<Phase> {
        self.protocol.phases()
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Self::Key> {
        self.protocol.deal(round, len, source)
    }

    fn holds(&self, client: u16) -> Vec<u16> {
        self.protocol.holds(client)
    }

    fn party(&self, id: PartyId, key: Self::Key, input: Option<&dyn Input<S>>) -> Offender<S, P> {
        Offender {
            party: self.protocol.party(id, key, input),
            id,
            others: self.protocol.parties(),
            phases: self.protocol.phases(),
            act: self.offender.is_none_or(|offender| offender == id).then_some(self.act),
            before: Arc::clone(&self.before),
            other: Arc::clone(&self.other),
            last: Vec::new(),
        }
    }
}
