//! Aggregation time of groupwise keys against SecAgg (Wan et al., *The Capacity Region of Information Theoretic Secure Aggregation with Uncoded
//! Groupwise Keys*, Fig. 2): K = 4 … 10, U = ⌊(K+1)/2⌋, S = K − U, inputs of 100, 200 and 300 kB.
//!
//! `cargo run --release --example groupwise_vs_secagg [FOLDER [SAMPLES]]` writes `groupwise_vs_secagg.csv`, its
//! table and two figures.

mod timing;

use std::path::PathBuf;

use rand::seq::index;
use seccogc::algebra::field::M31;
use seccogc::protocol::Protocol;
use seccogc::protocol::groupwise::Groupwise;
use seccogc::protocol::sec_agg::{Cryptographic, SecAgg, Uniform};
use seccogc::protocol::two_round::Rounds;
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::plot_lines;
use seccogc::seed::Seed;
use seccogc::{Error, Result};
use timing::{Timed, Vector, inputs, round};

/// Bytes a second on the link of every client.
const RATE: f64 = 100e6;

/// Mean seconds of one scheme, one K and one size.
#[derive(Clone, Debug, serde::Serialize)]
struct Point {
    scheme: &'static str,
    keys: &'static str,
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

fn measure<P: Protocol<M31>>(
    names: [&'static str; 2],
    [clients, survivors, group_size]: [usize; 3],
    input_kb: usize,
    samples: u64,
    protocol: &P,
    part: &Part,
) -> Result<Point> {
    let x: Vec<Vector<M31>> = inputs(clients, input_kb * 1000 / 4);
    let tiny: Vec<Vector<M31>> = inputs(clients, 1);
    let mut point = Point {
        scheme: names[0],
        keys: names[1],
        clients,
        survivors,
        group_size,
        input_kb,
        samples,
        encryption: 0.0,
        transmission: 0.0,
        decryption: 0.0,
        aggregation: 0.0,
        set_up: 0.0,
        bytes: 0,
    };
    let upload = part.from as u8;
    // One run to warm up.
    for sample in 0..=samples {
        let mut rng = Seed::new(7).child("survivors", sample).rng();
        let left = index::sample(&mut rng, clients, survivors).into_vec();
        let lost = |phase, k: u16| phase >= upload && !left.contains(&usize::from(k));
        // A round of one symbol computes the decoding matrix of these survivors, which does not depend on the inputs: set-up.
        let matrices = round(protocol, sample + 1, &tiny, lost);
        let matrices: f64 = matrices.phases[part.from..].iter().map(|phase| phase.server).sum();
        let Timed { deal, prepare, phases, recovered } = round(protocol, sample + 1, &x, lost);
        if !recovered {
            return Err(Error::Refused(format!("{} with {clients} clients: an outage", names[0])));
        }
        if sample == 0 {
            continue;
        }
        let (before, during) = phases.split_at(part.from);
        let share = 1.0 / samples as f64;
        let sum =
            |of: &dyn Fn(&timing::Phase) -> f64, phases: &[timing::Phase]| phases.iter().map(of).sum::<f64>();
        let bytes: u64 = during.iter().map(|phase| phase.bytes).sum();
        point.encryption += share * (prepare + part.expansion * deal + sum(&|phase| phase.client, during));
        point.decryption += share * sum(&|phase| phase.server, during);
        point.transmission += share * bytes as f64 / RATE;
        point.set_up += share
            * (matrices
                + (1.0 - part.expansion) * deal
                + sum(&|p| p.client * clients as f64 + p.server, before));
        point.bytes = bytes;
    }
    point.aggregation = point.encryption + point.transmission + point.decryption;
    Ok(point)
}

fn points(clients: usize, input_kb: usize, samples: u64) -> Result<Vec<Point>> {
    let survivors = clients.div_ceil(2);
    let size = clients - survivors;
    let parameters = [clients, survivors, size];
    let plain = Rounds::new(Groupwise::<M31>::new(clients, survivors, size, Seed::new(3))?);
    let mut agreed = Groupwise::<M31>::new(clients, survivors, size, Seed::new(3))?;
    agreed.agree(Seed::new(4));
    let agreed = Rounds::new(agreed);
    let uniform = SecAgg::<Uniform>::new(clients, None, Some(survivors), Seed::new(1))?;
    let secagg = SecAgg::<Cryptographic>::new(clients, None, Some(survivors), Seed::new(1))?;
    // Every sub-key is dealt once and expanded by S clients.
    let expansion = size as f64 / clients as f64;
    Ok(vec![
        measure(
            ["groupwise", "uniform"],
            parameters,
            input_kb,
            samples,
            &plain,
            &Part { from: 1, expansion: 0.0 },
        )?,
        measure(
            ["sec-agg", "uniform"],
            parameters,
            input_kb,
            samples,
            &uniform,
            &Part { from: 4, expansion: 0.0 },
        )?,
        measure(
            ["groupwise", "agreement"],
            parameters,
            input_kb,
            samples,
            &agreed,
            &Part { from: 1, expansion },
        )?,
        measure(
            ["sec-agg", "agreement"],
            parameters,
            input_kb,
            samples,
            &secagg,
            &Part { from: 4, expansion: 0.0 },
        )?,
    ])
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(|| PathBuf::from("runs/groupwise_vs_secagg"), PathBuf::from);
    let samples = arguments.next().map_or(Ok(100), |text| {
        text.parse().map_err(|_| Error::Refused(format!("{text} is not a number of samples")))
    })?;
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    // One thread: a client is one machine, and the clients share this one.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Error::Refused(error.to_string()))?;
    let mut all: Vec<Point> = Vec::new();
    let mut table = String::from(
        "| K | U | S | kB | keys | groupwise: ms (encryption + transmission + decryption) | set-up ms | sec-agg | set-up ms | reduction % |\n\
         |--:|--:|--:|--:|---|--:|--:|--:|--:|--:|\n",
    );
    for clients in 4..=10 {
        for input_kb in [100, 200, 300] {
            let points = pool.install(|| points(clients, input_kb, samples))?;
            for pair in points.chunks(2) {
                let cell = |p: &Point| {
                    let [all, a, b, c] =
                        [p.aggregation, p.encryption, p.transmission, p.decryption].map(|x| 1e3 * x);
                    format!("{all:.2} ({a:.2} + {b:.2} + {c:.2})")
                };
                let (one, other) = (&pair[0], &pair[1]);
                let line = format!(
                    "| {clients} | {} | {} | {input_kb} | {} | {} | {:.0} | {} | {:.0} | {:.1} |
",
                    one.survivors,
                    one.group_size,
                    one.keys,
                    cell(one),
                    1e3 * one.set_up,
                    cell(other),
                    1e3 * other.set_up,
                    100.0 * (1.0 - one.aggregation / other.aggregation)
                );
                print!("{line}");
                table += &line;
            }
            all.extend(points);
        }
    }
    write_atomically(&folder.join("groupwise_vs_secagg.csv"), &to_csv(&all)?)?;
    write_atomically(&folder.join("groupwise_vs_secagg.md"), table.as_bytes())?;
    for keys in ["uniform", "agreement"] {
        let line = |scheme: &str, input_kb: usize| {
            let of = all.iter().filter(|p| (p.scheme, p.keys, p.input_kb) == (scheme, keys, input_kb));
            (
                format!("{scheme}, {input_kb} kB"),
                of.map(|p| (p.clients as f64, 1e3 * p.aggregation)).collect(),
            )
        };
        let lines: Vec<(String, Vec<(f64, f64)>)> = ["sec-agg", "groupwise"]
            .into_iter()
            .flat_map(|scheme| [300, 200, 100].map(|input_kb| line(scheme, input_kb)))
            .collect();
        plot_lines(
            &lines,
            ["clients K", "aggregation time (ms)"],
            &format!("Groupwise keys against SecAgg, {keys} keys"),
            "U = (K + 1)/2 survivors, rounded down, groups of S = K − U; links of 100 MB/s",
            &folder.join(format!("groupwise_vs_secagg_{keys}")),
        )?;
    }
    Ok(())
}
