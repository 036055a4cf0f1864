//! Secure aggregation at the optimal rates, with drop-outs and colluding clients.
//!
//! Zhao, Sun, *Information Theoretic Secure Aggregation with User Dropouts*, section 4.3: R₁ = 1, R₂ =
//! 1/(U−T).
//!
//! | paper | here | shape |
//! |---|---|---|
//! | K, U, T | clients, survivors, colluders | |
//! | S_k | `Key::mask` | L |
//! | C, c_ij = 1/(α_i − β_j) | `sharing`, α_i = i, β_j = K + j | K × U |
//! | Z_k^{U_1} | Σ_{j ∈ U_1} `Key::shares[j]` | L/(U−T) |
//!
//! The paper's dealer shares Σ_{U_1} S_k anew for every U_1: Σ_{u ≥ U−1} C(K−1, u) shares a client, 262,144
//! at K = 20, U = 11. Here the dealer shares every S_k once, [pieces of S_k; T uniform pieces] through C, and
//! a client adds the shares of U_1 when it learns U_1. The sum of shares is the share of the sum with the
//! noise Σ_{U_1} N_k, so that for one U_1 the second round has the paper's law, at K shares a client. T
//! clients still hold nothing about the others' masks: T shares of each S_k are uniform. At K = 3, U = 2, T =
//! 0 a client's key has the entropy 2L, below the (2, 2.5, 2) L of (89).
//!
//! Promise: the server with up to T clients learns Σ_{U_1} W_k and nothing more, even when lost messages
//! reach it after all.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, FieldSession, Scheme, Setup};
use super::two_round::{Rounds, Symbols, TwoRound};
use super::{OverField, Secret, included};
use crate::algebra::field::Prime;
use crate::algebra::linear::{cauchy, inverse};
use crate::algebra::quantise::{Quantisation, Quantiser};
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::coding::check_pairs;
use crate::error::{Error, Result};
use crate::keys::KeySource;
use crate::parallel;
use crate::seed::Seed;

/// Secure aggregation by Zhao and Sun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ZhaoSunConfig {
    /// Number of clients U whose uploads and answers suffice, from 1 to the number of clients: fewer in
    /// either round are an outage.
    #[schemars(range(min = 1))]
    pub survivors: usize,
    /// Number of clients T that may collude with the server, below `survivors`; answers have d/(U − T)
    /// symbols.
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

impl Default for ZhaoSunConfig {
    fn default() -> Self {
        Self { survivors: 5, colluders: 2, least_included: None, quantisation: Quantisation::default() }
    }
}

impl OverField for ZhaoSunConfig {
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
        let least = included::masked(self.least_included, self.colluders, clients)?;
        let setup = Setup::new(
            clients,
            seed,
            Scheme {
                keys: "ramp".into(),
                least_included: Some(least.max(self.survivors)),
                ..Scheme::default()
            },
        );
        let protocol =
            Rounds::new(ZhaoSun::<F>::new(clients, self.survivors, self.colluders)?).with_at_least(least);
        Ok(Box::new(FieldSession::<_, F>::new(protocol, quantiser, setup)))
    }
}

/// 1 ≤ U ≤ K.
pub(super) fn check_survivors(clients: usize, survivors: usize) -> Result<()> {
    if (1..=clients).contains(&survivors) {
        Ok(())
    } else {
        let rule = format!("{survivors} survivors of {clients} clients do not exist; give 1 to {clients}");
        Err(Error::config("survivors", rule))
    }
}

/// The scheme for fixed K, U and T.
#[derive(Clone, Debug)]
pub struct ZhaoSun<F: Prime> {
    survivors: usize,
    colluders: usize,
    /// C, K × U.
    sharing: DMatrix<F>,
}

impl<F: Prime> ZhaoSun<F> {
    /// The scheme among `clients` clients.
    ///
    /// # Errors
    /// U outside 1..=K, U ≤ T (Theorem 1: infeasible), more clients than can all share with each other, p < K
    /// + U.
    pub fn new(clients: usize, survivors: usize, colluders: usize) -> Result<Self> {
        check_survivors(clients, survivors)?;
        if survivors <= colluders {
            let rule = format!(
                "{colluders} colluders could answer in the place of {survivors} survivors, so that no scheme is secure; take \
                 fewer colluders or more survivors"
            );
            return Err(Error::config("colluders", rule));
        }
        check_pairs("zhao-sun and light-sec-agg", clients, "sec-agg-plus, or ")?;
        let sharing = cauchy(clients, survivors).ok_or_else(|| {
            let rule = format!(
                "a field of {} elements has no {clients} + {survivors} distinct points; take a larger modulus",
                F::MODULUS
            );
            Error::config("quantisation.modulus", rule)
        })?;
        Ok(Self { survivors, colluders, sharing })
    }

    /// Pieces of an input: U − T.
    pub(super) fn pieces(&self) -> usize {
        self.survivors - self.colluders
    }

    /// A mask S_k of `len` symbols and its shares for all clients: T of them are uniform, U determine it.
    pub(super) fn share<S: Symbol<Scalar = F>>(
        &self,
        k: u16,
        round: u64,
        len: usize,
        source: &impl KeySource<S>,
    ) -> (Vec<S>, Vec<Vec<S>>) {
        let piece = len / self.pieces();
        let stream = |purpose| KeyStream { purpose, round, a: k, b: k };
        let mask = source.draw(stream("mask"), len);
        let noise = source.draw(stream("noise"), piece * self.colluders);
        let share = |i: usize| {
            let secret = (0..self.pieces()).map(|p| &mask[p * piece..(p + 1) * piece]);
            let noise = (0..self.colluders).map(|p| &noise[p * piece..(p + 1) * piece]);
            let terms: Vec<_> = self.sharing.row(i).iter().copied().zip(secret.chain(noise)).collect();
            S::combine(piece, &terms)
        };
        let shares = (0..self.sharing.nrows()).map(share).collect();
        (mask, shares)
    }
}

/// A client's keys of one round.
pub struct Key<S> {
    /// S_k, L symbols.
    mask: Vec<S>,
    /// The shares of S_1 … S_K, L/(U−T) symbols each.
    shares: Vec<Vec<S>>,
}

impl<S: Symbol> Secret<S> for Key<S> {
    fn held(&self) -> Vec<&[S]> {
        [&self.mask].into_iter().chain(&self.shares).map(Vec::as_slice).collect()
    }
}

impl<S: Symbol<Scalar: Prime>> TwoRound<S> for ZhaoSun<S::Scalar> {
    type Key = Key<S>;
    type Share = Symbols<S>;
    type Answer = Symbols<S>;

    fn clients(&self) -> usize {
        self.sharing.nrows()
    }

    fn survivors(&self) -> usize {
        self.survivors
    }

    fn unit(&self) -> usize {
        self.pieces()
    }

    fn deal(&self, round: u64, len: usize, source: &impl KeySource<S>) -> Vec<Key<S>> {
        let clients = self.sharing.nrows();
        let dealt: Vec<(Vec<S>, Vec<Vec<S>>)> =
            parallel::map(0..clients as u16, |k| self.share(k, round, len, source));
        let (masks, rows): (Vec<_>, Vec<_>) = dealt.into_iter().unzip();
        let mut keys: Vec<Key<S>> =
            masks.into_iter().map(|mask| Key { mask, shares: Vec::with_capacity(clients) }).collect();
        for row in rows {
            for (key, share) in keys.iter_mut().zip(row) {
                key.shares.push(share);
            }
        }
        keys
    }

    fn mask(&self, _: u16, key: &Key<S>) -> Vec<S> {
        key.mask.clone()
    }

    fn answer(&self, _: u16, key: &Key<S>, included: &[u16]) -> Option<Symbols<S>> {
        let shares = included.iter().map(|&k| key.shares[usize::from(k)].as_slice());
        let terms: Vec<_> = shares.map(|share| (S::Scalar::ONE, share)).collect();
        Some(Symbols(S::combine(key.mask.len() / self.pieces(), &terms)))
    }

    fn answer_len(&self, len: usize) -> usize {
        len / self.pieces()
    }

    fn malformed(&self, len: usize, _: &[u16], answer: &Symbols<S>) -> Option<String> {
        answer.malformed(len / self.pieces())
    }

    fn unmask(&self, sum: &mut [S], _: &[u16], answers: &[(u16, &Symbols<S>)]) -> bool {
        let answers = &answers[..self.survivors];
        let rows: Vec<usize> = answers.iter().map(|(k, _)| usize::from(*k)).collect();
        let Some(decoding) = inverse(&self.sharing.select_rows(&rows)) else { return false };
        let piece = sum.len() / self.pieces();
        for (p, sum) in sum.chunks_mut(piece).enumerate() {
            let weights = decoding.row(p);
            let terms: Vec<_> =
                weights.iter().zip(answers).map(|(&c, (_, answer))| (-c, answer.0.as_slice())).collect();
            S::accumulate(sum, &terms);
        }
        true
    }
}
