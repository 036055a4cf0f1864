//! Configurations under former names: the same runs, and a note.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What a run says on standard error, without its progress.
fn train(folder: &Path, name: &str, config: &str) -> Vec<String> {
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_seccogc"));
    command.arg("train").arg(&path).arg("--out").arg(folder.join(name));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
}

/// `rounds.csv` without its three last columns, which are times.
fn rounds(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("rounds.csv")).unwrap();
    text.lines().map(|line| line.rsplitn(4, ',').last().unwrap().to_owned()).collect()
}

#[test]
fn a_rule_that_was_a_protocol_runs_as_ever_and_says_how_it_is_written_now() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let common = "rounds = 6\nclients = 6\npartition = { kind = \"dirichlet\", alpha = 0.3 }\nmodel = { kind = \"softmax\" }\n\
                  solver = { kind = \"sgd\", steps = 2 }\nevaluation = { every = 2 }\n\
                  network.client_server = { kind = \"bernoulli\", erasure = 0.4 }\n";
    for rule in ["mifa", "fedvarp", "fedau"] {
        let (then, now) = (format!("{rule}-then"), format!("{rule}-now"));
        let notes = train(folder, &then, &format!("{common}protocol = {{ kind = \"{rule}\" }}\n"));
        let note = format!(
            " WARN {}: protocol.kind: \"{rule}\" is a rule of participation now; write protocol.kind = \"fedavg\" and participation \
             = {{ kind = \"{rule}\" }}",
            folder.join(format!("{then}.toml")).display()
        );
        assert_eq!(notes, [note]);
        let config =
            format!("{common}protocol = {{ kind = \"fedavg\" }}\nparticipation = {{ kind = \"{rule}\" }}\n");
        assert!(train(folder, &now, &config).is_empty());
        for file in ["config.toml", "clients.csv", "checkpoint.bin", "leakage.csv"] {
            let read = |run: &str| fs::read(folder.join(run).join(file)).unwrap();
            assert!(read(&then) == read(&now), "{rule}: {file}");
        }
        assert_eq!(rounds(&folder.join(&then)), rounds(&folder.join(&now)));
    }
    assert_ne!(rounds(&folder.join("mifa-now")), rounds(&folder.join("fedvarp-now")));
}
