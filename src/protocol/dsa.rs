//! Decentralised secure aggregation: no server, every client obtains the sum over all.
//!
//! Zhang, Li, Li, Wan, Ng, Caire, *Information-Theoretic Decentralized Secure Aggregation with Collusion
//! Resilience*, arXiv 2508.00596. We read the abstract, whose rates this scheme has: per symbol of the sum
//! each client sends one, holds one key symbol, and all together hold K − 1.
//!
//! | paper | here | shape |
//! |---|---|---|
//! | K users | clients | |
//! | Z_k, Σ_k Z_k = 0 | [`Key`] | d |
//! | X_k = W_k + Z_k | [`Upload`] | d, to every other client |
//! | Σ_k W_k = Σ_{k≠u} X_k + W_u + Z_u | what client u decodes | d |
//!
//! Promise: any T ≤ K − 3 clients learn the sum and nothing more; of K − 1 − T ≤ 1 others the sum would tell
//! the rest, so that fewer than three clients are refused. Nobody outside learns anything.
//!
//! Over links that fail client u has the sum where all K − 1 messages reach it, in whichever attempt: with
//! K = 10 and losses of 0.1 that is 0.39 for one client and 8·10⁻⁵ for all of them at once. A round counts as
//! recovered here where *any* client has the sum, as if it then handed the new model to all others for
//! nothing: an upper bound of what any repair makes of the scheme, and no protocol that could be deployed.
//! Drop-outs that a second round makes up for (Li et al., arXiv 2605.22261) are not built.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, FieldSession, Scheme, Setup};
use super::uncoded::Upload;
use super::{Clock, Decoded, Envelope, Expects, Input, OverField, Party, PartyId, Phase, Protocol, Secret};
use crate::algebra::field::Prime;
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::algebra::{Scalar, Symbol};
use crate::coding::check_pairs;
use crate::error::{Error, Result};
use crate::keys::{KeyKind, KeySource};
use crate::seed::Seed;

/// Decentralised secure aggregation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DsaConfig {
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

impl OverField for DsaConfig {
    fn memory(&self) -> u64 {
        super::LARGE
    }

    fn quantisation(&self) -> &Quantisation {
        &self.quantisation
    }

    fn over<F: Prime>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
    ) -> Result<Box<dyn Aggregator>> {
        check_pairs("dsa", clients, "sec-cogc, or ")?;
        let setup = Setup::new(clients, seed, Scheme { keys: "zero-sum".into(), ..Scheme::default() });
        Ok(Box::new(FieldSession::<_, F>::new(Dsa::new(clients)?, quantiser, setup)))
    }
}

/// The scheme among so many clients.
#[derive(Clone, Debug)]
pub struct Dsa {
    clients: usize,
}

impl Dsa {
    /// The scheme among `clients` clients.
    ///
    /// # Errors
    /// Fewer than three.
    pub fn new(clients: usize) -> Result<Self> {
        if clients >= 3 {
            return Ok(Self { clients });
        }
        let rule =
            format!("the sum over {clients} clients shows each of them the others' update; take at least 3");
        Err(Error::config("kind", rule))
    }
}

/// What a client holds before the round: Z_k.
pub struct Key<S>(Vec<S>);

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        vec![&self.0]
    }
}

/// A client: it sends X_k to all others, and adds what it hears.
pub struct Client<S> {
    index: u16,
    clients: usize,
    /// X_k.
    masked: Arc<Vec<S>>,
    /// X_j of the others, in all attempts: each is the same in every one.
    heard: BTreeMap<u16, Arc<Vec<S>>>,
    decoded: Option<Decoded<S>>,
}

impl<S: Symbol> Client<S> {
    fn sum(&self) -> Decoded<S> {
        let all = [&self.masked].into_iter().chain(self.heard.values());
        let terms: Vec<(S::Scalar, &[S])> = all.map(|x| (S::Scalar::ONE, x.as_slice())).collect();
        Decoded::exact(S::combine(self.masked.len(), &terms), (0..self.clients as u16).collect())
    }
}

impl<S: Symbol> Party<Upload<S>, S> for Client<S> {
    fn refusal(&self, message: &Envelope<Upload<S>>) -> Option<String> {
        let PartyId::Client(_) = message.from else { return Some("clients hear clients only".into()) };
        let (got, want) = (message.body.0.len(), self.masked.len());
        (got != want).then(|| format!("the masked update has {got} symbols instead of {want}"))
    }

    fn step(&mut self, clock: Clock, inbox: Vec<Envelope<Upload<S>>>) -> Vec<Envelope<Upload<S>>> {
        if clock.phase == 0 {
            let others = (0..self.clients as u16).filter(|&k| k != self.index);
            let (from, body) = (PartyId::Client(self.index), Upload(Arc::clone(&self.masked)));
            return others
                .map(|k| Envelope { sent: clock, from, to: PartyId::Client(k), body: body.clone() })
                .collect();
        }
        for Envelope { from, body, .. } in inbox {
            if let PartyId::Client(k) = from {
                self.heard.insert(k, body.0);
            }
        }
        if self.heard.len() + 1 == self.clients {
            self.decoded = Some(self.sum());
        }
        Vec::new()
    }

    /// Every client that has the sum has the same one: the first of them counts.
    fn decoded(&mut self) -> Option<Decoded<S>> {
        self.decoded.take()
    }
}

impl<S: Symbol> Protocol<S> for Dsa {
    type Message = Upload<S>;
    type Key = Key<S>;
    type Party = Client<S>;

    fn parties(&self) -> Vec<PartyId> {
        (0..self.clients as u16).map(PartyId::Client).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        vec![Phase::shares("masked update", Expects::Everybody)]
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        // Over a field all constructions have one law.
        KeyKind::Plain.masks(self.clients, len, 1.0, None, round, source).into_iter().map(Key).collect()
    }

    fn is_separable(&self) -> bool {
        true
    }

    fn resends(&self) -> bool {
        true
    }

    fn party(&self, id: PartyId, key: Key<S>, input: Option<&dyn Input<S>>) -> Client<S> {
        match (id, input) {
            (PartyId::Client(index), Some(input)) => {
                let Key(mut masked) = key;
                input.add_to(&mut masked);
                let masked = Arc::new(masked);
                Client { index, clients: self.clients, masked, heard: BTreeMap::new(), decoded: None }
            }
            _ => unreachable!("there are clients only, and they have inputs"),
        }
    }
}
