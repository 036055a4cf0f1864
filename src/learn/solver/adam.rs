//! Adam: Kingma, Ba, *Adam: A Method for Stochastic Optimization*, ICLR 2015, algorithm 1; with
//! `decoupled_weight_decay` AdamW: Loshchilov, Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
//! algorithm 2.

use burn::tensor::Tensor;

use super::{LocalSolver, Solver, at_least_zero, section};
use crate::error::{Error, Result};

section! {
    /// Adam and AdamW.
    AdamConfig at 0.001 {
        /// Decay β₁ of the mean of the gradients, from 0 to below 1. Both means start afresh in every round.
        #[schemars(range(min = 0.0, max = 1.0))]
        beta1: f64 = 0.9,
        /// Decay β₂ of the mean of their squares, from 0 to below 1.
        #[schemars(range(min = 0.0, max = 1.0))]
        beta2: f64 = 0.999,
        /// ε, added to the root of the latter; above 0.
        #[schemars(range(min = 0.0))]
        epsilon: f64 = 1e-8,
        /// AdamW: weight decay shrinks the weights by ηλ in every step instead of adding λw to the gradient.
        decoupled_weight_decay: bool = false,
    }
}

impl Solver for AdamConfig {
    fn check(&self) -> Result<()> {
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::config(key, format!("must be at least 0 and below 1, not {beta}")));
            }
        }
        if self.epsilon == 0.0 {
            return Err(Error::config("epsilon", "must be above 0; try 1e-8"));
        }
        at_least_zero("epsilon", self.epsilon)
    }

    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver> {
        let decay = if self.decoupled_weight_decay { rate * self.weight_decay } else { 0.0 };
        Box::new(Adam { config: self.clone(), rate, decay, moments: Vec::new() })
    }

    fn l2(&self) -> f64 {
        if self.decoupled_weight_decay { 0.0 } else { self.weight_decay }
    }
}

struct Adam {
    config: AdamConfig,
    rate: f64,
    /// ηλ of AdamW.
    decay: f64,
    /// Steps taken and the two means, for every parameter.
    moments: Vec<Option<(i32, Tensor<1>, Tensor<1>)>>,
}

impl LocalSolver for Adam {
    fn step(&mut self, parameter: usize, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let AdamConfig { beta1, beta2, epsilon, .. } = self.config;
        if self.moments.len() <= parameter {
            self.moments.resize(parameter + 1, None);
        }
        let square = gradient.clone() * gradient.clone();
        let (gradient, square) = (gradient.mul_scalar(1.0 - beta1), square.mul_scalar(1.0 - beta2));
        let (steps, mean, uncentred) = match self.moments[parameter].take() {
            None => (1, gradient, square),
            Some((steps, mean, uncentred)) => {
                (steps + 1, mean.mul_scalar(beta1) + gradient, uncentred.mul_scalar(beta2) + square)
            }
        };
        self.moments[parameter] = Some((steps, mean.clone(), uncentred.clone()));
        let mean = mean.div_scalar(1.0 - beta1.powi(steps));
        let root = uncentred.div_scalar(1.0 - beta2.powi(steps)).sqrt().add_scalar(epsilon);
        let weight = if self.decay > 0.0 { weight.mul_scalar(1.0 - self.decay) } else { weight };
        weight - (mean / root).mul_scalar(self.rate)
    }
}
