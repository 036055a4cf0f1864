//! `mpirun -n R seccogc train`: the same tables as in one process, and what happens when a rank is missing,
//! wrong or killed.
//!
//! Without `mpirun` on the machine these tests say so and pass.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::slurm::batch;

const SECCOGC: &str = env!("CARGO_BIN_EXE_seccogc");

/// Unequal clients that train for an epoch, over links that fail, and are tested on examples of their own.
const CONFIG: &str = r#"
rounds = 6
clients = 7
[partition]
kind = "quantity"
[model]
kind = "softmax"
[solver]
kind = "sgd"
learning_rate = 0.05
epochs = 1
batch_size = 64
[evaluation]
every = 2
client_share = 0.1
[record]
checkpoint_every = 4
[network.client_client]
kind = "bernoulli"
erasure = 0.1
[network.client_server]
kind = "bernoulli"
erasure = [0.05, 0.1, 0.1, 0.3, 0.4, 0.5, 0.6]
[protocol]
kind = "sec-cogc"
keys = "fair"
key_std = 10.0
stragglers = 3
"#;

fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.args(["--oversubscribe", "--bind-to", "none"]);
    command
}

fn no_mpirun() -> bool {
    let there = mpirun().arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: there is no mpirun on this machine");
    }
    !there
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(config: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("run.toml"), config).unwrap();
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The arguments of a run into the folder `out`, each of `sets` a `--set`.
    fn train(&self, out: &str, sets: &[&str]) -> Vec<String> {
        let start = ["train", &self.path("run.toml"), "--quiet", "--out", &self.path(out)].map(str::to_owned);
        let sets = sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]);
        start.into_iter().chain(sets).collect()
    }

    /// Runs on so many ranks; 0: without mpirun.
    fn run(&self, ranks: usize, args: &[String]) -> Output {
        let mut command = if ranks == 0 { Command::new(SECCOGC) } else { mpirun() };
        if ranks > 0 {
            command.args(["-n", &ranks.to_string(), SECCOGC]);
        }
        command.args(["--threads", "2"]).args(args).current_dir(self.0.path()).output().unwrap()
    }

    fn succeed(&self, ranks: usize, args: &[String]) {
        let output = self.run(ranks, args);
        assert!(output.status.success(), "{ranks} ranks: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }

    /// What a run leaves but its timings: the tables and the checkpoint.
    fn results(&self, run: &str) -> (Vec<String>, String, Vec<u8>) {
        let run = Path::new(&self.path(run)).to_owned();
        let rounds = fs::read_to_string(run.join("rounds.csv")).unwrap();
        let timings = ",seconds_simulated,seconds_local,seconds_coding,seconds_evaluation";
        assert!(rounds.lines().next().unwrap().ends_with(timings));
        let untimed = |line: &str| line.rsplitn(4, ',').last().unwrap().to_owned();
        let clients = fs::read_to_string(run.join("clients.csv")).unwrap();
        (rounds.lines().map(untimed).collect(), clients, fs::read(run.join("checkpoint.bin")).unwrap())
    }
}

/// The lines that are ours, among those of mpirun.
fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect()
}

/// Runs with `sets` without mpirun and on each of these numbers of ranks. Returns `rounds.csv`, a text.
fn same_on(ranks: &[usize], sets: &[&str]) -> String {
    let folder = Folder::new(CONFIG);
    folder.succeed(0, &folder.train("alone", sets));
    let expected = folder.results("alone");
    for &ranks in ranks {
        let out = format!("ranks-{ranks}");
        folder.succeed(ranks, &folder.train(&out, sets));
        assert!(folder.results(&out) == expected, "{sets:?} on {ranks} ranks");
    }
    expected.0.join("\n")
}

#[test]
fn any_number_of_ranks_writes_the_same_tables() {
    if no_mpirun() {
        return;
    }
    let rounds = same_on(&[1, 2, 3, 9], &[]);
    assert!(rounds.contains("recovered") && rounds.contains("outage"), "{rounds}");
}

#[test]
fn control_vectors_travel() {
    if no_mpirun() {
        return;
    }
    // 7 · 1.1 · 10^6 control numbers: more than one message each.
    let wide = ["model.kind=mlp", "model.hidden=1400", "rounds=2", "solver.steps=1", "solver.kind=scaffold"];
    same_on(&[2], &wide);
    let partial = ["protocol.kind=fedavg", "solver.kind=scaffold"];
    assert!(same_on(&[3], &partial).contains("partial"));
    same_on(&[2], &["protocol.kind=cogc", "protocol.stragglers=3", "solver.kind=feddyn"]);
}

#[test]
fn carried_vectors_travel() {
    if no_mpirun() {
        return;
    }
    let rounds = same_on(&[3], &["outage.policy=accumulate", "server.kind=fedadam"]);
    assert!(rounds.contains("outage"), "{rounds}");
}

#[test]
fn cohorts_and_replicated_shards_are_divided() {
    if no_mpirun() {
        return;
    }
    let cohort = ["cohort.sample=5", "cohort.drop_after=2", "protocol.stragglers=2"];
    same_on(&[3], &cohort);
    let scarce = ["cohort.sample=3", "cohort.drop_after=1", "protocol.stragglers=1"];
    same_on(&[4], &scarce);
    same_on(&[2], &["protocol.kind=secure-gc", "protocol.responders=5", "protocol.reduction=2"]);
    same_on(&[2], &["protocol.kind=fedavg", "participation.kind=mifa"]);
}

/// The process of rank `rank` that the mpirun `parent` started.
fn process(parent: u32, rank: usize) -> Option<String> {
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}");
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let ours = status.lines().any(|line| line == format!("PPid:\t{parent}"))
            && environment.split(|byte| *byte == 0).any(|text| text == variable.as_bytes());
        ours.then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

#[test]
fn a_killed_rank_ends_the_job_and_any_number_of_ranks_goes_on() {
    if no_mpirun() {
        return;
    }
    let folder = Folder::new(CONFIG);
    let sets = ["rounds=40", "outage.policy=accumulate", "model.kind=mlp", "record.checkpoint_every=5"];
    folder.succeed(0, &folder.train("alone", &sets));

    let mut command = mpirun();
    command.args(["-n", "2", SECCOGC, "--threads", "1"]).args(folder.train("killed", &sets));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let rounds = Path::new(&folder.path("killed")).join("rounds.csv");
    let lines = || fs::read_to_string(&rounds).map_or(0, |text| text.lines().count());
    let deadline = Instant::now() + Duration::from_secs(120);
    while lines() < 13 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let rank = process(child.id(), 1).expect("rank 1 is a child of mpirun");
    assert!(Command::new("kill").args(["-9", &rank]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(lines() < 41, "the run ended before its rank was killed");
    let lines = errors(&output);
    assert_eq!(lines.len(), 1, "{output:?}");
    let again =
        format!("`mpirun -n 2 seccogc train --resume {}` goes on after round ", folder.path("killed"));
    assert!(lines[0].contains("a rank has died, or the job was ended from outside; "), "{}", lines[0]);
    assert!(lines[0].contains(&again), "{}", lines[0]);

    let resume = ["train", "--quiet", "--resume", &folder.path("killed")].map(str::to_owned);
    folder.succeed(3, &resume);
    assert!(folder.results("killed") == folder.results("alone"));
}

#[test]
fn what_is_wrong_is_said_once() {
    if no_mpirun() {
        return;
    }
    let folder = Folder::new(CONFIG);
    let refusal = |args: &[String]| {
        let output = folder.run(3, args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let lines = errors(&output);
        assert_eq!(lines.len(), 1, "{output:?}");
        lines[0].clone()
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let wrong = |set: &str| refusal(&folder.train("wrong", &[set]));
    assert!(wrong("rounds=0").ends_with("rounds: 0 is too small; give at least 1"), "{}", wrong("rounds=0"));
    assert!(wrong("protocol.stragglers=7").contains("protocol.stragglers: 7"));
    assert!(refusal(&words(&["train"])).contains("required"));
    folder.succeed(0, &folder.train("full", &["rounds=1"]));
    assert!(refusal(&folder.train("full", &[])).contains("the output folder is not empty"));
    assert_eq!(
        refusal(&words(&["recover", "run.toml"])),
        "error: only `train` is divided over 3 ranks; start it without mpirun"
    );
    assert_eq!(
        refusal(&words(&["sweep", "run.toml"])),
        "error: only `train` is divided over 3 ranks; say --shard I/N, and start the N parts without mpirun"
    );
    let help = folder.run(3, &words(&["train", "--help"]));
    assert!(help.status.success());
    assert_eq!(String::from_utf8_lossy(&help.stdout).matches("Usage:").count(), 1);
}

#[test]
fn a_rank_that_cannot_take_part_is_named() {
    if no_mpirun() {
        return;
    }
    // A path that is another file to a process that was started elsewhere.
    let lines: String = (0..60).map(|i| format!("{i},{},{}\n", i % 7, i % 2)).collect();
    let own = "clients = 3\nrounds = 2\n[data]\nname = \"table\"\ntrain = \"/proc/self/cwd/own.csv\"\nlabel = \"y\"\n\
               [model]\nkind = \"softmax\"\n[protocol]\nkind = \"ideal\"\n";
    let folder = Folder::new(own);
    fs::write(folder.path("own.csv"), format!("a,b,y\n{lines}")).unwrap();
    let elsewhere = folder.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let train = [SECCOGC, "train", "run.toml", "--quiet", "--out", "out"];
    let both = [&["-n", "1"], &train[..], &[":", "-n", "1", "-wdir", &elsewhere], &train].concat();
    let output = mpirun().args(both).current_dir(folder.0.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let lines = errors(&output);
    assert_eq!(lines.len(), 1, "{output:?}");
    assert!(lines[0].starts_with("error: rank 1 of 2 on "), "{}", lines[0]);
    assert!(lines[0].contains(": /proc/self/cwd/own.csv: "), "{}", lines[0]);
    assert!(!Path::new(&folder.path("out")).exists());
}

#[test]
fn the_batch_file_of_a_run_starts_its_ranks_and_resumes() {
    if no_mpirun() {
        return;
    }
    let folder = Folder::new(CONFIG);
    folder.succeed(0, &folder.train("alone", &[]));
    let srun = ("SRUN", "mpirun --oversubscribe --bind-to none -n 2");
    let root = [("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"), srun];
    for args in [&["run.toml", "--quiet", "--out", "out"][..], &["--quiet", "--resume", "out"]] {
        let output = batch("train.sbatch", folder.0.path(), &root, args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(folder.results("out") == folder.results("alone"));
    }
}
