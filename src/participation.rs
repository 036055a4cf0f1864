//! Participation rules: how the server makes up for clients which do not arrive, from what it remembers of
//! the single clients.
//!
//! A rule reads the update x_k of every client of the set S whose upload arrived, as the server received it,
//! and estimates the mean over all clients; W and W_S are the weights of all clients and of those in S.
//!
//! | kind | estimate of the mean | source |
//! |---|---|---|
//! | `none` | Σ_{k∈S} w_k x_k / W_S | |
//! | `mifa` | Σ_k w_k y_k / W, y_k being the last update received from k | Gu, Huang, Zhang, Huang, *Fast Federated Learning in the Presence of Arbitrary Device Unavailability*, NeurIPS 2021, algorithm 1 |
//! | `fedvarp` | Σ_{k∈S} w_k (x_k − y_k) / W_S + Σ_k w_k y_k / W, y_k from before the round | Jhunjhunwala, Sharma, Nagarkatti, Joshi, *FedVARP*, UAI 2022, algorithm 1 |
//! | `fedau` | Σ_{k∈S} w_k ω_k x_k / W, ω_k being the mean interval between arrivals of k | Wang, Ji, *A Lightweight Method for Tackling Unknown Participation Statistics in Federated Averaging*, ICLR 2024, algorithms 1 and 2 |
//!
//! y_k is 0 until the client was first heard. A round in which nothing arrives is an outage and leaves the
//! model alone; for `fedau` it counts in the intervals.
//!
//! A rule goes with every scheme that shows the server single updates
//! ([`Protocol::singles`](crate::protocol::Protocol::singles)): with `gaussian` it reads, and remembers,
//! each of them with its noise. Schemes that show the server a sum only (`sec-cogc`) exclude it by design,
//! and have no use for it, since their sum holds every client. What a rule makes of the updates follows from
//! what the server saw, so that the audit of the scheme holds as it is.

mod fedau;
mod fedvarp;
mod mifa;
mod none;

use std::sync::Arc;

use crate::algebra::{CHUNK, Real};
use crate::choice::choice;
use crate::error::{Error, Result};
use crate::parallel;
use crate::protocol::{Aggregator, Update};
pub use fedau::FedAu;
pub use fedvarp::FedVarp;
pub use mifa::Mifa;
pub use none::Arrivals;

/// Estimates the mean over all clients from the updates of some, with a memory of each client.
pub trait Participation: Send + Sync {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    fn check(&self) -> Result<()>;

    /// The memory before the first round: a vector per client; `d` is the length of what clients send.
    fn start(&self, clients: usize, d: usize) -> Vec<Vec<f32>>;

    /// The weighted mean (d coordinates) as estimated in a round in which the updates of `arrived` (indices,
    /// ascending) arrived, none if nothing did. `updates` has those as the server received them; of the
    /// others it has the weights, and vectors that are not read.
    fn estimate(&self, memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u32]) -> Option<Vec<f64>>;
}

choice! {
    /// How the server makes up for clients which do not arrive.
    ParticipationConfig by "kind" or "none" as rule: Participation {
        /// Not at all: the mean is over those who arrive.
        "none" => None(Arrivals),
        /// The last update of every client (Gu et al. 2021).
        "mifa" => Mifa(Mifa),
        /// Variance reduced by the last updates (Jhunjhunwala et al. 2022).
        "fedvarp" => FedVarp(FedVarp),
        /// Weights by the intervals between a client's arrivals (Wang & Ji 2024).
        "fedau" => FedAu(FedAu),
    }
}

impl Default for ParticipationConfig {
    fn default() -> Self {
        Self::None(Arrivals::default())
    }
}

impl ParticipationConfig {
    /// The rule, if there is one; without one the server needs no more than a sum.
    #[must_use]
    pub fn chosen(&self) -> Option<Arc<dyn Participation>> {
        (!matches!(self, Self::None(_))).then(|| self.clone().into())
    }

    /// What a protocol is called in tables, with this rule.
    #[must_use]
    pub fn label(&self, protocol: &str) -> String {
        match self {
            Self::None(_) => protocol.into(),
            rule => format!("{protocol} with {}", rule.kind()),
        }
    }
}

/// Checks that `scheme`, called `name`, shows the server the single updates that `rule` reads.
///
/// # Errors
/// [`Error::Config`] at `participation.kind`.
pub fn check_shown(rule: &str, name: &str, scheme: &dyn Aggregator) -> Result<()> {
    if scheme.shows_single_updates() {
        return Ok(());
    }
    let problem = format!(
        "{rule} reads single updates, and {name} shows the server a sum only; take \"none\", or a protocol that shows them: \
         ideal, fedavg, gaussian or mds-relay"
    );
    Err(Error::config("participation.kind", problem))
}

/// The weight of these clients.
fn weight(updates: &[Update], clients: impl Iterator<Item = usize>) -> f64 {
    clients.map(|k| updates[k].weight).sum()
}

/// The indices of those who arrived.
fn indices(arrived: &[u32]) -> impl Iterator<Item = usize> {
    arrived.iter().map(|&k| k as usize)
}

fn remember(memory: &mut [Vec<f32>], updates: &[Update], arrived: &[u32]) {
    indices(arrived).for_each(|k| memory[k].copy_from_slice(&updates[k].delta));
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
    fn without_a_rule_the_mean_is_over_the_arrivals() {
        let rule = Arrivals::default();
        let mut memory = rule.start(2, 1);
        assert_eq!(rule.estimate(&mut memory, &updates(4.0, 8.0), &[0, 1]), Some(vec![5.0]));
        assert_eq!(rule.estimate(&mut memory, &updates(4.0, 8.0), &[1]), Some(vec![8.0]));
        assert_eq!(rule.estimate(&mut memory, &updates(4.0, 8.0), &[]), None);
        assert!(ParticipationConfig::default().chosen().is_none());
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
        let rule = FedAu { cutoff: 4 };
        let mut memory = rule.start(2, 1);
        // Client 1 arrives in every round, client 2 in rounds 3 and 4 and then never again.
        let rounds: [&[u32]; 9] = [&[0], &[0], &[0, 1], &[0, 1], &[0], &[0], &[0], &[0], &[0]];
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

    /// The line that refuses a scheme names those that go, and no others do.
    #[test]
    fn the_schemes_that_show_single_updates_are_named() {
        use crate::algebra::grid::Public;
        use crate::network::values::PerLink;
        use crate::protocol::ProtocolConfig;
        use crate::seed::Seed;
        let public = Public { clip: Some(1.0), coordinates: Some(1), ..Public::default() };
        let mut shown = Vec::new();
        for kind in ProtocolConfig::KINDS {
            let mut protocol: ProtocolConfig = toml::from_str(&format!("kind = \"{kind}\"")).unwrap();
            if let Some(links) = protocol.section_mut().links() {
                links.assumed.client_client = Some(PerLink::Same(0.1));
                links.assumed.client_server = Some(PerLink::Same(0.1));
            }
            let scheme = protocol.build_for(10, Seed::new(1), &public).unwrap();
            match check_shown("mifa", kind, &*scheme) {
                Ok(()) => shown.push(*kind),
                Err(error) => assert_eq!(
                    error.to_string(),
                    format!(
                        "participation.kind: mifa reads single updates, and {kind} shows the server a sum only; take \"none\", or a \
                         protocol that shows them: ideal, fedavg, gaussian or mds-relay"
                    )
                ),
            }
        }
        assert_eq!(shown, ["ideal", "fedavg", "gaussian", "mds-relay"]);
    }

    #[test]
    fn every_rule_names_its_key_and_labels_its_protocol() {
        let rule = |toml: &str| toml::from_str::<ParticipationConfig>(toml).unwrap();
        let error = rule("kind = \"fedau\"\ncutoff = 0").rule().check().unwrap_err().to_string();
        assert_eq!(error, "cutoff: 0 is too small; give at least 1");
        for kind in ParticipationConfig::KINDS {
            let rule = rule(&format!("kind = \"{kind}\""));
            rule.rule().check().unwrap();
            let name = rule.label("fedavg");
            assert_eq!(name == "fedavg", rule.chosen().is_none());
            assert!(name == "fedavg" || name == format!("fedavg with {kind}"));
        }
    }
}
