//! Long work ends when it is told to, and by whoever hears of it.

use std::sync::atomic::AtomicBool;

use seccogc::audit::Adversaries;
use seccogc::audits::{Losses, Subject};
use seccogc::config::{Config, Set, Written};
use seccogc::parallel::NEVER;
use seccogc::verbs::{Recovery, Size, Step, Watch, attack, plan, privacy};
use seccogc::{Error, plan as plans, recover};

fn config(text: &str) -> Config {
    let written = Written::new(text.parse().unwrap(), "configs");
    written.read(&[Set::parse("rounds=2").unwrap()]).unwrap().0
}

fn shipped(name: &str) -> Config {
    let sets = ["rounds=2", "model.kind=mlp", "model.hidden=8"].map(String::from);
    Config::load(format!("configs/{name}.toml").as_ref(), &sets).unwrap()
}

fn is_stopped<T>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Stopped)));
}

#[test]
fn what_is_told_to_end_ends() {
    let stop = AtomicBool::new(true);
    let config = config("clients = 5");
    // A number of rounds that nobody waits for.
    let rounds = 1_000_000_000_000;
    is_stopped(recover::recover(&config, 10, None, Some(rounds), &stop, &mut |_, _, _| Ok(())));
    is_stopped(plans::candidates_as_found(&config, 10, &[1], rounds, &stop, &mut |_, _, _| Ok(())));
    let subject = Subject::new(&config, 10).unwrap().with_stop(&stop);
    is_stopped(subject.audits(&Adversaries::default(), &Losses::Worst, &mut |_, _, _| Ok(())));
    let many = Config { clients: 300, ..config };
    is_stopped(plans::candidates_as_found(&many, 10, &[1], rounds, &stop, &mut |_, _, _| Ok(())));
}

#[test]
fn verbs_that_are_told_to_end_leave_what_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let device = "cpu".parse().unwrap();
    let mut hear = |_: &Step<'_>| Ok(());
    let stop = AtomicBool::new(true);
    let mut watch = Watch { stop: &stop, hear: &mut hear };
    let (study, out) = (shipped("privacy"), folder.path().join("privacy"));
    is_stopped(privacy(&study, &[1], &device, &out, false, &mut watch));
    assert!(out.join("config.toml").exists() && !out.join("accuracy_privacy.csv").exists());
    let (tried, out) = (shipped("attack"), folder.path().join("attack"));
    let setting = seccogc::train::Setting::build(&tried, device).unwrap();
    is_stopped(attack(&tried, setting, &out, false, &mut watch));
    assert!(!out.exists());
}

#[test]
fn whoever_hears_may_end_it() {
    let enough = || Err(Error::Own("enough".into()));
    let mut heard = 0;
    let mut hear = |step: &Step<'_>| {
        heard += 1;
        assert!(step.place > 0 && step.place <= step.total && !step.what.is_empty());
        if heard == 3 { enough() } else { Ok(()) }
    };
    let mut watch = Watch { stop: &NEVER, hear: &mut hear };
    let size = &mut Size::new(Some(10), None);
    let ended = plan(&config("clients = 5"), size, &[], 10, &mut watch);
    assert!(matches!(ended, Err(Error::Own(_))));
    assert_eq!(heard, 3);
    let ended = recover::recover(&config("clients = 5"), 10, None, Some(10), &NEVER, &mut |_, _, _| enough());
    assert_eq!(ended.unwrap_err().to_string(), "enough");
}

#[test]
fn what_was_found_until_the_end_is_kept() {
    let config = config("clients = 5");
    let whole = plans::candidates(&config, 10, &[1], 1000).unwrap();
    assert!(whole.len() > 3);
    let (mut some, mut heard) = (Vec::new(), 0);
    let mut enough = |_: usize, _: usize, _: &plans::Candidate| {
        heard += 1;
        if heard == 3 { Err(Error::Stopped) } else { Ok(()) }
    };
    is_stopped(plans::candidates_into(&mut some, &config, 10, &[1], 1000, &NEVER, &mut enough));
    assert_eq!(some.len(), 3);
    assert!(some.windows(2).all(|two| two[0].bytes <= two[1].bytes) && some.iter().any(|one| one.pareto));
    for one in &some {
        // The front is that among fewer.
        let same =
            |other: &&plans::Candidate| plans::Candidate { pareto: one.pareto, ..(*other).clone() } == *one;
        assert!(whole.iter().any(|other| same(&other)), "{one:?}");
    }
    let (mut rows, columns) = (Vec::new(), vec![(String::new(), config)]);
    let (title, key) = ("x".to_owned(), String::new());
    let recovery = Recovery { title, key, columns, stragglers: vec![], rounds: Some(10) };
    let mut hear = |step: &Step<'_>| if step.place == 2 { Err(Error::Stopped) } else { Ok(()) };
    let mut watch = Watch { stop: &NEVER, hear: &mut hear };
    is_stopped(recovery.rows_into(&mut rows, &mut Size::new(Some(10), None), &mut watch));
    assert_eq!(rows.iter().map(|row| row.stragglers).collect::<Vec<_>>(), [0, 1]);
}

/// Ctrl-C, where a table would come at the end: the part that is there comes at once.
#[cfg(unix)]
#[test]
fn an_interrupted_search_prints_what_it_found() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let config = std::path::absolute("configs/mnist.toml").unwrap();
    for (verb, rounds, sets) in
        [("recover", "3000000", "seed=1"), ("plan", "1000000", "protocol.code=cyclic-mds")]
    {
        let mut child = Command::new(env!("CARGO_BIN_EXE_seccogc"))
            .current_dir(folder.path())
            .arg(verb)
            .arg(&config)
            .args(["--rounds", rounds, "--parameters", "10", "--set", sets])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("{verb}: ")), "{line}");
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let (mut table, mut rest) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut table).unwrap();
        said.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
        assert!(rest.lines().last().unwrap().starts_with("interrupted: the "), "{rest}");
        // A head, a rule, and at least one line.
        let lines = table.lines().filter(|line| line.starts_with('|')).count();
        assert!(lines >= 3, "{table}");
        // What ends early leaves no folder that looks whole.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
