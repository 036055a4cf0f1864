//! Extension fields F_{p^m}: as many elements as a scheme needs, over a prime as small as an application has.
//!
//! An element holds m elements of F_p ([`Extension::pack`]), the coefficients of a polynomial of degree below
//! m. Addition is coefficient by coefficient, so that the sum of packed symbols *is* the packed sum: a scheme
//! that is linear over F_{p^m} and outputs Σ x_k adds vectors over F_p, m symbols at a time, and may choose
//! its coefficients among p^m elements. The products, which mix the coefficients, only ever meet keys and
//! what is decoded again. Sums are those of F_p, modulo p: with p = 7 they overflow at once, which suits the
//! examples of the papers and no training; that is why no `modulus` of a configuration names one.
//!
//! A symbol takes ⌈log₂ p^m / 8⌉ bytes on the wire, as the number Σ c_i pⁱ: 2 bytes for five symbols of F_7.
//!
//! The coefficients lie in lanes of 64/m bits. Kronecker's substitution makes the product of two polynomials
//! one product of integers (Harvey, *Faster polynomial multiplication via multipoint Kronecker substitution*,
//! section 1), of 128 bits, and several of them are added before one reduction modulo p and the least monic
//! irreducible polynomial, which is searched when the program is compiled.

use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};

use super::field::{Field, Prime, Small, arithmetic, fill};
use super::{Sample, Scalar, Symbol};

/// F_{p^m} for a prime p and m ≥ 2 with m (p − 1)² < 2^(64/m), among others F_{7^m} for m ≤ 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extension<const P: u32, const M: usize>(u64);

/// F_{7⁵}: five symbols of F_7 in two bytes.
pub type F7Pow5 = Extension<7, 5>;

/// Whether x^m − Σ `tail`_i xⁱ has no monic divisor of degree 1 to m/2 over F_p.
const fn irreducible<const M: usize>(tail: &[u64; M], p: u64) -> bool {
    let mut degree = 1;
    while 2 * degree <= M {
        let mut number = 0;
        while number < p.pow(degree as u32) {
            // The remainder of the division by x^degree + Σ d_i xⁱ, d_i the digits of `number`.
            let mut rest = [0; M];
            let mut i = 0;
            while i < M {
                rest[i] = (p - tail[i]) % p;
                i += 1;
            }
            let mut lead = 1;
            let mut top = M;
            loop {
                let mut digits = number;
                let mut i = 0;
                while i < degree {
                    let place = top - degree + i;
                    rest[place] = (rest[place] + (p - lead) * (digits % p)) % p;
                    digits /= p;
                    i += 1;
                }
                top -= 1;
                if top < degree {
                    break;
                }
                lead = rest[top];
            }
            let mut zero = true;
            let mut i = 0;
            while i < degree {
                zero = zero && rest[i] == 0;
                i += 1;
            }
            if zero {
                return false;
            }
            number += 1;
        }
        degree += 1;
    }
    true
}

impl<const P: u32, const M: usize> Extension<P, M> {
    const P: u64 = P as u64;
    const WIDTH: usize = 64 / M;
    const LANE: u64 = (1 << Self::WIDTH) - 1;

    /// 1 in every lane.
    const ONES: u64 = {
        let (mut ones, mut i) = (0, 0);
        while i < M {
            ones |= 1 << (i * Self::WIDTH);
            i += 1;
        }
        ones
    };

    /// Products that can be added without a carry between lanes.
    const LAZY: usize = {
        assert!(M >= 2, "use Small");
        let lazy = Self::LANE / (M as u64 * (Self::P - 1) * (Self::P - 1));
        assert!(lazy > 0, "lanes of 64/m bits are too narrow");
        lazy as usize
    };

    /// x^m = Σ `TAIL`_i xⁱ.
    const TAIL: [u64; M] = {
        let mut number = 1;
        loop {
            let mut tail = [0; M];
            let (mut digits, mut i) = (number, 0);
            while i < M {
                tail[i] = digits % Self::P;
                digits /= Self::P;
                i += 1;
            }
            assert!(digits == 0, "p is not a prime");
            if irreducible(&tail, Self::P) {
                break tail;
            }
            number += 1;
        }
    };

    /// The element with these coefficients, the constant first.
    #[must_use]
    pub fn from_coefficients(coefficients: [Small<P>; M]) -> Self {
        let lanes = coefficients.iter().rev();
        Self(lanes.fold(0, |lanes, c| lanes << Self::WIDTH | c.residue()))
    }

    /// Its coefficients.
    #[must_use]
    pub fn coefficients(self) -> [Small<P>; M] {
        std::array::from_fn(|i| Small::new(self.0 >> (i * Self::WIDTH) & Self::LANE))
    }

    /// Vectors over F_p as vectors over F_{p^m}, m symbols in each; the last one is filled up with zeros.
    #[must_use]
    pub fn pack(symbols: &[Small<P>]) -> Vec<Self> {
        let digit = |part: &[Small<P>], i: usize| part.get(i).copied().unwrap_or_default();
        symbols
            .chunks(M)
            .map(|part| Self::from_coefficients(std::array::from_fn(|i| digit(part, i))))
            .collect()
    }

    /// Undoes [`Extension::pack`], up to the zeros at the end.
    #[must_use]
    pub fn unpack(symbols: &[Self]) -> Vec<Small<P>> {
        symbols.iter().flat_map(|symbol| symbol.coefficients()).collect()
    }

    /// Subtracts p in the lanes that have p or more; each has less than 2 p.
    #[inline]
    fn carry(lanes: u64) -> u64 {
        let high = Self::ONES << (Self::WIDTH - 1);
        let reached = (lanes + high - Self::ONES * Self::P) & high;
        lanes - (reached >> (Self::WIDTH - 1)) * Self::P
    }

    /// A sum of up to `LAZY` products, lane by lane.
    #[inline]
    fn reduce(lanes: u128) -> Self {
        let lane = |i: usize| (lanes >> (i * Self::WIDTH)) as u64 & Self::LANE;
        // Horner's rule from the top, with x^m replaced in every step.
        let mut c: [u64; M] = std::array::from_fn(|j| lane(M - 1 + j));
        for i in (0..M - 1).rev() {
            let lead = c[M - 1] % Self::P;
            for j in (1..M).rev() {
                c[j] = c[j - 1] + lead * Self::TAIL[j];
            }
            c[0] = lane(i) + lead * Self::TAIL[0];
        }
        Self((0..M).rev().fold(0, |sum, i| (sum << Self::WIDTH) | (c[i] % Self::P)))
    }
}

impl<const P: u32, const M: usize> Add for Extension<P, M> {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        Self(Self::carry(self.0 + other.0))
    }
}

impl<const P: u32, const M: usize> Neg for Extension<P, M> {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self(Self::carry(Self::ONES * Self::P - self.0))
    }
}

impl<const P: u32, const M: usize> Mul for Extension<P, M> {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        Self::reduce(u128::from(self.0) * u128::from(other.0))
    }
}

arithmetic!([const P: u32, const M: usize] Extension<P, M>);

impl<const P: u32, const M: usize> fmt::Display for Extension<P, M> {
    /// A polynomial in α, a root of the irreducible polynomial: `2 − 3α + α²`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (i, c) in self.coefficients().into_iter().enumerate().filter(|(_, c)| *c != Small::ZERO) {
            let (size, negative) = (c.centred().unsigned_abs(), c.centred() < 0);
            f.write_str(match (first, negative) {
                (true, true) => "−",
                (true, false) => "",
                (false, true) => " − ",
                (false, false) => " + ",
            })?;
            match (i, size) {
                (0, _) => write!(f, "{size}")?,
                (1, 1) => f.write_str("α")?,
                (1, _) => write!(f, "{size}α")?,
                (_, 1) => write!(f, "α^{i}")?,
                _ => write!(f, "{size}α^{i}")?,
            }
            first = false;
        }
        if first { f.write_str("0") } else { Ok(()) }
    }
}

impl<const P: u32, const M: usize> Field for Extension<P, M> {
    const ORDER: u64 = Self::P.pow(M as u32);
    const CHARACTERISTIC: u64 = Self::P;

    fn element(mut n: u64) -> Self {
        let digit = |_| {
            let digit = Small::new(n);
            n /= Self::P;
            digit
        };
        Self::from_coefficients(std::array::from_fn(digit))
    }

    fn index(self) -> u64 {
        self.coefficients().iter().rev().fold(0, |n, c| n * Self::P + c.residue())
    }
}

impl<const P: u32, const M: usize> Extension<P, M> {
    fn draw(rng: &mut impl rand::Rng, out: &mut [Self]) {
        // The narrow lanes leave q below 2³².
        let whole = (1 << 32) / Self::ORDER * Self::ORDER;
        fill(rng, out, |word| {
            let draw = u64::from(u32::from_le_bytes(word));
            (Self::element(draw % Self::ORDER), draw < whole)
        });
    }
}

impl<const P: u32, const M: usize> Symbol for Extension<P, M> {
    type Scalar = Self;
    type Draw = Self;
    const BYTES: usize = (u64::BITS - (Self::ORDER - 1).leading_zeros()).div_ceil(8) as usize;

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
            y.iter_mut().zip(x).for_each(|(y, x)| *y = *y + *x);
        } else if a == -Self::ONE {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = *y - *x);
        } else {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = *y + a * *x);
        }
    }

    fn scale(y: &mut [Self], a: Self) {
        if a != Self::ONE {
            y.iter_mut().for_each(|y| *y = *y * a);
        }
    }

    fn add_terms(y: &mut [Self], start: usize, terms: &[(Self, &[Self])]) {
        for terms in terms.chunks(Self::LAZY) {
            if let [(a, x)] = terms {
                Self::axpy(y, *a, &x[start..start + y.len()]);
                continue;
            }
            for (i, y) in y.iter_mut().enumerate() {
                let products = terms.iter().map(|(a, x)| u128::from(a.0) * u128::from(x[start + i].0));
                *y = *y + Self::reduce(products.sum());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::linear::{inverse, product};
    use crate::seed::Seed;
    use nalgebra::DMatrix;
    use proptest::prelude::*;

    /// The axioms for three elements, and those of the inverse, the index and the order of the multiplicative
    /// group.
    fn is_a_field<F: Field>(a: u64, b: u64, c: u64) {
        let [a, b, c] = [a, b, c].map(|n| F::element(n % F::ORDER));
        assert_eq!((a + b, a * b), (b + a, b * a));
        assert_eq!(((a + b) + c, (a * b) * c), (a + (b + c), a * (b * c)));
        assert_eq!(a * (b + c), a * b + a * c);
        assert_eq!((a + F::ZERO, a * F::ONE, a * F::ZERO), (a, a, F::ZERO));
        assert_eq!((a + -a, a - b, -(-a)), (F::ZERO, a + -b, a));
        assert_eq!(F::element(a.index()), a);
        assert!(a.index() < F::ORDER);
        assert_eq!(a.power(F::ORDER), a);
        match a.inverse() {
            Some(inverse) => assert_eq!(a * inverse, F::ONE),
            None => assert_eq!(a, F::ZERO),
        }
    }

    proptest! {
        #[test]
        fn the_axioms_hold(a in any::<u64>(), b in any::<u64>(), c in any::<u64>()) {
            is_a_field::<F7Pow5>(a, b, c);
            is_a_field::<Extension<7, 2>>(a, b, c);
            is_a_field::<Extension<7, 7>>(a, b, c);
            is_a_field::<Extension<2, 8>>(a, b, c);
            is_a_field::<Extension<13, 3>>(a, b, c);
        }

        #[test]
        fn sums_of_packed_symbols_are_packed_sums(seed in any::<u64>(), len in 1usize..40, count in 1usize..60) {
            let mut rng = Seed::new(seed).rng();
            let draw = |rng: &mut _| (0..len).map(|_| Small::<7>::uniform(rng)).collect::<Vec<_>>();
            let vectors: Vec<Vec<Small<7>>> = (0..count).map(|_| draw(&mut rng)).collect();
            let packed: Vec<Vec<F7Pow5>> = vectors.iter().map(|vector| F7Pow5::pack(vector)).collect();
            let terms: Vec<_> = packed.iter().map(|packed| (F7Pow5::ONE, packed.as_slice())).collect();
            let sum = F7Pow5::unpack(&F7Pow5::combine(len.div_ceil(5), &terms));
            let terms: Vec<_> = vectors.iter().map(|vector| (Small::ONE, vector.as_slice())).collect();
            prop_assert_eq!(&sum[..len], &Small::<7>::combine(len, &terms)[..]);
            prop_assert!(sum[len..].iter().all(|&rest| rest == Small::ZERO));
        }

        /// Long combinations against one product and one sum at a time, with the largest coefficients among
        /// them.
        #[test]
        fn lazy_sums_are_exact(seed in any::<u64>(), count in 1usize..60) {
            let mut rng = Seed::new(seed).rng();
            let largest = F7Pow5::element(F7Pow5::ORDER - 1);
            let mut x = vec![vec![largest; 9]; count];
            x.iter_mut().for_each(|x| F7Pow5::sample(&mut rng, &mut x[1..]));
            let a: Vec<F7Pow5> =
                (0..count).map(|i| if i % 2 == 0 { largest } else { F7Pow5::uniform(&mut rng) }).collect();
            let terms: Vec<_> = a.iter().zip(&x).map(|(&a, x)| (a, x.as_slice())).collect();
            let sum = F7Pow5::combine(9, &terms);
            for (i, sum) in sum.into_iter().enumerate() {
                let want = terms.iter().fold(F7Pow5::ZERO, |sum, (a, x)| sum + *a * x[i]);
                prop_assert_eq!(sum, want);
            }
        }
    }

    #[test]
    fn f_49_by_hand() {
        // x² − a has no root over F_7 for the non-squares 3, 5 and 6; the least is 3.
        type F49 = Extension<7, 2>;
        assert_eq!(F49::TAIL, [3, 0]);
        let e = |c: [i64; 2]| F49::from_coefficients(c.map(Small::integer));
        // (2 + 3α)(5 + 4α) = 10 + 23α + 12 · 3 = 46 + 23α.
        assert_eq!(e([2, 3]) * e([5, 4]), e([46, 23]));
        assert_eq!(e([2, 3]) - e([5, 4]), e([-3, -1]));
        // (1 + α)(1 − α) = 1 − 3.
        assert_eq!(e([1, 1]).inverse().unwrap(), e([1, -1]) * F49::integer(-2).inverse().unwrap());
        assert_eq!((e([2, 3]).index(), F49::element(23)), (2 + 7 * 3, e([2, 3])));
        assert_eq!(e([2, -3]).to_string(), "2 − 3α");
        assert_eq!((e([0, 1]).to_string(), e([-1, 0]).to_string()), ("α".into(), "−1".into()));
        assert_eq!(F49::ZERO.to_string(), "0");
    }

    /// F_49^× is cyclic of order 48: exactly φ(48) = 16 elements generate it.
    #[test]
    fn the_multiplicative_group_is_cyclic() {
        type F49 = Extension<7, 2>;
        let generates = |n: &u64| [24, 16].iter().all(|&d| F49::element(*n).power(d) != F49::ONE);
        assert_eq!((1..49).filter(generates).count(), 16);
    }

    #[test]
    fn packed_symbols_have_their_bytes() {
        let bytes =
            [F7Pow5::BYTES, Extension::<7, 2>::BYTES, Extension::<7, 7>::BYTES, Extension::<2, 8>::BYTES];
        assert_eq!(bytes, [2, 1, 3, 1]);
        assert_eq!(F7Pow5::ORDER, 16_807);
    }

    #[test]
    fn matrices_have_inverses() {
        let mut rng = Seed::new(4).rng();
        let matrix = DMatrix::from_fn(7, 7, |_, _| F7Pow5::uniform(&mut rng));
        let unit = DMatrix::from_fn(7, 7, |i, j| if i == j { F7Pow5::ONE } else { F7Pow5::ZERO });
        assert_eq!(product(&matrix, &inverse(&matrix).unwrap()), unit);
    }

    /// χ² of 49 classes, 49,000 draws; 48 degrees of freedom, α = 10⁻⁵ at 104.
    #[test]
    fn draws_are_uniform() {
        let mut draws = vec![Extension::<7, 2>::ZERO; 49_000];
        Extension::sample(&mut Seed::new(5).rng(), &mut draws);
        let mut counts = [0f64; 49];
        draws.iter().for_each(|draw| counts[draw.index() as usize] += 1.0);
        let chi: f64 = counts.iter().map(|n| (n - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 104.0, "{counts:?}");
    }
}
