//! How much noise is shared by pairs and how much is each client's own: the split with the least noise in
//! what the server estimates.
//!
//! The setting is that of Allouah, Koloskova, El Firdoussi, Jaggi, Guerraoui, *The Privacy Power of
//! Correlated Noise in Decentralized Learning*, ICML 2024 (DECOR), and Rodio, Chen, Larsson, *Whisper D-SGD /
//! CorN-DSGD*, 2025, moved from gossip to a server behind failing links; the optimum is our derivation.
//!
//! Client k sends y_k = x_k + its noise, R is the covariance of all noise. The server estimates Σ_k x_k by
//! Σ_k τ_k y_k / p_k, where p_k is the probability that τ_k = 1. Its noise has the variance tr(RQ) per
//! coordinate, Q = 11ᵀ + diag(c), c_k = (1 − p_k)/p_k, and whoever reads all y_k sees x_k through noise of
//! variance 1/\[R⁻¹\]_kk. With \[R⁻¹\]_kk ≤ 1 for all k the least tr(RQ) is that of
//!
//! ```text
//! R = Λ^½ (Λ^-½ Q⁻¹ Λ^-½)^½ Λ^½,   Λ = diag(λ) such that all [R⁻¹]_kk = 1,
//! ```
//!
//! the geometric mean of Q⁻¹ and Λ, by λ_k ← λ_k \[R⁻¹\]_kk. It is a Laplacian plus a diagonal, so that pairs
//! can make it without a dealer: R = Λ N^½ with N = Λ⁻¹Q⁻¹, which has no positive entry beside its diagonal
//! and N1 > 0, and N^½ = ∫ (I − t (tI + N)⁻¹) dt/(π√t) keeps both. Client k and j share a draw of variance
//! −R_kj, and the row sum is the variance of what k adds alone. For equal p, with t = √(M + c) + (M − 1)√c:
//!
//! ```text
//! row sum t/(M√(M + c)),  row sum − M R_kj = t/(M√c),  tr(RQ) = t²/M;  independent noise M(1 + c)
//! ```

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use crate::error::{Error, Result};
use crate::keys::Pairs;

/// Clients at most: every step takes a matrix apart.
const CLIENTS: usize = 300;

/// Links are taken to lose at least this share: noise that all but cancels is best where nothing is lost, and
/// there is then none that is the best.
const LEAST_LOSS: f64 = 1e-4;

/// Steps at most, and how near to 1 all \[R⁻¹\]_kk end.
const STEPS: usize = 2000;
const NEAR: f64 = 1e-12;

/// Noise of pairs and of each client.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Of pairs.
    pub pairs: Pairs,
    /// Standard deviations of what clients add alone.
    pub residual: Vec<f64>,
}

/// The best split for uploads that arrive with these probabilities, each above 0, where no \[R⁻¹\]_kk is
/// above 1: as private against whoever reads all uploads as independent noise of deviation 1.
///
/// # Errors
/// More clients than can be computed with, and one of whom nothing arrives.
pub fn best(arrives: &[f64]) -> Result<Split> {
    let clients = arrives.len();
    if clients > CLIENTS {
        let rule = format!(
            "the best split among {clients} clients takes too long to find; it is for at most {CLIENTS}, take \"given\""
        );
        return Err(Error::config("split", rule));
    }
    if let Some(k) = arrives.iter().position(|p| *p <= 0.0) {
        let rule = format!(
            "no upload of client {} is expected to arrive, and without one no sum is unbiased",
            k + 1
        );
        return Err(Error::config("assumed.client_server", rule));
    }
    let odds: Vec<f64> =
        arrives.iter().map(|p| (1.0 - p.min(1.0 - LEAST_LOSS)) / p.min(1.0 - LEAST_LOSS)).collect();
    let reciprocal = DVector::from_iterator(clients, odds.iter().map(|c| c.recip()));
    let inverse =
        DMatrix::from_diagonal(&reciprocal) - &reciprocal * reciprocal.transpose() / (1.0 + reciprocal.sum());
    let mut lambda = DVector::from_element(clients, 1.0);
    let mut covariance = DMatrix::zeros(clients, clients);
    for _ in 0..STEPS {
        let root = lambda.map(f64::sqrt);
        let scaled = DMatrix::from_fn(clients, clients, |k, j| inverse[(k, j)] / (root[k] * root[j]));
        let SymmetricEigen { eigenvalues, eigenvectors } = SymmetricEigen::new(scaled);
        let roots = eigenvalues.map(|value| value.max(0.0).sqrt());
        let mean = &eigenvectors * DMatrix::from_diagonal(&roots) * eigenvectors.transpose();
        covariance = DMatrix::from_fn(clients, clients, |k, j| root[k] * mean[(k, j)] * root[j]);
        let seen =
            |k: usize| (0..clients).map(|i| eigenvectors[(k, i)].powi(2) / roots[i]).sum::<f64>() / lambda[k];
        let seen = DVector::from_fn(clients, |k, _| seen(k));
        if seen.iter().all(|seen| (seen - 1.0).abs() <= NEAR) {
            break;
        }
        lambda.component_mul_assign(&seen);
    }
    Ok(of_pairs(&covariance))
}

/// The split that has this covariance but for rounding, in which no \[R⁻¹\]_kk is above 1.
fn of_pairs(covariance: &DMatrix<f64>) -> Split {
    let clients = covariance.nrows();
    let pair = |k: usize, j: usize| if k == j { 0.0 } else { (-covariance[(k, j)]).max(0.0) };
    let residual = |k: usize| covariance.row(k).sum().max(0.0);
    let own = |k: usize| residual(k) + (0..clients).map(|j| pair(k, j)).sum::<f64>();
    let made = DMatrix::from_fn(clients, clients, |k, j| if k == j { own(k) } else { -pair(k, j) });
    let most = made.cholesky().map_or(f64::INFINITY, |made| made.inverse().diagonal().max());
    let std = |variance: f64| (variance * most).sqrt();
    Split {
        pairs: Pairs((0..clients).map(|k| (0..clients).map(|j| std(pair(k, j))).collect()).collect()),
        residual: (0..clients).map(|k| std(residual(k))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covariance(split: &Split) -> DMatrix<f64> {
        let Split { pairs: Pairs(pairs), residual } = split;
        let own = |k: usize| residual[k].powi(2) + pairs[k].iter().map(|pair| pair * pair).sum::<f64>();
        DMatrix::from_fn(
            residual.len(),
            residual.len(),
            |k, j| {
                if k == j { own(k) } else { -pairs[k][j].powi(2) }
            },
        )
    }

    /// tr(RQ).
    fn noise(covariance: &DMatrix<f64>, arrives: &[f64]) -> f64 {
        let q = |k: usize, j: usize| 1.0 + if k == j { (1.0 - arrives[k]) / arrives[k] } else { 0.0 };
        (covariance * DMatrix::from_fn(arrives.len(), arrives.len(), q)).trace()
    }

    /// \[R⁻¹\]_kk.
    fn seen(covariance: &DMatrix<f64>) -> Vec<f64> {
        covariance.clone().cholesky().unwrap().inverse().diagonal().iter().copied().collect()
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-6, "{got} for {want}");
    }

    #[test]
    fn four_clients_as_in_the_closed_form_and_apart() {
        let alike = best(&[0.8; 4]).unwrap();
        near(alike.residual[0].powi(2), 0.431_902);
        near(alike.pairs.0[0][1].powi(2), 0.337_219);
        let r = covariance(&alike);
        near(noise(&r, &[0.8; 4]), 3.171_165);
        // The more is lost, the less is seen.
        for (n, want) in [(4, 1.0), (3, 0.807_764), (2, 0.732_717), (1, 0.692_733)] {
            near(seen(&r.view((0, 0), (n, n)).clone_owned())[0], want);
        }
        let arrives = [0.9, 0.8, 0.5, 0.2];
        let uneven = best(&arrives).unwrap();
        for (own, want) in uneven.residual.iter().zip([0.450_72, 0.472_45, 0.600_01, 0.774_58]) {
            assert!((own * own - want).abs() < 1e-5, "{own}");
        }
        let r = covariance(&uneven);
        near(r[(0, 1)], -0.600_03 + 2e-6);
        near(noise(&r, &arrives), 8.117_961);
        near(noise(&DMatrix::identity(4, 4), &arrives), 9.361_111);
    }

    #[test]
    fn equal_links_have_the_closed_form() {
        for clients in [2usize, 3, 10, 60] {
            for p in [0.05, 0.5, 0.99] {
                let split = best(&vec![p; clients]).unwrap();
                let (m, c) = (clients as f64, (1.0 - p) / p);
                let t = (m + c).sqrt() + (m - 1.0) * c.sqrt();
                near(split.residual[0].powi(2), t / (m * (m + c).sqrt()));
                near(split.residual[0].powi(2) + m * split.pairs.0[0][1].powi(2), t / (m * c.sqrt()));
                let total = noise(&covariance(&split), &vec![p; clients]);
                assert!((total / (t * t / m) - 1.0).abs() < 1e-9, "{total}");
            }
        }
    }

    #[test]
    fn links_that_lose_nothing_leave_next_to_nothing() {
        let split = best(&[1.0; 5]).unwrap();
        // The noise of one client is left of the noise of five.
        let total = noise(&covariance(&split), &[1.0; 5]);
        assert!((1.0..1.05).contains(&total), "{total}");
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let line = best(&[0.5, 0.0]).unwrap_err().to_string();
        assert!(line.contains("assumed.client_server") && line.contains("client 2"), "{line}");
        let line = best(&[0.5; 301]).unwrap_err().to_string();
        assert!(line.contains("split") && line.contains("300"), "{line}");
    }

    proptest! {
        #[test]
        fn no_other_noise_of_pairs_that_is_as_private_leaves_less(
            arrives in prop::collection::vec(0.02f64..1.0, 2..7),
            others in prop::collection::vec(0.0f64..3.0, 28),
            near in 0.0f64..1.0,
        ) {
            let split = best(&arrives).unwrap();
            let r = covariance(&split);
            let private = seen(&r);
            prop_assert!(private.iter().all(|seen| *seen <= 1.0 + 1e-12 && *seen > 1.0 - 1e-9), "{private:?}");
            // Any other split, or one that is near, made as private.
            let clients = arrives.len();
            let mut others = others.into_iter();
            let mut other = DMatrix::zeros(clients, clients);
            for k in 0..clients {
                other[(k, k)] += 0.01 + others.next().unwrap();
                for j in 0..k {
                    let pair = others.next().unwrap();
                    other[(k, k)] += pair;
                    other[(j, j)] += pair;
                    other[(k, j)] -= pair;
                    other[(j, k)] -= pair;
                }
            }
            let mixed = &r * near + other * (1.0 - near);
            let most = seen(&mixed).into_iter().fold(0.0, f64::max);
            let losses = arrives.iter().map(|p| p.min(1.0 - LEAST_LOSS)).collect::<Vec<_>>();
            prop_assert!(noise(&(mixed * most), &losses) >= noise(&r, &losses) * (1.0 - 1e-9));
        }
    }
}
