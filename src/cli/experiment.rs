//! The verb `experiment`.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Parser;

use super::{Alone, Cli, Verb, print};
use crate::error::{Error, Result};
use crate::experiment::{Experiment, Program, Took, index};
use crate::record::{free_folder, last_name, write_atomically};
use crate::say::say;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc experiment                                   list them\n  \
    seccogc experiment mnist_compare --quick             minutes instead of the complete run\n  \
    seccogc experiment mnist_compare --update            the complete run, published beside its claim\n  \
    seccogc experiment --all --update                    all of them, and the index\n  \
    seccogc experiment --all --update --resume           after an interruption";

/// The command lines that are finished, in the folder of a run.
const FINISHED: &str = ".finished";

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
    /// Go on with the last run of each after an interruption: finished steps are left out, sweeps keep their
    /// finished runs
    #[arg(long)]
    resume: bool,
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
            experiment.publish(&out, &took)?;
        }
        if !args.quiet {
            let marked = if args.quick { " (quick: no evidence for the claim)" } else { "" };
            say!("{}: {took}, results in {}{marked}", experiment.name, out.display());
        }
    }
    if args.update {
        write_atomically(&args.dir.join("README.md"), index(&known).as_bytes())?;
    }
    Ok(())
}

fn carry_out(experiment: &Experiment, args: &Args) -> Result<(PathBuf, Took)> {
    let name = format!("{}{}", experiment.name, if args.quick { "-quick" } else { "" });
    let base = args.out.clone().unwrap_or_else(|| Path::new("runs").join("experiments"));
    let base = base.join(name);
    let begun = args.resume.then(|| last_name(&base)).flatten();
    let resumed = begun.is_some();
    let out = begun.map_or_else(|| free_folder(&base), Ok)?;
    let record = out.join(FINISHED);
    let mut finished = if record.exists() {
        fs::read_to_string(&record).map_err(Error::io("read", &record))?
    } else {
        String::new()
    };
    let before: Vec<String> = finished.lines().map(str::to_owned).collect();
    let clock = Instant::now();
    for (i, program) in experiment.programs(&out, args.quick).into_iter().enumerate() {
        let line = program.to_string();
        match before.get(i) {
            Some(done) if *done == line => continue,
            Some(_) => {
                let problem =
                    format!("{} was begun with another command; start anew without --resume", out.display());
                return Err(of_step(experiment, i, &problem));
            }
            None => {}
        }
        match program {
            Program::Own(words) => {
                let words = if resumed { gone_on(words, &out)? } else { words };
                own(words, args.quiet).map_err(|error| of_step(experiment, i, &error))?;
            }
            Program::Other(words, save) => {
                other(&words, save.as_deref()).map_err(|problem| of_step(experiment, i, &problem))?;
            }
        }
        finished += &line;
        finished.push('\n');
        write_atomically(&record, finished.as_bytes())?;
    }
    Ok((out, if resumed { Took::Parts } else { Took::Whole(clock.elapsed()) }))
}

/// The words of a step that may have been interrupted: a sweep goes on, everything else starts again in an
/// empty folder.
fn gone_on(mut words: Vec<String>, run: &Path) -> Result<Vec<String>> {
    let out = words.iter().position(|word| word == "--out").and_then(|i| words.get(i + 1)).map(PathBuf::from);
    let inside = |out: &PathBuf| {
        out.is_dir()
            && out.strip_prefix(run).is_ok_and(|rest| {
                rest.components().next().is_some()
                    && !rest.components().any(|part| part == Component::ParentDir)
            })
    };
    let Some(out) = out.filter(inside) else {
        return Ok(words);
    };
    if words.first().is_some_and(|verb| verb == "sweep") {
        words.push("--resume".into());
    } else {
        fs::remove_dir_all(&out).map_err(Error::io("remove", &out))?;
    }
    Ok(words)
}

fn of_step(experiment: &Experiment, i: usize, problem: &impl std::fmt::Display) -> Error {
    Error::file(experiment.folder.join("experiment.toml"), format!("steps[{i}]: {problem}"))
}

fn own(words: Vec<String>, quiet: bool) -> Result<()> {
    if !quiet {
        say!("{}", Program::Own(words.clone()));
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
