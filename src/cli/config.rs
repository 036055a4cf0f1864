//! `seccogc config`: keys explained, a file to start from, and what a file would do.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::{Common, device, load, print, show_warnings};
use crate::bounds::{self, size};
use crate::config::{self, Config, EvaluationConfig};
use crate::error::Result;
use crate::record::{Row, write_new};
use crate::sweep::Sweep;
use crate::train::{Run, Setting};

pub(super) const EXAMPLES: &str = "Examples:\n  \
    seccogc config new my.toml                           a file to start from, with every key\n  \
    seccogc config check my.toml                         what it would run, and how long that takes\n  \
    seccogc config explain network.client_server         the keys of a section\n  \
    seccogc config explain data.label                    one key";

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Print every key with its default, type, range and meaning
    Explain {
        /// Only this section or key, e.g. protocol, network.client_server or data.label
        section: Option<String>,
    },
    /// Say what a configuration would run: sizes, bytes, memory and time, from its first rounds
    Check(Check),
    /// Write a file to start from, with every key, its default and meaning
    New {
        /// The file, which must not exist; standard output by default
        file: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(super) struct Check {
    /// The configuration, a TOML file
    config: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Explain { section } => print(&config::explain(section.as_deref().unwrap_or_default())?),
        Verb::Check(args) => check(args),
        Verb::New { file } => match file {
            Some(file) => write_new(file, config::template()?.as_bytes()),
            None => print(&config::template()?),
        },
    }
}

fn check(args: &Check) -> Result<()> {
    let common = &args.common;
    show_warnings(common.quiet);
    let config = load(&args.config, common)?;
    let device = device(common, None)?;
    let mut lines = Vec::new();
    if !config.sweep.is_empty() {
        let sweep = Sweep::of(&config, args.config.parent().unwrap_or(Path::new("")))?;
        lines.push(format!("sweep: {} runs of {:?}", sweep.runs.len(), sweep.keys));
    }
    // The rounds that are played are tested, as those are that take most.
    let evaluation = EvaluationConfig { every: 1, ..config.evaluation.clone() };
    let setting = Setting::build(&Config { evaluation, ..config.clone() }, device)?;
    lines.push(setting.class_table());
    lines.extend(of_setting(&config, &setting));
    let mut runs = Vec::new();
    if config.compare.is_empty() {
        runs.push((super::label(&config), setting.run(&config.protocol)?));
    }
    for (i, contender) in config.compare.iter().enumerate() {
        let run = setting.contender(contender).map_err(|error| error.within(&format!("compare[{i}]")))?;
        runs.push((contender.name.clone(), run));
    }
    let begun = Instant::now();
    for (name, run) in &runs {
        lines.push(of_run(&config, name, run, begun)?);
    }
    lines.extend(bounds::peak().map(|bytes| format!("memory: {} at the peak of these rounds", size(bytes))));
    print(&lines.join("\n"))
}

fn of_setting(config: &Config, setting: &Setting) -> Vec<String> {
    let (train, test) = setting.examples();
    vec![
        format!("data: {train} examples to train on, {test} to test on, {} clients", config.clients),
        format!("model: {}, {} parameters", config.model.kind(), setting.parameters()),
    ]
}

/// Rounds of a run that are played at most: over so many what threads keep of memory grows.
const PLAYED: u64 = 10;

/// From then on each run plays its first round alone.
const LONG: Duration = Duration::from_secs(20);

/// Plays the first rounds of a run: what later ones take is much the same.
fn of_run(config: &Config, name: &str, run: &Run<'_>, begun: Instant) -> Result<String> {
    let scheme = run.aggregator().scheme();
    let tests = config.evaluation.every.max(1) as f64;
    let taken = |row: &Row| row.seconds_local + row.seconds_coding + row.seconds_evaluation / tests;
    let mut state = run.start();
    let (first, _) = run.round(&mut state)?;
    let (mut rounds, mut seconds) = (1, taken(&first));
    while rounds < PLAYED.min(config.rounds) && begun.elapsed() < LONG {
        // A run that ends early, by divergence or a budget, is said to do so when it is played.
        let Ok((row, _)) = run.round(&mut state) else { break };
        (rounds, seconds) = (rounds + 1, seconds + taken(&row));
    }
    let seconds = seconds / rounds as f64;
    let code = match scheme.stragglers {
        Some(s) => format!(", code {} with s = {s}", scheme.code),
        None => String::new(),
    };
    Ok(format!(
        "{name}: a round sends {} between clients and {} to the server and takes {seconds:.2} s here, {} rounds about {}{code}",
        size(first.bytes_between()),
        size(first.bytes_to_server()),
        config.rounds,
        time(seconds * config.rounds as f64)
    ))
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
