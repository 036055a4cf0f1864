//! `seccogc sweep`, `table` and `report` end to end on short runs: parallel, interrupted, in parts, gathered.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use seccogc::data::DataConfig;
use seccogc::data::partition::{Dirichlet, split};
use seccogc::seed::Seed;

/// Four points with two seeds; three rounds of a softmax model each.
const CONFIG: &str = r#"
rounds = 3
[evaluation]
every = 1
target = 0.3
stop_at_target = false
[model]
kind = "softmax"
[solver]
kind = "sgd"
steps = 2
[record]
checkpoint_every = 1
[network.client_server]
kind = "bernoulli"
erasure = 0.2
[sweep]
seeds = [1, 2]
[sweep.grid]
network.client_client.erasure = [0.0, 0.3]
[[sweep.variants]]
name = "Fair SecCoGC"
set = { "protocol.kind" = "sec-cogc", "protocol.stragglers" = 5 }
[[sweep.variants]]
name = "FedAvg"
set = { "protocol.kind" = "fedavg" }
"#;

const RUNS: usize = 8;

fn seccogc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap()
}

fn succeed(args: &[&str]) -> String {
    let output = seccogc(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(args: &[&str]) -> String {
    let output = seccogc(args);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    line.trim_end().to_owned()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(config: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("sweep.toml"), config).unwrap();
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn sweep(&self, out: &str, more: &[&str]) -> Vec<String> {
        let args =
            ["sweep", &self.path("sweep.toml"), "--quiet", "--out", &self.path(out)].map(str::to_owned);
        args.into_iter().chain(more.iter().map(ToString::to_string)).collect()
    }

    fn run(&self, out: &str, more: &[&str]) -> String {
        let args = self.sweep(out, more);
        succeed(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn refusal(&self, out: &str, more: &[&str]) -> String {
        let args = self.sweep(out, more);
        refusal(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// A CSV file without the columns that hold measured seconds.
fn untimed(path: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let timed = ["seconds", "seconds_local", "seconds_coding", "seconds_evaluation"];
    let header = reader.headers().unwrap().clone();
    let kept: Vec<usize> = (0..header.len()).filter(|&i| !timed.contains(&&header[i])).collect();
    assert!(kept.len() < header.len());
    let line = |record: &csv::StringRecord| kept.iter().map(|&i| &record[i]).collect::<Vec<_>>().join(",");
    std::iter::once(line(&header)).chain(reader.records().map(|record| line(&record.unwrap()))).collect()
}

#[test]
fn jobs_parts_and_interruptions_give_the_same_tables() {
    let folder = Folder::new(CONFIG);
    folder.run("one", &["--jobs", "1"]);
    let tables =
        |out: &str| ["sweep.csv", "runs.csv"].map(|name| untimed(&folder.path(&format!("{out}/{name}"))));
    let expected = tables("one");
    assert_eq!(expected[0].len(), 1 + 3 * RUNS);
    assert_eq!(expected[1].len(), 1 + RUNS);
    assert!(
        expected[0][0].starts_with("variant,network.client_client.erasure,seed,round,attempts,outcome,"),
        "{}",
        expected[0][0]
    );
    assert!(
        expected[1][1].starts_with("Fair SecCoGC,0.0,1,fair-seccogc/erasure=0.0/seed-1,3,"),
        "{}",
        expected[1][1]
    );
    for figure in ["accuracy.svg", "accuracy.png", "final_accuracy.svg", "final_accuracy.png"] {
        assert!(Path::new(&folder.path("one")).join(figure).is_file(), "{figure}");
    }

    folder.run("four", &["--jobs", "4"]);
    assert_eq!(tables("four"), expected);

    // The configuration may move with its results; only `[deploy]` knows where it lay.
    let moved = Folder::new(CONFIG);
    let one = folder.path("one");
    let again = ["sweep", &moved.path("sweep.toml"), "--quiet", "--resume", "--out", &one];
    let before = fs::read_to_string(folder.path("one/fedavg/erasure=0.3/seed-2/run.json")).unwrap();
    succeed(&again);
    assert_eq!(fs::read_to_string(folder.path("one/fedavg/erasure=0.3/seed-2/run.json")).unwrap(), before);

    // In three parts, the last of which gathers.
    for part in ["2/3", "1/3"] {
        folder.run("parts", &["--shard", part]);
        assert!(!Path::new(&folder.path("parts/sweep.csv")).exists());
    }
    folder.run("parts", &["--shard", "3/3"]);
    assert_eq!(tables("parts"), expected);

    // Interrupted: one run has gone, one has lost its last round and the end, one its checkpoint too.
    let at = |name: &str| folder.path(&format!("four/{name}"));
    let info = |run: &str| fs::read_to_string(at(&format!("{run}/run.json"))).unwrap();
    let untouched = info("fedavg/erasure=0.3/seed-2");
    fs::remove_dir_all(at("fair-seccogc/erasure=0.0/seed-1")).unwrap();
    for run in ["fair-seccogc/erasure=0.3/seed-2", "fedavg/erasure=0.0/seed-1"] {
        let path = at(&format!("{run}/run.json"));
        let text = fs::read_to_string(&path).unwrap();
        let start = text.find("\"parameters\"").unwrap();
        let parameters: String = text[start..].chars().take_while(|&c| c != ',').collect();
        fs::write(&path, format!("{}{parameters}}}", &text[..start])).unwrap();
    }
    fs::remove_file(at("fedavg/erasure=0.0/seed-1/checkpoint.bin")).unwrap();
    fs::write(at("fedavg/erasure=0.0/seed-1/rounds.csv"), "torn").unwrap();
    assert!(folder.refusal("four", &[]).contains("the output folder is not empty"));
    folder.run("four", &["--collect"]);
    assert_eq!(tables("four")[1].len(), 1 + RUNS - 3, "only finished runs are gathered");
    folder.run("four", &["--resume"]);
    assert_eq!(tables("four"), expected);
    assert_eq!(info("fedavg/erasure=0.3/seed-2"), untouched, "a finished run is not run again");
}

/// Local models are tested beside the server's in one variant only.
#[test]
fn runs_with_columns_of_their_own_share_a_table() {
    let own = "[[sweep.variants]]\nname = \"FedPBC\"\nset = { \"protocol.kind\" = \"fedavg\", \"outage.policy\" = \"postpone\" }\n";
    let folder = Folder::new(&CONFIG.replace(
        "[[sweep.variants]]\nname = \"FedAvg\"",
        &format!("{own}[[sweep.variants]]\nname = \"FedAvg\""),
    ));
    folder.run("all", &[]);
    let mut table = csv::Reader::from_path(folder.path("all/sweep.csv")).unwrap();
    let header = table.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|own| own == name).unwrap();
    let (variant, server, locals) =
        (column("variant"), column("test_accuracy"), column("test_locals_accuracy"));
    let mut lines = 0;
    for record in table.records() {
        let record = record.unwrap();
        assert_eq!(record[locals].is_empty(), &record[variant] != "FedPBC");
        assert!(!record[server].is_empty());
        lines += 1;
    }
    assert_eq!(lines, 3 * 12);
}

#[test]
fn a_killed_sweep_goes_on() {
    let folder = Folder::new(&CONFIG.replace("rounds = 3", "rounds = 12"));
    folder.run("whole", &[]);
    let args = folder.sweep("killed", &["--jobs", "2"]);
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_seccogc")).args(&args).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let started = folder.path("killed/fair-seccogc/erasure=0.3/seed-1/checkpoint.bin");
    while !Path::new(&started).exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!Path::new(&folder.path("killed/sweep.csv")).exists(), "the sweep ended before it was killed");
    folder.run("killed", &["--resume"]);
    assert_eq!(untimed(&folder.path("killed/sweep.csv")), untimed(&folder.path("whole/sweep.csv")));
}

#[test]
fn seeds_pair_the_variants() {
    // FedAvg over perfect links and the ideal server average the same updates.
    let config = "rounds = 2\n[evaluation]\nevery = 1\n[model]\nkind = \"softmax\"\n[sweep]\nseeds = [3]\n\
                  [sweep.grid]\nprotocol.kind = [\"ideal\", \"fedavg\"]\n";
    let folder = Folder::new(config);
    let table = folder.run("out", &["--csv"]);
    let accuracies: Vec<&str> = table.lines().skip(1).map(|line| line.split(',').nth(5).unwrap()).collect();
    assert_eq!(accuracies.len(), 2);
    assert_eq!(accuracies[0], accuracies[1]);
}

#[test]
fn wrong_sweeps_are_refused_before_anything_is_written() {
    let folder = Folder::new(CONFIG);
    let file = folder.path("sweep.toml");
    let refusal_of = |more: &[&str]| folder.refusal("out", more).replace(&file, "sweep.toml");
    for (set, want) in [
        (
            "sweep.grid.protocol.stragglers=[3, 10]",
            "error: sweep.grid.protocol.stragglers = 10: protocol.stragglers: 10 stragglers of 10 clients leave nobody to decode from; take at most 9",
        ),
        (
            "sweep.grid.protocol.key_sdt=[1.0]",
            "error: sweep.grid.protocol.key_sdt = 1.0: protocol.key_sdt: unknown key `key_sdt`",
        ),
        (
            "evaluation.target=95",
            "error: --set evaluation.target=95: evaluation.target: 95 is not an accuracy; give a fraction greater than 0 and at most 1",
        ),
    ] {
        let sets = ["--set", "sweep.variants=[]", "--set", "protocol.kind=sec-cogc", "--set", set];
        assert_eq!(refusal_of(&sets).split(", expected one of ").next(), Some(want));
    }
    assert!(!Path::new(&folder.path("out")).exists());
    assert_eq!(
        refusal(&["sweep", "configs/mnist.toml"]),
        "error: configs/mnist.toml: nothing to sweep; add a [sweep] section with seeds, grid or variants"
    );
    assert_eq!(
        folder.refusal("out", &["--collect"]),
        format!(
            "error: {}: holds no finished run of this sweep; leave --collect away to execute it",
            folder.path("out")
        )
    );
    // A folder with other runs under the same names.
    folder.run("out", &["--set", "sweep.seeds=[1]"]);
    assert_eq!(
        folder.refusal("out", &["--resume", "--set", "rounds=4"]),
        format!(
            "error: {}/fair-seccogc/erasure=0.0/seed-1: holds a run of another configuration; name another folder with --out",
            folder.path("out")
        )
    );
}

#[test]
fn seeds_whose_partition_fails_are_named() {
    let seeds: Vec<u64> = (1..=8).collect();
    let partition = Dirichlet { alpha: 0.01, ..Dirichlet::default() };
    let labels: Vec<u16> = DataConfig::default().load().unwrap().train.labels().to_vec();
    let failing = |clients: usize| -> Vec<String> {
        let divide = |seed| split(&partition, &labels, 10, clients, Seed::new(seed).child("partition", 0));
        seeds.iter().filter(|seed| divide(**seed).is_err()).map(u64::to_string).collect()
    };
    let several = |clients: &usize| (2..8).contains(&failing(*clients).len());
    let clients = (4..12).find(several).unwrap();
    let failing = failing(clients);
    let sweep = format!(
        "clients = {clients}\nrounds = 1\n[model]\nkind = \"softmax\"\n[partition]\nkind = \"dirichlet\"\nalpha = 0.01\n\
         [protocol]\nkind = \"ideal\"\n[sweep]\n"
    );
    let folder = Folder::new(&format!("{sweep}seeds = {seeds:?}\n"));
    let args = ["sweep", &folder.path("sweep.toml"), "--out", &folder.path("out")];
    let line = refusal(&args);
    let named = format!(" would get no example with seed {}; ", failing[0]);
    let all = format!("; runs fail with seeds {}", failing.join(", "));
    assert!(line.contains(&named) && line.ends_with(&all), "{line}");
    // Drawing again mends it.
    let mended = [&args[..], &["--set", "partition.least=1", "--quiet", "--jobs", "1"]].concat();
    succeed(&mended);
}

#[test]
fn a_target_ends_a_run_and_is_written_down() {
    let folder = Folder::new(CONFIG);
    let train = |out: &str, sets: &[&str]| {
        let path = folder.path(out);
        let mut args = vec!["train", "configs/mnist.toml", "--out", &path, "--set", "evaluation.every=1"];
        for set in [
            "rounds=6",
            "partition.kind=iid",
            "network.client_client.erasure=0",
            "network.client_server.erasure=0",
        ]
        .iter()
        .chain(sets)
        {
            args.extend(["--set", set]);
        }
        let output = seccogc(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let info = fs::read_to_string(Path::new(&path).join("run.json")).unwrap();
        let rounds = fs::read_to_string(Path::new(&path).join("rounds.csv")).unwrap().lines().count() - 1;
        let end = serde_json::from_str::<serde_json::Value>(&info).unwrap()["end"].clone();
        (end, rounds, String::from_utf8(output.stderr).unwrap())
    };
    let (end, rounds, text) = train("reached", &["evaluation.target=0.3"]);
    let round = end["target"]["reached"]["round"].as_u64().unwrap() as usize;
    assert_eq!((rounds, end["rounds"].as_u64()), (round, Some(round as u64)));
    assert!(round < 6, "the run stops at the target");
    let bytes = end["target"]["reached"]["bytes_client_server"].as_u64().unwrap();
    assert!(bytes > 0);
    assert!(text.contains(&format!("target 30 % reached in round {round} after ")), "{text}");
    // Resuming a run that has stopped adds no round.
    succeed(&["train", "--resume", &folder.path("reached"), "--quiet"]);
    assert_eq!(fs::read_to_string(folder.path("reached/rounds.csv")).unwrap().lines().count() - 1, round);

    let (end, rounds, text) = train("never", &["evaluation.target=1.0"]);
    assert_eq!((rounds, &end["target"]["reached"]), (6, &serde_json::Value::Null));
    assert!(text.contains("target 100 % not reached in 6 rounds"), "{text}");

    let (on, rounds, _) = train("on", &["evaluation.target=0.3", "evaluation.stop_at_target=false"]);
    assert_eq!((rounds, on["target"]["reached"]["round"].as_u64()), (6, Some(round as u64)));
    let (none, ..) = train("none", &["record.tensorboard=true"]);
    assert_eq!(none["target"], serde_json::Value::Null);

    // The event file holds the version and one event per round.
    let events = fs::read(folder.path("none/events.out.tfevents.seccogc")).unwrap();
    assert_eq!(seccogc::record::tensorboard::records(&events).count(), 7);
    assert!(!Path::new(&folder.path("on/events.out.tfevents.seccogc")).exists());
}

#[test]
fn tables_and_reports_are_made_of_sweeps_comparisons_and_runs() {
    let folder = Folder::new(CONFIG);
    folder.run("out", &[]);
    let out = folder.path("out");
    let table = succeed(&["table", &out]);
    assert!(table.starts_with("| variant      |"), "{table}");
    assert_eq!(table.lines().filter(|line| line.starts_with("| F")).count(), 2, "{table}");
    assert!(table.contains("erasure = 0.0") && table.contains("over 2 seeds"), "{table}");
    let latex =
        succeed(&["table", &out, "--columns", "variant", "--format", "latex", "--spread", "confidence"]);
    assert!(
        latex.contains("\\begin{tabular}{lrr}") && latex.contains("erasure & Fair SecCoGC & FedAvg"),
        "{latex}"
    );
    let one =
        succeed(&["table", &out, "--only", "network.client_client.erasure=0.30", "--only", "variant=FedAvg"]);
    assert_eq!(one.lines().filter(|line| line.starts_with("| FedAvg")).count(), 1, "{one}");
    assert_eq!(
        refusal(&["table", &out, "--rows", "variant"]),
        format!(
            "error: network.client_client.erasure: {out}/fair-seccogc/erasure=0.0/seed-1 and {out}/fair-seccogc/erasure=0.3/seed-1 differ in it and share a cell; give it in --rows or --columns, or choose with --only"
        )
    );
    assert_eq!(
        refusal(&["table", &out, "--only", "variant=Nobody"]),
        "error: --only variant=Nobody: no run has this value"
    );

    succeed(&["plot", &out, "--out", &folder.path("figure"), "--band", "confidence"]);
    assert!(fs::read_to_string(folder.path("figure.svg")).unwrap().contains("95 % confidence interval"));

    let run = format!("{out}/fedavg/erasure=0.0/seed-1");
    let page = folder.path("both.html");
    succeed(&["report", &out, &run, "--out", &page, "--title", "A <report>", "--quiet"]);
    let html = fs::read_to_string(&page).unwrap();
    for part in [
        "<title>A &lt;report&gt;</title>",
        "<svg ",
        "Who can learn what",
        "neighbour",
        "kind = &quot;fedavg&quot;",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
        let own = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!own.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
    succeed(&["report", &out, &run, "--out", &page, "--title", "A <report>", "--quiet"]);
    assert_eq!(fs::read_to_string(&page).unwrap(), html, "the same runs give the same bytes");
    succeed(&["report", &out, "--quiet"]);
    assert!(Path::new(&out).join("report.html").is_file());
    assert_eq!(
        refusal(&["report", &out, "--out", "report.pdf"]),
        "error: report.pdf: the report is an HTML file; let its name end in .html"
    );
    assert!(refusal(&["report", &folder.path("nowhere")]).contains("no such folder"));
}

#[test]
fn the_configuration_that_ships_sweeps_what_it_says() {
    let path = Path::new("configs/sweep.toml");
    let config = seccogc::config::Config::load(path, &[]).unwrap();
    let sweep = seccogc::sweep::Sweep::of(&config, Path::new("configs")).unwrap();
    // Two tolerances of Fair-SecCoGC, FedAvg and ideal links; three numbers of classes; three seeds.
    assert_eq!(sweep.runs.len(), (2 + 1 + 1) * 3 * 3);
    assert_eq!(sweep.keys, ["variant", "protocol.stragglers", "partition.classes"]);
    let stated = seccogc::config::explain("sweep").unwrap();
    assert!(stated.contains("[[sweep.variants]]") && stated.contains("  set: Dotted keys"), "{stated}");
}
