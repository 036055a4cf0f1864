//! The verb `sweep`.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use indicatif::ProgressBar;

use super::progress::{bar, message};
use super::quick::shortened;
use super::{in_folder, print, stem};
use crate::config::Config;
use crate::error::{Error, Result, count};
use crate::learn::Device;
use crate::parallel::NEVER;
use crate::report;
use crate::say::say;
use crate::sweep::{Over, Plan, Sweep, SweepRun, Watch, results};
use crate::verbs;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc sweep configs/sweep.toml\n  \
    seccogc sweep configs/sweep.toml --set rounds=50 --jobs 4 --out runs/grid\n  \
    seccogc sweep configs/sweep.toml --out runs/grid --resume          after an interruption, or with a larger grid\n  \
    seccogc sweep configs/sweep.toml --out runs/grid --shard 3/16      the third of sixteen parts, e.g. of a job array\n  \
    seccogc sweep configs/sweep.toml --out runs/grid --collect         tables and figures of what is finished\n\n\
    Writes sweep.csv (one line per run and round), runs.csv (one line per run), figures, and a run folder per run.";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with a [sweep] section
    config: PathBuf,
    /// Override one key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Folder for the results; must be new or empty but with --resume, --shard and --collect
    /// [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on in the folder: finished runs are kept, interrupted ones go on from their checkpoints
    #[arg(long, requires = "out")]
    resume: bool,
    /// Execute every N-th run only, from the I-th on; all parts may share a folder
    #[arg(long, value_name = "I/N", requires = "out")]
    shard: Option<Shard>,
    /// Execute nothing, only gather the finished runs of the folder
    #[arg(long, requires = "out", conflicts_with_all = ["resume", "shard", "jobs"])]
    collect: bool,
    /// Runs that go on at a time [default: as many as threads, less where memory is short]; results do not
    /// depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    jobs: Option<u64>,
    /// Where the neural network computes: cpu (flex), ndarray or wgpu, as built in
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Folder of the complete datasets [default: $SECCOGC_DATA, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A short look: ten rounds at most, where the grid does not say otherwise
    #[arg(long)]
    quick: bool,
    /// Print runs.csv on standard output
    #[arg(long)]
    csv: bool,
    /// Print nothing but errors (and what --csv asks for)
    #[arg(long, short)]
    quiet: bool,
}

/// One part of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shard {
    /// From 1.
    part: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((part, of)) if 1 <= part && part <= of => Ok(Self { part, of }),
            _ => Err("give it as I/N with 1 ≤ I ≤ N, for example 3/16".into()),
        }
    }
}

/// Executes the sweep, or its part, and gathers the results.
pub fn run(args: &Args) -> Result<()> {
    super::show_warnings(args.quiet);
    let mut sets = args.sets.clone();
    // Into what is written, to which the values of the grid are added.
    sets.extend(
        args.data_dir.iter().map(|dir| format!("data.dir={}", toml::Value::from(&*dir.to_string_lossy()))),
    );
    let config = Config::load(&args.config, &sets)?;
    let config = if args.quick { shortened(config) } else { config };
    if config.sweep.is_empty() {
        let problem = "nothing to sweep; add a [sweep] section with seeds, grid or variants";
        return Err(Error::file(&args.config, problem));
    }
    let sweep = Sweep::of(&config, args.config.parent().unwrap_or(Path::new("")))?;
    let name = stem(&args.config);
    in_folder(args.out.as_deref(), &name, |folder| into(args, &config, &sweep, folder))
}

fn into(args: &Args, config: &Config, sweep: &Sweep, folder: &Path) -> Result<()> {
    let shard = args.shard.map_or((0, 1), |shard| (shard.part - 1, shard.of));
    let plan = Plan::new(sweep, folder, args.device.parse::<Device>()?, shard)?;
    if !args.collect {
        verbs::begin_sweep(config, folder, args.resume || args.shard.is_some())?;
        let jobs = args.jobs.map_or_else(|| plan.jobs(), |jobs| jobs as usize);
        execute(&plan, jobs, args.quiet)?;
    }
    gather(args, sweep, folder, &stem(&args.config))
}

/// Draws every run that ends; unless it is quiet, with a line for each, and a bar on a terminal.
struct Drawing {
    quiet: bool,
    bar: Option<ProgressBar>,
    /// Runs of the sweep.
    all: usize,
    over: AtomicUsize,
    /// Two runs that end together must not mix their lines.
    line: Mutex<()>,
}

impl Watch for Drawing {
    fn rounds(&self, _: &SweepRun, rounds: u64) -> Result<()> {
        if let Some(bar) = &self.bar {
            bar.inc(rounds);
        }
        Ok(())
    }

    fn stop(&self) -> &AtomicBool {
        &NEVER
    }

    fn over(&self, run: &SweepRun, how: &Over<'_>) -> Result<()> {
        report::plot_run(how.played, &run.folder.to_string_lossy(), &how.folder.join("accuracy"))?;
        if self.quiet {
            return Ok(());
        }
        let _guard = self.line.lock();
        let n = self.over.fetch_add(1, Ordering::Relaxed) + 1;
        let end = message(&how.played.rows, how.end.diverged.as_ref());
        let early = how.end.exhausted.map_or_else(String::new, |exhausted| format!(", {exhausted}"));
        let promise = how.end.promise.as_ref().map_or_else(String::new, |promise| format!(", {promise}"));
        let text =
            format!("{n}/{} {}: {end}{early}{promise}, {:.1} s", self.all, run.folder.display(), how.seconds);
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say!("{text}"),
        }
        Ok(())
    }
}

fn execute(plan: &Plan<'_>, jobs: usize, quiet: bool) -> Result<()> {
    let (all, finished) = (plan.runs(), plan.finished());
    if !quiet {
        say!("{}, {finished} of them finished, {jobs} at a time", count(all, "run"));
    }
    let template = "{bar:24} {pos}/{len} rounds {elapsed}<{eta}";
    let bar = (!quiet && std::io::stderr().is_terminal()).then(|| bar(plan.rounds(), template));
    let watch = Drawing { quiet, bar, all, over: AtomicUsize::new(finished), line: Mutex::new(()) };
    plan.execute(jobs, &watch)?;
    if let Some(bar) = watch.bar {
        bar.finish_and_clear();
    }
    Ok(())
}

fn gather(args: &Args, sweep: &Sweep, folder: &Path, name: &str) -> Result<()> {
    let (done, open) = results::finished(sweep, folder)?;
    if let (Some(first), false) = (open.first(), args.quiet) {
        let (over, all) = (done.len(), count(sweep.runs.len(), "run"));
        say!("{over} of {all} finished; the first that is not: {}", first.folder.display());
    }
    if args.collect && done.is_empty() {
        return Err(Error::file(
            folder,
            "holds no finished run of this sweep; leave --collect away to execute it",
        ));
    }
    if args.shard.is_some() && !open.is_empty() {
        if !args.quiet {
            say!("tables and figures come with the last part, or with --collect");
        }
        return Ok(());
    }
    verbs::gather_sweep(sweep, &done, folder, name)?;
    if args.csv {
        let path = folder.join("runs.csv");
        print(&fs::read_to_string(&path).map_err(Error::io("read", &path))?)?;
    }
    if !args.quiet {
        say!("results in {}", folder.display());
    }
    Ok(())
}
