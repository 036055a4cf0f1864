//! FedAvg over failing links that makes up for clients which do not arrive, from what it remembers of the
//! single clients.
//!
//! The clients are those of `fedavg`: x_k goes to the server in the clear. The server estimates the mean of
//! all clients' vectors from those of the set S that arrived; W and W_S are the weights of all clients and of
//! those in S.
//!
//! | kind | estimate of the mean | source |
//! |---|---|---|
//! | `mifa` | Σ_k w_k y_k / W, y_k being the last vector received from k | Gu, Huang, Zhang, Huang, *Fast Federated Learning in the Presence of Arbitrary Device Unavailability*, NeurIPS 2021, algorithm 1 |
//! | `fedvarp` | Σ_{k∈S} w_k (x_k − y_k) / W_S + Σ_k w_k y_k / W, y_k from before the round | Jhunjhunwala, Sharma, Nagarkatti, Joshi, *FedVARP*, UAI 2022, algorithm 1 |
//! | `fedau` | Σ_{k∈S} w_k ω_k x_k / W, ω_k being the mean interval between arrivals of k | Wang, Ji, *A Lightweight Method for Tackling Unknown Participation Statistics in Federated Averaging*, ICLR 2024, algorithms 1 and 2 |
//!
//! y_k is 0 until the client was first heard. A round in which nothing arrives is an outage and leaves the
//! model alone; for `fedau` it counts in the intervals. All three need to see whose vector is which: schemes
//! that show the server a sum only (`sec-cogc`) exclude them by design, and have no use for them, since their
//! sum holds every client.

use serde::{Deserialize, Serialize};

use super::exchange::{Aggregator, Scheme, Setup, Update};
use super::section::{Coding, Keys, Participation, SMALL, SchemeConfig};
use super::uncoded::{Mask, real, session};
use super::{Arithmetic, included};
use crate::algebra::grid::Public;
use crate::algebra::{CHUNK, Real};
use crate::error::{Error, Result};
use crate::parallel;
use crate::seed::Seed;

/// Memory of the last updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mifa {
    /// Precision of what is sent: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an
    /// outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
}

/// Variance reduction by the last updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedVarp {
    /// Precision of what is sent: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an
    /// outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
}

/// Weights by the intervals between arrivals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FedAu {
    /// Rounds K after which an interval counts as ended although nothing arrived, at least 1; it bounds the
    /// weights.
    #[schemars(range(min = 1))]
    pub cutoff: u32,
    /// Precision of what is sent: "f32" or "f64".
    pub arithmetic: Arithmetic,
    /// Fewest clients whose updates must arrive, 1 to `clients`, by default 1: the sum over fewer is an
    /// outage.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_included: Option<usize>,
}

impl Default for Mifa {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, least_included: None }
    }
}

impl Default for FedVarp {
    fn default() -> Self {
        Self { arithmetic: Arithmetic::F32, least_included: None }
    }
}

impl Default for FedAu {
    fn default() -> Self {
        Self { cutoff: 50, arithmetic: Arithmetic::F32, least_included: None }
    }
}

impl SchemeConfig for Mifa {
    fn build(&self, clients: usize, seed: Seed, _: &Public) -> Result<Box<dyn Aggregator>> {
        single_updates(self.arithmetic, self.least_included, clients, seed)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn participation(&self) -> Option<&dyn Participation> {
        Some(self)
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

impl SchemeConfig for FedVarp {
    fn build(&self, clients: usize, seed: Seed, _: &Public) -> Result<Box<dyn Aggregator>> {
        single_updates(self.arithmetic, self.least_included, clients, seed)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn participation(&self) -> Option<&dyn Participation> {
        Some(self)
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

impl SchemeConfig for FedAu {
    fn build(&self, clients: usize, seed: Seed, _: &Public) -> Result<Box<dyn Aggregator>> {
        if self.cutoff == 0 {
            return Err(Error::config("cutoff", "0 is too small; give at least 1"));
        }
        single_updates(self.arithmetic, self.least_included, clients, seed)
    }

    fn keys(&mut self) -> Option<Keys<'_>> {
        None
    }

    fn coding(&mut self) -> Option<Coding<'_>> {
        None
    }

    fn participation(&self) -> Option<&dyn Participation> {
        Some(self)
    }

    fn memory(&self) -> u64 {
        SMALL
    }
}

/// `fedavg` in floating point.
fn single_updates(
    arithmetic: Arithmetic,
    least: Option<usize>,
    clients: usize,
    seed: Seed,
) -> Result<Box<dyn Aggregator>> {
    let numbers = real(arithmetic, "single updates are read in the clear, not summed over a field")?;
    let scheme = Scheme { least_included: Some(included::visible(least, clients)?), ..Scheme::default() };
    Ok(session(Mask::None, numbers, Setup::new(clients, seed, scheme)))
}

impl Participation for Mifa {
    fn start(&self, clients: usize, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d]; clients]
    }

    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u16]) -> Option<Vec<f64>> {
        remember(memory, updates, arrived);
        let total = weight(updates, 0..updates.len());
        (!arrived.is_empty()).then(|| sum(&remembered(memory, updates, total)))
    }
}

impl Participation for FedVarp {
    fn start(&self, clients: usize, d: usize) -> Vec<Vec<f32>> {
        vec![vec![0.0; d]; clients]
    }

    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u16]) -> Option<Vec<f64>> {
        if arrived.is_empty() {
            return None;
        }
        let total = weight(updates, 0..updates.len());
        let here = weight(updates, arrived.iter().map(|&k| usize::from(k)));
        let mut terms = remembered(memory, updates, total);
        for k in arrived.iter().map(|&k| usize::from(k)) {
            terms[k].0 -= updates[k].weight / here;
            terms.push((updates[k].weight / here, updates[k].delta.as_slice()));
        }
        let estimate = sum(&terms);
        remember(memory, updates, arrived);
        Some(estimate)
    }
}

impl Participation for FedAu {
    /// ω_k, the intervals that it is the mean of, and the rounds of the current one.
    fn start(&self, clients: usize, _d: usize) -> Vec<Vec<f32>> {
        vec![vec![1.0, 0.0, 0.0]; clients]
    }

    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u16]) -> Option<Vec<f64>> {
        let total = weight(updates, 0..updates.len());
        let terms: Vec<(f64, &[f32])> = arrived
            .iter()
            .map(|&k| usize::from(k))
            .map(|k| (updates[k].weight / total * f64::from(memory[k][0]), updates[k].delta.as_slice()))
            .collect();
        let estimate = (!arrived.is_empty()).then(|| sum(&terms));
        // The weight of the round is that of the rounds before it, which keeps it independent of who arrives.
        for (k, memory) in memory.iter_mut().enumerate() {
            let &mut [mean, intervals, rounds] = memory.as_mut_slice() else { unreachable!("three numbers") };
            let length = rounds + 1.0;
            let ended = arrived.binary_search(&(k as u16)).is_ok() || length >= self.cutoff as f32;
            let next = if ended {
                [(mean * intervals + length) / (intervals + 1.0), intervals + 1.0, 0.0]
            } else {
                [mean, intervals, length]
            };
            memory.copy_from_slice(&next);
        }
        estimate
    }
}

fn weight(updates: &[Update], clients: impl Iterator<Item = usize>) -> f64 {
    clients.map(|k| updates[k].weight).sum()
}

fn remember(memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u16]) {
    for k in arrived.iter().map(|&k| usize::from(k)) {
        memory[k].copy_from_slice(&updates[k].delta);
    }
}

/// (w_k / W, y_k) for every client.
fn remembered<'a>(memory: &'a [Vec<f32>], updates: &[Update], total: f64) -> Vec<(f64, &'a [f32])> {
    memory.iter().zip(updates).map(|(y, update)| (update.weight / total, y.as_slice())).collect()
}

/// Σ factor · vector, in order.
fn sum(terms: &[(f64, &[f32])]) -> Vec<f64> {
    let mut sum = vec![0.0f64; terms.first().map_or(0, |(_, vector)| vector.len())];
    parallel::for_each(sum.chunks_mut(CHUNK).enumerate(), |(chunk, part)| {
        for (factor, vector) in terms {
            f64::axpy_f32(part, *factor, &vector[chunk * CHUNK..][..part.len()], None);
        }
    });
    sum
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Two clients of weights 1.5 and 0.5 that send these numbers.
    fn updates(a: f32, b: f32) -> [Update; 2] {
        [(1.5, a), (0.5, b)].map(|(weight, x)| Update { weight, delta: Arc::new(vec![x]) })
    }

    #[test]
    fn mifa_averages_the_last_vectors() {
        let rule = Mifa::default();
        let mut memory = rule.start(2, 1);
        assert_eq!(rule.estimate(&mut memory, &updates(4.0, 8.0), &[0]), Some(vec![3.0]));
        assert_eq!(rule.estimate(&mut memory, &updates(2.0, 8.0), &[]), None);
        assert_eq!(rule.estimate(&mut memory, &updates(2.0, 8.0), &[1]), Some(vec![5.0]));
        assert_eq!(rule.estimate(&mut memory, &updates(2.0, 6.0), &[0, 1]), Some(vec![3.0]));
    }

    #[test]
    fn fedvarp_corrects_the_arrivals_by_the_memory() {
        let rule = FedVarp::default();
        let mut memory = rule.start(2, 1);
        assert_eq!(rule.estimate(&mut memory, &updates(4.0, 8.0), &[0]), Some(vec![4.0]));
        // y = (4, 0): (8 − 0) + 0.75 · 4.
        assert_eq!(rule.estimate(&mut memory, &updates(2.0, 8.0), &[1]), Some(vec![11.0]));
        assert_eq!(rule.estimate(&mut memory, &updates(2.0, 8.0), &[]), None);
        // y = (4, 8): the mean of (−2, 0) and of y.
        assert_eq!(rule.estimate(&mut memory, &updates(2.0, 8.0), &[0, 1]), Some(vec![-1.5 + 5.0]));
        assert_eq!(memory, [[2.0], [8.0]]);
    }

    #[test]
    fn fedau_weighs_by_the_mean_interval() {
        let rule = FedAu { cutoff: 4, ..FedAu::default() };
        let mut memory = rule.start(2, 1);
        // Client 1 arrives in every round, client 2 in rounds 3 and 4 and then never again.
        let rounds: [&[u16]; 9] = [&[0], &[0], &[0, 1], &[0, 1], &[0], &[0], &[0], &[0], &[0]];
        let weights: Vec<f32> = rounds
            .into_iter()
            .map(|arrived| {
                let before = memory[1][0];
                let estimate = rule.estimate(&mut memory, &updates(4.0, 8.0), arrived).unwrap();
                let second = if arrived.contains(&1) { 0.25 * f64::from(before) * 8.0 } else { 0.0 };
                assert!((estimate[0] - 3.0 - second).abs() < 1e-6, "{estimate:?}");
                memory[1][0]
            })
            .collect();
        assert_eq!(memory[0], [1.0, 9.0, 0.0]);
        // Intervals 3, 1, and 4 by the cutoff.
        let third = 8.0 / 3.0;
        assert_eq!(weights, [1.0, 1.0, 3.0, 2.0, 2.0, 2.0, 2.0, third, third]);
        assert_eq!(rule.estimate(&mut memory, &updates(4.0, 8.0), &[]), None);
        assert_eq!(memory[1], [third, 3.0, 2.0], "a round without arrivals is a round");
    }
}
