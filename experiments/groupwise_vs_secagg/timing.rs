//! One round of a scheme, step by step and with a clock: what every party computes, phase by phase, and what
//! it sends.

use std::time::Instant;

use seccogc::algebra::field::Field;
use seccogc::keys::SeededKeys;
use seccogc::protocol::exchange::admit;
use seccogc::protocol::{Clock, Decoded, Input, Message, Party, PartyId, Protocol};
use seccogc::seed::Seed;

/// An input of field symbols.
pub struct Vector<F>(pub Vec<F>);

impl<F: Field> Input<F> for Vector<F> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn add_to(&self, y: &mut [F]) {
        F::axpy(y, F::ONE, &self.0);
    }
}

/// Seeded uniform inputs.
pub fn inputs<F: Field>(clients: usize, len: usize) -> Vec<Vector<F>> {
    let input = |k| {
        let mut x = vec![F::ZERO; len];
        F::sample(&mut Seed::new(5).child("input", k).rng(), &mut x);
        Vector(x)
    };
    (0..clients as u64).map(input).collect()
}

/// One phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phase {
    /// Seconds that a client computed, the mean over those who sent something.
    pub client: f64,
    /// Seconds that the server computed.
    pub server: f64,
    /// Bytes of message bodies on the busiest link of a client.
    pub bytes: u64,
    /// Bytes of message bodies that reached the server.
    pub received: u64,
}

/// One round.
#[derive(Debug)]
pub struct Timed {
    /// Seconds in which all keys were dealt.
    #[allow(dead_code, reason = "the benchmark does not time it")]
    pub deal: f64,
    /// Seconds in which a client masked its input before the first phase, the mean.
    pub prepare: f64,
    /// Phase by phase.
    pub phases: Vec<Phase>,
    /// Whether the server obtained the sum.
    pub recovered: bool,
}

/// Runs a round; what `lost(phase, client)` says is lost on the way to the server. Parties compute one after
/// the other.
///
/// # Panics
/// If a message of the honest parties is refused.
pub fn round<F: Field, P: Protocol<F>>(
    protocol: &P,
    number: u64,
    inputs: &[Vector<F>],
    lost: impl Fn(u8, u16) -> bool,
) -> Timed {
    let start = Instant::now();
    let keys = protocol.deal(number, inputs[0].0.len(), &SeededKeys(Seed::new(1)));
    let deal = start.elapsed().as_secs_f64();
    let ids = protocol.parties();
    let mut prepare = 0.0;
    let mut parties: Vec<P::Party> = ids
        .iter()
        .zip(keys)
        .map(|(&id, key)| {
            let input = match id {
                PartyId::Client(k) => Some(&inputs[usize::from(k)] as &dyn Input<F>),
                _ => None,
            };
            let start = Instant::now();
            let party = protocol.party(id, key, input);
            prepare += start.elapsed().as_secs_f64() / inputs.len() as f64;
            party
        })
        .collect();
    let steps = protocol.phases().len() as u8;
    let mut phases = vec![Phase::default(); usize::from(steps) + 1];
    let mut inboxes: Vec<Vec<_>> = ids.iter().map(|_| Vec::new()).collect();
    for phase in 0..=steps {
        let clock = Clock { round: number, attempt: 0, phase };
        let seen = &mut phases[usize::from(phase)];
        let mut senders = 0;
        let mut links: Vec<u64> = vec![0; ids.len()];
        let mut next: Vec<Vec<_>> = ids.iter().map(|_| Vec::new()).collect();
        for ((party, &id), arrived) in parties.iter_mut().zip(&ids).zip(std::mem::take(&mut inboxes)) {
            let start = Instant::now();
            let (inbox, refused) = admit(party, id, clock, |_| true, arrived);
            assert!(refused.is_empty(), "{}", refused[0]);
            let sent = party.step(clock, inbox);
            let seconds = start.elapsed().as_secs_f64();
            match id {
                PartyId::Client(_) if !sent.is_empty() => {
                    seen.client += seconds;
                    senders += 1;
                }
                PartyId::Server => seen.server += seconds,
                _ => {}
            }
            for envelope in sent {
                let (bytes, to) = (envelope.body.bytes() as u64, envelope.to);
                let client = match (id, to) {
                    (PartyId::Client(k), _) | (_, PartyId::Client(k)) => k,
                    _ => 0,
                };
                links[usize::from(client)] += bytes;
                if id != PartyId::Server && to == PartyId::Server {
                    if lost(phase, client) {
                        continue;
                    }
                    seen.received += bytes;
                }
                let place = ids.iter().position(|&id| id == to).unwrap_or_default();
                next[place].push((id, envelope));
            }
        }
        seen.client /= f64::from(senders.max(1));
        seen.bytes = links.into_iter().max().unwrap_or_default();
        inboxes = next;
    }
    let decoded = parties.iter_mut().find_map(Party::decoded).unwrap_or(Decoded::lost());
    Timed { deal, prepare, phases, recovered: decoded.is_sum() }
}
