//! The randomised Hadamard rotation (Ailon, Chazelle, *The Fast Johnson–Lindenstrauss Transform*, 2009): it
//! makes the coordinates of any vector about equally large, so that fewer bits hold them.

use std::ops::{Add, Mul, Neg, Sub};

use pulp::{Arch, NullaryFnOnce};
use rand::Rng;

use crate::algebra::CHUNK;
use crate::parallel;
use crate::seed::Seed;

/// Bytes of a second-level cache that a strip of all rows may fill.
const CACHE: usize = 256 * 1024;

/// A floating-point number.
pub trait Float:
    Copy
    + Send
    + Sync
    + Into<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// The nearest number.
    fn nearest(x: f64) -> Self;
}

impl Float for f32 {
    fn nearest(x: f64) -> Self {
        x as Self
    }
}

impl Float for f64 {
    fn nearest(x: f64) -> Self {
        x
    }
}

/// The rotation y = H D x/√d′ of vectors of a power of two d′ of numbers: H the Walsh–Hadamard matrix, D
/// signs that everybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hadamard {
    signs: Seed,
}

impl Hadamard {
    /// The rotation by the signs of this seed, which is public and another in every round.
    #[must_use]
    pub fn new(signs: Seed) -> Self {
        Self { signs }
    }

    /// d′: the length to which `len` numbers are padded with zeros.
    #[must_use]
    pub fn padded(len: usize) -> usize {
        len.next_power_of_two()
    }

    /// y = H D y/√d′, in place. The result does not depend on the number of threads.
    ///
    /// # Panics
    /// When the length is not a power of two.
    pub fn rotate<T: Float>(&self, y: &mut [T]) {
        self.flip(y);
        transform(y);
    }

    /// y = D H y/√d′, the inverse of [`Hadamard::rotate`], in place.
    ///
    /// # Panics
    /// As [`Hadamard::rotate`].
    pub fn invert<T: Float>(&self, y: &mut [T]) {
        transform(y);
        self.flip(y);
    }

    /// y = D y/√d′.
    fn flip<T: Float>(&self, y: &mut [T]) {
        let scale = T::nearest((y.len() as f64).sqrt().recip());
        parallel::for_each(y.chunks_mut(CHUNK).enumerate(), |(index, y)| {
            let mut signs = [0; CHUNK / 8];
            self.signs.child("signs", index as u64).bulk(0).fill_bytes(&mut signs);
            for (y, signs) in y.chunks_mut(8).zip(signs) {
                for (bit, y) in y.iter_mut().enumerate() {
                    *y = *y * if signs >> bit & 1 == 1 { -scale } else { scale };
                }
            }
        });
    }
}

/// y = H y: within chunks first, then between them, strip by strip.
fn transform<T: Float>(y: &mut [T]) {
    assert!(y.len().is_power_of_two(), "a Hadamard matrix has a power of two of rows");
    let arch = Arch::new();
    parallel::for_each(y.chunks_mut(CHUNK), |chunk| arch.dispatch(Within(chunk)));
    let rows = y.len() / CHUNK;
    if rows > 1 {
        let strip = (CACHE / (rows * size_of::<T>())).clamp(16, CHUNK);
        parallel::for_each_block(y.chunks_mut(CHUNK), strip, |_, rows| arch.dispatch(Between(rows)));
    }
}

/// (a, b) becomes (a + b, a − b).
#[inline(always)]
fn butterfly<T: Float>(a: &mut T, b: &mut T) {
    (*a, *b) = (*a + *b, *a - *b);
}

/// The transform of one chunk.
struct Within<'a, T>(&'a mut [T]);

impl<T: Float> NullaryFnOnce for Within<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let mut half = 1;
        if self.0.len() >= 8 {
            for eight in self.0.as_chunks_mut::<8>().0 {
                let [a, b, c, d, e, f, g, h] = *eight;
                let [a, b, c, d, e, f, g, h] = [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h];
                let [a, b, c, d] = [a + c, b + d, a - c, b - d];
                let [e, f, g, h] = [e + g, f + h, e - g, f - h];
                *eight = [a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h];
            }
            half = 8;
        }
        while half < self.0.len() {
            for pair in self.0.chunks_exact_mut(2 * half) {
                let (first, second) = pair.split_at_mut(half);
                first.iter_mut().zip(second).for_each(|(a, b)| butterfly(a, b));
            }
            half *= 2;
        }
    }
}

/// The transform between rows, coordinate by coordinate.
struct Between<'a, T>(Vec<&'a mut [T]>);

impl<T: Float> NullaryFnOnce for Between<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let mut half = 1;
        while half < self.0.len() {
            for pair in self.0.chunks_exact_mut(2 * half) {
                let (first, second) = pair.split_at_mut(half);
                for (a, b) in first.iter_mut().zip(second) {
                    a.iter_mut().zip(b.iter_mut()).for_each(|(a, b)| butterfly(a, b));
                }
            }
            half *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of Walsh–Hadamard by hand: D = (+ − + + − − + −).
    #[test]
    fn a_rotation_by_hand() {
        let signs = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0];
        let x = [4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0];
        let mut y: Vec<f64> = x.iter().zip(signs).map(|(x, sign)| x * sign / 8f64.sqrt()).collect();
        transform(&mut y);
        let (low, high) = (1.0 / 8f64.sqrt(), 7.0 / 8f64.sqrt());
        for (y, want) in y.iter().zip([low, high, high, low, high, low, low, high]) {
            assert!((y - want).abs() < 1e-12, "{y} for {want}");
        }
        let norm: f64 = y.iter().map(|y| y * y).sum();
        assert!((norm - 25.0).abs() < 1e-12);
    }

    /// H by its definition, (−1)^{popcount of row & column}, over every length that the passes treat apart.
    #[test]
    fn the_transform_is_the_matrix() {
        for len in [1, 2, 4, 8, 16, 128] {
            let x: Vec<f64> = (0..len).map(|i| f64::from(i * i % 17) - 5.0).collect();
            let mut y = x.clone();
            transform(&mut y);
            for (row, y) in y.iter().enumerate() {
                let sign =
                    |column: usize| if (row & column).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
                let want: f64 = x.iter().enumerate().map(|(column, x)| sign(column) * x).sum();
                assert_eq!(*y, want, "{len} {row}");
            }
        }
        // Between chunks: a unit vector becomes a row.
        let (len, at) = (8 * CHUNK, 5 * CHUNK + 1234);
        let mut y = vec![0.0f32; len];
        y[at] = 1.0;
        transform(&mut y);
        for (i, y) in y.iter().enumerate() {
            assert_eq!(*y, if (i & at).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 });
        }
    }

    proptest! {
        #[test]
        fn inverse_and_norm(seed in any::<u64>(), power in 0u32..17) {
            let rotation = Hadamard::new(Seed::new(seed));
            let mut x = vec![0.0f64; 1 << power];
            crate::algebra::gaussian::fill_f64(&mut Seed::new(seed).child("x", 0).rng(), &mut x);
            let mut y = x.clone();
            rotation.rotate(&mut y);
            let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
            prop_assert!((norm(&x) - norm(&y)).abs() < 1e-9 * norm(&x));
            prop_assert!(power < 4 || x != y);
            rotation.invert(&mut y);
            prop_assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-12));
        }
    }

    #[test]
    fn one_large_coordinate_becomes_flat_and_threads_do_not_matter() {
        let rotation = Hadamard::new(Seed::new(1));
        let x: Vec<f32> = (0..4 * CHUNK).map(|i| if i == 77 { 256.0 } else { 0.0 }).collect();
        let rotate = || {
            let mut y = x.clone();
            rotation.rotate(&mut y);
            y
        };
        let y = rotate();
        assert!(y.iter().all(|y| y.abs() == 1.0));
        let negative = y.iter().filter(|y| **y < 0.0).count();
        assert_eq!(negative, 2 * CHUNK, "rows of H are balanced");
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(alone.install(rotate), y);
        assert_eq!([1, 5, 8, 7850].map(Hadamard::padded), [1, 8, 8, 8192]);
    }

    /// Signs are fair and differ from chunk to chunk: 4.9 standard errors, α = 10⁻⁶.
    #[test]
    fn signs_are_fair() {
        let mut ones = vec![1.0f64; 2 * CHUNK];
        Hadamard::new(Seed::new(2)).flip(&mut ones);
        let sum: f64 = ones.iter().map(|one| one.signum()).sum();
        let product: f64 = ones[..CHUNK].iter().zip(&ones[CHUNK..]).map(|(a, b)| (a * b).signum()).sum();
        assert!(sum.abs() < 4.9 * (2.0 * CHUNK as f64).sqrt(), "{sum}");
        assert!(product.abs() < 4.9 * (CHUNK as f64).sqrt(), "{product}");
    }
}
