//! Servers and members that do not follow the protocol, against clients and servers that do. Every attack
//! ends in one clear line, and nothing that depends on an update leaves a client.

use seccogc::deploy::shelf::reply;
use zenoh::query::Query;

use super::rogue::{D, Rogue, config, listen, logged, trial, welcome};
use super::*;

impl Trial {
    /// Plays an attack on ann; returns the line with which she ends.
    fn attack(&self, config: &str, attack: impl FnOnce(&Rogue<'_>)) -> String {
        let rogue = Rogue::start(self, config);
        let ann = self.join("ann");
        attack(&rogue);
        let line = self.ends(ann);
        let share = rogue.pull("seccogc/client/ann/share/1/0/bob");
        assert_eq!(share, Pulled::Late, "nothing left the client");
        line
    }

    /// Plays an attack on ann; returns the rule for which she sits the round out.
    fn sat_out(&self, config: &str, attack: impl FnOnce(&Rogue<'_>)) -> String {
        let rogue = Rogue::start(self, config);
        let _ann = self.join("ann");
        attack(&rogue);
        let line = logged(self, "ann", "; this client sits the round out");
        for key in ["share/1/0/bob", "sum/1/1"] {
            let nothing = rogue.pull(&format!("seccogc/client/ann/{key}"));
            assert_eq!(nothing, Pulled::Nothing("its policy forbids the round".into()), "{key}");
        }
        fs::remove_file(self.path("ann.log")).unwrap();
        let (_, rule) = line.split_once("round 1: ").unwrap();
        rule.trim_end_matches("; this client sits the round out").to_owned()
    }

    fn ends(&self, mut client: Process) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        let status = loop {
            if let Some(status) = client.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "{}", self.log("ann.log"));
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(2), "{}", self.log("ann.log"));
        let log = self.log("ann.log");
        let line = log.lines().last().unwrap_or_default();
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    }
}

/// The line that a server's message earns.
fn message(rule: &str) -> String {
    format!("message from the server: {rule}")
}

/// The rule of a client that is to play with one other.
const SMALL: &str = "a cohort of 2, and `least_cohort` is 3";

/// The line that a broken rule of the policy earns.
fn forbidden(rule: &str) -> String {
    format!("the server asks for what the policy forbids: {rule}")
}

#[test]
fn keys_that_the_server_replaced_are_refused() {
    let trial = trial(SECURE);
    let line = trial.attack(&config(&trial), |rogue| {
        let own = Hex(KeyPair::generate().unwrap().public());
        let replaced = |name| {
            let mut entry = rogue.signed(name, 1, |_| ());
            let said: Entry = from_json(entry.body.as_bytes()).unwrap();
            entry.body = String::from_utf8(to_json(&Entry { public: own, ..said })).unwrap();
            entry
        };
        rogue.announce(1, &[rogue.entry("ann"), replaced("bob"), replaced("cleo"), replaced("dan")]);
    });
    assert_eq!(line, message("round 1: the entry was not signed by `bob`"));
}

#[test]
fn entries_that_the_server_signs_or_has_of_elsewhere_are_refused() {
    let trial = trial(SECURE);
    trial.pki(&["init"], "other");
    trial.pki(&["issue", "bob"], "other");
    let line = trial.attack(&config(&trial), |rogue| {
        let entry: Entry = from_json(rogue.signed("bob", 1, |_| ()).body.as_bytes()).unwrap();
        let other = trial.path("other");
        let other = Signer::load(&Identity { folder: &other, name: "bob" }).unwrap();
        rogue.announce(1, &[rogue.entry("ann"), other.sign(Topic::Entry, &entry).unwrap()]);
    });
    assert_eq!(line, message("round 1: certificate of `bob`: not of our authority"));
    let line = trial.attack(&config(&trial), |rogue| {
        let entry: Entry = from_json(rogue.signed("bob", 1, |_| ()).body.as_bytes()).unwrap();
        rogue.announce(1, &[rogue.entry("ann"), rogue.signer.sign(Topic::Entry, &entry).unwrap()]);
    });
    assert_eq!(line, message("round 1: the entry is signed by the server"));
}

#[test]
fn a_clients_certificate_does_not_pose_as_the_server() {
    let trial = trial(SECURE);
    trial.pki(&["issue", "eve", "--host", "localhost"], "pki");
    let pki = trial.path("pki");
    let identity = Identity { folder: &pki, name: "eve" };
    let signer = Signer::load(&identity).unwrap();
    let address = format!("127.0.0.1:{}", trial.port);
    let session = listen(&identity, &address);
    let (welcome, _) = welcome(&trial, &config(&trial), &signer);
    let welcome = Arc::new(to_json(&welcome));
    let asked = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&asked);
    let answer = move |question: Query| {
        heard.store(true, std::sync::atomic::Ordering::Relaxed);
        reply(question, Arc::clone(&welcome));
    };
    let _questions = session.declare_queryable("seccogc/server/**").callback(answer).wait().unwrap();
    let line = trial.ends(trial.join("ann"));
    let place = format!("localhost:{}", trial.port);
    assert_eq!(line, format!("{place} proves the name `eve`, not `server`; nothing was sent to it"));
    // One that listens cannot know who connects first; it believes no welcome but the server's.
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = trial.command("ann", "pki", 6);
    let line = trial.ends(trial.spawn("ann.log", command.args(["--listen", &listen])));
    assert!(line.starts_with(&format!("no answer from the server at {place} for 6 s")), "{line}");
    assert!(!asked.load(std::sync::atomic::Ordering::Relaxed), "nobody asked eve for anything");
}

#[test]
fn a_member_of_nearly_all_weight_is_refused() {
    let trial = trial(SECURE);
    let line = trial.sat_out(&config(&trial), |rogue| {
        let heavy = rogue.signed("bob", 1, |entry| entry.examples = 1_000_000_000_000_000);
        rogue.announce(1, &[rogue.entry("ann"), heavy, rogue.signed("cleo", 1, |_| ())]);
    });
    assert_eq!(line, forbidden("`bob` has 1.000 of all examples, and `largest_share` is 0.5"));
    // The victim's own weight is in its entry.
    let line = trial.attack(&config(&trial), |rogue| {
        let mut own = rogue.entry("ann");
        own.body = own.body.replace("\"examples\":", "\"examples\":9");
        rogue.announce(1, &[own, rogue.signed("bob", 1, |_| ()), rogue.signed("cleo", 1, |_| ())]);
    });
    assert_eq!(line, message("round 1: the entry was not signed by `ann`"));
    // Others of one example each make the victim's share large.
    let line = trial.sat_out(&config(&trial), |rogue| {
        let light = |name| rogue.signed(name, 1, |entry| entry.examples = 1);
        rogue.announce(1, &[rogue.entry("ann"), light("bob"), light("cleo"), light("dan")]);
    });
    assert!(line.starts_with(&forbidden("`ann` has 0.99")), "{line}");
}

#[test]
fn a_downgrade_is_refused() {
    let trial = trial(SECURE);
    let with = |from: &str, to: &str| {
        let changed = config(&trial).replace(from, to);
        assert_ne!(changed, config(&trial));
        trial.attack(&changed, |_| ())
    };
    let open = with(SECURE, "kind = \"fedavg\"");
    assert_eq!(open, forbidden("protocol fedavg, and `protocols` has sec-cogc"));
    let unclipped = with("steps = 5", "clip_norm = nan\nsteps = 5");
    let rule =
        "solver.clip_norm: must be a finite number above 0, not NaN; remove it to leave updates unclipped";
    assert_eq!(unclipped, message(&format!("its configuration: {rule}")));
    let policy = |text: &str| fs::write(trial.path("policy.toml"), text).unwrap();
    policy("");
    let unbounded = "no clipping, without which key_std hides nothing, and `least_key_ratio` is 1; take arithmetic = \"field\"";
    assert_eq!(with("rounds = 9", "rounds = 8"), forbidden(unbounded));
    // Four clients, of whom one may have half of all examples.
    let weak = with("steps = 5", "clip_norm = 10.0\nsteps = 5");
    let beside = "key_std 10 beside weighted updates of norm 20, and `least_key_ratio` is 1; take arithmetic = \"field\"";
    assert_eq!(weak, forbidden(beside));
    policy("clip_norm = 1.0\n");
    assert_eq!(with("rounds = 9", "rounds = 8"), forbidden("no clipping, and `clip_norm` is 1"));
    policy("least_key_ratio = 0.0\nmost_rounds = 7\n");
    assert_eq!(with("rounds = 9", "rounds = 8"), forbidden("8 rounds, and `most_rounds` is 7"));
    let long = with("share_deadline = 4.0", "share_deadline = 1e20");
    assert!(long.contains("deploy.share_deadline: 1e20 is too long"), "{long}");
}

#[test]
fn no_round_beyond_the_last_is_played() {
    let trial = trial(SECURE);
    let one = config(&trial).replace("rounds = 9", "rounds = 1");
    let rogue = Rogue::start(&trial, &one);
    let ann = trial.join("ann");
    let members =
        |round| [rogue.entry("ann"), rogue.signed("bob", round, |_| ()), rogue.signed("cleo", round, |_| ())];
    rogue.announce(1, &members(1));
    rogue.put_models(1);
    rogue.announce(2, &members(2));
    assert_eq!(trial.ends(ann), message("round 2 of 1"));
}

#[test]
fn two_clients_do_not_share_a_ledger() {
    let trial = trial(SECURE);
    let rogue = Rogue::start(&trial, &config(&trial));
    let _first = trial.join("ann");
    rogue.entry("ann");
    let line = trial.ends(trial.spawn("second.log", &mut trial.command("ann", "pki", 60)));
    drop(line);
    let log = trial.log("second.log");
    let rule =
        "ann.ledger.json: another `seccogc join` has this ledger; stop it, or give this one another name";
    assert!(log.lines().last().is_some_and(|line| line.ends_with(rule)), "{log}");
}

#[test]
fn small_cohorts_revoked_members_and_old_entries_are_refused() {
    let trial = trial(SECURE);
    let usual = config(&trial);
    let line = trial
        .sat_out(&usual, |rogue| rogue.announce(1, &[rogue.entry("ann"), rogue.signed("bob", 1, |_| ())]));
    assert_eq!(line, forbidden(SMALL));
    let line = trial.attack(&usual, |rogue| {
        let old = rogue.signed("bob", 3, |_| ());
        rogue.announce(1, &[rogue.entry("ann"), old, rogue.signed("cleo", 1, |_| ())]);
    });
    assert_eq!(line, message("round 1: the entry of `bob` is for round 3"));
    let line = trial.attack(&usual, |rogue| {
        let other = rogue.signed("bob", 1, |entry| entry.digest = Hex([1; 32]));
        rogue.announce(1, &[rogue.entry("ann"), other, rogue.signed("cleo", 1, |_| ())]);
    });
    assert_eq!(line, message("round 1: `bob` was welcomed to another configuration"));
    let pki = trial.path("pki");
    let bob = Signer::load(&Identity { folder: &pki, name: "bob" }).unwrap();
    trial.pki(&["revoke", "bob"], "pki");
    trial.pki(&["issue", "bob"], "pki");
    let line = trial.attack(&usual, |rogue| {
        let entry: Entry = from_json(rogue.signed("bob", 1, |_| ()).body.as_bytes()).unwrap();
        let revoked = bob.sign(Topic::Entry, &entry).unwrap();
        rogue.announce(1, &[rogue.entry("ann"), revoked, rogue.signed("cleo", 1, |_| ())]);
    });
    assert_eq!(line, message("round 1: certificate of `bob`: revoked"));
}

#[test]
fn a_client_sits_out_what_its_policy_forbids_and_ends_at_the_third_round_in_a_row() {
    let trial = trial(SECURE);
    let rogue = Rogue::start(&trial, &config(&trial));
    let ann = trial.join("ann");
    let two = |round| [rogue.entry("ann"), rogue.signed("bob", round, |_| ())];
    let three =
        |round| [rogue.entry("ann"), rogue.signed("bob", round, |_| ()), rogue.signed("cleo", round, |_| ())];
    let out = |round| format!("round {round}: {}; this client sits the round out", forbidden(SMALL));
    for round in [1, 2] {
        rogue.announce(round, &two(round));
        logged(&trial, "ann", &out(round));
    }
    // A round that it plays in between.
    rogue.put_models(3);
    rogue.announce(3, &three(3));
    for round in [4, 5] {
        rogue.announce(round, &two(round));
        logged(&trial, "ann", &out(round));
    }
    rogue.announce(6, &two(6));
    assert_eq!(trial.ends(ann), forbidden(SMALL));
    assert_eq!(trial.log("ann.log").matches("sits the round out").count(), 4);
}

#[test]
fn no_round_is_answered_twice() {
    let trial = trial(SECURE);
    let rogue = Rogue::start(&trial, &config(&trial));
    let mut ann = trial.join("ann");
    let members =
        |round| [rogue.entry("ann"), rogue.signed("bob", round, |_| ()), rogue.signed("cleo", round, |_| ())];
    rogue.announce(1, &members(1));
    rogue.put_models(1);
    assert!(matches!(rogue.pull("seccogc/client/ann/sum/1/1"), Pulled::Nothing(_) | Pulled::Late));
    ann.kill();
    // The one who comes back signs for what comes after the round that was interrupted.
    rogue.waiting.lock().unwrap().entries.clear();
    let ann = trial.spawn("ann.log", &mut trial.command("ann", "pki", 3));
    let entry: Entry = from_json(rogue.entry("ann").body.as_bytes()).unwrap();
    assert_eq!(entry.round, 2, "{}", trial.log("ann.log"));
    let order = Order::Round(rogue.announcement(1, &[rogue.entry("ann"), rogue.signed("bob", 1, |_| ())]));
    rogue.answer("ann", &order);
    assert_eq!(trial.ends(ann), message("round 1: the entry of `ann` is for round 2"));
    // Nor is it talked into an earlier one.
    rogue.waiting.lock().unwrap().entries.clear();
    let mut ann = trial.spawn("ann.log", &mut trial.command("ann", "pki", 3));
    while ann.0.try_wait().unwrap().is_none() {
        if rogue.waiting.lock().unwrap().entries.contains_key("ann") {
            rogue.answer("ann", &Order::Next(1));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(trial.ends(ann), message("round 1 comes next, but round 1 was played"));
    fs::write(trial.path("policy.toml"), "least_key_ratio = 0.0\nmost_releases = 1\n").unwrap();
    let ann = trial.join("ann");
    rogue.waiting.lock().unwrap().entries.clear();
    rogue.entry("ann");
    rogue.announce(2, &members(2));
    assert_eq!(trial.ends(ann), forbidden("1 sums may hold its update by now, and `most_releases` is 1"));
}

#[test]
fn members_who_were_shown_different_rounds_decode_nothing() {
    let trial = trial(SECURE);
    let rogue = Rogue::start(&trial, &config(&trial));
    let clients = ["ann", "bob"].map(|name| trial.join(name));
    let [ann, bob] = ["ann", "bob"].map(|name| rogue.entry(name));
    // Dan signs twice: everything that is shown is signed, but ann and bob are shown different weights.
    let dan = |examples| rogue.signed("dan", 1, |entry| entry.examples = examples);
    rogue.put_models(1);
    let shown = [("ann", dan(2500)), ("bob", dan(2501))];
    for (name, dan) in shown {
        let announcement = rogue.announcement(1, &[ann.clone(), bob.clone(), dan]);
        rogue.answer(name, &Order::Round(announcement));
    }
    // Ann's sum needs bob's share, and bob's needs dan's.
    let refused = "refused from bob: a share that was not sealed by this client for us, or was changed";
    let end = Instant::now() + Duration::from_secs(30);
    while !trial.log("ann.log").contains(refused) {
        assert!(Instant::now() < end, "{}", trial.log("ann.log"));
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(4));
    for name in ["ann", "bob"] {
        let sum = rogue.pull(&format!("seccogc/client/{name}/sum/1/1"));
        assert_eq!(sum, Pulled::Nothing("what it needs for it did not come".into()), "{name}");
    }
    drop(clients);
}

#[test]
fn another_model_than_was_announced_to_all_is_not_trained() {
    let trial = trial(SECURE);
    let rogue = Rogue::start(&trial, &config(&trial));
    let _ann = trial.join("ann");
    rogue.announce(1, &[rogue.entry("ann"), rogue.signed("bob", 1, |_| ()), rogue.signed("cleo", 1, |_| ())]);
    let mut other = vec![0; 4 * D];
    other[3] = 0x3f;
    rogue.waiting.lock().unwrap().model.put("seccogc/server/ann/model/1".into(), other);
    for key in ["share/1/0/bob", "sum/1/1"] {
        let nothing = rogue.pull(&format!("seccogc/client/ann/{key}"));
        assert_eq!(nothing, Pulled::Nothing("the client could not take part".into()), "{key}");
    }
    let line = message("a model that is not the one that was announced to all");
    assert!(trial.log("ann.log").contains(&line), "{}", trial.log("ann.log"));
}

/// The resident memory of a process, MB.
pub(super) fn memory(process: &Process) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[cfg(target_os = "linux")]
#[test]
fn a_member_that_floods_and_forges_costs_neither_memory_nor_rounds_nor_lines() {
    let trial = Trial::new(&["ann", "bob", "cleo", "mal"], SECURE, 400, "");
    let server = trial.serve();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    let pki = trial.path("pki");
    let address = format!("localhost:{}", trial.port);
    let identity = Identity { folder: &pki, name: "mal" };
    let session = open(&identity, &Place::Client(&address), Duration::from_secs(20)).unwrap();
    trial.wait_for(3);
    let before = memory(&server);
    let go = AtomicBool::new(false);
    let soon = || Instant::now() + Duration::from_millis(50);
    let mut most = before;
    for i in 0..60 {
        // 4 MB each, for models of rounds to come, that nobody will ever answer; and as entries.
        let selector = format!("seccogc/server/mal/model/{}?from={i}", 100 + i);
        ask(&session, &selector, Some(vec![b'x'; 4_000_000]), soon(), &go);
        most = memory(&server).max(most);
    }
    let told = trial.rows().len();
    trial.wait_for(told + 10);
    std::thread::sleep(Duration::from_secs(1));
    let after = memory(&server);
    println!("{before:.1} MB before, {most:.1} MB at most, {after:.1} MB after 240 MB");
    assert!(after < before + 60.0, "{before:.1} MB before, {most:.1} MB at most, {after:.1} MB after");
    for _ in 0..5 {
        let forged = format!("{{\"body\":\"x\",\"\\n2026-01-01 INFO all is well{}\":1}}", "y".repeat(20_000));
        ask(
            &session,
            "seccogc/server/mal/ready",
            Some(forged.into_bytes()),
            Instant::now() + Duration::from_secs(3),
            &go,
        );
    }
    session.close().wait().unwrap();
    assert!(server.wait(180), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    assert!(trial.rows().iter().all(|row| row.outcome == Outcome::Recovered), "honest rounds go on");
    let log = trial.log("server.log");
    assert!(log.contains("mal is left out of this run: 3 messages in a row were refused"), "{log}");
    assert!(log.lines().all(|line| line.len() < 600 && !line.starts_with("2026-01-01")), "{log}");
}
