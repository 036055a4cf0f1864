//! `[privacy.release]`: the noise that is in the sums, and what they are charged for.

mod adaptive;
mod correlated;
mod runs;

use std::path::Path;
use std::sync::Arc;

use seccogc::account::Sampling;
use seccogc::algebra::distributed::{DistributedNoise, Law};
use seccogc::algebra::grid::Public;
use seccogc::config::Config;
use seccogc::message::LinkUse;
use seccogc::network::{LinkModel, Node, Perfect};
use seccogc::privacy::ldp;
use seccogc::protocol::{Aggregator, Decoded, ProtocolConfig, Update};
use seccogc::record::Row;
use seccogc::release::{Adversary, Charge, Cost, Known, Ledger, Release, ReleaseConfig};
use seccogc::seed::Seed;
use seccogc::train::{Experiment, State};
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

/// Plays a run in a folder up to this round, on from wherever it is; its state and rows.
fn played_to(rounds: u64, config: &Config, path: &Path) -> (State, Vec<Row>) {
    let setting = Experiment::new(Config { rounds, ..config.clone() }).build().unwrap();
    let run = setting.run(&setting.config().protocol).unwrap();
    let (state, mut directory) = run.go_on(path).unwrap();
    let (state, _) = run.record(state, &mut directory, &mut |_| Ok(())).unwrap();
    (state, directory.rows().unwrap())
}

fn protocol(text: &str) -> ProtocolConfig {
    toml::from_str(text).unwrap()
}

fn distributed(std: f64, coordinates: usize, colluders: usize) -> DistributedNoise {
    DistributedNoise { std, norm: 1.0, coordinates, flattened: false, colluders, discrete: Law::Skellam }
}

/// A scheme whose clients add noise of which a sum holds `std` at least.
fn scheme(text: &str, d: usize) -> Box<dyn Aggregator> {
    let noise = distributed(3.0, d, 0);
    let public = Public { noise: Some(noise), ..Public::default() };
    let mut scheme = protocol(text).build_for(M, Seed::new(7), &public).unwrap();
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
    fn delivers(&self, link: LinkUse<Node>) -> bool {
        match (link.from, link.to) {
            (Node::Client(k), Node::Server) => self.0[link.attempt as usize] >> k & 1 == 1,
            _ => true,
        }
    }

    fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
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

/// Every scheme over the reals, every pattern of uploads: n shares of variance σ²/U each, normally
/// distributed. Two-sided χ² of the variance and Kolmogorov-Smirnov of the shape, each at α = 10⁻⁶ in some
/// 200 cases.
#[test]
fn decoded_sums_carry_the_noise_of_their_shares() {
    const D: usize = 20_000;
    const ALPHA: f64 = 1e-6;
    let updates = updates(M, D);
    let mut cases = 0;
    for (text, least) in SCHEMES {
        let scheme = scheme(text, D);
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
        let scheme = scheme(text, 100);
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
    let scheme = scheme("kind = 'fedavg'", 1000);
    let (_, singles) = scheme.aggregate_singly(1, &updates, &Perfect, 1).unwrap();
    for (single, update) in singles.iter().zip(&updates) {
        let noise = single.delta.iter().zip(&*update.delta).map(|(y, x)| f64::from(y - x) * update.weight);
        let variance = noise.map(|x| x * x).sum::<f64>() / 1000.0;
        // Nine standard errors of a variance of 9.
        assert!((variance - 9.0).abs() < 9.0 * 9.0 * (2.0f64 / 1000.0).sqrt(), "{variance}");
    }
}

fn known(clients: usize) -> Known {
    Known {
        clip: 1.0,
        weight: 1.0,
        coordinates: 100,
        cohort: clients,
        participations: 10,
        rounds: 10,
        attempts: 1,
        singly: false,
        sampling: Sampling::None,
        distance: 1.0,
    }
}

fn release(text: &str, clients: usize, release: &str) -> seccogc::Result<(Release, Box<dyn Aggregator>)> {
    let config: ReleaseConfig = toml::from_str(release).unwrap();
    config.check()?;
    let mut scheme = protocol(text).build(clients, Seed::new(1)).unwrap();
    let release = Release::of(&config, &*scheme, known(clients))?;
    if let Some(noise) = release.noise() {
        scheme.add_noise(&noise)?;
    }
    Ok((release, scheme))
}

/// What one round costs each client.
fn charges(text: &str, clients: usize, of: &str, links: &dyn LinkModel) -> Vec<Charge> {
    let (release, scheme) = release(text, clients, of).unwrap();
    let aggregate = scheme.aggregate(1, &updates(clients, 100), links, 1).unwrap();
    let formal = scheme.formal(1, links, 1).unwrap();
    release.charges(&*scheme, Some(&formal), &aggregate, &vec![1.0; clients]).unwrap()
}

/// μ of client 1, (server, observer).
fn costs(text: &str, clients: usize, of: &str, links: &dyn LinkModel) -> (f64, f64) {
    let charge = charges(text, clients, of, links)[0];
    match (charge.server, charge.observer) {
        (Cost::Gaussian(server), Cost::Gaussian(observer)) => (server, observer),
        other => panic!("{other:?}"),
    }
}

fn close(got: f64, want: f64) {
    assert!((got / want - 1.0).abs() < 1e-4, "{got} for {want}");
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
            assert!(server >= observer && server < observer * 1.0001, "{server}");
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
        let adversary = if against == "server" { Adversary::Server } else { Adversary::Observer };
        let mut ledger = Ledger::new(M);
        let members: Vec<u16> = (0..M as u16).collect();
        for round in 1..=10 {
            let aggregate = scheme.aggregate(round, &updates(M, 100), &Perfect, 1).unwrap();
            let formal = scheme.formal(round, &Perfect, 1).unwrap();
            let charges = release.charges(&*scheme, Some(&formal), &aggregate, &[1.0; M]).unwrap();
            for (&k, charge) in members.iter().zip(&charges) {
                ledger.charge(k.into(), adversary, charge.of(adversary));
            }
        }
        let epsilon = release.epsilon(&ledger, adversary).unwrap();
        assert!(epsilon <= 3.0 && epsilon > 2.999, "{text}: {epsilon}");
    }
    // Without keys and with all shares in one sum the server sees single updates with a fifth of the noise.
    let (open, _) = release("kind = 'cogc'\nstragglers = 2\narithmetic = 'f64'", M, "epsilon = 3.0").unwrap();
    let (hidden, _) =
        release("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'\nkey_std = 1e3", M, "epsilon = 3.0")
            .unwrap();
    let z = |release: &Release| release.promise(&Ledger::new(M), 0).unwrap().noise_multiplier;
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

/// Schemes over a field that show the server a sum only, and how many shares it holds at least.
const FIELD: [(&str, usize); 6] = [
    ("kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'field'", M),
    ("kind = 'zhao-sun'\nsurvivors = 3\ncolluders = 1", 3),
    ("kind = 'light-sec-agg'\nsurvivors = 3\ncolluders = 1", 3),
    ("kind = 'sec-agg'\nthreshold = 3", 4),
    ("kind = 'sec-agg'\nthreshold = 3\nkeys = 'uniform'", 4),
    ("kind = 'groupwise'", M),
];

/// The same over a field: shares of integers of the variance σ²/U in steps², whose sum is so much noise on
/// the grid of the steps, and rounding besides, less than a step for each input. χ² as above.
#[test]
fn sums_over_a_field_carry_discrete_noise() {
    const D: usize = 5000;
    const ALPHA: f64 = 1e-6;
    let updates = updates(M, D);
    let mut cases = 0;
    for law in [Law::Skellam, Law::DiscreteGaussian] {
        for (text, _) in FIELD {
            let noise = DistributedNoise { norm: 4.0, discrete: law, ..distributed(3.0, D, 0) };
            let mut scheme = protocol(text).build(M, Seed::new(7)).unwrap();
            scheme.add_noise(&noise).unwrap();
            let added = scheme.added().unwrap();
            let integers = added.integers.unwrap();
            assert_eq!(added.law, law);
            assert!(integers.wraps < 1e-9 && integers.step * 65536.0 >= added.std, "{integers:?}");
            for pattern in [u32::MAX, 0b1110, 0b11101] {
                let Some((noise, included)) = self::noise(&*scheme, &updates, &Uploads(vec![pattern])) else {
                    continue;
                };
                assert!(included >= added.summands, "{text}");
                let std = 3.0 * (included as f64 / added.summands as f64).sqrt();
                let chi: f64 = noise.iter().map(|x| (x / std).powi(2)).sum();
                let p = ChiSquared::new(D as f64).unwrap().cdf(chi);
                assert!(
                    p > ALPHA / 2.0 && p < 1.0 - ALPHA / 2.0,
                    "{text}: {law:?}, variance {}",
                    chi / D as f64
                );
                cases += 1;
            }
        }
    }
    assert!(cases > 20, "{cases}");
}

/// Over a field a scheme that hides costs a sum of so many shares, an outage nothing; one that shows single
/// updates costs one share of each.
#[test]
fn rank_decides_what_a_field_costs() {
    let all = Uploads(vec![u32::MAX]);
    let shares = |cost: Cost| match cost {
        Cost::Integers(sum) => sum.shares,
        Cost::Gaussian(0.0) => 0,
        other => panic!("{other:?}"),
    };
    for (text, least) in FIELD {
        let charge = charges(text, M, "noise_multiplier = 3.0", &all)[0];
        assert_eq!((shares(charge.server), shares(charge.observer)), (M as u64, M as u64), "{text}");
        let (_, scheme) = release(text, M, "noise_multiplier = 3.0").unwrap();
        assert_eq!(scheme.added().unwrap().summands, least, "{text}");
        let charge = charges(text, M, "noise_multiplier = 3.0\ncolluders = 1", &all)[0];
        // Groupwise keys of this size withstand nobody but the server.
        let left = if text.contains("groupwise") { 1 } else { M as u64 - 1 };
        assert_eq!((shares(charge.server), shares(charge.observer)), (left, M as u64), "{text}");
        let lost = charges(text, M, "noise_multiplier = 3.0", &Uploads(vec![1]));
        assert!(lost.iter().all(|charge| *charge == Charge::NOTHING), "{text}");
    }
    for open in
        ["kind = 'fedavg'\narithmetic = 'field'", "kind = 'cogc'\nstragglers = 2\narithmetic = 'field'"]
    {
        let charge = charges(open, M, "noise_multiplier = 3.0", &all)[0];
        assert_eq!((shares(charge.server), shares(charge.observer)), (1, M as u64), "{open}");
    }
    // A coalition of more than half of a scheme's threshold sees more than the sum.
    let charge = charges(FIELD[2].0, M, "noise_multiplier = 3.0\ncolluders = 2", &all)[0];
    assert_eq!(shares(charge.server), 1);
}

/// 10⁵ replays of one round: every coordinate is one, in which client 1 sends +1 or −1 and the sum has noise
/// of the standard deviation 1.5, so that μ = 4/3 between both. An observer who tests for +1 at the threshold
/// of the likelihood ratio e^ε has TPR − e^ε FPR ≤ δ(ε) up to Hoeffding's deviation at α = 10⁻⁶, and nearly
/// attains it; with half the noise the bound is broken.
#[test]
fn replays_keep_the_promised_curve_and_half_the_noise_does_not() {
    const D: usize = 100_000;
    let off = ((1e6f64).ln() / (2.0 * D as f64)).sqrt();
    let gain = |text: &str, std: f64, epsilon: f64| {
        let noise = DistributedNoise { norm: (D as f64).sqrt(), ..distributed(std, D, 0) };
        let share = |sign: f32, seed: u64| -> f64 {
            let mut scheme = protocol(text).build(M, Seed::new(seed)).unwrap();
            scheme.add_noise(&noise).unwrap();
            let mut all: Vec<Update> =
                (0..M).map(|_| Update { weight: 1.0, delta: Arc::new(vec![0.0; D]) }).collect();
            all[0].delta = Arc::new(vec![sign; D]);
            let Decoded::Sum { sum, .. } = scheme.aggregate(1, &all, &Perfect, 1).unwrap().decoded else {
                panic!("links never fail")
            };
            // Who knows the noise: ln e^{2y/σ²} = ε.
            let threshold = epsilon * std * std / 2.0;
            sum.iter().filter(|y| **y > threshold).count() as f64 / D as f64
        };
        share(1.0, 1) - epsilon.exp() * share(-1.0, 2)
    };
    for text in ["kind = 'sec-cogc'\nstragglers = 2\narithmetic = 'f64'", FIELD[0].0, FIELD[3].0] {
        for epsilon in [0.5, 1.0, 2.0] {
            let (most, slack) = (ldp::delta(2.0 / 1.5, epsilon), off * (1.0 + epsilon.exp()));
            // A scheme over survivors has at least so much noise.
            let least = if text.contains("sec-agg") { 0.0 } else { most - slack };
            let kept = gain(text, 1.5, epsilon);
            assert!(kept <= most + slack && kept >= least, "{text}, {epsilon}: {kept} of {most}");
            let broken = gain(text, 0.6, epsilon);
            assert!(broken > most + slack, "{text}, {epsilon}: {broken} of {most}");
        }
    }
}
