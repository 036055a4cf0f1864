//! What a receiver accepts: one gate in front of every party.
//!
//! A refused message is dropped with its reason, as if it had been lost: the round goes on and survives or
//! ends as an outage. The gate refuses a wrong sender, addressee, round, attempt or phase, and a second
//! message of one sender; of the body the party checks the form ([`Party::refusal`]). A body of the right
//! form with wrong numbers passes: no scheme here promises to detect it.

use std::collections::HashSet;
use std::fmt;

use crate::protocol::{Clock, Envelope, Party, PartyId};

/// A message that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When it was received.
    pub clock: Clock,
    /// Who refused it.
    pub to: PartyId,
    /// Who sent it.
    pub from: PartyId,
    /// The broken rule.
    pub rule: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clock: Clock { round, attempt, phase }, to, from, rule } = self;
        let attempt = attempt + 1;
        write!(f, "round {round}, attempt {attempt}, phase {phase}: {to} refuses a message of {from}: {rule}")
    }
}

/// What `party`, called `id`, accepts at `clock` of the messages that arrived, each with the party that the
/// link shows as its sender. Senders are those that `known` holds for.
pub fn admit<M, S>(
    party: &impl Party<M, S>,
    id: PartyId,
    clock: Clock,
    known: impl Fn(PartyId) -> bool,
    arrived: Vec<(PartyId, Envelope<M>)>,
) -> (Vec<Envelope<M>>, Vec<Refusal>) {
    let mut seen = HashSet::with_capacity(arrived.len());
    let (mut accepted, mut refused) = (Vec::with_capacity(arrived.len()), Vec::new());
    for (from, envelope) in arrived {
        let Clock { round, attempt, phase } = envelope.sent;
        let rule = if envelope.from != from {
            Some(format!("it names {} as its sender", envelope.from))
        } else if from == id || !known(from) {
            Some("no other party of this round".into())
        } else if envelope.to != id {
            Some(format!("it is addressed to {}", envelope.to))
        } else if (round, attempt) != (clock.round, clock.attempt) {
            Some(format!("it is from round {round}, attempt {}", attempt + 1))
        } else if phase.checked_add(1) != Some(clock.phase) {
            Some(format!("it is from phase {phase}"))
        } else if seen.contains(&from) {
            Some("second message in one phase".into())
        } else {
            party.refusal(&envelope)
        };
        match rule {
            Some(rule) => refused.push(Refusal { clock, to: id, from, rule }),
            None => {
                seen.insert(from);
                accepted.push(envelope);
            }
        }
    }
    (accepted, refused)
}
