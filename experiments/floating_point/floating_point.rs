//! How strong keys can be before rounding reaches the sum: recovery error and accuracy against key power, for
//! every arithmetic and code.
//!
//! `cargo run --release --example floating_point CONFIG [FOLDER]` writes `floating_point.csv`, its table and
//! figure.

use std::path::{Path, PathBuf};

use serde::Serialize;

use seccogc::config::Config;
use seccogc::error::{Error, Result};
use seccogc::protocol::Reason;
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Spread, Trace, markdown, plot_graphs};
use seccogc::train::Setting;

const SEEDS: [u64; 3] = [1, 2, 3];
const CODES: [&str; 3] = ["cyclic-mds", "cyclic-random", "fractional-repetition"];
/// Powers of ten of the keys' standard deviation.
const POWERS: [i32; 24] =
    [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
/// Those of them that the table shows.
const SHOWN: [i32; 13] = [-3, -2, -1, 0, 1, 2, 4, 6, 7, 8, 9, 10, 20];

/// One run.
#[derive(Clone, Serialize)]
struct Run {
    arithmetic: &'static str,
    code: &'static str,
    key_std: f64,
    seed: u64,
    /// Rounds with a sum.
    recovered: u64,
    /// Rounds whose sum would not have been precise enough.
    imprecise: u64,
    /// Rounds that lost too many messages.
    lost: u64,
    /// Rounds with a sum that is off by more than `outage.recovery_tolerance`.
    wrong: u64,
    /// ‖decoded − exact‖/‖exact‖ of the sum, the largest of all recovered rounds.
    recovery_error: f64,
    /// Of the last model.
    test_accuracy: f64,
}

fn measure(
    config: &Path,
    arithmetic: &'static str,
    code: &'static str,
    key_std: f64,
    seed: u64,
) -> Result<Run> {
    let sets = [
        format!("seed={seed}"),
        format!("protocol.arithmetic={arithmetic}"),
        format!("protocol.code={code}"),
        format!("protocol.key_std={key_std:?}"),
    ];
    let config = Config::load(config, &sets)?;
    let setting = Setting::build(&config, "cpu".parse()?)?;
    let run = setting.run(&config.protocol)?;
    let mut state = run.start();
    let (mut recovered, mut imprecise, mut lost, mut wrong) = (0, 0, 0, 0);
    let (mut recovery_error, mut test_accuracy) = (0.0f64, 0.0);
    for _ in 0..config.rounds {
        let (row, _) = run.round(&mut state)?;
        match (row.recovery_error, row.reason) {
            (Some(error), _) => {
                recovered += 1;
                // Not the other way round: NaN is wrong too.
                let right = arithmetic == "field" || error <= config.outage.recovery_tolerance;
                wrong += u64::from(!right);
                recovery_error = recovery_error.max(if error.is_finite() { error } else { f64::INFINITY });
            }
            (None, Some(Reason::Precision)) => imprecise += 1,
            (None, _) => lost += 1,
        }
        test_accuracy = row.test_accuracy.unwrap_or(test_accuracy);
    }
    Ok(Run {
        arithmetic,
        code,
        key_std,
        seed,
        recovered,
        imprecise,
        lost,
        wrong,
        recovery_error,
        test_accuracy,
    })
}

/// A number and the ends of its band.
type Value = (f64, Option<(f64, f64)>);

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let config = arguments.next().ok_or_else(|| Error::Refused("give a configuration".into()))?;
    let folder = arguments.next().unwrap_or_else(|| "runs/floating_point".into());
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut runs = Vec::new();
    for arithmetic in ["f32", "f64", "field"] {
        for code in CODES.into_iter().filter(|code| arithmetic != "field" || *code != "cyclic-mds") {
            // Keys over the field are uniform, whatever σ.
            let powers = if arithmetic == "field" { &[0][..] } else { &POWERS[..] };
            for &power in powers {
                for seed in SEEDS {
                    runs.push(measure(&config, arithmetic, code, 10f64.powi(power), seed)?);
                }
            }
        }
    }
    if let Some(run) = runs.iter().find(|run| run.wrong > 0) {
        let problem = format!("{} {} at σ = {:e}: a wrong sum", run.arithmetic, run.code, run.key_std);
        return Err(Error::Refused(problem));
    }
    let mut cases: Vec<(&str, &str)> = runs.iter().map(|run| (run.arithmetic, run.code)).collect();
    cases.dedup();
    let of = |case: (&str, &str), power: i32| -> Vec<&Run> {
        let key_std = 10f64.powi(power);
        let has = |run: &&Run| run.arithmetic == "field" || run.key_std == key_std;
        runs.iter().filter(|run| (run.arithmetic, run.code) == case).filter(has).collect()
    };
    let error = |runs: &[&Run]| runs.iter().map(|run| run.recovery_error).fold(0.0, f64::max);
    let accuracy = |runs: &[&Run]| {
        Spread::Deviation.of(runs.iter().map(|run| 100.0 * run.test_accuracy)).unwrap_or_default()
    };
    let lines: Vec<Vec<String>> = cases
        .iter()
        .map(|&case| {
            let cell = |power: &i32| {
                let runs = of(case, *power);
                let total = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
                match (total(|run| run.recovered), total(|run| run.imprecise)) {
                    (0, _) => "outage".into(),
                    (_, 0) => format!("{:.0e}; {:.1}", error(&runs), accuracy(&runs).0),
                    (some, others) => format!("{:.0e}; {some}/{}", error(&runs), some + others),
                }
            };
            [vec![case.0.to_owned(), case.1.to_owned()], SHOWN.iter().map(cell).collect()].concat()
        })
        .collect();
    let powers = SHOWN.map(|power| format!("σ = 1e{power}"));
    let header: Vec<&str> =
        ["arithmetic", "code"].into_iter().chain(powers.iter().map(String::as_str)).collect();
    let table = markdown(&header, &[0, 1], &lines);
    println!("{table}");
    write_atomically(&folder.join("floating_point.md"), table.as_bytes())?;
    write_atomically(&folder.join("floating_point.csv"), &to_csv(&runs)?)?;
    let panel = |label: &str, scale: Scale, point: &dyn Fn(&[&Run]) -> Value| {
        let line = |&case: &(&str, &str)| {
            let with_sums =
                POWERS.iter().filter(|&&power| of(case, power).iter().any(|run| run.recovered > 0));
            let points = with_sums.map(|&power| {
                let (y, band) = point(&of(case, power));
                (10f64.powi(power), y, band)
            });
            let name = format!("{}, {}", case.0, case.1);
            Trace { name, points: points.filter(|(_, y, _)| y.is_finite()).collect() }
        };
        Graph {
            x: ("standard deviation σ of the keys".into(), Scale::Logarithmic),
            y: (label.into(), scale),
            traces: cases.iter().map(line).collect(),
        }
    };
    let accuracy = |runs: &[&Run]| {
        let (mean, deviation) = accuracy(runs);
        (mean, deviation.map(|half| (mean - half, mean + half)))
    };
    let panels = [
        panel("relative error of the sum", Scale::Logarithmic, &|runs| (error(runs), None)),
        panel("final test accuracy (%)", Scale::FromZero, &accuracy),
    ];
    plot_graphs(
        &panels,
        "How strong keys can be before rounding reaches the sum",
        "largest error of all rounds and seeds; accuracy: mean ± one standard deviation over three seeds",
        &folder.join("floating_point"),
    )
}
