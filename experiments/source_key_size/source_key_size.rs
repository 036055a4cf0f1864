//! The size of the keys of secure gradient coding over the reduction m (the paper's Fig. 2): K = N = 24, M =
//! 10, m = 1 … 10. Every point is built and checked: by decoding from every set of responders, or 10,000
//! seeded ones where there are more than 100,000, and by what all 24 transmissions together leak.
//!
//! `cargo run --release --example source_key_size [FOLDER]` writes `source_key_size.csv`, `.md`, `.svg` and
//! `.png`.

use std::path::PathBuf;

use seccogc::algebra::field::M61;
use seccogc::coding::assignment::{AssignmentKind, Checked, ReplicatedCode, converse};
use seccogc::keys::FormalKeys;
use seccogc::network::Perfect;
use seccogc::privacy::exact::ExactViews;
use seccogc::privacy::view::Coalition;
use seccogc::protocol::PartyId;
use seccogc::protocol::exchange::formal;
use seccogc::protocol::secure_gc::SecureGc;
use seccogc::record::{to_csv, write_atomically};
use seccogc::report::{markdown, plot_lines};
use seccogc::seed::Seed;
use seccogc::{Error, Result};

const SERVERS: usize = 24;
const COPIES: usize = 10;

/// One code.
#[derive(serde::Serialize)]
struct Point {
    assignment: &'static str,
    /// m.
    reduction: usize,
    /// N_r.
    responders: usize,
    /// h: independent transmissions.
    rank: usize,
    /// η = h/m − 1, in updates.
    source_key_size: f64,
    /// The converse bound (11) on η.
    converse: f64,
    /// Sets of responders that were decoded from, and whether they were all.
    sets: u64,
    all_sets: bool,
    /// Field symbols that all transmissions show beyond the sum.
    leaked_symbols: usize,
}

fn point(kind: AssignmentKind, reduction: usize) -> Result<Point> {
    let responders = SERVERS - COPIES + reduction;
    let (code, checked) = ReplicatedCode::<M61>::build(kind, SERVERS, responders, reduction, Seed::new(1))?;
    let (sets, all_sets) = match checked {
        Checked::All(sets) => (sets, true),
        Checked::Sample(sets) => (sets, false),
    };
    let rank = code.rank();
    let views = formal(&SecureGc::new(code), SERVERS, 1, &FormalKeys, &Perfect, 1);
    if !views.decoded.is_sum() {
        return Err(Error::Refused(format!("{} m = {reduction}: no sum from all responders", kind.name())));
    }
    let server = views.exposed(&Coalition::of([PartyId::Server]));
    let size = |rank: usize| rank as f64 / reduction as f64 - 1.0;
    Ok(Point {
        assignment: kind.name(),
        reduction,
        responders,
        rank,
        source_key_size: size(rank),
        converse: size(converse(SERVERS, COPIES, reduction)),
        sets,
        all_sets,
        leaked_symbols: server.symbols,
    })
}

/// A line for every m: the key sizes of both assignments and the converse, to three decimals.
fn table(points: &[Point]) -> String {
    let (cyclic, combined) = points.split_at(COPIES);
    let size = |size: f64| format!("{size:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
    let line = |(cyclic, combined): (&Point, &Point)| {
        let Point { reduction, responders, source_key_size, converse, .. } = cyclic;
        let (m, responders, h) = (reduction.to_string(), responders.to_string(), combined.rank.to_string());
        vec![m, responders, size(*source_key_size), h, size(combined.source_key_size), size(*converse)]
    };
    let lines: Vec<_> = cyclic.iter().zip(combined).map(line).collect();
    markdown(&["m", "N_r", "cyclic", "combined, h", "combined", "converse"], &[], &lines)
}

fn main() -> Result<()> {
    let folder =
        std::env::args_os().nth(1).map_or_else(|| PathBuf::from("runs/source_key_size"), PathBuf::from);
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let mut points = Vec::new();
    for kind in [AssignmentKind::Cyclic, AssignmentKind::Combined] {
        for reduction in 1..=COPIES {
            let point = point(kind, reduction)?;
            println!(
                "{} m = {reduction}: h = {}, key size {:.3}, converse {:.3}, {} sets of {} decode, {} symbols leak",
                point.assignment,
                point.rank,
                point.source_key_size,
                point.converse,
                point.sets,
                point.responders,
                point.leaked_symbols
            );
            points.push(point);
        }
    }
    write_atomically(&folder.join("source_key_size.csv"), &to_csv(&points)?)?;
    write_atomically(&folder.join("source_key_size.md"), table(&points).as_bytes())?;
    let line = |name: &str, of: &dyn Fn(&Point) -> Option<f64>| {
        let points = points.iter().filter_map(|point| Some((point.reduction as f64, of(point)?)));
        (name.to_owned(), points.collect::<Vec<_>>())
    };
    let of_kind = |kind: AssignmentKind| {
        move |point: &Point| (point.assignment == kind.name()).then_some(point.source_key_size)
    };
    let lines = [
        line("cyclic assignment", &of_kind(AssignmentKind::Cyclic)),
        line("combined scheme", &of_kind(AssignmentKind::Combined)),
        line("converse", &|point| (point.assignment == "cyclic").then_some(point.converse)),
    ];
    plot_lines(
        &lines,
        ["reduction m", "source key size (updates)"],
        "Keys of secure gradient coding",
        "24 servers, 10 copies of every dataset; any 14 + m servers respond",
        &folder.join("source_key_size"),
    )
}
