//! A configuration as it was written, and what is wrong with it.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::sets::{self, Assignment, Changed};
use super::{Config, MOST_BYTES, parse};
use crate::bounds;
use crate::choice::readable;
use crate::error::{Error, Result};

/// The keys that a file or a program wrote, without any default: what later assignments are put into, so that
/// another kind of a section begins with its own defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    table: Table,
    folder: PathBuf,
    path: Option<PathBuf>,
}

/// A value that is put into a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    key: String,
    value: Value,
    /// The words of the user that it was read from.
    words: Option<String>,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Dotted path of the value; empty where there is none.
    pub key: String,
    /// The broken rule and what to do.
    pub rule: String,
    blamed: Blamed,
}

#[derive(Clone, Debug, PartialEq)]
enum Blamed {
    File(PathBuf),
    /// The words of a flag.
    Words(String),
    Nothing,
}

impl Set {
    /// Reads `dotted.key=value` with a TOML value, where a bare word is a string.
    ///
    /// # Errors
    /// Words without `=`.
    pub fn parse(words: &str) -> Result<Self> {
        let (key, value) = sets::assignment(words)?;
        Ok(Self { key, value, words: Some(words.into()) })
    }

    /// The value at a dotted key.
    #[must_use]
    pub fn new(key: impl Into<String>, value: Value) -> Self {
        Self { key: key.into(), value, words: None }
    }
}

impl Wrong {
    fn new(problem: &str, blamed: Blamed) -> Self {
        let is_key =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "._-[]".contains(c));
        match problem.split_once(": ").filter(|(key, _)| is_key(key)) {
            Some((key, rule)) => Self { key: key.into(), rule: rule.into(), blamed },
            None => Self { key: String::new(), rule: problem.into(), blamed },
        }
    }

    fn problem(&self) -> String {
        if self.key.is_empty() { self.rule.clone() } else { format!("{}: {}", self.key, self.rule) }
    }
}

impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Self {
        match &wrong.blamed {
            Blamed::File(path) => Self::file(path, wrong.problem()),
            Blamed::Words(words) => Self::Refused(format!("--set {words}: {}", wrong.problem())),
            Blamed::Nothing if wrong.key.is_empty() => Self::Refused(wrong.rule),
            Blamed::Nothing => Self::config(wrong.key, wrong.rule),
        }
    }
}

impl Written {
    /// What a program wrote; paths in it are relative to `folder`.
    #[must_use]
    pub fn new(table: Table, folder: impl Into<PathBuf>) -> Self {
        Self { table, folder: folder.into(), path: None }
    }

    /// What a TOML file says; paths in it are relative to its folder.
    ///
    /// # Errors
    /// A file that cannot be read or is no TOML.
    pub fn load(path: &Path) -> Result<Self> {
        let text = bounds::read_text(path, MOST_BYTES, "a configuration")?;
        let table = parse(&text).map_err(|problem| Error::file(path, problem))?;
        // It may be read again once the process has gone to another folder.
        let anywhere = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = anywhere.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { table, folder, path: Some(path.to_owned()) })
    }

    /// The configuration with `sets`, in whatever order they stand, and what is written then. See
    /// [`Config::load`] for what becomes of the keys of another kind.
    ///
    /// # Errors
    /// The key and the rule that it breaks.
    pub fn read(&self, sets: &[Set]) -> Result<(Config, Self), Wrong> {
        let assignments: Vec<Assignment> =
            sets.iter().map(|set| (set.key.clone(), set.value.clone())).collect();
        let of_all = || self.path.clone().map_or(Blamed::Nothing, Blamed::File);
        if !assignments.is_empty() {
            // What is wrong with the file alone is not laid at a flag's door.
            Config::read(self.table.clone()).map_err(|problem| Wrong::new(&readable(&problem), of_all()))?;
        }
        let with = |some: &[Assignment]| -> Result<Changed, String> {
            let mut changed = sets::with(&self.table, some)?;
            changed.config.resolve_paths(&self.folder);
            changed.config.check().map_err(|error| error.to_string())?;
            Ok(changed)
        };
        let blame = |problem: String| {
            let culprit = sets::culprit(&assignments, &problem, |some| with(some).map(|_| ()));
            let blamed = match culprit.map(|i| &sets[i].words) {
                Some(Some(words)) => Blamed::Words(words.clone()),
                Some(None) => Blamed::Nothing,
                None => of_all(),
            };
            Wrong::new(&problem, blamed)
        };
        let Changed { mut config, table, former, fallen } = with(&assignments).map_err(blame)?;
        for note in former.iter().chain(&fallen) {
            match &self.path {
                Some(path) => tracing::warn!("{}: {note}", path.display()),
                None => tracing::warn!("{note}"),
            }
        }
        if !config.sweep.is_empty() {
            config.sweep.written = Some(table.clone());
        }
        Ok((config, Self { table, ..self.clone() }))
    }

    /// What is written, as TOML.
    ///
    /// # Errors
    /// A value that TOML cannot express.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(&self.table).map_err(super::no_form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Written {
        Written::new(text.parse().unwrap(), "/runs")
    }

    #[test]
    fn what_was_written_is_kept_without_defaults() {
        let first = written("[solver]\nkind = \"sgd\"\nlearning_rate = 0.3\nmomentum = 0.9\n");
        let (_, second) = first.read(&[Set::parse("solver.kind=adam").unwrap()]).unwrap();
        assert_eq!(second.to_toml().unwrap(), "[solver]\nkind = \"adam\"\nlearning_rate = 0.3\n");
        let (config, _) = second.read(&[Set::new("start", "runs/a".into())]).unwrap();
        assert_eq!(config.start.unwrap(), Path::new("/runs/runs/a"));
    }

    #[test]
    fn a_wrong_value_is_told_with_its_key_and_whose_it_is() {
        let of = |base: &str, sets: &[Set]| written(base).read(sets).unwrap_err();
        let wrong = of("clients = 0", &[]);
        assert_eq!(wrong.key, "clients");
        assert_eq!(Error::from(wrong).to_string(), "clients: 0 is too small; give at least 1");
        let wrong = of("", &[Set::parse("clients=0").unwrap()]);
        assert_eq!(
            Error::from(wrong).to_string(),
            "--set clients=0: clients: 0 is too small; give at least 1"
        );
        let wrong = of("", &[Set::new("clients", 0.into())]);
        assert_eq!((wrong.key.as_str(), wrong.rule.as_str()), ("clients", "0 is too small; give at least 1"));
        assert_eq!(of("roundz = 3", &[]).key, "roundz");
    }
}
