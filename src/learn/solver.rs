//! Local solvers: how a client moves its weights in one round.

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::choice,
    error::{Error, Result},
};

/// The state of one client's solver during one round; fresh in every round.
///
/// A solver that corrects gradients (the proximal term of FedProx, the control variates of SCAFFOLD) needs
/// the weights at the start of the round: the first call for a parameter carries them.
pub trait LocalSolver {
    /// One step of parameter number `parameter` (in the order of the flat vector): the new weights from
    /// the weights and the gradient of the batch's mean loss, all of shape `[parameter's size]`.
    fn step(&mut self, parameter: usize, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1>;
}

choice! {
    /// How a client trains in one round.
    SolverConfig by "kind" {
        /// Stochastic gradient descent with momentum and weight decay.
        "sgd" => Sgd(SgdConfig),
    }
}

impl Default for SolverConfig {
    fn default() -> Self {
        Self::Sgd(SgdConfig::default())
    }
}

impl SolverConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Sgd(sgd) => sgd.check(),
        }
    }

    /// A fresh solver for one round of one client.
    #[must_use]
    pub fn begin(&self) -> Box<dyn LocalSolver> {
        match self {
            Self::Sgd(sgd) => Box::new(Sgd { config: sgd.clone(), velocity: Vec::new() }),
        }
    }

    /// Images per step.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        match self {
            Self::Sgd(sgd) => sgd.batch_size,
        }
    }

    /// Steps of one round for a client with `examples` examples.
    #[must_use]
    pub fn steps(&self, examples: usize) -> usize {
        match self {
            _ if examples == 0 => 0,
            Self::Sgd(SgdConfig { steps: Some(steps), .. }) => *steps,
            Self::Sgd(sgd) => sgd.epochs.unwrap_or(1) * examples.div_ceil(sgd.batch_size),
        }
    }

    /// The bound C on the L2 norm of the whole update, if any.
    #[must_use]
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::Sgd(sgd) => sgd.clip_norm,
        }
    }
}

/// Stochastic gradient descent in PyTorch's convention: g ← g + λw, v ← μv + g, w ← w − ηv, with v = g at the
/// first step of every round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SgdConfig {
    /// Step size η, above 0.
    #[schemars(range(min = 0.0))]
    pub learning_rate: f64,
    /// Momentum μ, from 0 to below 1. The velocity starts afresh in every round.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// L2 penalty λ: λw is added to the gradient. At least 0.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Passes over the client's examples in one round, at least 1. Give `epochs` or `steps`; with neither, 1 epoch.
    #[schemars(range(min = 1))]
    pub epochs: Option<usize>,
    /// Batches in one round, at least 1; examples are shuffled again whenever all were used. Give `epochs` or `steps`.
    #[schemars(range(min = 1))]
    pub steps: Option<usize>,
    /// Images per batch, at least 1. The last batch of an epoch holds what is left.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Bound on the L2 norm of a client's whole update of one round, above 0; a longer update is scaled
    /// down to it. Without it, updates are not clipped.
    #[schemars(range(min = 0.0))]
    pub clip_norm: Option<f64>,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self {
            learning_rate: 0.05,
            momentum: 0.0,
            weight_decay: 0.0,
            epochs: None,
            steps: None,
            batch_size: 32,
            clip_norm: None,
        }
    }
}

impl SgdConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check(&self) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let refuse = |key, rule: String| Err(Error::config(key, rule));
        if !positive(self.learning_rate) {
            return refuse(
                "learning_rate",
                format!("must be a finite number above 0, not {}; try 0.05", self.learning_rate),
            );
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return refuse(
                "momentum",
                format!("must be at least 0 and below 1, not {}; try 0 or 0.9", self.momentum),
            );
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return refuse(
                "weight_decay",
                format!("must be a finite number of at least 0, not {}", self.weight_decay),
            );
        }
        if self.epochs.is_some() && self.steps.is_some() {
            return refuse("steps", "cannot stand beside `epochs`; remove one of the two".into());
        }
        for (key, value) in
            [("epochs", self.epochs), ("steps", self.steps), ("batch_size", Some(self.batch_size))]
        {
            if value == Some(0) {
                return refuse(key, "must be at least 1".into());
            }
        }
        match self.clip_norm {
            Some(clip) if !positive(clip) => refuse(
                "clip_norm",
                format!("must be a finite number above 0, not {clip}; remove it to leave updates unclipped"),
            ),
            _ => Ok(()),
        }
    }
}

struct Sgd {
    config: SgdConfig,
    velocity: Vec<Option<Tensor<1>>>,
}

impl LocalSolver for Sgd {
    fn step(&mut self, parameter: usize, weight: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let SgdConfig { learning_rate, momentum, weight_decay, .. } = self.config;
        let mut direction = gradient;
        if weight_decay > 0.0 {
            direction = direction + weight.clone().mul_scalar(weight_decay);
        }
        if momentum > 0.0 {
            if self.velocity.len() <= parameter {
                self.velocity.resize(parameter + 1, None);
            }
            if let Some(velocity) = self.velocity[parameter].take() {
                direction = velocity.mul_scalar(momentum) + direction;
            }
            self.velocity[parameter] = Some(direction.clone());
        }
        weight - direction.mul_scalar(learning_rate)
    }
}

/// Scales `update` so that its L2 norm is at most `bound`.
///
/// A norm that is not finite is left alone: a diverged client shows as NaN instead of as a small update.
pub fn clip(update: &mut [f32], bound: f64) {
    let norm = update.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    if norm > bound && norm.is_finite() {
        // Rounding a product to f32 can lengthen it by 2⁻²⁴; the margin keeps the bound a bound.
        let scale = (bound / norm * (1.0 - 2f64.powi(-22))) as f32;
        update.iter_mut().for_each(|x| *x *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_names_its_key() {
        let ok = SgdConfig::default();
        ok.check().unwrap();
        for (bad, key) in [
            (SgdConfig { learning_rate: 0.0, ..ok.clone() }, "learning_rate"),
            (SgdConfig { learning_rate: f64::NAN, ..ok.clone() }, "learning_rate"),
            (SgdConfig { momentum: 1.0, ..ok.clone() }, "momentum"),
            (SgdConfig { weight_decay: -1.0, ..ok.clone() }, "weight_decay"),
            (SgdConfig { epochs: Some(1), steps: Some(1), ..ok.clone() }, "steps"),
            (SgdConfig { epochs: Some(0), ..ok.clone() }, "epochs"),
            (SgdConfig { steps: Some(0), ..ok.clone() }, "steps"),
            (SgdConfig { batch_size: 0, ..ok.clone() }, "batch_size"),
            (SgdConfig { clip_norm: Some(0.0), ..ok.clone() }, "clip_norm"),
        ] {
            let error = SolverConfig::Sgd(bad).check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
    }

    #[test]
    fn toml_accepts_steps_alone() {
        let solver: SolverConfig = toml::from_str("kind = \"sgd\"\nsteps = 5").unwrap();
        solver.check().unwrap();
        assert_eq!(solver.steps(1000), 5);
        assert_eq!(SolverConfig::default().steps(65), 3);
        let error = toml::from_str::<SolverConfig>("kind = \"sgd\"\nstep = 5").unwrap_err();
        assert!(error.to_string().contains("unknown field `step`"), "{error}");
    }

    #[test]
    fn clipping_bounds_the_norm_and_keeps_short_updates() {
        let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let mut long: Vec<f32> = (0..10_000).map(|i| (i as f32).sin()).collect();
        let before = long.clone();
        clip(&mut long, 1.0);
        assert!(norm(&long) <= 1.0 && norm(&long) > 1.0 - 1e-6, "{}", norm(&long));
        let scale = long[1] / before[1];
        assert!(before.iter().zip(&long).all(|(b, a)| (b * scale - a).abs() <= 1e-6 * a.abs()));
        let mut short = vec![0.3, 0.4];
        clip(&mut short, 0.6);
        assert_eq!(short, [0.3, 0.4]);
        let mut diverged = vec![f32::NAN, 1.0];
        clip(&mut diverged, 0.1);
        assert!(diverged[0].is_nan() && diverged[1] == 1.0);
    }
}
