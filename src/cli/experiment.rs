//! The verb `experiment`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;

use super::{Alone, Cli, Verb, print};
use crate::error::{Error, Result};
use crate::experiment::{Experiment, Program, index};
use crate::record::{claim, free_name, write_atomically};

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc experiment                                   list them\n  \
    seccogc experiment mnist_compare --quick             minutes instead of the complete run\n  \
    seccogc experiment mnist_compare --update            the complete run, published beside its claim\n  \
    seccogc experiment --all --update                    all of them, and the index";

#[derive(clap::Args)]
pub struct Args {
    /// Which; without a name they are listed
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// A short version, for a look: fewer seeds and rounds than the claim needs
    #[arg(long, conflicts_with = "update")]
    quick: bool,
    /// Publish the results into the experiment's folder, and renew its README and the index
    #[arg(long)]
    update: bool,
    /// Folder of the experiments
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    dir: PathBuf,
    /// Folder for the results of all of them, a folder each [default: runs/experiments]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let known = Experiment::all(&args.dir)?;
    if args.names.is_empty() && !args.all {
        let width = known.iter().map(|experiment| experiment.name.len()).max().unwrap_or(0);
        let line =
            |experiment: &Experiment| format!("{:width$}  {}\n", experiment.name, experiment.spec.title);
        return print(&known.iter().map(line).collect::<String>());
    }
    let chosen = if args.all {
        known.clone()
    } else {
        args.names.iter().map(|name| Experiment::load(&args.dir, name)).collect::<Result<_>>()?
    };
    for experiment in &chosen {
        let (out, took) = carry_out(experiment, args)?;
        if args.update {
            experiment.publish(&out, took)?;
        }
        if !args.quiet {
            let marked = if args.quick { " (quick: no evidence for the claim)" } else { "" };
            eprintln!(
                "{}: {:.0} s, results in {}{marked}",
                experiment.name,
                took.as_secs_f64(),
                out.display()
            );
        }
    }
    if args.update {
        write_atomically(&args.dir.join("README.md"), index(&known).as_bytes())?;
    }
    Ok(())
}

fn carry_out(experiment: &Experiment, args: &Args) -> Result<(PathBuf, Duration)> {
    let name = format!("{}{}", experiment.name, if args.quick { "-quick" } else { "" });
    let base = args.out.clone().unwrap_or_else(|| Path::new("runs").join("experiments"));
    let out = free_name(&base.join(name));
    claim(&out)?;
    let clock = Instant::now();
    for (i, program) in experiment.programs(&out, args.quick).into_iter().enumerate() {
        match program {
            Program::Own(words) => own(words, args.quiet).map_err(|error| of_step(experiment, i, &error))?,
            Program::Other(words, save) => {
                other(&words, save.as_deref()).map_err(|problem| of_step(experiment, i, &problem))?;
            }
        }
    }
    Ok((out, clock.elapsed()))
}

fn of_step(experiment: &Experiment, i: usize, problem: &impl std::fmt::Display) -> Error {
    Error::file(experiment.folder.join("experiment.toml"), format!("steps[{i}]: {problem}"))
}

fn own(words: Vec<String>, quiet: bool) -> Result<()> {
    if !quiet {
        eprintln!("seccogc {}", words.join(" "));
    }
    let words: Vec<String> = std::iter::once("seccogc".to_owned()).chain(words).collect();
    let parse = |words: &[String]| Cli::try_parse_from(words);
    // Not every verb has something to be quiet about.
    let silent = quiet
        .then(|| parse(&[&words[..], &["--quiet".to_owned()]].concat()))
        .and_then(std::result::Result::ok);
    let cli = silent.map_or_else(|| parse(&words), Ok).map_err(|error| {
        let text = error.to_string();
        Error::Refused(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    if matches!(cli.verb, Verb::Experiment(_)) {
        return Err(Error::Refused("an experiment cannot be a step of another one".into()));
    }
    super::run(cli, &Alone).map(|_| ())
}

/// Runs another program; what it prints goes to the file `save`, or where this program prints.
fn other(words: &[String], save: Option<&Path>) -> std::result::Result<(), String> {
    let [program, rest @ ..] = words else { return Err("`command` is empty".into()) };
    let mut command = Command::new(program);
    command.args(rest);
    let failed = |error: std::io::Error| format!("cannot run {program}: {error}");
    let status = match save {
        None => command.status().map_err(failed)?,
        Some(path) => {
            let output = command.stderr(std::process::Stdio::inherit()).output().map_err(failed)?;
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            }
            write_atomically(path, &output.stdout).map_err(|error| error.to_string())?;
            output.status
        }
    };
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
}
