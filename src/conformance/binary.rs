//! A round whose messages are written and read again on their way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::Breach;
use super::hostile::lock;
use crate::audit::erasures::Lost;
use crate::keys::KeySource;
use crate::message::{Clock, Decoded, Envelope, HEADER_BYTES, PartyId, Phase};
use crate::network::Perfect;
use crate::protocol::exchange::{Outcome, run};
use crate::protocol::{Input, Party, Protocol};
use crate::wire::{Form, Wire, WireSymbol, decode, encode};

/// Plays a round in which nothing is lost, and one for every single message that may be, each twice: with
/// messages as they are and in their binary form. Both must end alike, to the symbol, and a message must take
/// the bytes that it counts. `form` is what the receivers expect.
///
/// # Errors
/// The first message or round that differs.
pub fn travels<S, P>(
    protocol: P,
    inputs: &[&dyn Input<S>],
    form: Form,
    keys: &impl KeySource<S>,
) -> Result<(), Breach>
where
    S: WireSymbol + PartialEq,
    P: Protocol<S>,
    P::Message: Wire<S>,
{
    let breach = |evidence: String| Err(Breach { rule: "binary", evidence });
    let mut patterns = vec![Lost::default()];
    run(&protocol, 1, inputs, keys, &Perfect, 1, |_, _, link| {
        patterns.push(Lost(HashSet::from([(link.attempt, link.transfer, link.from, link.to)])));
    });
    let written = Written { protocol, form, broken: Arc::default() };
    for links in &patterns {
        let played = run(&written.protocol, 1, inputs, keys, links, 1, |_, _, _| ());
        let Outcome { decoded, refused, .. } = run(&written, 1, inputs, keys, links, 1, |_, _, _| ());
        if let Some((.., broken)) = lock(&written.broken).take() {
            return breach(broken);
        }
        let at = || links.0.iter().next().map_or_else(|| "nothing lost".into(), |lost| format!("{lost:?}"));
        if let Some(refusal) = refused.first() {
            return breach(format!("{}: {refusal}", at()));
        }
        if decoded != played.decoded {
            return breach(format!("{}: the round ends otherwise", at()));
        }
    }
    Ok(())
}

/// A protocol in whose rounds messages travel in their binary form.
struct Written<P> {
    protocol: P,
    form: Form,
    broken: Arc<Mutex<Option<Broken>>>,
}

/// A message that could not be read: of a phase, from, to, and why. Parties step at the same time, and the
/// first one by these is told.
type Broken = ((u32, u8), PartyId, PartyId, String);

struct Writer<P> {
    party: P,
    form: Form,
    broken: Arc<Mutex<Option<Broken>>>,
}

impl<M: Wire<S>, S: WireSymbol, P: Party<M, S>> Party<M, S> for Writer<P> {
    fn refusal(&self, message: &Envelope<M>) -> Option<String> {
        self.party.refusal(message)
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<M>>) -> Vec<Envelope<M>> {
        let mut read = Vec::new();
        for envelope in self.party.step(clock, inbox) {
            let bytes = encode::<S, M>(&envelope);
            let counted = HEADER_BYTES + envelope.body.bytes();
            let broken = match decode::<S, M>(&bytes, &self.form) {
                Ok(again) if bytes.len() == counted => {
                    read.push(again);
                    continue;
                }
                Ok(_) => format!("{} bytes where {counted} are counted", bytes.len()),
                Err(refusal) => refusal,
            };
            let Envelope { from, to, .. } = envelope;
            let broken = ((clock.attempt, clock.phase), from, to, format!("{from} to {to}: {broken}"));
            let mut first = lock(&self.broken);
            if first.as_ref().is_none_or(|first| broken < *first) {
                *first = Some(broken);
            }
        }
        read
    }

    fn decoded(&mut self) -> Option<Decoded<S>> {
        self.party.decoded()
    }
}

impl<S: WireSymbol, P: Protocol<S>> Protocol<S> for Written<P>
where
    P::Message: Wire<S>,
{
    type Message = P::Message;
    type Key = P::Key;
    type Party = Writer<P::Party>;

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

    fn party(&self, id: PartyId, key: Self::Key, input: Option<&dyn Input<S>>) -> Writer<P::Party> {
        Writer {
            party: self.protocol.party(id, key, input),
            form: self.form,
            broken: Arc::clone(&self.broken),
        }
    }
}
