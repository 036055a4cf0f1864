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

/// The gradient before ReLU from the one behind it and ReLU's outputs `y`. Not y > 0: NaN, the sign of
/// divergence, must pass.
pub(super) fn relu_gradient(gradient: &mut [f32], y: &[f32]) {
    for_each_pair(gradient, y, |gradient, y| *gradient = if y <= 0.0 { 0.0 } else { *gradient });
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

/// The hyperbolic tangent, within 4 units in the last place: the quotient of two polynomials that Eigen uses.
/// Where it is 1 in single precision the argument is cut off; NaN, the sign of divergence, passes.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    const ODD: [f32; 7] = [
        -2.760_768_5e-16,
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297_3e-8,
        1.485_722_4e-5,
        6.372_619_4e-4,
        4.893_524_6e-3,
    ];
    const EVEN: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3];
    let x = x.clamp(-7.905_311, 7.905_311);
    let square = x * x;
    let polynomial = |terms: &[f32]| terms.iter().fold(0.0, |sum, term| sum * square + term);
    x * polynomial(&ODD) / polynomial(&EVEN)
}
