//! Server and clients as processes of their own, over mutual TLS on the loopback interface.

mod attackers;
mod colluders;
mod divergence;
mod equivocation;
mod field;
mod member;
mod rogue;
mod rollback;
mod silence;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use seccogc::deploy::message::{
    Announcement, Entry, Hex, Order, Signed, VERSION, Welcome, from_json, to_json,
};
use seccogc::deploy::shelf::Shelf;
use seccogc::deploy::statement::{Signer, Topic};
use seccogc::deploy::transport::{Identity, Place, Pulled, ask, open, pull};
use seccogc::party::agreement::KeyPair;
use seccogc::protocol::cogc::CoGcMessage;
use seccogc::protocol::{Clock, Envelope, PartyId};
use seccogc::record::{Outcome, Row, read_rows};
use zenoh::Wait;

const SECCOGC: &str = env!("CARGO_BIN_EXE_seccogc");

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// `STOP` freezes the process, silently for everybody else, as a network that is cut off does; `CONT`
    /// heals it.
    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait(mut self, seconds: u64) -> bool {
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("a process did not end within {seconds} s");
    }
}

/// A trial in a temporary folder: certificates, configuration, logs.
struct Trial {
    folder: tempfile::TempDir,
    port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Trial {
    /// `names` are admitted; `more` follows the usual configuration of short rounds.
    fn new(names: &[&str], protocol: &str, rounds: u64, more: &str) -> Self {
        let trial = Self { folder: tempfile::tempdir().unwrap(), port: free_port() };
        trial.pki(&["init"], "pki");
        names.iter().for_each(|name| trial.pki(&["issue", name], "pki"));
        let config = format!(
            "rounds = {rounds}\nclients = {}\n[partition]\nkind = \"iid\"\n[model]\nkind = \"softmax\"\n\
             [solver]\nkind = \"sgd\"\nlearning_rate = 0.05\nsteps = 5\nbatch_size = 32\n[evaluation]\nevery = 1\n\
             [network.client_client]\nkind = \"bernoulli\"\nerasure = 0.0\n\
             [network.client_server]\nkind = \"bernoulli\"\nerasure = 0.0\n\
             [deploy]\nlisten = \"127.0.0.1:{}\"\nnames = {names:?}\npage = \"\"\ngather = 4.0\n\
             share_deadline = 4.0\nupload_deadline = 6.0\n{more}\n[protocol]\n{protocol}\n",
            names.len(),
            trial.port
        );
        fs::write(trial.path("run.toml"), config).unwrap();
        // What these clients accept beyond their defaults: the protocol, its seed, nobody who colludes where
        // none is withstood, and σ beside updates without bound.
        let kind = protocol.split('"').nth(1).unwrap();
        let policy = format!(
            "protocols = [\"{kind}\"]\nleast_key_ratio = 0.0\ntrusted_seed = true\ncolluders = {}\n",
            u8::from(kind != "groupwise")
        );
        fs::write(trial.path("policy.toml"), policy).unwrap();
        trial
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pki(&self, verb: &[&str], folder: &str) {
        let output =
            Command::new(SECCOGC).arg("pki").args(verb).arg("--pki").arg(self.path(folder)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn spawn(&self, log: &str, command: &mut Command) -> Process {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path(log)).unwrap();
        Process(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn serve(&self) -> Process {
        let (config, out) = (self.path("run.toml"), self.path("out"));
        self.spawn("server.log", Command::new(SECCOGC).arg("serve").arg(config).arg("--out").arg(out))
    }

    fn resume(&self) -> Process {
        self.spawn("server.log", Command::new(SECCOGC).args(["serve", "--resume"]).arg(self.path("out")))
    }

    fn command(&self, name: &str, pki: &str, patience: u32) -> Command {
        let mut command = Command::new(SECCOGC);
        command.args(["join", "--data", "mnist-subset", "--name", name, "--server"]);
        command.arg(format!("localhost:{}", self.port)).arg("--pki").arg(self.path(pki));
        command.args(["--patience", &patience.to_string()]);
        command.arg("--policy").arg(self.path("policy.toml"));
        command
    }

    fn join(&self, name: &str) -> Process {
        self.spawn(&format!("{name}.log"), &mut self.command(name, "pki", 60))
    }

    fn rows(&self) -> Vec<Row> {
        read_rows(&self.path("out/rounds.csv")).unwrap_or_default()
    }

    fn wait_for(&self, rounds: usize) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.rows().len() < rounds {
            assert!(Instant::now() < end, "{} rounds; {}", self.rows().len(), self.log("server.log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

const SECURE: &str = "kind = \"sec-cogc\"\nkeys = \"pairwise\"\nkey_std = 10.0\nstragglers = 1";

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn three_clients_learn_what_one_process_learns() {
    let trial = Trial::new(&["ann", "bob", "cleo"], SECURE, 6, "");
    let server = trial.serve();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    assert!(server.wait(120), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let output = Command::new(SECCOGC)
        .args(["train", "--quiet", "--out"])
        .arg(trial.path("in-process"))
        .arg(trial.path("run.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let alone: Vec<Row> = read_rows(&trial.path("in-process/rounds.csv")).unwrap();
    let rows = trial.rows();
    assert_eq!(rows.len(), 6);
    for (row, alone) in rows.iter().zip(&alone) {
        assert_eq!((row.round, row.outcome, row.cohort), (alone.round, Outcome::Recovered, 3));
        // Keys of another draw round the sum in other places; one of 2,000 test images may fall on the other
        // side.
        let difference = row.test_accuracy.unwrap() - alone.test_accuracy.unwrap();
        assert!(difference.abs() < 0.002, "round {}: {difference}", row.round);
        // Two of three sums suffice, a third may have come by then. The server counts them as the simulation
        // does.
        let sum = alone.bytes_client_server / 3;
        assert!([2 * sum, 3 * sum].contains(&row.bytes_client_server), "{}", row.bytes_client_server);
        // Every share carries a seal of 16 bytes.
        assert_eq!(row.bytes_client_client, alone.bytes_client_client + 3 * 16);
    }
    assert!(rows[5].test_accuracy > Some(0.7), "{:?}", rows[5].test_accuracy);
}

#[test]
fn the_uninvited_get_nothing_and_the_run_goes_on() {
    let trial = Trial::new(&["ann", "bob", "cleo"], SECURE, 3, "");
    trial.pki(&["issue", "dan"], "pki");
    trial.pki(&["init"], "other");
    trial.pki(&["issue", "ann"], "other");
    let server = trial.serve();
    // A certificate of the authority, but a name that is not on the list; and a listed name of another
    // authority.
    let stranger = trial.command("dan", "pki", 5).output().unwrap();
    assert_eq!(
        refusal(&stranger),
        format!(
            "error: no answer from the server at localhost:{} for 5 s; does it run, and is `dan` in its deploy.names?",
            trial.port
        )
    );
    let forged = trial.command("ann", "other", 5).output().unwrap();
    let line = refusal(&forged);
    assert!(line.contains(&format!("cannot connect to localhost:{}", trial.port)), "{line}");
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    assert!(server.wait(60), "{}", trial.log("server.log"));
    assert!(trial.rows().iter().all(|row| row.outcome == Outcome::Recovered && row.cohort == 3));
    let log = trial.log("server.log");
    assert!(
        !log.contains("dan is here") && log.contains("refused from dan: not among deploy.names"),
        "{log}"
    );
    // Somebody without our authority's certificate has no name that means anything.
    assert!(log.contains("QUIC acceptor failed") && log.contains("invalid peer certificate"), "{log}");
    drop(clients);
}

#[test]
fn a_killed_client_costs_a_round_and_comes_back() {
    let trial = Trial::new(&["ann", "bob", "cleo", "dan"], SECURE, 40, "");
    let server = trial.serve();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    let mut dan = trial.join("dan");
    trial.wait_for(3);
    dan.kill();
    let killed = trial.rows().len();
    trial.wait_for(killed + 4);
    let dan = trial.join("dan");
    assert!(server.wait(180), "{}", trial.log("server.log"));
    clients.into_iter().chain([dan]).for_each(|client| assert!(client.wait(20)));
    let rows = trial.rows();
    assert_eq!(rows.iter().map(|row| row.round).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    let outages = rows.iter().filter(|row| row.outcome == Outcome::Outage).count();
    assert!(outages <= 2, "{outages} outages");
    assert!(rows.iter().any(|row| row.cohort == 3 && row.outcome == Outcome::Recovered));
    assert_eq!(rows[39].cohort, 4, "dan is back");
    assert!(rows[39].test_accuracy > Some(0.8), "{:?}", rows[39].test_accuracy);
}

#[test]
fn a_killed_server_goes_on_and_announces_no_round_twice() {
    let trial = Trial::new(&["ann", "bob", "cleo"], SECURE, 30, "");
    let mut server = trial.serve();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    for rounds in [3, 8] {
        trial.wait_for(rounds);
        server.kill();
        server = trial.resume();
    }
    assert!(server.wait(120), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let rows = trial.rows();
    assert_eq!(rows.iter().map(|row| row.round).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
    // A round that a kill interrupted is an outage; all others are recovered.
    let interrupted: Vec<u64> =
        rows.iter().filter(|row| row.outcome != Outcome::Recovered).map(|row| row.round).collect();
    assert!(interrupted.len() <= 2, "{interrupted:?}");
    for log in ["ann.log", "bob.log", "cleo.log"] {
        let log = trial.log(log);
        let rounds = played(&log);
        assert!(rounds.len() > 20 && rounds.is_sorted_by(|a, b| a < b), "{log}");
    }
    assert!(rows[29].test_accuracy > Some(0.8), "{:?}", rows[29].test_accuracy);
}

/// The rounds in which a client took part, one after the other; a killed one's successor writes on in the
/// same log.
fn played(log: &str) -> Vec<u64> {
    let round = |line: &str| line.split(" round ").nth(1)?.split(": ").next()?.parse().ok();
    log.lines().filter(|line| line.contains(" shares, ")).filter_map(round).collect()
}

#[test]
fn a_client_that_is_cut_off_comes_back_when_the_network_heals() {
    let trial = Trial::new(&["ann", "bob", "cleo", "dan"], SECURE, 60, "");
    let server = trial.serve();
    let clients = ["ann", "bob", "cleo", "dan"].map(|name| trial.join(name));
    trial.wait_for(3);
    clients[3].signal("STOP");
    let cut = trial.rows().len();
    trial.wait_for(cut + 5);
    let apart = trial.rows();
    clients[3].signal("CONT");
    assert!(server.wait(180), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let rows = trial.rows();
    assert_eq!(rows.iter().map(|row| row.round).collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
    // Rounds that counted on dan: the one under way, and one more at either end if it was ready for the next.
    let outages = rows.iter().filter(|row| row.outcome == Outcome::Outage).count();
    assert!(outages <= 3, "{outages} outages");
    assert!(rows[59].test_accuracy > Some(0.8), "{:?}", rows[59].test_accuracy);
    assert_eq!(apart.last().unwrap().cohort, 3, "without dan");
    assert_eq!(rows[59].cohort, 4, "dan is back");
    let rounds = played(&trial.log("dan.log"));
    assert!(rounds.is_sorted_by(|a, b| a < b) && rounds.len() > 3, "{rounds:?}");
}

/// A client or the server is killed about every second for 500 rounds.
#[test]
#[ignore = "takes minutes: cargo test --release --features deploy --test suite soak -- --ignored"]
fn soak() {
    use rand::RngExt;
    const NAMES: [&str; 5] = ["ann", "bob", "cleo", "dan", "eve"];
    const ROUNDS: u64 = 500;
    let protocol = "kind = \"sec-cogc\"\nkeys = \"pairwise\"\nkey_std = 10.0\nstragglers = 2";
    let trial = Trial::new(&NAMES, protocol, ROUNDS, "");
    let config = fs::read_to_string(trial.path("run.toml")).unwrap();
    let quick = config
        .replace("gather = 4.0", "gather = 1.0")
        .replace("share_deadline = 4.0", "share_deadline = 1.5")
        .replace("upload_deadline = 6.0", "upload_deadline = 2.5");
    fs::write(trial.path("run.toml"), quick).unwrap();
    let mut rng = seccogc::seed::Seed::new(7).rng();
    let mut server = trial.serve();
    let mut clients = NAMES.map(|name| trial.join(name));
    trial.wait_for(2);
    let (end, mut kills) = (Instant::now() + Duration::from_secs(3000), 0);
    while trial.rows().len() < ROUNDS as usize - 10 {
        assert!(Instant::now() < end, "{} rounds", trial.rows().len());
        std::thread::sleep(Duration::from_millis(rng.random_range(200..2000)));
        kills += 1;
        match rng.random_range(0..20) {
            0 => {
                server.kill();
                server = trial.resume();
            }
            n => {
                let k = n as usize % NAMES.len();
                clients[k].kill();
                clients[k] = trial.join(NAMES[k]);
            }
        }
    }
    assert!(server.wait(300), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(60)));
    let rows = trial.rows();
    assert_eq!(rows.iter().map(|row| row.round).collect::<Vec<_>>(), (1..=ROUNDS).collect::<Vec<_>>());
    let recovered = rows.iter().filter(|row| row.outcome == Outcome::Recovered).count();
    println!("{kills} kills, {recovered} of {ROUNDS} rounds recovered");
    assert!(recovered > 300, "{recovered}");
    // One key of σ = 10 that does not cancel would lift the loss by orders of magnitude.
    let losses: Vec<f64> = rows.iter().filter_map(|row| row.test_loss).collect();
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0] + 0.05), "{losses:?}");
    assert!(rows[499].test_accuracy > Some(0.85), "{:?}", rows[499].test_accuracy);
    for name in NAMES {
        let rounds = played(&trial.log(&format!("{name}.log")));
        assert!(rounds.is_sorted_by(|a, b| a < b), "{name} answered twice for a round: {rounds:?}");
    }
}

/// What an invited client with bad intentions sends as its sum of `round`, and the reason of the refusal.
fn bad_sum(round: u64, d: usize) -> (Vec<u8>, &'static str) {
    let sum = |round, value| {
        let (from, to) = (PartyId::Client(3), PartyId::Server);
        let body = CoGcMessage::Sum(Arc::new(vec![value; d]));
        seccogc::wire::encode::<f64, _>(&Envelope {
            sent: Clock { round, attempt: 0, phase: 1 },
            from,
            to,
            body,
        })
    };
    match round {
        1 => (vec![7; 10_000_000], "a message of 10000000 bytes where at most"),
        2 => (vec![0xee; 26 + 8 * d], "version 7 of the binary form, here 1"),
        3 => (sum(3, f64::NAN), "a coordinate that is not a finite number"),
        4 => (sum(4, 1e30), "beyond the accepted 1.000e6"),
        5 => (sum(1, 0.5), "it is from round 1, attempt 1"),
        _ => (sum(round, 0.5)[..100].to_vec(), "a body of 74 bytes that says it has 62800"),
    }
}

#[test]
fn an_invited_client_with_bad_intentions_costs_its_rounds_only() {
    let trial = Trial::new(&["ann", "bob", "cleo", "mal"], SECURE, 9, "refusals = 100");
    let server = trial.serve();
    let clients = ["ann", "bob", "cleo"].map(|name| trial.join(name));
    let pki = trial.path("pki");
    let identity = Identity { folder: &pki, name: "mal" };
    let address = format!("localhost:{}", trial.port);
    let session = open(&identity, &Place::Client(&address), Duration::from_secs(20)).unwrap();
    let shelf = Shelf::default();
    let held = shelf.clone();
    let questions = session.declare_queryable("seccogc/client/mal/**").callback(move |q| held.question(q));
    let _questions = questions.wait().unwrap();
    let _alive = session.liveliness().declare_token("seccogc/alive/mal").wait().unwrap();
    let go = AtomicBool::new(false);
    let within = |seconds| Instant::now() + Duration::from_secs(seconds);
    let asked = |what: &str, payload: Vec<u8>| {
        let end = within(30);
        while Instant::now() < end {
            let key = format!("seccogc/server/mal/{what}");
            if let Some((answer, _)) = ask(&session, &key, Some(payload.clone()), within(3), &go) {
                return answer;
            }
        }
        panic!("no answer to {what}; {}", trial.log("server.log"));
    };
    let welcome: Signed = from_json(&asked("welcome", Vec::new()).unwrap()).unwrap();
    let Welcome { run, .. } = from_json(welcome.body.as_bytes()).unwrap();
    let signer = Signer::load(&identity).unwrap();
    // What belongs to others is denied, garbage is refused.
    assert_eq!(ask(&session, "seccogc/server/ann/welcome", None, within(2), &go), None);
    assert_eq!(pull(&session, "seccogc/client/ann/share/1/0/bob", 1 << 20, within(2), &go), Pulled::Late);
    assert!(asked("ready", b"{}".to_vec()).unwrap_err().contains("missing field"));
    assert!(asked("secrets", Vec::new()).unwrap_err().contains("no such question"));
    let mut reasons = Vec::new();
    for expected in 1..=6 {
        let public = Hex(KeyPair::generate().unwrap().public());
        let (digest, name) = (welcome.digest(), "mal".into());
        let entry = Entry { run, digest, round: expected, nonce: public, name, public, examples: 600 };
        let entry = signer.sign(Topic::Entry, &entry).unwrap();
        let Order::Round(announced) = from_json(&asked("ready", to_json(&entry)).unwrap()).unwrap() else {
            panic!("round {expected} does not begin")
        };
        let Announcement { round, members, .. } = from_json(announced.body.as_bytes()).unwrap();
        assert_eq!((round, members.len()), (expected, 4));
        let (sum, reason) = bad_sum(round, 7850);
        shelf.begin(round);
        for name in ["ann", "bob", "cleo"] {
            shelf.put(format!("seccogc/client/mal/share/{round}/0/{name}"), vec![1; 26 + 8 * 7850 + 16]);
        }
        shelf.put(format!("seccogc/client/mal/sum/{round}/1"), sum);
        reasons.push(reason);
    }
    trial.wait_for(6);
    session.close().wait().unwrap();
    assert!(server.wait(90), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    let log = trial.log("server.log");
    for reason in reasons {
        assert!(
            log.lines().any(|line| line.contains("refused from mal: ") && line.contains(reason)),
            "{reason} in\n{log}"
        );
    }
    let rows = trial.rows();
    assert!(rows[..6].iter().all(|row| row.outcome == Outcome::Outage && row.cohort == 4), "{rows:?}");
    assert!(rows[6..].iter().all(|row| row.outcome == Outcome::Recovered && row.cohort == 3), "{rows:?}");
    assert!(
        trial.log("cleo.log").contains("refused from mal: a share that was not sealed by this client for us")
    );
}

#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
    let refused = |more: &str, protocol: &str| {
        let trial = Trial::new(&["ann", "bob", "cleo"], protocol, 3, more);
        let output = Command::new(SECCOGC).arg("serve").arg(trial.path("run.toml")).output().unwrap();
        refusal(&output).replace(trial.path("run.toml").to_str().unwrap(), "run.toml")
    };
    assert_eq!(
        refused("", "kind = \"sec-cogc\"\nstragglers = 1"),
        "error: protocol.keys: without a dealer keys are agreed by pairs of clients; take keys = \"pairwise\" and no link keys"
    );
    assert_eq!(
        refused("", "kind = \"zhao-sun\"\nsurvivors = 2\ncolluders = 1"),
        "error: protocol.kind: zhao-sun needs a dealer of its masks' shares; take light-sec-agg, the same without one"
    );
    assert_eq!(
        refused("", "kind = \"light-sec-agg\""),
        "error: protocol.survivors: 5 survivors of 3 clients do not exist; give 1 to 3"
    );
    assert_eq!(
        refused("[outage]\npolicy = \"retry\"", SECURE),
        "error: outage.policy: a deployed round has one attempt; take \"skip\""
    );
    assert_eq!(
        refused("[participation]\nkind = \"fedau\"", "kind = \"fedavg\""),
        "error: participation.kind: rules of participation run in simulation only; take \"none\""
    );
    assert_eq!(
        refused("[compression]\nkind = \"low-rank\"", SECURE),
        "error: compression.kind: compression runs in simulation only; take \"none\""
    );
    let trial = Trial::new(&["ann", "bob", "cleo"], SECURE, 3, "");
    let set = |set: &str| {
        let output = Command::new(SECCOGC)
            .arg("serve")
            .arg(trial.path("run.toml"))
            .args(["--set", set])
            .output()
            .unwrap();
        refusal(&output).replace(trial.path("").to_str().unwrap(), "")
    };
    assert_eq!(
        set("clients=4"),
        "error: deploy.names: 3 names for 4 clients (`clients`); name every client that may take part"
    );
    assert_eq!(
        set("deploy.upload_deadline=4"),
        "error: --set deploy.upload_deadline=4: deploy.upload_deadline: 4 must be greater than share_deadline, 4: sums are sent when the shares are there"
    );
    let missing = set("deploy.pki=nowhere");
    assert!(missing.contains("server.crt: there is no such file; `seccogc pki"), "{missing}");
}
