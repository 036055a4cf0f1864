//! What the numbers of privacy are computed under.

use crate::algebra::grid::Public;
use crate::error::{Error, Result};

/// The weights w_k that the clients may have: client k's input is w_k x_k. Where they are not known, a range:
/// a bound then lets the client that it is about have the largest weight and all others those that tell most.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    least: Vec<f64>,
    most: Vec<f64>,
}

impl From<Vec<f64>> for Weights {
    fn from(known: Vec<f64>) -> Self {
        Self { least: known.clone(), most: known }
    }
}

impl Weights {
    /// Every one of `clients` clients may have any weight of a range.
    #[must_use]
    pub fn between(clients: usize, least: f64, most: f64) -> Self {
        Self { least: vec![least; clients], most: vec![most; clients] }
    }

    /// Number of clients.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.most.len()
    }

    /// Whether every weight is known.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.least == self.most
    }

    /// Whether the same is known of all clients.
    #[must_use]
    pub fn are_alike(&self) -> bool {
        let alike = |weights: &[f64]| weights.windows(2).all(|two| two[0] == two[1]);
        alike(&self.least) && alike(&self.most)
    }

    /// The smallest and the largest weight of all clients.
    #[must_use]
    pub fn range(&self) -> [f64; 2] {
        let least = self.least.iter().copied().fold(f64::INFINITY, f64::min);
        [least, self.most.iter().copied().fold(0.0, f64::max)]
    }

    /// The largest weight of client `k`.
    #[must_use]
    pub fn most(&self, k: usize) -> f64 {
        self.most[k]
    }

    /// Standard deviations of the inputs that tell most about client `k`: its own the largest, as signal, and
    /// the others the least, as they hide it. Less of either degrades what is seen, so that no weights of the
    /// range leak more.
    #[must_use]
    pub fn stds(&self, k: usize, input_std: f64) -> Vec<f64> {
        let weight = |j: usize| if j == k { self.most[j] } else { self.least[j] };
        (0..self.clients()).map(|j| weight(j) * input_std).collect()
    }

    /// How far client j's input can go along with client k's while their sum stays, as a share of k's own
    /// reach.
    #[must_use]
    pub fn share(&self, k: usize, j: usize) -> f64 {
        if self.most[j] >= self.most[k] { 1.0 } else { self.most[j] / self.most[k] }
    }

    /// What the sum over the clients `summed`, less what an adversary holds of it, tells about client `k`,
    /// one of them: −½ ln(1 − w_k²/Σ w²) nats per coordinate. Infinite when nobody else is left in it.
    #[must_use]
    pub fn floor(&self, k: usize, summed: &[usize]) -> f64 {
        let others = summed.iter().filter(|&&j| j != k);
        // Relative to w_k, so that no square overflows.
        let ratio: f64 = others.map(|&j| (self.least[j] / self.most[k]).powi(2)).sum();
        if ratio == 0.0 { f64::INFINITY } else { 0.5 * ratio.recip().ln_1p() }
    }
}

/// What the numbers are computed under.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    /// Standard deviation σ_x of a coordinate of an update, for LMIP.
    pub input_std: f64,
    /// Bound C on ‖x_k‖₂; without one ε is infinite for everybody who sees anything.
    pub clip: Option<f64>,
    /// w_k of every client: its input is w_k x_k, so that its reach is w_k C and its standard deviation w_k
    /// σ_x.
    pub weights: Weights,
    /// δ of (ε, δ)-LDP.
    pub delta: f64,
    /// Rounds T over which ε is composed.
    pub rounds: u64,
    /// Number d of coordinates of an update, for ε in floating point; without it none is given.
    pub coordinates: Option<usize>,
}

impl Assumptions {
    /// For updates of `d` coordinates.
    #[must_use]
    pub fn of_coordinates(self, d: usize) -> Self {
        Self { coordinates: Some(d), ..self }
    }

    /// What everybody knows of the inputs.
    #[must_use]
    pub fn public(&self) -> Public {
        let [_, weight] = self.weights.range();
        Public { clip: self.clip, weight, coordinates: self.coordinates, ..Public::default() }
    }

    /// The standard deviations of the clients' inputs, where their weights are known.
    #[must_use]
    pub fn stds(&self) -> Option<Vec<f64>> {
        let std = |k: usize| self.weights.most(k) * self.input_std;
        self.weights.are_known().then(|| (0..self.weights.clients()).map(std).collect())
    }

    /// Checks that every number is one.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<()> {
        let Self { input_std, clip, weights, delta, rounds: _, coordinates: _ } = self;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let refuse = |key: &str, rule: String| Err(Error::config(key, rule));
        if !positive(*input_std) {
            return refuse(
                "privacy.update_std",
                format!("{input_std} must be a finite number greater than 0"),
            );
        }
        if let Some(clip) = clip.filter(|clip| !positive(*clip)) {
            return refuse("solver.clip_norm", format!("{clip} must be a finite number greater than 0"));
        }
        let bounds = weights.most.iter().zip(&weights.least);
        if let Some((most, least)) =
            bounds.clone().find(|(most, least)| !(positive(**most) && (0.0..=**most).contains(*least)))
        {
            return refuse("partition", format!("weights from {least} to {most} are none that a client has"));
        }
        if !(*delta > 0.0 && *delta < 1.0) {
            return refuse("privacy.ldp_delta", format!("{delta} must be greater than 0 and below 1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_of_weighted_sums() {
        // ½ ln(10/9) for ten equal clients; with weights 2, 1, 1 the first is 2/3 of the variance.
        assert!(
            (Weights::from(vec![1.0; 10]).floor(3, &(0..10).collect::<Vec<_>>()) - 0.052_680_257_8).abs()
                < 1e-10
        );
        let weights = Weights::from(vec![2.0, 1.0, 1.0]);
        assert!((weights.floor(0, &[0, 1, 2]) + 0.5 * (1.0f64 - 4.0 / 6.0).ln()).abs() < 1e-14);
        assert!((weights.floor(1, &[0, 1]) + 0.5 * (1.0f64 - 1.0 / 5.0).ln()).abs() < 1e-14);
        assert_eq!(weights.floor(1, &[1]), f64::INFINITY);
        // Of a range the largest own and the smallest other weights count.
        let range = Weights::between(3, 0.5, 2.0);
        assert!((range.floor(0, &[0, 1, 2]) + 0.5 * (1.0f64 - 4.0 / 4.5).ln()).abs() < 1e-14);
        assert_eq!(Weights::between(3, 0.0, 3.0).floor(0, &[0, 1, 2]), f64::INFINITY);
    }
}
