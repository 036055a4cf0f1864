//! The sections that belong to no other module.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::record::Stop;
use crate::release::ReleaseConfig;

/// Testing of the global model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Test accuracy and loss are computed every this many rounds and after the last one; at least 1.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// Share of every client's examples that is kept out of its training and on which the global model is
    /// then tested for that client, from 0 to below 1: how fair is the model? The figures of the worst and
    /// the best client are in rounds.csv, those of every client in clients.csv. 0: every client trains on all
    /// it has.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub client_share: f64,
    /// Test accuracy (a fraction, greater than 0, at most 1) to reach: every run of train, compare and sweep
    /// tells after how many rounds, bytes and simulated seconds a test first saw it; no target by default.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub target: Option<f64>,
    /// Whether a run ends with the round that reaches `target`.
    pub stop_at_target: bool,
    /// Tests in a row without a better test accuracy after which a run ends, at least 1; by default it plays
    /// all its rounds. With `record.best` the best model is kept.
    #[schemars(range(min = 1))]
    pub patience: Option<u64>,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { every: 5, client_share: 0.0, target: None, stop_at_target: true, patience: None }
    }
}

impl EvaluationConfig {
    /// What ends a run before its last round.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop { target: self.target, at_target: self.stop_at_target, patience: self.patience }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.every == 0 {
            return Err(Error::config("every", "0 is too small; give at least 1"));
        }
        if !(0.0..1.0).contains(&self.client_share) {
            let rule =
                format!("{} must be at least 0 and below 1; try 0.2, or 0 for no test", self.client_share);
            return Err(Error::config("client_share", rule));
        }
        if self.patience == Some(0) {
            let rule = "0 is too small; give at least 1, or leave the key out to play all rounds";
            return Err(Error::config("patience", rule));
        }
        match self.target {
            Some(target) if !(target > 0.0 && target <= 1.0) => {
                let rule =
                    format!("{target} is not an accuracy; give a fraction greater than 0 and at most 1");
                Err(Error::config("target", rule))
            }
            _ => Ok(()),
        }
    }
}

/// Measuring leakage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyConfig {
    /// Whether every round's leakage is computed from the messages that were sent; for cohorts of up to 200
    /// clients.
    pub measure: bool,
    /// Assumed standard deviation of one coordinate of a client's update, in the unit of the update; greater
    /// than 0.
    #[schemars(range(min = 0.0))]
    pub update_std: f64,
    /// δ of (ε, δ)-local differential privacy in audits; greater than 0, below 1. Updates must be clipped
    /// (`solver.clip_norm`) for ε to be finite.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ldp_delta: f64,
    /// Bound on ε over all rounds, at every layer (beyond the sum where the sum is seen), greater than 0; no
    /// bound by default. `seccogc audit` exits with code 1 when it is exceeded.
    #[schemars(range(min = 0.0))]
    pub max_ldp_epsilon: Option<f64>,
    /// Bound on the local mutual information privacy at every layer, bits per coordinate, greater than 0; no
    /// bound by default. `seccogc audit` exits with code 1 when it is exceeded.
    #[schemars(range(min = 0.0))]
    pub max_lmip_bits: Option<f64>,
    /// Noise in what is released, the sums and the models; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseConfig>,
}

impl Default for PrivacyConfig {
    fn default() -> Self {
        Self {
            measure: true,
            update_std: 1.0,
            ldp_delta: 1e-5,
            max_ldp_epsilon: None,
            max_lmip_bits: None,
            release: None,
        }
    }
}

impl PrivacyConfig {
    pub(super) fn check(&self) -> Result<()> {
        if !(self.ldp_delta > 0.0 && self.ldp_delta < 1.0) {
            let rule = format!("{} must be greater than 0 and below 1", self.ldp_delta);
            return Err(Error::config("ldp_delta", rule));
        }
        for (key, bound) in [("max_ldp_epsilon", self.max_ldp_epsilon), ("max_lmip_bits", self.max_lmip_bits)]
        {
            if let Some(bound) = bound.filter(|bound| !(bound.is_finite() && *bound > 0.0)) {
                return Err(Error::config(key, format!("{bound} must be a finite number greater than 0")));
            }
        }
        self.release
            .as_ref()
            .map_or(Ok(()), |release| release.check().map_err(|error| error.within("release")))
    }
}

/// The run directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecordConfig {
    /// A checkpoint is written every this many rounds and after the last one; at least 1.
    #[schemars(range(min = 1))]
    pub checkpoint_every: u64,
    /// Whether the model of the highest test accuracy, the first of equal ones, is kept as
    /// `best.safetensors`; a checkpoint is then written with it. The tests that choose it also measure it:
    /// its accuracy is a little too high.
    pub best: bool,
    /// Whether the numbers of every round also go into an event file, which TensorBoard shows:
    /// `tensorboard --logdir runs`.
    pub tensorboard: bool,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self { checkpoint_every: 10, best: false, tensorboard: false }
    }
}

/// What happens in a round whose sum cannot be decoded, and with numbers that are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutageConfig {
    /// What becomes of the clients' work in a round without a sum: "skip" loses it, "retry" sends the same
    /// updates again with fresh link states, with "accumulate" the clients go on training from their local
    /// models and the next success carries the longer update. With "postpone" every client whose update is
    /// not in the sum does so, also where the sum is over others: only those who were heard get the new model
    /// (FedPBC, Xiang et al. 2024). With "echo" such clients keep the model from which they trained, and
    /// what they learn when they are heard again counts as often as rounds have passed (FedAWE, Xiang et al.
    /// 2024). Under both the mean of all local models is tested too (`test_locals_accuracy`).
    pub policy: OutagePolicy,
    /// Attempts in all with policy = "retry", the first included; 2 to 10,000, by default 3.
    #[schemars(range(min = 2, max = 10_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The largest probability of an outage, greater than 0, at most 1, that `stragglers = "auto"` may take:
    /// of the codes that keep it, the one with the fewest bytes per recovered round. No bound by default.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// Largest rounding error of a decoded sum, relative to the sum's norm (or to 10⁻⁶ in every coordinate,
    /// where that is more); a sum that may be less precise is an outage for want of precision. Greater than
    /// 0, at most 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub recovery_tolerance: f64,
    /// What an update or a training loss that is not finite does: "stop" ends the run (exit code 3) before
    /// the round, "exclude" takes its client for silent in that round: it sends nothing. A run ends anyway
    /// when all clients diverge, or the sum or the model does. In a deployed run (`seccogc serve`) such
    /// clients are always silent.
    pub diverged: OnDivergence,
}

/// What becomes of a round without a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutagePolicy {
    /// The global model stays as it is; the clients' work of the round is lost.
    #[default]
    Skip,
    /// The same updates are sent again with fresh link states.
    Retry,
    /// The clients go on training from their local models; the next success carries the longer update.
    Accumulate,
    /// So does, in every round, whoever is not in the sum.
    Postpone,
    /// Whoever is not in the sum goes on from where it trained, and its next update in a sum counts once for
    /// every round since its last.
    Echo,
}

impl OutagePolicy {
    /// The name used in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Retry => "retry",
            Self::Accumulate => "accumulate",
            Self::Postpone => "postpone",
            Self::Echo => "echo",
        }
    }
}

/// What an update that is not finite does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDivergence {
    /// The run ends.
    #[default]
    Stop,
    /// Its client counts as silent in the round.
    Exclude,
}

/// Most attempts of a round: one without a sum takes them all.
const MOST_ATTEMPTS: u32 = 10_000;

/// Attempts of a round under "retry" where none are given.
const ATTEMPTS: u32 = 3;

impl Default for OutageConfig {
    fn default() -> Self {
        Self {
            policy: OutagePolicy::default(),
            attempts: None,
            at_most: None,
            recovery_tolerance: 0.01,
            diverged: OnDivergence::default(),
        }
    }
}

impl OutageConfig {
    /// Attempts per round.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        match self.policy {
            OutagePolicy::Retry => self.attempts.unwrap_or(ATTEMPTS),
            OutagePolicy::Skip | OutagePolicy::Accumulate | OutagePolicy::Postpone | OutagePolicy::Echo => 1,
        }
    }

    /// Whether clients may start a round from models of their own.
    #[must_use]
    pub fn keeps_local_models(&self) -> bool {
        self.policy == OutagePolicy::Accumulate || self.is_per_client()
    }

    /// Whether clients who are not in a round's sum keep a model of their own, not only after an outage.
    #[must_use]
    pub fn is_per_client(&self) -> bool {
        matches!(self.policy, OutagePolicy::Postpone | OutagePolicy::Echo)
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(bound) = self.at_most.filter(|bound| !(*bound > 0.0 && *bound <= 1.0)) {
            let rule = format!("{bound} is outside (0, 1]; give a probability, or leave it out");
            return Err(Error::config("at_most", rule));
        }
        match (self.policy, self.attempts) {
            (OutagePolicy::Retry, Some(few @ 0..2)) => {
                return Err(Error::config("attempts", format!("{few} is too small; give at least 2")));
            }
            (OutagePolicy::Retry, Some(many)) if many > MOST_ATTEMPTS => {
                let rule = format!("{many} is too large; the limit is {MOST_ATTEMPTS}");
                return Err(Error::config("attempts", rule));
            }
            (_, Some(_)) if self.policy != OutagePolicy::Retry => {
                return Err(Error::config(
                    "attempts",
                    "belongs to policy = \"retry\"; set that or remove it",
                ));
            }
            _ => {}
        }
        let tolerance = self.recovery_tolerance;
        if !(tolerance > 0.0 && tolerance <= 1.0) {
            let rule =
                format!("{tolerance} must be greater than 0 and at most 1; 0.01 is one per cent of the sum");
            return Err(Error::config("recovery_tolerance", rule));
        }
        Ok(())
    }
}
