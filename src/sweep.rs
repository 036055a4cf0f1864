//! Sweeps: every combination of some values of configuration keys, with several seeds, one run directory
//! each.
//!
//! Runs of the same seed are paired as in a comparison: whatever does not depend on a swept key (partition,
//! batches, initial model, link states) is the same, because every random stream is a named child of the
//! seed.
//!
//! A *sweep directory* holds `config.toml`, `sweep.csv` (one line per run and round), `runs.csv` (one line
//! per run, see [`results`]) and the run directories under `<variant>/<key=value,…>/seed-<seed>`. These names
//! depend on the run alone, so that a sweep can be extended.

mod execute;
mod memory;
pub mod results;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use execute::{Over, Plan, Watch};

use crate::config::{self, Axis, Changed, Config, Variant, axes, leaves, slug};
use crate::error::{Error, Result};

/// The column that names the variant.
pub const VARIANT: &str = "variant";

/// Most runs of a sweep: all are built before the first one starts.
const MOST_RUNS: u128 = 100_000;

/// Longest value in the name of a folder, in characters.
const NAME: usize = 32;

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct SweepRun {
    /// The value of each key of the sweep as text; `None` where the key does not belong to the run's variant.
    pub values: Vec<Option<String>>,
    /// Its folder within the sweep's.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// What was assigned, for messages.
    origin: Vec<Assignment>,
}

/// A value that a sweep puts into the configuration.
#[derive(Clone, Debug)]
struct Assignment {
    /// The table that it comes from, e.g. `sweep.grid`.
    table: String,
    key: String,
    value: toml::Value,
}

impl Assignment {
    fn wrong(&self, problem: &str) -> Error {
        Error::Refused(format!("{}.{} = {}: {problem}", self.table, self.key, self.value))
    }
}

/// All runs of a configuration.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// What varies beside the seed: [`VARIANT`] when there are variants, then dotted keys in the order of the
    /// file.
    pub keys: Vec<String>,
    /// The runs: variants, then grid values with the last key fastest, then seeds.
    pub runs: Vec<SweepRun>,
}

impl Sweep {
    /// Combines variants, grid values and seeds. Paths among the values are relative to `folder`, that of the
    /// configuration's file.
    ///
    /// # Errors
    /// One line with the grid key whose value is wrong; two runs with the same configuration.
    pub fn of(config: &Config, folder: &Path) -> Result<Self> {
        let sweep = &config.sweep;
        let mut base = match &sweep.written {
            Some(written) => written.clone(),
            None => toml::Table::try_from(config)
                .map_err(|error| Error::Refused(format!("the configuration has no TOML form: {error}")))?,
        };
        base.retain(|section, _| !["sweep", "compare"].contains(&section));
        let common = axes(&sweep.grid)?;
        let named = !sweep.variants.is_empty();
        let unnamed = [Variant { name: String::new(), set: toml::Table::new(), grid: toml::Table::new() }];
        let variants = if named { &sweep.variants[..] } else { &unnamed };
        let grids: Vec<Vec<Axis>> =
            variants.iter().map(|variant| axes(&variant.grid)).collect::<Result<_>>()?;
        let mut keys: Vec<String> = named.then(|| VARIANT.to_owned()).into_iter().collect();
        for (key, _) in grids.iter().chain([&common]).flatten() {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        let seeds = if sweep.seeds.is_empty() { vec![config.seed] } else { sweep.seeds.clone() };
        let points = |axes: &[Axis]| {
            axes.iter().fold(1u128, |all, (_, values)| all.saturating_mul(values.len() as u128))
        };
        let own: u128 = grids.iter().map(|own| points(own)).sum();
        let all = own.saturating_mul(points(&common)).saturating_mul(seeds.len() as u128);
        if all > MOST_RUNS {
            let rule =
                format!("{all} runs are too many; the limit is {MOST_RUNS}, take values or seeds away");
            return Err(Error::config("sweep", rule));
        }

        let mut runs: Vec<SweepRun> = Vec::new();
        let mut notes = BTreeSet::new();
        for (i, (variant, own)) in variants.iter().zip(grids).enumerate() {
            let of_table = |table: &str, key: String, value| Assignment { table: table.into(), key, value };
            let set = leaves(&variant.set).into_iter();
            let set: Vec<Assignment> =
                set.map(|(key, value)| of_table(&format!("sweep.variants[{i}].set"), key, value)).collect();
            let own = own.into_iter().map(|axis| (format!("sweep.variants[{i}].grid"), axis));
            let axes: Vec<(String, Axis)> =
                own.chain(common.iter().cloned().map(|axis| ("sweep.grid".to_owned(), axis))).collect();
            for point in product(&axes) {
                let name = named.then_some(variant.name.as_str());
                let values = keys.iter().map(|key| match point.iter().find(|one| one.key == *key) {
                    Some(one) => Some(text(&one.value)),
                    None => name.filter(|_| key == VARIANT).map(str::to_owned),
                });
                let values: Vec<Option<String>> = values.collect();
                let place = place(name, &point);
                let assignments = [set.clone(), point].concat();
                let config = apply(&base, &assignments, folder, &mut notes)?;
                for &seed in &seeds {
                    runs.push(SweepRun {
                        values: values.clone(),
                        folder: place.join(format!("seed-{seed}")),
                        config: Config { seed, ..config.clone() },
                        origin: assignments.clone(),
                    });
                }
            }
        }
        notes.iter().for_each(|note| tracing::warn!("{note}"));
        let (mut folders, mut configs) = (BTreeSet::new(), HashMap::new());
        for run in &runs {
            let twin = match folders.insert(&run.folder) {
                true => configs.insert(run.config.to_toml()?, &run.folder),
                false => Some(&run.folder),
            };
            if let Some(twin) = twin {
                let (one, other) = (twin.display(), run.folder.display());
                let problem = format!("{one} and {other} are the same run; take one away");
                return Err(Error::config("sweep", problem));
            }
        }
        Ok(Self { keys, runs })
    }
}

/// All combinations, the last axis fastest.
fn product(axes: &[(String, Axis)]) -> Vec<Vec<Assignment>> {
    axes.iter().fold(vec![vec![]], |points, (table, (key, values))| {
        let with = |point: &Vec<Assignment>, value: &toml::Value| {
            let one = Assignment { table: table.clone(), key: key.clone(), value: value.clone() };
            [point.clone(), vec![one]].concat()
        };
        points.iter().flat_map(|point| values.iter().map(move |value| with(point, value))).collect()
    })
}

/// The configuration with these assignments, checked as far as this needs no data; `notes` are of former
/// names among them.
fn apply(
    base: &toml::Table,
    assignments: &[Assignment],
    folder: &Path,
    notes: &mut BTreeSet<String>,
) -> Result<Config> {
    let put: Vec<_> = assignments.iter().map(|one| (one.key.clone(), one.value.clone())).collect();
    let Changed { mut config, former, fallen, .. } =
        config::with(base, &put).map_err(|problem| blame(assignments, &problem))?;
    // What the base says was noted when it was read.
    let assigned = former.iter().filter(|_| assignments.iter().any(|one| one.key == "protocol.kind"));
    notes.extend(assigned.chain(&fallen).map(|note| blame(assignments, note).to_string()));
    config.resolve_paths(folder);
    config.check().map_err(|error| blame(assignments, &error.to_string()))?;
    Ok(config)
}

/// Names the assignment that a message about a key belongs to: the one of that key, or else of its section;
/// all of them when none is nearer than the others.
fn blame(assignments: &[Assignment], problem: &str) -> Error {
    let path = problem.split(": ").next().unwrap_or_default();
    let holds = |one: &&Assignment| {
        let section = one.key.rsplit_once('.').map_or("", |(section, _)| section);
        let last = one.key.rsplit('.').next().unwrap_or_default();
        path == one.key
            || path.starts_with(&format!("{}.", one.key))
            || (path == section && problem.contains(&format!("`{last}`")))
    };
    if let Some(one) = assignments.iter().rev().find(holds) {
        return one.wrong(problem);
    }
    let point = assignments.iter().map(|one| format!("{} = {}", one.key, one.value));
    match point.collect::<Vec<_>>().join(", ") {
        point if point.is_empty() => Error::Refused(problem.to_owned()),
        point => Error::Refused(format!("sweep of {point}: {problem}")),
    }
}

/// A value as a cell of a table.
pub(crate) fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The folder of a point: the variant, then `key=value` of the rest, keys by their last part where this is
/// unique.
fn place(variant: Option<&str>, point: &[Assignment]) -> PathBuf {
    fn last(key: &str) -> &str {
        key.rsplit('.').next().unwrap_or_default()
    }
    let short = |key: &str| match point.iter().filter(|one| last(&one.key) == last(key)).count() {
        1 => last(key).to_owned(),
        _ => key.to_owned(),
    };
    let parts: Vec<String> =
        point.iter().map(|one| format!("{}={}", short(&one.key), name(&text(&one.value)))).collect();
    let variant = variant.map(slug);
    variant.into_iter().chain((!parts.is_empty()).then(|| parts.join(","))).collect()
}

/// A value within the name of a folder: as it is where that is possible, else its words and eight digits of
/// its hash.
fn name(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
    if value.len() <= NAME && !value.starts_with('.') && !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let digest = Sha256::digest(value);
    let words: String = slug(value).chars().take(NAME).collect();
    format!(
        "{}-{:02x}{:02x}{:02x}{:02x}",
        words.trim_end_matches('-'),
        digest[0],
        digest[1],
        digest[2],
        digest[3]
    )
}

#[cfg(test)]
mod tests;
