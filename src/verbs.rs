//! The verbs that make tables and figures of a configuration, as functions: what the command line does once
//! it has read its flags, and other programs may do without them.
//!
//! Training is [`crate::train`], the main comparison [`crate::compare`], and audits are [`crate::audits`].

mod attack;
mod plan;
mod privacy;
mod recover;
mod sweep;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

pub use attack::{attack, attack_released};
pub use plan::{plan, plan_into};
pub use privacy::privacy;
pub use recover::Recovery;
pub use sweep::{begin_sweep, gather_sweep};

use crate::config::Config;
use crate::data::DataConfig;
use crate::error::Result;
use crate::learn::ModelConfig;

/// Who waits for a verb.
pub struct Watch<'a> {
    /// Is set to end it with [`crate::Error::Stopped`].
    pub stop: &'a AtomicBool,
    /// Hears how far it has come; an error ends it.
    pub hear: &'a mut dyn FnMut(&Step<'_>) -> Result<()>,
}

/// How far a verb has come.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Parts that are done, of `total`; both 0 where they are not counted.
    pub place: usize,
    /// All parts.
    pub total: usize,
    /// What was found, or begins, in words.
    pub what: &'a str,
}

impl Watch<'_> {
    fn line(&mut self, what: &str) -> Result<()> {
        (self.hear)(&Step { place: 0, total: 0, what })
    }
}

/// What a verb found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its main table as CSV.
    pub csv: Vec<u8>,
    /// The same for readers.
    pub text: String,
}

/// Where the number of coordinates of an update comes from.
#[derive(Clone, Debug, Default)]
pub struct Size {
    /// As many as this; those of the configured model where it is empty.
    pub parameters: Option<usize>,
    /// Folder of the complete datasets, instead of the configuration's.
    pub data_dir: Option<PathBuf>,
    /// What was looked up before.
    known: Option<(ModelConfig, DataConfig, Vec<Vec<usize>>)>,
}

impl Size {
    /// A size that is given, or looked up in this folder of datasets.
    #[must_use]
    pub fn new(parameters: Option<usize>, data_dir: Option<PathBuf>) -> Self {
        Self { parameters, data_dir, known: None }
    }

    /// Coordinates of an update.
    ///
    /// # Errors
    /// A model or dataset that cannot be built.
    pub fn of(&mut self, config: &Config) -> Result<usize> {
        if let Some(parameters) = self.parameters {
            return Ok(parameters);
        }
        let dir = self.data_dir.clone().or(config.data.dir.clone());
        let data = DataConfig { dir, ..config.data.clone() };
        let tensors = match &self.known {
            Some((model, old, tensors)) if *model == config.model && *old == data => tensors.clone(),
            _ => {
                let tensors = config.model.tensors(&data)?;
                self.known = Some((config.model.clone(), data, tensors.clone()));
                tensors
            }
        };
        Ok(config.sent(&tensors))
    }
}
