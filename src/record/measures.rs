//! The numbers of one run.

use serde::{Deserialize, Serialize};

use super::{Outcome, Played, Row, Target};

/// What a run achieved and spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Rounds played.
    pub rounds_played: u64,
    /// Rounds in which the sum over all clients was decoded.
    pub recovered: u64,
    /// Test accuracy (fraction) of the last tested round; NaN when no round was tested, and when the run
    /// diverged.
    pub final_accuracy: f64,
    /// Highest test accuracy (fraction) of all tested rounds; NaN when no round was tested, and when the run
    /// diverged.
    pub best_accuracy: f64,
    /// Test loss of the last tested round; empty when no round was tested, and when the run diverged.
    #[serde(default)]
    pub final_loss: Option<f64>,
    /// Bytes between clients, to helpers and between helpers, all rounds, lost messages included.
    pub bytes_client_client: u64,
    /// Bytes to the server, from clients or helpers, all rounds, lost messages included.
    pub bytes_client_server: u64,
    /// Simulated seconds of computing and on the links; empty where neither takes time.
    pub seconds_simulated: Option<f64>,
    /// Seconds of training, coding and testing.
    pub seconds: f64,
    /// Target accuracy (fraction), if there was one.
    pub target: Option<f64>,
    /// Rounds up to the first test that saw the target; empty when none did.
    pub rounds_to_target: Option<u64>,
    /// Bytes of all messages up to there.
    pub bytes_to_target: Option<u64>,
    /// Simulated seconds up to there.
    pub seconds_to_target: Option<f64>,
    /// The round in which the run diverged, of which nothing is counted; empty when it did not.
    #[serde(default)]
    pub diverged: Option<u64>,
}

impl Measures {
    /// Of this run, with this target accuracy.
    #[must_use]
    pub fn of(played: &Played, target: Option<f64>) -> Self {
        let Played { rows, diverged } = played;
        let tested = || {
            let accuracies = rows.iter().filter(|_| diverged.is_none()).filter_map(|row| row.test_accuracy);
            accuracies.filter(|accuracy| accuracy.is_finite())
        };
        let reached = target.and_then(|accuracy| Target::of(accuracy, rows).reached);
        let reached = reached.as_ref();
        Self {
            rounds_played: rows.len() as u64,
            recovered: rows.iter().filter(|row| row.outcome == Outcome::Recovered).count() as u64,
            final_accuracy: tested().next_back().unwrap_or(f64::NAN),
            best_accuracy: tested().fold(f64::NAN, f64::max),
            final_loss: rows.iter().rev().find_map(|row| row.test_loss).filter(|_| diverged.is_none()),
            bytes_client_client: rows.iter().map(Row::bytes_between).sum(),
            bytes_client_server: rows.iter().map(Row::bytes_to_server).sum(),
            seconds_simulated: rows.iter().map(|row| row.seconds_simulated).sum(),
            seconds: rows
                .iter()
                .map(|row| row.seconds_local + row.seconds_coding + row.seconds_evaluation)
                .sum(),
            target,
            rounds_to_target: reached.map(|reached| reached.round),
            bytes_to_target: reached.map(|reached| reached.bytes_client_client + reached.bytes_client_server),
            seconds_to_target: reached.and_then(|reached| reached.seconds_simulated),
            diverged: *diverged,
        }
    }
}
