//! What clients have paid.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Adversary;
use crate::account::{self, Accountant, Adjacency, Noise, Sampling, Step};
use crate::algebra::distributed::Law;
use crate::error::{Result, count};
use crate::privacy::ldp;

/// What a round tells about one client.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cost {
    /// Its update moves what is seen by μ standard deviations of a Gaussian.
    Gaussian(#[serde(with = "bits")] f64),
    /// The same, where a cohort of fixed size was drawn in secret.
    Fixed(#[serde(with = "bits")] f64, u64, u64),
    /// The same, where every client takes part with this probability, in secret.
    Poisson(#[serde(with = "bits")] f64, #[serde(with = "bits")] f64),
    /// Its integers lie in a sum with discrete noise.
    Integers(Sum),
}

/// A sum of integers with noise, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// The law of a share.
    pub law: Law,
    /// How far a client's integers move, Euclidean.
    #[serde(with = "bits")]
    pub l2: f64,
    /// The same in ℓ₁.
    #[serde(with = "bits")]
    pub l1: f64,
    /// The variance of a share.
    #[serde(with = "bits")]
    pub variance: f64,
    /// Shares that the adversary does not know.
    pub shares: u64,
    /// Coordinates.
    pub dimension: u64,
}

impl Cost {
    /// Nothing.
    pub const NOTHING: Self = Self::Gaussian(0.0);

    /// μ of Gaussian noise without sampling; 0 of any other cost.
    pub(super) fn mu(self) -> f64 {
        if let Self::Gaussian(mu) = self { mu } else { 0.0 }
    }

    fn step(self, adjacency: Adjacency) -> Result<Step> {
        let (noise, sampling) = match self {
            Self::Gaussian(mu) => (Noise::Gaussian { mu }, Sampling::None),
            Self::Fixed(mu, cohort, clients) => (Noise::Gaussian { mu }, Sampling::Fixed { cohort, clients }),
            Self::Poisson(mu, rate) => (Noise::Gaussian { mu }, Sampling::Poisson { rate }),
            Self::Integers(Sum { law, l2, l1, variance, shares, dimension }) => {
                let variance = shares as f64 * variance;
                let sum = account::Integers { l2, l1, variance, shares, dimension };
                let noise = match law {
                    Law::DiscreteGaussian => Noise::DiscreteGaussian(sum),
                    _ => Noise::Skellam(sum),
                };
                (noise, Sampling::None)
            }
        };
        Step::new(noise, sampling, adjacency)
    }
}

/// What all rounds so far tell about one client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Σ μ² of [`Cost::Gaussian`].
    #[serde(with = "bits")]
    square: f64,
    /// How often everything else.
    others: Vec<(Cost, u64)>,
}

/// Numbers by their bits, lest a run that goes on pays another sum.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.to_bits())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

impl Spent {
    /// Adds a cost, `times` times.
    pub fn add(&mut self, cost: Cost, times: u64) {
        match cost {
            Cost::Gaussian(mu) => self.square += times as f64 * mu * mu,
            other => match self.others.iter_mut().find(|(known, _)| *known == other) {
                Some((_, count)) => *count += times,
                None => self.others.push((other, times)),
            },
        }
    }

    /// The least ε that is known for this δ; 0 before the first round, infinite where everything was told.
    ///
    /// # Errors
    /// Costs that cannot be composed under this adjacency.
    pub fn epsilon(&self, adjacency: Adjacency, delta: f64) -> Result<f64> {
        if self.others.is_empty() || self.square.is_infinite() {
            return Ok(ldp::epsilon(self.square.sqrt(), delta));
        }
        let gaussian = Cost::Gaussian(self.square.sqrt()).step(adjacency)?;
        let mut accountant = Accountant::new(adjacency);
        accountant.add(&gaussian, 1)?;
        for (cost, times) in &self.others {
            accountant.add(&cost.step(adjacency)?, *times)?;
        }
        accountant.running(delta)
    }

    /// Whether every cost of the `other` is here as often or as much: it has then a larger ε at most here.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let times =
            |cost: &Cost| self.others.iter().find(|(own, _)| own == cost).map_or(0, |(_, times)| *times);
        self.square >= other.square && other.others.iter().all(|(cost, often)| times(cost) >= *often)
    }
}

/// What a round costs a client, by adversary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Charge {
    /// Against the server with its colluders.
    pub server: Cost,
    /// Against who sees the models.
    pub observer: Cost,
}

impl Charge {
    /// Nothing.
    pub const NOTHING: Self = Self { server: Cost::NOTHING, observer: Cost::NOTHING };

    /// Against this adversary.
    #[must_use]
    pub fn of(&self, adversary: Adversary) -> Cost {
        match adversary {
            Adversary::Server => self.server,
            Adversary::Observer => self.observer,
        }
    }
}

/// What every client has paid, by adversary; empty where nothing is charged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    server: Vec<Spent>,
    observer: Vec<Spent>,
    /// See [`Ledger::turns`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    turns: Vec<Vec<u64>>,
}

impl Ledger {
    /// Of so many clients, before the first round.
    #[must_use]
    pub fn new(clients: usize) -> Self {
        let nothing = vec![Spent::default(); clients];
        Self { server: nothing.clone(), observer: nothing, turns: Vec::new() }
    }

    /// Notes that a client took part in a round, where later ones tell of it too.
    pub fn take_part(&mut self, client: u32, round: u64) {
        self.turns.resize(self.server.len(), Vec::new());
        self.turns[client as usize].push(round);
    }

    /// The rounds in which each client took part, where later ones tell of it; else nothing.
    #[must_use]
    pub fn turns(&self) -> &[Vec<u64>] {
        &self.turns
    }

    /// Number of clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.server.len()
    }

    /// Charges a client for a round.
    pub fn charge(&mut self, client: u32, adversary: Adversary, cost: Cost) {
        let spent = match adversary {
            Adversary::Server => &mut self.server,
            Adversary::Observer => &mut self.observer,
        };
        spent[client as usize].add(cost, 1);
    }

    /// What each client has paid.
    #[must_use]
    pub fn of(&self, adversary: Adversary) -> &[Spent] {
        match adversary {
            Adversary::Server => &self.server,
            Adversary::Observer => &self.observer,
        }
    }

    /// ε of the client who paid the most, if every one paid `more`.
    ///
    /// # Errors
    /// As [`Spent::epsilon`].
    pub fn after(&self, adversary: Adversary, more: Cost, adjacency: Adjacency, delta: f64) -> Result<f64> {
        let mut most: Vec<&Spent> = Vec::new();
        for spent in self.of(adversary) {
            if !most.iter().any(|other| other.covers(spent)) {
                most.retain(|other| !spent.covers(other));
                most.push(spent);
            }
        }
        let after = |spent: &Spent| {
            let mut spent = spent.clone();
            spent.add(more, 1);
            spent.epsilon(adjacency, delta)
        };
        most.into_iter().map(after).try_fold(0.0, |most: f64, epsilon| Ok(most.max(epsilon?)))
    }
}

/// What a run promises in the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// ε against the server with its colluders; absent where the server is trusted or everything was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<f64>,
    /// ε against who sees all models; absent where everything was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<f64>,
    /// δ of both.
    pub delta: f64,
    /// Which runs are neighbours.
    pub adjacency: Adjacency,
    /// Clients T who collude with the server.
    pub colluders: usize,
    /// z.
    pub noise_multiplier: f64,
    /// Upper bound on the probability that the sum of a round wraps around in its field, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wraps: Option<f64>,
    /// The budget that a further round might have exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<f64>,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, observer, delta, adjacency, colluders, .. } = self;
        let number =
            |epsilon: &Option<f64>| epsilon.map_or_else(|| "∞".into(), |epsilon| format!("{epsilon:.3}"));
        let with = match colluders {
            0 => String::new(),
            _ => format!(" with {}", count(*colluders, "client")),
        };
        let (server, observer) = (number(server), number(observer));
        write!(f, "ε = {server} against the server{with}, {observer} against who sees the models")?;
        write!(f, " (δ = {delta:e}, {}, for each client)", adjacency.name())?;
        self.spent.map_or(Ok(()), |budget| write!(f, "; another round might exceed the budget of {budget}"))
    }
}
