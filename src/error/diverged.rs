//! How a run ends that meets a number which is not finite.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Error;

/// A round brought what is not finite: an outcome of the run, which ends with the state that it had before
/// the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverged {
    /// The round, from 1.
    pub round: u64,
    /// The client, from 1, where a single one is the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<usize>,
    /// What is not finite.
    pub what: NotFinite,
}

/// What is NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotFinite {
    /// The loss of a client's training.
    TrainingLoss,
    /// What a client would send.
    Update,
    /// The sum that the server decoded.
    Sum,
    /// The global model after the server's step, or a vector that the step needs.
    Model,
    /// The loss of the global model on the test images.
    TestLoss,
}

impl NotFinite {
    /// What to change.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Model => "lower solver.learning_rate or server.learning_rate",
            _ => "lower solver.learning_rate or set solver.clip_norm",
        }
    }
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrainingLoss => "the training loss",
            Self::Update => "the update",
            Self::Sum => "the decoded sum",
            Self::Model => "the global model",
            Self::TestLoss => "the test loss of the global model",
        })
    }
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, client, what } = self;
        write!(f, "diverged in round {round}: {what}")?;
        match (what, client) {
            (NotFinite::TrainingLoss | NotFinite::Update, Some(client)) => write!(f, " of client {client}")?,
            (NotFinite::TrainingLoss | NotFinite::Update, None) => f.write_str(" of several clients")?,
            _ => {}
        }
        f.write_str(" is not finite")
    }
}

impl From<Diverged> for Error {
    fn from(diverged: Diverged) -> Self {
        Self::Diverged { diverged, remedy: diverged.what.remedy().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_round_client_cause_and_remedy() {
        let one = Diverged { round: 3, client: Some(4), what: NotFinite::TrainingLoss };
        let line = "diverged in round 3: the training loss of client 4 is not finite; \
                    lower solver.learning_rate or set solver.clip_norm";
        assert_eq!(Error::from(one).to_string(), line);
        let model = Diverged { client: None, what: NotFinite::Model, ..one };
        let line = "diverged in round 3: the global model is not finite; \
                    lower solver.learning_rate or server.learning_rate";
        assert_eq!(Error::from(model).to_string(), line);
        let json = serde_json::to_string(&model).unwrap();
        assert_eq!(json, r#"{"round":3,"what":"model"}"#);
        assert_eq!(serde_json::from_str::<Diverged>(&json).unwrap(), model);
    }
}
