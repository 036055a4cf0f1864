//! Planning: hand-computed costs, the Pareto front, and `stragglers = "auto"`.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use seccogc::coding::CodeKind;
use seccogc::config::Config;
use seccogc::message::HEADER_BYTES;
use seccogc::plan::{Candidate, candidates, resolve};
use seccogc::protocol::{ProtocolConfig, Stragglers};
use seccogc::recover::coding;

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("plan.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn config(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    Config::load(&write(folder.path(), text), &[]).unwrap()
}

const LINKS: &str = "[network.client_client]\nkind = \"bernoulli\"\nerasure = 0.1\n\
    [network.client_server]\nkind = \"bernoulli\"\nerasure = 0.5\n";

fn lossy(clients: usize, protocol: &str) -> Config {
    config(&format!("clients = {clients}\n{LINKS}[protocol]\n{protocol}"))
}

/// The candidates that decode from complete sums.
fn standard(found: Vec<Candidate>) -> Vec<Candidate> {
    found.into_iter().filter(|candidate| candidate.decoder == "standard").collect()
}

#[test]
fn two_clients_cost_what_is_computed_by_hand() {
    let config = lossy(2, "kind = \"cogc\"\narithmetic = \"f64\"");
    let all = candidates(&config, 10, &[1, 3], 1).unwrap();
    assert!(all.len() == 8 && all.windows(2).all(|pair| pair[0].bytes <= pair[1].bytes));
    let found = standard(all);
    let message = (HEADER_BYTES + 80) as f64;
    let find = |s, attempts| {
        let same = |c: &&Candidate| (c.stragglers, c.attempts) == (s, attempts);
        found.iter().find(same).unwrap()
    };
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b, "{a} for {b}");
    // s = 0: both uploads must arrive, P = 1/4; two messages an attempt.
    near(find(0, 1).outage, 0.75);
    near(find(0, 1).bytes, 2.0 * message / 0.25);
    // s = 1: one complete sum suffices; each arrives with 0.9 · 0.5, P = 1 − 0.55². Two shares and 1.8
    // uploads an attempt.
    near(find(1, 1).outage, 0.3025);
    near(find(1, 1).bytes, 3.8 * message / 0.6975);
    near(find(1, 3).outage, 0.3025f64.powi(3));
    near(find(1, 3).bytes, find(1, 1).bytes);
    assert!(found.iter().all(|c| c.exact && c.seconds.is_none()) && found.len() == 4);
    // Without keys whoever receives a share knows the update; without shares only the server does.
    assert_eq!((find(0, 1).leakage_neighbour, find(1, 1).leakage_neighbour), (0.0, f64::INFINITY));
}

#[test]
fn the_front_is_what_nothing_beats() {
    let found = candidates(&lossy(6, "kind = \"sec-cogc\""), 10, &[1, 2], 1).unwrap();
    let costs = |c: &Candidate| [c.outage, c.bytes, c.amplification, c.leakage_neighbour, c.leakage_server];
    for candidate in &found {
        let own = costs(candidate);
        let beaten = found.iter().any(|other| {
            let other = costs(other);
            (0..5).all(|i| other[i] <= own[i]) && (0..5).any(|i| other[i] < own[i])
        });
        assert_eq!(candidate.pareto, !beaten, "{candidate:?}");
    }
    assert!(found.iter().any(|c| c.pareto) && found.iter().any(|c| !c.pareto));
    // s = 0 and s = 5 are one code each; of the others every family that exists: FR for 1 and 2, MDS for 1
    // and 3, random for all.
    let codes =
        found.iter().filter(|c| (c.attempts, c.decoder) == (1, "gc-plus")).map(|c| (c.code, c.stragglers));
    let mut codes: Vec<_> = codes.map(|(code, s)| (s, code.name())).collect();
    codes.sort_unstable();
    let of = |s: usize| codes.iter().filter(|(t, _)| *t == s).count();
    assert_eq!([0, 1, 2, 3, 4, 5].map(of), [1, 3, 2, 2, 1, 1], "{codes:?}");
}

/// Bytes and outage that must be measured agree with those that are computed for the same law: a client that
/// is down for one round at a time, independently, and no share lost otherwise, is a Bernoulli loss of its
/// upload.
#[test]
fn measured_costs_agree_with_computed_ones() {
    let computed = config(
        "clients = 4\n[network.client_server]\nkind = \"bernoulli\"\nerasure = 0.3\n\
         [protocol]\nkind = \"cogc\"\ncode = \"cyclic-random\"",
    );
    // Share 0.3 and mean length 1/0.7: down and up are independent from round to round.
    let measured = config(
        "clients = 4\nrounds = 5\n[network.client_server]\nkind = \"client-outage\"\ndown_share = 0.3\n\
         duration = 1.4285714285714286\n[protocol]\nkind = \"cogc\"\ncode = \"cyclic-random\"",
    );
    let rounds = 20_000;
    let (computed, measured) =
        (candidates(&computed, 10, &[1], rounds).unwrap(), candidates(&measured, 10, &[1], rounds).unwrap());
    let [computed, all] = [computed, measured];
    for law in &standard(computed) {
        let same = |decoder: &'static str| {
            move |c: &&Candidate| (c.stragglers, c.decoder) == (law.stragglers, decoder)
        };
        let found = all.iter().find(same("standard")).unwrap();
        // Over the same links: it decodes whenever the standard decoder does.
        assert!(all.iter().find(same("gc-plus")).unwrap().outage <= found.outage);
        assert!(law.exact && !found.exact);
        let p = 1.0 - law.outage;
        let bound = 4.5 * (p * (1.0 - p) / rounds as f64).sqrt();
        assert!((found.outage - law.outage).abs() < bound, "{found:?} {law:?}");
        assert!((found.bytes / law.bytes - 1.0).abs() < 1.5 * bound / p, "{found:?} {law:?}");
    }
}

#[test]
fn auto_takes_the_cheapest_candidate_and_leaves_the_rest_alone() {
    let auto = lossy(6, "kind = \"sec-cogc\"\nstragglers = \"auto\"\nkey_std = 3.0");
    let cheapest = standard(candidates(&auto, 10, &[1], 1).unwrap()).remove(0);
    let resolved = resolve(&auto.protocol, &auto, 10).unwrap();
    let (code, stragglers, _) = coding(&resolved).unwrap();
    assert_eq!((code, stragglers), (cheapest.code, Stragglers::Count(cheapest.stragglers)));
    assert!(cheapest.stragglers > 0);
    let ProtocolConfig::SecCoGc(kept) = &resolved else { panic!("{resolved:?}") };
    assert_eq!(kept.key_std, 3.0);
    assert_eq!(resolve(&resolved, &auto, 10).unwrap(), resolved);

    // A named family is kept; without losses the code without shares is the cheapest.
    let random = lossy(6, "kind = \"cogc\"\nstragglers = \"auto\"\ncode = \"cyclic-random\"");
    assert_eq!(coding(&resolve(&random.protocol, &random, 10).unwrap()).unwrap().0, CodeKind::CyclicRandom);
    let perfect = config("clients = 6\n[protocol]\nkind = \"cogc\"\nstragglers = \"auto\"");
    let (_, stragglers, _) = coding(&resolve(&perfect.protocol, &perfect, 10).unwrap()).unwrap();
    assert_eq!(stragglers, Stragglers::Count(0));
}

fn fails(args: &[&str]) -> String {
    let output = Command::cargo_bin("seccogc").unwrap().args(args).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn wrong_requests_end_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        write(folder.path(), &format!("clients = 4\n{LINKS}[protocol]\nkind = \"cogc\"\nstragglers = 1\n"));
    let path = path.to_str().unwrap();
    let set = |set: &str| fails(&["plan", path, "--parameters", "10", "--set", set]);
    let word = set("protocol.stragglers=many");
    assert!(word.contains("expected a whole number from 0 on, \"default\" or \"auto\""), "{word}");
    let negative = set("protocol.stragglers=-1");
    assert!(negative.contains("expected a whole number from 0 on"), "{negative}");
    assert!(set("protocol.kind=ideal").contains("`ideal` has no gradient code"));
    let dead = lossy(4, "kind = \"cogc\"\nstragglers = \"auto\"");
    let dead = Config {
        network: config("[network.client_server]\nkind = \"bernoulli\"\nerasure = 1\n").network,
        ..dead
    };
    let error = resolve(&dead.protocol, &dead, 10).unwrap_err().to_string();
    assert!(error.starts_with("protocol.stragglers: \"auto\" finds no code"), "{error}");
}

/// Whose examples are how many is not looked at; the table says so, and the help says who does.
#[test]
fn clients_count_as_equally_large() {
    let folder = tempfile::tempdir().unwrap();
    let table = |partition: &str| {
        let partition = format!("[partition]\nkind = \"{partition}\"\n");
        let protocol = "[protocol]\nkind = \"sec-cogc\"\ncode = \"cyclic-mds\"\n";
        let path = write(folder.path(), &format!("clients = 4\n{LINKS}{partition}{protocol}"));
        let args = ["plan", path.to_str().unwrap(), "--parameters", "10"];
        let output = Command::cargo_bin("seccogc").unwrap().args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let equal = table("iid");
    assert!(equal.contains("leakage in nats per coordinate among clients of equal size, "), "{equal}");
    assert_eq!(table("dirichlet"), equal);
    let help = Command::cargo_bin("seccogc").unwrap().args(["plan", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.ends_with(
        "Leakage is that among clients of equal size, whatever the partition;\n\
         `seccogc audit` takes the sizes that it gives them.\n"
    ));
}

/// Training with "auto" leaves the choice in the run's configuration.
#[test]
fn a_run_records_what_auto_chose() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "clients = 4\nrounds = 1\n[model]\nkind = \"softmax\"\n[solver]\nkind = \"sgd\"\nsteps = 1\n\
         {LINKS}[protocol]\nkind = \"cogc\"\nstragglers = \"auto\"\n"
    );
    let path = write(folder.path(), &text);
    let out = folder.path().join("run");
    Command::cargo_bin("seccogc")
        .unwrap()
        .args(["train", path.to_str().unwrap(), "--quiet", "--out", out.to_str().unwrap()])
        .assert()
        .success();
    let recorded = Config::load(&out.join("config.toml"), &[]).unwrap();
    let wanted = Config::load(&path, &[]).unwrap();
    let (code, stragglers, _) = coding(&recorded.protocol).unwrap();
    assert!(matches!(stragglers, Stragglers::Count(s) if s > 0), "{stragglers:?}");
    assert_eq!(recorded.protocol, resolve(&wanted.protocol, &wanted, 7850).unwrap());
    assert_ne!(code, CodeKind::Auto);
}

#[test]
fn a_bound_on_the_outage_costs_bytes() {
    let text = "kind = \"cogc\"\nstragglers = \"auto\"";
    let bounded = |at_most: f64| {
        let config =
            config(&format!("clients = 6\n{LINKS}[outage]\nat_most = {at_most}\n[protocol]\n{text}"));
        resolve(&config.protocol, &config, 10)
    };
    let all = standard(candidates(&lossy(6, text), 10, &[1], 1).unwrap());
    let free = resolve(&lossy(6, text).protocol, &lossy(6, text), 10).unwrap();
    let (_, Stragglers::Count(s), _) = coding(&free).unwrap() else { panic!("not resolved") };
    let chosen = all.iter().find(|one| one.stragglers == s).unwrap();
    // A little less than the outage of the cheapest, and of all that keep it the cheapest is taken.
    let bound = all.iter().map(|one| one.outage).filter(|outage| *outage < chosen.outage).fold(0.0, f64::max);
    let kept = bounded(bound).unwrap();
    let (code, Stragglers::Count(s), _) = coding(&kept).unwrap() else { panic!("not resolved") };
    let cheapest =
        all.iter().filter(|one| one.outage <= bound).min_by(|a, b| a.bytes.total_cmp(&b.bytes)).unwrap();
    assert_eq!((code, s), (cheapest.code, cheapest.stragglers));
    assert!(cheapest.bytes > chosen.bytes && cheapest.outage < chosen.outage);
    let error = bounded(1e-6).unwrap_err().to_string();
    assert!(error.contains("outage.at_most") && error.contains("the least is"), "{error}");
}

#[test]
fn plan_shows_what_keeps_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &format!("clients = 6\n{LINKS}[protocol]\nkind = \"cogc\""));
    let plan = |bound: &str| {
        let mut command = Command::cargo_bin("seccogc").unwrap();
        command.args(["plan", path.to_str().unwrap(), "--csv", "--quiet", "--parameters", "10"]);
        command.args(["--rounds", "200", "--max-outage", bound]).output().unwrap()
    };
    let lines = |bound: &str| String::from_utf8(plan(bound).stdout).unwrap().lines().count();
    assert!(lines("0.9") > lines("0.5") && lines("0.5") > 1);
    for (bound, rule) in [("1e-9", "no code has an outage of at most"), ("1.5", "--max-outage 1.5")] {
        let refused = plan(bound);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(rule));
    }
}
