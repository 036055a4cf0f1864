//! What every client holds, and how a figure differs between clients.

use super::turn::{Trained, Turn, rate};
use crate::config::Config;
use crate::data::partition::{self, Partition};
use crate::data::{Dataset, Examples};
use crate::error::{Error, Result};
use crate::learn::{Job, Learner, LocalUpdate, Solver, Task, Work};
use crate::record::Metrics;
use crate::seed::Seed;

/// What every client holds: indices into the training set.
pub(crate) struct Division {
    /// The examples on which each client trains.
    pub shards: Vec<Vec<usize>>,
    /// The examples on which each client is tested; empty when none is.
    pub held_out: Vec<Vec<usize>>,
    /// n_k · M / N for each client, n_k being its training examples.
    pub weights: Vec<f64>,
}

/// Divides the training set over the clients, and each client's share into training and test.
pub(crate) fn divide(config: &Config, dataset: &Dataset) -> Result<Division> {
    divided(config, config.partition.partition(), dataset)
}

/// The examples on which each client trains, by their places in the training set.
///
/// # Errors
/// A partition that does not fit the examples.
pub fn shards(config: &Config, dataset: &Dataset) -> Result<Vec<Vec<usize>>> {
    Ok(divide(config, dataset)?.shards)
}

/// The same by a partition of one's own.
pub(super) fn divided(config: &Config, partition: &dyn Partition, dataset: &Dataset) -> Result<Division> {
    let seed = Seed::new(config.seed);
    let shards = partition::split_by(
        partition,
        dataset.train.labels(),
        dataset.classes,
        config.clients,
        seed.child("partition", 0),
        &format!(" with seed {}", config.seed),
    )
    .map_err(|error| error.within("partition"))?;
    hold_out(config, shards)
}

/// Takes each client's test examples out of its share.
pub(super) fn hold_out(config: &Config, mut shards: Vec<Vec<usize>>) -> Result<Division> {
    let seed = Seed::new(config.seed);
    let mut held_out = Vec::new();
    let share = config.evaluation.client_share;
    if share > 0.0 {
        for (k, shard) in shards.iter_mut().enumerate() {
            if shard.len() < 2 {
                let rule = format!(
                    "client {} has one example and cannot be tested too; use fewer clients or 0",
                    k + 1
                );
                return Err(Error::config("evaluation.client_share", rule));
            }
            let (kept, held) = partition::hold_out(shard, share, seed.child("client test", k as u64));
            *shard = kept;
            held_out.push(held);
        }
    }
    let weights = weights_of(shards.iter().map(Vec::len));
    Ok(Division { shards, held_out, weights })
}

/// n_k · M / N for each client.
pub(super) fn weights_of(counts: impl ExactSizeIterator<Item = usize> + Clone) -> Vec<f64> {
    let (clients, examples) = (counts.len() as f64, counts.clone().sum::<usize>() as f64);
    counts.map(|count| count as f64 * clients / examples).collect()
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
    /// The client's control vector.
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
        let correction = |round: &Self| {
            round.own_control.map_or_else(Vec::new, |own| solver.correction(round.control, own))
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
        let (all, some) = (divide(&whole, &dataset).unwrap(), divide(&tested, &dataset).unwrap());
        assert!(all.held_out.is_empty());
        let trained: usize = some.shards.iter().map(Vec::len).sum();
        for (k, shard) in all.shards.iter().enumerate() {
            let mut parts = [&some.shards[k][..], &some.held_out[k]].concat();
            parts.sort_unstable();
            assert_eq!(&parts, shard);
            assert_eq!(some.held_out[k].len(), (0.25 * shard.len() as f64).round() as usize);
            assert_eq!(some.weights[k], some.shards[k].len() as f64 * 10.0 / trained as f64);
        }
        assert_eq!(divide(&tested, &dataset).unwrap().held_out, some.held_out);
        let other = Config { seed: 2, ..tested.clone() };
        assert_ne!(divide(&other, &dataset).unwrap().held_out, some.held_out);
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
