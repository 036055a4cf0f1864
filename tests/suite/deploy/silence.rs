//! A member that enters every round and says nothing in it.

use super::*;

#[test]
fn who_says_nothing_is_left_out_of_more_rounds_each_time() {
    let trial = Trial::new(&["ann", "bob", "cleo", "mal"], SECURE, 8, "");
    let mut server = trial.serve();
    let pki = trial.path("pki");
    let identity = Identity { folder: &pki, name: "mal" };
    let address = format!("localhost:{}", trial.port);
    let session = open(&identity, &Place::Client(&address), Duration::from_secs(20)).unwrap();
    let _alive = session.liveliness().declare_token("seccogc/alive/mal").wait().unwrap();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    let go = AtomicBool::new(false);
    let asked = |what: &str, payload: Vec<u8>| {
        let end = Instant::now() + Duration::from_secs(3);
        Some(ask(&session, &format!("seccogc/server/mal/{what}"), Some(payload), end, &go)?.0.unwrap())
    };
    let welcome: Signed = from_json(&asked("welcome", Vec::new()).unwrap()).unwrap();
    let Welcome { run, .. } = from_json(welcome.body.as_bytes()).unwrap();
    let signer = Signer::load(&identity).unwrap();
    let mut round = 1;
    while server.0.try_wait().unwrap().is_none() {
        let public = Hex(KeyPair::generate().unwrap().public());
        let (digest, name) = (welcome.digest(), "mal".into());
        let entry = Entry { run, digest, round, nonce: public, name, public, examples: 600 };
        let entry = to_json(&signer.sign(Topic::Entry, &entry).unwrap());
        // The question stays open while others play.
        match asked("ready", entry).map(|answer| from_json(&answer).unwrap()) {
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
