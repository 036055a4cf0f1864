//! Columns of doubles at the width of the CPU's registers.
//!
//! Every sum is taken in the order in which `nalgebra` takes it, so that results are the same to the bit,
//! whatever the CPU. The functions are parts of passes that [`pulp::Arch::dispatch`] runs.

use nalgebra::DMatrix;

/// Sums that a product of two columns is taken in.
const LANES: usize = 8;

/// The sums of a product, and what is left at the ends of the columns.
#[inline(always)]
fn total(lanes: [f64; LANES], x: &[f64], y: &[f64]) -> f64 {
    let mut total = 0.0;
    let (low, high) = lanes.split_at(LANES / 2);
    for (low, high) in low.iter().zip(high) {
        total += low + high;
    }
    for (x, y) in x.iter().zip(y) {
        total += x * y;
    }
    total
}

/// Σ x y.
#[inline(always)]
pub(crate) fn dot(x: &[f64], y: &[f64]) -> f64 {
    let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    total(lanes, x, y)
}

/// ‖x‖₂.
#[inline(always)]
pub(crate) fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// ‖x − y‖₂.
#[inline(always)]
pub(crate) fn apart(x: &[f64], y: &[f64]) -> f64 {
    let ((xs, x), (ys, y)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += (x - y) * (x - y);
        }
    }
    let mut ends = [0.0; LANES];
    for ((end, x), y) in ends.iter_mut().zip(x).zip(y) {
        *end = x - y;
    }
    total(lanes, &ends[..x.len()], &ends[..x.len()]).sqrt()
}

/// y ← y + a x.
#[inline(always)]
pub(crate) fn add(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// (x, y) ← (c x − s y, s x + c y), and Σ x², Σ y² of the result.
#[inline(always)]
pub(crate) fn rotate(x: &mut [f64], y: &mut [f64], c: f64, s: f64) -> (f64, f64) {
    let ((xs, x), (ys, y)) = (x.as_chunks_mut::<LANES>(), y.as_chunks_mut::<LANES>());
    let (mut of_x, mut of_y) = ([0.0; LANES], [0.0; LANES]);
    for (x, y) in xs.iter_mut().zip(ys) {
        for (((x, y), of_x), of_y) in x.iter_mut().zip(y).zip(&mut of_x).zip(&mut of_y) {
            (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
            *of_x += *x * *x;
            *of_y += *y * *y;
        }
    }
    for (x, y) in x.iter_mut().zip(&mut *y) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
    (total(of_x, x, x), total(of_y, y, y))
}

/// A column of a matrix.
#[inline(always)]
pub(crate) fn column(matrix: &DMatrix<f64>, k: usize) -> &[f64] {
    let rows = matrix.nrows();
    &matrix.as_slice()[k * rows..][..rows]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use nalgebra::DVector;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn the_bits_are_those_of_nalgebra() {
        let mut rng = Seed::new(5).rng();
        for len in [0, 1, 7, 8, 9, 16, 23, 100, 111] {
            let mut draw = || DVector::from_fn(len, |_, _| StandardNormal.sample(&mut rng));
            let (x, y): (DVector<f64>, DVector<f64>) = (draw(), draw());
            let (a, b) = (x.as_slice(), y.as_slice());
            assert_eq!(dot(a, b).to_bits(), x.dot(&y).to_bits());
            assert_eq!(norm(a).to_bits(), x.norm().to_bits());
            assert_eq!(apart(a, b).to_bits(), (&x - &y).norm().to_bits());
            let (mut own, mut theirs) = (x.clone(), x.clone());
            add(own.as_mut_slice(), 0.3, b);
            theirs.axpy(0.3, &y, 1.0);
            assert_eq!(own, theirs);
            let (mut u, mut v) = (x.clone(), y.clone());
            let squares = rotate(u.as_mut_slice(), v.as_mut_slice(), 0.8, 0.6);
            assert_eq!(u, &x * 0.8 - &y * 0.6);
            assert_eq!(v, &x * 0.6 + &y * 0.8);
            let of = [u.norm_squared(), v.norm_squared()].map(f64::to_bits);
            assert_eq!([squares.0, squares.1].map(f64::to_bits), of);
        }
    }
}
