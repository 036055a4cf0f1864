//! FedDyn: Acar, Zhao, Matas, Mattina, Whatmough, Saligrama, *Federated Learning Based on Dynamic
//! Regularization*, ICLR 2021, algorithm 1, the local minimisation being SGD.
//!
//! | paper | here |
//! |---|---|
//! | L_k(θ) − ⟨∇L_k(θ_k^{t−1}), θ⟩ + α/2 ‖θ − θ^{t−1}‖² | [`Solver::correction`] −h_k, [`Solver::proximal`] α |
//! | ∇L_k(θ_k^t) = ∇L_k(θ_k^{t−1}) − α(θ_k^t − θ^{t−1}) | h_k ← h_k − αΔ_k |
//! | h^t = h^{t−1} − α/m Σ_{k∈P_t} (θ_k^t − θ^{t−1}) | h, over the weights of the clients |
//! | θ^t = mean of θ_k^t − h^t/α | [`Solver::direction`] is mean Δ − h/α |
//!
//! Means are weighted, one α for all: where nothing moves any more, h = 0 and h_k is client k's gradient, so
//! that the weighted gradient vanishes. Only Δ_k travels.

use super::sgd::Sgd;
use super::{LocalSolver, Solver, section};
use crate::error::{Error, Result};

section! {
    /// FedDyn.
    FedDynConfig at 0.05 {
        /// Strength α of the dynamic regulariser, above 0.
        #[schemars(range(min = 0.0))]
        alpha: f64 = 0.1,
    }
}

impl Solver for FedDynConfig {
    fn check(&self) -> Result<()> {
        if self.alpha > 0.0 && self.alpha.is_finite() {
            Ok(())
        } else {
            Err(Error::config("alpha", format!("must be a finite number above 0, not {}", self.alpha)))
        }
    }

    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver> {
        Box::new(Sgd::new(rate, 0.0))
    }

    fn proximal(&self) -> f64 {
        self.alpha
    }

    fn has_controls(&self) -> bool {
        true
    }

    fn correction(&self, _server: &[f32], own: &[f32]) -> Vec<f32> {
        own.iter().map(|h| -h).collect()
    }

    fn advance(&self, own: &mut [f32], sent: &[f32], _rate: f64) {
        own.iter_mut().zip(sent).for_each(|(h, x)| *h = (f64::from(*h) - self.alpha * f64::from(*x)) as f32);
    }

    fn direction(&self, server: &mut [f32], mut mean: Vec<f64>, share: f64, _rate: f64) -> Vec<f64> {
        for (h, x) in server.iter_mut().zip(&mut mean) {
            let moved = f64::from(*h) - self.alpha * share * *x;
            *h = moved as f32;
            *x -= moved / self.alpha;
        }
        mean
    }
}
