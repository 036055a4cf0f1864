//! `[privacy.release]`.

use serde::{Deserialize, Serialize};

use super::AdaptiveClip;
use crate::account::Adjacency;
use crate::error::{Error, Result};

/// Most rounds whose noise a round's is made of.
const MOST_BANDS: usize = 1000;

/// The law of the noise in a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseKind {
    /// Gaussian over the reals, Skellam over a prime field.
    #[default]
    Auto,
    /// Gaussian, over the reals.
    Gaussian,
    /// The difference of two Poisson numbers, over a prime field (Agarwal, Kairouz, Liu 2021).
    Skellam,
    /// The discrete Gaussian, over a prime field (Kairouz, Liu, Steinke 2021).
    DiscreteGaussian,
}

/// Who adds the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Every client its share: nobody need be trusted.
    #[default]
    Clients,
    /// The server, which is trusted with what it receives (DP-FedAvg, McMahan et al. 2018).
    Server,
}

/// Who looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Adversary {
    /// The server, with the colluders: it sees every message to it, and who took part.
    #[default]
    Server,
    /// Who sees every model and nothing else.
    Observer,
}

impl Adversary {
    /// The name used in configurations and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Observer => "observer",
        }
    }
}

/// Noise in the sums that a run releases, and how much of it. Updates must be clipped (`solver.clip_norm`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReleaseConfig {
    /// The noise: "gaussian" over the reals, "skellam" or "discrete-gaussian" with arithmetic = "field";
    /// "auto" takes the first or the second.
    pub noise: NoiseKind,
    /// Who adds it: "clients", each its share, so that nobody sees a sum without it; or a trusted "server".
    pub by: By,
    /// z: the noise of a sum has the standard deviation z C w in every coordinate, C = `solver.clip_norm`, w
    /// the largest weight. Above 0; this or `epsilon`.
    #[schemars(range(min = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
    /// ε of the whole run against `against`: the least noise that keeps it. Above 0; this or
    /// `noise_multiplier`.
    #[schemars(range(min = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// δ of (ε, δ)-differential privacy; greater than 0, below 1, and well below one over the number of
    /// clients.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub delta: f64,
    /// Whom `epsilon` and `budget` are about: the "server" with its colluders, who knows who takes part, or
    /// an "observer" of all models.
    pub against: Adversary,
    /// Clients T who may tell the server their updates, keys and noise: the others add so much that it is
    /// enough without theirs.
    pub colluders: usize,
    /// Which runs are neighbours: "replace-one" (a client has other examples, its update moves by up to 2C),
    /// "zero-out" (it sends zeros, C), or with `cohort.rate` "add-or-remove" (it is not there, C).
    pub adjacency: Adjacency,
    /// ε that is never exceeded: the run ends before the round that could. Above 0; no budget by default.
    #[schemars(range(min = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
    /// Whether updates are turned by a random rotation first, drawn anew for every round and known to all,
    /// which makes their coordinates alike: where a sum of few bits has to do, such as with modulus =
    /// "2^31-1".
    pub flatten: bool,
    /// The largest weight of a client, in units of the mean one: larger ones count as this, so that noise for
    /// a few large clients does not drown everybody. At least 1; unbounded by default.
    #[schemars(range(min = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_weight: Option<f64>,
    /// Noise that takes itself back: the server's noise of a round is made of that of so many rounds, the
    /// last of them its own, so that a model, the sum of all rounds, has less (DP-FTRL by matrix
    /// factorisation); 1 to 1000, with by = "server". 2 to 4 are good where clients are drawn for a tenth of
    /// the rounds. By default each round has noise of its own.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bands: Option<usize>,
    /// A clip that follows the norms of the updates; `solver.clip_norm` throughout by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_clip: Option<AdaptiveClip>,
}

impl Default for ReleaseConfig {
    fn default() -> Self {
        Self {
            noise: NoiseKind::default(),
            by: By::default(),
            noise_multiplier: None,
            epsilon: None,
            delta: 1e-5,
            against: Adversary::default(),
            colluders: 0,
            adjacency: Adjacency::ReplaceOne,
            budget: None,
            flatten: false,
            largest_weight: None,
            bands: None,
            adaptive_clip: None,
        }
    }
}

impl ReleaseConfig {
    /// Checks what needs no scheme.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, rule: String| Err(Error::config(key, rule));
        let positive =
            [("noise_multiplier", self.noise_multiplier), ("epsilon", self.epsilon), ("budget", self.budget)];
        for (key, value) in positive {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return refuse(key, format!("{value} must be a finite number greater than 0"));
            }
        }
        match (self.noise_multiplier, self.epsilon) {
            (None, None) => {
                return refuse("epsilon", "say how much noise there is: epsilon, or noise_multiplier".into());
            }
            (Some(_), Some(_)) => {
                return refuse(
                    "epsilon",
                    "noise_multiplier already says how much noise there is; give one of both".into(),
                );
            }
            _ => {}
        }
        if !(self.delta > 0.0 && self.delta < 1.0) {
            return refuse("delta", format!("{} must be greater than 0 and below 1", self.delta));
        }
        if let Some(weight) = self.largest_weight.filter(|weight| !(weight.is_finite() && *weight >= 1.0)) {
            return refuse("largest_weight", format!("{weight} must be a finite number of at least 1"));
        }
        if let Some(adaptive) = &self.adaptive_clip {
            adaptive.check().map_err(|error| error.within("adaptive_clip"))?;
        }
        if let Some(bands) = self.bands {
            if !(1..=MOST_BANDS).contains(&bands) {
                return refuse("bands", format!("{bands} is out of range; give 1 to {MOST_BANDS}"));
            }
            if self.by == By::Clients {
                let rule = "clients cannot take back what others added in earlier rounds; take by = \"server\" or remove it";
                return refuse("bands", rule.into());
            }
            if self.adaptive_clip.is_some() {
                let rule = "noise of rounds with other clips is not taken back; remove it or adaptive_clip";
                return refuse("bands", rule.into());
            }
        }
        if self.by == By::Server {
            if self.against == Adversary::Server {
                let rule = "a server that adds the noise sees everything without it; take \"observer\", or by = \"clients\"";
                return refuse("against", rule.into());
            }
            if self.colluders > 0 {
                return refuse("colluders", "belongs to by = \"clients\"; set that or remove it".into());
            }
            if self.flatten {
                return refuse("flatten", "belongs to by = \"clients\"; set that or remove it".into());
            }
            if !matches!(self.noise, NoiseKind::Auto | NoiseKind::Gaussian) {
                return refuse("noise", "a server adds Gaussian noise; take \"gaussian\" or \"auto\"".into());
            }
        }
        Ok(())
    }
}
