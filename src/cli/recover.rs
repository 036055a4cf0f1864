//! `seccogc recover`: how often rounds are recovered, without learning.

use std::path::PathBuf;

use clap::Args;

use super::progress::Points;
use super::{Count, in_folder, stem, tell};
use crate::coding::CodeKind;
use crate::config::Config;
use crate::data::DataConfig;
use crate::error::{Error, Result, count};
use crate::learn::ModelConfig;
use crate::record::{claim, to_csv, write_atomically};
use crate::recover::{self, RecoveryRow, SOLVED_CLIENTS};
use crate::report::{HeatMap, markdown};

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

/// Model dimensions that have been looked up.
#[derive(Default)]
pub(super) struct Dimension(Option<(ModelConfig, DataConfig, usize)>);

impl Dimension {
    /// Number of coordinates of an update: as asked, or that of the configured model.
    ///
    /// # Errors
    /// A model or dataset that cannot be built.
    pub(super) fn of(&mut self, config: &Config, count: &Count) -> Result<usize> {
        if let Some(parameters) = count.parameters {
            return Ok(parameters as usize);
        }
        let data =
            DataConfig { dir: count.data_dir.clone().or(config.data.dir.clone()), ..config.data.clone() };
        let parameters = match &self.0 {
            Some((model, old, parameters)) if *model == config.model && *old == data => *parameters,
            _ => {
                let parameters = config.model.parameters(&data)?;
                self.0 = Some((config.model.clone(), data, parameters));
                parameters
            }
        };
        Ok(config.solver.solver().coordinates(parameters))
    }
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

pub(super) fn recover(args: &Recover) -> Result<()> {
    let (key, values) = columns(args.sweep.as_deref())?;
    let configs = values
        .iter()
        .map(|value| {
            let mut sets = args.sets.clone();
            sets.extend((!key.is_empty()).then(|| format!("{key}={value}")));
            let mut config = Config::load(&args.config, &sets)?;
            config.seed = args.seed.unwrap_or(config.seed);
            Ok(config)
        })
        .collect::<Result<Vec<Config>>>()?;

    let tolerances = (!args.stragglers.is_empty()).then_some(&args.stragglers[..]);
    let mut rows = Vec::new();
    let mut dimension = Dimension::default();
    let mut progress = Points::new("recover", args.quiet);
    for (value, config) in values.iter().zip(&configs) {
        let coordinates = dimension.of(config, &args.count)?;
        let mut found = |place, total, row: &RecoveryRow| {
            let (code, s, percent) = (&row.code, row.stragglers, 100.0 * row.probability);
            let at = if value.is_empty() { String::new() } else { format!("{key} = {value}, ") };
            progress.found(place, total, &format!("{at}{code} s = {s}: recovered {percent:.3} %"));
        };
        let column = recover::recover(config, coordinates, tolerances, args.rounds, &mut found)?;
        rows.extend(column.into_iter().map(|row| RecoveryRow { value: value.clone(), ..row }));
    }
    progress.finish();

    let name = format!("{}-recover", stem(&args.config));
    in_folder(args.out.as_deref(), &name, |directory| {
        claim(directory)?;
        write_atomically(&directory.join("config.toml"), configs[0].to_toml()?.as_bytes())?;
        let csv = to_csv(&rows)?;
        write_atomically(&directory.join("recover.csv"), &csv)?;
        let table = table(&key, &rows, configs[0].clients);
        write_atomically(&directory.join("recover.md"), table.as_bytes())?;
        heat_map(&stem(&args.config), &key, &values, &rows).write(&directory.join("recovery"))?;
        tell((args.csv, args.quiet), &csv, &table, directory)
    })
}

fn table(key: &str, rows: &[RecoveryRow], clients: usize) -> String {
    let header = [
        if key.is_empty() { "sweep" } else { key },
        "code",
        "s",
        "recovered (%)",
        "closed form (%)",
        "attempts",
        "client→client (MB)",
        "client→server (MB)",
        "time (s)",
    ];
    let lines: Vec<[String; 9]> = rows
        .iter()
        .map(|row| {
            let number = |value: Option<f64>, unit: f64, decimals: usize| {
                value.map_or_else(|| "–".into(), |value| format!("{:.decimals$}", value / unit))
            };
            [
                if row.value.is_empty() { "–".into() } else { row.value.clone() },
                row.code.clone(),
                row.stragglers.to_string(),
                format!("{:.3} ± {:.3}", 100.0 * row.probability, 100.0 * row.standard_error),
                number(row.closed_form, 0.01, 3),
                number(row.attempts_per_recovered, 1.0, 3),
                number(row.bytes_client_client_per_recovered, 1e6, 2),
                number(row.bytes_client_server_per_recovered, 1e6, 2),
                number(row.seconds_per_recovered, 1.0, 3),
            ]
        })
        .collect();
    let (least, most) =
        rows.iter().fold((u64::MAX, 0), |(least, most), row| (least.min(row.rounds), most.max(row.rounds)));
    let rounds = if least < most { format!("{least} to {most} rounds") } else { count(most, "round") };
    let mut text = format!(
        "{}\n{rounds} a line, ± one standard error; the last four columns per recovered round\n",
        markdown(&header, &[0, 1], &lines)
    );
    if clients > SOLVED_CLIENTS && rows.iter().any(|row| row.code == CodeKind::CyclicMds.name()) {
        text +=
            "cyclic-mds counts as decoding from M − s sums or more: at least so many rounds are recovered\n";
    }
    text
}

fn heat_map(name: &str, key: &str, values: &[String], rows: &[RecoveryRow]) -> HeatMap {
    let mut tolerances: Vec<usize> = rows.iter().map(|row| row.stragglers).collect();
    tolerances.sort_unstable();
    tolerances.dedup();
    let cell = |s: usize, value: &String| {
        rows.iter().find(|row| row.stragglers == s && row.value == *value).map(|row| row.probability)
    };
    HeatMap {
        title: format!("{name}: probability of a recovered round"),
        x: (key.into(), values.to_vec()),
        cells: tolerances.iter().map(|&s| values.iter().map(|value| cell(s, value)).collect()).collect(),
        y: ("stragglers s".into(), tolerances.iter().map(usize::to_string).collect()),
    }
}
