//! The verb `plot`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::error::Result;
use crate::record::make_parent;
use crate::report::{self, Series, Spread};
use crate::say::say;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc plot runs/a runs/b --out figures/a-and-b\n  \
    seccogc plot runs/three-seeds --band confidence\n  \
    seccogc plot runs/a runs/b --over traffic";

#[derive(clap::Args)]
pub struct Args {
    /// Run, comparison or sweep folders
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Name of the figure without extension [default: accuracy in the folder, or ./accuracy for several]
    #[arg(long, value_name = "STEM")]
    out: Option<PathBuf>,
    /// What the bands around the means over seeds show
    #[arg(long, value_enum, default_value_t = Spread::Deviation)]
    band: Spread,
    /// What accuracy is drawn over
    #[arg(long, value_enum, default_value_t = Over::Rounds)]
    over: Over,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Over {
    /// Communication rounds; a single run with its losses, outcomes and traffic below.
    Rounds,
    /// Megabytes of all messages so far.
    Traffic,
    /// Simulated seconds so far.
    Time,
}

/// A figure's name without extension, whichever of its two files was meant.
fn stem_of(out: &Path) -> PathBuf {
    match out.extension().and_then(|extension| extension.to_str()) {
        Some("svg" | "png") => out.with_extension(""),
        _ => out.to_owned(),
    }
}

/// Draws.
pub fn run(args: &Args) -> Result<()> {
    let series = report::load(&args.runs)?;
    let out = match (&args.out, &args.runs[..]) {
        (Some(out), _) => stem_of(out),
        (None, [one]) => one.join("accuracy"),
        (None, _) => PathBuf::from("accuracy"),
    };
    make_parent(&out)?;
    let title = out.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    match (&args.runs[..], &series[..]) {
        _ if args.over == Over::Time => report::plot_time(&series, args.band, &title, &out)?,
        _ if args.over == Over::Traffic => report::plot_traffic(&series, args.band, &title, &out)?,
        ([run], [Series { name, runs }]) if runs.len() == 1 && run.join("rounds.csv").exists() => {
            report::plot_run(&runs[0], name, &out)?;
        }
        _ => report::plot_accuracy(&series, args.band, &title, &out)?,
    }
    if std::io::stderr().is_terminal() {
        say!("drew {0}.svg and {0}.png", out.display());
    }
    Ok(())
}
