//! One suite for every protocol: over every pattern of lost messages the server obtains the exact sum or an
//! outage, never a wrong sum; and what it obtains is independent of the keys, read off the formal run of the
//! same party code.

use std::sync::Arc;

use crate::scripted::Scripted;
use rand::RngExt;
use seccogc::algebra::quantise::{Modulus, Quantisation};
use seccogc::algebra::{LinearForm, Unknown};
use seccogc::coding::CodeKind;
use seccogc::keys::KeyKind;
use seccogc::network::{LinkModel, LinkUse, Node, Perfect};
use seccogc::protocol::cogc::{CoGcConfig, DecoderKind, SecCoGcConfig};
use seccogc::protocol::{Aggregator, Arithmetic, Decoded, Formal, ProtocolConfig, Update, uncoded};
use seccogc::seed::Seed;

const DIMENSION: usize = 3;

fn updates(clients: usize) -> Vec<Update> {
    let mut rng = Seed::new(11).rng();
    (0..clients)
        .map(|k| Update {
            weight: 0.5 + k as f64,
            delta: Arc::new((0..DIMENSION).map(|_| rng.random::<f32>() - 0.5).collect()),
        })
        .collect()
}

fn sum_over(updates: &[Update], included: &[u16]) -> Vec<f64> {
    let mut sum = vec![0.0; DIMENSION];
    for &k in included {
        let update = &updates[usize::from(k)];
        for (sum, x) in sum.iter_mut().zip(update.delta.iter()) {
            *sum += update.weight * f64::from(*x);
        }
    }
    sum
}

/// Every pattern over the links that `used` marks.
fn patterns(clients: usize, used: impl Fn(usize, usize) -> bool) -> Vec<Scripted> {
    let all = Scripted { clients, lost: 0 };
    let bits: Vec<u64> = (0..clients)
        .flat_map(|from| (0..=clients).map(move |to| (from, to)))
        .filter(|&(from, to)| from != to && used(from, to))
        .map(|(from, to)| all.bit(from, to))
        .collect();
    assert!(bits.len() <= 20, "too many patterns to try all");
    (0u64..1 << bits.len())
        .map(|choice| Scripted {
            clients,
            lost: bits.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1).map(|(_, bit)| bit).sum(),
        })
        .collect()
}

struct Tally {
    recovered: usize,
    outages: usize,
}

/// The conformance check of one scheme over the given patterns. `tolerance` is relative to the largest key.
fn conforms(
    name: &str,
    scheme: &dyn Aggregator,
    clients: usize,
    patterns: &[Scripted],
    tolerance: f64,
) -> Tally {
    let updates = updates(clients);
    let mut tally = Tally { recovered: 0, outages: 0 };
    for (round, links) in (1..).zip(patterns) {
        let aggregate = scheme.aggregate(round, &updates, links, 1).unwrap();
        match aggregate.decoded {
            Decoded::Outage(_) => tally.outages += 1,
            Decoded::Estimate { .. } => panic!("{name} is exact or nothing"),
            Decoded::Sum { sum, included, .. } => {
                tally.recovered += usize::from(included.len() == clients);
                assert!(included.is_sorted() && !included.is_empty(), "{name}: {included:?}");
                for (got, want) in sum.iter().zip(sum_over(&updates, &included)) {
                    assert!(
                        (got - want).abs() <= tolerance,
                        "{name}, lost {:b}: {got} for {want}",
                        links.lost
                    );
                }
            }
        }
    }
    tally
}

/// The server's formal result is Σ of the included inputs, with no key left.
fn conforms_formally(name: &str, scheme: &dyn Aggregator, clients: usize, patterns: &[Scripted]) {
    for links in patterns {
        let views = match scheme.formal(1, links, 1).unwrap() {
            Formal::Real(views) => views,
            Formal::Field(views) => {
                assert_eq!(views.findings(), [], "{name}, lost {:b}", links.lost);
                continue;
            }
        };
        if let Decoded::Sum { sum, included, .. } = views.decoded {
            let [form]: [LinearForm; 1] = sum.try_into().unwrap();
            for k in 0..clients as u16 {
                let want = f64::from(u8::from(included.contains(&k)));
                let got = form.coefficient(Unknown::Input(k, 0));
                assert!((got - want).abs() < 1e-9, "{name}: x{k} has coefficient {got}");
            }
            for (unknown, c) in form.terms().filter(|(unknown, _)| matches!(unknown, Unknown::Key(..))) {
                assert!(c.abs() < 1e-9, "{name}, lost {:b}: {unknown} remains with {c}", links.lost);
            }
        }
    }
}

/// Name, s and configuration of every code that exists for `clients`, under every key construction.
fn every_coded_scheme(clients: usize) -> Vec<(String, usize, ProtocolConfig)> {
    let mut schemes = Vec::new();
    for code in [CodeKind::CyclicRandom, CodeKind::CyclicMds, CodeKind::FractionalRepetition] {
        for stragglers in (0..clients).filter(|&s| code.exists(clients, s)) {
            let coding = CoGcConfig { code, stragglers: stragglers.into(), ..CoGcConfig::default() };
            schemes.push((format!("cogc {code:?} s={stragglers}"), stragglers, ProtocolConfig::CoGc(coding)));
            for (keys, link_key_std) in
                [(KeyKind::Plain, 0.0), (KeyKind::Fair, 2.0), (KeyKind::Pairwise, 0.0)]
            {
                let config = SecCoGcConfig {
                    keys: keys.into(),
                    key_std: 3.0,
                    link_key_std,
                    code,
                    stragglers: stragglers.into(),
                    ..Default::default()
                };
                let name = format!("sec-cogc {keys:?} {code:?} s={stragglers}");
                schemes.push((name, stragglers, ProtocolConfig::SecCoGc(config)));
            }
            // A real code has no counterpart over the field.
            for modulus in [Modulus::M61, Modulus::M31].into_iter().filter(|_| code != CodeKind::CyclicMds) {
                let bits = if modulus == Modulus::M61 { 45 } else { 28 };
                let config = SecCoGcConfig {
                    code,
                    stragglers: stragglers.into(),
                    arithmetic: Arithmetic::Field,
                    quantisation: Some(Quantisation { clip: 4.0, bits, modulus, ..Default::default() }),
                    ..Default::default()
                };
                let name = format!("sec-cogc {modulus:?} {code:?} s={stragglers}");
                schemes.push((name, stragglers, ProtocolConfig::SecCoGc(config)));
            }
        }
    }
    schemes
}

#[test]
fn coded_schemes_give_the_exact_sum_or_an_outage_for_every_pattern() {
    for clients in 2..=4 {
        let schemes = every_coded_scheme(clients);
        assert!(schemes.len() >= 4 * clients);
        for (name, stragglers, config) in schemes {
            let scheme = config.build(clients, Seed::new(1)).unwrap();
            let code = scheme.code().unwrap();
            // With 2^16 patterns, where every row is full under every code, the strongest combination of keys
            // stands for all.
            if clients == 4 && stragglers == 3 && !name.contains("sec-cogc Fair CyclicRandom") {
                continue;
            }
            let patterns = patterns(clients, |from, to| to == clients || code.support(to).contains(&from));
            let name = format!("M={clients} {name}");
            // 28 bits round to 2⁻²⁵.
            let tolerance = if name.contains("M31") { 4.0 * 2f64.powi(-26) } else { 1e-9 };
            let tally = conforms(&name, &*scheme, clients, &patterns, tolerance);
            assert!(tally.recovered > 0 && tally.recovered + tally.outages == patterns.len(), "{name}");
            let complete = |links: &Scripted| -> Vec<usize> {
                let all_shares = |m: usize| code.support(m).iter().all(|&k| k == m || !links.loses(k, m));
                (0..clients).filter(|&m| !links.loses(m, clients) && all_shares(m)).collect()
            };
            let rows: Vec<Vec<usize>> = patterns.iter().map(complete).collect();
            let enough = rows.iter().filter(|rows| rows.len() >= clients - stragglers).count();
            let decodable = rows.iter().filter(|rows| code.decodes(rows)).count();
            assert!(tally.recovered >= enough, "{name}: any M − s complete sums suffice");
            assert_eq!(tally.recovered, decodable, "{name}");
        }
    }
}

#[test]
fn decoded_forms_hold_every_input_once_and_no_key() {
    for clients in 2..=3 {
        for (name, _, config) in every_coded_scheme(clients) {
            let scheme = config.build(clients, Seed::new(1)).unwrap();
            let patterns = patterns(clients, |_, _| true);
            conforms_formally(&name, &*scheme, clients, &patterns);
        }
    }
}

#[test]
fn sums_over_a_field_are_those_of_the_quantised_updates_bit_by_bit() {
    let clients = 4;
    let updates = updates(clients);
    for modulus in [Modulus::M61, Modulus::M31] {
        let quantisation = Some(Quantisation { clip: 2.0, bits: 16, modulus, ..Default::default() });
        let arithmetic = Arithmetic::Field;
        let ideal = uncoded::Ideal { arithmetic, quantisation: quantisation.clone() };
        let ideal = ProtocolConfig::Ideal(ideal).build(clients, Seed::new(1)).unwrap();
        let Decoded::Sum { sum: want, .. } = ideal.aggregate(1, &updates, &Perfect, 1).unwrap().decoded
        else {
            panic!("ideal links never fail")
        };
        // By hand: steps of 2/(2¹⁵ − 1), clipped at 2.
        let step = 2.0 / 32_767.0;
        for (i, want) in want.iter().enumerate() {
            let steps: f64 = updates
                .iter()
                .map(|update| {
                    let exact = update.weight * f64::from(update.delta[i]);
                    (exact.clamp(-2.0, 2.0) / step).round_ties_even()
                })
                .sum();
            assert_eq!(*want, steps * step);
        }
        for (stragglers, decoder) in [(1, DecoderKind::Standard), (2, DecoderKind::GcPlus)] {
            let quantisation = quantisation.clone();
            let config = SecCoGcConfig {
                stragglers: stragglers.into(),
                decoder,
                arithmetic,
                quantisation,
                code: CodeKind::CyclicRandom,
                ..Default::default()
            };
            let scheme = ProtocolConfig::SecCoGc(config).build(clients, Seed::new(1)).unwrap();
            let code = scheme.code().unwrap();
            let patterns = patterns(clients, |from, to| to == clients || code.support(to).contains(&from));
            let mut recovered = 0;
            for links in &patterns {
                if let Decoded::Sum { sum, .. } = scheme.aggregate(1, &updates, links, 1).unwrap().decoded {
                    assert_eq!(sum, want, "lost {:b}", links.lost);
                    recovered += 1;
                }
            }
            assert!(recovered > 0 && recovered < patterns.len());
        }
    }
}

#[test]
fn uncoded_schemes_sum_what_arrives() {
    let clients = 5;
    let patterns = patterns(clients, |_, to| to == clients);
    let (f32, f64) = (Arithmetic::F32, Arithmetic::F64);
    let schemes = [
        ("fedavg", ProtocolConfig::FedAvg(uncoded::FedAvg { arithmetic: f32, ..Default::default() }), 1e-6),
        ("fedavg", ProtocolConfig::FedAvg(uncoded::FedAvg { arithmetic: f64, ..Default::default() }), 1e-12),
        (
            "gaussian",
            ProtocolConfig::Gaussian(uncoded::Gaussian {
                key_std: 0.0,
                arithmetic: f32,
                ..Default::default()
            }),
            1e-6,
        ),
    ];
    for (name, config, tolerance) in schemes {
        let scheme = config.build(clients, Seed::new(1)).unwrap();
        let tally = conforms(name, &*scheme, clients, &patterns, tolerance);
        assert_eq!((tally.recovered, tally.outages), (1, 1), "{name}");
    }
    let ideal = ProtocolConfig::Ideal(uncoded::Ideal { arithmetic: f64, quantisation: None })
        .build(clients, Seed::new(1))
        .unwrap();
    assert_eq!(conforms("ideal", &*ideal, clients, &patterns, 1e-12).recovered, patterns.len());
}

#[test]
fn masks_without_a_code_cancel_only_when_everything_arrives() {
    let clients = 4;
    let config = uncoded::ZeroSum { key_std: 5.0, ..Default::default() };
    let scheme = ProtocolConfig::ZeroSum(config).build(clients, Seed::new(1)).unwrap();
    for links in patterns(clients, |_, to| to == clients) {
        let Decoded::Sum { sum, included, .. } = scheme.views(1, &links, 1).unwrap().decoded else {
            continue;
        };
        let keys: f64 = sum[0]
            .terms()
            .filter(|(u, _)| matches!(u, Unknown::Key(..)))
            .map(|(_, c)| c * c)
            .sum::<f64>()
            .sqrt();
        // n of M fair keys leave the variance σ² n (M − n) / (M − 1).
        let n = included.len() as f64;
        let want = 5.0 * (n * (4.0 - n) / 3.0).sqrt();
        assert!((keys - want).abs() < 1e-9, "{keys} for {want}");
    }
}

#[test]
fn retries_end_with_the_first_success_and_count_all_bytes() {
    struct SecondAttempt;
    impl LinkModel for SecondAttempt {
        fn delivers(&self, link: LinkUse<Node>) -> bool {
            link.attempt >= 1
        }
        fn erasure(&self, _: Node, _: Node, _: u64) -> f64 {
            0.5
        }
    }
    let config = SecCoGcConfig { stragglers: 2.into(), ..Default::default() };
    let scheme = ProtocolConfig::SecCoGc(config).build(4, Seed::new(1)).unwrap();
    let updates = updates(4);
    let once = scheme.aggregate(1, &updates, &SecondAttempt, 1).unwrap();
    assert_eq!((once.decoded, once.attempts), (Decoded::lost(), 1));
    let aggregate = scheme.aggregate(1, &updates, &SecondAttempt, 5).unwrap();
    assert_eq!(aggregate.attempts, 2);
    // A first attempt without any share has no complete sum to upload; shares cost their bytes in both
    // attempts.
    let message = (seccogc::message::HEADER_BYTES + 8 * DIMENSION) as u64;
    assert_eq!(aggregate.traffic.client_client, 2 * 4 * 2 * message);
    assert_eq!(aggregate.traffic.client_server, 4 * message);
    assert_eq!(aggregate.arrivals, 4);
}

/// Half of all transmissions are lost. With thirty of them the masks cancel in every round; a client sends
/// twice on average, and only the upload costs its bytes again.
#[test]
fn lost_uploads_are_sent_again_until_they_arrive() {
    let (clients, rounds) = (8, 100);
    let text = "client_server = { kind = 'bernoulli', erasure = 0.5 }";
    let network: seccogc::network::NetworkConfig = toml::from_str(text).unwrap();
    let links = network.build(clients, rounds, Seed::new(5)).unwrap();
    let config = |transmissions, least_included| {
        let config = uncoded::ZeroSum { transmissions, least_included, ..Default::default() };
        ProtocolConfig::ZeroSum(config).build(clients, Seed::new(1)).unwrap()
    };
    let (updates, scheme) = (updates(clients), config(30, Some(clients)));
    let upload = 26 + 8 * updates[0].delta.len() as u64;
    let mut uploads = 0;
    for round in 1..=rounds {
        let aggregate = scheme.aggregate(round, &updates, &links, 1).unwrap();
        let Decoded::Sum { sum, included, .. } = aggregate.decoded else { panic!("round {round}") };
        assert_eq!(included.len(), clients);
        for (got, want) in sum.iter().zip(sum_over(&updates, &included)) {
            assert!((got - want).abs() < 1e-7, "{got} for {want}");
        }
        assert_eq!(aggregate.traffic.client_server % upload, 0);
        uploads += aggregate.traffic.client_server / upload;
        // The server asks for what did not arrive, with headers alone.
        assert_eq!(aggregate.traffic.server_client, 26 * (aggregate.traffic.client_server / upload - 8));
    }
    // 800 geometric counts of mean 2 and variance 2: 5 standard errors, α = 6·10⁻⁷.
    assert!((uploads as f64 - 1600.0).abs() < 5.0 * 1600f64.sqrt(), "{uploads}");
    let once = config(1, Some(clients));
    let complete = |round| once.aggregate(round, &updates, &links, 1).unwrap().decoded.is_sum();
    assert!((1..=rounds).filter(|&round| complete(round)).count() < 10);
    let error = uncoded::ZeroSum { transmissions: 0, ..Default::default() };
    let error = ProtocolConfig::ZeroSum(error).build(clients, Seed::new(1)).err().unwrap().to_string();
    assert_eq!(error, "transmissions: 0 is out of range; give 1 to 100");
}
