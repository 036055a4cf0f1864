//! Same seed and configuration, same tables: with one thread or two, in one go or killed and resumed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 24;

fn train(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
    command.args(args).args(["--quiet"]).stdout(Stdio::null());
    command
}

fn start(out: &Path, policy: &str, threads: &str) -> Command {
    start_with(out, policy, threads, &[])
}

/// A run with further `--set` arguments.
fn start_with(out: &Path, policy: &str, threads: &str, more: &[&str]) -> Command {
    let rounds = format!("rounds={ROUNDS}");
    let policy = format!("outage.policy={policy}");
    let out = out.to_str().unwrap();
    let mut args = vec!["--threads", threads, "train", "configs/mnist.toml", "--out", out];
    let sets = [
        rounds.as_str(),
        &policy,
        "record.checkpoint_every=5",
        "record.best=true",
        "evaluation.client_share=0.1",
        "data.flip=true",
        "data.crop=2",
    ];
    for set in sets.iter().chain(more).chain(&["solver.steps=3"]) {
        args.extend(["--set", set]);
    }
    train(&args)
}

/// A table without its last `timings` columns.
fn table(path: &Path, timings: usize) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            fields[..fields.len() - timings].join(",")
        })
        .collect()
}

fn assert_same(a: &Path, b: &Path) {
    let rounds = table(&a.join("rounds.csv"), 3);
    assert_eq!(rounds.len(), ROUNDS + 1);
    assert!(rounds[0].ends_with("seconds_simulated"), "only timings are left out: {}", rounds[0]);
    assert_eq!(rounds, table(&b.join("rounds.csv"), 3));
    assert_eq!(table(&a.join("clients.csv"), 0), table(&b.join("clients.csv"), 0));
    for file in ["checkpoint.bin", "best.safetensors"] {
        assert_eq!(fs::read(a.join(file)).unwrap(), fs::read(b.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn one_thread_or_two_killed_or_not_the_tables_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for policy in ["skip", "accumulate"] {
        let path = |name: &str| folder.path().join(format!("{policy}-{name}"));
        let (one, two, killed) = (path("one"), path("two"), path("killed"));
        assert!(start(&one, policy, "1").status().unwrap().success());
        assert!(start(&two, policy, "2").status().unwrap().success());
        assert_same(&one, &two);

        // Killed without warning, between the checkpoints of rounds 10 and 15 when it is fast enough to be
        // caught there.
        let mut child = start(&killed, policy, "2").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let lines = || fs::read_to_string(killed.join("rounds.csv")).map_or(0, |text| text.lines().count());
        while lines() < 13 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(lines() < ROUNDS + 1, "the run ended before it was killed");
        // The kill may have cut a line; a torn tail must not survive.
        let rounds = killed.join("rounds.csv");
        let torn = fs::read_to_string(&rounds).unwrap() + "99,1,outa";
        fs::write(&rounds, torn).unwrap();
        assert!(train(&["train", "--resume", killed.to_str().unwrap()]).status().unwrap().success());
        assert_same(&one, &killed);
        // Resuming a finished run changes nothing.
        assert!(train(&["train", "--resume", killed.to_str().unwrap()]).status().unwrap().success());
        assert_same(&one, &killed);
    }
}

#[test]
fn a_run_killed_before_its_first_checkpoint_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    assert!(start(&whole, "skip", "2").status().unwrap().success());
    assert!(start(&cut, "skip", "2").status().unwrap().success());
    fs::remove_file(cut.join("checkpoint.bin")).unwrap();
    assert!(train(&["train", "--resume", cut.to_str().unwrap()]).status().unwrap().success());
    assert_same(&whole, &cut);
}

#[test]
fn control_variates_moments_and_cohorts_resume_where_they_were() {
    let cohort = ["cohort.sample=6", "cohort.drop_after=2", "protocol.stragglers=3"];
    let solver = ["solver.kind=scaffold", "solver.batch_size=16", "server.kind=fedadam"];
    let outcomes = resumed_as_whole("skip", &[&solver[..], &cohort].concat());
    assert!(outcomes.contains("outage") && outcomes.contains("recovered"), "both kinds of rounds were seen");
}

#[test]
fn local_models_resume_where_they_were() {
    let sets = ["protocol.kind=fedavg", "network.client_server.erasure=0.4", "privacy.measure=false"];
    for policy in ["postpone", "echo"] {
        let outcomes = resumed_as_whole(policy, &sets);
        assert!(outcomes.contains("partial") && outcomes.contains("test_locals_accuracy"), "{outcomes}");
    }
}

#[test]
fn what_compression_left_resumes_where_it_was() {
    for (kind, more) in [("random-coordinates", 0.3), ("low-rank", 0.1), ("count-sketch", 0.3)] {
        let sets = [&format!("compression.kind={kind}"), &format!("compression.ratio={more}")];
        let outcomes = resumed_as_whole("skip", &sets.map(|set| set.as_str()));
        assert!(
            outcomes.contains("outage") && outcomes.contains("recovered"),
            "both kinds of rounds were seen"
        );
    }
}

#[test]
fn the_clock_resumes_where_it_was() {
    let there = [
        "devices.availability.kind=diurnal",
        "devices.availability.session=1.0",
        "devices.availability.period=60.0",
        "devices.wait=0.5",
        "devices.compute.kind=pareto",
        "cohort.sample=6",
        "protocol.stragglers=3",
    ];
    let outcomes = resumed_as_whole("skip", &there);
    assert!(outcomes.contains("wasted") && outcomes.contains("too-few"), "{outcomes}");
}

#[test]
fn clients_at_work_resume_where_they_were() {
    let buffered = [
        "cohort.buffered.size=6",
        "cohort.buffered.concurrency=9",
        "cohort.buffered.max_staleness=2",
        "devices.compute.kind=pareto",
        "protocol.stragglers=3",
    ];
    let outcomes = resumed_as_whole("skip", &buffered);
    assert!(outcomes.lines().next().unwrap().ends_with("wasted,staleness"), "{outcomes}");
    assert!(outcomes.contains("recovered") && outcomes.contains("outage"), "{outcomes}");
}

#[test]
fn models_that_were_missed_resume_where_they_were() {
    let sets = ["network.server_client.erasure=0.4", "protocol.kind=fedavg", "privacy.measure=false"];
    let whole = resumed_as_whole("skip", &sets);
    assert!(whole.lines().next().unwrap().ends_with("missed_model"), "{whole}");
    let missed = |line: &str| line.rsplit(',').next().unwrap().parse::<f64>().unwrap();
    assert!(whole.lines().skip(2).map(missed).sum::<f64>() > 20.0, "{whole}");
}

/// A run in one go and one that is resumed after ten rounds leave the same state. Returns the table of the
/// first.
fn resumed_as_whole(policy: &str, sets: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    assert!(start_with(&whole, policy, "1", sets).status().unwrap().success());
    // A run of ten rounds whose configuration is then continued to all.
    let ten = [sets, &["rounds=10"]].concat();
    assert!(start_with(&cut, policy, "2", &ten).status().unwrap().success());
    let config = cut.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("rounds = 10\n"));
    fs::write(&config, text.replace("rounds = 10\n", &format!("rounds = {ROUNDS}\n"))).unwrap();
    assert!(train(&["train", "--resume", cut.to_str().unwrap()]).status().unwrap().success());
    assert_eq!(
        fs::read(whole.join("checkpoint.bin")).unwrap(),
        fs::read(cut.join("checkpoint.bin")).unwrap()
    );
    fs::read_to_string(whole.join("rounds.csv")).unwrap()
}
