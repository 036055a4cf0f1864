//! FedNova: Wang, Liu, Liang, Joshi, Poor, *Tackling the Objective Inconsistency Problem in Heterogeneous
//! Federated Optimization*, NeurIPS 2020, eq. 4–6 with τ_eff = Σ_k p_k ‖a_k‖₁: clients that take more steps
//! than others no longer count for more.
//!
//! | paper | here |
//! |---|---|
//! | ‖a_k‖₁: τ_k steps of SGD with momentum ρ, section 4 | [`Solver::count`] |
//! | τ_eff | [`Work::mean_count`], over all clients |
//! | −τ_eff · η d_k = τ_eff Δ_k / ‖a_k‖₁ | what client k sends |
//! | x ← x − τ_eff Σ_k p_k η d_k, eq. 6 | the mean of what was sent |
//!
//! ‖a_k‖₁ follows from the configuration and the number of examples. τ_eff therefore is known before the
//! first round, like the weights, and an exact sum gives the exact step; the paper's τ_eff over the clients
//! of a round is the same whenever the sum holds all.

use super::sgd::Sgd;
use super::{LocalSolver, Section, Solver, Work, check_momentum, section};
use crate::error::Result;

section! {
    /// FedNova.
    FedNovaConfig at 0.05 {
        /// Momentum ρ, from 0 to below 1. The velocity starts afresh in every round.
        #[schemars(range(min = 0.0, max = 1.0))]
        momentum: f64 = 0.0,
    }
}

impl Solver for FedNovaConfig {
    fn check(&self) -> Result<()> {
        check_momentum(self.momentum)
    }

    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver> {
        Box::new(Sgd::new(rate, self.momentum))
    }

    fn accumulates(&self) -> bool {
        false
    }

    /// Σ_{j=1..τ} (1 − ρ^j)/(1 − ρ): the first of τ gradients enters Δ/η with 1 + ρ + … + ρ^{τ−1}, the last
    /// with 1.
    fn count(&self, steps: usize) -> f64 {
        let (rho, tau) = (self.momentum, steps as f64);
        (tau - rho * (1.0 - rho.powf(tau)) / (1.0 - rho)) / (1.0 - rho)
    }

    fn encode(&self, mut delta: Vec<f32>, work: Work, _server: &[f32]) -> Vec<f32> {
        if work.steps > 0 {
            let scale = work.mean_count / self.count(work.steps);
            delta.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
        }
        self.shared().clip(&mut delta);
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_counts_early_gradients_more() {
        // ρ = 1/2, three steps: the gradients enter with 1 + 1/2 + 1/4, 1 + 1/2 and 1.
        let config = FedNovaConfig { momentum: 0.5, ..Default::default() };
        assert!((config.count(3) - 4.25).abs() < 1e-15);
        assert_eq!(FedNovaConfig::default().count(7), 7.0);
        assert_eq!(config.count(0), 0.0);
    }
}
