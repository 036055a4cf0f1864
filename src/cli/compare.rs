//! The verb `compare`.

use std::path::{Path, PathBuf};

use super::job::Job;
use super::progress::{Progress, View};
use super::{Common, device, in_folder, show_warnings, tell};
use crate::compare::{Over, Players, Watch, compare};
use crate::config::Config;
use crate::error::Result;
use crate::learn::Device;
use crate::parallel::NEVER;
use crate::record::{Row, to_csv};
use crate::report::{self, Spread, plot_accuracy, plot_run};
use crate::say::say;
use crate::train::{Alone, Setting};

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc compare configs/mnist_compare.toml\n  \
    seccogc compare configs/mnist_compare.toml --seeds 3 --out runs/three-seeds\n  \
    seccogc compare --resume runs/three-seeds            go on after an interruption";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with [[compare]] sections
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Run every protocol with this many seeds: SEED, SEED + 1, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Go on with an interrupted comparison: finished runs are kept, another one goes on from its checkpoint
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sets", "out", "seed", "seeds", "quick"])]
    resume: Option<PathBuf>,
    /// Show a dashboard on the terminal: accuracy, loss, recovery, leakage and traffic so far
    #[arg(long, conflicts_with = "quiet")]
    dashboard: bool,
    #[command(flatten)]
    common: Common,
}

/// Shows the runs as they go, and draws each that ends.
struct Show {
    view: View,
    quiet: bool,
    rounds: u64,
    progress: Option<Progress>,
}

impl Watch for Show {
    fn begins(&mut self, setting: &Setting) {
        if !self.quiet {
            say!("{}", setting.class_table());
        }
    }

    fn run(&mut self, label: &str, before: &[Row]) {
        let progress = self.progress.insert(Progress::new(label, self.rounds, self.view));
        progress.after(before.to_vec());
    }

    fn round(&mut self, row: &Row) -> Result<()> {
        if let Some(progress) = &mut self.progress {
            progress.row(row);
        }
        Ok(())
    }

    fn over(&mut self, how: &Over<'_>) -> Result<()> {
        if let Some(progress) = self.progress.take() {
            progress.finish(how.end);
        }
        plot_run(how.played, how.label, &how.folder.join("accuracy"))
    }
}

/// A run that diverges is marked, and the others go on; an error only where all do.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    show_warnings(common.quiet);
    let device = device(common, None)?;
    let job = Job::of(args.config.as_deref(), args.resume.as_deref(), args.seeds, common)?;
    in_folder(job.out.as_deref(), &job.name, |folder| into(&job, folder, args, &device))
}

fn into(job: &Job, folder: &Path, args: &Args, device: &Device) -> Result<()> {
    let (common, Job { config, name, seeds, .. }) = (&args.common, job);
    let view = View::of(common.quiet, args.dashboard);
    let mut show = Show { view, quiet: common.quiet, rounds: config.rounds, progress: None };
    let setting = |config: &Config| Setting::build(config, device.clone());
    let players = Players { setting: &setting, crew: &Alone, stop: &NEVER };
    let found = compare(config, seeds, &players, folder, args.resume.is_some(), &mut show)?;
    plot_accuracy(&found.series, Spread::Deviation, name, &folder.join("comparison"))?;
    let told = (common.csv, common.quiet);
    tell(told, &to_csv(&found.summaries)?, &report::table(&found.summaries), folder)?;
    found.unless_all_diverged()
}
