use super::*;
use crate::deploy::message::Hex;
use crate::keys::KeyChoice;
use crate::learn::SolverConfig;
use crate::protocol::cogc::SecCoGcConfig;
use crate::protocol::groupwise::GroupwiseConfig;
use crate::protocol::light_sec_agg::LightSecAggConfig;
use crate::protocol::sec_agg::{SecAggConfig, SecAggPlusConfig};
use crate::protocol::uncoded;

fn ledger(folder: &tempfile::TempDir) -> Ledger {
    Ledger::open(&folder.path().join("ann.json")).unwrap()
}

fn about(run: u8) -> About {
    About { run: Hex([run; 32]), digest: Hex([run; 32]) }
}

fn secure(key_std: f64, arithmetic: Arithmetic) -> Config {
    let keys = KeyChoice::Pairwise;
    let protocol = SecCoGcConfig { key_std, arithmetic, keys, ..SecCoGcConfig::default() };
    Config { protocol: ProtocolConfig::SecCoGc(protocol), rounds: 10, ..Config::default() }
}

fn clipped(mut config: Config, clip: f64) -> Config {
    if let SolverConfig::Sgd(sgd) = &mut config.solver {
        sgd.clip_norm = Some(clip);
    }
    config
}

#[test]
fn a_run_is_refused_by_the_first_rule_that_it_breaks() {
    let policy = Policy::default();
    let line = |policy: &Policy, config: &Config| {
        let error = policy.run(config).unwrap_err().to_string();
        error.strip_prefix("the server asks for what the policy forbids: ").unwrap().to_owned()
    };
    policy.run(&secure(0.9, Arithmetic::Field)).unwrap();
    let real = secure(10.0, Arithmetic::F64);
    assert_eq!(
        line(&policy, &real),
        "no clipping, without which key_std hides nothing, and `least_key_ratio` is 1; take arithmetic = \"field\""
    );
    let any = Policy { least_key_ratio: 0.0, ..Policy::default() };
    any.run(&real).unwrap();
    // Ten clients, of whom one may have half of all examples: updates of norm 2 weigh 5.
    policy.run(&clipped(real.clone(), 2.0)).unwrap();
    assert_eq!(
        line(&policy, &clipped(secure(9.9, Arithmetic::F64), 2.0)),
        "key_std 9.9 beside weighted updates of norm 10, and `least_key_ratio` is 1; take arithmetic = \"field\""
    );
    let mut off = clipped(real.clone(), 2.0);
    if let ProtocolConfig::SecCoGc(config) = &mut off.protocol {
        config.grid = false;
    }
    assert!(line(&policy, &off).starts_with("grid = false, so that last bits tell more"));
    let nan = clipped(secure(f64::NAN, Arithmetic::F64), 2.0);
    assert!(line(&policy, &nan).starts_with("key_std NaN beside"));
    let open = ProtocolConfig::FedAvg(uncoded::FedAvg::default());
    let open = Config { protocol: open, ..real.clone() };
    assert_eq!(
        line(&policy, &open),
        "protocol fedavg, and `protocols` has sec-cogc, zero-sum, light-sec-agg, sec-agg, sec-agg-plus"
    );
    let strict = Policy { clip_norm: Some(0.5), most_rounds: 9, ..policy.clone() };
    assert_eq!(line(&strict, &real), "no clipping, and `clip_norm` is 0.5");
    // No norm is above what is no number: such a bound clips nothing.
    let field = secure(0.9, Arithmetic::Field);
    assert_eq!(line(&strict, &clipped(field.clone(), f64::NAN)), "clip_norm NaN, and `clip_norm` is 0.5");
    assert_eq!(line(&strict, &clipped(field, 0.6)), "clip_norm 0.6, and `clip_norm` is 0.5");
    let short = Policy { most_rounds: 9, ..any };
    assert_eq!(line(&short, &real), "10 rounds, and `most_rounds` is 9");
}

#[test]
fn colluders_are_withstood_by_the_scheme_and_by_the_vote() {
    let of = |protocol| Config { protocol, rounds: 10, ..Config::default() };
    let line = |colluders, least_cohort, config: &Config| {
        let policy = Policy { colluders, least_cohort, ..Policy::default() };
        let told = policy.run(config).map_err(|error| error.to_string());
        told.map_err(|line| line.rsplit(": ").next().unwrap().to_owned()).err()
    };
    let sec_agg = |threshold| of(ProtocolConfig::SecAgg(SecAggConfig { threshold, ..Default::default() }));
    assert_eq!(line(1, 3, &sec_agg(None)), None);
    assert_eq!(line(1, 3, &sec_agg(Some(2))), None);
    let few = "threshold withstands 1 clients that collude with the server, and `colluders` is 2";
    assert_eq!(line(2, 3, &sec_agg(None)), Some(few.into()), "two of three reveal a secret");
    let light = |colluders| {
        let config = LightSecAggConfig { colluders, ..LightSecAggConfig::default() };
        of(ProtocolConfig::LightSecAgg(config))
    };
    assert_eq!(line(1, 3, &light(1)), None);
    let none = "colluders withstands 0 clients that collude with the server, and `colluders` is 1";
    assert_eq!(line(1, 3, &light(0)), Some(none.into()));
    let vote = "a vote of 5 clients or more withstands 2 that collude, and `colluders` is 3";
    assert_eq!(line(3, 5, &light(3)), Some(vote.into()));
    assert_eq!(line(3, 8, &light(3)), None);
}

#[test]
fn the_servers_seed_decides_nothing() {
    let line = |policy: Policy, protocol| {
        let config = Config { protocol, rounds: 10, ..Config::default() };
        policy.run(&config).map_err(|error| error.to_string().rsplit(": ").next().unwrap().to_owned()).err()
    };
    let plus = |neighbours, threshold| {
        let config = SecAggPlusConfig { neighbours, threshold, ..Default::default() };
        ProtocolConfig::SecAggPlus(config)
    };
    let alone = || Policy { colluders: 0, ..Policy::default() };
    let trusting = |colluders| Policy { colluders, trusted_seed: true, ..Policy::default() };
    let chosen = "threshold 4 of 6 neighbours leaves it to the graph what is unmasked, and to the server's seed the graph; \
                  6 will do in every graph, or `trusted_seed`";
    assert_eq!(line(Policy::default(), plus(6, None)), Some(chosen.into()));
    let none = line(Policy { colluders: 2, least_cohort: 6, ..Policy::default() }, plus(4, Some(3)));
    assert!(none.unwrap().ends_with("; take more neighbours, or `trusted_seed`"));
    assert_eq!(line(trusting(1), plus(6, None)), None);
    let few = "threshold withstands 3 clients that collude with the server, and `colluders` is 4";
    assert_eq!(line(trusting(4), plus(6, None)), Some(few.into()));
    // 2t > k + ⌊k/2⌋ + c, and one more for odd k.
    let fits = |policy: Policy, neighbours| {
        (2..=neighbours).find(|t| line(policy.clone(), plus(neighbours, Some(*t))).is_none())
    };
    assert_eq!([6, 7, 8].map(|k| fits(alone(), k)), [Some(5), Some(6), Some(7)]);
    assert_eq!([6, 7, 8].map(|k| fits(Policy::default(), k)), [Some(6), Some(7), Some(7)]);
    let groupwise = || ProtocolConfig::Groupwise(GroupwiseConfig::default());
    let policy = |colluders| Policy { protocols: vec!["groupwise".into()], colluders, ..Policy::default() };
    let known = "groupwise withstands 0 clients that collude with the server, and `colluders` is 1";
    assert_eq!(line(policy(1), groupwise()), Some(known.into()));
    assert_eq!(line(policy(0), groupwise()), None);
}

#[test]
fn no_more_work_is_done_than_is_allowed() {
    let policy = Policy::default();
    let mut config = Config::default();
    let line = |config: &Config| {
        let error = policy.work(config, [1, 28, 28], 10, 1000).unwrap_err().to_string();
        error.rsplit(": ").next().unwrap().to_owned()
    };
    policy.work(&config, [1, 28, 28], 10, 1000).unwrap();
    let large =
        line(&Config { model: toml::from_str("kind = \"mlp\"\nhidden = 200000").unwrap(), ..config.clone() });
    assert_eq!(large, "159000010 parameters, and `most_parameters` is 100000000");
    if let SolverConfig::Sgd(sgd) = &mut config.solver {
        (sgd.epochs, sgd.steps) = (None, Some(100_001));
    }
    assert_eq!(line(&config), "100001 local steps, and `most_steps` is 100000");
    if let SolverConfig::Sgd(sgd) = &mut config.solver {
        (sgd.epochs, sgd.steps) = (Some(usize::MAX), None);
    }
    assert!(line(&config).starts_with("18446744073709551615 local steps"));
}

#[test]
fn a_round_is_refused_by_the_first_rule_that_it_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = ledger(&folder);
    let policy = Policy { names: Some(vec!["ann".into(), "bob".into(), "cleo".into()]), ..Policy::default() };
    let three = ["ann", "bob", "cleo"];
    let line = |policy: &Policy, names: &[&str], examples: &[u64], ledger: &Ledger| {
        let error = policy.round(names, examples, ledger).unwrap_err().to_string();
        error.strip_prefix("the server asks for what the policy forbids: ").unwrap().to_owned()
    };
    policy.round(&three, &[10, 5, 5], &ledger).unwrap();
    assert_eq!(line(&policy, &three[..2], &[1, 1], &ledger), "a cohort of 2, and `least_cohort` is 3");
    let stranger = line(&policy, &["ann", "bob", "dan"], &[1, 1, 1], &ledger);
    assert_eq!(stranger, "`dan` is in the cohort and not in `names`");
    let heavy = line(&policy, &three, &[1, 1_000_000_000_000_000, 1], &ledger);
    assert_eq!(heavy, "`bob` has 1.000 of all examples, and `largest_share` is 0.5");
    ledger.play(about(1), 1, &three, None).unwrap();
    let spent = Policy { most_releases: Some(1), ..policy };
    let line_spent = spent.spent(&ledger).unwrap_err().to_string();
    assert!(line_spent.ends_with("1 sums may hold its update by now, and `most_releases` is 1"));
    Policy::default().spent(&ledger).unwrap();
    let apart = Policy { least_difference: 2, ..Policy::default() };
    apart.round(&three, &[1, 1, 1], &ledger).unwrap();
    let near = line(&apart, &["ann", "bob", "cleo", "dan"], &[1; 4], &ledger);
    assert_eq!(
        near,
        "the cohort differs from an earlier one by 1 of its clients, and `least_difference` is 2"
    );
    apart.round(&["ann", "bob", "dan"], &[1; 3], &ledger).unwrap();
}

#[test]
fn epsilon_needs_clipping_and_counts_other_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = ledger(&folder);
    let mut config = secure(1.0, Arithmetic::F64);
    config.clients = 4;
    config.deploy.names = ["a", "b", "c", "d"].map(String::from).to_vec();
    let policy = Policy { epsilon: Some(1e4), ..Policy::default() };
    let refused = |policy: &Policy, config: &Config, run: u8, ledger: &Ledger| {
        policy.cost(config, about(run), 100, ledger).unwrap_err().to_string()
    };
    let line = refused(&policy, &config, 1, &ledger);
    assert!(line.contains("it may cost ε = inf"), "{line}");
    config.deploy.weights = Some([0.5, 2.0]);
    let mut config = clipped(config, 0.1);
    let cost = policy.cost(&config, about(1), 100, &ledger).unwrap().unwrap();
    assert!(cost > 0.0 && cost < 1e4, "{cost}");
    // What the server would rather have audited, and its δ, do not count.
    let ideal = ProtocolConfig::Ideal(uncoded::Ideal::default());
    config.compare =
        vec![crate::config::Contender { name: "ideal".into(), protocol: ideal, participation: None }];
    config.privacy.ldp_delta = 0.999;
    config.cohort.least = 4;
    assert_eq!(policy.cost(&config, about(1), 100, &ledger).unwrap(), Some(cost));
    if let ProtocolConfig::SecCoGc(secure) = &mut config.protocol {
        secure.grid = false;
        let line = refused(&policy, &config, 1, &ledger);
        assert!(line.contains("it may cost ε = inf"), "{line}");
    }
    if let ProtocolConfig::SecCoGc(secure) = &mut config.protocol {
        secure.grid = true;
    }
    ledger.play(about(1), 1, &["a", "b", "c", "d"], Some(cost)).unwrap();
    let tight = Policy { epsilon: Some(1.5 * cost), ..Policy::default() };
    assert_eq!(tight.cost(&config, about(1), 100, &ledger).unwrap(), Some(cost), "the same run again");
    let line = refused(&tight, &config, 2, &ledger);
    assert!(line.contains(&format!("after {cost:.3}, and")), "{line}");
    ledger.play(about(3), 1, &["a", "b", "c", "d"], None).unwrap();
    let line = refused(&tight, &config, 1, &ledger);
    assert!(line.contains("runs without a budget may have cost anything"), "{line}");
}

#[test]
fn a_file_is_read_or_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Policy::load(&path).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
    };
    assert_eq!(load("").unwrap(), Policy::default());
    let policy =
        load("protocols = [\"fedavg\"]\nleast_key_ratio = 0\nnames = [\"ann\"]\nepsilon = 2.0\n").unwrap();
    assert_eq!((policy.protocols.len(), policy.epsilon), (1, Some(2.0)));
    let refused = |text: &str| load(text).unwrap_err();
    assert!(refused("\nleast_cohorts = 2").starts_with("FILE: line 2: unknown field `least_cohorts`"));
    assert_eq!(refused("least_cohort = 1"), "FILE: least_cohort: 1 is too small; give at least 2");
    assert_eq!(refused("largest_share = 1.5"), "FILE: largest_share: 1.5 must be above 0 and at most 1");
    let unknown = refused("protocols = [\"sec\"]");
    assert!(unknown.starts_with("FILE: protocols[0]: there is no protocol `sec`; give some of ideal, "));
    assert_eq!(refused("epsilon = nan"), "FILE: epsilon: NaN must be a finite number greater than 0");
}
