//! The verb `report`.

use std::path::PathBuf;

use crate::error::Result;
use crate::record::make_parent;
use crate::report::{Spread, report_path, write_report};
use crate::say::say;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc report runs/sweep\n  \
    seccogc report runs/mnist_compare runs/s5 --out report.html";

#[derive(clap::Args)]
pub struct Args {
    /// Run, comparison or sweep folders
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The file [default: report.html in the folder, or ./report.html for several]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Heading of the report [default: the names of the folders]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// What stands behind the ± and in the bands where there are several seeds
    #[arg(long, value_enum, default_value_t = Spread::Deviation)]
    spread: Spread,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Writes the report.
pub fn run(args: &Args) -> Result<()> {
    let out = report_path(&args.runs, args.out.as_deref())?;
    args.out.as_deref().map_or(Ok(()), make_parent)?;
    let names = || args.runs.iter().map(|path| super::stem(path)).collect::<Vec<_>>().join(", ");
    let title = args.title.clone().unwrap_or_else(names);
    write_report(&args.runs, &title, args.spread, &out)?;
    if !args.quiet {
        say!("wrote {}", out.display());
    }
    Ok(())
}
