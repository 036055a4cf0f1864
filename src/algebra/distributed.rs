//! Noise that clients add to their inputs, each a share of it, so that a sum holds all of it.
//!
//! Client k sends w_k x_k + n_k: what a scheme sums up exactly is then the sum of the updates with as much
//! noise as a trusted server would have added, although nobody adds more than its share (Dwork et al., *Our
//! Data, Ourselves*, EUROCRYPT 2006; Kairouz, Liu, Steinke, ICML 2021).

use serde::{Deserialize, Serialize};

/// The law of one client's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// N(0, σ²), on the scheme's grid where there is one.
    Gaussian,
    /// The difference of two Poisson numbers, over a prime field.
    Skellam,
    /// The discrete Gaussian, over a prime field.
    DiscreteGaussian,
}

/// Noise in a sum, made of the shares of those whose inputs it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistributedNoise {
    /// Standard deviation of a coordinate of the sum, of the shares that the colluders do not know.
    pub std: f64,
    /// The largest norm of an input.
    pub norm: f64,
    /// Coordinates d of an input.
    pub coordinates: usize,
    /// Whether inputs are turned by a public rotation that is drawn anew in every round.
    pub flattened: bool,
    /// Clients T who know their own shares and may tell.
    pub colluders: usize,
    /// The law over a prime field; over the reals it is Gaussian.
    pub discrete: Law,
}

impl DistributedNoise {
    /// The standard deviation of one share, where a sum holds at least `summands` of them: σ/√(U − T).
    /// `None` where the colluders may hold them all.
    #[must_use]
    pub fn share(&self, summands: usize) -> Option<f64> {
        let honest = summands.checked_sub(self.colluders).filter(|&honest| honest > 0)?;
        Some(self.std / (honest as f64).sqrt())
    }
}

/// What a scheme adds to every input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Added {
    /// Its law.
    pub law: Law,
    /// Its standard deviation.
    pub std: f64,
    /// Fewest inputs in a sum.
    pub summands: usize,
    /// What it is in integers, over a prime field.
    pub integers: Option<Integers>,
}

/// A share on the integers to which inputs are rounded, all in steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Integers {
    /// The unit: a step is so much of an update.
    pub step: f64,
    /// The largest Euclidean norm Δ₂ of an input.
    pub l2: f64,
    /// The largest ℓ₁ norm Δ₁.
    pub l1: f64,
    /// The variance of the share, in steps².
    pub variance: f64,
    /// Upper bound on the probability that any coordinate of a round's sum wraps around.
    pub wraps: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_without_the_colluders() {
        let noise = |colluders| DistributedNoise {
            std: 6.0,
            norm: 1.0,
            coordinates: 4,
            flattened: false,
            colluders,
            discrete: Law::Skellam,
        };
        assert_eq!(noise(0).share(9), Some(2.0));
        assert_eq!(noise(5).share(9), Some(3.0));
        assert_eq!(noise(9).share(9), None);
        assert_eq!(noise(10).share(9), None);
    }
}
