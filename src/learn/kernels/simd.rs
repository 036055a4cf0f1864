//! Loops over slices with the widest vectors of the processor.

use pulp::{Arch, Simd, WithSimd};

/// Applies `change` to every pair. It should be small, to be compiled into the loop.
pub(super) fn for_each_pair<T: Copy>(to: &mut [f32], from: &[T], change: impl Fn(&mut f32, T)) {
    struct Pairs<'a, T, F>(&'a mut [f32], &'a [T], F);

    impl<T: Copy, F: Fn(&mut f32, T)> WithSimd for Pairs<'_, T, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(to, from, change) = self;
            for (to, &from) in to.iter_mut().zip(from) {
                change(to, from);
            }
        }
    }

    Arch::new().dispatch(Pairs(to, from, change));
}

/// The sums of the columns of a matrix with that many.
pub(super) fn column_sums(matrix: &[f32], columns: usize) -> Vec<f32> {
    struct Sums<'a>(&'a [f32], &'a mut [f32]);

    impl WithSimd for Sums<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(matrix, sums) = self;
            for row in matrix.chunks_exact(sums.len()) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        }
    }

    let mut sums = vec![0.0; columns];
    Arch::new().dispatch(Sums(matrix, &mut sums));
    sums
}
