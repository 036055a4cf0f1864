//! `zero-sum` with noise that does not cancel: its variances over every pattern of losses, and what the audit
//! says of it against closed forms.

use std::collections::BTreeSet;
use std::sync::Arc;

use seccogc::algebra::grid::Public;
use seccogc::algebra::{LinearForm, Unknown};
use seccogc::audit::erasures::Lost;
use seccogc::audit::{Adversaries, Assumptions, Audit, Entry, Erasures, audit};
use seccogc::config::Config;
use seccogc::message::{Decoded, PartyId};
use seccogc::network::Perfect;
use seccogc::privacy::ldp;
use seccogc::protocol::{Aggregator, ProtocolConfig, Update};
use seccogc::seed::Seed;

const DELTA: f64 = 1e-5;

fn public(coordinates: usize) -> Public {
    Public { clip: Some(1.0), coordinates: Some(coordinates), ..Public::default() }
}

fn scheme(text: &str, clients: usize) -> Box<dyn Aggregator> {
    let config: ProtocolConfig = toml::from_str(&format!("kind = 'zero-sum'\n{text}")).unwrap();
    config.build_for(clients, Seed::new(1), &public(1000)).unwrap()
}

/// One draw of N(0, σ_cor²) a pair.
fn pairs(clients: usize, correlated: f64, residual: f64) -> Box<dyn Aggregator> {
    let std = correlated * (clients as f64 - 1.0).sqrt();
    scheme(&format!("keys = 'pairwise'\nkey_std = {std}\nresidual_std = {residual}"), clients)
}

fn variance(form: &LinearForm) -> f64 {
    let key = |(unknown, c): (Unknown, f64)| if matches!(unknown, Unknown::Key(..)) { c * c } else { 0.0 };
    form.terms().map(key).sum()
}

/// Uploads of exactly these clients arrive.
fn only(heard: u32, clients: u16) -> Lost {
    let lost = (0..clients).filter(|k| heard >> k & 1 == 0);
    Lost(lost.map(|k| (0, 0, PartyId::Client(k), PartyId::Server)).collect())
}

fn assumptions(clients: usize, rounds: u64) -> Assumptions {
    Assumptions {
        input_std: 1.0,
        clip: Some(1.0),
        weights: vec![1.0; clients].into(),
        delta: DELTA,
        rounds,
        coordinates: Some(1000),
    }
}

fn audited(
    scheme: &dyn Aggregator,
    erasures: Erasures,
    clients: usize,
    colluders: usize,
    rounds: u64,
) -> Audit {
    let adversaries = Adversaries { all: colluders, coalition: None };
    audit("a", scheme, erasures, 1, &adversaries, &assumptions(clients, rounds)).unwrap()
}

fn worst(audit: &Audit, layer: &str, of: impl Fn(&Entry) -> f64) -> f64 {
    audit.entries.iter().filter(|entry| entry.layer == layer).map(of).fold(0.0, f64::max)
}

fn near(got: f64, want: f64) {
    assert!((got / want - 1.0).abs() < 1e-6, "{got} for {want}");
}

#[test]
fn a_sum_over_some_keeps_their_own_noise_and_what_does_not_cancel() {
    for clients in [3u16, 4] {
        for text in ["keys = 'fair'\nkey_std = 3.0", "keys = 'pairwise'\nkey_std = 3.0"] {
            let scheme = scheme(&format!("{text}\nresidual_std = 0.5"), clients.into());
            for heard in 1..1u32 << clients {
                let views = scheme.views(1, &only(heard, clients), 1).unwrap();
                let Decoded::Sum { sum, included, .. } = &views.decoded else { panic!("no sum") };
                let (n, m) = (included.len() as f64, f64::from(clients));
                near(variance(&sum[0]), n * 0.25 + n * (m - n) * 9.0 / (m - 1.0));
            }
        }
    }
    // Of four clients with σ² = 0.25 and σ_cor² = 4, the mean over one to four of them.
    let scheme = pairs(4, 2.0, 0.5);
    for (heard, want) in [(0b1, 12.25), (0b11, 4.125), (0b111, 1.4167), (0b1111, 0.0625)] {
        let Decoded::Sum { sum, included, .. } = scheme.views(1, &only(heard, 4), 1).unwrap().decoded else {
            panic!("no sum")
        };
        assert!((variance(&sum[0]) / (included.len() as f64).powi(2) - want).abs() < 5e-5);
    }
    // One message alone.
    let views = scheme.views(1, &Perfect, 1).unwrap();
    near(variance(&views.messages[0].forms[0]), 0.25 + 3.0 * 4.0);
}

/// \[R⁻¹\]_kk = 1/(Hσ²) + (1 − 1/H)/(σ² + Hσ_cor²) among the H clients who do not collude.
#[test]
fn colluders_know_what_they_share() {
    let scheme = pairs(4, 2.0, 0.5);
    let audit = audited(&*scheme, Erasures::Worst(Seed::new(1)), 4, 3, 1);
    let layers = ["server", "server + 1 client", "server + 2 clients", "server + 3 clients"];
    for (layer, mu) in layers.into_iter().zip([2.0456, 2.3561, 2.8710, 4.0]) {
        let epsilon = worst(&audit, layer, |entry| entry.epsilon_view);
        assert!((epsilon - ldp::epsilon(mu, DELTA)).abs() < 1e-3, "{layer}: {epsilon}");
        // What losses leave is less, and there is no other defect than noise in the sum.
        let lossless = audited(&*scheme, Erasures::These(&Lost::default()), 4, 3, 1);
        near(epsilon, worst(&lossless, layer, |entry| entry.epsilon_view));
    }
    let defects: BTreeSet<String> = audit.findings.iter().map(|found| found.defect.to_string()).collect();
    assert_eq!(defects.into_iter().collect::<Vec<_>>(), ["keys that are not zero-sum"]);
    // Fair keys are dealt as sums: colluders know less than of pairs.
    let dealt = scheme_of_fair();
    let audit = audited(&*dealt, Erasures::These(&Lost::default()), 4, 2, 1);
    let server = worst(&audit, "server", |entry| entry.epsilon_view);
    assert!((server - ldp::epsilon(2.0456, DELTA)).abs() < 1e-3, "{server}");
    assert!(worst(&audit, "server + 2 clients", |entry| entry.epsilon_view) < ldp::epsilon(2.8710, DELTA));
}

fn scheme_of_fair() -> Box<dyn Aggregator> {
    scheme(&format!("keys = 'fair'\nkey_std = {}\nresidual_std = 0.5", 12f64.sqrt()), 4)
}

#[test]
fn a_hundred_rounds_cost_less_than_the_bound_of_the_source() {
    let scheme = pairs(10, 3.0, 1.0);
    let audit = audited(&*scheme, Erasures::These(&Lost::default()), 10, 3, 100);
    for (layer, seen) in [("server", 0.109_890_1), ("server + 3 clients", 0.156_25)] {
        let mu = 2.0 * f64::sqrt(seen * 100.0);
        let epsilon = worst(&audit, layer, |entry| entry.epsilon_view_total);
        assert!((epsilon / ldp::epsilon(mu, DELTA) - 1.0).abs() < 1e-6, "{layer}: {epsilon}");
    }
    // Rényi differential privacy of a round: 2 [R⁻¹] a.
    let by_renyi = 100.0 * 0.219_780_2 + 2.0 * (100.0 * 0.219_780_2 * DELTA.recip().ln()).sqrt();
    assert!((by_renyi - 53.7919).abs() < 1e-3);
    assert!(worst(&audit, "server", |entry| entry.epsilon_view_total) < by_renyi);
    // The bits cost next to nothing.
    let (ideal, floating) = (
        worst(&audit, "server", |entry| entry.epsilon_view_total),
        worst(&audit, "server", |entry| entry.epsilon_floating.unwrap()),
    );
    assert!(ideal <= floating && floating < 1.001 * ideal, "{floating} for {ideal}");
}

#[test]
fn what_is_sent_again_is_the_same() {
    let scheme = scheme("keys = 'pairwise'\nresidual_std = 0.5\ntransmissions = 3", 3);
    let sent = |attempts: u32| {
        let from = |k| (PartyId::Client(k), PartyId::Server);
        let first = (0..attempts).flat_map(|a| (0..3).map(move |k| (a, from(k))));
        let lost = first.flat_map(|(a, (from, to))| (0..2).map(move |transfer| (a, transfer, from, to)));
        scheme.views(1, &Lost(lost.collect()), attempts).unwrap().messages
    };
    for attempts in [1, 2] {
        let messages = sent(attempts);
        let uploads: Vec<_> = messages.iter().filter(|one| one.link.to == PartyId::Server).collect();
        assert_eq!(uploads.len(), 9);
        for one in &uploads {
            let first = uploads.iter().find(|first| first.link.from == one.link.from).unwrap();
            assert_eq!(one.forms, first.forms);
        }
    }
}

fn best(more: &str) -> String {
    format!("keys = 'pairwise'\nsplit = 'best'\n{more}\nassumed.client_client = 0.0")
}

/// The mean and the noise of the estimate over all patterns of four uploads.
#[test]
fn the_best_split_is_unbiased_and_leaves_the_least_noise() {
    for (losses, noise, independent) in
        [("0.2", 3.171_165, 5.0), ("[0.1, 0.2, 0.5, 0.8]", 8.117_961, 9.361_111)]
    {
        let scheme = scheme(&best(&format!("key_std = 3.0\nassumed.client_server = {losses}")), 4);
        let arrives = match losses {
            "0.2" => [0.8; 4],
            _ => [0.9, 0.8, 0.5, 0.2],
        };
        let (mut mean, mut kept) = ([0.0; 4], 0.0);
        for heard in 0..1u32 << 4 {
            let p: f64 =
                (0..4).map(|k| if heard >> k & 1 == 1 { arrives[k] } else { 1.0 - arrives[k] }).product();
            let views = scheme.views(1, &only(heard, 4), 1).unwrap();
            let Decoded::Estimate { sum, included } = &views.decoded else { panic!("no estimate") };
            assert_eq!(included.len(), heard.count_ones() as usize);
            kept += p * variance(&sum[0]);
            (0..4).for_each(|k| mean[k] += p * sum[0].coefficient(Unknown::Input(k as u16, 0)));
        }
        assert!(mean.iter().all(|mean| (mean - 1.0).abs() < 1e-12), "{mean:?}");
        assert!((kept / 9.0 - noise).abs() < 1e-6, "{kept} for {noise}");
        assert!(noise < independent);
        // As private as noise of σ = 3.
        let audit = audited(&*scheme, Erasures::Worst(Seed::new(1)), 4, 0, 1);
        near(worst(&audit, "server", |entry| entry.epsilon_view), ldp::epsilon(2.0 / 3.0, DELTA));
    }
    // Numbers have the law of the forms.
    let losing = scheme(&best("key_std = 3.0\nassumed.client_server = 0.2"), 4);
    let links = only(0b0111, 4);
    let updates = vec![Update { weight: 1.0, delta: Arc::new(vec![0.0; 4000]) }; 4];
    let power = |decoded: Decoded<f64>| {
        let Decoded::Estimate { sum, .. } = decoded else { panic!("no estimate") };
        sum.iter().map(|x| x * x).sum::<f64>() / sum.len() as f64
    };
    let Decoded::Estimate { sum, .. } = losing.views(1, &links, 1).unwrap().decoded else { panic!() };
    let got = power(losing.aggregate(1, &updates, &links, 1).unwrap().decoded);
    // χ² of 4000 degrees of freedom, α = 10⁻⁶: within 11 per cent.
    assert!((got / variance(&sum[0]) - 1.0).abs() < 0.11, "{got}");
}

#[test]
fn a_budget_is_what_the_audit_finds() {
    for (epsilon, rounds) in [(0.5, 1), (3.0, 50), (20.0, 7)] {
        let text = best(&format!(
            "budget = {{ epsilon = {epsilon}, rounds = {rounds} }}\nassumed.client_server = [0.1, 0.3, 0.9]"
        ));
        let scheme = scheme(&text, 3);
        let audit = audited(&*scheme, Erasures::Worst(Seed::new(1)), 3, 0, rounds);
        let found = worst(&audit, "server", |entry| entry.epsilon_view_total);
        assert!(found <= epsilon * (1.0 + 1e-9) && found > 0.999_999 * epsilon, "{found} for {epsilon}");
    }
}

#[test]
fn a_run_takes_the_losses_from_its_network() {
    let text = "clients = 4\nrounds = 2\ndata = { name = 'mnist-subset' }\nmodel = { kind = 'softmax' }\n\
                network.client_server = { erasure = [0.1, 0.2, 0.5, 0.8] }\nsolver.clip_norm = 1.0\n[protocol]\n\
                kind = 'zero-sum'\nkeys = 'pairwise'\nsplit = 'best'\nbudget = { epsilon = 5.0, rounds = 2 }";
    let config: Config = toml::from_str(text).unwrap();
    let setting = seccogc::train::Experiment::new(config).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    for row in run.rounds() {
        assert_eq!(row.unwrap().outcome, seccogc::record::Outcome::Estimate);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |text: &str, key: &str, rule: &str| {
        let config: ProtocolConfig = toml::from_str(&format!("kind = 'zero-sum'\n{text}")).unwrap();
        let line = config.build_for(4, Seed::new(1), &Public::default()).err().unwrap().to_string();
        assert!(line.starts_with(key) && line.contains(rule) && !line.contains('\n'), "{line}");
    };
    refused("residual_std = -1.0", "residual_std: ", "standard deviation");
    refused("residual_std = 1.0\nkey_std = 0.0", "residual_std: ", "gaussian");
    refused("budget = { epsilon = 1.0, rounds = 1 }", "budget: ", "split");
    refused("assumed.factor = 2.0", "assumed: ", "split");
    refused("split = 'best'", "keys: ", "pairwise");
    let known = |more: &str| best(&format!("assumed.client_server = 0.5\n{more}"));
    refused(&known("residual_std = 1.0"), "residual_std: ", "follows");
    refused(&known("least_included = 2"), "least_included: ", "whoever arrives");
    refused(&known("transmissions = 2"), "transmissions: ", "once");
    refused(&known("arithmetic = 'field'"), "arithmetic: ", "f64");
    refused(&known("budget = { epsilon = 1.0, rounds = 1 }"), "budget.epsilon: ", "clip_norm");
    refused(&known("budget = { epsilon = 0.0, rounds = 1 }"), "budget.epsilon: ", "greater than 0");
    refused(&known("budget = { epsilon = 1.0, rounds = 0 }"), "budget.rounds: ", "at least 1");
    refused(&known("budget = { epsilon = 1.0, delta = 1.0, rounds = 1 }"), "budget.delta: ", "(0, 1)");
    refused(&best("assumed.client_server = 1.0"), "assumed.client_server: ", "client 1");
    refused(&best(""), "assumed.client_server: ", "network");
}
