//! A participation rule of one's own: what was last heard of a client fades while it is silent.

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::participation::Participation;
use seccogc::protocol::{ProtocolConfig, Update, uncoded::FedAvg};
use seccogc::train::Experiment;

/// Σ_k w_k y_k / W, y_k being the last update of k, times `decay` for every round since.
struct Fading {
    decay: f32,
}

impl Participation for Fading {
    fn check(&self) -> Result<()> {
        match self.decay {
            x if (0.0..=1.0).contains(&x) => Ok(()),
            x => Err(Error::config("decay", format!("must be at least 0 and at most 1, not {x}"))),
        }
    }

    fn start(&self, clients: usize, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d]; clients]
    }

    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u32]) -> Option<Vec<f64>> {
        let total: f64 = updates.iter().map(|update| update.weight).sum();
        let mut mean = vec![0.0; memory[0].len()];
        for ((k, last), update) in (0..).zip(memory).zip(updates) {
            if arrived.contains(&k) {
                last.copy_from_slice(&update.delta);
            } else {
                last.iter_mut().for_each(|y| *y *= self.decay);
            }
            let share = update.weight / total;
            mean.iter_mut().zip(&*last).for_each(|(mean, y)| *mean += share * f64::from(*y));
        }
        (!arrived.is_empty()).then_some(mean)
    }
}

pub fn main() -> Result<()> {
    let protocol = ProtocolConfig::FedAvg(FedAvg::default());
    let config = Config { rounds: 4, protocol, ..Config::default() };
    let setting = Experiment::new(config).participation(Fading { decay: 0.5 }).build()?;
    let rows = setting.run(&setting.config().protocol)?.rounds().collect::<Result<Vec<_>>>()?;
    println!("accuracy after four rounds: {:?}", rows[3].test_accuracy);
    assert!(rows[3].test_accuracy > Some(0.7));
    Ok(())
}
