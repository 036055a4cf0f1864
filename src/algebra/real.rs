//! Floating-point numbers as symbols.

use super::grid::{self, Grid};
use super::{CHUNK, Real, Sample, Symbol, gaussian};
use crate::parallel;

/// Σ x_i², in as many partial sums as registers hold.
fn energy<S: Copy + Into<f64>>(x: &[S]) -> f64 {
    let mut sums = [0.0; 16];
    let (blocks, rest) = x.as_chunks::<16>();
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block) {
            let x: f64 = (*x).into();
            *sum += x * x;
        }
    }
    let rest = rest.iter().map(|x| (*x).into() * (*x).into());
    sums.into_iter().chain(rest).sum()
}

/// [`Symbol::snap`] in double precision.
fn snap_double(sum: &mut [f64], grid: &Grid, most: f64) -> bool {
    let near = parallel::map(sum.chunks(CHUNK), |chunk| grid.holds(chunk, most)).into_iter().all(|near| near);
    if near {
        parallel::for_each(sum.chunks_mut(CHUNK), |chunk| grid.round_all(chunk));
    }
    near
}

/// [`Symbol::snap`] in single precision.
fn snap_single(sum: &mut [f32], grid: &Grid, most: f64) -> bool {
    let near = |x: &f32| (f64::from(*x) - grid.round(f64::from(*x))).abs() <= most;
    let chunk = |chunk: &[f32]| chunk.iter().map(near).fold(true, |all, near| all & near);
    let near = parallel::map(sum.chunks(CHUNK), chunk).into_iter().all(|near| near);
    if near {
        parallel::for_each(sum.chunks_mut(CHUNK), |chunk| {
            chunk.iter_mut().for_each(|x| *x = grid.round(f64::from(*x)) as f32);
        });
    }
    near
}

fn less_single(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y -= x);
}

macro_rules! real_symbol {
    ($real:ty, $normal:path, $as_draws:expr, $settle_less:expr, $snap:expr, $less:expr) => {
        impl Symbol for $real {
            type Scalar = f64;
            type Draw = f64;
            const BYTES: usize = size_of::<$real>();
            const ROUNDOFF: f64 = <$real>::EPSILON as f64 / 2.0;

            fn as_draws(symbols: &mut [Self]) -> Option<&mut [f64]> {
                $as_draws(symbols)
            }

            fn set(symbols: &mut [Self], draws: &[f64]) {
                symbols.iter_mut().zip(draws).for_each(|(symbol, draw)| *symbol = *draw as $real);
            }

            fn settle(draws: &mut [Self], grid: &Grid, coins: &[u8]) {
                if let Some(draws) = Self::as_draws(draws) {
                    grid.settle(draws, coins);
                }
            }

            fn settle_less(draws: &mut [Self], a: f64, x: &[Self], grid: &Grid, coins: &[u8]) {
                $settle_less(grid, draws, a, x, coins);
            }

            fn less(y: &mut [Self], x: &[Self]) {
                $less(y, x);
            }

            fn energy(symbols: &[Self]) -> f64 {
                parallel::map(symbols.chunks(CHUNK), energy).into_iter().sum()
            }

            fn snap(sum: &mut [Self], grid: &Grid, most: f64) -> bool {
                $snap(sum, grid, most)
            }

            fn zero() -> Self {
                0.0
            }

            fn axpy(y: &mut [Self], a: f64, x: &[Self]) {
                let a = a as $real;
                for (y, x) in y.iter_mut().zip(x) {
                    *y += a * x;
                }
            }

            fn scale(y: &mut [Self], a: f64) {
                let a = a as $real;
                for y in y {
                    *y *= a;
                }
            }

            fn scale_less(y: &mut [Self], a: f64, x: &[Self]) {
                let a = a as $real;
                for (y, x) in y.iter_mut().zip(x) {
                    *y = a * *y - x;
                }
            }
        }

        impl Sample for $real {
            fn sample(rng: &mut impl rand::Rng, out: &mut [Self]) {
                $normal(rng, out);
            }

            fn noise(rng: &mut impl rand::Rng, out: &mut [f64]) {
                gaussian::fill_f64(rng, out);
            }
        }

        impl Real for $real {
            fn axpy_f32(y: &mut [Self], a: f64, x: &[f32], grid: Option<&Grid>) {
                if let Some(grid) = grid {
                    match Self::as_draws(y) {
                        Some(y) => grid.add(y, a, x),
                        None => y
                            .iter_mut()
                            .zip(x)
                            .for_each(|(y, x)| *y += grid.round(a * f64::from(*x)) as $real),
                    }
                    return;
                }
                let a = a as $real;
                for (y, x) in y.iter_mut().zip(x) {
                    *y += a * <$real>::from(*x);
                }
            }

            fn into_f64(symbols: Vec<Self>) -> Vec<f64> {
                symbols.into_iter().map(f64::from).collect()
            }
        }
    };
}
// Draws are of double precision: what is in single is none.
real_symbol!(f32, gaussian::fill_f32, |_| None, |_, _, _, _, _| (), snap_single, less_single);
real_symbol!(f64, gaussian::fill_f64, Some, Grid::settle_less, snap_double, grid::less);
