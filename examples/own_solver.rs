//! A local solver of one's own: steps along the signs of the gradient.

use burn::tensor::Tensor;
use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::learn::solver::{Section, Shared};
use seccogc::learn::{LocalSolver, Solver};
use seccogc::train::Experiment;

/// SignSGD (Bernstein et al. 2018) in every client.
struct SignSgd {
    shared: Shared,
}

struct Step {
    rate: f64,
}

impl LocalSolver for Step {
    fn step(&mut self, _parameter: usize, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        weight - gradient.sign().mul_scalar(self.rate)
    }
}

impl Section for SignSgd {
    fn shared(&self) -> Shared {
        self.shared
    }
}

impl Solver for SignSgd {
    fn check(&self) -> Result<()> {
        match self.shared.weight_decay {
            0.0 => Ok(()),
            _ => Err(Error::config("weight_decay", "the sign of a sum is no sum of signs; give 0")),
        }
    }

    fn stepper(&self, rate: f64) -> Box<dyn LocalSolver> {
        Box::new(Step { rate })
    }
}

pub fn main() -> Result<()> {
    let config = Config { rounds: 3, ..Config::default() };
    let shared = Shared { learning_rate: 1e-3, ..config.solver.solver().shared() };
    let setting = Experiment::new(config).solver(SignSgd { shared }).build()?;
    let rows = setting.run(&setting.config().protocol)?.rounds().collect::<Result<Vec<_>>>()?;
    println!("accuracy after three rounds: {:?}", rows[2].test_accuracy);
    assert!(rows[2].test_accuracy > Some(0.5));
    Ok(())
}
