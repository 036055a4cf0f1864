//! Several runs of one configuration with several seeds, which `compare` and `privacy` play and can go on
//! with.

use std::path::{Path, PathBuf};

use super::{Common, load, source, stem};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::record::kept_seeds;

/// What is to be run, anew or further.
pub(super) struct Job {
    pub config: Config,
    pub seeds: Vec<u64>,
    /// The folder that was given, or is gone on with.
    pub out: Option<PathBuf>,
    /// Its name where none is given.
    pub name: String,
}

impl Job {
    /// The job of a configuration with `[[compare]]` sections and that many seeds, or the one that a folder
    /// was left with.
    pub fn of(config: Option<&Path>, resume: Option<&Path>, seeds: u64, common: &Common) -> Result<Self> {
        let path = source(config, resume)?;
        let config = load(&path, common)?;
        if config.compare.is_empty() {
            let problem = "nothing to compare; add [[compare]] sections, each with a name and a protocol";
            return Err(Error::file(path, problem));
        }
        let out = resume.map(Path::to_owned).or_else(|| common.out.clone());
        let seeds = match resume {
            Some(folder) => kept_seeds(folder)?,
            None => (0..seeds).map(|n| config.seed.wrapping_add(n)).collect(),
        };
        let name = stem(resume.unwrap_or(&path));
        Ok(Self { config, seeds, out, name })
    }
}
