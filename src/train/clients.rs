//! What every client holds, and how a figure differs between clients.

use super::holdings::Holdings;
use super::turn::{Trained, Turn, rate};
use crate::config::Config;
use crate::data::{Dataset, Examples};
use crate::error::{Error, Result};
use crate::learn::{Job, Learner, LocalUpdate, Solver, Task, Work};
use crate::record::Metrics;

/// Which training examples each client of a configuration has.
pub(crate) fn divide(config: &Config, dataset: &Dataset) -> Result<Holdings> {
    Holdings::of(config, config.partition.partition(), dataset)
}

/// The examples on which each client trains, by their places in the training set.
///
/// # Errors
/// A partition that does not fit the examples; examples that belong to users, each in a place of its own.
pub fn shards(config: &Config, dataset: &Dataset) -> Result<Vec<Vec<usize>>> {
    match divide(config, dataset)? {
        Holdings::Shards { shards, .. } => Ok(shards),
        Holdings::Users(_) => {
            let rule = "users hold the examples, which have no places in a training set";
            Err(Error::config("partition.kind", rule))
        }
    }
}

/// Σ_k w_k a_k / Σ_k w_k for clients with so many examples and these weights; see [`Work::mean_count`].
pub(crate) fn mean_count(solver: &dyn Solver, examples: impl Iterator<Item = usize>, weights: &[f64]) -> f64 {
    let counts = examples.map(|examples| solver.count(solver.steps(examples)));
    weights.iter().zip(counts).map(|(w, count)| w * count).sum::<f64>() / weights.iter().sum::<f64>()
}

/// What one client does in a round, from the global model to the vector that it sends.
pub(crate) struct LocalRound<'a> {
    pub config: &'a Config,
    pub solver: &'a dyn Solver,
    pub learner: &'a dyn Learner,
    pub examples: &'a Examples,
    /// The client's own ones among the examples.
    pub shard: &'a [usize],
    pub client: usize,
    pub round: u64,
    /// The global model, d parameters, as the client has it.
    pub global: &'a [f32],
    /// The local model of the last round − the global model, where the client goes on from it.
    pub carried: Option<&'a [f32]>,
    /// The server's control vector.
    pub control: &'a [f32],
    /// The client's control vector, empty while it is zero; `None` for solvers without.
    pub own_control: Option<&'a [f32]>,
    /// See [`Work::mean_count`].
    pub mean_count: f64,
    /// How many clients do the same work.
    pub copies: usize,
}

impl LocalRound<'_> {
    /// Trains. Returns what is sent, and how the training went.
    pub fn train(&self) -> Trained {
        Self::train_together(std::slice::from_ref(self)).remove(0)
    }

    /// Trains several clients of the same round, in their order.
    pub fn train_together(rounds: &[Self]) -> Vec<Trained> {
        let Some(Self { config, solver, learner, examples, round, .. }) = rounds.first() else {
            return Vec::new();
        };
        let start = |round: &Self| -> Option<Vec<f32>> {
            round.carried.map(|carried| round.global.iter().zip(carried).map(|(p, c)| p + c).collect())
        };
        let correction = |round: &Self| match round.own_control {
            None => Vec::new(),
            // Not yet moved.
            Some([]) => solver.correction(round.control, &vec![0.0; round.control.len()]),
            Some(own) => solver.correction(round.control, own),
        };
        let starts: Vec<_> = rounds.iter().map(start).collect();
        let corrections: Vec<_> = rounds.iter().map(correction).collect();
        let jobs = rounds.iter().zip(&starts).zip(&corrections).map(|((own, start), correction)| {
            let global = own.global;
            let start = start.as_deref().unwrap_or(global);
            let Turn { seed, factor, .. } = Turn::of(config, *solver, *round, own.client);
            Job { task: Task { start, global, correction, rate: factor }, shard: own.shard, seed }
        });
        let jobs: Vec<Job<'_>> = jobs.collect();
        for done in 1..rounds.iter().map(|round| round.copies).max().unwrap_or(1) {
            let again = jobs.iter().zip(rounds).filter(|(_, round)| round.copies > done);
            drop(learner.solve_together(&again.map(|(job, _)| *job).collect::<Vec<_>>(), examples));
        }
        let finish = |(own, mut trained): (&Self, LocalUpdate)| {
            let mut delta = std::mem::take(&mut trained.delta);
            delta.iter_mut().zip(own.carried.into_iter().flatten()).for_each(|(delta, c)| *delta += c);
            let rate = rate(config, *solver, *round);
            let work = Work { steps: trained.steps, rate, mean_count: own.mean_count };
            let sent = solver.encode(delta, work, own.control);
            Trained { sent, how: trained, metrics: Metrics::new() }
        };
        rounds.iter().zip(learner.solve_together(&jobs, examples)).map(finish).collect()
    }
}

/// How a figure differs between clients.
pub(super) struct Spread {
    pub worst: f64,
    pub best: f64,
    /// Population standard deviation.
    pub std: f64,
}

impl Spread {
    /// Nothing without clients.
    pub fn of(accuracies: &[f64]) -> Option<Self> {
        let worst = accuracies.iter().copied().reduce(f64::min)?;
        let best = accuracies.iter().copied().reduce(f64::max)?;
        let count = accuracies.len() as f64;
        let mean = accuracies.iter().sum::<f64>() / count;
        let variance = accuracies.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        Some(Self { worst, best, std: variance.sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EvaluationConfig;
    use crate::data::{DataConfig, partition::PartitionConfig};

    #[test]
    fn every_client_keeps_a_share_of_its_own_examples_out_of_training() {
        let dataset = DataConfig::default().load().unwrap();
        let partition: PartitionConfig = toml::from_str("kind = 'quantity'").unwrap();
        let whole = Config { partition, ..Config::default() };
        let evaluation = EvaluationConfig { client_share: 0.25, ..EvaluationConfig::default() };
        let tested = Config { evaluation, ..whole.clone() };
        let parts = |config: &Config| match divide(config, &dataset).unwrap() {
            Holdings::Shards { shards, held_out } => (shards, held_out),
            Holdings::Users(_) => panic!("nobody owns these examples"),
        };
        let ((all, nothing), (some, held_out)) = (parts(&whole), parts(&tested));
        assert!(nothing.is_empty());
        let trained: usize = some.iter().map(Vec::len).sum();
        let weights = divide(&tested, &dataset).unwrap().weights();
        for (k, shard) in all.iter().enumerate() {
            let mut own = [&some[k][..], &held_out[k]].concat();
            own.sort_unstable();
            assert_eq!(&own, shard);
            assert_eq!(held_out[k].len(), (0.25 * shard.len() as f64).round() as usize);
            assert_eq!(weights[k], some[k].len() as f64 * 10.0 / trained as f64);
        }
        assert_eq!(parts(&tested).1, held_out);
        let other = Config { seed: 2, ..tested.clone() };
        assert_ne!(parts(&other).1, held_out);
        let alone = Config { clients: 10_000, partition: PartitionConfig::default(), ..tested };
        assert_eq!(
            divide(&alone, &dataset).err().unwrap().to_string(),
            "evaluation.client_share: client 1 has one example and cannot be tested too; use fewer clients or 0"
        );
    }

    #[test]
    fn the_spread_over_clients_by_hand() {
        let spread = Spread::of(&[0.5, 1.0, 0.75, 0.75]).unwrap();
        assert_eq!((spread.worst, spread.best), (0.5, 1.0));
        // Deviations 0.25, 0.25, 0, 0: variance 0.03125.
        assert!((spread.std - 0.03125f64.sqrt()).abs() < 1e-15);
        assert!(Spread::of(&[]).is_none());
    }
}
