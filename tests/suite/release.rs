//! `[privacy.release]`: the noise that is in the sums, and what they are charged for.

use std::sync::Arc;

use seccogc::algebra::distributed::{DistributedNoise, Law};
use seccogc::algebra::grid::Public;
use seccogc::config::Config;
use seccogc::message::{LinkUse, PartyId};
use seccogc::network::{LinkModel, Perfect};
use seccogc::privacy::ldp;
use seccogc::protocol::{Aggregator, Decoded, ProtocolConfig, Update};
use seccogc::release::{Adversary, Known, Ledger, Release, ReleaseConfig};
use seccogc::seed::Seed;
use seccogc::train::Experiment;
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

const M: usize = 5;

/// Schemes over the reals and how many shares a sum of theirs holds at least.
const SCHEMES: [(&str, usize); 10] = [
    ("kind = 'ideal'\narithmetic = 'f64'", M),
    ("kind = 'fedavg'\narithmetic = 'f64'\nleast_included = 3", 3),
    ("kind = 'fedavg'", 1),
    ("kind = 'zero-sum'\narithmetic = 'f64'\nleast_included = 5", M),
    ("kind = 'cogc'\nstragglers = 2\narithmetic = 'f64'", M),
    ("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'\nkeys = 'plain'", M),
    ("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'\nkeys = 'fair'", M),
    ("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'\nkeys = 'pairwise'\nkey_std = 30.0", M),
    ("kind = 'sec-cogc'\nstragglers = 1\narithmetic = 'f32'\nkeys = 'fair'", M),
    ("kind = 'cogc'\nstragglers = 1\ndecoder = 'gc-plus-partial'\nleast_included = 2\narithmetic = 'f64'", 2),
];

fn protocol(text: &str) -> ProtocolConfig {
    toml::from_str(text).unwrap()
}

/// A scheme whose clients add noise of which a sum holds `std` at least.
fn scheme(text: &str, clients: usize, std: f64, colluders: usize, seed: u64) -> Box<dyn Aggregator> {
    let noise = DistributedNoise { std, colluders, discrete: Law::Skellam };
    let public = Public { noise: Some(noise), ..Public::default() };
    let mut scheme = protocol(text).build_for(clients, Seed::new(seed), &public).unwrap();
    scheme.add_noise(&noise).unwrap();
    scheme
}

fn updates(clients: usize, d: usize) -> Vec<Update> {
    let weight = |k: usize| 0.5 + k as f64 / clients as f64;
    let delta = |k: usize| (0..d).map(|i| (((i + 3 * k) as f32) * 0.37).sin() * 1e-2).collect();
    (0..clients).map(|k| Update { weight: weight(k), delta: Arc::new(delta(k)) }).collect()
}

/// Links that lose messages to the server by a bit each, by attempt.
struct Uploads(Vec<u32>);

impl LinkModel for Uploads {
    fn delivers(&self, link: LinkUse) -> bool {
        match (link.from, link.to) {
            (PartyId::Client(k), PartyId::Server) => self.0[link.attempt as usize] >> k & 1 == 1,
            _ => true,
        }
    }

    fn erasure(&self, _: PartyId, _: PartyId, _: u64) -> f64 {
        0.5
    }
}

/// The noise of a decoded sum, and over how many inputs it is.
fn noise(scheme: &dyn Aggregator, updates: &[Update], links: &dyn LinkModel) -> Option<(Vec<f64>, usize)> {
    match scheme.aggregate(1, updates, links, 1).unwrap().decoded {
        Decoded::Sum { mut sum, included, .. } => {
            for &k in &included {
                let update = &updates[usize::from(k)];
                sum.iter_mut().zip(&*update.delta).for_each(|(s, x)| *s -= update.weight * f64::from(*x));
            }
            Some((sum, included.len()))
        }
        _ => None,
    }
}

/// Every scheme over the reals, every pattern of uploads: n shares of variance σ²/U each, normally distributed.
/// Two-sided χ² of the variance and Kolmogorov-Smirnov of the shape, each at α = 10⁻⁶ in some 200 cases.
#[test]
fn decoded_sums_carry_the_noise_of_their_shares() {
    const D: usize = 20_000;
    const ALPHA: f64 = 1e-6;
    let updates = updates(M, D);
    let mut cases = 0;
    for (text, least) in SCHEMES {
        let scheme = scheme(text, M, 3.0, 0, 7);
        let added = scheme.added().unwrap();
        assert_eq!((added.law, added.summands), (Law::Gaussian, least), "{text}");
        for pattern in 0..1u32 << M {
            let Some((noise, included)) = noise(&*scheme, &updates, &Uploads(vec![pattern])) else {
                continue;
            };
            assert!(included >= least, "{text}");
            let std = 3.0 * (included as f64 / least as f64).sqrt();
            let chi: f64 = noise.iter().map(|x| (x / std).powi(2)).sum();
            let p = ChiSquared::new(D as f64).unwrap().cdf(chi);
            assert!(
                p > ALPHA / 2.0 && p < 1.0 - ALPHA / 2.0,
                "{text}: {pattern:b}, variance {}",
                chi / D as f64
            );
            let mut sorted: Vec<f64> = noise.iter().map(|x| x / std).collect();
            sorted.sort_by(f64::total_cmp);
            let normal = Normal::new(0.0, 1.0).unwrap();
            let distance = sorted.iter().enumerate().map(|(i, x)| {
                let at = normal.cdf(*x);
                (at - i as f64 / D as f64).abs().max((at - (i + 1) as f64 / D as f64).abs())
            });
            let most = (-(ALPHA / 2.0).ln() / (2.0 * D as f64)).sqrt();
            let distance = distance.fold(0.0, f64::max);
            assert!(distance < most, "{text}: {pattern:b}, distance {distance}");
            cases += 1;
        }
    }
    assert!(cases > 60, "{cases}");
}

#[test]
fn a_retry_resends_the_noise_of_its_round_and_rounds_have_their_own() {
    let updates = updates(M, 100);
    for (text, _) in SCHEMES {
        let scheme = scheme(text, M, 3.0, 0, 7);
        let sum =
            |round, links: &dyn LinkModel| match scheme.aggregate(round, &updates, links, 3).unwrap().decoded
            {
                Decoded::Sum { sum, .. } => sum,
                other => panic!("{text}: {other:?}"),
            };
        let first = sum(1, &Perfect);
        let again = sum(1, &Uploads(vec![0, 0, u32::MAX]));
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near(&first, &again), "{text}");
        assert!(!near(&first, &sum(2, &Perfect)), "{text}");
    }
}

#[test]
fn single_updates_carry_their_noise_too() {
    let updates = updates(M, 1000);
    let scheme = scheme("kind = 'fedavg'", M, 3.0, 0, 7);
    let (_, singles) = scheme.aggregate_singly(1, &updates, &Perfect, 1).unwrap();
    for (single, update) in singles.iter().zip(&updates) {
        let noise = single.delta.iter().zip(&*update.delta).map(|(y, x)| f64::from(y - x) * update.weight);
        let variance = noise.map(|x| x * x).sum::<f64>() / 1000.0;
        // Nine standard errors of a variance of 9.
        assert!((variance - 9.0).abs() < 9.0 * 9.0 * (2.0f64 / 1000.0).sqrt(), "{variance}");
    }
}

fn known(clip: f64, participations: u64) -> Known {
    Known {
        clip,
        weight: 1.0,
        coordinates: 100,
        participations,
        rounds: participations,
        attempts: 1,
        singly: false,
    }
}

fn release(text: &str, clients: usize, release: &str) -> seccogc::Result<(Release, Box<dyn Aggregator>)> {
    let config: ReleaseConfig = toml::from_str(release).unwrap();
    config.check()?;
    let mut scheme = protocol(text).build(clients, Seed::new(1)).unwrap();
    let release = Release::of(&config, &*scheme, known(1.0, 10))?;
    if let Some(noise) = release.noise() {
        scheme.add_noise(&noise)?;
    }
    Ok((release, scheme))
}

/// What one round costs client 1, (server, observer).
fn costs(text: &str, clients: usize, of: &str, links: &dyn LinkModel) -> (f64, f64) {
    let (release, scheme) = release(text, clients, of).unwrap();
    let aggregate = scheme.aggregate(1, &updates(clients, 10), links, 1).unwrap();
    let charge = release.charges(&*scheme, links, 1, &aggregate, &vec![1.0; clients]).unwrap()[0];
    (charge.server, charge.observer)
}

fn close(got: f64, want: f64) {
    assert!((got / want - 1.0).abs() < 1e-5, "{got} for {want}");
}

/// Of M masked updates with masks of covariance c(I − J/M), c = σ²M/(M − 1), and noise z²/M each: along 1 the
/// noise alone, elsewhere both. [R⁻¹]_kk = (1/M)/(z²/M) + (1 − 1/M)/(z²/M + c), μ² = 4 [R⁻¹]_kk.
#[test]
fn keys_and_noise_are_one_gaussian() {
    let masked = "kind = 'zero-sum'\narithmetic = 'f64'\nkey_std = 1.0\nleast_included = 10";
    let (server, observer) = costs(masked, 10, "noise_multiplier = 1.0", &Perfect);
    let want = 4.0 * (0.1 / 0.1 + 0.9 / (0.1 + 10.0 / 9.0));
    close(server * server, want);
    assert!((server * server - 6.97).abs() < 0.005, "the page's number");
    close(observer, 2.0);
    // With one of ten colluding the others add 1/9 each; of the nine honest ones' masks the sum is known.
    let (server, _) = costs(masked, 10, "noise_multiplier = 1.0\ncolluders = 1", &Perfect);
    let (share, c, h) = (1.0 / 9.0, 10.0 / 9.0, 9.0);
    close(server * server, 4.0 * (1.0 / h / share + (1.0 - 1.0 / h) / (share + c)));
    // A client that sends zeros moves half as far.
    let (server, observer) = costs(masked, 10, "noise_multiplier = 1.0\nadjacency = 'zero-out'", &Perfect);
    close(server * server, want / 4.0);
    close(observer, 1.0);
}

/// Local noise: whoever sees single updates sees each with one share; the observer sees all of them at once.
#[test]
fn what_is_seen_singly_has_one_share() {
    let (server, observer) =
        costs("kind = 'fedavg'\narithmetic = 'f64'", 4, "noise_multiplier = 2.0", &Perfect);
    close(server, 1.0);
    close(observer, 2.0 / (2.0 * 4.0f64.sqrt()));
    // Two of four arrive: the sum has half the variance, and those who did not pay nothing.
    let links = Uploads(vec![0b0011]);
    let (server, observer) =
        costs("kind = 'fedavg'\narithmetic = 'f64'", 4, "noise_multiplier = 2.0", &links);
    close(server, 1.0);
    close(observer, 2.0 / (2.0 * 2.0f64.sqrt()));
    let links = Uploads(vec![0b1110]);
    let lost = costs("kind = 'fedavg'\narithmetic = 'f64'", 4, "noise_multiplier = 2.0", &links);
    assert_eq!(lost, (0.0, 0.0));
}

/// The claim: over any links a round of Fair-SecCoGC that is recovered costs an observer what central DP
/// costs, 2/z, an outage nothing; and the server hardly more once the keys are strong.
#[test]
fn recovered_rounds_cost_what_a_trusted_server_costs() {
    let strong = "kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'\nkeys = 'fair'\nkey_std = 1e3";
    let weak = "kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'\nkeys = 'fair'\nkey_std = 1.0";
    let mut outcomes = [0, 0];
    for pattern in 0..1u32 << M {
        let links = Uploads(vec![pattern]);
        let arrived = pattern.count_ones() as usize;
        let (server, observer) = costs(strong, M, "noise_multiplier = 1.5", &links);
        if arrived >= M - 2 {
            outcomes[0] += 1;
            close(observer, 2.0 / 1.5);
            assert!(server >= observer && server < observer * 1.00001, "{server}");
            let (exposed, central) = costs(weak, M, "noise_multiplier = 1.5", &links);
            close(central, observer);
            assert!(exposed > 1.01 * observer, "{exposed}");
        } else {
            outcomes[1] += 1;
            assert_eq!(observer, 0.0);
            assert!(server < 0.01, "{server}");
        }
    }
    assert_eq!(outcomes, [16, 16]);
    let (_, observer) =
        costs(strong, M, "noise_multiplier = 1.5\nby = 'server'\nagainst = 'observer'", &Perfect);
    close(observer, 2.0 / 1.5);
}

#[test]
fn a_target_is_met_and_not_by_much() {
    for (text, against) in [
        ("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'", "server"),
        ("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'", "observer"),
        ("kind = 'fedavg'\narithmetic = 'f64'\nleast_included = 2", "server"),
        ("kind = 'zero-sum'\narithmetic = 'f64'", "server"),
    ] {
        let of = format!("epsilon = 3.0\nagainst = '{against}'");
        let (release, scheme) = release(text, M, &of).unwrap();
        let mut ledger = Ledger::new(M);
        let members: Vec<u16> = (0..M as u16).collect();
        for round in 1..=10 {
            let aggregate = scheme.aggregate(round, &updates(M, 10), &Perfect, 1).unwrap();
            let charges = release.charges(&*scheme, &Perfect, round, &aggregate, &[1.0; M]).unwrap();
            ledger.charge(&members, &charges);
        }
        let adversary = if against == "server" { Adversary::Server } else { Adversary::Observer };
        let epsilon = release.epsilon(&ledger, adversary);
        assert!(epsilon <= 3.0 && epsilon > 2.999, "{text}: {epsilon}");
    }
    // Without keys and with all shares in one sum the server sees single updates with a fifth of the noise.
    let (open, _) = release("kind = 'cogc'\nstragglers = 2\narithmetic = 'f64'", M, "epsilon = 3.0").unwrap();
    let (hidden, _) =
        release("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'\nkey_std = 1e3", M, "epsilon = 3.0")
            .unwrap();
    let z = |release: &Release| release.promise(&Ledger::new(M)).noise_multiplier;
    assert!(z(&open) > 1.2 * z(&hidden), "{} {}", z(&open), z(&hidden));
    close(z(&hidden), 2.0 * 10f64.sqrt() / ldp::mu(3.0, 1e-5));
}

#[test]
fn what_cannot_be_promised_is_refused_in_a_line() {
    let line = |text: &str, of: &str| release(text, M, of).err().unwrap().to_string();
    let fair = "kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'";
    for (text, of, want) in [
        (fair, "", "epsilon: say how much noise there is: epsilon, or noise_multiplier"),
        (
            fair,
            "epsilon = 1.0\nnoise_multiplier = 1.0",
            "epsilon: noise_multiplier already says how much noise there is; give one of both",
        ),
        (fair, "epsilon = -1.0", "epsilon: -1 must be a finite number greater than 0"),
        (fair, "epsilon = 1.0\ndelta = 1.0", "delta: 1 must be greater than 0 and below 1"),
        (
            fair,
            "epsilon = 1.0\nnoise = 'skellam'",
            "privacy.release.noise: discrete noise needs exact arithmetic; take arithmetic = \"field\", or \"gaussian\"",
        ),
        (
            fair,
            "epsilon = 1.0\ncolluders = 5",
            "privacy.release.colluders: 5 colluders may hold every share of a sum over 5; give fewer, or raise protocol.least_included",
        ),
        (
            "kind = 'fedavg'",
            "epsilon = 1.0\ncolluders = 1",
            "privacy.release.colluders: 1 colluders may hold every share of a sum over 1; give fewer, or raise protocol.least_included",
        ),
        (
            fair,
            "epsilon = 1.0\nby = 'server'",
            "against: a server that adds the noise sees everything without it; take \"observer\", or by = \"clients\"",
        ),
    ] {
        assert_eq!(line(text, of), want);
    }
}

fn config(more: &str) -> Config {
    let text = format!(
        "rounds = 6\n[partition]\nkind = 'iid'\n[model]\nkind = 'softmax'\n[solver]\nkind = 'sgd'\nclip_norm = 1.0\nsteps = 1\n\
         [network]\nkind = 'bernoulli'\nclient_client = 0.1\nclient_server = 0.4\n\
         [protocol]\nkind = 'sec-cogc'\nstragglers = 5\narithmetic = 'f64'\n{more}"
    );
    toml::from_str(&text).unwrap()
}

/// The columns of the running ε, round by round.
fn columns(config: Config) -> Vec<Vec<(String, f64)>> {
    let setting = Experiment::new(config).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    run.rounds().map(|row| row.unwrap().metrics).collect()
}

#[test]
fn a_run_shows_its_running_epsilon_and_ends_within_its_budget() {
    let rows = columns(config("[privacy.release]\nepsilon = 4.0"));
    assert_eq!(rows.len(), 6);
    let names: Vec<&str> = rows[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["epsilon_server", "epsilon_observer"]);
    let server: Vec<f64> = rows.iter().map(|row| row[0].1).collect();
    assert!(server.windows(2).all(|pair| pair[0] <= pair[1]), "{server:?}");
    let last = server.last().unwrap();
    assert!(*last <= 4.0 && *last > 0.0, "{server:?}");
    let short = columns(config("[privacy.release]\nepsilon = 4.0\nbudget = 2.5"));
    assert!(short.len() < 6 && !short.is_empty(), "{short:?}");
    assert_eq!(short[..], rows[..short.len()]);
    assert!(short.last().unwrap()[0].1 <= 2.5);
    let trusted = columns(config("[privacy.release]\nepsilon = 4.0\nby = 'server'\nagainst = 'observer'"));
    let names: Vec<&str> = trusted[0].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["epsilon_observer"]);
}
