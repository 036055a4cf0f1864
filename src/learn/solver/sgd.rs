//! Stochastic gradient descent in PyTorch's convention: v ← μv + g, w ← w − ηv, with v = g at the first step
//! of every round; with Nesterov's momentum w ← w − η(g + μv) (Sutskever, Martens, Dahl, Hinton, *On the
//! importance of initialization and momentum in deep learning*, ICML 2013, section 2.1).

use burn::tensor::Tensor;

use super::{LocalSolver, Solver, check_momentum, section};
use crate::{
    error::{Error, Result},
    learn::kernels::descend,
};

section! {
    /// Stochastic gradient descent.
    SgdConfig at 0.05 {
        /// Momentum μ, from 0 to below 1. The velocity starts afresh in every round.
        #[schemars(range(min = 0.0, max = 1.0))]
        momentum: f64 = 0.0,
        /// Whether the gradient is taken ahead of the momentum (Nesterov); needs momentum above 0.
        nesterov: bool = false,
    }
}

impl Solver for SgdConfig {
    fn check(&self) -> Result<()> {
        if self.nesterov && self.momentum == 0.0 {
            let rule = "needs momentum above 0; set momentum = 0.9 or nesterov = false";
            return Err(Error::config("nesterov", rule));
        }
        check_momentum(self.momentum)
    }

    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver> {
        Box::new(Sgd { nesterov: self.nesterov, ..Sgd::new(rate, self.momentum) })
    }
}

/// The velocity of every parameter.
pub(super) struct Sgd {
    rate: f64,
    momentum: f64,
    nesterov: bool,
    velocity: Vec<Option<Tensor<1>>>,
}

impl Sgd {
    pub(super) fn new(rate: f64, momentum: f64) -> Self {
        Self { rate, momentum, nesterov: false, velocity: Vec::new() }
    }
}

impl LocalSolver for Sgd {
    fn step(&mut self, parameter: usize, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        if self.momentum == 0.0 {
            return descend(weight, self.rate, gradient);
        }
        if self.velocity.len() <= parameter {
            self.velocity.resize(parameter + 1, None);
        }
        let velocity = match self.velocity[parameter].take() {
            Some(velocity) => velocity.mul_scalar(self.momentum) + gradient.clone(),
            None => gradient.clone(),
        };
        self.velocity[parameter] = Some(velocity.clone());
        let direction = if self.nesterov { gradient + velocity.mul_scalar(self.momentum) } else { velocity };
        descend(weight, self.rate, direction)
    }
}
