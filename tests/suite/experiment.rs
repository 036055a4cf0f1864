//! `seccogc experiment`: the experiments of the repository hang together, and a small one is carried out and
//! published.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use seccogc::experiment::{Experiment, Program, index};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn seccogc() -> Command {
    Command::cargo_bin("seccogc").unwrap()
}

#[test]
fn experiments_of_the_repository_are_complete() {
    let folder = repository().join("experiments");
    let experiments = Experiment::all(&folder).unwrap();
    assert!(experiments.len() >= 7);
    for Experiment { name, folder, spec } in &experiments {
        let readme = fs::read_to_string(folder.join("README.md")).unwrap();
        let command = format!("experiment {name}");
        assert!(readme.contains(&command), "{name}: the README does not say its command");
        assert!(readme.contains("<!-- run -->"), "{name}: the README does not say how long it takes");
        for (_, name) in spec.kept() {
            assert!(folder.join(name).is_file(), "{}", folder.join(name).display());
        }
    }
    for experiment in &experiments {
        for program in experiment.programs(Path::new("out"), true) {
            let (Program::Own(words) | Program::Other(words, _)) = program;
            for word in words.iter().filter(|word| word.ends_with(".toml")) {
                assert!(Path::new(word).exists(), "{}: {word}", experiment.name);
            }
        }
    }
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    assert_eq!(page, index(&experiments), "`seccogc experiment NAME --update` writes the index");
}

const CONFIG: &str = "
    rounds = 2
    clients = 4
    [data]
    name = 'mnist-subset'
    [model]
    kind = 'softmax'
    [solver]
    kind = 'sgd'
    steps = 1
    [[compare]]
    name = 'ideal'
    protocol.kind = 'ideal'
";

const SPEC: &str = "
    title = 'Two rounds'
    claim = 'They can be played.'
    verdict = 'Holds: 2 of 2 rounds.'
    keep = ['compare/summary.csv']
    [[steps]]
    run = ['compare', '{here}/two.toml', '--out', '{out}/compare']
    quick = ['--set', 'rounds=1']
";

#[test]
fn a_small_experiment_is_carried_out_and_published() {
    let root = tempfile::tempdir().unwrap();
    let here = root.path().join("experiments/two");
    fs::create_dir_all(&here).unwrap();
    fs::write(here.join("two.toml"), CONFIG).unwrap();
    fs::write(here.join("experiment.toml"), SPEC).unwrap();
    let readme = "# Two\n<!-- compare/summary.md -->\n<!-- end -->\n<!-- run -->\n<!-- end -->\n";
    fs::write(here.join("README.md"), readme).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = seccogc();
        command.current_dir(root.path()).arg("experiment").args(arguments);
        command.assert()
    };
    let listed = run(&[]).success().get_output().stdout.clone();
    assert_eq!(String::from_utf8(listed).unwrap(), "two  Two rounds\n");

    run(&["two", "--quick", "--quiet"]).success().stderr("").stdout("");
    let rounds =
        fs::read_to_string(root.path().join("runs/experiments/two-quick/compare/ideal/seed-1/rounds.csv"));
    assert_eq!(rounds.unwrap().lines().count(), 2, "a header and one round");
    assert_eq!(fs::read_to_string(here.join("README.md")).unwrap(), readme, "a quick run publishes nothing");

    run(&["--all", "--update", "--quiet"]).success();
    let renewed = fs::read_to_string(here.join("README.md")).unwrap();
    assert!(renewed.contains("| ideal ") && renewed.contains("`seccogc experiment two`: "), "{renewed}");
    assert!(here.join("summary.csv").is_file());
    let page = fs::read_to_string(root.path().join("experiments/README.md")).unwrap();
    assert!(page.contains("\n\nThey can be played.\n\n**Verdict:** Holds: 2 of 2 rounds.\n"), "{page}");

    for (arguments, want) in [
        (
            &["three"][..],
            "error: experiments/three/experiment.toml: no such experiment; `seccogc experiment` lists them",
        ),
        (&["two", "--dir", "nowhere"], "error: nowhere: cannot read: "),
    ] {
        let stderr = run(arguments).code(2).get_output().stderr.clone();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(stderr.starts_with(want) && stderr.lines().count() == 1, "{stderr}");
    }
    // The second step of an interrupted run is missing a file; then it is there.
    let steps = "
    [[steps]]
    run = ['sweep', '{here}/sweep.toml', '--out', '{out}/sweep']
    [[steps]]
    command = ['cat', '{here}/late.txt']
    save = 'late.txt'
    ";
    let grid = CONFIG.replace("[[compare]]", "[sweep]\n    seeds = [1, 2]\n    [[sweep.variants]]");
    fs::write(here.join("sweep.toml"), grid.replace("protocol.kind", "set.protocol.kind")).unwrap();
    fs::write(here.join("experiment.toml"), SPEC.to_owned() + steps).unwrap();
    run(&["two", "--update", "--quiet"]).code(2);
    let out = root.path().join("runs/experiments/two-2");
    let finished = fs::read_to_string(out.join(".finished")).unwrap();
    assert_eq!(finished.lines().count(), 2, "{finished}");
    let seed = out.join("sweep/ideal/seed-1/run.json");
    let first = fs::metadata(&seed).unwrap().modified().unwrap();
    // As if the sweep had been cut off behind its first run.
    fs::write(out.join(".finished"), finished.lines().next().unwrap().to_owned() + "\n").unwrap();
    fs::remove_dir_all(out.join("sweep/ideal/seed-2")).unwrap();
    fs::write(here.join("late.txt"), "late").unwrap();
    run(&["two", "--update", "--resume", "--quiet"]).success();
    assert_eq!(fs::metadata(&seed).unwrap().modified().unwrap(), first, "a finished run is played again");
    assert!(out.join("sweep/ideal/seed-2/run.json").is_file());
    assert_eq!(fs::read_to_string(out.join("late.txt")).unwrap(), "late");
    let renewed = fs::read_to_string(here.join("README.md")).unwrap();
    assert!(renewed.contains("`seccogc experiment two`: in parts with "), "{renewed}");
    fs::write(here.join("experiment.toml"), SPEC.to_owned() + &steps.replace("late", "later")).unwrap();
    let stderr = run(&["two", "--resume", "--quiet"]).code(2).get_output().stderr.clone();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.contains("steps[2]: ") && stderr.contains("start anew without --resume"), "{stderr}");
    assert!(!root.path().join("runs/experiments/two-3").exists());

    let wrong = SPEC.replace("two.toml", "three.toml");
    fs::write(here.join("experiment.toml"), wrong).unwrap();
    let stderr = run(&["two", "--quiet"]).code(2).get_output().stderr.clone();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.contains("experiments/two/experiment.toml: steps[0]: "), "{stderr}");
}
