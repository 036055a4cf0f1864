//! A server whose run folder was put back to an earlier state, or changed by hand.

use super::*;

/// Copies a run folder.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// The line with which a client ends.
fn last_line(trial: &Trial, name: &str, mut client: Process) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    let log = || trial.log(&format!("{name}.log"));
    while client.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(client.0.wait().unwrap().code(), Some(2), "{}", log());
    log().lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_server_that_was_put_back_gets_no_second_answer() {
    const NAMES: [&str; 3] = ["ann", "bob", "cleo"];
    let trial = Trial::new(&NAMES, SECURE, 1000, "");
    let mut server = trial.serve();
    let clients = NAMES.map(|name| trial.spawn(&format!("{name}.log"), &mut trial.command(name, "pki", 12)));
    trial.wait_for(3);
    server.kill();
    let before = trial.rows().len();
    copy(&trial.path("out"), &trial.path("before"));
    server = trial.resume();
    trial.wait_for(before + 5);
    server.kill();
    fs::rename(trial.path("out"), trial.path("after")).unwrap();
    fs::rename(trial.path("before"), trial.path("out")).unwrap();
    let _server = trial.resume();
    for (name, client) in NAMES.iter().zip(clients) {
        let line = last_line(&trial, name, client);
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [next, played] = numbers[..] else { panic!("{line}") };
        let told = format!("round {next} comes next, but round {played} was played");
        assert_eq!(line, format!("error: message from the server: {told}"));
        assert!(next <= played && played > before as u64, "{line}");
    }
    // Nobody has told it anything: of what is new, the round that the first kill interrupted is an outage.
    let new = trial.rows().split_off(before);
    assert!(new.len() <= 1 && new.iter().all(|row| row.outcome == Outcome::Outage), "{new:?}");
}

#[test]
fn a_journal_beyond_the_run_is_refused() {
    let trial = Trial::new(&["ann", "bob", "cleo"], SECURE, 9, "");
    let mut server = trial.serve();
    let journal = trial.path("out/deploy.json");
    let end = Instant::now() + Duration::from_secs(30);
    while !journal.exists() {
        assert!(Instant::now() < end, "{}", trial.log("server.log"));
        std::thread::sleep(Duration::from_millis(20));
    }
    server.kill();
    let text = fs::read_to_string(&journal).unwrap();
    let later = text.replace("\"announced\":0", "\"announced\":18446744073709551615");
    assert_ne!(text, later);
    fs::write(&journal, later).unwrap();
    let output = Command::new(SECCOGC).args(["serve", "--resume"]).arg(trial.path("out")).output().unwrap();
    let rule = "round 18446744073709551615 was announced, and the run has 9";
    assert_eq!(refusal(&output), format!("error: {}: {rule}", journal.display()));
}
