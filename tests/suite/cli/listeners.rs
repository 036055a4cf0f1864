//! Whoever reads what is printed may go away, and a disk may be full: no run ends by that.

use std::fs;
use std::process::{Command, Stdio};

use super::{Folder, seccogc};

fn verbs(folder: &Folder) -> Vec<(&'static str, Vec<String>, &'static str)> {
    let tiny = "rounds = 10\n[model]\nhidden = 8\n[solver]\nsteps = 1\n";
    let two = "[[compare]]\nname = \"A\"\nprotocol = { kind = \"ideal\" }\n[[compare]]\nname = \"B\"\nprotocol = { kind = \"fedavg\" }\n";
    let of = |name: &str, text: &str| {
        vec![folder.file(name, text), "--out".into(), folder.path(name).replace(".toml", "")]
    };
    vec![
        ("train", of("train.toml", tiny), "rounds.csv"),
        ("compare", of("compare.toml", &format!("{tiny}{two}")), "summary.csv"),
        ("sweep", of("sweep.toml", &format!("{tiny}[sweep]\nseeds = [1, 2]\n")), "runs.csv"),
    ]
}

#[test]
fn nobody_reads_the_progress() {
    for full in [false, true] {
        let folder = Folder::new();
        for (verb, args, result) in verbs(&folder) {
            let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
            command.arg(verb).args(&args).stdout(Stdio::null());
            let status = if full {
                let disk = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
                command.stderr(disk).status().unwrap()
            } else {
                let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
                drop(child.stderr.take());
                child.wait().unwrap()
            };
            assert_eq!(status.code(), Some(0), "{verb}, full: {full}");
            assert!(fs::metadata(format!("{}/{result}", args[2])).is_ok_and(|file| file.len() > 0), "{verb}");
        }
    }
}

#[test]
fn a_closed_standard_output_ends_quietly_and_a_full_one_is_said() {
    let run = |out: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
        command.args(["config", "explain"]).stdout(out).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = run(Stdio::piped());
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let disk = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = run(disk.into()).wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(line.starts_with("error: standard output: cannot write") && line.lines().count() == 1, "{line}");
    assert!(seccogc(&["config", "explain"]).status.success());
}
