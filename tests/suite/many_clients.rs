//! Many clients: what cannot be computed is refused in one line before memory is taken, and what can be is
//! done in seconds.

use std::path::PathBuf;
use std::process::Output;

use assert_cmd::Command;
use seccogc::audit::{Adversaries, Entry};
use seccogc::audits::{Losses, Subject};
use seccogc::coding::{CodeKind, GradientCode};
use seccogc::config::Config;
use seccogc::parallel::NEVER;
use seccogc::plan::{Candidate, candidates, resolve};
use seccogc::protocol::ProtocolConfig;
use seccogc::recover::{RecoveryRow, SOLVED_CLIENTS, coding, recover};
use seccogc::seed::Seed;

const LINKS: &str = "[network.client_client]\nkind = \"bernoulli\"\nerasure = 0.01\n\
    [network.client_server]\nkind = \"bernoulli\"\nerasure = 0.05\n";

fn text(clients: usize, protocol: &str) -> String {
    format!(
        "clients = {clients}\nrounds = 3\n[partition]\nkind = \"iid\"\n[privacy]\nmeasure = false\n{LINKS}[protocol]\n{protocol}\n"
    )
}

fn written(clients: usize, protocol: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.toml");
    std::fs::write(&path, text(clients, protocol)).unwrap();
    (folder, path)
}

fn config(clients: usize, protocol: &str) -> Config {
    let (_folder, path) = written(clients, protocol);
    Config::load(&path, &[]).unwrap()
}

fn run(verb: &str, clients: usize, protocol: &str, more: &[&str]) -> Output {
    let (folder, path) = written(clients, protocol);
    let mut command = Command::cargo_bin("seccogc").unwrap();
    command.current_dir(folder.path()).arg(verb).arg(path).args(more);
    command.output().unwrap()
}

/// One line, exit code 2.
fn refused(verb: &str, clients: usize, protocol: &str, more: &[&str]) -> String {
    let output = run(verb, clients, protocol, more);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
    text.trim_end().to_owned()
}

const CODED: &str = "kind = \"sec-cogc\"";

#[test]
fn an_audit_says_how_many_clients_it_takes() {
    for clients in [201, 65_535] {
        assert_eq!(
            refused("audit", clients, CODED, &[]),
            format!(
                "error: clients: an audit takes apart what every one of {clients} clients sees of all others, and at most 200 are \
                 computed with; audit the same configuration with fewer (--set clients=200), or cohorts of that size \
                 (cohort.sample)"
            )
        );
    }
}

#[test]
fn plan_and_recover_say_how_many_clients_they_take() {
    for verb in ["plan", "recover"] {
        assert_eq!(
            refused(verb, 65_535, CODED, &["--parameters", "10"]),
            "error: clients: codes are compared among at most 2048 clients, and these are 65535; give fewer, as many as a cohort has"
        );
    }
    let stacked = refused("recover", 200, "kind = \"cogc\"\ndecoder = \"gc-plus\"", &["--parameters", "10"]);
    assert!(
        stacked.starts_with(
            "error: protocol.decoder: gc-plus solves a system of 200 columns in every round, and at most 128"
        ),
        "{stacked}"
    );
}

/// Training and everything else builds schemes through the same door.
#[test]
fn schemes_are_bounded_before_they_are_built() {
    let built = |protocol: &str| {
        let protocol = config(65_535, protocol).protocol;
        protocol.build(65_535, Seed::new(1)).map(|_| ()).map_err(|error| error.to_string())
    };
    for (protocol, want) in [
        (
            CODED,
            "code: a cyclic code of 65535 clients is a dense matrix of 32.0 GiB, and at most 2048 clients",
        ),
        (
            "kind = \"cogc\"\ncode = \"cyclic-random\"",
            "code: a cyclic-random code of 65535 clients is a dense matrix",
        ),
        ("kind = \"sec-cogc\"\narithmetic = \"field\"", "code: a cyclic code of 65535 clients"),
        (
            "kind = \"sec-agg\"",
            "kind: every client of sec-agg holds shares of every other, 4294770690 among 65535,",
        ),
        (
            "kind = \"zhao-sun\"",
            "kind: every client of zhao-sun and light-sec-agg holds shares of every other",
        ),
        (
            "kind = \"light-sec-agg\"",
            "kind: every client of zhao-sun and light-sec-agg holds shares of every other",
        ),
        ("kind = \"secure-gc\"", "kind: every client of secure-gc holds shares of every other"),
    ] {
        let refused = built(protocol).unwrap_err();
        assert!(refused.starts_with(want) && refused.contains("(cohort.sample)"), "{protocol}: {refused}");
    }
    // What needs no dense matrix and no pairs is built among as many as there may be.
    built("kind = \"cogc\"\ncode = \"fractional-repetition\"\nstragglers = 4").unwrap();
}

/// With a rotation that maps all clients on each other everybody's numbers are the same.
#[test]
fn clients_that_are_alike_are_audited_once() {
    let config = config(50, "kind = \"sec-cogc\"\nkey_std = 0.1\ncode = \"cyclic-mds\"\nstragglers = 7");
    let subject = Subject::new(&config, 100).unwrap();
    assert_eq!(subject.cases()[0].weights.range(), [1.0, 1.0]);
    let audits = subject.audits(&Adversaries::default(), &Losses::Worst, &mut |_, _, _| Ok(())).unwrap();
    let [audit] = &audits[..] else { panic!("one audit") };
    assert!(audit.findings.is_empty());
    for layer in audit.entries.chunk_by(|a, b| a.layer == b.layer) {
        assert_eq!(layer.len(), 50, "{}", layer[0].layer);
        let range = |of: fn(&Entry) -> f64| {
            let values = layer.iter().map(of);
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max))
        };
        let (least, most) = range(|entry| entry.lmip_nats);
        assert!(most - least <= 1e-9 * most, "{} {least} {most}", layer[0].layer);
        assert!(layer.iter().all(|entry| entry.symbols == 0));
    }
}

/// 4950 draws of pairs among 100 clients, of whom two share a row each; σ = 0.1, updates of deviation 1.
#[test]
fn pairwise_keys_of_many_clients_are_audited_as_fair_ones() {
    let audit = |keys: &str| {
        let coded = "kind = \"sec-cogc\"\nkey_std = 0.1\ncode = \"fractional-repetition\"\nstragglers = 1";
        let config = config(100, &format!("{coded}\nkeys = \"{keys}\""));
        let subject = Subject::new(&config, 100).unwrap();
        let nobody = Adversaries { all: 0, coalition: None };
        let audits = subject.audits(&nobody, &Losses::Worst, &mut |_, _, _| Ok(())).unwrap();
        let [audit] = &audits[..] else { panic!("one audit") };
        assert!(audit.findings.is_empty(), "{:?}", audit.findings);
        audit.entries.clone()
    };
    let (pairwise, fair) = (audit("pairwise"), audit("fair"));
    assert_eq!(pairwise.len(), 400);
    // A share is x_k + u_k; an upload x_1 + x_2 + u_1 + u_2, where Var(u_1 + u_2) = 2σ² − 2σ²/99. A client
    // takes off the draw that it shares with the one whose share it has: σ² − σ²/99 are left.
    let noise: f64 = 0.01 * 98.0 / 99.0;
    let by_hand = |layer: &str| match layer {
        "link" => 0.5 * (1.0f64 / 0.01).ln_1p(),
        "upload" => 0.5 * ((2.0 + 2.0 * noise) / (1.0 + 2.0 * noise)).ln(),
        "neighbour" => 0.5 * noise.recip().ln_1p(),
        _ => f64::NAN,
    };
    for (one, other) in pairwise.iter().zip(&fair) {
        assert_eq!((&one.layer, one.client, one.symbols), (&other.layer, other.client, 0));
        let close = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-9 * b.abs();
        let want = by_hand(&one.layer);
        assert!(want.is_nan() || close(one.lmip_nats, want), "{one:?}: {want}");
        if one.layer != "neighbour" {
            // Nobody there knows a draw: the law is that of fair keys.
            assert!(close(one.lmip_nats, other.lmip_nats), "{one:?} {other:?}");
            assert!(close(one.epsilon_beyond_sum, other.epsilon_beyond_sum), "{one:?} {other:?}");
            let bits = |entry: &Entry| entry.lmip_bits_floating.unwrap();
            assert!(close(bits(one), bits(other)), "{one:?} {other:?}");
        }
    }
}

#[test]
fn plan_among_many_clients_tabulates_outlines() {
    let config = config(100, "kind = \"sec-cogc\"\nkey_std = 0.1");
    let found = candidates(&config, 10, &[1], 1000).unwrap();
    assert!(found.windows(2).all(|two| two[0].bytes <= two[1].bytes));
    let judged: Vec<&Candidate> = found.iter().filter(|one| !one.leakage_server.is_nan()).collect();
    assert_eq!(judged.len(), 8);
    assert!(judged.iter().all(|one| one.amplification >= 1.0 && one.leakage_server > 0.0));
    assert!(
        found.iter().any(|one| one.pareto)
            && found.iter().all(|one| !one.pareto || !one.leakage_server.is_nan())
    );
    // Groups of s + 1 who all must fail: Π (1 − (1 − π)^{s+1}), π = 0.95 · 0.99^s.
    let four =
        found.iter().find(|one| (one.code, one.stragglers) == (CodeKind::FractionalRepetition, 4)).unwrap();
    let law = 1.0 - (1.0 - (1.0 - 0.95 * 0.99f64.powi(4)).powi(5)).powi(20);
    assert!((four.outage - law).abs() < 1e-12 && four.exact, "{four:?}");
    let auto = Config {
        protocol: self::config(100, "kind = \"sec-cogc\"\nstragglers = \"auto\"").protocol,
        ..config.clone()
    };
    let resolved: ProtocolConfig = resolve(&auto.protocol, &auto, 10).unwrap();
    let (code, stragglers, _) = coding(&resolved).unwrap();
    assert_eq!((code, stragglers), (found[0].code, found[0].stragglers.into()));
}

#[test]
fn recovery_among_many_clients_is_measured_and_computed() {
    let config = config(100, "kind = \"cogc\"");
    let mut places = Vec::new();
    let mut hear = |place, total, row: &RecoveryRow| {
        places.push((place, total, row.stragglers));
        Ok(())
    };
    let rows = recover(&config, 10, Some(&[0, 3, 4, 7]), None, &NEVER, &mut hear).unwrap();
    assert_eq!(places, [(1, 4, 0), (2, 4, 3), (3, 4, 4), (4, 4, 7)]);
    let codes: Vec<&str> = rows.iter().map(|row| row.code.as_str()).collect();
    assert_eq!(
        codes,
        ["fractional-repetition", "fractional-repetition", "fractional-repetition", "cyclic-mds"]
    );
    for row in rows {
        let law = row.closed_form.unwrap();
        let bound = 4.5 * (law * (1.0 - law) / row.rounds as f64).sqrt() + 1e-12;
        assert!((row.probability - law).abs() <= bound, "{row:?}");
        assert!(row.rounds == 100_000 || row.rounds < 100_000 && row.rounds > 20_000, "{row:?}");
    }
    let table = run(
        "recover",
        100,
        "kind = \"cogc\"",
        &["--parameters", "10", "--stragglers", "7", "--rounds", "500"],
    );
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("cyclic-mds counts as decoding from M − s sums or more"), "{table}");
}

/// Up to 32 clients codes are built as ever, and the sizes of messages are those of the protocol.
#[test]
fn few_clients_are_computed_as_ever() {
    let config = config(SOLVED_CLIENTS, "kind = \"cogc\"\ncode = \"cyclic-mds\"");
    let rows = recover(&config, 10, Some(&[1]), Some(200), &NEVER, &mut |_, _, _| Ok(())).unwrap();
    assert_eq!(rows[0].closed_form, None, "smaller sets that decode have no closed form");
    let code = GradientCode::build(CodeKind::CyclicMds, SOLVED_CLIENTS, 1, Seed::new(1)).unwrap();
    let even: Vec<usize> = (0..SOLVED_CLIENTS).step_by(2).collect();
    assert!(code.decode(&even).is_some());
}
