//! The verb `privacy`.

use std::path::PathBuf;

use super::job::Job;
use super::{Common, device, in_folder, tell};
use crate::error::Result;
use crate::parallel::NEVER;
use crate::say::say;
use crate::verbs::{self, Step, Watch};

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc privacy configs/privacy.toml\n  \
    seccogc privacy configs/privacy.toml --seeds 3 --set 'study.key_stds=[1.0, 10.0]' --out runs/privacy\n  \
    seccogc privacy --resume runs/privacy                go on after an interruption\n\n\
    Writes accuracy_privacy, leakage_per_client and recovery_error, each as .csv, .md, .svg and .png, and prints the first table.";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file with [[compare]] sections; [study] lists the strengths of the keys
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Run everything with this many seeds: SEED, SEED + 1, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// Go on with an interrupted study: finished runs are kept, another one begins again
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sets", "out", "seed", "seeds", "quick"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Measures and draws.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    super::show_warnings(common.quiet);
    let device = device(common, None)?;
    let job = Job::of(args.config.as_deref(), args.resume.as_deref(), args.seeds, common)?;
    let Job { config, seeds, .. } = &job;
    let mut hear = |step: &Step<'_>| {
        if !common.quiet {
            say!("{}", step.what);
        }
        Ok(())
    };
    in_folder(job.out.as_deref(), &job.name, |folder| {
        let mut watch = Watch { stop: &NEVER, hear: &mut hear };
        let found = verbs::privacy(config, seeds, &device, folder, args.resume.is_some(), &mut watch)?;
        tell((common.csv, common.quiet), &found.csv, &found.text, folder)
    })
}
