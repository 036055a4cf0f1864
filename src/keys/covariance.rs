//! Masks of any joint Gaussian law of sum zero, drawn from their covariance Σ, 1ᵀΣ1 = 0.
//!
//! | | here | shape |
//! |---|---|---|
//! | Σ at σ = 1 | [`Covariance::matrix`] | M × M |
//! | L Lᵀ = the first M−1 rows and columns of Σ, L lower triangular | `factor` | M−1 rows |
//! | u_k = σ Σ_{j≤k} L_kj g_j for k < M, u_M = −Σ_{k<M} u_k | the masks | d |
//!
//! L exists where every zero-sum combination of masks is random, that is where Σ has the rank M−1: else some
//! combination of updates would be sent in the clear. `plain` keys are L = I, and every other construction is
//! one L (see the tests).
//!
//! On a [`Grid`] û_k = R(u_k) for k < M and û_M = −Σ_{k<M} û_k, as with `fair` keys: n̂ = (û_1 … û_{M−1}) are
//! rounded Gaussian numbers, and the masks are H n̂ with H = [I; −1ᵀ]. The proof of
//! [`crate::privacy::floating`] asks no more of their law than its smallest eigenvalue; [`Covariance::stds`]
//! gives the number that stands for it.
//!
//! Over a prime field the entries of L become 1, and a triangular matrix of ones on its diagonal maps uniform
//! vectors to uniform vectors: the one law of all constructions.

use nalgebra::DMatrix;

use super::{KeySource, chunkwise, settle};
use crate::algebra::grid::{COIN, Grid};
use crate::algebra::{KeyStream, Scalar, Symbol};
use crate::error::{Error, Result};

/// How far, relative to the largest entry, rows may be from sum zero and entries from their mirror images.
const ROUNDING: f64 = 1e-9;

/// Eigenvalues below this fraction of the largest entry count as none.
const WEAKEST: f64 = 1e-9;

/// The covariance of masks of sum zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Covariance {
    matrix: DMatrix<f64>,
    /// L, its rows without what lies above the diagonal.
    factor: Vec<Vec<f64>>,
    /// The smallest eigenvalue of L Lᵀ.
    least: f64,
}

impl Covariance {
    /// Of masks of M clients with the covariance `matrix`, M × M, in units of σ².
    ///
    /// # Errors
    /// Fewer than two clients, and a matrix that is not finite, symmetric, of rows of sum zero, or leaves a
    /// zero-sum combination without a key.
    pub fn new(matrix: DMatrix<f64>) -> Result<Self> {
        let refuse = |rule: &str| Err(Error::config("keys", format!("the covariance of the masks {rule}")));
        let (clients, columns) = matrix.shape();
        if clients < 2 || columns != clients {
            return refuse("is a square matrix of at least two clients");
        }
        if !matrix.iter().all(|c| c.is_finite()) {
            return refuse("has an entry that is not finite");
        }
        let largest = matrix.amax();
        if (&matrix - matrix.transpose()).amax() > ROUNDING * largest {
            return refuse("is not symmetric");
        }
        if matrix.row_iter().any(|row| row.sum().abs() > ROUNDING * largest) {
            return refuse("has a row that does not sum to zero, so that the masks would not");
        }
        let first = matrix.view((0, 0), (clients - 1, clients - 1)).clone_owned();
        let least = first.symmetric_eigenvalues().min();
        let cholesky = first.cholesky().filter(|_| least > WEAKEST * largest);
        let Some(cholesky) = cholesky else {
            return refuse("leaves a combination of updates without a key; every zero-sum one needs one");
        };
        let l = cholesky.l();
        let factor = (0..clients - 1).map(|k| (0..=k).map(|j| l[(k, j)]).collect()).collect();
        Ok(Self { matrix, factor, least })
    }

    /// Number of clients M.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.matrix.nrows()
    }

    /// Σ in units of σ².
    #[must_use]
    pub fn matrix(&self) -> &DMatrix<f64> {
        &self.matrix
    }

    /// Σ_k Var(u_k) per coordinate at σ = `std`.
    #[must_use]
    pub fn total_power(&self, std: f64) -> f64 {
        self.matrix.trace() * std * std
    }

    /// Var(u_k) per coordinate of every client's mask at σ = `std`.
    #[must_use]
    pub fn variances(&self, std: f64) -> Vec<f64> {
        self.matrix.diagonal().iter().map(|variance| variance * std * std).collect()
    }

    /// A number of which the square, over M, is at most the smallest eigenvalue of the covariance of the
    /// masks that are drawn, and no larger than any mask's standard deviation; and the largest mask's.
    #[must_use]
    pub fn stds(&self, std: f64) -> (f64, f64) {
        let diagonal = self.matrix.diagonal();
        let least = (self.clients() as f64 * self.least).min(diagonal.min());
        (std * least.sqrt(), std * diagonal.max().sqrt())
    }

    /// The masks of one round, as [`Construction::masks`](super::Construction::masks).
    pub(super) fn masks<S: Symbol>(
        &self,
        len: usize,
        std: f64,
        grid: Option<&Grid>,
        round: u64,
        source: &impl KeySource<S>,
    ) -> Vec<Vec<S>> {
        let stream = |k: usize| KeyStream { purpose: "mask", round, a: k as u16, b: k as u16 };
        chunkwise(self.clients(), len, |chunk, masks| {
            let Some((last, others)) = masks.split_last_mut() else { return };
            let len = last.len();
            let mut draws: Vec<Vec<S::Draw>> = others.iter().map(|_| vec![S::Draw::zero(); len]).collect();
            draws.iter_mut().enumerate().for_each(|(k, draws)| source.noise(stream(k), chunk, draws));
            let mut coins = vec![0; COIN * len];
            // From the last on: what a mask is made of is still there as it was drawn.
            for (k, row) in self.factor.iter().enumerate().rev() {
                let (before, from) = draws.split_at_mut(k);
                let (own, _) = from.split_at_mut(1);
                for (mask, &own_factor) in own.iter_mut().zip(row.last()) {
                    S::Draw::scale(mask, S::Scalar::deviation(std * own_factor));
                    for (draws, &factor) in before.iter().zip(row).filter(|(_, factor)| **factor != 0.0) {
                        S::Draw::axpy(mask, S::Scalar::deviation(std * factor), draws);
                    }
                    settle::<S>(mask, &mut coins, grid, stream(k), chunk, source);
                    S::set(others[k], mask);
                }
            }
            for mask in others {
                S::less(last, mask);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::field::M61;
    use crate::algebra::grid::Public;
    use crate::algebra::{LinearForm, Unknown};
    use crate::keys::{CHUNK, Construction, FormalKeys, KeyKind, SeededKeys};
    use crate::seed::Seed;

    /// The covariance of formal masks of one coordinate.
    fn of_masks(masks: &[Vec<LinearForm>]) -> DMatrix<f64> {
        DMatrix::from_fn(masks.len(), masks.len(), |i, j| {
            masks[i][0].terms().map(|(unknown, c)| c * masks[j][0].coefficient(unknown)).sum()
        })
    }

    fn path(clients: usize) -> DMatrix<f64> {
        // Differences of neighbours on a path whose k-th edge has the variance k + 1: a Laplacian.
        let mut matrix = DMatrix::zeros(clients, clients);
        for k in 0..clients - 1 {
            let variance = (k + 1) as f64;
            matrix[(k, k)] += variance;
            matrix[(k + 1, k + 1)] += variance;
            matrix[(k, k + 1)] -= variance;
            matrix[(k + 1, k)] -= variance;
        }
        matrix
    }

    #[test]
    fn every_construction_is_drawn_from_its_covariance() {
        for kind in [KeyKind::Plain, KeyKind::Fair, KeyKind::Pairwise] {
            for m in 2..8 {
                let want = of_masks(&kind.masks::<LinearForm>(m, 1, 1.0, None, 0, &FormalKeys));
                let covariance = Covariance::new(want.clone()).unwrap();
                let masks = Construction::from(covariance.clone()).masks::<LinearForm>(
                    m,
                    1,
                    3.0,
                    None,
                    0,
                    &FormalKeys,
                );
                assert!((of_masks(&masks) - &want * 9.0).amax() < 1e-12, "{kind:?} {m}");
                assert!((covariance.total_power(3.0) - kind.total_power(m, 3.0)).abs() < 1e-9);
                let variances = covariance.variances(3.0).into_iter().zip(kind.variances(m, 3.0));
                assert!(variances.into_iter().all(|(got, want)| (got - want).abs() < 1e-9));
                // σ²/M is at most the smallest eigenvalue that the closed forms have: 1/(M−1) for fair keys.
                let (least, most) = covariance.stds(1.0);
                assert!(least >= 1.0 - 1e-9 && least <= most, "{kind:?} {m}: {least} {most}");
            }
        }
    }

    #[test]
    fn a_path_of_differences_is_drawn() {
        // Cov(u_1, u_2) = −1, Var(u_2) = 1 + 2, worked by hand for three clients.
        let matrix = path(3);
        assert_eq!(matrix, DMatrix::from_row_slice(3, 3, &[1., -1., 0., -1., 3., -2., 0., -2., 2.]));
        let masks =
            Covariance::new(matrix.clone()).unwrap().masks::<LinearForm>(1, 2.0, None, 0, &FormalKeys);
        assert!((of_masks(&masks) - matrix * 4.0).amax() < 1e-12);
        // L = [1, 0; −1, √2].
        let key = |k| Unknown::Key(KeyStream { purpose: "mask", round: 0, a: k, b: k }, 0);
        assert!((masks[1][0].coefficient(key(0)) + 2.0).abs() < 1e-15);
        assert!((masks[1][0].coefficient(key(1)) - 8f64.sqrt()).abs() < 1e-15);
        assert!((masks[2][0].coefficient(key(0))).abs() < 1e-15);
    }

    #[test]
    fn on_a_grid_masks_are_multiples_that_sum_to_zero_and_have_the_covariance() {
        let covariance = Covariance::new(path(4)).unwrap();
        let n = CHUNK + 100_000;
        let stds = covariance.stds(3.0);
        let grid = Grid::new(4, stds, false, &Public::default()).unwrap();
        let masks = covariance.masks::<f64>(n, 3.0, Some(&grid), 1, &SeededKeys(Seed::new(5)));
        for i in 0..n {
            assert_eq!(masks.iter().map(|mask| mask[i]).sum::<f64>(), 0.0);
            assert!(masks.iter().all(|mask| (mask[i] / grid.step()).fract() == 0.0));
        }
        for i in 0..4 {
            for j in 0..4 {
                let got: f64 = masks[i].iter().zip(&masks[j]).map(|(a, b)| a * b).sum::<f64>() / n as f64;
                let (want, own) = (9.0 * path(4)[(i, j)], 9.0 * (path(4)[(i, i)] * path(4)[(j, j)]).sqrt());
                // Var(ab) ≤ 2 Var(a) Var(b): 5 standard errors, α < 10⁻⁵ for all sixteen; the grid adds at
                // most 0.3 per cent.
                let bound = 5.0 * own * (2.0 / n as f64).sqrt() + 0.003 * own;
                assert!((got - want).abs() < bound, "{i} {j}: {got} for {want}");
            }
        }
    }

    #[test]
    fn over_a_field_masks_sum_to_zero_and_any_three_are_free() {
        let covariance = Covariance::new(path(4)).unwrap();
        let masks = covariance.masks::<LinearForm<M61>>(1, 3.0, None, 0, &FormalKeys);
        let terms: Vec<_> = masks.iter().map(|mask| (M61::ONE, mask.as_slice())).collect();
        assert_eq!(LinearForm::combine(1, &terms)[0].terms().count(), 0);
        // Triangular: mask k is the first to hold draw k, with the coefficient 1.
        for (k, mask) in masks[..3].iter().enumerate() {
            let terms: Vec<_> = mask[0].terms().collect();
            assert_eq!(terms.last().map(|(_, c)| *c), Some(M61::ONE));
            let key = |a: usize| KeyStream { purpose: "mask", round: 0, a: a as u16, b: a as u16 };
            assert_eq!(terms.last().map(|(unknown, _)| *unknown), Some(Unknown::Key(key(k), 0)));
        }
    }

    #[test]
    fn what_is_no_covariance_of_sum_zero_is_refused_in_one_line() {
        let refused = |matrix: DMatrix<f64>, word: &str| {
            let line = Covariance::new(matrix).unwrap_err().to_string();
            assert!(line.contains(word) && !line.contains('\n'), "{line}");
        };
        refused(DMatrix::zeros(0, 0), "two clients");
        refused(DMatrix::zeros(1, 1), "two clients");
        refused(DMatrix::zeros(2, 3), "square");
        refused(DMatrix::from_element(2, 2, f64::NAN), "not finite");
        refused(DMatrix::identity(3, 3), "sum to zero");
        refused(DMatrix::from_row_slice(2, 2, &[1.0, -1.0, 1.0, -1.0]), "symmetric");
        // Two pairs of clients who share nothing: the sum of a pair has no key.
        let mut pairs = DMatrix::zeros(4, 4);
        pairs.view_mut((0, 0), (2, 2)).copy_from(&path(2));
        pairs.view_mut((2, 2), (2, 2)).copy_from(&path(2));
        refused(pairs, "without a key");
        // Negative variances.
        refused(-path(3), "without a key");
    }
}
