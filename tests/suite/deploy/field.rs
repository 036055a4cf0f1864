//! The schemes over prime fields: whoever uploaded is in the sum, whoever is gone is not.

use super::*;

const NAMES: [&str; 6] = ["ann", "bob", "cleo", "dan", "eve", "fay"];

/// The same run in one process.
fn alone(trial: &Trial) -> Vec<Row> {
    let output = Command::new(SECCOGC)
        .args(["train", "--quiet", "--out"])
        .arg(trial.path("in-process"))
        .arg(trial.path("run.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read_rows(&trial.path("in-process/rounds.csv")).unwrap()
}

/// A run in which the last client is killed and stays away. What is sent before is what one process sends,
/// but for `shares` bytes between clients that it does not send; every client sends the server `uploads`
/// messages.
fn the_others_go_on(clients: usize, protocol: &str, uploads: u64, shares: u64) {
    let trial = Trial::new(&NAMES[..clients], protocol, 14, "");
    let server = trial.serve();
    let mut members: Vec<Process> = NAMES[..clients].iter().map(|name| trial.join(name)).collect();
    trial.wait_for(3);
    members.pop().unwrap().kill();
    assert!(server.wait(120), "{}", trial.log("server.log"));
    members.into_iter().for_each(|client| assert!(client.wait(20)));
    let (rows, alone) = (trial.rows(), alone(&trial));
    assert_eq!(rows.iter().map(|row| row.round).collect::<Vec<_>>(), (1..=14).collect::<Vec<_>>());
    for (row, alone) in rows[..3].iter().zip(&alone) {
        assert_eq!((row.outcome, row.cohort), (Outcome::Recovered, clients), "{row:?}");
        assert_eq!(row.arrivals, uploads * clients as u64);
        assert_eq!(row.bytes_client_server, alone.bytes_client_server);
        let pairs = (clients * (clients - 1)) as u64;
        let sealed = if row.bytes_client_client > 0 { 16 * pairs } else { 0 };
        assert_eq!(row.bytes_client_client, alone.bytes_client_client + sealed + shares);
        // Over a field sums are exact.
        let difference = row.test_accuracy.unwrap() - alone.test_accuracy.unwrap();
        assert!(difference.abs() < 1e-9, "round {}: {difference}", row.round);
    }
    // The round under way, and one more if the killed client was ready for the next.
    let with: Vec<&Row> = rows.iter().filter(|row| row.cohort == clients).collect();
    let short = with.iter().filter(|row| row.outcome != Outcome::Recovered).count();
    assert!(short <= 2 && with.len() <= 12, "{rows:?}");
    assert!(with.iter().filter(|row| row.outcome == Outcome::Outage).count() <= 1, "{rows:?}");
    for row in rows.iter().filter(|row| row.cohort != clients) {
        assert_eq!((row.outcome, row.cohort), (Outcome::Recovered, clients - 1), "{row:?}");
    }
    assert!(rows[13].test_accuracy > Some(0.7), "{:?}", rows[13].test_accuracy);
    for name in &NAMES[..clients] {
        let log = trial.log(&format!("{name}.log"));
        assert!(!log.contains("refused"), "{log}");
    }
}

#[test]
fn light_sec_agg_goes_on_without_a_killed_client() {
    the_others_go_on(5, "kind = \"light-sec-agg\"\nsurvivors = 3\ncolluders = 1", 2, 0);
}

#[test]
fn groupwise_keys_of_pairs_go_on_without_a_killed_client() {
    the_others_go_on(5, "kind = \"groupwise\"\nsurvivors = 3\ngroup_size = 2", 2, 0);
}

/// Three groups of three hold a pair of five clients: three seeds and a header for every other client.
#[test]
fn groupwise_keys_of_three_go_on_without_a_killed_client() {
    the_others_go_on(5, "kind = \"groupwise\"\nsurvivors = 3\ngroup_size = 3", 2, 20 * (26 + 3 * 32));
}

#[test]
fn sec_agg_goes_on_without_a_killed_client() {
    the_others_go_on(5, "kind = \"sec-agg\"\nthreshold = 3", 4, 0);
}

#[test]
fn sec_agg_plus_goes_on_without_a_killed_client() {
    the_others_go_on(6, "kind = \"sec-agg-plus\"\nneighbours = 4\nthreshold = 3", 4, 0);
}

#[test]
fn sec_cogc_over_a_field_learns_what_one_process_learns() {
    let protocol = "kind = \"sec-cogc\"\nkeys = \"pairwise\"\nstragglers = 1\narithmetic = \"field\"";
    let trial = Trial::new(&NAMES[..3], protocol, 4, "");
    let server = trial.serve();
    let clients = [0, 1, 2].map(|k| trial.join(NAMES[k]));
    assert!(server.wait(120), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    for (row, alone) in trial.rows().iter().zip(alone(&trial)) {
        assert_eq!((row.outcome, row.cohort), (Outcome::Recovered, 3));
        assert_eq!(row.test_accuracy, alone.test_accuracy, "sums are exact");
    }
}

#[test]
fn a_round_waits_for_as_many_clients_as_its_scheme_needs() {
    let protocol = "kind = \"light-sec-agg\"\nsurvivors = 4\ncolluders = 1";
    let trial = Trial::new(&NAMES[..4], protocol, 8, "");
    let server = trial.serve();
    let mut clients = [0, 1, 2, 3].map(|k| trial.join(NAMES[k]));
    trial.wait_for(2);
    clients[3].kill();
    // The round under way ends; no other begins.
    std::thread::sleep(Duration::from_secs(14));
    let rows = trial.rows().len();
    assert!(rows < 8, "{rows}");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(trial.rows().len(), rows);
    clients[3] = trial.join(NAMES[3]);
    assert!(server.wait(120), "{}", trial.log("server.log"));
    clients.into_iter().for_each(|client| assert!(client.wait(20)));
    assert!(trial.rows().iter().all(|row| row.cohort == 4));
    assert_eq!(trial.rows().last().unwrap().outcome, Outcome::Recovered);
    let log = trial.log("server.log");
    assert!(log.contains("a round waits for 4 clients: light-sec-agg has no cohort of fewer"), "{log}");
}
