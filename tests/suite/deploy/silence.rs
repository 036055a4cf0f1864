//! A member that enters every round and says nothing in it, or worse.

use super::member::Member;
use super::*;

#[test]
fn who_says_nothing_is_left_out_of_more_rounds_each_time() {
    let trial = Trial::new(&["ann", "bob", "cleo", "mal"], SECURE, 8, "");
    let mut server = trial.serve();
    let mal = Member::join(&trial, "mal");
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    let mut round = 1;
    while server.0.try_wait().unwrap().is_none() {
        // The question stays open while others play.
        match mal.enter(round) {
            None => {}
            Some(Order::Round(_)) => round += 1,
            Some(Order::Next(next)) => round = next,
            Some(Order::Over) => break,
        }
    }
    assert!(server.wait(60), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    // Left out of one round, then of two, then of four.
    let cohorts: Vec<usize> = trial.rows().iter().map(|row| row.cohort).collect();
    assert_eq!(cohorts, [4, 3, 4, 3, 3, 4, 3, 3], "{}", trial.log("server.log"));
    let lost = |row: &Row| row.outcome == Outcome::Outage;
    assert!(trial.rows().iter().all(|row| lost(row) == (row.cohort == 4)), "{:?}", trial.rows());
    let log = trial.log("server.log");
    assert!(log.contains("mal said nothing in round 3 and is left out until round 6"), "{log}");
}

/// Garbage twice, as three times in a row would end it, and silence from then on: in eight rounds of 150 at
/// most, with 1, 2, 4, …, 64 rounds without it in between. Always it floods.
#[cfg(target_os = "linux")]
#[test]
fn honest_rounds_go_on_beside_a_member_that_forges_floods_and_is_silent() {
    use super::attackers::memory;
    const ROUNDS: u64 = 150;
    let trial = Trial::new(&["ann", "bob", "cleo", "mal"], SECURE, ROUNDS, "");
    let config = fs::read_to_string(trial.path("run.toml")).unwrap();
    let quick = config
        .replace("share_deadline = 4.0", "share_deadline = 3.0")
        .replace("upload_deadline = 6.0", "upload_deadline = 4.5");
    fs::write(trial.path("run.toml"), quick).unwrap();
    let mut server = trial.serve();
    let mal = Member::join(&trial, "mal");
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    let (mut round, mut forged, mut most) = (1, 0, 0.0_f64);
    let mut before = None;
    while server.0.try_wait().unwrap().is_none() {
        match mal.enter(round) {
            None => {}
            Some(Order::Round(_)) => {
                if forged < 2 {
                    forged += 1;
                    mal.shelf.begin(round);
                    for name in ["ann", "bob", "cleo"] {
                        mal.shelf.put(format!("seccogc/client/mal/share/{round}/0/{name}"), vec![7; 1000]);
                    }
                    mal.shelf.put(format!("seccogc/client/mal/sum/{round}/1"), vec![7; 1000]);
                }
                round += 1;
            }
            Some(Order::Next(next)) => round = next,
            Some(Order::Over) => break,
        }
        let now = memory(&server);
        before = before.or(Some(now));
        most = most.max(now);
        for _ in 0..5 {
            mal.flood(1_000_000);
        }
    }
    assert!(server.wait(60), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let rows = trial.rows();
    assert_eq!(rows.len() as u64, ROUNDS);
    let (with, without): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.cohort == 4);
    println!("{} rounds with it, {} MB before, {most} MB at most", with.len(), before.unwrap());
    let lost: Vec<u64> =
        without.iter().filter(|row| row.outcome != Outcome::Recovered).map(|row| row.round).collect();
    assert!(
        lost.is_empty() && without.iter().all(|row| row.cohort == 3),
        "{lost:?} of {} lost",
        without.len()
    );
    assert!((3..=2 + 8).contains(&with.len()), "{} rounds with it", with.len());
    assert!(rows.last().unwrap().test_accuracy > Some(0.85), "{:?}", rows.last());
    assert!(most < before.unwrap() + 60.0, "{before:?} MB before, {most} MB at most");
    let log = trial.log("server.log");
    assert!(log.contains("refused from mal: version 0 of the binary form"), "{log}");
    assert!(log.contains("mal said nothing in round "), "{log}");
}
