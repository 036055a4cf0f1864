//! `--set`: which flag is blamed, what another kind keeps, and how large a value may be.

use std::fs;

use super::{Folder, refusal, seccogc};

/// The refusal of training with these flags.
fn with(sets: &[&str]) -> String {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    refusal(&["train", "configs/mnist.toml"].into_iter().chain(sets).collect::<Vec<_>>())
}

#[test]
fn the_flag_that_is_wrong_is_blamed() {
    assert_eq!(
        with(&["rounds=0", "solver.learning_rate=0.1", "clients=5"]),
        "error: --set rounds=0: rounds: 0 is too small; give at least 1"
    );
    let line = with(&["clients=5", "protocol.straglers=1", "rounds=3"]);
    assert!(line.starts_with("error: --set protocol.straglers=1: protocol.straglers: unknown key"), "{line}");
    // What two flags break together is laid at the door of one of them.
    let line = with(&["outage.policy=skip", "outage.attempts=5", "rounds=3"]);
    assert!(line.starts_with("error: --set outage.attempts=5: outage.attempts: belongs to policy"), "{line}");
}

#[test]
fn types_are_words_and_numbers_are_short() {
    for (set, problem) in [
        ("rounds=many", "invalid type: string \"many\", expected a whole number from 0 on"),
        ("rounds=2.5", "invalid type: number `2.5`, expected a whole number from 0 on"),
        ("rounds=1e30", "invalid type: number `1e30`, expected a whole number from 0 on"),
        ("clients=-1", "invalid value: whole number `-1`, expected a whole number from 0 on"),
        ("data.flip=7", "invalid type: whole number `7`, expected true or false"),
        ("solver.learning_rate=fast", "invalid type: string \"fast\", expected a number"),
        ("solver.learning_rate=[1]", "invalid type: list, expected a number"),
    ] {
        let key = set.split('=').next().unwrap();
        assert_eq!(with(&[set]), format!("error: --set {set}: {key}: {problem}"));
    }
    let line = with(&["privacy.update_std=-1e30"]);
    assert!(line.contains("-1e30 must be a finite number greater than 0"), "{line}");
}

#[test]
fn sizes_that_no_machine_holds_are_refused() {
    for (set, problem) in [
        ("rounds=1000000000000", "rounds: 1000000000000 is too large; the limit is 10000000"),
        ("cohort.least=0", "cohort.least: 0 is too small; give at least 1"),
        ("clients=100000000", "clients: 100000000 is too large; the limit is 10000000"),
        (
            "clients=100000",
            "clients: 100000 in one round are too many, the limit is 65535; let cohort.sample or cohort.rate draw fewer",
        ),
    ] {
        assert_eq!(with(&[set]), format!("error: --set {set}: {problem}"));
    }
    let line = with(&["outage.policy=retry", "outage.attempts=4000000000"]);
    assert!(line.ends_with("outage.attempts: 4000000000 is too large; the limit is 10000"), "{line}");
    let line = with(&["model.hidden=1000000000000"]);
    assert!(
        line.contains("model.hidden: 785000000000000 parameters are too many; the limit is 268435456"),
        "{line}"
    );
    let line = with(&["solver.steps=1000000000000"]);
    let rule = "solver.steps: 1000000000000 in a round are too many; the limit is 10000000";
    assert!(line.ends_with(rule), "{line}");
    let line = with(&["model.hidden=[100000, 100000]"]);
    assert!(line.contains("model.hidden: "), "{line}");
    let threads = seccogc(&["--threads", "1000000", "train", "configs/mnist.toml"]);
    let line = String::from_utf8(threads.stderr).unwrap();
    assert!(threads.status.code() == Some(2) && line.contains("1000000 is not in 1..=1024"), "{line}");
    let folder = Folder::new();
    let config = folder.file("epochs.toml", "[solver]\nepochs = 1000000000000\n");
    let line = refusal(&["train", &config]);
    assert!(line.ends_with(&rule.replace("steps", "epochs")), "{line}");
    let values = (1..=100).map(|i| format!("{i}.0")).collect::<Vec<_>>().join(", ");
    let keys = [
        "solver.learning_rate",
        "solver.momentum",
        "solver.weight_decay",
        "privacy.update_std",
        "protocol.key_std",
    ];
    let axes: String = keys.iter().map(|key| format!("\"{key}\" = [{values}]\n")).collect();
    let config = folder.file("sweep.toml", &format!("[sweep.grid]\n{axes}"));
    assert_eq!(
        refusal(&["sweep", &config]),
        "error: sweep: 10000000000 runs are too many; the limit is 100000, take values or seeds away"
    );
}

/// The configuration that a run with these flags was played with.
fn played(folder: &Folder, config: &str, sets: &[&str]) -> (String, String) {
    let path = folder.file("base.toml", config);
    let out = folder.path(&format!("run-{}", sets.len()));
    let short = ["rounds=1", "model.hidden=4", "solver.steps=1"];
    let sets: Vec<&str> = sets.iter().chain(&short).flat_map(|set| ["--set", set]).collect();
    let output = seccogc(&[&["train", &path, "--out", &out][..], &sets].concat());
    let lines = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{lines}");
    (fs::read_to_string(format!("{out}/config.toml")).unwrap(), lines)
}

#[test]
fn another_kind_keeps_what_both_kinds_have() {
    let folder = Folder::new();
    let base = "[solver]\nlearning_rate = 0.3\nmomentum = 0.5\n[protocol]\nstragglers = 1\nkey_std = 2.0\n";
    let (config, lines) = played(&folder, base, &["solver.kind=fedprox", "protocol.kind=cogc"]);
    for line in ["kind = \"fedprox\"", "learning_rate = 0.3", "kind = \"cogc\"", "stragglers = 1"] {
        assert!(config.contains(line), "{line}: {config}");
    }
    let fallen = "protocol.key_std = 2.0 falls away: kind = \"cogc\" has no such key";
    assert!(lines.contains(fallen), "{lines}");
}

#[test]
fn a_sweep_over_kinds_compares_like_with_like() {
    let folder = Folder::new();
    let config = folder.file(
        "kinds.toml",
        "rounds = 1\n[model]\nhidden = 4\n[solver]\nsteps = 1\nlearning_rate = 0.3\n[protocol]\nkind = \"ideal\"\n\
         [sweep.grid]\n\"solver.kind\" = [\"sgd\", \"fedprox\"]\n",
    );
    let out = folder.path("grid");
    let output = seccogc(&["sweep", &config, "--out", &out, "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for kind in ["sgd", "fedprox"] {
        let config = fs::read_to_string(format!("{out}/kind={kind}/seed-1/config.toml")).unwrap();
        assert!(config.contains("learning_rate = 0.3"), "{config}");
    }
    // The sweep's own file means the same runs.
    let again = format!("{out}/config.toml");
    let output = seccogc(&["sweep", &again, "--out", &out, "--resume", "--quiet"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn few_clients_need_no_protocol_section() {
    let folder = Folder::new();
    for (clients, stragglers) in [(4, 2), (8, 6), (9, 7), (12, 7)] {
        let text = format!("clients = {clients}\n");
        let (config, _) = played(&Folder::new(), &text, &[]);
        assert!(config.contains(&format!("stragglers = {stragglers}\n")), "{clients}: {config}");
    }
    let config = folder.file("two.toml", "clients = 2\nrounds = 1\n[model]\nhidden = 4\n");
    assert!(seccogc(&["train", &config, "--out", &folder.path("two"), "--quiet"]).status.success());
}
