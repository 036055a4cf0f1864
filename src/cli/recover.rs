//! `seccogc recover`: how often rounds are recovered, without learning.

use std::path::PathBuf;

use clap::Args;

use super::interrupt::on_interrupt;
use super::progress::Points;
use super::quick::PLAYED;
use super::{Count, in_folder, print, stem, tell};
use crate::config::Config;
use crate::error::{Error, Result, count};
use crate::record::to_csv;
use crate::say::say;
use crate::verbs::{Recovery, Step, Watch};

pub(super) const EXAMPLES: &str = "Examples:\n  \
    seccogc recover configs/mnist.toml\n  \
    seccogc recover configs/mnist.toml --sweep network.client_client.erasure=0,0.05,0.1,0.2,0.4\n  \
    seccogc recover configs/mnist.toml --set network.client_server.kind=rayleigh \\\n      \
    --sweep network.client_server.snr=1,3,10,30 --stragglers 1,4,7 --rounds 1000000 --out runs/fading";

#[derive(Args)]
pub(super) struct Recover {
    /// The configuration, a TOML file with a coded protocol; its rounds are not used
    config: PathBuf,
    /// Override one key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Columns of the grid: one key of the configuration and its values
    #[arg(long, value_name = "KEY=V1,V2,…")]
    sweep: Option<String>,
    /// Rows of the grid: straggler tolerances [default: all for which the configured code exists, 24 of them
    /// among more than 32 clients]
    #[arg(long, value_name = "S1,S2,…", value_delimiter = ',')]
    stragglers: Vec<usize>,
    /// A short look: a thousand rounds at every point, and no more
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Rounds played at every point [default: 100000, fewer among more than 32 clients]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    #[command(flatten)]
    count: Count,
    /// Seed of every random stream, instead of the configuration's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Folder for the results; must be new or empty [default: runs/NAME-recover]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the resulting table as CSV on standard output
    #[arg(long)]
    csv: bool,
    /// Print nothing but errors (and what --csv asks for)
    #[arg(long, short)]
    quiet: bool,
}

/// The key and the values of `--sweep`; without a sweep one column.
fn columns(sweep: Option<&str>) -> Result<(String, Vec<String>)> {
    let Some(sweep) = sweep else { return Ok((String::new(), vec![String::new()])) };
    let refuse = || {
        let example = "give it as key=values, for example network.client_client.erasure=0,0.1,0.2";
        Error::Refused(format!("--sweep {sweep}: {example}"))
    };
    let (key, values) = sweep.split_once('=').ok_or_else(refuse)?;
    let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
    if key.trim().is_empty() || values.iter().any(String::is_empty) {
        return Err(refuse());
    }
    Ok((key.trim().to_owned(), values))
}

/// Plays the grid and writes its folder. After Ctrl-C the points that were played are printed and nothing is
/// written, and the exit code is that of an interruption.
pub(super) fn recover(args: &Recover) -> Result<u8> {
    let (key, values) = columns(args.sweep.as_deref())?;
    let column = |value: String| {
        let mut sets = args.sets.clone();
        sets.extend((!key.is_empty()).then(|| format!("{key}={value}")));
        let mut config = Config::load(&args.config, &sets)?;
        config.seed = args.seed.unwrap_or(config.seed);
        Ok((value, config))
    };
    let columns = values.into_iter().map(column).collect::<Result<Vec<_>>>()?;
    let title = stem(&args.config);
    let recovery = Recovery {
        title: title.clone(),
        key,
        columns,
        stragglers: args.stragglers.clone(),
        rounds: if args.quick { Some(PLAYED) } else { args.rounds },
    };
    let mut progress = Points::new("recover", args.quiet);
    let mut hear = |step: &Step<'_>| {
        progress.found(step.place, step.total, step.what);
        Ok(())
    };
    let stop = on_interrupt();
    let (mut rows, mut size) = (Vec::new(), args.count.size());
    let ended = recovery.rows_into(&mut rows, &mut size, &mut Watch { stop: &stop, hear: &mut hear });
    progress.finish();
    match ended {
        Err(Error::Stopped) if !rows.is_empty() => {
            say!("interrupted: the {} that were played until then", count(rows.len(), "point"));
            if args.csv {
                print(&String::from_utf8_lossy(&to_csv(&rows)?))?;
            } else {
                print(&recovery.table(&rows))?;
            }
            return Ok(Error::Stopped.exit_code());
        }
        ended => ended?,
    }
    in_folder(args.out.as_deref(), &format!("{title}-recover"), |folder| {
        let found = recovery.write(&rows, folder)?;
        tell((args.csv, args.quiet), &found.csv, &found.text, folder)
    })?;
    Ok(0)
}
