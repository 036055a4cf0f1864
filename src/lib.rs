//! Federated learning over links that fail: the exact sum of all updates or nothing, and masked messages
//! only.
//!
//! | you want to | start at |
//! |---|---|
//! | aggregate vectors | [`protocol::ProtocolConfig::build`], then [`protocol::Aggregator::aggregate`] over [`network`] links |
//! | train, with parts of your own | [`train::Experiment`] |
//! | know who learns what | [`audits::Subject`] of a configuration, [`audit::audit`] of a scheme; [`privacy`] says what each number promises |
//! | bound what many noisy releases tell | [`account::Accountant`] |
//! | write a scheme | [`protocol::Protocol`], and [`conformance`] to check it |
//! | read what runs left behind | [`record`], [`report`] |
//! | use a trained model | [`inference::TrainedModel`] |
//! | run clients and server apart | `deploy`, with the feature of that name |
//! | carry the messages yourself | `party`, with the feature `parties` |
//!
//! Without the feature `cli` there is no command line, no figure and no download. The rooms of the crate
//! stand on floors and import downwards only: see `ARCHITECTURE.md`.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod account;
pub mod algebra;
pub mod attack;
pub mod audit;
pub mod audits;
mod bounds;
mod choice;
#[cfg(feature = "cli")]
pub mod cli;
pub mod coding;
pub mod cohort;
pub mod compare;
pub mod compress;
pub mod config;
pub mod conformance;
pub mod crypto;
pub mod data;
#[cfg(feature = "deploy")]
pub mod deploy;
pub mod devices;
pub mod error;
#[doc(hidden)]
pub mod experiment;
pub mod inference;
pub mod keys;
pub mod learn;
pub mod message;
pub mod network;
pub mod noise;
#[doc(hidden)]
pub mod parallel;
pub mod participation;
#[cfg(any(feature = "parties", test))]
pub mod party;
mod paths;
pub mod plan;
pub mod precision;
pub mod privacy;
pub mod privacy_levels;
pub mod protocol;
pub mod record;
pub mod recover;
pub mod release;
pub mod report;
#[cfg(feature = "cli")]
mod say;
pub mod seed;
pub mod server_rule;
pub mod sweep;
pub mod train;
#[cfg(feature = "cli")]
pub mod verbs;
pub mod wire;

pub use error::{Error, Result};

/// What most programs name.
///
/// ```
/// use seccogc::prelude::*;
///
/// fn main() -> Result<()> {
///     let setting = Experiment::new(Config { rounds: 2, ..Config::default() }).build()?;
///     let run = setting.run(&setting.config().protocol)?;
///     assert_eq!(run.rounds().count(), 2);
///     Ok(())
/// }
/// ```
pub mod prelude {
    pub use crate::config::Config;
    pub use crate::error::{Error, Result};
    pub use crate::learn::{Classifier, Device, Learner, LocalSolver, Solver};
    pub use crate::message::{Decoded, LinkUse, PartyId, Phase, Reason};
    pub use crate::network::LinkModel;
    pub use crate::participation::Participation;
    pub use crate::protocol::{Aggregate, Aggregator, ProtocolConfig, Update};
    pub use crate::seed::Seed;
    pub use crate::server_rule::ServerRule;
    pub use crate::train::{Experiment, Run, Setting};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
