//! A clip that follows the norms of the updates: Andrew, Thakkar, Ramaswamy, McMahan, *Differentially Private
//! Learning with Adaptive Clipping*, NeurIPS 2021, algorithm 1.
//!
//! | paper | here | unit |
//! |---|---|---|
//! | γ | [`AdaptiveClip::quantile`] | share of the clients |
//! | η_C | [`AdaptiveClip::rate`] | per round |
//! | C_t | `clip` | norm of an update |
//! | σ_b | [`AdaptiveClip::count_std`] | clients of the largest weight |
//! | b_k − ½, b_k = \[‖Δ_k‖ ≤ C_t\] | the last coordinate of what enters the sum | clients |
//! | z_Δ = (z⁻² − (2σ_b)⁻²)^(−½) | [`Clipping::update_multiplier`] | noise of the updates over C_t w |
//!
//! The count goes through the sum as one more coordinate, so that nobody sees the bit of a client whose
//! update nobody sees. Both are scaled so that the whole is as long as ever: with C the largest clip
//! (`solver.clip_norm`), what enters is
//!
//! ```text
//! C · (√(1 − (z/2σ_b)²) Δ_k / C_t,  (z/σ_b) (b_k − ½)),   of norm ≤ C,
//! ```
//!
//! and noise of the standard deviation z C w in each coordinate is z_Δ C_t w beside the updates and σ_b w
//! beside the count. Noise, grids, fields and charges are those of z and C without a count, in every round.

use serde::{Deserialize, Serialize};

use super::Known;
use crate::error::{Error, Result};

/// The clip of a round follows a quantile of the norms of the updates, by a noisy count of those below it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveClip {
    /// γ: the share of the updates that is to stay unclipped; greater than 0, below 1, 0.5 by default.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub quantile: f64,
    /// η: a round moves the logarithm of the clip by η times what the share is too small; greater than 0, 0.2
    /// by default.
    #[schemars(range(min = 0.0))]
    pub rate: f64,
    /// The clip of the first round; greater than 0, at most `solver.clip_norm`, which is the default and
    /// bounds the clip of every round.
    #[schemars(range(min = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<f64>,
    /// σ_b: standard deviation of the noise of the count, in clients of the largest weight; greater than half
    /// of the noise multiplier z. By default a twentieth of the clients of a round.
    #[schemars(range(min = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count_std: Option<f64>,
}

impl Default for AdaptiveClip {
    fn default() -> Self {
        Self { quantile: 0.5, rate: 0.2, initial: None, count_std: None }
    }
}

/// Clients of a round for each standard deviation of the noise of their count.
const CLIENTS: f64 = 20.0;

/// A clip falls to this part of the largest at most.
const LEAST: f64 = 1e-9;

impl AdaptiveClip {
    pub(super) fn check(&self) -> Result<()> {
        let Self { quantile, rate, initial, count_std } = *self;
        if !(quantile > 0.0 && quantile < 1.0) {
            return Err(Error::config("quantile", format!("{quantile} must be greater than 0 and below 1")));
        }
        let positive = [("rate", Some(rate)), ("initial", initial), ("count_std", count_std)];
        for (key, value) in positive {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(Error::config(key, format!("{value} must be a finite number greater than 0")));
            }
        }
        Ok(())
    }

    /// σ_b among so many clients.
    fn count_std_of(&self, cohort: usize) -> f64 {
        self.count_std.unwrap_or(cohort as f64 / CLIENTS)
    }

    /// No noise multiplier reaches this: the noise of the count alone would be too little.
    pub(super) fn most_noise(&self, cohort: usize) -> f64 {
        2.0 * self.count_std_of(cohort)
    }
}

/// How the updates of a run enter its sums, and how its clip moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clipping {
    config: AdaptiveClip,
    /// The largest clip.
    most: f64,
    /// z.
    multiplier: f64,
    count_std: f64,
}

impl Clipping {
    /// Of a run with the noise multiplier `multiplier`.
    ///
    /// # Errors
    /// A first clip beyond the largest; noise of the count that is too little for the multiplier.
    pub(super) fn new(config: AdaptiveClip, known: &Known, multiplier: f64) -> Result<Self> {
        let at = |key: &str, rule: String| {
            Err(Error::config(format!("privacy.release.adaptive_clip.{key}"), rule))
        };
        if let Some(initial) = config.initial.filter(|initial| *initial > known.clip) {
            let rule = format!("{initial} is above solver.clip_norm = {}, which bounds it", known.clip);
            return at("initial", rule);
        }
        let count_std = config.count_std_of(known.cohort);
        if multiplier >= config.most_noise(known.cohort) {
            let rule = format!(
                "{count_std} is too little beside the noise multiplier {multiplier}; give more than half of that, or take larger \
                 rounds"
            );
            return at("count_std", rule);
        }
        Ok(Self { config, most: known.clip, multiplier, count_std })
    }

    /// The clip of the first round.
    #[must_use]
    pub fn initial(&self) -> f64 {
        self.config.initial.unwrap_or(self.most)
    }

    /// z_Δ: the standard deviation of the noise of the updates over the clip of the round and the largest
    /// weight.
    #[must_use]
    pub fn update_multiplier(&self) -> f64 {
        self.multiplier / self.scale()
    }

    /// √(1 − (z/2σ_b)²) = z/z_Δ.
    fn scale(&self) -> f64 {
        (1.0 - (self.multiplier / (2.0 * self.count_std)).powi(2)).sqrt()
    }

    /// One client in the last coordinate.
    fn client(&self) -> f64 {
        self.most * self.multiplier / self.count_std
    }

    /// What enters the sum of an update (d numbers), which is at most `clip` long and was so before it was
    /// clipped, if `below`: d + 1 numbers.
    #[must_use]
    pub fn enter(&self, clip: f64, update: &[f32], below: bool) -> Vec<f32> {
        let factor = (self.scale() * self.most / clip) as f32;
        let half = if below { 0.5 } else { -0.5 };
        update.iter().map(|x| factor * x).chain([(half * self.client()) as f32]).collect()
    }

    /// Turns the sum of what entered (d + 1 numbers) into that of the updates (d numbers). Returns that of
    /// the w_k (b_k − ½), with its noise.
    pub fn leave(&self, clip: f64, sum: &mut Vec<f64>) -> f64 {
        let count = sum.pop().unwrap_or_default() / self.client();
        let factor = clip / (self.scale() * self.most);
        sum.iter_mut().for_each(|x| *x *= factor);
        count
    }

    /// The clip after a round in which the share `below` of the clients was below `clip`:
    /// C · exp(−η (share − γ)).
    #[must_use]
    pub fn next(&self, clip: f64, below: f64) -> f64 {
        let AdaptiveClip { quantile, rate, .. } = self.config;
        (clip * (-rate * (below - quantile)).exp()).clamp(LEAST * self.most, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Sampling;
    use crate::algebra::gaussian;
    use crate::seed::Seed;

    fn known() -> Known {
        Known {
            clip: 4.0,
            weight: 1.0,
            coordinates: 3,
            cohort: 40,
            participations: 10,
            rounds: 10,
            attempts: 1,
            singly: false,
            sampling: Sampling::None,
            distance: 1.0,
        }
    }

    fn clipping(config: AdaptiveClip, multiplier: f64) -> Clipping {
        Clipping::new(config, &known(), multiplier).unwrap()
    }

    /// z = 2.4 and σ_b = 2 (40 clients): z/2σ_b = 0.6, so that 0.8 of C = 4 is left to the update, and one
    /// client counts 4 · 2.4/2 = 4.8. z_Δ = 2.4/0.8 = 3 = (2.4⁻² − 4⁻²)^(−½).
    #[test]
    fn an_update_and_its_bit_are_as_long_as_the_largest_clip() {
        let clipping = clipping(AdaptiveClip { initial: Some(0.5), ..AdaptiveClip::default() }, 2.4);
        assert_eq!(clipping.initial(), 0.5);
        assert!((clipping.update_multiplier() - 3.0).abs() < 1e-12);
        assert!(
            (clipping.update_multiplier() - (2.4f64.powi(-2) - 4.0f64.powi(-2)).powf(-0.5)).abs() < 1e-12
        );
        let entered = clipping.enter(0.5, &[0.3, -0.4], true);
        let want = [0.3 * 6.4, -0.4 * 6.4, 2.4f32];
        assert!(entered.iter().zip(want).all(|(x, want)| (x - want).abs() < 1e-6), "{entered:?}");
        assert!((entered.iter().map(|x| x * x).sum::<f32>() - 16.0).abs() < 1e-5);
        // Two clients, one of them clipped: the updates add up to themselves, the bits to 0.
        let other = clipping.enter(0.5, &[0.0, 0.5], false);
        let mut sum: Vec<f64> =
            entered.iter().zip(other).map(|(a, b)| f64::from(*a) + f64::from(b)).collect();
        assert!(clipping.leave(0.5, &mut sum).abs() < 1e-6);
        assert!((sum[0] - 0.3).abs() < 1e-6 && (sum[1] - 0.1).abs() < 1e-6 && sum.len() == 2, "{sum:?}");
        // Noise z C in every coordinate is z_Δ C_t beside the updates and σ_b beside the count.
        let mut noise = vec![2.4 * 4.0; 3];
        assert!((clipping.leave(0.5, &mut noise) - 2.0).abs() < 1e-12);
        assert!(noise.iter().all(|x| (x - 3.0 * 0.5).abs() < 1e-12), "{noise:?}");
    }

    /// Three quarters below where a half is to be: 2 e^(−0.2/4).
    #[test]
    fn the_rule_by_hand() {
        let clipping = clipping(AdaptiveClip::default(), 1.0);
        assert!((clipping.next(2.0, 0.75) - 2.0 * (-0.05f64).exp()).abs() < 1e-15);
        assert!((clipping.next(2.0, 0.25) - 2.0 * 0.05f64.exp()).abs() < 1e-15);
        assert_eq!(clipping.next(2.0, 0.5), 2.0);
        assert_eq!(clipping.next(4.0, 0.0), 4.0, "solver.clip_norm bounds it");
        assert_eq!(clipping.next(1e-8, 1e3), 4e-9, "and it never vanishes");
    }

    /// Norms e^{N(0, 1)/2} of 40 clients, whose quantile at 0.8 is e^(0.8416/2) = 1.523; from 40 times less
    /// and from the largest. The mean over 300 rounds of the logarithm of a clip that η = 0.2 and noise of
    /// two clients keep moving is within 0.1 of it: four standard errors of a share are 4 (0.063 + 0.05)/√300
    /// = 0.026, over the density 0.56 of the logarithms there 0.047.
    #[test]
    fn the_clip_settles_at_the_quantile() {
        for initial in [0.04, 4.0] {
            let config = AdaptiveClip { quantile: 0.8, initial: Some(initial), ..AdaptiveClip::default() };
            let clipping = clipping(config, 1.0);
            let (mut clip, mut mean) = (clipping.initial(), 0.0);
            for round in 0..400 {
                let mut draws = vec![0.0; 41];
                gaussian::fill_f64(&mut Seed::new(5).bulk(round), &mut draws);
                let below = draws[..40].iter().filter(|x| (*x / 2.0).exp() <= clip).count() as f64;
                clip = clipping.next(clip, (below + 2.0 * draws[40]) / 40.0);
                mean += if round < 100 { 0.0 } else { clip.ln() / 300.0 };
            }
            assert!((mean - 0.8416 / 2.0).abs() < 0.1, "{initial}: {mean}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let line = |config: AdaptiveClip| {
            config.check().and_then(|()| Clipping::new(config, &known(), 4.0)).unwrap_err().to_string()
        };
        let at = AdaptiveClip::default();
        assert_eq!(
            line(AdaptiveClip { quantile: 1.0, ..at }),
            "quantile: 1 must be greater than 0 and below 1"
        );
        assert_eq!(line(AdaptiveClip { rate: 0.0, ..at }), "rate: 0 must be a finite number greater than 0");
        assert_eq!(
            line(AdaptiveClip { initial: Some(5.0), ..at }),
            "privacy.release.adaptive_clip.initial: 5 is above solver.clip_norm = 4, which bounds it"
        );
        assert_eq!(
            line(at),
            "privacy.release.adaptive_clip.count_std: 2 is too little beside the noise multiplier 4; give more than half of that, or \
             take larger rounds"
        );
    }
}
