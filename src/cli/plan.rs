//! `seccogc plan`: which code and straggler tolerance suit a network.

use std::path::PathBuf;

use clap::Args;

use super::interrupt::on_interrupt;
use super::progress::Points;
use super::quick::PLAYED;
use super::{Count, print};
use crate::config::Config;
use crate::error::{Error, Result, count};
use crate::plan::Candidate;
use crate::record::to_csv;
use crate::recover::SOLVED_CLIENTS;
use crate::report::markdown;
use crate::say::say;
use crate::verbs::{self, Step, Watch};

pub(super) const EXAMPLES: &str = "Examples:\n  \
    seccogc plan configs/mnist.toml\n  \
    seccogc plan configs/mnist.toml --attempts 1,2,4 --csv > plan.csv\n  \
    seccogc plan configs/mnist.toml --max-outage 0.05\n  \
    seccogc train configs/mnist.toml --set protocol.stragglers=auto\n\n\
    Leakage is that among clients of equal size, whatever the partition;\n\
    `seccogc audit` takes the sizes that it gives them.";

#[derive(Args)]
pub(super) struct Plan {
    /// The configuration, a TOML file with a coded protocol
    config: PathBuf,
    /// Override one key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Attempts per round to consider [default: those of the configuration]
    #[arg(long, value_name = "A1,A2,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1000))]
    attempts: Vec<u32>,
    /// A short look: a thousand rounds where there is no closed form, and no more
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Rounds played where there is no closed form
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Show only what is an outage with at most this probability, above 0 and at most 1
    /// [default: `outage.at_most` of the configuration]
    #[arg(long, value_name = "P")]
    max_outage: Option<f64>,
    #[command(flatten)]
    count: Count,
    /// Seed of every random stream, instead of the configuration's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the table as CSV
    #[arg(long)]
    csv: bool,
    /// Print no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Prints the candidates; the exit code is that of an interruption where Ctrl-C ended the search.
pub(super) fn plan(args: &Plan) -> Result<u8> {
    let mut config = Config::load(&args.config, &args.sets)?;
    config.seed = args.seed.unwrap_or(config.seed);
    if let Some(bound) = args.max_outage {
        if !(bound > 0.0 && bound <= 1.0) {
            let rule = format!("--max-outage {bound}: a probability is above 0 and at most 1");
            return Err(Error::Refused(rule));
        }
        config.outage.at_most = Some(bound);
    }
    let mut progress = Points::new("plan", args.quiet);
    let mut hear = |step: &Step<'_>| {
        progress.found(step.place, step.total, step.what);
        Ok(())
    };
    let rounds = if args.quick { PLAYED } else { args.rounds };
    let stop = on_interrupt();
    let mut watch = Watch { stop: &stop, hear: &mut hear };
    let (mut found, mut size) = (Vec::new(), args.count.size());
    let ended = verbs::plan_into(&mut found, &config, &mut size, &args.attempts, rounds, &mut watch);
    progress.finish();
    let code = match ended {
        Err(Error::Stopped) if !found.is_empty() => {
            say!("interrupted: the {} that were found until then", count(found.len(), "candidate"));
            Error::Stopped.exit_code()
        }
        ended => ended.map(|()| 0)?,
    };
    if args.csv {
        print(&String::from_utf8_lossy(&to_csv(&found)?))?;
    } else {
        print(&table(&found, config.clients))?;
    }
    Ok(code)
}

fn table(found: &[Candidate], clients: usize) -> String {
    let header = [
        "code",
        "s",
        "decoder",
        "attempts",
        "outage (%)",
        "MB per recovered round",
        "time (s)",
        "amplification",
        "leakage to client",
        "leakage to server",
        "Pareto",
    ];
    let lines: Vec<[String; 11]> = found
        .iter()
        .map(|candidate| {
            let about = if candidate.exact { "" } else { "≈ " };
            let real = |x: f64, decimals: usize| match x {
                _ if x.is_nan() => "–".into(),
                _ if x.is_finite() => format!("{x:.decimals$}"),
                _ => "∞".into(),
            };
            [
                candidate.code.name().into(),
                candidate.stragglers.to_string(),
                candidate.decoder.into(),
                candidate.attempts.to_string(),
                format!("{about}{:.3}", 100.0 * candidate.outage),
                format!("{about}{}", real(candidate.bytes / 1e6, 2)),
                candidate.seconds.map_or_else(|| "–".into(), |seconds| real(seconds, 3)),
                real(candidate.amplification, 2),
                real(candidate.leakage_neighbour, 4),
                real(candidate.leakage_server, 4),
                if candidate.pareto { "*" } else { "" }.into(),
            ]
        })
        .collect();
    let mut text = format!(
        "{}\n≈ and time measured, all else computed; leakage in nats per coordinate among clients of equal size, without losses for standard, over tried losses for gc-plus\n",
        markdown(&header, &[0, 2, 10], &lines)
    );
    if clients > SOLVED_CLIENTS {
        text += &format!(
            "among more than {SOLVED_CLIENTS} clients: some tolerances, the standard decoder, and amplification and leakage of the \
             cheapest codes only; the outage of cyclic-mds is an upper bound, as smaller sets that decode are not counted\n"
        );
    }
    text
}
