//! What a round takes among few and among many clients, with the same number of them in the round, each
//! point in a process of its own.
//!
//! `cargo run --release --example population FOLDER [LARGEST]` writes `population.csv`, its table and figure;
//! LARGEST is the largest population, 10⁶ without it. Memory is the peak of the resident set, as Linux tells
//! it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde::Serialize;

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Trace, markdown, plot_graphs, slope};
use seccogc::train::Experiment;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Model and protocol of a row: its name, and the sections.
const SETTINGS: [(&str, &str); 4] = [
    ("softmax, FedAvg", "model = { kind = 'softmax' }\nprotocol = { kind = 'fedavg' }"),
    (
        "softmax, Fair-SecCoGC",
        "model = { kind = 'softmax' }\nprotocol = { kind = 'sec-cogc', stragglers = 19, code = 'fractional-repetition' }",
    ),
    ("mlp, FedAvg", "model = { kind = 'mlp', hidden = 64 }\nprotocol = { kind = 'fedavg' }"),
    (
        "mlp, Fair-SecCoGC",
        "model = { kind = 'mlp', hidden = 64 }\nprotocol = { kind = 'sec-cogc', stragglers = 19, code = 'fractional-repetition' }",
    ),
];

const POPULATIONS: [usize; 3] = [10_000, 100_000, 1_000_000];
const COHORT: usize = 1000;
/// The first is for warming up.
const ROUNDS: u64 = 32;

#[derive(Clone, Serialize)]
struct Point {
    setting: &'static str,
    population: usize,
    cohort: usize,
    parameters: usize,
    /// Median of 31 rounds.
    seconds: f64,
    /// Peak of the process, bytes.
    memory: f64,
    /// From the configuration to the first round.
    seconds_before: f64,
}

/// Peak of the resident set of this process, bytes.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
}

/// One point, in this process: prints the model's size, the median round's seconds, the peak of the memory,
/// and the seconds before the first round.
fn point(sections: &str, population: usize) -> Result<()> {
    let text = format!(
        "rounds = {ROUNDS}\nclients = {population}\npartition = {{ kind = 'natural' }}\ncohort = {{ sample = {COHORT} }}\n\
         evaluation = {{ every = {ROUNDS} }}\nprivacy = {{ measure = false }}\nsolver = {{ kind = 'sgd', learning_rate = 0.05, batch_size = 10 }}\n{sections}\n\
         network = {{ client_client = {{ kind = 'bernoulli', erasure = 0.001 }}, client_server = {{ kind = 'bernoulli', erasure = 0.1 }} }}\n\
         data = {{ name = 'synthetic', synthetic = {{ users = {population}, most = 200 }} }}"
    );
    let config: Config = toml::from_str(&text).map_err(|error| Error::Refused(error.message().to_owned()))?;
    let clock = Instant::now();
    let setting = Experiment::new(config).build()?;
    let run = setting.run(&setting.config().protocol)?;
    let mut state = run.start();
    let before = clock.elapsed().as_secs_f64();
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let clock = Instant::now();
        run.round(&mut state)?;
        seconds.push(clock.elapsed().as_secs_f64());
    }
    let mut rest = seconds.split_off(1);
    rest.sort_by(f64::total_cmp);
    println!("{} {} {} {before}", setting.parameters(), rest[rest.len() / 2], peak().unwrap_or(f64::NAN));
    Ok(())
}

fn measure(index: usize, population: usize) -> Result<Point> {
    let setting = SETTINGS[index].0;
    let own = std::env::current_exe().map_err(|error| Error::Refused(error.to_string()))?;
    let numbers = [index, population].map(|number| number.to_string());
    let output = Command::new(own).arg("point").args(numbers).output();
    let output = output.map_err(|error| Error::Refused(format!("cannot start a process: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [parameters, seconds, memory, seconds_before] = values[..] else {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::Refused(format!("{setting}, {population} clients: {error}")));
    };
    let (cohort, parameters) = (COHORT, parameters as usize);
    Ok(Point { setting, population, cohort, parameters, seconds, memory, seconds_before })
}

/// The exponent of the power law through points.
fn exponent(points: &[Point], y: fn(&Point) -> f64) -> f64 {
    slope(&points.iter().map(|point| ((point.population as f64).ln(), y(point).ln())).collect::<Vec<_>>())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, numbers @ ..] = &arguments[..]
        && verb == "point"
    {
        let numbers: Vec<usize> = numbers.iter().filter_map(|number| number.parse().ok()).collect();
        let [index, population] = numbers[..] else {
            return Err(Error::Refused("give setting and population".into()));
        };
        return point(SETTINGS[index].1, population);
    }
    let folder = arguments.first().map_or_else(|| PathBuf::from("runs/population"), PathBuf::from);
    let largest: usize = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let (mut all, mut lines, mut traces): (Vec<Point>, Vec<Vec<String>>, Vec<Trace>) = Default::default();
    for (index, (setting, _)) in SETTINGS.into_iter().enumerate() {
        let sizes = POPULATIONS.into_iter().filter(|population| *population <= largest);
        let points = sizes.map(|population| measure(index, population)).collect::<Result<Vec<Point>>>()?;
        let (Some(first), Some(last)) = (points.first().cloned(), points.last().cloned()) else {
            return Err(Error::Refused("no population is so small".into()));
        };
        let more = (last.population - first.population).max(1) as f64;
        lines.push(vec![
            setting.into(),
            format!("{:.2}", first.seconds),
            format!("{:.2}", last.seconds),
            format!("{:.2}", last.seconds / first.seconds),
            format!("{:.3}", exponent(&points, |point| point.seconds)),
            format!("{:.0}", first.memory / 1e6),
            format!("{:.0}", last.memory / 1e6),
            format!("{:.0}", (last.memory - first.memory) / more),
            format!("{:.1}", last.seconds_before),
        ]);
        let line = points.iter().map(|point| (point.population as f64, point.seconds, None)).collect();
        traces.push(Trace { name: setting.into(), points: line });
        all.extend(points);
    }
    let last = all.iter().map(|point| point.population).max().unwrap_or_default();
    let names = [
        "".to_owned(),
        format!("s a round of {}", POPULATIONS[0]),
        format!("of {last}"),
        "ratio".into(),
        "exponent".into(),
        format!("MB of {}", POPULATIONS[0]),
        format!("of {last}"),
        "bytes a client more".into(),
        format!("s before the first round of {last}"),
    ];
    let header: Vec<&str> = names.iter().map(String::as_str).collect();
    let table = markdown(&header, &[0], &lines);
    println!("{table}");
    write_atomically(&folder.join("population.md"), table.as_bytes())?;
    write_atomically(&folder.join("population.csv"), &to_csv(&all)?)?;
    let x = ("clients, of whom 1000 take part".into(), Scale::Logarithmic);
    let graph = Graph { x, y: ("seconds a round".into(), Scale::Logarithmic), traces };
    plot_graphs(
        &[graph],
        "Time of a round",
        "medians of 31 rounds; level lines do not depend on the population",
        &folder.join("population"),
    )
}
