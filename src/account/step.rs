//! One release, and what it is private against.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which inputs are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Adjacency {
    /// One client more or less.
    AddOrRemove,
    /// One client with another update: reach twice the clipping norm.
    ReplaceOne,
    /// One client's update against zero; the number of clients is public.
    ZeroOut,
}

impl Adjacency {
    /// Name on the command line and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AddOrRemove => "add-or-remove",
            Self::ReplaceOne => "replace-one",
            Self::ZeroOut => "zero-out",
        }
    }

    /// How far apart the sums of neighbours are, in clipping norms.
    #[must_use]
    pub fn reach(self) -> f64 {
        if self == Self::ReplaceOne { 2.0 } else { 1.0 }
    }
}

/// How those are drawn whose updates a sum holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// Everybody takes part.
    None,
    /// Everybody takes part with this probability, independently; noise and divisor are public and fixed.
    Poisson {
        /// From 0 to 1.
        rate: f64,
    },
    /// A cohort of fixed size, uniform among all of that size.
    Fixed {
        /// Members of the cohort, at least 1.
        cohort: u64,
        /// Clients among whom it is drawn.
        clients: u64,
    },
}

impl Sampling {
    /// Probability that a given client takes part.
    #[must_use]
    pub fn rate(self) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Poisson { rate } => rate,
            Self::Fixed { cohort, clients } => cohort as f64 / clients as f64,
        }
    }
}

/// A sum of integer vectors, and the integer noise in it: the norms are those of one client's vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Integers {
    /// Δ₂, the largest Euclidean norm, after rounding.
    pub l2: f64,
    /// Δ₁, the largest ℓ₁ norm.
    pub l1: f64,
    /// v, the variance of all noise in one coordinate of the sum.
    pub variance: f64,
    /// n, the shares of equal variance that the noise is made of.
    pub shares: u64,
    /// Coordinates.
    pub dimension: u64,
}

impl Integers {
    /// Largest ℓ₁ norm of an integer vector of `dimension` coordinates and Euclidean norm `l2`: min(√d Δ₂,
    /// Δ₂²).
    #[must_use]
    pub fn l1_of(l2: f64, dimension: u64) -> f64 {
        l2 * l2.min((dimension as f64).sqrt())
    }

    fn check(&self) -> Result<()> {
        let positive = |key: &str, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::config(key, format!("{value} is not a finite number above 0"))),
        };
        positive("l2", self.l2)?;
        positive("l1", self.l1)?;
        positive("variance", self.variance)?;
        positive("shares", self.shares as f64)?;
        positive("dimension", self.dimension as f64)
    }
}

/// The noise of a release.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise {
    /// Gaussian; `mu` is the distance between the sums of neighbours over the standard deviation of the
    /// noise, ∞ where there is none.
    Gaussian {
        /// μ of Gaussian differential privacy, at least 0.
        mu: f64,
    },
    /// A difference of two Poisson variables in every coordinate.
    Skellam(Integers),
    /// A sum of discrete Gaussians in every coordinate.
    DiscreteGaussian(Integers),
}

/// One release: noise, sampling, and the adjacency for which both are stated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    noise: Noise,
    sampling: Sampling,
    adjacency: Adjacency,
}

impl Step {
    /// A release that is valid.
    ///
    /// # Errors
    /// Numbers out of range; samples of fixed size under another adjacency than replace-one, for which
    /// there is no bound.
    pub fn new(noise: Noise, sampling: Sampling, adjacency: Adjacency) -> Result<Self> {
        match noise {
            Noise::Gaussian { mu } if mu >= 0.0 => {}
            Noise::Gaussian { mu } => return Err(Error::config("mu", format!("{mu} is not at least 0"))),
            Noise::Skellam(sum) | Noise::DiscreteGaussian(sum) => sum.check()?,
        }
        match sampling {
            Sampling::None => {}
            Sampling::Poisson { rate } if (0.0..=1.0).contains(&rate) => {}
            Sampling::Poisson { rate } => {
                return Err(Error::config("rate", format!("{rate} is no probability from 0 to 1")));
            }
            Sampling::Fixed { cohort, clients } if cohort == 0 || cohort > clients => {
                let rule = format!("{cohort} of {clients} clients: take from 1 to all of them");
                return Err(Error::config("cohort", rule));
            }
            Sampling::Fixed { .. } if adjacency != Adjacency::ReplaceOne => {
                let rule = format!(
                    "{} has no bound for samples of fixed size: take replace-one, or Poisson sampling",
                    adjacency.name()
                );
                return Err(Error::config("adjacency", rule));
            }
            Sampling::Fixed { .. } => {}
        }
        Ok(Self { noise, sampling, adjacency })
    }

    /// Gaussian noise in a sum of updates of norm at most C: `multiplier` is its standard deviation over C,
    /// whatever the adjacency, whose reach is counted here.
    ///
    /// # Errors
    /// As [`Step::new`], and a multiplier that is not above 0.
    pub fn gaussian(multiplier: f64, sampling: Sampling, adjacency: Adjacency) -> Result<Self> {
        if multiplier.is_nan() || multiplier <= 0.0 {
            return Err(Error::config("noise_multiplier", format!("{multiplier} is not above 0")));
        }
        Self::new(Noise::Gaussian { mu: adjacency.reach() / multiplier }, sampling, adjacency)
    }

    /// The noise.
    #[must_use]
    pub fn noise(&self) -> Noise {
        self.noise
    }

    /// How those are drawn who take part.
    #[must_use]
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// For which neighbours it is stated.
    #[must_use]
    pub fn adjacency(&self) -> Adjacency {
        self.adjacency
    }

    /// μ of a Gaussian step, and the rate of its sampling.
    pub(super) fn shift(&self) -> Option<(f64, f64)> {
        match self.noise {
            Noise::Gaussian { mu } => Some((mu, self.sampling.rate())),
            _ => None,
        }
    }
}
