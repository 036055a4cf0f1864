//! Privacy of what is released: noise in the sums, and what they and the models tell all the same.
//!
//! A secure sum hides everything *but* itself. With `[privacy.release]` every client adds a share of noise to
//! its input, w_k x_k + n_k with ‖x_k‖₂ ≤ C (`solver.clip_norm`), before that is masked or coded, so that
//! nobody sees it without noise. Where a sum is over all M clients or nothing, Var(n_k) = (z C w)²/M per
//! coordinate, w being the largest weight, and every sum carries the (z C w)² of a trusted server: clients
//! who do not arrive take nothing away. Where a sum may be over U survivors only, each share is (z C w)²/U,
//! and a sum over more carries more noise than it needs. Of T colluders' shares nobody else is protected: (z
//! C w)² is then divided by M − T.
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
//! what its messages tell. Where this is not computed (inputs of several coordinates, hundreds of clients),
//! the server is charged as if it saw every noisy input by itself.
//!
//! Over a prime field a scheme whose messages are found, by rank, to tell the server nothing but the sum
//! costs the sum's noise, of as many shares as it holds, less those of the colluders; an outage costs
//! nothing. A scheme that tells more costs as if every noisy input were seen by itself. Skellam and discrete
//! Gaussian noise is accounted for by its Rényi divergences. Ranks are found among up to 40 clients, in
//! schemes of two phases among many more; beyond, a warning says that hiding is taken for granted.
//!
//! Where cohorts are drawn in secret the observer does not know who takes part, and a round costs every
//! client what a sampled one costs: `cohort.rate` draws by Poisson sampling, `cohort.sample` a fixed number,
//! under `replace-one`. [`crate::account`] composes.
//!
//! With `adaptive_clip` the clip of a round follows a quantile of the norms, by a noisy count that goes
//! through the same sums ([`Clipping`]); nothing of the above changes.
//!
//! With `bands` a trusted server's noise takes that of earlier rounds back in part, and a client pays for its
//! rounds in later ones too ([`Correlated`]).
//!
//! The unit of privacy is a client: neighbouring runs differ in whatever one client sends. Weights, numbers
//! of examples, who takes part and what links lose are public, and so is the configuration. Losses,
//! accuracies and norms that a run directory keeps are the researcher's own and are not released.

mod clipping;
mod config;
mod correlated;
mod hidden;
mod spent;
pub mod view;

use crate::account::Sampling;
use crate::algebra::distributed::{Added, DistributedNoise, Law};
use crate::error::{Error, Result};
use crate::message::{Decoded, Views};
use crate::network::Perfect;
use crate::privacy::Formal;
use crate::protocol::{Aggregate, Aggregator};
pub use clipping::{AdaptiveClip, Clipping};
pub use config::{Adversary, By, NoiseKind, ReleaseConfig};
pub use correlated::Correlated;
use hidden::is_hidden;
pub use spent::{Charge, Cost, Ledger, Promise, Spent, Sum};

/// What is known of a run before its first round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// Bound C on ‖x_k‖₂.
    pub clip: f64,
    /// The largest weight of a client.
    pub weight: f64,
    /// Coordinates d of an input.
    pub coordinates: usize,
    /// Clients of a round, the most.
    pub cohort: usize,
    /// The most rounds in which a client takes part; what noise for an ε is made for.
    pub participations: u64,
    /// Rounds T.
    pub rounds: u64,
    /// Attempts of a round.
    pub attempts: u32,
    /// Whether the model is made of single updates that the server remembers, and not of the result.
    pub singly: bool,
    /// How cohorts are drawn, where the observer does not know them.
    pub sampling: Sampling,
    /// With `bands`, [`Correlated::distance`] of the client that its turns cost the most; what noise for an ε
    /// is made for.
    pub distance: f64,
}

/// The noise of a run, and what its rounds cost.
#[derive(Clone, Debug)]
pub struct Release {
    config: ReleaseConfig,
    known: Known,
    /// Standard deviation of a coordinate of the noise in a sum.
    std: f64,
    /// Whether the server sees nothing but sums, found by rank; `None` over the reals.
    hidden: Option<bool>,
    /// The most that a round without losses costs one of its clients.
    worst: Charge,
    /// Upper bound on the probability that a round's sum wraps around.
    wraps: Option<f64>,
    /// How the clip moves, if it does.
    clipping: Option<Clipping>,
    /// How the noise takes itself back, if it does.
    correlated: Option<Correlated>,
}

/// A noise multiplier beyond which none is tried.
const MOST_NOISE: f64 = 1e12;

/// How far below its limit a noise multiplier is tried, as a fraction.
const BELOW: f64 = 1e-3;

/// Arithmetic may make a clipped update longer by this fraction.
const ROUNDING: f64 = 1e-5;

/// Clients up to whom the joint law of keys and noise is computed in every round.
const JOINT: usize = 200;

impl Release {
    /// Fixes the noise for a run of `scheme`, which does not add it yet.
    ///
    /// # Errors
    /// A target that no noise reaches; noise that the scheme cannot add.
    pub fn of(config: &ReleaseConfig, scheme: &dyn Aggregator, known: Known) -> Result<Self> {
        let clients = config.by == By::Clients;
        let (over_field, kind) = (scheme.is_over_field(), config.noise);
        if clients && !over_field && matches!(kind, NoiseKind::Skellam | NoiseKind::DiscreteGaussian) {
            let rule = "discrete noise needs exact arithmetic; take arithmetic = \"field\", or \"gaussian\"";
            return Err(Error::config("privacy.release.noise", rule));
        }
        if clients && over_field && kind == NoiseKind::Gaussian {
            let rule =
                "Gaussian noise does not exist over a field; take \"skellam\" or \"discrete-gaussian\"";
            return Err(Error::config("privacy.release.noise", rule));
        }
        let hidden = (clients && over_field)
            .then(|| is_hidden(scheme, known.cohort, config.colluders, known.attempts));
        let hidden = hidden.transpose()?;
        let views = match clients && !over_field && is_joint(scheme, known.cohort) {
            true => Some(scheme.views(0, &Perfect, known.attempts)?),
            false => None,
        };
        let with = |multiplier: f64| -> Result<Self> {
            let std = multiplier * known.clip * known.weight;
            let (worst, wraps) = (Charge::NOTHING, None);
            let clipping =
                config.adaptive_clip.map(|own| Clipping::new(own, &known, multiplier)).transpose()?;
            let correlated = config.bands.map(|bands| Correlated::new(bands, known.rounds));
            let release =
                Self { config: config.clone(), known, std, hidden, worst, wraps, clipping, correlated };
            let Some(noise) = release.noise() else {
                return Ok(Self { worst: release.of_mean(known.weight), ..release });
            };
            let added = scheme.share_of(&noise)?;
            let wraps = added.integers.map(|integers| integers.wraps);
            Ok(Self { worst: release.worst(&added, scheme, views.as_ref())?, wraps, ..release })
        };
        match (config.noise_multiplier, config.epsilon) {
            (Some(multiplier), _) => with(multiplier),
            (None, epsilon) => least(config, &known, epsilon.unwrap_or(f64::INFINITY), with),
        }
    }

    /// The most that a round costs: of the sums over the fewest clients and, over the reals, of all messages.
    fn worst(&self, added: &Added, scheme: &dyn Aggregator, views: Option<&Views>) -> Result<Charge> {
        let Known { weight, cohort, .. } = self.known;
        let all = scheme.scheme().least_included.unwrap_or(cohort);
        if added.integers.is_some() {
            return Ok(self.of_integers(added, Some(all)));
        }
        let singles = self.of_singles(weight, added, scheme, all);
        // What an estimate weighs up by what was lost may be one update.
        let Some(views) = views.filter(|_| !scheme.estimates()) else { return Ok(singles) };
        let charges = self.of_views(views, added.std, scheme, &vec![weight; cohort])?;
        let most = |adversary| {
            charges.iter().map(|charge| charge.of(adversary)).fold(0.0, |most: f64, cost| most.max(cost.mu()))
        };
        let observer = match scheme.scheme().least_included {
            Some(_) => most(Adversary::Observer).max(singles.observer.mu()),
            None => most(Adversary::Observer),
        };
        Ok(Charge { server: Cost::Gaussian(most(Adversary::Server)), observer: Cost::Gaussian(observer) })
    }

    /// What clients add, if it is they who do.
    #[must_use]
    pub fn noise(&self) -> Option<DistributedNoise> {
        let discrete = match self.config.noise {
            NoiseKind::DiscreteGaussian => Law::DiscreteGaussian,
            _ => Law::Skellam,
        };
        let noise = DistributedNoise {
            std: self.std,
            norm: self.known.clip * self.known.weight * (1.0 + ROUNDING),
            coordinates: self.known.coordinates,
            flattened: self.config.flatten,
            colluders: self.config.colluders,
            discrete,
        };
        (self.config.by == By::Clients).then_some(noise)
    }

    /// Standard deviation of a coordinate of what the server adds, if it is it who does.
    #[must_use]
    pub fn of_server(&self) -> Option<f64> {
        (self.config.by == By::Server).then_some(self.std)
    }

    /// Whether [`Release::charges`] of a round of so many clients reads what was sent.
    #[must_use]
    pub fn reads_views(&self, scheme: &dyn Aggregator, clients: usize) -> bool {
        self.config.by == By::Clients && self.hidden.is_none() && is_joint(scheme, clients)
    }

    /// What the round of an `aggregate` of `scheme` cost each of its clients, by their `weights`. Without
    /// what was sent, `formal`, the server is charged as if it saw every noisy input by itself.
    ///
    /// # Errors
    /// As [`Release::of`].
    pub fn charges(
        &self,
        scheme: &dyn Aggregator,
        formal: Option<&Formal>,
        aggregate: &Aggregate,
        weights: &[f64],
    ) -> Result<Vec<Charge>> {
        let included = aggregate.decoded.included();
        let is_in = |k: usize| included.contains(&(k as u16));
        let each = 0..weights.len();
        let Some(added) = scheme.added().filter(|_| self.config.by == By::Clients) else {
            let of = |k| if is_in(k) { self.of_mean(weights[k]) } else { Charge::NOTHING };
            return Ok(each.map(of).collect());
        };
        // What was too imprecise to be used is not released.
        let released = !matches!(aggregate.decoded, Decoded::Outage(_));
        let all = included.len();
        let mut charges: Vec<Charge> = if added.integers.is_some() {
            each.map(|k| self.of_integers(&added, is_in(k).then_some(all))).collect()
        } else if let (Some(Formal::Real(views)), true) = (formal, is_joint(scheme, weights.len())) {
            self.of_views(views, added.std, scheme, weights)?
        } else {
            let of = |k: usize| {
                let whole = self.of_singles(weights[k], &added, scheme, all.max(1));
                if is_in(k) { whole } else { Charge { observer: Cost::NOTHING, ..whole } }
            };
            each.map(of).collect()
        };
        if !released {
            charges.iter_mut().for_each(|charge| charge.observer = Cost::NOTHING);
        }
        Ok(charges)
    }

    /// What every client pays the observer, where that does not know who takes part; `charges` are of those
    /// who did.
    #[must_use]
    pub fn sampled(&self, charges: &[Charge]) -> Option<Cost> {
        let mu = charges.iter().map(|charge| charge.observer.mu()).fold(0.0, f64::max);
        match self.known.sampling {
            _ if self.hidden.is_some() => None,
            Sampling::None => None,
            _ if mu == 0.0 => Some(Cost::NOTHING),
            Sampling::Fixed { cohort, clients } => Some(Cost::Fixed(mu, cohort, clients)),
            Sampling::Poisson { rate } => Some(Cost::Poisson(mu, rate)),
        }
    }

    /// How the noise takes itself back, if it does.
    #[must_use]
    pub fn correlated(&self) -> Option<&Correlated> {
        self.correlated.as_ref()
    }

    /// What a round with a result costs a client of this weight who took part in these rounds, where the
    /// noise takes itself back.
    #[must_use]
    pub fn of_turns(&self, weight: f64, turns: &[u64], round: u64) -> Cost {
        let seen = self.correlated.as_ref().map_or(0.0, |correlated| correlated.seen(turns, round));
        Cost::Gaussian(if seen > 0.0 { seen * self.of_mean(weight).observer.mu() } else { 0.0 })
    }

    /// Whether a round after `round` may cost more than the budget, if there is one.
    ///
    /// # Errors
    /// As [`Spent::epsilon`].
    pub fn is_spent(&self, ledger: &Ledger, round: u64) -> Result<bool> {
        let Some(budget) = self.config.budget else { return Ok(false) };
        let ReleaseConfig { against, adjacency, delta, .. } = self.config;
        let after = if self.correlated.is_some() {
            // Nobody pays more than the largest weight that takes part once more.
            let next = |(k, paid): (usize, &Spent)| {
                let turns = ledger.turns().get(k).map_or(&[][..], Vec::as_slice);
                let mut after = paid.clone();
                after.add(self.of_turns(self.known.weight, &[turns, &[round + 1]].concat(), round + 1), 1);
                after
            };
            let next = ledger.of(against).iter().enumerate().map(next);
            let most = next.reduce(|most, next| if next.covers(&most) { next } else { most });
            most.map_or(Ok(0.0), |most| most.epsilon(adjacency, delta))?
        } else {
            ledger.after(against, self.next(against), adjacency, delta)?
        };
        Ok(after > budget)
    }

    /// The most that a round without losses costs a client.
    fn next(&self, adversary: Adversary) -> Cost {
        let cost = self.worst.of(adversary);
        match adversary {
            Adversary::Server => cost,
            Adversary::Observer => self.sampled(&[self.worst]).unwrap_or(cost),
        }
    }

    /// The running ε against an adversary.
    ///
    /// # Errors
    /// As [`Spent::epsilon`].
    pub fn epsilon(&self, ledger: &Ledger, adversary: Adversary) -> Result<f64> {
        ledger.after(adversary, Cost::NOTHING, self.config.adjacency, self.config.delta)
    }

    /// What holds after `round` rounds and their ledger.
    ///
    /// # Errors
    /// As [`Spent::epsilon`].
    pub fn promise(&self, ledger: &Ledger, round: u64) -> Result<Promise> {
        let finite = |epsilon: f64| Some(epsilon).filter(|epsilon| epsilon.is_finite());
        Ok(Promise {
            server: finite(self.epsilon(ledger, Adversary::Server)?),
            observer: finite(self.epsilon(ledger, Adversary::Observer)?),
            delta: self.config.delta,
            adjacency: self.config.adjacency,
            colluders: self.config.colluders,
            noise_multiplier: self.noise_multiplier(),
            wraps: self.wraps,
            spent: if self.is_spent(ledger, round)? { self.config.budget } else { None },
        })
    }

    /// z: σ over the largest weighted norm.
    #[must_use]
    pub fn noise_multiplier(&self) -> f64 {
        self.std / (self.known.clip * self.known.weight)
    }

    /// How long an update may be, in any round.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.known.clip
    }

    /// How the clip moves, if it does.
    #[must_use]
    pub fn clipping(&self) -> Option<&Clipping> {
        self.clipping.as_ref()
    }

    /// By how much a client's weighted input moves between neighbouring runs, on the grid that it is rounded
    /// to, if any.
    fn reach(&self, weight: f64, scheme: &dyn Aggregator) -> f64 {
        let step = scheme.grid().map_or(0.0, |grid| grid.step());
        let rounded = step / 2.0 * (self.known.coordinates as f64).sqrt();
        self.config.adjacency.reach() * (weight * self.known.clip * (1.0 + ROUNDING) + rounded)
    }

    /// What a round with these views costs, whose inputs have noise of the standard deviation `share`.
    fn of_views(
        &self,
        views: &Views,
        share: f64,
        scheme: &dyn Aggregator,
        weights: &[f64],
    ) -> Result<Vec<Charge>> {
        let reach: Vec<f64> = weights.iter().map(|&weight| self.reach(weight, scheme)).collect();
        let server = view::server(views, share, self.config.colluders, &reach)?;
        // A model of what the server remembers is a function of what it saw, and nothing less is known.
        let observer = match self.known.singly {
            true => server.clone(),
            false => view::observer(views, share, &reach)?,
        };
        let charge = |(server, observer)| Charge {
            server: Cost::Gaussian(server),
            observer: Cost::Gaussian(observer),
        };
        Ok(server.into_iter().zip(observer).map(charge).collect())
    }

    /// What a round costs over the reals where the server may see every noisy input by itself, and the result
    /// holds `all` of them.
    fn of_singles(&self, weight: f64, added: &Added, scheme: &dyn Aggregator, all: usize) -> Charge {
        let mu = self.reach(weight, scheme) / added.std;
        let observer = if self.known.singly || scheme.estimates() { mu } else { mu / (all as f64).sqrt() };
        Charge { server: Cost::Gaussian(mu), observer: Cost::Gaussian(observer) }
    }

    /// What a round over a field costs a client whose integers are in a sum over `of`, or in none.
    fn of_integers(&self, added: &Added, of: Option<usize>) -> Charge {
        let Some(integers) = added.integers else { return Charge::NOTHING };
        let factor = self.config.adjacency.reach();
        let cost = |shares: usize| {
            Cost::Integers(Sum {
                law: added.law,
                l2: factor * integers.l2,
                l1: factor * integers.l1,
                variance: integers.variance,
                shares: shares as u64,
                dimension: self.known.coordinates as u64,
            })
        };
        let hidden = self.hidden == Some(true);
        let of_sum =
            |colluders: usize| of.map_or(Cost::NOTHING, |all| cost(all.saturating_sub(colluders).max(1)));
        let server = if hidden { of_sum(self.config.colluders) } else { cost(1) };
        Charge { server, observer: if self.known.singly { server } else { of_sum(0) } }
    }

    /// What a result with the server's noise costs a client in it.
    fn of_mean(&self, weight: f64) -> Charge {
        let reach = self.config.adjacency.reach() * weight * self.known.clip * (1.0 + ROUNDING);
        let mu = if reach > 0.0 { reach / self.std } else { 0.0 };
        Charge { server: Cost::Gaussian(f64::INFINITY), observer: Cost::Gaussian(mu) }
    }
}

/// Whether the joint law of the keys and noise of so many clients is computed.
fn is_joint(scheme: &dyn Aggregator, clients: usize) -> bool {
    scheme.formal_coordinates() == clients && clients <= JOINT
}

/// The release with the least noise that keeps ε over the whole run.
fn least(
    config: &ReleaseConfig,
    known: &Known,
    epsilon: f64,
    with: impl Fn(f64) -> Result<Release>,
) -> Result<Release> {
    let sampled = known.sampling != Sampling::None && config.against == Adversary::Observer;
    let rounds = if sampled { known.rounds } else { known.participations };
    let fits = |multiplier: f64| -> Result<bool> {
        let mut planned = Spent::default();
        let release = with(multiplier)?;
        match release.next(config.against) {
            Cost::Gaussian(mu) if config.bands.is_some() => {
                planned.add(Cost::Gaussian(mu * known.distance), 1);
            }
            cost => planned.add(cost, rounds),
        }
        Ok(planned.epsilon(config.adjacency, config.delta)? <= epsilon)
    };
    // ε falls as the noise grows.
    let most = match &config.adaptive_clip {
        Some(adaptive) => adaptive.most_noise(known.cohort) * (1.0 - BELOW),
        None => MOST_NOISE,
    };
    let (mut low, mut high) = (0.0, most.min(1.0));
    while !fits(high)? {
        (low, high) = (high, most.min(2.0 * high));
        if low >= most {
            if config.adaptive_clip.is_some() {
                let rule = format!(
                    "the count alone tells more than ({epsilon}, {})-differential privacy allows; give more, or take larger rounds",
                    config.delta
                );
                return Err(Error::config("privacy.release.adaptive_clip.count_std", rule));
            }
            let rule = format!(
                "no noise of the clients keeps ({epsilon}, {})-differential privacy against the {} here; take another protocol, \
                 another adversary or noise_multiplier",
                config.delta,
                config.against.name()
            );
            return Err(Error::config("privacy.release.epsilon", rule));
        }
    }
    while high - low > 1e-6 * high {
        let middle = f64::midpoint(low, high);
        if fits(middle)? { high = middle } else { low = middle }
    }
    with(high)
}
