//! Going on with what was begun: what may change, what is refused, and what is said.

use std::fs;
use std::process::{Command, Stdio};

use super::{Folder, refusal, seccogc};

const SHORT: [&str; 6] =
    ["--set", "solver.steps=1", "--set", "model.hidden=8", "--set", "evaluation.every=1"];

/// A finished run of some rounds.
fn run(folder: &Folder, name: &str, rounds: u64, more: &[&str]) -> String {
    let path = folder.path(name);
    let rounds = format!("rounds={rounds}");
    let base = ["train", "configs/mnist.toml", "--out", &path, "--set", &rounds, "--quiet"];
    let output = seccogc(&[&base[..], &SHORT, more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// The lines that going on with a run prints.
fn resume(run: &str, more: &[&str]) -> String {
    let output = seccogc(&[&["train", "--resume", run][..], more].concat());
    let lines = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{lines}");
    lines
}

/// `rounds.csv` without its times.
fn rounds(run: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("{run}/rounds.csv")).unwrap();
    let cut = |line: &str| line.rsplitn(4, ',').last().unwrap().to_owned();
    text.lines().map(cut).collect()
}

fn edit(run: &str, was: &str, is: &str) {
    let path = format!("{run}/config.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(was), "{text}");
    fs::write(path, text.replacen(was, is, 1)).unwrap();
}

#[test]
fn a_finished_run_says_so_and_more_rounds_make_it_longer() {
    let folder = Folder::new();
    let whole = run(&folder, "whole", 5, &[]);
    let longer = run(&folder, "longer", 2, &[]);
    let said = resume(&longer, &[]);
    let advice =
        format!("{longer}: all 2 rounds are played; `train --resume {longer} --set rounds=N` plays more");
    assert!(said.lines().any(|line| line == advice), "{said}");
    let said = resume(&longer, &["--set", "rounds=5"]);
    let counts = said.lines().any(|line| line.contains("/5 (") || line.contains("/5,"));
    assert!(said.contains("recovered") && counts, "all rounds are counted: {said}");
    assert_eq!(rounds(&longer), rounds(&whole));
    let info = fs::read_to_string(format!("{longer}/run.json")).unwrap();
    assert!(info.contains("\"key\": \"rounds\"") && info.contains("\"after\": 2"), "{info}");
    assert!(fs::read_to_string(format!("{longer}/config.toml")).unwrap().contains("rounds = 5"));
}

#[test]
fn fewer_rounds_than_were_played_are_refused() {
    let folder = Folder::new();
    let path = run(&folder, "run", 3, &[]);
    edit(&path, "rounds = 3", "rounds = 2");
    assert_eq!(
        refusal(&["train", "--resume", &path]),
        format!(
            "error: {path}/config.toml: rounds: the run has played 3 rounds, and 2 are fewer; give at least as many"
        )
    );
    assert_eq!(rounds(&path).len(), 4, "nothing is lost");
}

#[test]
fn another_configuration_is_refused_by_its_key() {
    let folder = Folder::new();
    let path = run(&folder, "run", 2, &[]);
    for (key, value, was) in [
        ("seed", "2", "1"),
        ("partition.classes", "2", "1"),
        ("model.hidden", "9", "8"),
        ("protocol.key_std", "2.5", "0.1"),
    ] {
        let line = refusal(&["train", "--resume", &path, "--set", &format!("{key}={value}")]);
        let problem = format!(
            "error: {path}/config.toml: {key}: the run was played with {was}, not with {value}, and its tables would mix both; \
             write the former value, or start a new run"
        );
        assert_eq!(line, problem);
    }
    // What later rounds may do otherwise is noted.
    resume(&path, &["--set", "rounds=3", "--set", "solver.learning_rate=0.01", "--quiet"]);
    let info = fs::read_to_string(format!("{path}/run.json")).unwrap();
    assert!(info.contains("\"key\": \"solver.learning_rate\""), "{info}");
}

#[test]
fn other_data_is_refused() {
    let folder = Folder::new();
    let table = |shift: f64| {
        let rows = (0..120).map(|i| format!("{},{},{}\n", f64::from(i) * 0.37 + shift, i % 7, i % 3));
        format!("a,b,label\n{}", rows.collect::<String>())
    };
    let data = folder.file("train.csv", &table(0.0));
    let config = folder.file(
        "own.toml",
        &format!(
            "rounds = 2\nclients = 3\n[data]\nname = \"table\"\ntrain = \"{data}\"\n[protocol]\nkind = \"ideal\"\n[model]\nhidden = 4\n"
        ),
    );
    let path = folder.path("run");
    let output = seccogc(&["train", &config, "--out", &path, "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&data, table(1.0)).unwrap();
    let line = refusal(&["train", "--resume", &path, "--set", "rounds=4"]);
    assert!(
        line.starts_with(&format!("error: {path}/run.json: the run was played with other data")),
        "{line}"
    );
    fs::write(&data, table(0.0)).unwrap();
    resume(&path, &["--set", "rounds=4", "--quiet"]);
}

#[test]
fn a_run_that_is_being_written_is_left_alone() {
    let folder = Folder::new();
    let path = run(&folder, "run", 2, &[]);
    let held = fs::File::open(format!("{path}/.seccogc-lock")).unwrap();
    held.lock().unwrap();
    assert_eq!(
        refusal(&["train", "--resume", &path]),
        format!("error: {path}: another process is writing this run; wait until it ends, or stop it")
    );
    drop(held);
    resume(&path, &["--quiet"]);
}

#[test]
fn programs_that_start_at_once_get_folders_of_their_own() {
    let folder = Folder::new();
    let config = fs::canonicalize("configs/mnist.toml").unwrap();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
        command
            .current_dir(folder.path(""))
            .arg("train")
            .arg(&config)
            .args(["--set", "rounds=1"])
            .args(SHORT);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<_> = (0..4).map(|_| start()).collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let runs = fs::read_dir(folder.path("runs")).unwrap().flatten().map(|entry| entry.path());
    assert_eq!(runs.filter(|run| run.join("rounds.csv").is_file()).count(), 4);
    // What is refused leaves no folder behind.
    let refused = Command::new(env!("CARGO_BIN_EXE_seccogc"))
        .current_dir(folder.path(""))
        .args(["train", config.to_str().unwrap(), "--set", "data.name=mnist", "--data-dir", "nothing"])
        .output();
    assert_eq!(refused.unwrap().status.code(), Some(2));
    assert_eq!(fs::read_dir(folder.path("runs")).unwrap().count(), 4);
}

#[test]
fn a_comparison_goes_on() {
    let folder = Folder::new();
    let config = folder.file(
        "two.toml",
        "rounds = 3\n[model]\nhidden = 8\n[solver]\nsteps = 1\n[[compare]]\nname = \"A\"\nprotocol = { kind = \"ideal\" }\n\
         [[compare]]\nname = \"B\"\nprotocol = { kind = \"fedavg\" }\n",
    );
    let (whole, cut) = (folder.path("whole"), folder.path("cut"));
    for out in [&whole, &cut] {
        let output = seccogc(&["compare", &config, "--seeds", "2", "--out", out, "--quiet"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // As an interruption leaves it: one run not begun, one without its last rounds.
    fs::remove_dir_all(format!("{cut}/b/seed-2")).unwrap();
    fs::remove_file(format!("{cut}/summary.csv")).unwrap();
    let info = format!("{cut}/a/seed-2/run.json");
    let text = fs::read_to_string(&info).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json.as_object_mut().unwrap().remove("end");
    fs::write(&info, json.to_string()).unwrap();
    fs::remove_file(format!("{cut}/a/seed-2/checkpoint.bin")).unwrap();
    let kept = fs::read_to_string(format!("{cut}/a/seed-1/rounds.csv")).unwrap();
    let output = seccogc(&["compare", "--resume", &cut, "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(format!("{cut}/a/seed-1/rounds.csv")).unwrap(), kept);
    for name in ["a/seed-1", "a/seed-2", "b/seed-1", "b/seed-2"] {
        assert_eq!(rounds(&format!("{cut}/{name}")), rounds(&format!("{whole}/{name}")), "{name}");
    }
    let lines = |out: &str| fs::read_to_string(format!("{out}/summary.csv")).unwrap().lines().count();
    assert_eq!((lines(&cut), lines(&whole)), (5, 5));
}

#[test]
fn a_study_of_privacy_goes_on() {
    let folder = Folder::new();
    let config = folder.file(
        "study.toml",
        "rounds = 2\n[model]\nhidden = 8\n[solver]\nsteps = 1\n[study]\nkey_stds = [1.0, 10.0]\n[[compare]]\nname = \"A\"\n\
         protocol = { kind = \"sec-cogc\", stragglers = 3 }\n",
    );
    let out = folder.path("study");
    let output = seccogc(&["privacy", &config, "--out", &out, "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = format!("{out}/accuracy_privacy.csv");
    let whole = fs::read_to_string(&table).unwrap();
    let cut: Vec<&str> = whole.lines().take(2).collect();
    fs::write(&table, cut.join("\n") + "\n").unwrap();
    fs::remove_file(format!("{out}/accuracy_privacy.md")).unwrap();
    let output = seccogc(&["privacy", "--resume", &out]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("provable").count(), 1, "one run is played again: {said}");
    assert_eq!(fs::read_to_string(&table).unwrap(), whole);
}
