//! Finite fields: exact arithmetic for the protocols that need it. This file holds the prime fields,
//! [`super::extension`] the others.
//!
//! | field | p | bytes on the wire |
//! |---|---|---|
//! | [`M61`] | 2⁶¹ − 1 | 8 |
//! | [`M31`] | 2³¹ − 1 | 4 |
//! | [`Small<P>`] | any prime below 2³¹, e.g. the F₇ of the papers' examples | ⌈log₂ p / 8⌉ |
//!
//! Sums of products are reduced lazily: [`Symbol::add_terms`] adds up to three products before it reduces, in
//! words of 64 bits and with the widest vectors of the processor. `experiments/field_mode` holds the
//! throughput next to a memcpy and to `f64`.

use std::fmt::{self, Display};
use std::ops::{Add, Mul, Neg, Sub};

use pulp::{Arch, NullaryFnOnce};

use super::{Sample, Scalar, Symbol};

/// An element of a finite field.
pub trait Field: Sample<Scalar = Self> + Scalar + Eq + Ord + Display {
    /// Number of elements q.
    const ORDER: u64;

    /// The prime p of which q is a power.
    const CHARACTERISTIC: u64;

    /// The element with this number in 0..q; 0 is 0, and 1 is 1.
    fn element(n: u64) -> Self;

    /// The number of the element, as which it travels.
    fn index(self) -> u64;

    /// selfⁿ.
    #[must_use]
    fn power(self, mut n: u64) -> Self {
        let (mut base, mut result) = (self, Self::ONE);
        while n > 0 {
            if n & 1 == 1 {
                result = result * base;
            }
            base = base * base;
            n >>= 1;
        }
        result
    }

    /// A uniform element, by rejection and so without bias.
    fn uniform(rng: &mut impl rand::Rng) -> Self {
        let mut element = [Self::ZERO];
        Self::sample(rng, &mut element);
        element[0]
    }
}

/// Random bytes that become elements at a time.
const BYTES: usize = 4096;

/// Fills `out` with what `of` makes of the generator's words of N bytes, one after the other, and leaves out
/// those that it refuses.
pub(super) fn fill<const N: usize, F: Copy>(
    rng: &mut impl rand::Rng,
    mut out: &mut [F],
    of: impl Fn([u8; N]) -> (F, bool),
) {
    let arch = Arch::new();
    let mut bytes = [0; BYTES];
    while !out.is_empty() {
        let wanted = out.len().min(BYTES / N);
        let (words, _) = bytes[..wanted * N].as_chunks_mut::<N>();
        rng.fill_bytes(words.as_flattened_mut());
        let mut taken = wanted;
        // Next to never in the large fields.
        if !arch.dispatch(Elements(words, &mut *out, &of)) {
            taken = 0;
            for (element, _) in words.iter().map(|&word| of(word)).filter(|(_, accepted)| *accepted) {
                out[taken] = element;
                taken += 1;
            }
        }
        out = &mut out[taken..];
    }
}

/// One element for each word, whether or not it is accepted. Returns whether all are.
struct Elements<'a, const N: usize, F, O>(&'a [[u8; N]], &'a mut [F], &'a O);

impl<const N: usize, F, O: Fn([u8; N]) -> (F, bool)> NullaryFnOnce for Elements<'_, N, F, O> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        let Self(words, out, of) = self;
        let mut all = true;
        for (out, &word) in out.iter_mut().zip(words) {
            let (element, accepted) = of(word);
            *out = element;
            all &= accepted;
        }
        all
    }
}

/// `y += x`, or `y −= x`.
struct Sum<'a, F, const MINUS: bool>(&'a mut [F], &'a [F]);

impl<F: Field, const MINUS: bool> NullaryFnOnce for Sum<'_, F, MINUS> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(y, x) = self;
        y.iter_mut().zip(x).for_each(|(y, x)| *y = if MINUS { *y - *x } else { *y + *x });
    }
}

/// An element of a prime field, kept as its residue in 0..p.
pub trait Prime: Field {
    /// p.
    const MODULUS: u64;

    /// The element n mod p.
    fn new(n: u64) -> Self;

    /// The residue in 0..p.
    fn residue(self) -> u64;

    /// The element n for −p < n < p.
    fn signed(n: i64) -> Self;

    /// The representative in −(p−1)/2 ..= (p−1)/2.
    fn centred(self) -> i64 {
        let residue = self.residue();
        if residue > Self::MODULUS / 2 { -((Self::MODULUS - residue) as i64) } else { residue as i64 }
    }
}

/// What follows from [`Field`], addition, negation and multiplication for a tuple struct of one number.
macro_rules! arithmetic {
    ([$($generic:tt)*] $field:ty) => {
        impl<$($generic)*> Sub for $field {
            type Output = Self;
            #[inline]
            fn sub(self, other: Self) -> Self {
                self + -other
            }
        }

        impl<$($generic)*> Scalar for $field {
            const ZERO: Self = Self(0);
            const ONE: Self = Self(1);

            fn integer(n: i64) -> Self {
                let size = Self::element(n.unsigned_abs() % Self::CHARACTERISTIC);
                if n < 0 { -size } else { size }
            }

            fn inverse(self) -> Option<Self> {
                (self.0 != 0).then(|| self.power(Self::ORDER - 2))
            }

            fn deviation(_: f64) -> Self {
                Self::ONE
            }

            fn cancelled(_: Self, _: Self) -> bool {
                false
            }
        }

        impl<$($generic)*> Sample for $field {
            fn sample(rng: &mut impl rand::Rng, out: &mut [Self]) {
                Self::draw(rng, out);
            }

            fn noise(rng: &mut impl rand::Rng, out: &mut [Self]) {
                Self::draw(rng, out);
            }
        }
    };
}

pub(super) use arithmetic;

macro_rules! residues {
    ([$($generic:tt)*] $field:ty) => {
        arithmetic!([$($generic)*] $field);

        impl<$($generic)*> Field for $field {
            const ORDER: u64 = Self::MODULUS;
            const CHARACTERISTIC: u64 = Self::MODULUS;

            fn element(n: u64) -> Self {
                Self::new(n)
            }

            fn index(self) -> u64 {
                self.residue()
            }
        }

        impl<$($generic)*> Display for $field {
            /// The centred representative.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let n = self.centred();
                write!(f, "{}{}", if n < 0 { "−" } else { "" }, n.unsigned_abs())
            }
        }
    };
}

/// Coordinates that stay in the first-level cache while all terms are added.
const BLOCK: usize = 1024;

/// `y += Σ a_i x_i`, reduced once.
struct Products<'a, F, const N: usize>(&'a mut [F], [(F, &'a [F]); N]);

macro_rules! by_threes {
    () => {
        fn add_terms(y: &mut [Self], start: usize, terms: &[(Self, &[Self])]) {
            let arch = Arch::new();
            for (i, y) in y.chunks_mut(BLOCK).enumerate() {
                let part = start + i * BLOCK..start + i * BLOCK + y.len();
                for terms in terms.chunks(3) {
                    match *terms {
                        [(a, x), (b, z), (c, w)] => {
                            let terms = [(a, &x[part.clone()]), (b, &z[part.clone()]), (c, &w[part.clone()])];
                            arch.dispatch(Products(y, terms));
                        }
                        [(a, x), (b, z)] => {
                            arch.dispatch(Products(y, [(a, &x[part.clone()]), (b, &z[part.clone()])]));
                        }
                        _ => terms.iter().for_each(|(a, x)| Self::axpy(y, *a, &x[part.clone()])),
                    }
                }
            }
        }
    };
}

/// F_p for p = 2⁶¹ − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct M61(u64);

const P61: u64 = (1 << 61) - 1;

/// n mod p for any n; 2⁶¹ ≡ 1.
#[inline]
fn reduce61(n: u128) -> u64 {
    // Below 2⁶¹ + 2⁶¹ + 2⁶: two folds leave one subtraction.
    let folded = (n as u64 & P61) + ((n >> 61) as u64 & P61) + (n >> 122) as u64;
    let folded = (folded & P61) + (folded >> 61);
    if folded >= P61 { folded - P61 } else { folded }
}

impl Add for M61 {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        let sum = self.0 + other.0;
        Self(sum.min(sum.wrapping_sub(P61)))
    }
}

impl Neg for M61 {
    type Output = Self;
    fn neg(self) -> Self {
        Self(if self.0 == 0 { 0 } else { P61 - self.0 })
    }
}

impl Mul for M61 {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        Self(reduce61(u128::from(self.0) * u128::from(other.0)))
    }
}

residues!([] M61);

impl Prime for M61 {
    const MODULUS: u64 = P61;

    fn new(n: u64) -> Self {
        Self(reduce61(n.into()))
    }

    #[inline]
    fn signed(n: i64) -> Self {
        debug_assert!(n.unsigned_abs() < P61);
        Self((n + (n >> 63 & P61 as i64)) as u64)
    }

    fn residue(self) -> u64 {
        self.0
    }
}

impl M61 {
    fn draw(rng: &mut impl rand::Rng, out: &mut [Self]) {
        fill(rng, out, |word| {
            let draw = u64::from_le_bytes(word) >> 3;
            (Self(draw), draw != P61)
        });
    }
}

impl Symbol for M61 {
    type Scalar = Self;
    type Draw = Self;
    const BYTES: usize = 8;

    fn as_draws(symbols: &mut [Self]) -> Option<&mut [Self]> {
        Some(symbols)
    }

    fn set(symbols: &mut [Self], draws: &[Self]) {
        symbols.copy_from_slice(draws);
    }

    fn zero() -> Self {
        Self(0)
    }

    fn axpy(y: &mut [Self], a: Self, x: &[Self]) {
        if a == Self::ONE {
            Arch::new().dispatch(Sum::<_, false>(y, x));
        } else if a == -Self::ONE {
            Arch::new().dispatch(Sum::<_, true>(y, x));
        } else {
            for (y, x) in y.iter_mut().zip(x) {
                y.0 = reduce61(u128::from(a.0) * u128::from(x.0) + u128::from(y.0));
            }
        }
    }

    fn scale(y: &mut [Self], a: Self) {
        if a != Self::ONE {
            y.iter_mut().for_each(|y| *y = *y * a);
        }
    }

    by_threes!();
}

impl<const N: usize> NullaryFnOnce for Products<'_, M61, N> {
    type Output = ();

    /// With halves of 31 and 30 bits Σ a x = l + 2³¹ m + 2⁶² h, and 2⁶² ≡ 2: for up to three terms l and m
    /// fit 64 bits, and the sum of what is left of them after folding does, too.
    #[inline(always)]
    fn call(self) {
        const LOW: u64 = (1 << 31) - 1;
        const HIGH: u64 = (1 << 30) - 1;
        let Self(y, terms) = self;
        let halves = terms.map(|(a, _)| (a.0 & LOW, a.0 >> 31 & HIGH));
        let x = terms.map(|(_, x)| &x[..y.len()]);
        for i in 0..y.len() {
            let (mut l, mut m, mut h) = (0, 0, 0);
            for n in 0..N {
                let ((a0, a1), x) = (halves[n], x[n][i].0);
                let (x0, x1) = (x & LOW, x >> 31 & HIGH);
                l += a0 * x0;
                m += a0 * x1 + a1 * x0;
                h += a1 * x1;
            }
            let sum = y[i].0 + (l & P61) + (l >> 61) + ((m & HIGH) << 31) + (m >> 30) + 2 * h;
            let folded = (sum & P61) + (sum >> 61);
            // min is branchless: a wrapped difference is large.
            y[i].0 = folded.min(folded.wrapping_sub(P61));
        }
    }
}

mod small;

pub use small::{M31, Small};

#[cfg(test)]
#[path = "field_tests.rs"]
mod tests;
