//! What becomes of runs that diverged beside others: sweeps, comparisons, their tables and figures.

use super::*;

#[test]
fn a_sweep_marks_the_runs_that_diverged_and_goes_on() {
    let folder = Folder::new();
    let config = "rounds = 2\n[evaluation]\nevery = 1\n[model]\nkind = \"mlp\"\n[solver]\nkind = \"sgd\"\nsteps = 3\n\
                  [protocol]\nkind = \"ideal\"\n[sweep]\nseeds = [1, 2]\n\
                  [sweep.grid]\nsolver.learning_rate = [1e20, 0.05]\n";
    let (file, out) = (folder.path("sweep.toml"), folder.path("out"));
    fs::write(&file, config).unwrap();
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    let sweep = |more: &[&str]| seccogc(&[&["sweep", file, "--out", out], more].concat());
    let output = sweep(&[]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    assert_eq!(log.matches("recovered 0/0, diverged in round 1: ").count(), 2, "{log}");
    assert_eq!(log.matches("recovered 2/2, ").count(), 2, "{log}");

    let table = |name: &str| -> Vec<Vec<String>> {
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).from_path(format!("{out}/{name}")).unwrap();
        reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    };
    let column = |table: &[Vec<String>], name: &str| -> Vec<String> {
        let at = table[0].iter().position(|column| column == name).unwrap();
        table[1..].iter().map(|line| line[at].clone()).collect()
    };
    let runs = table("runs.csv");
    assert_eq!(column(&runs, "diverged"), ["1", "1", "", ""]);
    assert_eq!(column(&runs, "final_accuracy")[..2], ["NaN", "NaN"]);
    let rounds = table("sweep.csv");
    let outcomes = ["diverged", "diverged", "recovered", "recovered", "recovered", "recovered"];
    assert_eq!(column(&rounds, "outcome"), outcomes);
    assert_eq!(column(&rounds, "round"), ["1", "1", "1", "2", "1", "2"]);
    assert_eq!(column(&rounds, "test_accuracy")[..2], ["", ""]);
    // A run that diverged is finished: it is not run again.
    let first = format!("{out}/{}/run.json", column(&runs, "folder")[0]);
    let before = fs::read_to_string(&first).unwrap();
    assert!(sweep(&["--resume"]).status.success());
    assert_eq!(fs::read_to_string(&first).unwrap(), before);

    for figure in ["accuracy", "final_accuracy"] {
        let svg = fs::read_to_string(format!("{out}/{figure}.svg")).unwrap();
        assert!(svg.contains("diverged"), "{figure}");
    }
    let output = seccogc(&["table", out]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("| 2 of 2 seeds diverged |") && !text.contains("NaN") && !text.contains(" 0.00"),
        "{text}"
    );
    assert!(seccogc(&["report", out, "--quiet"]).status.success());
    let report = fs::read_to_string(format!("{out}/report.html")).unwrap();
    assert!(report.contains("2 of 2 seeds diverged") && !report.contains("NaN"));
    assert!(report.contains("diverged in round 1: the training loss of several clients is not finite"));
    assert!(seccogc(&["plot", out]).status.success());
}

#[test]
fn a_comparison_marks_the_runs_that_diverged_and_fails_only_when_all_do() {
    let folder = Folder::new();
    let noisy = "[[compare]]\nname = \"Noise\"\nprotocol = { kind = \"gaussian\", key_std = 1e37 }\n";
    let common =
        "rounds = 3\n[evaluation]\nevery = 1\n[model]\nkind = \"mlp\"\n[solver]\nkind = \"sgd\"\nsteps = 2\n";
    let compare = |name: &str, contenders: &str| {
        let file = folder.path(&format!("{name}.toml"));
        fs::write(&file, format!("{common}{contenders}")).unwrap();
        let out = folder.path(name);
        (seccogc(&["compare", file.to_str().unwrap(), "--out", out.to_str().unwrap()]), out)
    };
    let ideal = "[[compare]]\nname = \"Ideal\"\nprotocol = { kind = \"ideal\" }\n";
    let (output, out) = compare("some", &format!("{noisy}{ideal}"));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = |name: &str| table.lines().find(|line| line.contains(name)).unwrap();
    assert!(line("Noise").contains("diverged in round ") && !line("Noise").contains("NaN"), "{table}");
    assert!(line("Ideal").trim_end().ends_with(" no |"), "{table}");
    let summary = fs::read_to_string(out.join("summary.csv")).unwrap();
    assert!(summary.lines().next().unwrap().contains(",diverged"));
    let svg = fs::read_to_string(out.join("comparison.svg")).unwrap();
    assert!(svg.contains("Noise, diverged in round ") && !svg.contains("Ideal, diverged"));
    assert!(seccogc(&["table", out.to_str().unwrap()]).status.success());

    let (output, out) = compare("all", noisy);
    assert_eq!(output.status.code(), Some(3));
    let log = String::from_utf8(output.stderr).unwrap();
    let line = log.lines().last().unwrap();
    assert!(line.starts_with("error: diverged in round "), "{line}");
    assert!(line.contains("so did every run of the comparison"), "{line}");
    assert!(out.join("summary.csv").is_file() && out.join("comparison.png").is_file());
}
