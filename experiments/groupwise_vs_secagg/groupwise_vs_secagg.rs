//! Aggregation time of groupwise keys against SecAgg (Wan et al., *The Capacity Region of Information
//! Theoretic Secure Aggregation with Uncoded Groupwise Keys*, Fig. 2): K = 4 … 10, U = ⌊(K+1)/2⌋, S = K − U,
//! inputs of 100, 200 and 300 kB. Groupwise keys also over F_{7⁵}, whose symbols pack five inputs over the
//! paper's F_7 into two bytes.
//!
//! `cargo run --release --example groupwise_vs_secagg [FOLDER [SAMPLES]]` writes `groupwise_vs_secagg.csv`,
//! its table, the reductions as a table of their own, and two figures.

mod timing;

use std::path::{Path, PathBuf};

use rand::seq::index;
use seccogc::algebra::extension::F7Pow5;
use seccogc::algebra::field::{Field, M31};
use seccogc::protocol::Protocol;
use seccogc::protocol::groupwise::Groupwise;
use seccogc::protocol::sec_agg::{Cryptographic, SecAgg, Uniform};
use seccogc::protocol::two_round::Rounds;
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{Graph, Scale, Trace, markdown, plot_graphs};
use seccogc::seed::Seed;
use seccogc::{Error, Result};
use timing::{Phase, Timed, Vector, inputs, round};

/// Bytes a second on the link of every client.
const RATE: f64 = 100e6;

/// Mean seconds of one scheme, one K and one size.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Point {
    scheme: &'static str,
    keys: &'static str,
    /// q of the symbols.
    field: u64,
    clients: usize,
    survivors: usize,
    group_size: usize,
    input_kb: usize,
    samples: u64,
    /// A client masks its input and computes its answer.
    encryption: f64,
    /// Both messages of a client and the announcement between them.
    transmission: f64,
    /// The server.
    decryption: f64,
    /// The three together.
    aggregation: f64,
    /// The tenth and the ninetieth percentile of the samples.
    aggregation_p10: f64,
    aggregation_p90: f64,
    /// What happens before the round: keys, shares and decoding matrices, on all clients one after the other.
    set_up: f64,
    /// Bytes that a client sends and receives in the round.
    bytes: u64,
}

/// From which phase on the round counts, and which share of the dealing of keys is a client's own work in it.
struct Part {
    from: usize,
    expansion: f64,
}

fn measure<F: Field, P: Protocol<F>>(
    [scheme, keys]: [&'static str; 2],
    [clients, survivors, group_size]: [usize; 3],
    input_kb: usize,
    samples: u64,
    protocol: &P,
    part: &Part,
) -> Result<Point> {
    let x: Vec<Vector<F>> = inputs(clients, input_kb * 1000 / F::BYTES);
    let tiny: Vec<Vector<F>> = inputs(clients, 1);
    let field = F::ORDER;
    let mut point =
        Point { scheme, keys, field, clients, survivors, group_size, input_kb, samples, ..Point::default() };
    let upload = part.from as u8;
    let mut times = Vec::new();
    // One run to warm up.
    for sample in 0..=samples {
        let mut rng = Seed::new(7).child("survivors", sample).rng();
        let left = index::sample(&mut rng, clients, survivors).into_vec();
        let lost = |phase, k: u16| phase >= upload && !left.contains(&usize::from(k));
        // A round of one symbol computes the decoding matrix of these survivors, which does not depend on the
        // inputs: set-up.
        let matrices = round(protocol, sample + 1, &tiny, lost);
        let matrices: f64 = matrices.phases[part.from..].iter().map(|phase| phase.server).sum();
        let Timed { deal, prepare, phases, recovered } = round(protocol, sample + 1, &x, lost);
        if !recovered {
            return Err(Error::Refused(format!("{scheme} with {clients} clients: an outage")));
        }
        if sample == 0 {
            continue;
        }
        let (before, during) = phases.split_at(part.from);
        let sum = |of: &dyn Fn(&Phase) -> f64, phases: &[Phase]| phases.iter().map(of).sum::<f64>();
        let bytes: u64 = during.iter().map(|phase| phase.bytes).sum();
        let encryption = prepare + part.expansion * deal + sum(&|phase| phase.client, during);
        let decryption = sum(&|phase| phase.server, during);
        let transmission = bytes as f64 / RATE;
        times.push(encryption + transmission + decryption);
        let share = 1.0 / samples as f64;
        point.encryption += share * encryption;
        point.decryption += share * decryption;
        point.transmission += share * transmission;
        let steps = sum(&|p| p.client * clients as f64 + p.server, before);
        point.set_up += share * (matrices + (1.0 - part.expansion) * deal + steps);
        point.bytes = bytes;
    }
    times.sort_by(f64::total_cmp);
    let percentile = |share: f64| times[(share * (times.len() - 1) as f64).round() as usize];
    point.aggregation = point.encryption + point.transmission + point.decryption;
    (point.aggregation_p10, point.aggregation_p90) = (percentile(0.1), percentile(0.9));
    Ok(point)
}

fn groupwise<F: Field>(
    [clients, survivors, size]: [usize; 3],
    input_kb: usize,
    samples: u64,
) -> Result<[Point; 2]> {
    let scheme = || Groupwise::<F>::new(clients, survivors, size, Seed::new(3));
    let (plain, mut agreed) = (Rounds::new(scheme()?), scheme()?);
    agreed.agree(Seed::new(4));
    let agreed = Rounds::new(agreed);
    let parameters = [clients, survivors, size];
    // Every sub-key is dealt once and expanded by S clients.
    let expansion = size as f64 / clients as f64;
    let [plain_part, agreed_part] = [0.0, expansion].map(|expansion| Part { from: 1, expansion });
    Ok([
        measure::<F, _>(["groupwise", "uniform"], parameters, input_kb, samples, &plain, &plain_part)?,
        measure::<F, _>(["groupwise", "agreement"], parameters, input_kb, samples, &agreed, &agreed_part)?,
    ])
}

/// For both kinds of keys: groupwise over F_p, over F_{7⁵}, and SecAgg.
fn points(clients: usize, input_kb: usize, samples: u64) -> Result<Vec<[Point; 3]>> {
    let survivors = clients.div_ceil(2);
    let parameters = [clients, survivors, clients - survivors];
    let over_p = groupwise::<M31>(parameters, input_kb, samples)?;
    let packed = groupwise::<F7Pow5>(parameters, input_kb, samples)?;
    let uniform = SecAgg::<Uniform>::new(clients, None, Some(survivors), Seed::new(1))?;
    let agreed = SecAgg::<Cryptographic>::new(clients, None, Some(survivors), Seed::new(1))?;
    let part = Part { from: 4, expansion: 0.0 };
    let secagg = [
        measure::<M31, _>(["sec-agg", "uniform"], parameters, input_kb, samples, &uniform, &part)?,
        measure::<M31, _>(["sec-agg", "agreement"], parameters, input_kb, samples, &agreed, &part)?,
    ];
    let both = over_p.into_iter().zip(packed).zip(secagg);
    Ok(both.map(|((over_p, packed), secagg)| [over_p, packed, secagg]).collect())
}

/// How much less time `one` takes than `other`, in percent.
fn reduction(one: &Point, other: &Point) -> f64 {
    100.0 * (1.0 - one.aggregation / other.aggregation)
}

fn tables(all: &[[Point; 3]], folder: &Path) -> Result<()> {
    let cell = |p: &Point| {
        let [all, a, b, c] =
            [p.aggregation, p.encryption, p.transmission, p.decryption].map(|x| format!("{:.2}", 1e3 * x));
        format!("{all} ({a} + {b} + {c})")
    };
    let line = |[over_p, packed, secagg]: &[Point; 3]| {
        vec![
            over_p.clients.to_string(),
            over_p.survivors.to_string(),
            over_p.group_size.to_string(),
            over_p.input_kb.to_string(),
            over_p.keys.to_owned(),
            cell(over_p),
            cell(packed),
            cell(secagg),
            [over_p, packed, secagg].map(|p| format!("{:.0}", 1e3 * p.set_up)).join(", "),
            [over_p, packed].map(|p| format!("{:.1}", reduction(p, secagg))).join(", "),
        ]
    };
    let header = [
        "K",
        "U",
        "S",
        "kB",
        "keys",
        "groupwise: ms (encryption + transmission + decryption)",
        "over F_7^5",
        "sec-agg",
        "set-up ms",
        "less time (%)",
    ];
    let lines: Vec<Vec<String>> = all.iter().map(line).collect();
    let table = markdown(&header, &[4], &lines);
    write_atomically(&folder.join("groupwise_vs_secagg.md"), table.as_bytes())?;
    let mut lines = Vec::new();
    for keys in ["uniform", "agreement"] {
        for (field, which) in [("F_p, p = 2^31 − 1", 0), ("F_7^5", 1)] {
            let of = all.iter().filter(|points| points[0].keys == keys);
            let reductions = of.map(|points| reduction(&points[which], &points[2]));
            let (least, most) = reductions
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), x| (x.min(least), x.max(most)));
            let paper = if keys == "uniform" { "29.7 to 67.2" } else { "–" };
            lines.push([
                keys.to_owned(),
                field.to_owned(),
                format!("{least:.1} to {most:.1}"),
                paper.to_owned(),
            ]);
        }
    }
    let header = ["keys of both", "groupwise over", "less time than sec-agg (%)", "in the paper (%)"];
    let table = markdown(&header, &[0, 1], &lines);
    println!("{table}");
    write_atomically(&folder.join("reduction.md"), table.as_bytes())
}

fn figure(all: &[[Point; 3]], keys: &str, folder: &Path) -> Result<()> {
    let samples = all.first().map_or(0, |points| points[0].samples);
    let trace = |which: usize, name: &str, input_kb: usize| {
        let points = all.iter().map(|points| &points[which]);
        let points = points.filter(|p| p.keys == keys && p.input_kb == input_kb).map(|p| {
            let [mean, low, high] = [p.aggregation, p.aggregation_p10, p.aggregation_p90].map(|x| 1e3 * x);
            (p.clients as f64, mean, Some((low, high)))
        });
        Trace { name: format!("{name}, {input_kb} kB"), points: points.collect() }
    };
    let schemes = [(2, "sec-agg"), (0, "groupwise"), (1, "groupwise over F_7^5")];
    let traces = schemes
        .into_iter()
        .flat_map(|(which, name)| [300, 100].map(|input_kb| trace(which, name, input_kb)))
        .collect();
    let graph = Graph {
        x: ("clients K".into(), Scale::Linear),
        y: ("aggregation time (ms)".into(), Scale::FromZero),
        traces,
    };
    let title = match keys {
        "uniform" => "Groupwise keys against SecAgg, uniform keys",
        _ => "Groupwise keys against SecAgg, agreed keys",
    };
    plot_graphs(
        &[graph],
        title,
        &format!(
            "U = (K + 1)/2, rounded down; S = K − U; links of 100 MB/s; mean and 10 % to 90 % of {samples} samples"
        ),
        &folder.join(format!("groupwise_vs_secagg_{keys}")),
    )
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("runs/groupwise_vs_secagg"), PathBuf::from);
    let samples = arguments.next().map_or(Ok(100), |text| match text.parse() {
        Ok(samples @ 1..) => Ok(samples),
        _ => Err(Error::Refused(format!("{text} is not a number of samples; give 1 or more"))),
    })?;
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    // One thread: a client is one machine, and the clients share this one.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Error::Refused(error.to_string()))?;
    let mut all = Vec::new();
    for clients in 4..=10 {
        for input_kb in [100, 200, 300] {
            eprintln!("{clients} clients, {input_kb} kB");
            all.extend(pool.install(|| points(clients, input_kb, samples))?);
        }
    }
    let rows: Vec<&Point> = all.iter().flatten().collect();
    write_atomically(&folder.join("groupwise_vs_secagg.csv"), &to_csv(&rows)?)?;
    tables(&all, &folder)?;
    ["uniform", "agreement"].into_iter().try_for_each(|keys| figure(&all, keys, &folder))
}
