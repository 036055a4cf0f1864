//! Secret keys: zero-sum masks u_1 … u_M with Σ_k u_k = 0 (SecCoGC, section III; Fair-SecCoGC,
//! section IV).
//!
//! | construction | u_k | Var(u_k) |
//! |---|---|---|
//! | `plain` | σ g_k for k < M, u_M = −Σ_{k<M} u_k | σ², the last client (M−1)σ² |
//! | `fair` | √(M/(M−1)) σ (g_k − ḡ) | σ² for every client |
//! | `pairwise` | σ/√(M−1) (Σ_{j>k} g_kj − Σ_{j<k} g_jk) | σ² for every client |
//!
//! with g i.i.d. N(0, 1) per coordinate, fresh in every round. `key_std` is σ. At equal σ, `fair` and `pairwise`
//! spend the total power Mσ² and `plain` spends 2(M−1)σ²; [`KeyKind::total_power`] says how much, so that
//! constructions can be compared at equal total power.
//!
//! Over a prime field g is uniform, σ and the roots fall away, and all three constructions have one law: uniform on the
//! vectors of sum zero.

use serde::{Deserialize, Serialize};

use crate::algebra::{KeyStream, LinearForm, Sample, Scalar, Symbol, Unknown};
use crate::parallel;
use crate::seed::Seed;

/// Symbols of a stream that are drawn at a time: those of one place for all clients fit a core's cache.
pub const CHUNK: usize = 4096;

/// Where key symbols come from.
pub trait KeySource<S: Symbol>: Sync {
    /// Fills `out` with the symbols `chunk` · [`CHUNK`] and following of the stream `name`, at most [`CHUNK`]: independent key symbols,
    /// for the same name always the same.
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]);

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

impl<S: Sample> KeySource<S> for SeededKeys {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [S]) {
        let index = u64::from(name.a) << 16 | u64::from(name.b);
        // The cipher's own streams: threads draw the chunks of a key in any order.
        let mut draws = self.0.child(name.purpose, name.round).child("stream", index).bulk(chunk as u64);
        S::sample(&mut draws, out);
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
}

/// Formal key symbols: every coordinate of a stream is the unknown that carries the stream's name and its place.
#[derive(Clone, Copy, Debug)]
pub struct FormalKeys;

impl<K: Scalar> KeySource<LinearForm<K>> for FormalKeys {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [LinearForm<K>]) {
        for (place, form) in out.iter_mut().enumerate() {
            *form = LinearForm::unknown(Unknown::Key(name, (chunk * CHUNK + place) as u16));
        }
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

    /// Σ_k Var(u_k) per coordinate for `clients` clients at key standard deviation `std`.
    #[must_use]
    pub fn total_power(self, clients: usize, std: f64) -> f64 {
        let m = clients as f64;
        match self {
            Self::Plain => 2.0 * (m - 1.0) * std * std,
            Self::Fair | Self::Pairwise => m * std * std,
        }
    }

    /// The masks u_1 … u_M of one round, each of length `len`, with Σ_k u_k = 0.
    ///
    /// `clients` must be at least 2: a single client cannot hold a non-zero zero-sum key.
    #[must_use]
    pub fn masks<S: Symbol>(
        self,
        clients: usize,
        len: usize,
        std: f64,
        round: u64,
        source: &impl KeySource<S>,
    ) -> Vec<Vec<S>> {
        let stream = |a: usize, b: usize| KeyStream { purpose: "mask", round, a: a as u16, b: b as u16 };
        match self {
            Self::Plain => {
                let scale = S::Scalar::deviation(std);
                chunkwise(clients, len, |chunk, masks| {
                    let Some((last, others)) = masks.split_last_mut() else { return };
                    for (k, mask) in others.iter_mut().enumerate() {
                        source.fill(stream(k, k), chunk, mask);
                        S::scale(mask, scale);
                        S::axpy(last, -S::Scalar::ONE, mask);
                    }
                })
            }
            Self::Fair => fair(clients, |k| stream(k, k), len, std, source),
            Self::Pairwise => {
                let scale = S::Scalar::deviation(std / (clients as f64 - 1.0).sqrt());
                chunkwise(clients, len, |chunk, masks| {
                    let mut draw = vec![S::zero(); masks.first().map_or(0, |mask| mask.len())];
                    for j in 0..clients {
                        for k in 0..j {
                            source.fill(stream(k, j), chunk, &mut draw);
                            S::axpy(masks[k], scale, &draw);
                            S::axpy(masks[j], -scale, &draw);
                        }
                    }
                })
            }
        }
    }
}

/// `count` vectors of `len` symbols, zero to begin with, in one pass over memory: `fill(chunk, parts)` completes the symbols
/// `chunk` · [`CHUNK`] and following of all of them. In parallel over chunks.
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

/// √(n/(n−1)) σ (g_k − ḡ) for k < `count` = n, g_k from the stream `stream(k)`.
fn fair<S: Symbol>(
    count: usize,
    stream: impl Fn(usize) -> KeyStream + Sync,
    len: usize,
    std: f64,
    source: &impl KeySource<S>,
) -> Vec<Vec<S>> {
    let n = count as f64;
    let scale = S::Scalar::deviation((n / (n - 1.0)).sqrt() * std);
    let share = scale * reciprocal(count);
    chunkwise(count, len, |chunk, keys| {
        let mut mean = vec![S::zero(); keys.first().map_or(0, |key| key.len())];
        for (k, key) in keys.iter_mut().enumerate() {
            source.fill(stream(k), chunk, key);
            S::axpy(&mut mean, S::Scalar::ONE, key);
        }
        S::scale(&mut mean, share);
        for key in keys {
            S::scale_less(key, scale, &mean);
        }
    })
}

/// The mask u_k of [`KeyKind::Pairwise`] for one of `clients` ≥ 2 clients. Only streams of pairs that contain `client` are drawn, so
/// that the client makes it alone, from the secrets that it shares with each other one.
#[must_use]
pub fn pairwise_mask<S: Symbol>(
    client: usize,
    clients: usize,
    len: usize,
    std: f64,
    round: u64,
    source: &impl KeySource<S>,
) -> Vec<S> {
    let scale = S::Scalar::deviation(std / (clients as f64 - 1.0).sqrt());
    let mut mask = vec![S::zero(); len];
    for j in (0..clients).filter(|&j| j != client) {
        let sign = if client < j { scale } else { -scale };
        let (a, b) = (client.min(j) as u16, client.max(j) as u16);
        S::axpy(&mut mask, sign, &source.draw(KeyStream { purpose: "mask", round, a, b }, len));
    }
    mask
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
    fair(members.len(), stream, len, std, source)
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
                let masks = kind.masks::<LinearForm>(m, 1, 3.0, 0, &FormalKeys);
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
            let masks = kind.masks::<f64>(5, 1000, 2.0, 3, &source);
            let terms: Vec<_> = masks.iter().map(|mask| (1.0, mask.as_slice())).collect();
            let sum = f64::combine(1000, &terms);
            assert!(sum.iter().all(|x| x.abs() < 1e-12), "{kind:?}");
            assert_ne!(masks, kind.masks::<f64>(5, 1000, 2.0, 4, &source));
            assert_eq!(masks, kind.masks::<f64>(5, 1000, 2.0, 3, &source));
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
