//! The verb `audit`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

use super::progress::Points;
use super::recover::Dimension;
use super::{Count, print, show_warnings};
use crate::audit::calibrate::Calibrated;
use crate::audit::{Adversaries, Assumptions, Audit, Entry};
use crate::audits::{Losses, Subject};
use crate::config::Config;
use crate::error::{Error, Result, count};
use crate::keys::KeyKind;
use crate::privacy::view::Coalition;
use crate::record::to_csv;
use crate::report::short;
use crate::say::say;

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
pub fn run(args: &Args) -> Result<ExitCode> {
    show_warnings(false);
    let mut config = Config::load(&args.config, &args.sets)?;
    if let Some(dir) = &args.data_dir {
        config.data.dir = Some(dir.clone());
    }
    let count = Count { parameters: None, data_dir: args.data_dir.clone() };
    let subject = Subject::new(&config, Dimension::default().of(&config, &count)?)?;
    let coalition = args.coalition.as_deref();
    let coalition = coalition.map(|text| Coalition::parse(text, subject.smallest())).transpose()?;
    let adversaries = Adversaries { all: args.all_coalitions, coalition };
    if args.calibrate {
        let found = subject.calibrations(&adversaries)?.into_iter();
        let rows: Vec<_> = found.flat_map(|(name, found)| sufficient(name, found)).collect();
        show_sufficient(&rows, args.format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let losses = match args.erasures.as_str() {
        "worst" => Losses::Worst,
        "actual" => Losses::Actual,
        file => Losses::File(file.into()),
    };
    let mut progress = Points::new("audit", args.quiet);
    let audits = subject.audits(&adversaries, &losses, &mut |place, total, what| {
        progress.at(place, total, what);
        Ok(())
    });
    progress.finish();
    let audits = audits?;
    show(&audits, args.format, &subject.cases()[0])?;
    let exceeded = subject.exceeded(&audits);
    exceeded.iter().for_each(|line| say!("exceeded: {line}"));
    Ok(ExitCode::from(u8::from(!exceeded.is_empty())))
}

fn show(audits: &[Audit], format: Format, assumptions: &Assumptions) -> Result<()> {
    match format {
        Format::Table => {
            let tables: Vec<String> = audits.iter().map(|audit| table(audit, assumptions)).collect();
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

/// One line a layer, smallest and largest value over the clients.
fn table(audit: &Audit, assumptions: &Assumptions) -> String {
    let Assumptions { input_std, clip, delta, rounds, .. } = assumptions;
    let clipped = match clip {
        Some(clip) => format!("updates clipped to {clip}"),
        None => "epsilon is unbounded: updates are not clipped (set solver.clip_norm)".into(),
    };
    let assumed = if audit.exact {
        format!(
            "over a prime field: LMIP in bits per coordinate for uniform updates; epsilon is 0 or infinite, for 1 | {}",
            count(rounds, "round")
        )
    } else {
        format!(
            "LMIP in bits per coordinate at update_std {input_std}; epsilon at delta {delta} for 1 | {}; {clipped}",
            count(rounds, "round")
        )
    };
    let mut text = format!("{}: {}\n{assumed}\n{}\n", audit.protocol, audit.erasures, clients(audit));
    text +=
        "adversaries follow the protocol and pool what they see; what holds beyond that: seccogc::deploy\n";
    if let Some(step) = audit.step {
        text += &format!(
            "of bits: provable of what is sent in floating point, in multiples of 2^{:.0}, for {}; the rest is for real numbers\n",
            step.log2(),
            count(rounds, "round")
        );
    } else if !audit.exact {
        text += "nothing is proved of the bits that are sent: there are no keys, or they are not on a grid\n";
    }
    if let Some(idealised) = audit.idealised {
        text += &format!("{idealised}\n");
    }
    if let Some(rule) = &audit.participation {
        text += &format!(
            "{rule} reads the single updates in the server's view and keeps what it makes of them: nothing beyond the view is learned\n"
        );
    }
    let mut lines = vec![
        [
            "adversary",
            "LMIP min",
            "max",
            "max/min",
            "of the sum",
            "symbols",
            "eps on the view",
            "eps beyond the sum",
            "LMIP of bits",
            "eps of bits",
        ]
        .map(String::from),
    ];
    for entries in audit.entries.chunk_by(|a, b| a.layer == b.layer) {
        let extremes = |of: fn(&Entry) -> f64| {
            let values = entries.iter().map(of);
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max))
        };
        let (least, most) = extremes(|entry| entry.lmip_bits);
        let pair = |one: fn(&Entry) -> f64, all: fn(&Entry) -> f64| {
            format!("{} | {}", short(extremes(one).1), short(extremes(all).1))
        };
        lines.push([
            entries[0].layer.clone(),
            short(least),
            short(most),
            format!("{:.3}", if most == least { 1.0 } else { most / least }),
            short(extremes(|entry| entry.floor_bits).1),
            entries.iter().map(|entry| entry.symbols).max().unwrap_or(0).to_string(),
            pair(|entry| entry.epsilon_view, |entry| entry.epsilon_view_total),
            pair(|entry| entry.epsilon_beyond_sum, |entry| entry.epsilon_beyond_sum_total),
            optional(entries, |entry| entry.lmip_bits_floating),
            optional(entries, |entry| entry.epsilon_floating),
        ]);
    }
    text += &aligned(&lines);
    for entries in audit.entries.chunk_by(|a, b| a.layer == b.layer) {
        if let Some(entry) = entries.iter().find(|entry| entry.symbols > 0) {
            text += &format!("{} sees without any key: {}\n", entry.layer, entry.counterexample);
        }
    }
    for finding in &audit.findings {
        text += &format!("finding: {finding}\n");
    }
    text
}

/// The largest of what all clients have, – where one has none.
fn optional(entries: &[Entry], of: fn(&Entry) -> Option<f64>) -> String {
    let values: Option<Vec<f64>> = entries.iter().map(of).collect();
    values.map_or_else(|| "–".into(), |values| short(values.into_iter().fold(0.0, f64::max)))
}

/// Whose round it is, and what is assumed of them.
fn clients(audit: &Audit) -> String {
    let Audit { cohort, weights: [least, most], open, exact, .. } = audit;
    let mut text = match open {
        true => format!(
            "{} in a round, each of any weight from {least:.4} to {most:.4} that tells most",
            count(cohort, "client")
        ),
        false => format!("{} of weights from {least:.4} to {most:.4}", count(cohort, "client")),
    };
    if *exact {
        text += "; uniform updates tell the same at every weight";
    }
    if let Some(least) = audit.least_included {
        let what =
            if audit.participation.is_some() { "the mean is estimated from" } else { "the sum is over" };
        text += &format!("; {what} those whose updates arrive, {least} or more");
    }
    text
}

/// Columns of equal width, the first one to the left.
fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") }
        });
        cells.collect::<String>() + "\n"
    };
    lines.iter().map(line).collect()
}

/// The weakest sufficient keys of one construction.
#[derive(Serialize)]
struct Sufficient {
    protocol: String,
    /// Construction, `noise` for independent noise.
    keys: String,
    /// Smallest sufficient σ; empty when no σ suffices.
    key_std: Option<f64>,
    /// Σ_k Var(u_k) per coordinate.
    total_power: Option<f64>,
    /// Its ratio to the first construction's of the same protocol.
    power_ratio: Option<f64>,
    /// Why no σ suffices.
    obstacle: Option<String>,
}

fn sufficient(protocol: &str, found: Vec<Calibrated>) -> Vec<Sufficient> {
    let first = found.first().and_then(|one| one.total_power);
    found
        .into_iter()
        .map(|one| Sufficient {
            protocol: protocol.to_owned(),
            keys: one.keys.map_or("noise", KeyKind::name).to_owned(),
            key_std: one.key_std,
            total_power: one.total_power,
            power_ratio: one.total_power.zip(first).map(|(power, first)| power / first),
            obstacle: one.obstacle,
        })
        .collect()
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
            print(&(aligned(&lines) + &obstacles.collect::<String>()))
        }
    }
}
