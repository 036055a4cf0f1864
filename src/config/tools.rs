//! What the tools over runs vary: the sections `[attack]` and `[study]`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What `seccogc attack` tries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AttackConfig {
    /// Standard deviations σ of the keys under attack, in the unit of the update; each greater than 0. The
    /// case without keys is always tried first.
    pub key_stds: Vec<f64>,
    /// Steps of the gradient matching for one image; at least 1.
    #[schemars(range(min = 1))]
    pub iterations: usize,
    /// Training examples that every client keeps for the tests of membership, fewer being easier to
    /// recognise; at least 1.
    #[schemars(range(min = 1))]
    pub examples: usize,
    /// Runs that are played to attack what they release (`--released`), each with and without other clients;
    /// at least 4.
    #[schemars(range(min = 4))]
    pub runs: usize,
}

impl Default for AttackConfig {
    fn default() -> Self {
        Self { key_stds: vec![0.001, 0.01, 1.0, 100.0], iterations: 300, examples: 30, runs: 16 }
    }
}

impl AttackConfig {
    pub(crate) fn check(&self) -> Result<()> {
        if !self.key_stds.iter().all(|std| std.is_finite() && *std > 0.0) {
            return Err(Error::config("key_stds", "give finite standard deviations greater than 0"));
        }
        for (key, value) in [("iterations", self.iterations), ("examples", self.examples)] {
            if value == 0 {
                return Err(Error::config(key, "0 is too small; give at least 1"));
            }
        }
        if self.runs < 4 {
            return Err(Error::config("runs", format!("{} is too small; give at least 4", self.runs)));
        }
        Ok(())
    }
}

/// What `seccogc privacy` varies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StudyConfig {
    /// Standard deviations σ that replace `key_std` of every protocol of `[[compare]]` that has keys or
    /// noise, in the unit of the update; at least one, each greater than 0, ascending.
    pub key_stds: Vec<f64>,
}

impl Default for StudyConfig {
    fn default() -> Self {
        Self { key_stds: vec![0.1, 1.0, 10.0, 100.0] }
    }
}

impl StudyConfig {
    pub(crate) fn check(&self) -> Result<()> {
        let ascending = self.key_stds.is_sorted_by(|a, b| a < b);
        let positive = self.key_stds.iter().all(|std| std.is_finite() && *std > 0.0);
        if self.key_stds.is_empty() || !ascending || !positive {
            let rule = "give at least one standard deviation, each finite and greater than 0, ascending";
            return Err(Error::config("key_stds", rule));
        }
        Ok(())
    }
}
