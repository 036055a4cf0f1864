//! The main job: several protocols over the same data, batches, initial models and link failures.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::config::{Config, slug};
use crate::error::{Diverged, Error, Result};
use crate::record::{End, Played, Row, claim, keep_seeds, to_csv, write_atomically};
use crate::report::{self, Series, Summary, summarise};
use crate::train::{Crew, Setting};

/// Sees what [`compare`] does.
pub trait Watch {
    /// Everything is built, and the first run is about to begin in this setting.
    fn begins(&mut self, setting: &Setting);

    /// A run begins, or goes on after the rounds `before`.
    fn run(&mut self, label: &str, before: &[Row]);

    /// A round of it is over.
    ///
    /// # Errors
    /// Whatever ends the comparison.
    fn round(&mut self, row: &Row) -> Result<()>;

    /// A run is over.
    ///
    /// # Errors
    /// Whatever ends the comparison.
    fn over(&mut self, how: &Over<'_>) -> Result<()>;
}

/// Who plays the runs of a comparison.
pub struct Players<'a> {
    /// Makes the setting of a configuration; the configurations of a comparison differ in their seeds.
    pub setting: &'a dyn Fn(&Config) -> Result<Setting>,
    /// Trains and tests the clients.
    pub crew: &'a dyn Crew,
    /// Set when the comparison is to end before its next client, with
    /// [`Error::Stopped`].
    pub stop: &'a AtomicBool,
}

/// A run that is over, or has diverged.
pub struct Over<'a> {
    /// The contender, with the seed where there are several.
    pub label: &'a str,
    /// `rounds.csv`.
    pub played: &'a Played,
    /// How it ended.
    pub end: &'a End,
    /// Its run directory.
    pub folder: &'a Path,
}

/// What a comparison found.
#[derive(Debug)]
pub struct Comparison {
    /// One line a contender and seed.
    pub summaries: Vec<Summary>,
    /// One curve a contender.
    pub series: Vec<Series>,
    /// The runs that diverged.
    pub diverged: Vec<Diverged>,
}

impl Comparison {
    /// An error where every run diverged.
    ///
    /// # Errors
    /// [`Error::Diverged`], of the first run.
    pub fn unless_all_diverged(&self) -> Result<()> {
        match self.diverged[..] {
            [first, ..] if self.diverged.len() == self.summaries.len() => {
                let remedy = format!("so did every run of the comparison; {}", first.what.remedy());
                Err(Error::Diverged { diverged: first, remedy })
            }
            _ => Ok(()),
        }
    }
}

/// Trains every contender of `[[compare]]` with every seed into `folder`, which must be new or empty, and
/// writes `config.toml`, `summary.csv` and `summary.md` beside the run directories. A run that diverges is
/// marked, and the others go on. With `resume` the folder is that of a comparison which was interrupted: runs
/// that are over are kept, and one that is not goes on.
///
/// # Errors
/// A configuration value that breaks a rule: every contender is built before the first one runs, so that a
/// wrong last one costs nothing. A folder that cannot be written.
pub fn compare(
    config: &Config,
    seeds: &[u64],
    players: &Players<'_>,
    folder: &Path,
    resume: bool,
    watch: &mut dyn Watch,
) -> Result<Comparison> {
    let setting_of = |seed| (players.setting)(&Config { seed, ..config.clone() });
    let first = setting_of(seeds.first().copied().unwrap_or(config.seed))?;
    for (i, contender) in config.compare.iter().enumerate() {
        first.contender(contender).map_err(|error| error.within(&format!("compare[{i}]")))?;
    }
    if !resume {
        claim(folder)?;
        write_atomically(&folder.join("config.toml"), config.to_toml()?.as_bytes())?;
        keep_seeds(folder, seeds)?;
    }
    watch.begins(&first);

    let curve = |name: &String| Series { name: name.clone(), runs: Vec::new() };
    let series = config.compare.iter().map(|contender| curve(&contender.name)).collect();
    let mut found = Comparison { summaries: Vec::new(), series, diverged: Vec::new() };
    let mut next = Some(first);
    for &seed in seeds {
        let setting = next.take().map_or_else(|| setting_of(seed), Ok)?;
        for (i, contender) in config.compare.iter().enumerate() {
            let run = setting.contender(contender)?.with_crew(players.crew).with_stop(players.stop);
            let name = &contender.name;
            let label = if seeds.len() == 1 { name.clone() } else { format!("{name} (seed {seed})") };
            let path = path_of(folder, name, seed);
            let clock = Instant::now();
            // Of how many rounds this call has not taken the time.
            let (end, before) = match run.ended(&path)? {
                Some(end) => (end, usize::MAX),
                None => {
                    let (state, mut recording) = run.go_on(&path)?;
                    let before = recording.rows()?;
                    watch.run(&label, &before);
                    (run.record(state, &mut recording, &mut |row| watch.round(row))?.1, before.len())
                }
            };
            let now = clock.elapsed().as_secs_f64();
            let played = Played::read(&path)?;
            let seconds = now + played.rows.iter().take(before).map(Row::seconds).sum::<f64>();
            watch.over(&Over { label: &label, played: &played, end: &end, folder: &path })?;
            let scheme = run.aggregator().scheme();
            let summary = summarise(name, scheme, seed, &played, seconds, config.evaluation.target);
            found.summaries.push(summary.with_leakage(&path)?);
            found.diverged.extend(end.diverged);
            found.series[i].runs.push(played);
        }
    }
    write_atomically(&folder.join("summary.csv"), &to_csv(&found.summaries)?)?;
    write_atomically(&folder.join("summary.md"), report::table(&found.summaries).as_bytes())?;
    Ok(found)
}

/// The run directory of a contender and seed in that of a comparison.
#[must_use]
pub fn path_of(folder: &Path, name: &str, seed: u64) -> PathBuf {
    folder.join(slug(name)).join(format!("seed-{seed}"))
}
