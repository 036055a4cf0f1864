//! LightSecAgg: the clients share their masks among themselves before the round.
//!
//! So, He, Yang, Li, Yu, Ali, Guler, Avestimehr, *LightSecAgg: a Lightweight and Versatile Design for Secure
//! Aggregation in Federated Learning*, MLSys 2022, algorithm 1.
//!
//! | paper | here | shape |
//! |---|---|---|
//! | N, U, T | clients, survivors, colluders | |
//! | z_i | `Key::mask` | L |
//! | W, T-private MDS | the Cauchy matrix of [`ZhaoSun`] | N × U |
//! | [z̃_i]_j | `Key::own[j]` at client i, `Key::received[i]` at client j | L/(U−T) |
//! | Σ_{i ∈ U_1} [z̃_i]_j | the answer of client j | L/(U−T) |
//!
//! It is Zhao and Sun's scheme with masks shared once, without their dealer: client i draws z_i, and in phase
//! 0 sends [z̃_i]_j to every client j. The paper's links between clients do not fail; over links that do,
//! client j answers only for survivors whose shares it has.
//!
//! Promise: as [`super::zhao_sun`]. The links between clients must be encrypted when T = 0: a share then is a
//! combination of the mask.

use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Assemble, Scheme, Setup, Simulated};
use super::two_round::{Rounds, Symbols, TwoRound};
use super::zhao_sun::ZhaoSun;
use super::{Deployable, OverField, Secret, included};
use crate::algebra::field::Prime;
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::algebra::{Scalar, Symbol};
use crate::error::Result;
use crate::keys::KeySource;
use crate::parallel;
use crate::seed::Seed;
use crate::wire::WireSymbol;

/// LightSecAgg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LightSecAggConfig {
    /// Number of clients U whose uploads and answers suffice, from 1 to the number of clients: fewer in
    /// either round are an outage.
    #[schemars(range(min = 1))]
    pub survivors: usize,
    /// Number of clients T that may collude with the server, below `survivors`; shares and answers have d/(U
    /// − T) symbols.
    pub colluders: usize,
    /// Fewest clients whose sum the server may learn, 1 to `clients`; with fewer uploads nothing is unmasked
    /// and the round is an outage. By default 3, or two more than `colluders` where that is more, or all of
    /// fewer clients: what colluders leave of a sum is then never one update.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
    /// How updates become field symbols.
    pub quantisation: Quantisation,
}

impl Default for LightSecAggConfig {
    fn default() -> Self {
        Self { survivors: 5, colluders: 2, least_included: None, quantisation: Quantisation::default() }
    }
}

impl OverField for LightSecAggConfig {
    fn memory(&self) -> u64 {
        super::LARGE
    }

    fn quantisation(&self) -> &Quantisation {
        &self.quantisation
    }

    fn over<F: Prime + WireSymbol>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
    ) -> Result<Box<dyn Aggregator>> {
        self.assemble_over::<F, _>(quantiser, clients, seed, Simulated)
    }
}

impl Deployable for LightSecAggConfig {
    fn assemble_over<F: Prime + WireSymbol, A: Assemble>(
        &self,
        quantiser: Quantiser,
        clients: usize,
        seed: Seed,
        to: A,
    ) -> Result<A::Output> {
        let least = included::masked(self.least_included, self.colluders, clients)?;
        let setup = Setup::new(
            clients,
            seed,
            Scheme {
                keys: "shared".into(),
                least_included: Some(least.max(self.survivors)),
                ..Scheme::default()
            },
        );
        let protocol =
            Rounds::new(LightSecAgg::<F>::new(clients, self.survivors, self.colluders)?).with_at_least(least);
        Ok(to.field::<F, _>(protocol, quantiser, setup))
    }
}

/// The scheme for fixed N, U and T.
#[derive(Clone, Debug)]
pub struct LightSecAgg<F: Prime>(ZhaoSun<F>);

impl<F: Prime> LightSecAgg<F> {
    /// The scheme among `clients` clients.
    ///
    /// # Errors
    /// As [`ZhaoSun::new`].
    pub fn new(clients: usize, survivors: usize, colluders: usize) -> Result<Self> {
        ZhaoSun::new(clients, survivors, colluders).map(Self)
    }

    /// What client `k` draws for inputs of the padded length `len`.
    fn key<S: Symbol<Scalar = F>>(
        &self,
        k: u16,
        round: u64,
        len: usize,
        source: &impl KeySource<S>,
    ) -> Key<S> {
        let (mask, own) = self.0.share(k, round, len, source);
        let mut received = vec![None; own.len()];
        received[usize::from(k)] = Some(own[usize::from(k)].clone());
        Key { mask, own, received }
    }
}

/// A client's keys of one round.
pub struct Key<S> {
    /// z_i, L symbols.
    mask: Vec<S>,
    /// Its shares for everybody, L/(U−T) symbols each.
    own: Vec<Vec<S>>,
    /// The shares of everybody's masks that it has; its own from the start.
    received: Vec<Option<Vec<S>>>,
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        [&self.mask].into_iter().chain(&self.own).map(Vec::as_slice).collect()
    }
}

impl<S: Symbol<Scalar: Prime>> TwoRound<S> for LightSecAgg<S::Scalar> {
    type Key = Key<S>;
    type Share = Symbols<S>;
    type Answer = Symbols<S>;

    fn clients(&self) -> usize {
        TwoRound::<S>::clients(&self.0)
    }

    fn survivors(&self) -> usize {
        TwoRound::<S>::survivors(&self.0)
    }

    fn unit(&self) -> usize {
        TwoRound::<S>::unit(&self.0)
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        parallel::map(0..TwoRound::<S>::clients(self) as u16, |k| self.key(k, round, len, source))
    }

    fn own_key(&self, client: u16, round: u64, len: usize, source: &impl KeySource<S>) -> Option<Key<S>> {
        Some(self.key(client, round, len, source))
    }

    fn mask(&self, _: u16, key: &Key<S>) -> Vec<S> {
        key.mask.clone()
    }

    fn has_shares(&self) -> bool {
        true
    }

    fn shares(&self, client: u16, key: &Key<S>) -> Vec<(u16, Symbols<S>)> {
        let others = (0..).zip(&key.own).filter(|(k, _)| *k != client);
        others.map(|(k, share)| (k, Symbols(share.clone()))).collect()
    }

    fn share_form(&self, len: usize) -> (usize, usize) {
        let symbols = len / self.0.pieces();
        (symbols, symbols * S::BYTES)
    }

    fn answer_len(&self, len: usize) -> usize {
        TwoRound::<S>::answer_len(&self.0, len)
    }

    fn refusal(&self, key: &Key<S>, share: &Symbols<S>) -> Option<String> {
        let (got, want) = (share.0.len(), key.mask.len() / self.0.pieces());
        (got != want).then(|| format!("the share has {got} symbols instead of {want}"))
    }

    fn keep(&self, key: &mut Key<S>, from: u16, share: &Symbols<S>) {
        key.received[usize::from(from)].get_or_insert_with(|| share.0.clone());
    }

    fn answer(&self, _: u16, key: &Key<S>, included: &[u16]) -> Option<Symbols<S>> {
        let shares = included.iter().map(|&k| key.received[usize::from(k)].as_deref());
        let terms: Option<Vec<_>> = shares.map(|share| Some((S::Scalar::ONE, share?))).collect();
        Some(Symbols(S::combine(key.mask.len() / self.0.pieces(), &terms?)))
    }

    fn malformed(&self, len: usize, included: &[u16], answer: &Symbols<S>) -> Option<String> {
        TwoRound::<S>::malformed(&self.0, len, included, answer)
    }

    fn unmask(&self, sum: &mut [S], included: &[u16], answers: &[(u16, &Symbols<S>)]) -> bool {
        self.0.unmask(sum, included, answers)
    }
}
