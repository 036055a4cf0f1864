//! Long work ends when it is told to, and by whoever hears of it.

use std::sync::atomic::AtomicBool;

use seccogc::audit::Adversaries;
use seccogc::audits::{Losses, Subject};
use seccogc::config::{Config, Set, Written};
use seccogc::parallel::NEVER;
use seccogc::verbs::{Size, Step, Watch, attack, plan, privacy};
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
