//! A line of the table.

use serde::{Deserialize, Serialize};

use super::Estimate;
use crate::coding::Code;

/// One point of a grid: a line of `recover.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryRow {
    /// Value of the swept key, empty without a sweep.
    pub value: String,
    /// Gradient code.
    pub code: String,
    /// Straggler tolerance s.
    pub stragglers: usize,
    /// Attempts allowed per round.
    pub attempts: u32,
    /// Rounds played.
    pub rounds: u64,
    /// Rounds recovered.
    pub recovered: u64,
    /// Measured probability of recovery.
    pub probability: f64,
    /// Its standard error for independent rounds.
    pub standard_error: f64,
    /// Computed probability of recovery; empty where there is no closed form.
    pub closed_form: Option<f64>,
    /// Bounds on it with `gc-plus`; for those who look, not for the table.
    #[serde(skip)]
    pub bounds: Option<[f64; 2]>,
    /// Attempts per recovered round, those of lost rounds included; empty, like all that follow, when no
    /// round was recovered.
    pub attempts_per_recovered: Option<f64>,
    /// Bytes between clients per recovered round, those of lost rounds included.
    pub bytes_client_client_per_recovered: Option<f64>,
    /// Bytes to the server per recovered round, those of lost rounds included.
    pub bytes_client_server_per_recovered: Option<f64>,
    /// Simulated seconds per recovered round, those of lost rounds included; empty too where messages take no
    /// time.
    pub seconds_per_recovered: Option<f64>,
}

impl RecoveryRow {
    /// Sums up an estimate; without a swept value.
    #[must_use]
    pub fn new(code: &dyn Code, attempts: u32, estimate: &Estimate, closed_form: Option<f64>) -> Self {
        let per = |total: f64| (estimate.recovered > 0).then(|| total / estimate.recovered as f64);
        Self {
            value: String::new(),
            code: code.kind().name().into(),
            stragglers: code.stragglers(),
            attempts,
            rounds: estimate.rounds,
            recovered: estimate.recovered,
            probability: estimate.probability(),
            standard_error: estimate.standard_error(),
            closed_form,
            bounds: None,
            attempts_per_recovered: per(estimate.attempts as f64),
            bytes_client_client_per_recovered: per(estimate.bytes_client_client as f64),
            bytes_client_server_per_recovered: per(estimate.bytes_client_server as f64),
            seconds_per_recovered: estimate.seconds.and_then(per),
        }
    }
}
