//! Learning-rate schedules over rounds: the factor on the solver's learning rate.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    choice::choice,
    error::{Error, Result},
};

/// How the clients' learning rate changes over the rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Rounds in which the learning rate first rises linearly to its full value; fewer than `rounds`, 0 for
    /// none.
    pub warm_up: u64,
    /// The course after the warm-up.
    pub decay: DecayConfig,
}

choice! {
    /// The course of the learning rate, chosen by `kind`; u counts the rounds since the warm-up, from 0.
    DecayConfig by "kind" or "constant" {
        /// The full learning rate.
        "constant" => Constant(ConstantDecay),
        /// factor^⌊u / every⌋.
        "step" => Step(StepDecay),
        /// factor^u.
        "exponential" => Exponential(ExponentialDecay),
        /// From 1 to `floor` along half a cosine over all rounds (Loshchilov & Hutter, SGDR, ICLR 2017, eq.
        /// 5, without restarts).
        "cosine" => Cosine(CosineDecay),
    }
}

/// Nothing to configure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantDecay {}

/// A staircase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StepDecay {
    /// Rounds between two reductions, at least 1.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// Factor of each, above 0 and at most 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
}

/// A geometric decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExponentialDecay {
    /// Factor from one round to the next, above 0 and at most 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub factor: f64,
}

/// Cosine annealing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CosineDecay {
    /// Factor that the last round approaches, from 0 to below 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub floor: f64,
}

impl Default for StepDecay {
    fn default() -> Self {
        Self { every: 50, factor: 0.5 }
    }
}

impl Default for ExponentialDecay {
    fn default() -> Self {
        Self { factor: 0.99 }
    }
}

impl Default for DecayConfig {
    fn default() -> Self {
        Self::Constant(ConstantDecay {})
    }
}

impl ScheduleConfig {
    /// Checks every value for a run of `rounds` rounds.
    ///
    /// # Errors
    /// [`Error::Config`] with a key relative to the section.
    pub fn check(&self, rounds: u64) -> Result<()> {
        if self.warm_up > 0 && self.warm_up >= rounds {
            let rule = format!("{} must be fewer than the {rounds} rounds", self.warm_up);
            return Err(Error::config("warm_up", rule));
        }
        let factor = match &self.decay {
            DecayConfig::Constant(_) => return Ok(()),
            DecayConfig::Step(StepDecay { every: 0, .. }) => {
                return Err(Error::config("decay.every", "0 is too small; give at least 1"));
            }
            DecayConfig::Cosine(CosineDecay { floor }) if (0.0..1.0).contains(floor) => return Ok(()),
            DecayConfig::Cosine(CosineDecay { floor }) => {
                return Err(Error::config(
                    "decay.floor",
                    format!("must be at least 0 and below 1, not {floor}"),
                ));
            }
            DecayConfig::Step(StepDecay { factor, .. })
            | DecayConfig::Exponential(ExponentialDecay { factor }) => *factor,
        };
        if factor > 0.0 && factor <= 1.0 {
            Ok(())
        } else {
            Err(Error::config("decay.factor", format!("must be above 0 and at most 1, not {factor}")))
        }
    }

    /// The factor in `round` (from 1) of `rounds`, in (0, 1\].
    #[must_use]
    pub fn factor(&self, round: u64, rounds: u64) -> f64 {
        let Some(since) = round.checked_sub(1 + self.warm_up) else {
            return round as f64 / (self.warm_up + 1) as f64;
        };
        match &self.decay {
            DecayConfig::Constant(_) => 1.0,
            DecayConfig::Step(StepDecay { every, factor }) => factor.powf((since / every) as f64),
            DecayConfig::Exponential(ExponentialDecay { factor }) => factor.powf(since as f64),
            DecayConfig::Cosine(CosineDecay { floor }) => {
                let done = since as f64 / (rounds - self.warm_up) as f64;
                floor + (1.0 - floor) * (1.0 + (PI * done).cos()) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(toml: &str, rounds: u64) -> Vec<f64> {
        let schedule: ScheduleConfig = toml::from_str(toml).unwrap();
        schedule.check(rounds).unwrap();
        (1..=rounds).map(|round| schedule.factor(round, rounds)).collect()
    }

    #[test]
    fn known_courses() {
        assert_eq!(course("", 3), [1.0; 3]);
        assert_eq!(course("warm_up = 3", 5), [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(
            course("warm_up = 1\ndecay = { kind = \"step\", every = 2, factor = 0.5 }", 6),
            [0.5, 1.0, 1.0, 0.5, 0.5, 0.25]
        );
        assert_eq!(course("decay = { kind = \"exponential\", factor = 0.5 }", 4), [1.0, 0.5, 0.25, 0.125]);
        let cosine = course("decay = { kind = \"cosine\", floor = 0.2 }", 4);
        let want = [1.0, 0.6 + 0.4 * 0.5f64.sqrt(), 0.6, 0.6 - 0.4 * 0.5f64.sqrt()];
        assert!(cosine.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-15), "{cosine:?}");
    }

    #[test]
    fn every_rule_names_its_key() {
        for (toml, key) in [
            ("warm_up = 10", "warm_up"),
            ("decay = { kind = \"step\", every = 0 }", "decay.every"),
            ("decay = { kind = \"step\", factor = 1.5 }", "decay.factor"),
            ("decay = { kind = \"exponential\", factor = 0.0 }", "decay.factor"),
            ("decay = { kind = \"cosine\", floor = 1.0 }", "decay.floor"),
        ] {
            let error = toml::from_str::<ScheduleConfig>(toml).unwrap().check(10).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
    }
}
