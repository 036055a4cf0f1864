//! Privacy of what is released: noise in the sums, and what they and the models tell all the same.
//!
//! A secure sum hides everything *but* itself. With `[privacy.release]` every client adds a share of noise to
//! its input, w_k x_k + n_k with ‖x_k‖₂ ≤ C (`solver.clip_norm`), before that is masked or coded, so that
//! nobody sees it without noise. Where a sum is over all M clients or nothing, Var(n_k) = (z C w)²/M per
//! coordinate, w being the largest weight, and every sum carries the (z C w)² of a trusted server: clients who
//! do not arrive take nothing away. Where a sum may be over U survivors only, each share is (z C w)²/U, and a
//! sum over more carries more noise than it needs. Of T colluders' shares nobody else is protected: (z C w)²
//! is then divided by M − T.
//!
//! # Who looks
//!
//! | adversary | sees | charges a client for |
//! |---|---|---|
//! | server | all messages to it, the keys, updates and noise of T clients, and who takes part | its own rounds |
//! | observer | all models | the rounds whose result holds its update |
//!
//! Whoever holds the last model knows less than the observer; nothing better is claimed.
//!
//! # What a round costs
//!
//! Over the reals keys and noise are one Gaussian vector: [`view`] takes the messages that arrived, in which
//! each input is w_k x_k + n_k, and finds each client's μ of Gaussian differential privacy. An outage costs
//! what its messages tell. Rounds compose to √(Σ μ²) ([`crate::privacy::ldp`]), also adaptively.
//!
//! The unit of privacy is a client: neighbouring runs differ in whatever one client sends. Weights, numbers of
//! examples, who takes part and what links lose are public, and so is the configuration. Losses, accuracies
//! and norms that a run directory keeps are the researcher's own and are not released.

mod config;
mod spent;
pub mod view;

use crate::algebra::distributed::{DistributedNoise, Law};
use crate::error::{Error, Result};
use crate::message::{Decoded, Views};
use crate::network::{LinkModel, Perfect};
use crate::privacy::{Formal, ldp};
use crate::protocol::{Aggregate, Aggregator};
pub use config::{Adjacency, Adversary, By, NoiseKind, ReleaseConfig};
pub use spent::{Ledger, Promise, Spent};

/// What is known of a run before its first round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Bound C on ‖x_k‖₂.
    pub clip: f64,
    /// The largest weight of a client.
    pub weight: f64,
    /// Coordinates d of an update.
    pub coordinates: usize,
    /// Rounds in which the client takes part who does so most often.
    pub participations: u64,
    /// Rounds T.
    pub rounds: u64,
    /// Attempts of a round.
    pub attempts: u32,
    /// Whether the model is made of single updates that the server remembers, and not of the result.
    pub singly: bool,
}

/// μ of Gaussian differential privacy of a client's update in one round, by adversary.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Charge {
    /// Against the server with its colluders.
    pub server: f64,
    /// Against who sees the models.
    pub observer: f64,
}

/// The noise of a run, and what its rounds cost.
#[derive(Clone, Debug)]
pub struct Release {
    config: ReleaseConfig,
    known: Known,
    /// Standard deviation of a coordinate of the noise in a sum.
    std: f64,
    /// The most that a round without losses costs one of its clients.
    worst: Charge,
}

/// A noise multiplier beyond which none is tried.
const MOST_NOISE: f64 = 1e12;

/// Single precision may make a clipped update longer by this fraction.
const ROUNDING: f64 = 1e-6;

impl Release {
    /// Fixes the noise for a run of `scheme`.
    ///
    /// # Errors
    /// A target that no noise reaches; a scheme of which is not known what the server sees.
    pub fn of(config: &ReleaseConfig, scheme: &dyn Aggregator, known: Known) -> Result<Self> {
        let views = match config.by {
            By::Clients => {
                if matches!(config.noise, NoiseKind::Skellam | NoiseKind::DiscreteGaussian)
                    && !scheme.is_over_field()
                {
                    let rule =
                        "discrete noise needs exact arithmetic; take arithmetic = \"field\", or \"gaussian\"";
                    return Err(Error::config("privacy.release.noise", rule));
                }
                Some(real(scheme.formal(0, &Perfect, known.attempts)?)?)
            }
            By::Server => None,
        };
        let with = |multiplier: f64| -> Result<Self> {
            let std = multiplier * known.clip * known.weight;
            let release = Self { config: config.clone(), known, std, worst: Charge::default() };
            let charges = match &views {
                Some(views) => {
                    let weights = vec![known.weight; views.clients];
                    release.of_views(views, release.share(scheme)?, scheme, &weights)?
                }
                None => vec![release.of_mean(known.weight)],
            };
            let worst = |of: fn(&Charge) -> f64| charges.iter().map(of).fold(0.0, f64::max);
            let worst =
                Charge { server: worst(|charge| charge.server), observer: worst(|charge| charge.observer) };
            Ok(Self { worst, ..release })
        };
        match (config.noise_multiplier, config.epsilon) {
            (Some(multiplier), _) => with(multiplier),
            (None, epsilon) => least(config, &known, epsilon.unwrap_or(f64::INFINITY), with),
        }
    }

    /// What clients add, if it is they who do.
    #[must_use]
    pub fn noise(&self) -> Option<DistributedNoise> {
        let discrete = match self.config.noise {
            NoiseKind::DiscreteGaussian => Law::DiscreteGaussian,
            _ => Law::Skellam,
        };
        let noise = DistributedNoise { std: self.std, colluders: self.config.colluders, discrete };
        (self.config.by == By::Clients).then_some(noise)
    }

    /// Standard deviation of a coordinate of what the server adds, if it is it who does.
    #[must_use]
    pub fn of_server(&self) -> Option<f64> {
        (self.config.by == By::Server).then_some(self.std)
    }

    /// What the round of an `aggregate` of `scheme` over these links cost each of its clients, by their
    /// `weights`.
    ///
    /// # Errors
    /// As [`Release::of`].
    pub fn charges(
        &self,
        scheme: &dyn Aggregator,
        links: &dyn LinkModel,
        round: u64,
        aggregate: &Aggregate,
        weights: &[f64],
    ) -> Result<Vec<Charge>> {
        if let (By::Clients, Some(added)) = (self.config.by, scheme.added()) {
            let views = real(scheme.formal(round, links, self.known.attempts)?)?;
            let charges = self.of_views(&views, added.std, scheme, weights)?;
            // What was too imprecise to be used is not released.
            let released = !matches!(aggregate.decoded, Decoded::Outage(_));
            let observer = |charge: Charge| if released { charge.observer } else { 0.0 };
            return Ok(charges
                .into_iter()
                .map(|charge| Charge { observer: observer(charge), ..charge })
                .collect());
        }
        let mut charges = vec![Charge::default(); weights.len()];
        let included = aggregate.decoded.included().iter().map(|&k| usize::from(k));
        included.for_each(|k| charges[k] = self.of_mean(weights[k]));
        Ok(charges)
    }

    /// Whether a further round may cost more than the budget, if there is one.
    #[must_use]
    pub fn is_spent(&self, ledger: &Ledger) -> bool {
        let next = match self.config.against {
            Adversary::Server => self.worst.server,
            Adversary::Observer => self.worst.observer,
        };
        let after = |budget: f64| ledger.after(self.config.against, next, self.config.delta) > budget;
        self.config.budget.is_some_and(after)
    }

    /// The running ε against an adversary.
    #[must_use]
    pub fn epsilon(&self, ledger: &Ledger, adversary: Adversary) -> f64 {
        ledger.epsilon(adversary, self.config.delta)
    }

    /// What holds after the rounds of a ledger.
    #[must_use]
    pub fn promise(&self, ledger: &Ledger) -> Promise {
        let epsilon = |adversary| Some(self.epsilon(ledger, adversary)).filter(|epsilon| epsilon.is_finite());
        Promise {
            server: epsilon(Adversary::Server),
            observer: epsilon(Adversary::Observer),
            delta: self.config.delta,
            adjacency: self.config.adjacency,
            colluders: self.config.colluders,
            noise_multiplier: self.std / (self.known.clip * self.known.weight),
            spent: self.config.budget.filter(|_| self.is_spent(ledger)),
        }
    }

    /// How long an update may be.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.known.clip
    }

    /// The standard deviation of one share in a sum of `scheme`.
    fn share(&self, scheme: &dyn Aggregator) -> Result<f64> {
        let noise =
            DistributedNoise { std: self.std, colluders: self.config.colluders, discrete: Law::Skellam };
        let summands = scheme.scheme().least_included.unwrap_or(scheme.formal_coordinates());
        noise.share(summands).ok_or_else(|| {
            let rule = format!(
                "{} colluders may hold every share of a sum over {summands}; give fewer, or raise protocol.least_included",
                self.config.colluders
            );
            Error::config("privacy.release.colluders", rule)
        })
    }

    /// By how much a client's weighted input moves between neighbouring runs, on the grid that it is rounded
    /// to, if any.
    fn reach(&self, weight: f64, scheme: &dyn Aggregator) -> f64 {
        let step = scheme.grid().map_or(0.0, |grid| grid.step());
        let rounded = step / 2.0 * (self.known.coordinates as f64).sqrt();
        self.config.adjacency.factor() * (weight * self.known.clip * (1.0 + ROUNDING) + rounded)
    }

    /// What a round with these views costs.
    fn of_views(
        &self,
        views: &Views,
        share: f64,
        scheme: &dyn Aggregator,
        weights: &[f64],
    ) -> Result<Vec<Charge>> {
        let reach: Vec<f64> = weights.iter().map(|&weight| self.reach(weight, scheme)).collect();
        let server = view::server(views, share, self.config.colluders, &reach)?;
        if self.known.singly {
            // A model of what the server remembers is a function of what it saw, and nothing less is known.
            return Ok(server.into_iter().map(|mu| Charge { server: mu, observer: mu }).collect());
        }
        let observer = view::observer(views, share, &reach)?;
        Ok(server.into_iter().zip(observer).map(|(server, observer)| Charge { server, observer }).collect())
    }

    /// What a result with the server's noise costs a client in it.
    fn of_mean(&self, weight: f64) -> Charge {
        let reach = self.config.adjacency.factor() * weight * self.known.clip * (1.0 + ROUNDING);
        Charge { server: f64::INFINITY, observer: if reach > 0.0 { reach / self.std } else { 0.0 } }
    }
}

/// The release with the least noise that keeps ε over the whole run.
fn least(
    config: &ReleaseConfig,
    known: &Known,
    epsilon: f64,
    with: impl Fn(f64) -> Result<Release>,
) -> Result<Release> {
    let rounds = match config.against {
        Adversary::Server => known.participations,
        Adversary::Observer => known.rounds.min(known.participations),
    };
    let wanted = ldp::mu(epsilon, config.delta) / (rounds.max(1) as f64).sqrt();
    let fits = |multiplier: f64| -> Result<bool> {
        let worst = with(multiplier)?.worst;
        let mu = match config.against {
            Adversary::Server => worst.server,
            Adversary::Observer => worst.observer,
        };
        Ok(mu <= wanted)
    };
    // μ falls as the noise grows.
    let (mut low, mut high) = (0.0, config.adjacency.factor() / wanted);
    while !fits(high)? {
        (low, high) = (high, 2.0 * high);
        if high > MOST_NOISE || !high.is_finite() {
            let rule = format!(
                "no noise of the clients keeps ({epsilon}, {})-differential privacy against the {} here; take another protocol, \
                 another adversary or noise_multiplier",
                config.delta,
                config.against.name()
            );
            return Err(Error::config("privacy.release.epsilon", rule));
        }
    }
    while high - low > 1e-9 * high {
        let middle = f64::midpoint(low, high);
        if fits(middle)? { high = middle } else { low = middle }
    }
    with(high)
}

fn real(views: Formal) -> Result<Views> {
    match views {
        Formal::Real(views) => Ok(views),
        Formal::Field(_) => {
            let rule = "Gaussian noise does not exist over a field; take arithmetic = \"f64\"";
            Err(Error::config("privacy.release.noise", rule))
        }
    }
}
