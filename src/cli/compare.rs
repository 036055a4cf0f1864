//! The verb `compare`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::progress::{Progress, View};
use super::{Common, device, load_contenders, print, show_warnings, stem};
use crate::config::{self, Config};
use crate::error::Diverged;
use crate::error::{Error, Result};
use crate::record::{Played, claim, free_name, to_csv, write_atomically};
use crate::report::{self, Series, Spread, plot_accuracy, plot_run, summarise};
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

/// A run that diverges is marked, and the others go on; an error only where all do.
pub fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    show_warnings(common.quiet);
    let config = load_contenders(&args.config, common)?;
    let device = device(common, None)?;
    let directory =
        common.out.clone().unwrap_or_else(|| free_name(&Path::new("runs").join(stem(&args.config))));
    let seeds: Vec<u64> = (0..args.seeds).map(|n| config.seed.wrapping_add(n)).collect();
    let setting_of = |seed| Setting::build(&Config { seed, ..config.clone() }, device.clone());
    // Every contender is built before the first one runs, so that a wrong last one costs nothing.
    let first = setting_of(config.seed)?;
    for (i, contender) in config.compare.iter().enumerate() {
        first.run(&contender.protocol).map_err(|error| error.within(&format!("compare[{i}]")))?;
    }
    claim(&directory)?;
    write_atomically(&directory.join("config.toml"), config.to_toml()?.as_bytes())?;
    if !common.quiet {
        eprintln!("{}", first.class_table());
    }

    let view = View::of(common.quiet, args.dashboard);
    let mut summaries = Vec::new();
    let mut diverged: Vec<Diverged> = Vec::new();
    let mut series: Vec<Series> = config
        .compare
        .iter()
        .map(|contender| Series { name: contender.name.clone(), runs: Vec::new() })
        .collect();
    let mut next = Some(first);
    for &seed in &seeds {
        let setting = next.take().map_or_else(|| setting_of(seed), Ok)?;
        for (contender, series) in config.compare.iter().zip(&mut series) {
            let run = setting.run(&contender.protocol)?;
            let label = if seeds.len() == 1 {
                contender.name.clone()
            } else {
                format!("{} (seed {seed})", contender.name)
            };
            let path = directory.join(config::slug(&contender.name)).join(format!("seed-{seed}"));
            let clock = Instant::now();
            let mut progress = Progress::new(&label, config.rounds, view);
            let (state, mut recording) = run.create(&path)?;
            let (_, end) = run.record(state, &mut recording, &mut |row| progress.row(row))?;
            progress.finish(&end);
            let seconds = clock.elapsed().as_secs_f64();
            diverged.extend(end.diverged);
            let played = Played::read(&path)?;
            plot_run(&played, &label, &path.join("accuracy"))?;
            let scheme = run.aggregator().scheme();
            let summary =
                summarise(&contender.name, scheme, seed, &played, seconds, config.evaluation.target);
            summaries.push(summary.with_leakage(&path)?);
            series.runs.push(played);
        }
    }
    let csv = to_csv(&summaries)?;
    write_atomically(&directory.join("summary.csv"), &csv)?;
    let table = report::table(&summaries);
    write_atomically(&directory.join("summary.md"), table.as_bytes())?;
    plot_accuracy(&series, Spread::Deviation, &stem(&args.config), &directory.join("comparison"))?;
    if common.csv {
        print(&String::from_utf8_lossy(&csv))?;
    } else if !common.quiet {
        print(&table)?;
    }
    if !common.quiet {
        eprintln!("results in {}", directory.display());
    }
    match diverged[..] {
        [first, ..] if diverged.len() == summaries.len() => {
            let remedy = format!("so did every run of the comparison; {}", first.what.remedy());
            Err(Error::Diverged { diverged: first, remedy })
        }
        _ => Ok(()),
    }
}
