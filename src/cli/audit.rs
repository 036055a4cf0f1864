//! The verb `audit`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::progress::Points;
use super::{print, show_warnings};
use crate::audit::{Assumptions, Audit, Entry};
use crate::audits::{Losses, Subject, Sufficient};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::record::to_csv;
use crate::report::{self, short};
use crate::say::say;
use crate::verbs::Size;

pub const EXAMPLES: &str = "Examples:\n  \
    seccogc audit configs/mnist.toml\n  \
    seccogc audit configs/mnist.toml --coalition server+2+1-3 --erasures actual\n  \
    seccogc audit configs/mnist.toml --all-coalitions 2 --format csv > leakage.csv\n  \
    seccogc audit configs/mnist.toml --set solver.clip_norm=1 --set privacy.max_ldp_epsilon=8 --calibrate\n\n\
    LMIP is local mutual information privacy: the bits that a view holds about one client's update, per coordinate. epsilon\n\
    and delta are those of local differential privacy: how well two updates can be told apart by who sees the view.\n\
    Exit code 1: a bound of [privacy] (max_ldp_epsilon, max_lmip_bits) is exceeded.";

#[derive(clap::Args)]
pub struct Args {
    /// The configuration, a TOML file; with [[compare]] sections, each of its protocols is audited
    config: PathBuf,
    /// Override one key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// One more adversary: parties and eavesdropped links joined by +, e.g. server+2, 3+1-2+4-server or
    /// server+h1 with helper 1
    #[arg(long, value_name = "WHO")]
    coalition: Option<String>,
    /// All coalitions of up to this many clients and helpers, with and without the server
    #[arg(long, value_name = "T", default_value_t = 1)]
    all_coalitions: usize,
    /// Lost messages: `worst`, `actual` (the links' own in the run's rounds), or a CSV file with the header
    /// from,to or from,to,attempt
    #[arg(long, value_name = "WHICH", default_value = "worst")]
    erasures: String,
    /// How to print the result: a table with one line a layer; csv and json have one line a layer and client
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Print the smallest keys that keep the bounds of [privacy], for every key construction, instead of the
    /// audit
    #[arg(long)]
    calibrate: bool,
    /// Print no progress
    #[arg(long, short)]
    quiet: bool,
    /// Folder of the complete datasets [default: $SECCOGC_DATA, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

/// Audits the configuration's protocols. The exit code is 1 when a declared bound is exceeded.
pub fn run(args: &Args) -> Result<u8> {
    show_warnings(false);
    let mut config = Config::load(&args.config, &args.sets)?;
    if let Some(dir) = &args.data_dir {
        config.data.dir = Some(dir.clone());
    }
    let subject = Subject::new(&config, Size::default().of(&config)?)?;
    let adversaries = subject.adversaries(args.coalition.as_deref(), args.all_coalitions)?;
    if args.calibrate {
        show_sufficient(&subject.sufficient(&adversaries)?, args.format)?;
        return Ok(0);
    }
    let mut progress = Points::new("audit", args.quiet);
    let audits = subject.audits(&adversaries, &Losses::named(&args.erasures), &mut |place, total, what| {
        progress.at(place, total, what);
        Ok(())
    });
    progress.finish();
    let audits = audits?;
    show(&audits, args.format, &subject.cases()[0])?;
    let exceeded = subject.exceeded(&audits);
    exceeded.iter().for_each(|line| say!("exceeded: {line}"));
    Ok(u8::from(!exceeded.is_empty()))
}

fn show(audits: &[Audit], format: Format, assumptions: &Assumptions) -> Result<()> {
    match format {
        Format::Table => {
            let tables: Vec<String> =
                audits.iter().map(|audit| report::audit_table(audit, assumptions)).collect();
            print(&tables.join("\n"))
        }
        Format::Json => print_json(audits),
        Format::Csv => {
            let entries: Vec<&Entry> = audits.iter().flat_map(|audit| &audit.entries).collect();
            print(&String::from_utf8_lossy(&to_csv(&entries)?))
        }
    }
}

fn print_json(value: &(impl Serialize + ?Sized)) -> Result<()> {
    print(&serde_json::to_string_pretty(value).map_err(|error| Error::Refused(error.to_string()))?)
}

fn show_sufficient(rows: &[Sufficient], format: Format) -> Result<()> {
    match format {
        Format::Json => print_json(rows),
        Format::Csv => print(&String::from_utf8_lossy(&to_csv(rows)?)),
        Format::Table => {
            let cell = |value: Option<f64>| value.map_or_else(|| "none".into(), short);
            let mut lines = vec![["protocol", "keys", "key_std", "total power", "ratio"].map(String::from)];
            lines.extend(rows.iter().map(|row| {
                let (std, power) = (cell(row.key_std), cell(row.total_power));
                [row.protocol.clone(), row.keys.clone(), std, power, cell(row.power_ratio)]
            }));
            let obstacles = rows.iter().filter_map(|row| {
                let obstacle = row.obstacle.as_ref()?;
                Some(format!("no key_std suffices for {} keys of {}: {obstacle}\n", row.keys, row.protocol))
            });
            print(&(report::aligned(&lines) + &obstacles.collect::<String>()))
        }
    }
}
