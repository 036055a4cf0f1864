//! The verb `compare`.

use std::path::{Path, PathBuf};

use super::progress::{Progress, View};
use super::{Common, device, load_contenders, print, show_warnings, stem};
use crate::compare::{Comparison, Over, Watch, compare};
use crate::error::{Error, Result};
use crate::record::{Row, free_name, to_csv};
use crate::report::{self, Spread, plot_accuracy, plot_run};
use crate::train::Setting;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc compare configs/mnist_compare.toml\n  \
    seccogc compare configs/mnist_compare.toml --seeds 3 --out runs/three-seeds";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with [[compare]] sections
    config: PathBuf,
    /// Run every protocol with this many seeds: SEED, SEED + 1, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
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
            eprintln!("{}", setting.class_table());
        }
    }

    fn run(&mut self, label: &str) {
        self.progress = Some(Progress::new(label, self.rounds, self.view));
    }

    fn round(&mut self, row: &Row) {
        if let Some(progress) = &mut self.progress {
            progress.row(row);
        }
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
    let config = load_contenders(&args.config, common)?;
    let device = device(common, None)?;
    let name = stem(&args.config);
    let folder = common.out.clone().unwrap_or_else(|| free_name(&Path::new("runs").join(&name)));
    let seeds: Vec<u64> = (0..args.seeds).map(|n| config.seed.wrapping_add(n)).collect();
    let view = View::of(common.quiet, args.dashboard);
    let mut show = Show { view, quiet: common.quiet, rounds: config.rounds, progress: None };
    let Comparison { summaries, series, diverged } = compare(&config, &seeds, &device, &folder, &mut show)?;
    plot_accuracy(&series, Spread::Deviation, &name, &folder.join("comparison"))?;
    if common.csv {
        print(&String::from_utf8_lossy(&to_csv(&summaries)?))?;
    } else if !common.quiet {
        print(&report::table(&summaries))?;
    }
    if !common.quiet {
        eprintln!("results in {}", folder.display());
    }
    match diverged[..] {
        [first, ..] if diverged.len() == summaries.len() => {
            let remedy = format!("so did every run of the comparison; {}", first.what.remedy());
            Err(Error::Diverged { diverged: first, remedy })
        }
        _ => Ok(()),
    }
}
