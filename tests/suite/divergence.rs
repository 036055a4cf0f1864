//! A run that meets what is not finite ends with one line and exit code 3, or goes on without the client; nothing of it enters a
//! sum, a table's mean or a curve.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use seccogc::record::{Row, RunInfo, read_rows};

fn seccogc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap()
}

struct Folder(tempfile::TempDir);

/// An MLP that explodes in its first round, in rounds of three steps.
const EXPLODING: [&str; 4] = ["model.kind=mlp", "solver.learning_rate=1e20", "solver.steps=3", "rounds=6"];

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `configs/mnist.toml` trained into the folder `out` with these settings.
    fn train(&self, out: &str, sets: &[&str]) -> Output {
        let out = self.path(out);
        let mut args = vec!["train", "configs/mnist.toml", "--quiet", "--out", out.to_str().unwrap()];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        seccogc(&args)
    }

    /// [`Folder::train`] that must diverge: its one line, without the part that names the folder.
    fn diverges(&self, out: &str, sets: &[&str]) -> String {
        let output = self.train(out, sets);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{sets:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{sets:?}: {line}");
        let run = self.path(out).display().to_string();
        let (line, again) = line.trim_end().split_once(&format!(" in {run}/config.toml, then ")).unwrap();
        let rounds = self.rows(out).len();
        assert_eq!(again, format!("`seccogc train --resume {run}` goes on after round {rounds}"));
        line.to_owned()
    }

    fn rows(&self, out: &str) -> Vec<Row> {
        read_rows(&self.path(out).join("rounds.csv")).unwrap()
    }

    fn resume(&self, out: &str) -> Output {
        seccogc(&["train", "--resume", self.path(out).to_str().unwrap(), "--quiet"])
    }

    /// Replaces a line of the run's configuration.
    fn edit(&self, out: &str, from: &str, to: &str) {
        let path = self.path(out).join("config.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }
}

/// A table without its timings.
fn untimed(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        cells[..cells.len() - 3].join(",")
    };
    text.lines().map(line).collect()
}

#[test]
fn every_protocol_solver_and_optimiser_ends_in_one_line() {
    let folder = Folder::new();
    let of_all = "error: diverged in round 1: the training loss of several clients is not finite; \
                  lower solver.learning_rate or set solver.clip_norm";
    let cases: [&[&str]; 16] = [
        &["protocol.kind=ideal"],
        &["protocol.kind=fedavg"],
        &["protocol.arithmetic=f64"],
        &["protocol.arithmetic=field", "protocol.code=cyclic-random"],
        &["protocol.kind=sec-agg"],
        &["protocol.kind=mifa"],
        &["protocol.kind=secure-gc", "solver.steps=3"],
        &["solver.clip_norm=1.0"],
        &["solver.kind=adam", "solver.learning_rate=1e20", "protocol.kind=ideal"],
        &["solver.kind=fedprox", "solver.learning_rate=1e20"],
        &["solver.kind=scaffold", "solver.learning_rate=1e20"],
        &["solver.kind=fednova", "solver.learning_rate=1e20"],
        &["solver.kind=feddyn", "solver.learning_rate=1e20"],
        &["server.kind=fedavgm"],
        &["server.kind=fedadagrad"],
        &["server.kind=fedadam", "outage.policy=accumulate"],
    ];
    for (i, more) in cases.iter().enumerate() {
        let out = i.to_string();
        let line = folder.diverges(&out, &[&EXPLODING[..], more, &["solver.steps=3"]].concat());
        assert_eq!(line, of_all, "{more:?}");
        let end = RunInfo::load(&folder.path(&out).join("run.json")).unwrap().end.unwrap();
        assert_eq!((end.rounds, end.diverged.unwrap().round), (0, 1), "{more:?}");
    }
    let svg = fs::read_to_string(folder.path("0/accuracy.svg")).unwrap();
    assert!(svg.contains("diverged in round 1"));
}
