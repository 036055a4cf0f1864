//! Symbols and their scalars: what the protocols compute with.
//!
//! A protocol is written once over a [`Symbol`]. With `f64` or `f32` it aggregates real updates, with a prime
//! field ([`field`]) integers; with [`LinearForm`] it computes *formal* combinations of inputs and key draws,
//! so that the view of any party is read off the code that runs (see [`crate::privacy`]).

pub(crate) mod columns;
pub mod distributed;
pub mod extension;
pub mod field;
pub mod gaussian;
pub mod grid;
pub mod linear;
pub mod quantise;
mod real;

use crate::parallel;
use grid::Grid;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

/// Coordinates per task of a parallel pass: big enough to amortise the hand-over, small enough for L2.
pub const CHUNK: usize = 16 * 1024;

/// Bytes of a second-level cache that the vectors of a product may fill.
const CACHE: usize = 512 * 1024;

/// A formal coefficient that a sum reduces to this fraction of its last term is the rounding of a
/// cancellation: it becomes zero, lest keys that cancel count as very weak keys.
const CANCELLED: f64 = 1e-11;

/// Whether no value is NaN or infinite.
#[must_use]
pub fn is_finite<T: Copy + Into<f64>>(values: &[T]) -> bool {
    // Whole blocks without a branch, which compile to vectors.
    values.chunks(CHUNK / 16).all(|block| block.iter().fold(true, |all, &x| all & x.into().is_finite()))
}

/// What symbols are multiplied with: the reals, as `f64`, or a prime field.
pub trait Scalar:
    Copy
    + Debug
    + PartialEq
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The integer n.
    fn integer(n: i64) -> Self;

    /// 1/self; `None` for 0.
    fn inverse(self) -> Option<Self>;

    /// The factor that gives a key draw the standard deviation `std`. Over a prime field draws are uniform
    /// and stay so: 1.
    fn deviation(std: f64) -> Self;

    /// Whether `sum` is only what rounding leaves of a cancellation in which `term` came last.
    fn cancelled(sum: Self, term: Self) -> bool;

    /// As a real number, for bounds on rounding; 0 where nothing is rounded.
    fn size(self) -> f64 {
        0.0
    }
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn integer(n: i64) -> Self {
        n as Self
    }

    fn inverse(self) -> Option<Self> {
        (self != 0.0).then(|| self.recip())
    }

    fn deviation(std: f64) -> Self {
        std
    }

    fn cancelled(sum: Self, term: Self) -> bool {
        sum.abs() <= CANCELLED * term.abs()
    }

    fn size(self) -> f64 {
        self
    }
}

/// A vector space element, one coordinate of an update, a key or a message.
pub trait Symbol: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// What it is multiplied with.
    type Scalar: Scalar;

    /// What key draws are before they become symbols: double precision over the reals, else symbols already.
    type Draw: Symbol<Scalar = Self::Scalar>;

    /// Bytes of one symbol on the wire.
    const BYTES: usize;

    /// The largest relative error of one operation; 0 where nothing is rounded.
    const ROUNDOFF: f64 = 0.0;

    /// `symbols` as draws, where they are of one kind.
    fn as_draws(symbols: &mut [Self]) -> Option<&mut [Self::Draw]>;

    /// `symbols[i] = draws[i]`; the slices have equal length.
    fn set(symbols: &mut [Self], draws: &[Self::Draw]);

    /// Moves key draws onto a grid ([`grid::Grid::settle`]); nothing where there are no real numbers.
    fn settle(draws: &mut [Self], grid: &Grid, coins: &[u8]) {
        let _ = (draws, grid, coins);
    }

    /// [`Symbol::scale_less`] of key draws, then [`Symbol::settle`].
    fn settle_less(draws: &mut [Self], a: Self::Scalar, x: &[Self], grid: &Grid, coins: &[u8]) {
        Self::scale_less(draws, a, x);
        Self::settle(draws, grid, coins);
    }

    /// Σ x_i² of real numbers; see [`crate::precision`].
    fn energy(symbols: &[Self]) -> f64 {
        let _ = symbols;
        0.0
    }

    /// Rounds a decoded sum to the grid, if no symbol is farther than `most` from it. Returns whether it did.
    fn snap(sum: &mut [Self], grid: &Grid, most: f64) -> bool {
        let _ = (sum, grid, most);
        false
    }

    /// The neutral element of addition.
    fn zero() -> Self;

    /// `y[i] += a · x[i]`. The slices have equal length.
    fn axpy(y: &mut [Self], a: Self::Scalar, x: &[Self]);

    /// `y[i] −= x[i]`. The slices have equal length.
    fn less(y: &mut [Self], x: &[Self]) {
        Self::axpy(y, -Self::Scalar::ONE, x);
    }

    /// `y[i] = a · y[i]`.
    fn scale(y: &mut [Self], a: Self::Scalar);

    /// `y[i] = a · y[i] − x[i]`. The slices have equal length.
    fn scale_less(y: &mut [Self], a: Self::Scalar, x: &[Self]) {
        Self::scale(y, a);
        Self::axpy(y, -Self::Scalar::ONE, x);
    }

    /// `Σ_i a_i x_i` over vectors of equal length `len`, in the order of `terms`, in parallel over
    /// coordinates. The result does not depend on the number of threads.
    #[must_use]
    fn combine(len: usize, terms: &[(Self::Scalar, &[Self])]) -> Vec<Self> {
        let mut sum = vec![Self::zero(); len];
        Self::accumulate(&mut sum, terms);
        sum
    }

    /// `y += Σ_i a_i x_i`, one pass over `y`; see [`Symbol::combine`].
    fn accumulate(y: &mut [Self], terms: &[(Self::Scalar, &[Self])]) {
        parallel::for_each(y.chunks_mut(CHUNK).enumerate(), |(index, chunk)| {
            Self::add_terms(chunk, index * CHUNK, terms);
        });
    }

    /// `y_i += Σ_j a_ij x_j` for vectors of equal length and a `matrix` with a row for every `y_i` and a
    /// column for every `x_j`. The coordinates are taken in blocks of which all `x_j` stay in cache, in
    /// parallel.
    fn add_product(y: Vec<&mut [Self]>, matrix: &[Vec<Self::Scalar>], x: &[&[Self]]) {
        let block = (CACHE / (size_of::<Self>() * x.len().max(1))).clamp(64, CHUNK);
        parallel::for_each_block(y, block, |index, parts| {
            for (y, row) in parts.into_iter().zip(matrix) {
                let terms = row.iter().copied().zip(x.iter().copied());
                let terms: Vec<_> = terms.filter(|(a, _)| *a != Self::Scalar::ZERO).collect();
                Self::add_terms(y, index * block, &terms);
            }
        });
    }

    /// `y += Σ_i a_i x_i` on one thread, for the coordinates from `start` on: as many as `y` has.
    fn add_terms(y: &mut [Self], start: usize, terms: &[(Self::Scalar, &[Self])]) {
        for &(a, x) in terms {
            Self::axpy(y, a, &x[start..start + y.len()]);
        }
    }
}

/// A symbol whose key draws are numbers.
pub trait Sample: Symbol {
    /// Fills `out` with independent key symbols: N(0, 1) over the reals, uniform over a prime field.
    fn sample(rng: &mut impl rand::Rng, out: &mut [Self]);

    /// The same draws before they are symbols.
    fn noise(rng: &mut impl rand::Rng, out: &mut [Self::Draw]);
}

/// A floating-point symbol.
pub trait Real: Sample<Draw = f64> {
    /// `y[i] += a · x[i]` for a single-precision update `x`, the product rounded to the grid if there is one;
    /// the slices have equal length.
    fn axpy_f32(y: &mut [Self], a: f64, x: &[f32], grid: Option<&Grid>);

    /// The symbols as real numbers, in place where they already are.
    fn into_f64(symbols: Vec<Self>) -> Vec<f64>;
}

/// What a formal combination combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unknown {
    /// A coordinate of the input of a client: (client, coordinate).
    Input(u16, u16),
    /// A coordinate of a key: one independent draw, named by its [`KeyStream`].
    Key(KeyStream, u16),
}

/// The name of one stream of key draws; two requests with the same name get the same draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyStream {
    /// What the draws are for, e.g. `"mask"`.
    pub purpose: &'static str,
    /// The round in which the draws are used.
    pub round: u64,
    /// First index, e.g. a client.
    pub a: u16,
    /// Second index, e.g. the other client of a pair.
    pub b: u16,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self {
            Self::Input(k, place) => {
                write!(f, "x{}", k + 1)?;
                place
            }
            Self::Key(key, place) => {
                write!(f, "{}[{},{}]", key.purpose, key.a + 1, key.b + 1)?;
                place
            }
        };
        if *place > 0 { write!(f, "({})", place + 1) } else { Ok(()) }
    }
}

/// A formal combination Σ c_i · unknown_i, one symbol of a protocol that is run to be audited.
///
/// Many views hold the same one.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearForm<K = f64>(Arc<BTreeMap<Unknown, K>>);

impl<K: Scalar> LinearForm<K> {
    /// The form that is just `unknown`.
    #[must_use]
    pub fn unknown(unknown: Unknown) -> Self {
        Self(Arc::new(BTreeMap::from([(unknown, K::ONE)])))
    }

    /// The coefficient of `unknown`, 0 when absent.
    #[must_use]
    pub fn coefficient(&self, unknown: Unknown) -> K {
        self.0.get(&unknown).copied().unwrap_or(K::ZERO)
    }

    /// The non-zero terms in the order of [`Unknown`].
    pub fn terms(&self) -> impl Iterator<Item = (Unknown, K)> + '_ {
        self.0.iter().map(|(unknown, c)| (*unknown, *c))
    }

    fn add_scaled(&mut self, a: K, other: &Self) {
        let terms = Arc::make_mut(&mut self.0);
        for (unknown, c) in &*other.0 {
            let term = a * *c;
            let coefficient = terms.entry(*unknown).or_insert(K::ZERO);
            *coefficient = *coefficient + term;
            if K::cancelled(*coefficient, term) {
                *coefficient = K::ZERO;
            }
        }
        terms.retain(|_, c| *c != K::ZERO);
    }
}

impl LinearForm {
    /// The form without keys of coefficients up to `least`: what rounding left of keys that cancel.
    #[must_use]
    pub fn without_keys_below(&self, least: f64) -> Self {
        let kept = |(unknown, c): &(Unknown, f64)| !matches!(unknown, Unknown::Key(..)) || c.abs() > least;
        Self(Arc::new(self.terms().filter(kept).collect()))
    }
}

impl<K: Scalar> Symbol for LinearForm<K> {
    type Scalar = K;
    type Draw = Self;
    const BYTES: usize = 0;

    fn as_draws(symbols: &mut [Self]) -> Option<&mut [Self]> {
        Some(symbols)
    }

    fn set(symbols: &mut [Self], draws: &[Self]) {
        symbols.clone_from_slice(draws);
    }

    fn zero() -> Self {
        Self(Arc::default())
    }

    fn axpy(y: &mut [Self], a: K, x: &[Self]) {
        for (y, x) in y.iter_mut().zip(x) {
            y.add_scaled(a, x);
        }
    }

    fn scale(y: &mut [Self], a: K) {
        for y in y {
            let terms = Arc::make_mut(&mut y.0);
            terms.values_mut().for_each(|c| *c = *c * a);
            terms.retain(|_, c| *c != K::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combine_is_the_same_for_every_chunking() {
        let len = 3 * CHUNK + 17;
        let x: Vec<f64> = (0..len).map(|i| (i as f64).sin()).collect();
        let y: Vec<f64> = (0..len).map(|i| (i as f64).cos()).collect();
        let sum = f64::combine(len, &[(2.0, &x), (-0.5, &y)]);
        for i in [0, CHUNK - 1, CHUNK, len - 1] {
            assert_eq!(sum[i], 2.0 * x[i] + -0.5 * y[i]);
        }
    }

    #[test]
    fn products_are_combinations_row_by_row() {
        // So many vectors that their coordinates are taken in three blocks, and a row of zeros.
        let (count, len) = (600, 250);
        let x: Vec<Vec<f64>> = (0..count).map(|j| (0..len).map(|i| f64::from(i * 7 + j)).collect()).collect();
        let x: Vec<&[f64]> = x.iter().map(Vec::as_slice).collect();
        let matrix: Vec<Vec<f64>> =
            (0..4).map(|row| (0..count).map(|j| f64::from(j % 5 * row)).collect()).collect();
        let mut y = vec![1.0; 4 * len as usize];
        f64::add_product(y.chunks_mut(len as usize).collect(), &matrix, &x);
        for (y, row) in y.chunks(len as usize).zip(&matrix) {
            let terms: Vec<_> = row.iter().copied().zip(x.iter().copied()).collect();
            let want = f64::combine(len as usize, &terms);
            assert!(y.iter().zip(want).all(|(y, want)| *y == want + 1.0));
        }
    }

    #[test]
    fn forms_cancel_exactly() {
        let key = LinearForm::unknown(Unknown::Key(KeyStream { purpose: "mask", round: 0, a: 0, b: 0 }, 0));
        let x = LinearForm::unknown(Unknown::Input(3, 0));
        let sum = LinearForm::combine(
            1,
            &[
                (1.5, std::slice::from_ref(&x)),
                (2.0, std::slice::from_ref(&key)),
                (-2.0, std::slice::from_ref(&key)),
            ],
        );
        assert_eq!(sum[0].terms().collect::<Vec<_>>(), vec![(Unknown::Input(3, 0), 1.5)]);
    }

    #[test]
    fn key_draws_are_standard_normal() {
        // 10^5 draws; each bound is 4.5 standard errors, α < 10⁻⁵ for a correct sampler.
        let n = 100_000;
        let mut draws = vec![0.0f64; n];
        f64::sample(&mut crate::seed::Seed::new(3).rng(), &mut draws);
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / n as f64;
        let fourth = draws.iter().map(|x| x.powi(4)).sum::<f64>() / n as f64;
        let error = 4.5 / (n as f64).sqrt();
        assert!(mean.abs() < error, "{mean}");
        assert!((variance - 1.0).abs() < error * 2f64.sqrt(), "{variance}");
        assert!((fourth - 3.0).abs() < error * 96f64.sqrt(), "{fourth}");
    }
}
