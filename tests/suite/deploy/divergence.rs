//! Clients that bring what is not finite, or what is refused again and again.

use super::*;

#[test]
fn a_client_whose_messages_are_refused_in_a_row_is_left_out_and_told() {
    let trial = Trial::new(&["ann", "bob", "cleo", "mal"], SECURE, 4, "");
    let server = trial.serve();
    let address = format!("localhost:{}", trial.port);
    let pki = trial.path("pki");
    let identity = Identity { folder: &pki, name: "mal" };
    let session = open(&identity, &Place::Client(&address), Duration::from_secs(20)).unwrap();
    for _ in 0..3 {
        let (go, end) = (AtomicBool::new(false), Instant::now() + Duration::from_secs(30));
        let (answer, _) = ask(&session, "seccogc/server/mal/ready", Some(b"{}".to_vec()), end, &go).unwrap();
        assert!(answer.unwrap_err().contains("missing field"));
    }
    session.close().wait().unwrap();
    let reason = "left out of this run: 3 messages in a row were refused, the last one: missing field";
    // Coming back does not help; the first round, which waits for everybody, does not wait for it.
    let line = refusal(&trial.command("mal", "pki", 20).output().unwrap());
    assert!(line.starts_with(&format!("error: message from the server: {reason}")), "{line}");
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    assert!(server.wait(60), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let log = trial.log("server.log");
    assert_eq!(log.matches(&format!("mal is {reason}")).count(), 1, "{log}");
    let rows = trial.rows();
    assert!(rows.iter().all(|row| row.outcome == Outcome::Recovered && row.cohort == 3), "{rows:?}");
}

/// Two classes that lie apart along x, at about ±`scale`.
fn points(scale: f32) -> String {
    let point = |i: u32| {
        let (class, y) = if i.is_multiple_of(2) { ("left", -1.0) } else { ("right", 1.0) };
        format!("{},{},{class}\n", y * scale * (1.0 + i as f32 / 40.0), i as f32 / 40.0)
    };
    format!("x,y,class\n{}", (0..40).map(point).collect::<String>())
}

#[test]
fn a_client_that_diverges_says_so_and_the_others_go_on() {
    let trial = Trial::new(&["ann", "bob", "cleo"], "kind = \"fedavg\"", 4, "");
    let config = fs::read_to_string(trial.path("run.toml")).unwrap();
    let data = "[data]\nname = \"table\"\ntrain = \"sane.csv\"\nlabel = \"class\"\n[partition]";
    fs::write(trial.path("run.toml"), config.replace("[partition]", data)).unwrap();
    fs::write(trial.path("sane.csv"), points(1.0)).unwrap();
    fs::write(trial.path("wild.csv"), points(1e38)).unwrap();
    let server = trial.serve();
    let clients = [("ann", "sane.csv"), ("bob", "sane.csv"), ("cleo", "wild.csv")].map(|(name, file)| {
        let mut command = Command::new(SECCOGC);
        command.args(["join", "--name", name, "--server"]).arg(format!("localhost:{}", trial.port));
        command.arg("--pki").arg(trial.path("pki")).arg("--data").arg(trial.path(file));
        command.arg("--policy").arg(trial.path("policy.toml"));
        trial.spawn(&format!("{name}.log"), &mut command)
    });
    assert!(server.wait(60), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let rows = trial.rows();
    assert_eq!(rows.len(), 4);
    // A model that already tells even those points apart has a finite loss on them.
    let without = |row: &&Row| row.diverged == 1;
    assert_eq!((rows[0].outcome, rows[0].diverged), (Outcome::Partial, 1), "{rows:?}");
    for row in &rows {
        let want = if without(&row) { Outcome::Partial } else { Outcome::Recovered };
        assert_eq!((row.outcome, row.cohort), (want, 3), "{row:?}");
        assert!(row.test_loss.unwrap().is_finite());
    }
    for round in rows.iter().filter(without).map(|row| row.round) {
        let said = format!("round {round}: the training loss is not finite, so nothing is sent; ");
        assert_eq!(trial.log("cleo.log").matches(&said).count(), 1, "{}", trial.log("cleo.log"));
        let heard = format!("round {round}: no upload of cleo: its update is not finite");
        assert_eq!(trial.log("server.log").matches(&heard).count(), 1, "{}", trial.log("server.log"));
    }
}

#[test]
fn a_run_whose_clients_all_diverge_ends_and_goes_on_with_another_rate() {
    let trial = Trial::new(&["ann", "bob", "cleo"], SECURE, 3, "");
    let config = fs::read_to_string(trial.path("run.toml")).unwrap();
    let steep = config.replace("softmax", "mlp").replace("learning_rate = 0.05", "learning_rate = 1e20");
    fs::write(trial.path("run.toml"), steep).unwrap();
    let server = trial.serve();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    assert!(!server.wait(60));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let out = trial.path("out").display().to_string();
    let line = format!(
        "error: diverged in round 1: the update of several clients is not finite; lower solver.learning_rate or set \
         solver.clip_norm in {out}/config.toml, then `seccogc serve --resume {out}` goes on after round 0"
    );
    assert_eq!(trial.log("server.log").lines().last(), Some(line.as_str()));
    assert!(trial.rows().is_empty());

    let path = trial.path("out/config.toml");
    let steep = fs::read_to_string(&path).unwrap();
    let rate = "learning_rate = 100000000000000000000.0";
    assert!(steep.contains(rate), "{steep}");
    fs::write(&path, steep.replace(rate, "learning_rate = 0.05")).unwrap();
    let server = trial.resume();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    assert!(server.wait(60), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    // The round that was announced is not announced again.
    let outcomes: Vec<Outcome> = trial.rows().iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Outage, Outcome::Recovered, Outcome::Recovered]);
}
