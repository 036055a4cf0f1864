//! How a run ended, and when it reached its target accuracy.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Diverged, Exhausted, Row};
use crate::release::Promise;

/// What `run.json` receives when the last round is over, or one has diverged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Rounds played.
    pub rounds: u64,
    /// Its target, if it had one.
    pub target: Option<Target>,
    /// The patience that was at its end, if it had one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<Exhausted>,
    /// Why there is no further round, if the run diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<Diverged>,
    /// What the run tells about its clients, if that is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promise>,
}

/// A target accuracy and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The test accuracy (fraction) to reach.
    pub accuracy: f64,
    /// When a test first saw it; `null` when none did.
    pub reached: Option<Reached>,
}

/// What was spent until a target was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The round whose test saw it.
    pub round: u64,
    /// Bytes between clients up to that round, lost messages included.
    pub bytes_client_client: u64,
    /// Bytes to the server up to that round, lost messages included.
    pub bytes_client_server: u64,
    /// Simulated seconds on the links up to that round; `null` where the links know no time.
    pub seconds_simulated: Option<f64>,
}

impl Row {
    /// Whether the global model was tested after the round.
    #[must_use]
    pub fn is_tested(&self) -> bool {
        self.test_accuracy.is_some() || self.test_loss.is_some()
    }

    /// Whether the round was tested and reached this accuracy.
    #[must_use]
    pub fn reaches(&self, accuracy: f64) -> bool {
        self.test_accuracy.is_some_and(|own| own >= accuracy)
    }
}

impl Target {
    /// When these rounds, from the first on, reach the accuracy.
    #[must_use]
    pub fn of(accuracy: f64, rows: &[Row]) -> Self {
        let reached = rows.iter().position(|row| row.reaches(accuracy)).map(|last| {
            let spent = &rows[..=last];
            Reached {
                round: rows[last].round,
                bytes_client_client: spent.iter().map(Row::bytes_between).sum(),
                bytes_client_server: spent.iter().map(Row::bytes_to_server).sum(),
                seconds_simulated: spent.iter().map(|row| row.seconds_simulated).sum(),
            }
        });
        Self { accuracy, reached }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "target {} % ", 100.0 * self.accuracy)?;
        let Some(reached) = &self.reached else { return write!(f, "not reached") };
        write!(
            f,
            "reached in round {} after {:.1} MB between clients and {:.1} MB to the server",
            reached.round,
            reached.bytes_client_client as f64 / 1e6,
            reached.bytes_client_server as f64 / 1e6
        )?;
        match reached.seconds_simulated {
            Some(seconds) => write!(f, ", {seconds:.1} s simulated"),
            None => Ok(()),
        }
    }
}
