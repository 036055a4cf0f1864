//! The verbs and flags of the `seccogc` program. Every failure prints one line and exits with code 2; a run
//! that diverges is no failure of the program, it prints one line and exits with code 3.

mod account;
mod arguments;
mod attack;
mod audit;
mod compare;
mod config;
mod dashboard;
mod data;
#[cfg(feature = "deploy")]
mod deploy;
mod experiment;
mod inference;
mod interrupt;
mod job;
mod model;
mod plan;
mod plot;
mod privacy;
mod progress;
mod quick;
mod recover;
mod report;
mod sweep;
mod table;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, slug};
use crate::error::{Error, Result};
use crate::learn::Device;
use crate::record::Played;
use crate::record::{End, free_folder, rounds_csv};
use crate::report::plot_run;
use crate::say::{Patient, say};
use crate::train::{Alone, Crew, Setting};
use crate::verbs::Size;
use progress::{Progress, View};

#[derive(Parser)]
#[command(name = "seccogc", version, about, long_about = LONG_ABOUT, after_help = TOP_EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// Worker threads; all cores by default. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Option<u64>,
    #[command(subcommand)]
    verb: Verb,
}

const LONG_ABOUT: &str = "Federated learning that stays exact and private when links fail.\n\n\
    Clients share coded, masked updates with each other; the server decodes the exact sum of all updates or nothing, although \
    any link may drop (secure cooperative gradient coding). Every baseline runs on the same data, batches and link failures.";

const TOP_EXAMPLES: &str = "Examples:\n  \
    seccogc compare configs/mnist_compare.toml           the main comparison, offline, on real MNIST\n  \
    seccogc train configs/mnist.toml --seed 3            one run\n  \
    seccogc export runs/s5 --format onnx                 the model of a run, for other programs\n  \
    seccogc sweep configs/sweep.toml                     a grid of runs with several seeds\n  \
    seccogc audit configs/mnist.toml                     what everybody can learn about an update\n  \
    seccogc recover configs/mnist.toml                   how often rounds are recovered\n  \
    seccogc privacy configs/privacy.toml --seeds 3       accuracy against the level of privacy\n  \
    seccogc experiment                                   the claims and the commands that test them\n  \
    seccogc config explain protocol                      every key of [protocol]\n  \
    seccogc data fetch cifar10                           a complete dataset";

#[derive(Subcommand)]
enum Verb {
    /// Train one model with one protocol
    #[command(after_help = train_examples())]
    Train(Train),
    /// Run several protocols on the same data, batches, initial model and link failures
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::Args),
    /// Train every combination of some values of keys, with several seeds, in parallel and resumable
    #[command(after_help = sweep::EXAMPLES)]
    Sweep(sweep::Args),
    /// How often rounds are recovered over the configured links, and at what cost, without learning
    #[command(after_help = recover::EXAMPLES)]
    Recover(recover::Recover),
    /// Which gradient code and straggler tolerance suit the configured links
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::Plan),
    /// List, fetch and check datasets
    #[command(subcommand, after_help = data::EXAMPLES)]
    Data(data::Data),
    /// Draw accuracy over rounds for run, comparison and sweep folders (SVG and PNG)
    #[command(after_help = plot::EXAMPLES)]
    Plot(plot::Args),
    /// Print a table of runs: rows × columns by configuration keys, mean ± spread over seeds
    #[command(after_help = table::EXAMPLES)]
    Table(table::Args),
    /// Write one self-contained HTML file about runs: summary, figures, audit, configurations
    #[command(after_help = report::EXAMPLES)]
    Report(report::Args),
    /// Compute what every party, link and coalition can learn about a client's update
    #[command(after_help = audit::EXAMPLES)]
    Audit(audit::Args),
    /// Bound what many noisy releases tell together: (ε, δ) of a run, or the noise or rounds for a target
    #[command(after_help = account::EXAMPLES)]
    Account(account::Account),
    /// Measure accuracy, leakage and recovery error against the strength of the keys, with figures
    #[command(after_help = privacy::EXAMPLES)]
    Privacy(privacy::Args),
    /// Attack what a neighbour and the server receive: gradient inversion and membership inference
    #[command(after_help = attack::EXAMPLES)]
    Attack(attack::Args),
    /// Carry out an experiment: the commands that test a claim, and the results that are kept with it
    #[command(after_help = experiment::EXAMPLES)]
    Experiment(experiment::Args),
    /// Serve a run to clients on machines of their own
    #[cfg(feature = "deploy")]
    #[command(after_help = deploy::SERVE_EXAMPLES)]
    Serve(deploy::Serve),
    /// Take part in a run that `seccogc serve` serves, with data that stays here
    #[cfg(feature = "deploy")]
    #[command(after_help = deploy::JOIN_EXAMPLES)]
    Join(deploy::Join),
    /// Make certificates for a trial of `serve` and `join`
    #[cfg(feature = "deploy")]
    #[command(subcommand, after_help = deploy::PKI_EXAMPLES)]
    Pki(deploy::Pki),
    #[command(flatten)]
    Inference(inference::Verb),
    /// List the models, and show the layers of one
    #[command(subcommand, after_help = model::EXAMPLES)]
    Model(model::Model),
    /// Explain keys, write a file to start from, say what a file would run
    #[command(subcommand, after_help = self::config::EXAMPLES)]
    Config(self::config::Verb),
    /// Print the completions of a shell, e.g. for `source <(seccogc completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const TRAIN_EXAMPLES: &str = "Examples:\n  \
    seccogc train configs/mnist.toml\n  \
    seccogc train configs/mnist.toml --set protocol.stragglers=5 --set rounds=30 --out runs/s5\n  \
    seccogc train configs/mnist.toml --set protocol.kind=fedavg --csv --quiet > rounds.csv\n  \
    seccogc train configs/mnist.toml --start runs/s5     from the model of another run\n  \
    seccogc train --resume runs/s5                       go on after an interruption\n  \
    seccogc train --resume runs/s5 --set rounds=300      or with more rounds";

fn train_examples() -> String {
    let ranks = "\n  \
        mpirun -n 4 seccogc train configs/mnist.toml         the same tables, the clients divided over four processes";
    format!("{TRAIN_EXAMPLES}{}", if cfg!(feature = "mpi") { ranks } else { "" })
}

#[derive(Args)]
struct Common {
    /// Override one key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Folder for the results; must be new or empty [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the neural network computes: cpu (flex), ndarray or wgpu, as built in
    /// [default: cpu, or the run's own with --resume]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Model to start from: a run folder, whose last model is taken, or a safetensors file
    #[arg(long, value_name = "MODEL")]
    start: Option<PathBuf>,
    /// Seed of every random stream, instead of the configuration's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Folder of the complete datasets [default: $SECCOGC_DATA, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A short look: ten rounds at most, and attacks of a few steps and runs
    #[arg(long)]
    quick: bool,
    /// Print the resulting table as CSV on standard output
    #[arg(long)]
    csv: bool,
    /// Print nothing but errors (and what --csv asks for)
    #[arg(long, short)]
    quiet: bool,
}

/// Where the number of coordinates of an update comes from.
#[derive(Args)]
struct Count {
    /// Coordinates of an update, which decide the size of the messages
    /// [default: those of the configured model]
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u64).range(1..))]
    parameters: Option<u64>,
    /// Folder of the complete datasets [default: $SECCOGC_DATA, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Count {
    fn size(&self) -> Size {
        Size::new(self.parameters.map(|parameters| parameters as usize), self.data_dir.clone())
    }
}

#[derive(Args)]
struct Train {
    /// The configuration, a TOML file
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Go on with a run folder: an interrupted run, or with --set rounds=N one that is to be longer
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "seed", "start", "quick"])]
    resume: Option<PathBuf>,
    /// Show a dashboard on the terminal: accuracy, loss, recovery, leakage and traffic so far
    #[arg(long, conflicts_with = "quiet")]
    dashboard: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs the program on the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::from(main_from(std::env::args_os()))
}

/// Runs the program on these arguments, of which the first is its own name, and returns the exit code.
#[must_use]
pub fn main_from<T: Into<OsString> + Clone>(args: impl IntoIterator<Item = T>) -> u8 {
    let code = start(Cli::try_parse_from(args));
    // Rust does it at the end of its own programs only. Whoever reads may have gone.
    let _ = std::io::stdout().flush();
    code
}

fn start(cli: Result<Cli, clap::Error>) -> u8 {
    #[cfg(feature = "mpi")]
    if let Some(ranks) = crate::train::ranks::Ranks::join() {
        if ranks.leads() {
            return answer(cli, &ranks);
        }
        // What is wrong with the arguments is rank 0's to say.
        ranks.serve(cli.map_or(Ok(()), |cli| take_threads(&cli)));
        return 0;
    }
    answer(cli, &Alone)
}

fn answer(cli: Result<Cli, clap::Error>, crew: &dyn Crew) -> u8 {
    let result = match cli {
        Ok(cli) => run(cli, crew),
        Err(other) => return arguments::answer(other),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say!("error: {}", error.line());
            error.exit_code()
        }
    }
}

fn take_threads(cli: &Cli) -> Result<()> {
    cli.threads.map_or(Ok(()), |threads| crate::parallel::set_threads(threads as usize))
}

fn run(cli: Cli, crew: &dyn Crew) -> Result<u8> {
    take_threads(&cli)?;
    if crew.size() > 1 && !matches!(cli.verb, Verb::Train(_)) {
        let instead = match cli.verb {
            Verb::Sweep(_) => "say --shard I/N, and start the N parts without mpirun",
            _ => "start it without mpirun",
        };
        return Err(Error::Refused(format!("only `train` is divided over {} ranks; {instead}", crew.size())));
    }
    match cli.verb {
        Verb::Audit(args) => return audit::run(&args),
        Verb::Account(args) => account::account(&args)?,
        Verb::Privacy(args) => privacy::run(&args)?,
        Verb::Attack(args) => attack::run(&args)?,
        Verb::Train(args) => train(&args, crew)?,
        Verb::Compare(args) => compare::run(&args)?,
        Verb::Recover(args) => return recover::recover(&args),
        Verb::Plan(args) => return plan::plan(&args),
        #[cfg(feature = "deploy")]
        Verb::Serve(args) => deploy::serve(&args)?,
        #[cfg(feature = "deploy")]
        Verb::Join(args) => deploy::join(&args)?,
        #[cfg(feature = "deploy")]
        Verb::Pki(verb) => deploy::pki(&verb)?,
        Verb::Data(verb) => data::run(&verb)?,
        Verb::Model(verb) => model::run(&verb)?,
        Verb::Inference(verb) => inference::run(&verb)?,
        Verb::Plot(args) => plot::run(&args)?,
        Verb::Sweep(args) => sweep::run(&args)?,
        Verb::Table(args) => table::run(&args)?,
        Verb::Report(args) => report::run(&args)?,
        Verb::Experiment(args) => experiment::run(&args)?,
        Verb::Config(verb) => self::config::run(&verb)?,
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "seccogc", &mut Patient(std::io::stdout()));
        }
    }
    Ok(0)
}

/// Writes to standard output; a closed pipe is not an error.
fn print(text: &impl std::fmt::Display) -> Result<()> {
    let text = text.to_string();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(std::io::stdout().lock(), "{text}{end}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", Path::new("standard output"))(error))
        }
        _ => Ok(()),
    }
}

fn load(path: &Path, common: &Common) -> Result<Config> {
    let mut config = Config::load(path, &common.sets)?;
    if let Some(seed) = common.seed {
        config.seed = seed;
    }
    if let Some(dir) = &common.data_dir {
        config.data.dir = Some(dir.clone());
    }
    if let Some(start) = &common.start {
        config.start = Some(std::path::absolute(start).unwrap_or_else(|_| start.clone()));
    }
    Ok(if common.quick { quick::shortened(config) } else { config })
}

/// What a run is called: its protocol, with the rule of participation if there is one.
fn label(config: &Config) -> String {
    config.participation.label(config.protocol.kind())
}

/// A file's or folder's own name, without extension.
fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "run".into(), |stem| stem.to_string_lossy().into_owned())
}

/// Does `work` in the folder that was asked for, or else in the first free one of that name under `runs`. A
/// failure that leaves nothing there leaves no new folder either.
fn in_folder<T>(out: Option<&Path>, name: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    if let Some(out) = out {
        return work(out);
    }
    let folder = free_folder(&Path::new("runs").join(name))?;
    let done = work(&folder);
    if done.is_err() {
        // Refused by the system where something lies in it.
        let _ = std::fs::remove_dir(&folder);
    }
    done
}

/// The configuration's file: of something new, or in the folder to go on with.
fn source(config: Option<&Path>, resume: Option<&Path>) -> Result<PathBuf> {
    match (resume, config) {
        (Some(folder), _) => Ok(folder.join("config.toml")),
        (None, Some(path)) => Ok(path.to_owned()),
        (None, None) => Err(Error::Refused("give a configuration, or --resume with a folder".into())),
    }
}

/// Configuration of one run, and the name of its folder where none is given.
fn begin(config: Option<&Path>, resume: Option<&Path>, common: &Common) -> Result<(Config, String)> {
    let path = source(config, resume)?;
    let config = load(&path, common)?;
    let name = format!("{}-{}-seed{}", stem(&path), slug(&label(&config)), config.seed);
    Ok((config, name))
}

/// Prints what a verb found, as CSV where that is asked for, and where the rest lies.
fn tell((csv, quiet): (bool, bool), as_csv: &[u8], table: &str, folder: &Path) -> Result<()> {
    if csv {
        print(&String::from_utf8_lossy(as_csv))?;
    } else if !quiet {
        print(&table)?;
    }
    if !quiet {
        say!("results in {}", folder.display());
    }
    Ok(())
}

/// The device that is asked for, or else that of the run to go on with.
fn device(common: &Common, resume: Option<&Path>) -> Result<Device> {
    match (&common.device, resume) {
        (Some(device), _) => device.parse(),
        (None, Some(run)) => crate::record::RunInfo::load(&run.join("run.json"))?.device.parse(),
        (None, None) => "cpu".parse(),
    }
}

/// Draws the run that ended in `directory` and says where it is; an error where it diverged, which tells how
/// the `verb` goes on.
fn finish(verb: &str, directory: &Path, end: &End, common: &Common) -> Result<()> {
    let played = Played::read(directory)?;
    plot_run(&played, &stem(directory), &directory.join("accuracy"))?;
    if !common.quiet {
        say!("results in {}", directory.display());
    }
    if common.csv {
        print(&String::from_utf8_lossy(&rounds_csv(&played.rows)?))?;
    }
    match end.diverged {
        None => Ok(()),
        Some(diverged) => {
            let (how, run) = (diverged.what.remedy(), directory.display());
            let again = format!("`seccogc {verb} --resume {run}` goes on after round {}", end.rounds);
            Err(Error::Diverged { diverged, remedy: format!("{how} in {run}/config.toml, then {again}") })
        }
    }
}

/// Shows warnings on standard error.
fn show_warnings(quiet: bool) {
    let level = if quiet { "error" } else { "seccogc=warn,error" };
    let log = tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_writer(|| Patient(std::io::stderr()))
        .with_ansi(false);
    // A second call in one process keeps the first log.
    let _ = log.without_time().with_target(false).try_init();
}

fn train(args: &Train, crew: &dyn Crew) -> Result<()> {
    let common = &args.common;
    show_warnings(common.quiet);
    let (config, name) = begin(args.config.as_deref(), args.resume.as_deref(), common)?;
    let device = device(common, args.resume.as_deref())?;
    let out = args.resume.as_deref().or(common.out.as_deref());
    in_folder(out, &name, |folder| {
        crew.enlist(&config, &device, folder)?;
        let setting = Setting::build(&config, device)?;
        let run = setting.run(&config.protocol)?.with_crew(crew);
        crew.muster()?;
        let (state, mut recording) =
            if args.resume.is_some() { run.resume(folder)? } else { run.create(folder)? };
        if !common.quiet {
            say!("{}", setting.class_table());
            if args.resume.is_some() && state.round >= config.rounds {
                let (run, rounds) = (folder.display(), config.rounds);
                say!(
                    "{run}: all {rounds} rounds are played; `train --resume {run} --set rounds=N` plays more"
                );
            }
        }
        let view = View::of(common.quiet, args.dashboard);
        let mut progress = Progress::new(&label(&config), config.rounds, view);
        progress.after(recording.rows()?);
        let (_, end) = run.record(state, &mut recording, &mut |row| {
            progress.row(row);
            Ok(())
        })?;
        progress.finish(&end);
        finish("train", folder, &end, common)
    })
}
