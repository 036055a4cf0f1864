//! A server rule of one's own: momentum that looks ahead.

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::server_rule::ServerRule;
use seccogc::train::Experiment;

/// v ← βv + Δ, x ← x + βv + Δ (Nesterov 1983).
struct Nesterov {
    momentum: f64,
}

impl ServerRule for Nesterov {
    fn check(&self) -> Result<()> {
        match self.momentum {
            x if (0.0..1.0).contains(&x) => Ok(()),
            x => Err(Error::config("momentum", format!("must be at least 0 and below 1, not {x}"))),
        }
    }

    fn start(&self, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d]]
    }

    fn step(&self, parameters: &mut [f32], kept: &mut [Vec<f32>], direction: &[f64]) {
        for ((x, v), delta) in parameters.iter_mut().zip(&mut kept[0]).zip(direction) {
            let velocity = self.momentum * f64::from(*v) + delta;
            *v = velocity as f32;
            *x = (f64::from(*x) + self.momentum * velocity + delta) as f32;
        }
    }
}

pub fn main() -> Result<()> {
    let config = Config { rounds: 4, ..Config::default() };
    let setting = Experiment::new(config).server(Nesterov { momentum: 0.5 }).build()?;
    let rows = setting.run(&setting.config().protocol)?.rounds().collect::<Result<Vec<_>>>()?;
    println!("accuracy after four rounds: {:?}", rows[3].test_accuracy);
    assert!(rows[3].test_accuracy > Some(0.8));
    Ok(())
}
