//! Logarithms between two integers, to any precision.
//!
//! Numbers are multiples of 2⁻ᵖ, p being the bits that are asked for; whatever is cut off is counted, so that
//! an [`Enclosure`] holds the number that it stands for whatever p is, and shrinks as p grows.

use std::ops::{Add, Sub};

use num_bigint::{BigInt, BigUint};

/// From this number on, factorials are those of Stirling's series.
const STIRLING: u64 = 1024;

/// A number x with low ≤ 2ᵖ x ≤ high.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Enclosure {
    low: BigInt,
    high: BigInt,
}

impl Enclosure {
    /// n · 2^`exponent` / d for a positive d.
    pub fn ratio(n: &BigInt, d: &BigUint, exponent: i64, bits: u32) -> Self {
        let shift = exponent + i64::from(bits);
        let (n, d) = match shift {
            0.. => (n << shift.unsigned_abs(), BigInt::from(d.clone())),
            _ => (n.clone(), BigInt::from(d << shift.unsigned_abs())),
        };
        let quotient = &n / &d;
        Self { low: &quotient - 1, high: quotient + 1 }
    }

    /// The product with n ≥ 0.
    pub fn times(&self, n: u64) -> Self {
        Self { low: &self.low * n, high: &self.high * n }
    }

    /// Whether this number is certainly not above `other`.
    pub fn is_at_most(&self, other: &Self) -> bool {
        self.high <= other.low
    }
}

impl Add for Enclosure {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }
}

impl Sub for Enclosure {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { low: self.low - other.high, high: self.high - other.low }
    }
}

/// A positive finite number as m · 2ᵉ.
pub(super) fn dyadic(x: f64) -> (BigUint, i64) {
    let (fraction, exponent) = (x.to_bits() & ((1 << 52) - 1), (x.to_bits() >> 52) as i64);
    match exponent {
        0 => (fraction.into(), -1074),
        _ => ((fraction | 1 << 52).into(), exponent - 1075),
    }
}

/// ln(n · 2^`exponent`) for n ≥ 1.
pub(super) fn ln(n: &BigUint, exponent: i64, bits: u32) -> Enclosure {
    // n = m 2ᵉ with 1 ≤ m < 2, and ln m = 2 artanh((m − 1)/(m + 1)).
    let e = n.bits() - 1;
    let power = BigUint::from(1u8) << e;
    let mantissa = artanh(&(n - &power), &(n + &power), bits).times(2);
    let twos = artanh(&1u8.into(), &3u8.into(), bits).times(2);
    match e as i64 + exponent {
        twos_of @ 0.. => mantissa + twos.times(twos_of.unsigned_abs()),
        twos_of => mantissa - twos.times(twos_of.unsigned_abs()),
    }
}

/// artanh(n/d) = Σ (n/d)^{2j+1}/(2j + 1) for 0 ≤ n/d ≤ 1/3.
fn artanh(n: &BigUint, d: &BigUint, bits: u32) -> Enclosure {
    let z = (n << bits) / d;
    let square = (&z * &z) >> bits;
    let (mut power, mut sum, mut terms) = (z, BigUint::ZERO, 0u64);
    while power != BigUint::ZERO {
        sum += &power / (2 * terms + 1);
        power = (power * &square) >> bits;
        terms += 1;
    }
    // Everything is rounded down: a power by less than 2 steps, a quotient by 1 more; what follows the last
    // power is less than 3.
    let low = BigInt::from(sum);
    Enclosure { high: &low + 4 * terms + 8, low }
}

/// ln k!.
pub(super) fn ln_factorial(k: u64, bits: u32) -> Enclosure {
    let product = |k: u64| (2..=k).fold(BigUint::from(1u8), |product, factor| product * factor);
    if k <= STIRLING {
        return ln(&product(k), 0, bits);
    }
    // Of Stirling's formula at k and at 1024 the constants cancel.
    let rest = ln(&product(STIRLING), 0, bits) - stirling(STIRLING, bits);
    rest + stirling(k, bits)
}

/// (k + ½) ln k − k + Σ_j B_{2j}/(2j (2j − 1) k^{2j−1}): Stirling's series, whose rest after any term lies
/// between 0 and the next one.
fn stirling(k: u64, bits: u32) -> Enclosure {
    // Half of (2k + 1) ln k.
    let Enclosure { low, high } = ln(&k.into(), 0, bits).times(2 * k + 1);
    let mut sum = Enclosure { low: (low >> 1u8) - 1, high: (high >> 1u8) + 1 };
    sum = sum - Enclosure::ratio(&k.into(), &1u8.into(), 0, bits);
    let mut power = BigUint::from(k);
    let tangents = tangents(bits as usize / 16 + 4);
    for (j, tangent) in (1u32..).zip(&tangents) {
        // B_{2j} = ±j T_j/(2^{2j−1} (2^{2j} − 1)) by the tangent numbers T_j.
        let four = BigUint::from(1u8) << (2 * j);
        let denominator = (four - 1u8) * (2 * (2 * j - 1)) * &power;
        let size = Enclosure::ratio(&tangent.clone().into(), &denominator, 1 - 2 * i64::from(j), bits);
        let is_last = j as usize == tangents.len() || size.high <= BigInt::from(4u8);
        match (is_last, j % 2) {
            (true, 1) => sum.high += &size.high,
            (true, _) => sum.low -= &size.high,
            (false, 1) => sum = sum + size,
            (false, _) => sum = sum - size,
        }
        if is_last {
            break;
        }
        power *= BigUint::from(k) * k;
    }
    sum
}

/// The tangent numbers T_1 ... T_n: 1, 2, 16, 272, ... (Brent & Harvey, *Fast computation of Bernoulli,
/// tangent and secant numbers*, 2013, algorithm TangentNumbers).
fn tangents(n: usize) -> Vec<BigUint> {
    let mut t = vec![BigUint::from(1u8)];
    for k in 1..n {
        t.push(&t[k - 1] * k);
    }
    for k in 1..n {
        for j in k..n {
            t[j] = &t[j - 1] * (j - k) + &t[j] * (j - k + 2);
        }
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::Sign;

    fn close(x: &Enclosure, bits: u32, want: f64) {
        let as_f64 = |n: &BigInt| {
            let top = (n.magnitude() >> (bits - 64)).to_u64_digits();
            let size = top.iter().rev().fold(0.0, |sum, &digit| sum * 2f64.powi(64) + digit as f64);
            if n.sign() == Sign::Minus { -size * 2f64.powi(-64) } else { size * 2f64.powi(-64) }
        };
        let (low, high) = (as_f64(&x.low), as_f64(&x.high));
        let error = 1e-14 * want.abs().max(1.0);
        assert!((low - want).abs() < error && (high - want).abs() < error, "{low} {high} {want}");
    }

    #[test]
    fn logarithms_are_those_of_floats_and_of_each_other() {
        for bits in [64, 128, 300] {
            for (n, exponent) in [(1u64, 0), (2, 0), (3, -1), (10, 7), (1 << 40, -90), (u64::MAX, 3)] {
                let want = (n as f64).ln() + f64::from(exponent) * std::f64::consts::LN_2;
                close(&ln(&n.into(), exponent.into(), bits), bits, want);
            }
            // ln 6 = ln 2 + ln 3 at any precision, and ln 2 to 50 digits.
            let sum = ln(&2u8.into(), 0, bits) + ln(&3u8.into(), 0, bits);
            let product = ln(&6u8.into(), 0, bits);
            assert!(!sum.is_at_most(&product) && !product.is_at_most(&sum));
            assert!(&product.high - &product.low < BigInt::from(16 * bits));
        }
        let two = "69314718055994530941723212145817656807550013436025".parse::<BigInt>().unwrap();
        let (two, scale) = (two << 160u8, BigInt::from(10u8).pow(50));
        let found = ln(&2u8.into(), 0, 160);
        assert!(&found.low * &scale <= two.clone() + &scale && two <= &found.high * &scale);
    }

    #[test]
    fn factorials_by_stirling_are_products() {
        // Products of k factors against the series, far beyond double precision.
        for k in [1025u64, 1100, 2000, 5000] {
            let product = (2..=k).fold(BigUint::from(1u8), |product, factor| product * factor);
            for bits in [64, 128, 256, 512] {
                let (series, exact) = (ln_factorial(k, bits), ln(&product, 0, bits));
                assert!(series.low <= exact.high && exact.low <= series.high, "{k} {bits}");
                assert!((&series.high - &series.low).bits() < 32, "{k} {bits}: {series:?}");
            }
        }
        close(&ln_factorial(0, 64), 64, 0.0);
        close(&ln_factorial(5, 64), 64, 120f64.ln());
    }

    #[test]
    fn tangent_numbers_are_those_of_the_books() {
        let small: Vec<u64> = tangents(6).iter().map(|t| t.to_u64_digits()[0]).collect();
        assert_eq!(small, [1, 2, 16, 272, 7936, 353_792]);
    }

    #[test]
    fn numbers_are_dyadic() {
        for x in [1.0, 0.1, 3.75, 1e-300, 5e-324, 1e300] {
            let (m, e) = dyadic(x);
            let m = m.to_u64_digits()[0] as f64;
            assert_eq!(m * 2f64.powi((e / 2) as i32) * 2f64.powi((e - e / 2) as i32), x);
        }
    }
}
