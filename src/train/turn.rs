//! A client's turn in a round, and what comes of it.

use crate::config::Config;
use crate::learn::{LocalUpdate, Solver};
use crate::record::Metrics;
use crate::seed::Seed;

/// What a client trains by in a round, beside the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// The round, from 1.
    pub round: u64,
    /// The client, from 0.
    pub client: usize,
    /// Of this round and client and the configured seed, and of nothing else.
    pub seed: Seed,
    /// The factor of `[schedule]` on the learning rate.
    pub factor: f64,
    /// The learning rate of `[solver]` times this.
    pub rate: f64,
}

impl Turn {
    pub(crate) fn of(config: &Config, solver: &dyn Solver, round: u64, client: usize) -> Self {
        Self {
            round,
            client,
            seed: Seed::new(config.seed).child("batches", round).child("client", client as u64),
            factor: config.schedule.factor(round, config.rounds),
            rate: rate(config, solver, round),
        }
    }
}

/// The clients' learning rate in `round`.
pub(super) fn rate(config: &Config, solver: &dyn Solver, round: u64) -> f64 {
    solver.shared().learning_rate * config.schedule.factor(round, config.rounds)
}

/// What a client sends, and how its training went.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// The update as the solver encodes it, which is not compressed yet.
    pub sent: Vec<f32>,
    /// How the training went; its difference is moved into what is sent.
    pub how: LocalUpdate,
    /// Whatever else a learner of one's own measured, by its name: a column `train_NAME` of `rounds.csv`.
    pub metrics: Metrics,
}

impl Trained {
    /// Of another program, which tells a loss or none.
    #[must_use]
    pub fn elsewhere(sent: Vec<f32>, loss: Option<f64>, metrics: Metrics) -> Self {
        // Who tells no loss has none to count.
        let examples = usize::from(loss.is_some());
        let loss = loss.unwrap_or(f64::NAN);
        let how = LocalUpdate { delta: Vec::new(), loss, examples, steps: 0 };
        Self { sent, how, metrics }
    }
}

/// How a global model does. Nothing where it is not tested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tested {
    /// Mean loss on the test examples.
    pub loss: Option<f64>,
    /// Share of the test examples that are told rightly; nothing for quantities.
    pub accuracy: Option<f64>,
    /// Whatever else the objective or a learner of one's own measured, by its name: a column `test_NAME` of
    /// `rounds.csv`.
    pub metrics: Metrics,
    /// The accuracy on what every client keeps out of its training; nothing when no client is tested.
    pub accuracies: Vec<f64>,
}

/// What a client sends for its local model `trained`: the difference from the global one, clipped as the
/// solver says, in the memory of `trained`. Both are d parameters.
pub(crate) fn update(solver: &dyn Solver, mut trained: Vec<f32>, global: &[f32]) -> Vec<f32> {
    trained.iter_mut().zip(global).for_each(|(x, global)| *x -= global);
    solver.shared().clip(&mut trained);
    trained
}
