//! The accountant beside two other libraries, whose bounds experiments/accounting keeps.

use seccogc::account::{Accountant, Adjacency, Sampling, Step};

struct Setting {
    multiplier: f64,
    sampling: Sampling,
    rounds: u64,
    delta: f64,
    /// ε as kept, its stated error, and the other libraries' bounds from below and from above.
    kept: f64,
    error: f64,
    lower: Vec<f64>,
    upper: Vec<f64>,
}

fn settings() -> Vec<Setting> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/accounting/accounting.csv");
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        let cell = |name: &str| record.get(header.iter().position(|own| own == name).unwrap()).unwrap();
        let number = |name: &str| cell(name).parse::<f64>().unwrap();
        let some = |names: [&str; 2]| -> Vec<f64> {
            let cells = names.into_iter().filter(|name| !cell(name).is_empty());
            cells.map(number).filter(|bound| bound.is_finite()).collect()
        };
        let sampling = match cell("sampling") {
            "poisson" => Sampling::Poisson { rate: number("rate") },
            "fixed" => Sampling::Fixed { cohort: number("cohort") as u64, clients: number("clients") as u64 },
            other => panic!("{other}"),
        };
        Setting {
            multiplier: number("noise_multiplier"),
            sampling,
            rounds: number("rounds") as u64,
            delta: number("delta"),
            kept: number("epsilon"),
            error: number("error"),
            lower: some(["dp_lower", "prv_lower"]),
            upper: some(["dp_upper", "prv_upper"]),
        }
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

#[test]
fn epsilon_is_within_the_bounds_of_other_libraries() {
    let settings = settings();
    assert!(settings.len() >= 30, "{}", settings.len());
    for setting in settings {
        let adjacency = match setting.sampling {
            Sampling::Fixed { .. } => Adjacency::ReplaceOne,
            _ => Adjacency::AddOrRemove,
        };
        let mut accountant = Accountant::new(adjacency);
        let step = Step::gaussian(setting.multiplier, setting.sampling, adjacency).unwrap();
        accountant.add(&step, setting.rounds).unwrap();
        let bounds = accountant.epsilon(setting.delta).unwrap();
        let epsilon = bounds.least();
        let at =
            format!("{} {:?} {} {}", setting.multiplier, setting.sampling, setting.rounds, setting.delta);
        assert!((epsilon - setting.kept).abs() <= 1e-6 * epsilon, "{at}: {epsilon}, kept {}", setting.kept);
        let error = bounds.composed.map_or(0.0, |composed| composed.error);
        assert!(error <= 1.01 * setting.error + 1e-12, "{at}: {error}, kept {}", setting.error);
        for lower in setting.lower {
            assert!(epsilon >= lower * (1.0 - 1e-9), "{at}: {epsilon} is below {lower}");
        }
        for upper in setting.upper {
            assert!(epsilon - error <= upper * (1.0 + 1e-9), "{at}: {epsilon} less {error} is above {upper}");
        }
    }
}
