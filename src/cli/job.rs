//! Several runs of one configuration with several seeds, which `compare` and `privacy` play and can go on
//! with.

use std::path::{Path, PathBuf};

use super::{Common, load, stem};
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
        let path = match (config, resume) {
            (_, Some(folder)) => folder.join("config.toml"),
            (Some(path), None) => path.to_owned(),
            (None, None) => {
                return Err(Error::Refused("give a configuration, or --resume with a folder".into()));
            }
        };
        let config = load(&path, common)?;
        if config.compare.is_empty() {
            let problem = "nothing to compare; add [[compare]] sections, each with a name and a protocol";
            return Err(Error::file(path, problem));
        }
        let out = resume.map(Path::to_owned).or_else(|| common.out.clone());
        match resume {
            Some(folder) => Ok(Self { config, seeds: kept_seeds(folder)?, out, name: stem(folder) }),
            None => {
                let seeds = (0..seeds).map(|n| config.seed.wrapping_add(n)).collect();
                Ok(Self { config, seeds, out, name: stem(&path) })
            }
        }
    }
}
