//! `seccogc config`.

use super::*;

#[test]
fn the_reference_lists_every_key_with_its_default() {
    let output = seccogc(&["config", "explain"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "seed = 1    # integer",
        "stragglers = \"default\"",
        "erasure = 0.0",
        "policy = \"skip\"    # \"skip\" | \"retry\" | \"accumulate\"",
        "alpha = 0.5",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let config: toml::Table = fs::read_to_string("configs/mnist_compare.toml").unwrap().parse().unwrap();
    let mut keys = Vec::new();
    fn collect(table: &toml::Table, keys: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => collect(inner, keys),
                _ => keys.push(key.clone()),
            }
        }
    }
    collect(&config, &mut keys);
    assert!(keys.len() > 10);
    for key in keys {
        assert!(
            text.contains(&format!("{key} = ")) || text.contains(&format!("[[{key}]]")),
            "{key} is not explained"
        );
    }
}

#[test]
fn every_configuration_of_the_repository_is_accepted() {
    let mut names = 0;
    for entry in fs::read_dir("configs").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "toml") {
            if let Err(error) = seccogc::config::Config::load(&path, &[]) {
                panic!("{error}");
            }
            names += 1;
        }
    }
    assert!(names > 5, "{names}");
}

fn shown(args: &[&str]) -> String {
    let output = seccogc(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn single_keys_are_explained() {
    let text = shown(&["config", "explain", "data.label"]);
    assert!(text.starts_with("[data]  ") && text.lines().count() == 3 && text.contains("label = "), "{text}");
    let text = shown(&["config", "explain", "rounds"]);
    assert!(text.starts_with("rounds = 100    # integer") && text.lines().count() == 2, "{text}");
    // A key of several kinds stands under each that has it, and nothing else does.
    let text = shown(&["config", "explain", "solver.momentum"]);
    let lines = text.lines().filter(|line| line.trim_start().starts_with("momentum = ")).count();
    let kinds = text.lines().filter(|line| line.trim_start().starts_with("kind = ")).count();
    assert!(lines > 1 && lines == kinds && text.lines().count() == 1 + 3 * lines, "{text}");
    // Also where a kind before has sections of its own.
    let text = shown(&["config", "explain", "protocol.stragglers"]);
    assert_eq!(text.matches("stragglers = \"default\"").count(), 2, "{text}");
    let text = shown(&["config", "explain", "solver.kind"]);
    assert!(
        text.contains("kind = \"sgd\"") && text.contains("kind = \"fedprox\"") && !text.contains("rate = "),
        "{text}"
    );
    assert_eq!(
        refusal(&["config", "explain", "data.lable"]),
        "error: no section or key `data.lable`; `seccogc config explain` lists them all"
    );
}

#[test]
fn a_new_file_is_a_configuration_and_is_not_overwritten() {
    let folder = Folder::new();
    let path = folder.path("deep/my.toml");
    shown(&["config", "new", &path]);
    assert_eq!(fs::read_to_string(&path).unwrap(), shown(&["config", "new"]));
    let config = seccogc::config::Config::load(std::path::Path::new(&path), &[]).unwrap();
    assert_eq!((config.rounds, config.clients, config.protocol.kind()), (100, 10, "sec-cogc"));
    assert_eq!(
        refusal(&["config", "new", &path]),
        format!("error: {path}: exists already, and is not overwritten; name another")
    );
}

#[test]
fn a_check_says_what_would_run() {
    let text = shown(&[
        "config",
        "check",
        "configs/mnist_compare.toml",
        "--set",
        "solver.steps=1",
        "--set",
        "rounds=7",
    ]);
    for part in
        ["data: 10000 examples", "2000 to test on, 10 clients", "mlp, 159010 parameters", "7 rounds about"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let contenders = fs::read_to_string("configs/mnist_compare.toml").unwrap().matches("[[compare]]").count();
    assert_eq!(text.matches("a round sends").count(), contenders, "{text}");
    let line = refusal(&["config", "check", "configs/mnist.toml", "--set", "protocol.stragglers=70"]);
    assert!(line.contains("protocol.stragglers"), "{line}");
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[of.len() / 2]
}

/// A small run holds a seventh more or less from one time to the next, by what its threads keep.
#[test]
fn the_memory_of_a_check_is_that_of_the_run() {
    let folder = Folder::new();
    for (times, sets) in [(3, ["model.kind=mlp", "clients=10"]), (1, ["model.kind=cnn", "seed=7"])] {
        let sets = ["--set", sets[0], "--set", sets[1], "--set", "partition.kind=iid", "--set", "rounds=12"];
        let said = |_| {
            let text = shown(&[&["config", "check", "configs/mnist.toml"][..], &sets].concat());
            let line = text.lines().find_map(|line| line.strip_prefix("memory: ")).unwrap();
            let (number, unit) = (line.split(' ').next().unwrap(), line.split(' ').nth(1).unwrap());
            number.parse::<f64>().unwrap() * if unit == "GiB" { 1073741824.0 } else { 1048576.0 }
        };
        let measured = |time| {
            let out = folder.path(&format!("{}-{time}", sets[3]));
            let train = [&["train", "configs/mnist.toml", "--quiet", "--out", &out][..], &sets].concat();
            assert!(seccogc(&train).status.success());
            let info = fs::read_to_string(format!("{out}/run.json")).unwrap();
            let info: serde_json::Value = serde_json::from_str(&info).unwrap();
            info["memory"].as_f64().unwrap()
        };
        let (said, measured) =
            (median((0..times).map(said).collect()), median((0..times).map(measured).collect()));
        assert!((said / measured - 1.0).abs() < 0.2, "{said} against {measured}");
    }
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let text = shown(&["completions", shell]);
        assert!(text.contains("seccogc") && text.contains("compare"), "{shell}");
    }
}
