//! The verb `table`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::print;
use crate::error::{Error, Result};
use crate::record::write_named;
use crate::report::{Best, Pivot, Quantity, Runs, Spread};

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc table runs/sweep\n  \
    seccogc table runs/sweep --rows variant,protocol.key_std --columns network.client_client.erasure --format latex\n  \
    seccogc table runs/sweep --value rounds-to-target --only variant=FedAvg\n  \
    seccogc table runs/a runs/b runs/c --rows protocol.kind --columns protocol.stragglers";

#[derive(clap::Args)]
pub struct Args {
    /// Sweep, comparison or run folders
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Keys of the configuration that make the rows; `variant` is the name of a run
    /// [default: all swept keys but the last]
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    rows: Vec<String>,
    /// Keys of the configuration that make the columns [default: the last swept key, where there are several]
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    columns: Vec<String>,
    /// Only the runs with this value of a key; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    only: Vec<String>,
    /// What stands in the cells
    #[arg(long, value_enum, default_value_t = Quantity::FinalAccuracy)]
    value: Quantity,
    /// What stands behind the ± where there are several seeds
    #[arg(long, value_enum, default_value_t = Spread::Deviation)]
    spread: Spread,
    /// Where the best value is set in bold
    #[arg(long, value_enum, default_value_t = Best::Column)]
    best: Best,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
    /// Write it to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print nothing but errors (and the table, without --out)
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// Aligned for a terminal too.
    Markdown,
    /// With the package booktabs.
    Latex,
}

/// Prints the table.
pub fn run(args: &Args) -> Result<()> {
    let mut runs = Runs::read(&args.runs)?;
    for only in &args.only {
        let refuse = |problem: &str| Error::Refused(format!("--only {only}: {problem}"));
        let (key, value) = only
            .split_once('=')
            .ok_or_else(|| refuse("give it as key=value, for example protocol.kind=fedavg"))?;
        runs.runs.retain(|run| run.value(key.trim()).is_some_and(|own| same(own, value.trim())));
        if runs.runs.is_empty() {
            return Err(refuse("no run has this value"));
        }
    }
    let (rows, columns) = match (&args.rows[..], &args.columns[..]) {
        ([], []) => Pivot::default_keys(&runs),
        ([], columns) => {
            let (rows, last) = Pivot::default_keys(&runs);
            let rest = rows.into_iter().chain(last).filter(|key| !columns.contains(key));
            (rest.collect(), columns.to_vec())
        }
        (rows, columns) => (rows.to_vec(), columns.to_vec()),
    };
    let pivot = Pivot { rows, columns, quantity: args.value, spread: args.spread, best: args.best };
    let table = pivot.table(&runs)?;
    let text = match args.format {
        Format::Markdown => table.markdown(),
        Format::Latex => table.latex(),
    };
    match &args.out {
        Some(path) => write_named(path, text.as_bytes()),
        None => print(&text),
    }
}

/// Whether two values are the same text or the same number.
fn same(own: &str, wanted: &str) -> bool {
    own == wanted || matches!((own.parse::<f64>(), wanted.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
}
