//! Finished runs, wherever they stand: alone, in a comparison or in a sweep.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Summary, folder_name};
use crate::bounds;
use crate::config::{MOST_BYTES, leaves, slug};
use crate::error::{Error, Result};
use crate::record::{Measures, Played, RunInfo, read_rows};
use crate::sweep::{VARIANT, results, text};

/// A run directory that has been read.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its folder.
    pub path: PathBuf,
    /// Variant of a sweep, name in a comparison, or name of the folder.
    pub name: String,
    /// What tells it from the other runs of its sweep, without the seed.
    pub label: String,
    /// Its configuration by dotted keys.
    pub config: BTreeMap<String, String>,
    /// `config.toml`.
    pub toml: String,
    /// `run.json`.
    pub info: RunInfo,
    /// `rounds.csv`, and where the run diverged.
    pub played: Played,
    /// Values of swept keys as they were written.
    swept: BTreeMap<String, String>,
}

impl Recorded {
    fn read(path: &Path, name: &str, label: &str) -> Result<Self> {
        let file = path.join("config.toml");
        let toml = bounds::read_text(&file, MOST_BYTES, "a configuration")?;
        let table: toml::Table =
            toml.parse().map_err(|error: toml::de::Error| Error::file(&file, error.message()))?;
        Ok(Self {
            path: path.to_owned(),
            name: name.into(),
            label: label.into(),
            config: leaves(&table).into_iter().map(|(key, value)| (key, text(&value))).collect(),
            toml,
            info: RunInfo::load(&path.join("run.json"))?,
            played: Played::read(path)?,
            swept: BTreeMap::new(),
        })
    }

    /// The value of a dotted key, or of [`VARIANT`]: the run's name.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        if key == VARIANT {
            return Some(&self.name);
        }
        self.swept.get(key).or_else(|| self.config.get(key)).map(String::as_str)
    }

    /// Its seed, as text.
    #[must_use]
    pub fn seed(&self) -> &str {
        self.value("seed").unwrap_or_default()
    }

    /// Its target accuracy.
    #[must_use]
    pub fn target(&self) -> Option<f64> {
        self.value("evaluation.target").and_then(|target| target.parse().ok())
    }

    /// Its numbers.
    #[must_use]
    pub fn measures(&self) -> Measures {
        Measures::of(&self.played, self.target())
    }
}

/// Runs and what varies among them.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// The swept keys, [`VARIANT`] for names; empty for run directories alone.
    pub keys: Vec<String>,
    /// In the order of the folders that were named.
    pub runs: Vec<Recorded>,
}

impl Runs {
    /// Reads run, comparison and sweep directories.
    ///
    /// # Errors
    /// A folder that is none of them; a file that is missing or damaged.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self::default();
        for path in paths {
            if path.join("runs.csv").is_file() {
                all.add_sweep(path)?;
            } else if path.join("summary.csv").is_file() {
                all.add_key(VARIANT);
                for line in read_rows::<Summary>(&path.join("summary.csv"))? {
                    let run = path.join(slug(&line.protocol)).join(format!("seed-{}", line.seed));
                    all.runs.push(Recorded::read(&run, &line.protocol, &line.protocol)?);
                }
            } else if path.join("rounds.csv").is_file() {
                let name = folder_name(path);
                all.runs.push(Recorded::read(path, &name, &name)?);
            } else {
                return Err(super::neither(path));
            }
        }
        Ok(all)
    }

    fn add_key(&mut self, key: &str) {
        if !self.keys.iter().any(|own| own == key) {
            self.keys.push(key.to_owned());
        }
    }

    fn add_sweep(&mut self, path: &Path) -> Result<()> {
        let results = results::read(path)?;
        results.keys.iter().for_each(|key| self.add_key(key));
        for line in &results.lines {
            let label = results.label(&line.values);
            let swept: BTreeMap<String, String> =
                results.keys.iter().cloned().zip(line.values.iter().cloned()).collect();
            let name = swept.get(VARIANT).cloned().unwrap_or_else(|| folder_name(path));
            let run = Recorded::read(&path.join(&line.folder), &name, &label)?;
            let swept = swept.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            self.runs.push(Recorded { swept, ..run });
        }
        Ok(())
    }
}
