//! Secret keys: zero-sum masks u_1 … u_M with Σ_k u_k = 0 (SecCoGC, section III; Fair-SecCoGC,
//! section IV).
//!
//! | construction | u_k | Var(u_k) |
//! |---|---|---|
//! | `plain` | σ g_k for k < M, u_M = −Σ_{k<M} u_k | σ², the last client (M−1)σ² |
//! | `fair` | √(M/(M−1)) σ (g_k − ḡ) | σ² for every client |
//! | `pairwise` | σ/√(M−1) (Σ_{j>k} g_kj − Σ_{j<k} g_jk) | σ² for every client |
//!
//! with g i.i.d. N(0, 1) per coordinate, fresh in every round. `key_std` is σ. At equal σ, `fair` and
//! `pairwise` spend the total power Mσ² and `plain` spends 2(M−1)σ²; [`KeyKind::total_power`] says how much,
//! so that constructions can be compared at equal total power.
//!
//! On a [`Grid`] of step γ the masks are whole multiples of γ that sum to zero exactly. With R(x) the
//! multiple nearest to x, moved by a uniform number of steps within ±D/2:
//!
//! | construction | on the grid | covariance added to that of the ideal masks, per coordinate, e = (γ² + D²)/12 |
//! |---|---|---|
//! | `plain`, `fair`, [`covariance`] | û_k = R(u_k) for k < M, û_M = −Σ_{k<M} û_k | e I for k < M; for M: (M−1) e, and −e with every other |
//! | `pairwise` | ĝ_kj = R(σ/√(M−1) g_kj), û_k = Σ_{j>k} ĝ_kj − Σ_{j<k} ĝ_jk | (M−1) e for every client, −e for every pair |
//!
//! D ≤ σ/(8√M), so that no variance grows by more than 0.3 per cent. What this hides bit by bit is proved in
//! [`crate::privacy::floating`].
//!
//! Masks of any other joint law of sum zero are drawn from their [`covariance`], and [`optimise`] finds the
//! covariance of a total power that keeps the most from given adversaries.
//!
//! Over a prime field g is uniform, σ, the roots and the grid fall away, and all constructions have one law:
//! uniform on the vectors of sum zero.

mod construction;
pub mod covariance;
pub mod optimise;
pub mod pairs;

use serde::{Deserialize, Serialize};

use crate::algebra::grid::{COIN, Grid};
use crate::algebra::{KeyStream, LinearForm, Sample, Scalar, Symbol, Unknown};
use crate::parallel;
use crate::seed::Seed;
pub use construction::{Construction, KeyChoice};
pub use covariance::Covariance;
pub use pairs::Pairs;

/// Symbols of a stream that are drawn at a time: those of one place for all clients fit a core's cache.
pub const CHUNK: usize = 4096;

/// Where key symbols come from.
pub trait KeySource<S: Symbol>: Sync {
    /// Fills `out` with the symbols `chunk` · [`CHUNK`] and following of the stream `name`, at most
    /// [`CHUNK`]: independent key symbols, for the same name always the same.
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]);

    /// The same symbols as the draws that they are made of.
    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [S::Draw]);

    /// Uniform bytes, [`COIN`] for each of the draws `chunk` · [`CHUNK`] and following of the stream `name`,
    /// independent of the draws.
    fn coins(&self, name: KeyStream, chunk: usize, out: &mut [u8]);

    /// The first `len` symbols of the stream `name`.
    fn draw(&self, name: KeyStream, len: usize) -> Vec<S> {
        let mut draws = vec![S::zero(); len];
        parallel::for_each(draws.chunks_mut(CHUNK).enumerate(), |(chunk, out)| self.fill(name, chunk, out));
        draws
    }
}

/// Key symbols drawn from the seed tree: the simulation's keys.
#[derive(Clone, Copy, Debug)]
pub struct SeededKeys(pub Seed);

impl SeededKeys {
    /// The generator of a chunk of a stream, or of the `kind` beside it. The cipher's own streams: threads
    /// draw the chunks of a key in any order.
    fn words(&self, name: KeyStream, kind: &str, chunk: usize) -> impl rand::Rng + use<> {
        let index = u64::from(name.a) << 16 | u64::from(name.b);
        self.0.child(name.purpose, name.round).child(kind, index).bulk(chunk as u64)
    }
}

impl<S: Sample> KeySource<S> for SeededKeys {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]) {
        S::sample(&mut self.words(name, "stream", chunk), out);
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [S::Draw]) {
        S::noise(&mut self.words(name, "stream", chunk), out);
    }

    fn coins(&self, name: KeyStream, chunk: usize, out: &mut [u8]) {
        rand::Rng::fill_bytes(&mut self.words(name, "coins", chunk), out);
    }
}

/// The streams of a source without their beginnings.
#[derive(Clone, Copy, Debug)]
pub struct Later<K> {
    /// Of the whole streams.
    pub source: K,
    /// How many times [`CHUNK`] symbols are left out.
    pub chunks: usize,
}

impl<S: Symbol, K: KeySource<S>> KeySource<S> for Later<K> {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]) {
        self.source.fill(name, self.chunks + chunk, out);
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [S::Draw]) {
        self.source.noise(name, self.chunks + chunk, out);
    }

    fn coins(&self, name: KeyStream, chunk: usize, out: &mut [u8]) {
        self.source.coins(name, self.chunks + chunk, out);
    }
}

/// Formal key symbols: every coordinate of a stream is the unknown that carries the stream's name and its
/// place.
#[derive(Clone, Copy, Debug)]
pub struct FormalKeys;

impl<K: Scalar> KeySource<LinearForm<K>> for FormalKeys {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [LinearForm<K>]) {
        for (place, form) in out.iter_mut().enumerate() {
            *form = LinearForm::unknown(Unknown::Key(name, (chunk * CHUNK + place) as u16));
        }
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [LinearForm<K>]) {
        self.fill(name, chunk, out);
    }

    fn coins(&self, _: KeyStream, _: usize, out: &mut [u8]) {
        out.fill(0);
    }
}

/// How the zero-sum masks are constructed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// SecCoGC: independent masks, the last client balances them and is protected unequally.
    Plain,
    /// Fair-SecCoGC: exchangeable masks, the same variance for every client.
    #[default]
    Fair,
    /// One shared draw per pair of clients: fair, and needs no trusted dealer.
    Pairwise,
}

impl KeyKind {
    /// The name used in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Fair => "fair",
            Self::Pairwise => "pairwise",
        }
    }

    /// The construction of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Fair, Self::Pairwise].into_iter().find(|kind| kind.name() == name)
    }

    /// Σ_k Var(u_k) per coordinate for `clients` clients at key standard deviation `std`.
    #[must_use]
    pub fn total_power(self, clients: usize, std: f64) -> f64 {
        let m = clients as f64;
        match self {
            Self::Plain => 2.0 * (m - 1.0) * std * std,
            Self::Fair | Self::Pairwise => m * std * std,
        }
    }

    /// What is drawn independently has this standard deviation, and so has the smallest mask at least; the
    /// largest mask has the second.
    #[must_use]
    pub fn stds(self, clients: usize, std: f64) -> (f64, f64) {
        let others = (clients as f64 - 1.0).sqrt();
        match self {
            Self::Plain => (std, std * others.max(1.0)),
            Self::Fair => (std, std),
            Self::Pairwise => (std / others, std),
        }
    }

    /// Var(u_k) per coordinate of every client's mask.
    #[must_use]
    pub fn variances(self, clients: usize, std: f64) -> Vec<f64> {
        let mut variances = vec![std * std; clients];
        if let (Self::Plain, Some(last)) = (self, variances.last_mut()) {
            *last *= clients as f64 - 1.0;
        }
        variances
    }

    /// The masks u_1 … u_M of one round, each of length `len`, with Σ_k u_k = 0: exactly on a `grid`, else up
    /// to rounding.
    ///
    /// `clients` must be at least 2: a single client cannot hold a non-zero zero-sum key.
    #[must_use]
    pub fn masks<S: Symbol>(
        self,
        clients: usize,
        len: usize,
        std: f64,
        grid: Option<&Grid>,
        round: u64,
        source: &impl KeySource<S>,
    ) -> Vec<Vec<S>> {
        let stream = |a: usize, b: usize| KeyStream { purpose: "mask", round, a: a as u16, b: b as u16 };
        match self {
            Self::Plain => {
                let scale = S::Scalar::deviation(std);
                chunkwise(clients, len, |chunk, masks| {
                    let Some((last, others)) = masks.split_last_mut() else { return };
                    let mut noise = Noise::new(last.len(), grid);
                    for (k, mask) in others.iter_mut().enumerate() {
                        S::set(mask, noise.draw(stream(k, k), chunk, scale, source));
                        S::axpy(last, -S::Scalar::ONE, mask);
                    }
                })
            }
            Self::Fair => fair(clients, |k| stream(k, k), len, std, grid, source),
            Self::Pairwise => {
                let pair = std / (clients as f64 - 1.0).sqrt();
                pairs::masks(clients, len, |_, _| pair, grid, round, source)
            }
        }
    }
}

/// Room for the draws of a chunk, which go to the grid if there is one.
struct Noise<'a, S: Symbol> {
    draws: Vec<S::Draw>,
    coins: Vec<u8>,
    grid: Option<&'a Grid>,
}

impl<'a, S: Symbol> Noise<'a, S> {
    /// For up to `len` draws.
    fn new(len: usize, grid: Option<&'a Grid>) -> Self {
        Self { draws: vec![S::Draw::zero(); len], coins: vec![0; COIN * len], grid }
    }

    /// `scale` times the draws of a chunk of a stream, on the grid.
    fn draw(
        &mut self,
        name: KeyStream,
        chunk: usize,
        scale: S::Scalar,
        source: &impl KeySource<S>,
    ) -> &[S::Draw] {
        source.noise(name, chunk, &mut self.draws);
        S::Draw::scale(&mut self.draws, scale);
        settle::<S>(&mut self.draws, &mut self.coins, self.grid, name, chunk, source);
        &self.draws
    }
}

/// Moves draws of a stream onto the grid, if there is one.
fn settle<S: Symbol>(
    draws: &mut [S::Draw],
    coins: &mut [u8],
    grid: Option<&Grid>,
    name: KeyStream,
    chunk: usize,
    source: &impl KeySource<S>,
) {
    let Some(grid) = grid else { return };
    if grid.spreads() {
        source.coins(name, chunk, coins);
    }
    S::Draw::settle(draws, grid, coins);
}

/// The vector of `len` symbols of `scale` times the draws of a stream, on the grid if there is one.
#[must_use]
pub fn noise<S: Symbol>(
    name: KeyStream,
    len: usize,
    scale: S::Scalar,
    grid: Option<&Grid>,
    source: &impl KeySource<S>,
) -> Vec<S> {
    let mut symbols = vec![S::zero(); len];
    parallel::for_each(symbols.chunks_mut(CHUNK).enumerate(), |(chunk, out)| {
        let mut noise = Noise::new(out.len(), grid);
        S::set(out, noise.draw(name, chunk, scale, source));
    });
    symbols
}

/// Adds to `y` what [`noise`] makes of the same stream.
pub fn add_noise<S: Symbol>(
    y: &mut [S],
    name: KeyStream,
    scale: S::Scalar,
    grid: Option<&Grid>,
    source: &impl KeySource<S>,
) {
    parallel::for_each(y.chunks_mut(CHUNK).enumerate(), |(chunk, y)| {
        let (mut noise, mut symbols) = (Noise::new(y.len(), grid), vec![S::zero(); y.len()]);
        S::set(&mut symbols, noise.draw(name, chunk, scale, source));
        S::axpy(y, S::Scalar::ONE, &symbols);
    });
}

/// `count` vectors of `len` symbols, zero to begin with, in one pass over memory: `fill(chunk, parts)`
/// completes the symbols `chunk` · [`CHUNK`] and following of all of them. In parallel over chunks.
fn chunkwise<S: Symbol>(
    count: usize,
    len: usize,
    fill: impl Fn(usize, &mut [&mut [S]]) + Sync,
) -> Vec<Vec<S>> {
    let mut vectors: Vec<_> = (0..count).map(|_| vec![S::zero(); len]).collect();
    let all = vectors.iter_mut().map(Vec::as_mut_slice);
    parallel::for_each_block(all, CHUNK, |chunk, mut parts| fill(chunk, &mut parts));
    vectors
}

/// √(n/(n−1)) σ (g_k − ḡ) for k < `count` = n, g_k from the stream `stream(k)`. On a grid the last one
/// balances the others.
fn fair<S: Symbol>(
    count: usize,
    stream: impl Fn(usize) -> KeyStream + Sync,
    len: usize,
    std: f64,
    grid: Option<&Grid>,
    source: &impl KeySource<S>,
) -> Vec<Vec<S>> {
    let n = count as f64;
    let scale = S::Scalar::deviation((n / (n - 1.0)).sqrt() * std);
    let share = scale * reciprocal(count);
    chunkwise(count, len, |chunk, keys| {
        let len = keys.first().map_or(0, |key| key.len());
        // The keys themselves have room for their draws, unless they are in single precision.
        let mut own: Vec<Vec<S::Draw>> = Vec::new();
        if keys.first_mut().is_some_and(|key| S::as_draws(key).is_none()) {
            own = vec![vec![S::Draw::zero(); len]; count];
        }
        let mut mean = vec![S::Draw::zero(); len];
        for (k, key) in keys.iter_mut().enumerate() {
            let draws = S::as_draws(key).unwrap_or_else(|| &mut own[k][..]);
            source.noise(stream(k), chunk, draws);
            S::Draw::axpy(&mut mean, S::Scalar::ONE, draws);
        }
        S::Draw::scale(&mut mean, share);
        let mut coins = vec![0; COIN * len];
        let Some(grid) = grid else {
            for (k, key) in keys.iter_mut().enumerate() {
                let draws = S::as_draws(key).unwrap_or_else(|| &mut own[k][..]);
                S::Draw::scale_less(draws, scale, &mean);
                if let Some(draws) = own.get(k) {
                    S::set(key, draws);
                }
            }
            return;
        };
        let Some((last, others)) = keys.split_last_mut() else { return };
        last.fill(S::zero());
        for (k, key) in others.iter_mut().enumerate() {
            let draws = S::as_draws(key).unwrap_or_else(|| &mut own[k][..]);
            if grid.spreads() {
                source.coins(stream(k), chunk, &mut coins);
            }
            S::Draw::settle_less(draws, scale, &mean, grid, &coins);
            if let Some(draws) = own.get(k) {
                S::set(key, draws);
            }
            // While it is at hand: what the last one balances.
            S::less(last, key);
        }
    })
}

/// The mask u_k of [`KeyKind::Pairwise`] for one of `clients` ≥ 2 clients. Only streams of pairs that contain
/// `client` are drawn, so that the client makes it alone, from the secrets that it shares with each other
/// one.
#[must_use]
pub fn pairwise_mask<S: Symbol>(
    client: usize,
    clients: usize,
    len: usize,
    std: f64,
    grid: Option<&Grid>,
    round: u64,
    source: &impl KeySource<S>,
) -> Vec<S> {
    let pair = std / (clients as f64 - 1.0).sqrt();
    pairs::mask_of(client, clients, len, |_| pair, grid, round, source)
}

/// 1/n; n is a number of clients, far below any modulus.
fn reciprocal<K: Scalar>(n: usize) -> K {
    K::integer(n as i64).inverse().unwrap_or(K::ZERO)
}

/// Link keys of one code row: v_k for the members of `row`, Σ v_k = 0, Var = `std`² each (section 2, step 1).
#[must_use]
pub fn link_keys<S: Symbol>(
    row: usize,
    members: &[usize],
    len: usize,
    std: f64,
    round: u64,
    source: &impl KeySource<S>,
) -> Vec<Vec<S>> {
    let stream = |i: usize| KeyStream { purpose: "link", round, a: row as u16, b: members[i] as u16 };
    fair(members.len(), stream, len, std, None, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [KeyKind; 3] = [KeyKind::Plain, KeyKind::Fair, KeyKind::Pairwise];

    fn variance(form: &LinearForm) -> f64 {
        form.terms().map(|(_, c)| c * c).sum()
    }

    #[test]
    fn masks_sum_to_zero_and_have_the_stated_variance() {
        for kind in KINDS {
            for m in 2..8 {
                let masks = kind.masks::<LinearForm>(m, 1, 3.0, None, 0, &FormalKeys);
                let terms: Vec<_> = masks.iter().map(|mask| (1.0, mask.as_slice())).collect();
                let sum = LinearForm::combine(1, &terms);
                assert!(variance(&sum[0]) < 1e-24, "{kind:?} {m}");
                let variances: Vec<f64> = masks.iter().map(|mask| variance(&mask[0])).collect();
                let total: f64 = variances.iter().sum();
                assert!((total - kind.total_power(m, 3.0)).abs() < 1e-9, "{kind:?} {m} {total}");
                if kind != KeyKind::Plain {
                    assert!(variances.iter().all(|v| (v - 9.0).abs() < 1e-9), "{kind:?} {variances:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_key_is_drawn_in_chunks_that_differ() {
        let source = SeededKeys(Seed::new(1));
        let name = KeyStream { purpose: "mask", round: 1, a: 2, b: 2 };
        let draws: Vec<f64> = source.draw(name, 3 * CHUNK + 5);
        let mut part = vec![0.0; 5];
        source.fill(name, 3, &mut part);
        assert_eq!(part, draws[3 * CHUNK..]);
        let later: Vec<f64> = Later { source, chunks: 1 }.draw(name, 2 * CHUNK + 5);
        assert_eq!(later, draws[CHUNK..]);
        assert!(draws[..CHUNK] != draws[CHUNK..2 * CHUNK]);
        let short: Vec<f64> = source.draw(name, 70);
        assert_eq!(short, draws[..70]);
    }

    #[test]
    fn numeric_masks_sum_to_zero_and_change_with_the_round() {
        let source = SeededKeys(Seed::new(1));
        for kind in KINDS {
            let masks = kind.masks::<f64>(5, 1000, 2.0, None, 3, &source);
            let terms: Vec<_> = masks.iter().map(|mask| (1.0, mask.as_slice())).collect();
            let sum = f64::combine(1000, &terms);
            assert!(sum.iter().all(|x| x.abs() < 1e-12), "{kind:?}");
            assert_ne!(masks, kind.masks::<f64>(5, 1000, 2.0, None, 4, &source));
            assert_eq!(masks, kind.masks::<f64>(5, 1000, 2.0, None, 3, &source));
        }
    }

    #[test]
    fn link_keys_of_a_row_sum_to_zero() {
        let keys = link_keys::<f64>(2, &[1, 2, 5], 100, 4.0, 0, &SeededKeys(Seed::new(1)));
        let [a, b, c] = &keys[..] else { panic!("three members") };
        for ((a, b), c) in a.iter().zip(b).zip(c) {
            assert!((a + b + c).abs() < 1e-12);
            assert!(*a != 0.0);
        }
    }
}
