//! Cohorts: scripted joins and leaves, sampling, exactness and key freshness throughout.

use std::path::Path;

use seccogc::cohort::Schemes;
use seccogc::config::Config;
use seccogc::learn::Device;
use seccogc::network::Perfect;
use seccogc::privacy::defect;
use seccogc::protocol::ProtocolConfig;
use seccogc::protocol::cogc::SecCoGcConfig;
use seccogc::record::{ClientRow, Outcome, Row};
use seccogc::seed::Seed;
use seccogc::train::Setting;

const M: usize = 6;
const ROUNDS: usize = 12;

/// Clients (from 0) that are down in a round (from 1), with all their links.
fn down(round: usize) -> Vec<usize> {
    match round {
        3..=5 => vec![1],
        6..=7 => vec![1, 4],
        8 => vec![4],
        _ => Vec::new(),
    }
}

/// Writes the script as traces: one line a round, 1 where messages arrive.
fn script(folder: &Path) {
    let (mut uploads, mut shares) = (String::new(), String::new());
    for round in 1..=ROUNDS {
        let down = down(round);
        let up = |k: usize| u8::from(!down.contains(&k)).to_string();
        uploads += &((0..M).map(up).collect::<Vec<_>>().join(",") + "\n");
        let both =
            |to: usize, from: usize| u8::from(![to, from].iter().any(|k| down.contains(k))).to_string();
        let row = (0..M).flat_map(|to| (0..M).map(move |from| (to, from)));
        shares += &(row.map(|(to, from)| both(to, from)).collect::<Vec<_>>().join(",") + "\n");
    }
    std::fs::write(folder.join("uploads.csv"), uploads).unwrap();
    std::fs::write(folder.join("shares.csv"), shares).unwrap();
}

fn config(folder: &Path, sections: &str) -> Config {
    script(folder);
    let path = folder.join("run.toml");
    let text = format!(
        "clients = {M}\nrounds = {ROUNDS}\n[model]\nkind = \"softmax\"\n[solver]\nkind = \"sgd\"\nsteps = 1\n\
         [network.client_client]\nkind = \"trace\"\npath = \"shares.csv\"\n\
         [network.client_server]\nkind = \"trace\"\npath = \"uploads.csv\"\n\
         [protocol]\nkind = \"sec-cogc\"\nstragglers = 1\nkey_std = 10.0\n{sections}"
    );
    std::fs::write(&path, text).unwrap();
    Config::load(&path, &[]).unwrap()
}

pub fn train(config: &Config) -> Vec<(Row, Vec<ClientRow>)> {
    let setting = Setting::build(config, "cpu".parse::<Device>().unwrap()).unwrap();
    let run = setting.run(&config.protocol).unwrap();
    let mut state = run.start();
    (0..config.rounds).map(|_| run.round(&mut state).unwrap()).collect()
}

#[test]
fn cohorts_follow_scripted_leaves_and_joins_and_stay_exact() {
    let folder = tempfile::tempdir().unwrap();
    let rows = train(&config(folder.path(), "[cohort]\ndrop_after = 2\n"));
    let sizes: Vec<usize> = rows.iter().map(|(row, _)| row.cohort).collect();
    // Client 2 misses 3 and 4, is out from 5 and back in 9, the round after the first in which it is heard;
    // client 5 misses 6 and 7, is out in 8 and 9 and back in 10.
    assert_eq!(sizes, [6, 6, 6, 6, 5, 5, 5, 4, 5, 6, 6, 6]);
    for (row, clients) in &rows {
        let round = row.round as usize;
        let members: Vec<usize> = clients.iter().map(|client| client.client - 1).collect();
        assert_eq!(members.len(), row.cohort);
        // Without client 2 (or 5) every row that needs it is incomplete: with s = 1 two rows are lost, and
        // the round with them.
        let complete = down(round).iter().all(|k| !members.contains(k));
        let want = if complete { Outcome::Recovered } else { Outcome::Outage };
        assert_eq!(row.outcome, want, "round {round}");
        if let Some(error) = row.recovery_error {
            // That of rounding updates to the grid.
            assert!(error < 1e-6, "round {round}: {error}");
        }
    }
    let fixed = train(&config(folder.path(), ""));
    let lost = |rows: &[(Row, Vec<ClientRow>)]| {
        rows.iter().filter(|(row, _)| row.outcome == Outcome::Outage).count()
    };
    assert_eq!((lost(&rows), lost(&fixed)), (4, 6), "the elastic cohort recovers what the fixed one loses");
    // A sign of life costs a header from each client, in a cohort or not.
    let upload = |rows: &[(Row, Vec<ClientRow>)]| rows[0].0.bytes_client_server;
    assert_eq!(upload(&rows) - upload(&fixed), (M * 26) as u64);
}

#[test]
fn every_cohort_of_every_round_has_keys_of_its_own() {
    let protocol = ProtocolConfig::SecCoGc(SecCoGcConfig { stragglers: 1.into(), ..Default::default() });
    let (schemes, _) =
        Schemes::new(&protocol, M, Seed::new(1), seccogc::algebra::grid::Public::default()).unwrap();
    let views: Vec<_> = (1..=6)
        .map(|round| schemes.of(3 + round as usize % 4).unwrap().formal(round, &Perfect, 1).unwrap())
        .collect();
    for (i, first) in views.iter().enumerate() {
        assert_eq!(defect::of_formal(first), []);
        for second in &views[i + 1..] {
            assert_eq!(defect::of_rounds(first, second), None);
        }
    }
}

#[test]
fn samples_recover_their_own_sum() {
    let folder = tempfile::tempdir().unwrap();
    let rows = train(&config(folder.path(), "[cohort]\nsample = 4\n"));
    let mut seen: Vec<usize> = Vec::new();
    for (row, clients) in &rows {
        assert_eq!((row.cohort, clients.len()), (4, 4));
        seen.extend(clients.iter().map(|client| client.client));
        let reachable = clients.iter().all(|client| !down(row.round as usize).contains(&(client.client - 1)));
        assert_eq!(row.outcome == Outcome::Recovered, reachable, "round {}", row.round);
        assert!(row.recovery_error.is_none_or(|error| error < 1e-6));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    let rows = train(&config(folder.path(), "[cohort]\ndrop_after = 1\nleast = 6\n"));
    let nobody: Vec<u64> = rows.iter().filter(|(row, _)| row.cohort == 0).map(|(row, _)| row.round).collect();
    assert_eq!(nobody, [4, 5, 6, 7, 8, 9]);
    assert!(rows.iter().filter(|(row, _)| row.cohort == 0).all(|(row, _)| row.outcome == Outcome::Outage));
}
