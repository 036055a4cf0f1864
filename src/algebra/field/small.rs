//! Prime fields of at most 31 bits.

use super::*;

/// F_p for a prime p below 2³¹.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Small<const P: u32>(u32);

/// F_p for p = 2³¹ − 1.
pub type M31 = Small<{ (1 << 31) - 1 }>;

impl<const P: u32> Small<P> {
    const MERSENNE_31: bool = P == (1 << 31) - 1;

    /// n mod p; 2³¹ ≡ 1 makes it two folds for [`M31`].
    #[inline]
    fn reduce(n: u64) -> u32 {
        if Self::MERSENNE_31 {
            let folded = (n & u64::from(P)) + (n >> 31);
            let folded = (folded & u64::from(P)) + (folded >> 31);
            let folded = folded as u32;
            // min is branchless: a wrapped difference is large.
            folded.min(folded.wrapping_sub(P))
        } else {
            (n % u64::from(P)) as u32
        }
    }

    fn draw(rng: &mut impl rand::Rng, out: &mut [Self]) {
        fill(rng, out, |word| {
            let draw = u32::from_le_bytes(word) >> (P - 1).leading_zeros();
            (Self(draw), draw < P)
        });
    }
}

impl<const P: u32> Add for Small<P> {
    type Output = Self;
    #[inline]
    fn add(self, other: Self) -> Self {
        let sum = self.0 + other.0;
        Self(sum.min(sum.wrapping_sub(P)))
    }
}

impl<const P: u32> Neg for Small<P> {
    type Output = Self;
    #[inline]
    fn neg(self) -> Self {
        Self(if self.0 == 0 { 0 } else { P - self.0 })
    }
}

impl<const P: u32> Mul for Small<P> {
    type Output = Self;
    #[inline]
    fn mul(self, other: Self) -> Self {
        Self(Self::reduce(u64::from(self.0) * u64::from(other.0)))
    }
}

residues!([const P: u32] Small<P>);

impl<const P: u32> Prime for Small<P> {
    const MODULUS: u64 = P as u64;

    fn new(n: u64) -> Self {
        Self((n % u64::from(P)) as u32)
    }

    #[inline]
    fn signed(n: i64) -> Self {
        debug_assert!(n.unsigned_abs() < u64::from(P));
        Self((n + (n >> 63 & i64::from(P))) as u32)
    }

    fn residue(self) -> u64 {
        self.0.into()
    }
}

impl<const P: u32> Symbol for Small<P> {
    type Scalar = Self;
    type Draw = Self;
    const BYTES: usize = (u32::BITS - P.leading_zeros()).div_ceil(8) as usize;

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
                y.0 = Self::reduce(u64::from(a.0) * u64::from(x.0) + u64::from(y.0));
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

impl<const P: u32, const N: usize> NullaryFnOnce for Products<'_, Small<P>, N> {
    type Output = ();

    /// 62-bit products: three and a residue fit 64 bits.
    #[inline(always)]
    fn call(self) {
        let Self(y, terms) = self;
        let a = terms.map(|(a, _)| u64::from(a.0));
        let x = terms.map(|(_, x)| &x[..y.len()]);
        for i in 0..y.len() {
            let mut sum = u64::from(y[i].0);
            for n in 0..N {
                sum += a[n] * u64::from(x[n][i].0);
            }
            y[i].0 = Small::<P>::reduce(sum);
        }
    }
}
