//! FedProx: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, *Federated Optimization in Heterogeneous Networks*,
//! MLSys 2020, algorithm 2: client k minimises F_k(w) + μ/2 ‖w − x‖² (eq. 2), here by SGD.

use super::sgd::Sgd;
use super::{LocalSolver, Solver, at_least_zero, check_momentum, section};
use crate::error::Result;

section! {
    /// FedProx.
    FedProxConfig at 0.05 {
        /// Strength μ of the proximal term, at least 0; 0 is `sgd`.
        #[schemars(range(min = 0.0))]
        proximal: f64 = 0.1,
        /// Momentum, from 0 to below 1. The velocity starts afresh in every round.
        #[schemars(range(min = 0.0, max = 1.0))]
        momentum: f64 = 0.0,
    }
}

impl Solver for FedProxConfig {
    fn check(&self) -> Result<()> {
        at_least_zero("proximal", self.proximal)?;
        check_momentum(self.momentum)
    }

    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver> {
        Box::new(Sgd::new(rate, self.momentum))
    }

    fn proximal(&self) -> f64 {
        self.proximal
    }
}
