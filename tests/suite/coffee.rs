//! COFFEE: windows of an exact consensus, and what the server makes of those that arrive, by enumeration.

use std::sync::Arc;

use seccogc::algebra::Unknown;
use seccogc::audit::erasures::Lost;
use seccogc::config::Config;
use seccogc::message::HEADER_BYTES;
use seccogc::network::Perfect;
use seccogc::protocol::coffee::{Averaging, Step, consensus, weights};
use seccogc::protocol::{Aggregator, Decoded, PartyId, ProtocolConfig, Update};
use seccogc::seed::Seed;
use seccogc::train::Setting;

const X: [f64; 4] = [1.0, 2.0, 4.0, 9.0];

fn scheme(clients: usize, text: &str) -> Box<dyn Aggregator> {
    let config: ProtocolConfig =
        toml::from_str(&format!("kind = 'coffee'\narithmetic = 'f64'\n{text}")).unwrap();
    config.build(clients, Seed::new(1)).unwrap()
}

fn updates(x: &[f64]) -> Vec<Update> {
    x.iter().map(|&x| Update { weight: 1.0, delta: Arc::new(vec![x as f32]) }).collect()
}

fn losing(uses: impl IntoIterator<Item = (u8, PartyId, PartyId)>) -> Lost {
    Lost(uses.into_iter().map(|(transfer, from, to)| (0, transfer, from, to)).collect())
}

/// The estimate of the mean when the uploads of `arrived` (a set of bits) are all that arrives.
fn estimate(scheme: &dyn Aggregator, x: &[f64], arrived: u32) -> Option<f64> {
    let missing = (0..x.len() as u16).filter(|k| arrived >> k & 1 == 0);
    let links = losing(missing.map(|k| (0, PartyId::Client(k), PartyId::Server)));
    match scheme.aggregate(1, &updates(x), &links, 1).unwrap().decoded {
        Decoded::Estimate { sum, .. } => Some(sum[0] / x.len() as f64),
        Decoded::Outage(_) => None,
        Decoded::Sum { .. } => panic!("an estimate is no sum"),
    }
}

/// Mean and variance of the estimate, given that anything arrives over links that deliver with these
/// probabilities.
fn law(text: &str, delivers: [f64; 4]) -> (f64, f64) {
    let scheme = scheme(4, text);
    let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
    for arrived in 0..16u32 {
        let of = |k: usize| if arrived >> k & 1 == 1 { delivers[k] } else { 1.0 - delivers[k] };
        let chance: f64 = (0..4).map(of).product();
        let Some(estimate) = estimate(&*scheme, &X, arrived) else {
            assert_eq!(arrived, 0, "an outage if and only if nothing arrives");
            continue;
        };
        total += chance;
        first += chance * estimate;
        second += chance * estimate * estimate;
    }
    let mean = first / total;
    (mean, second / total - mean * mean)
}

/// x = (1, 2, 4, 9) with the mean 4. For L = 0 and p = ½ a sum over n of four has the variance 9.5
/// (4−n)/(3n), so that of the estimate is (4/16 · 9.5 + 6/16 · 9.5/3 + 4/16 · 9.5/9)/(15/16) = 4.081481.
#[test]
fn means_and_variances_of_the_example() {
    let half = [0.5; 4];
    for (text, variance) in [
        ("steps = 0", 4.081_481),
        ("steps = 1", 1.557_407),
        ("steps = 2", 0.0),
        ("steps = 1\nserver = 'adaptive'", 1.45),
    ] {
        let (mean, got) = law(text, half);
        assert!((mean - 4.0).abs() < 1e-12 && (got - variance).abs() < 5e-7, "{text}: {mean} {got}");
    }
    // τ − 1 = 1 is the default.
    assert_eq!(law("", half), law("steps = 1", half));
    let unequal = [0.9, 0.9, 0.5, 0.1];
    for (text, want) in [
        ("steps = 0", 2.191_863),
        ("steps = 1", 3.308_890),
        ("steps = 1\nserver = 'adaptive'", 3.598_192),
        ("steps = 2", 4.0),
    ] {
        let (mean, _) = law(text, unequal);
        assert!((mean - want).abs() < 5e-7, "{text}: {mean}");
    }
}

#[test]
fn equal_chances_give_the_mean_for_every_number_of_steps() {
    let x: Vec<f64> = (0..6).map(|k| f64::from(k * k)).collect();
    let want = x.iter().sum::<f64>() / 6.0;
    for steps in 0..=3 {
        let scheme = scheme(6, &format!("steps = {steps}"));
        let (mut total, mut mean) = (0.0, 0.0);
        for arrived in 1..64u32 {
            let chance =
                0.3f64.powi(arrived.count_ones() as i32) * 0.7f64.powi(arrived.count_zeros() as i32 - 26);
            total += chance;
            mean += chance * estimate(&*scheme, &x, arrived).unwrap();
        }
        assert!((mean / total - want).abs() < 1e-12, "L = {steps}: {}", mean / total);
    }
}

/// The clients in what each uploads, as bits, client 1 the lowest.
fn windows(scheme: &dyn Aggregator, links: &Lost) -> Vec<u32> {
    let views = scheme.views(1, links, 1).unwrap();
    let uploads = views.messages.iter().filter(|message| message.link.to == PartyId::Server);
    uploads
        .map(|message| {
            let [form] = &message.forms[..] else { panic!("one coordinate") };
            form.terms().fold(0, |set, (unknown, c)| match unknown {
                Unknown::Input(k, 0) if c == 1.0 => set | 1 << k,
                _ => panic!("{unknown} has {c}"),
            })
        })
        .collect()
}

#[test]
fn every_client_has_every_update_once_after_the_last_step() {
    // 5: bits 100 of 4, W = 0, 1, 2, 4. 10: bits 1001 of 9, W = 0, 1, 2, 4, 9.
    let step = |distance, own| Step { distance, own };
    assert_eq!(consensus(5), [step(1, true), step(1, false), step(2, false)]);
    assert_eq!(consensus(10), [step(1, true), step(1, false), step(2, false), step(5, true)]);
    assert_eq!(consensus(1), []);
    for clients in 2..=40usize {
        let mut window = 0;
        for (taken, Step { distance, own }) in consensus(clients).into_iter().enumerate() {
            assert_eq!(distance, window + usize::from(own));
            window += distance;
            if clients <= 12 {
                let scheme = scheme(clients, &format!("steps = {}", taken + 1));
                for (i, got) in windows(&*scheme, &Lost::default()).into_iter().enumerate() {
                    let want: u32 = (0..=window).map(|back| 1 << ((i + clients - back) % clients)).sum();
                    assert_eq!(got, want, "client {i} of {clients} after step {}", taken + 1);
                }
            }
        }
        assert_eq!(window, clients - 1);
    }
}

#[test]
fn a_lost_message_adds_nothing() {
    // M = 4, L = 2: message 1 → 2 of the first step is lost.
    let lost = losing([(0, PartyId::Client(0), PartyId::Client(1))]);
    let scheme_of = |server: &str| scheme(4, &format!("steps = 2\nserver = '{server}'"));
    assert_eq!(windows(&*scheme_of("mean"), &lost), [0b1111, 0b1110, 0b1111, 0b1110]);
    // Every pattern of the eight messages: no window holds an update twice, as `windows` checks.
    let distances = [1, 2];
    let uses: Vec<(u8, PartyId, PartyId)> = (0..8u16)
        .map(|i| {
            let (k, t) = (i % 4, i / 4);
            (t as u8, PartyId::Client(k), PartyId::Client((k + distances[usize::from(t)]) % 4))
        })
        .collect();
    for choice in 0..256 {
        let lost = losing((0..8).filter(|i| choice >> i & 1 == 1).map(|i| uses[i]));
        let windows = windows(&*scheme_of("mean"), &lost);
        assert!(windows.iter().enumerate().all(|(k, set)| set >> k & 1 == 1), "{choice:b}: {windows:?}");
    }
    // A window of three counts as three: (16/4 + 15/3)/2 and, adaptive, 16/4 alone, which is exact.
    let only = |server: &str| {
        let mut lost = lost.clone();
        lost.0.extend([2, 3].map(|k| (0, 0, PartyId::Client(k), PartyId::Server)));
        match scheme_of(server).aggregate(1, &updates(&X), &lost, 1).unwrap().decoded {
            Decoded::Estimate { sum, included } => (sum[0] / 4.0, included),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(only("mean"), (4.5, vec![0, 1, 2, 3]));
    assert!((only("adaptive").0 - 4.0).abs() < 1e-12);
}

#[test]
fn adaptive_weights_by_hand() {
    let sets = |sets: &[u32]| -> Vec<Vec<bool>> {
        sets.iter().map(|set| (0..4).map(|k| set >> k & 1 == 1).collect()).collect()
    };
    let of = |of: &[u32]| {
        let sets = sets(of);
        weights(Averaging::Adaptive, &sets.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let near = |got: Vec<f64>, want: &[f64]| {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?} for {want:?}");
        assert_eq!(got.len(), want.len());
    };
    // Disjoint windows: 1/4 each is exact. Twice the same: half each.
    near(of(&[0b0011, 0b1100]), &[0.25, 0.25]);
    near(of(&[0b0011, 0b0011, 0b1100]), &[0.125, 0.125, 0.25]);
    // {1,2} and {2,3}: v (2, 1; 1, 2) = (2, 2)/4, and then v · 4 = 1: equal weights.
    near(of(&[0b0011, 0b0110]), &[0.25, 0.25]);
    // {1,2,3}, {3}: v₁ (3, 1) + v₂ (1, 1) = (3, 1)/4 gives (1/4, 0) and, scaled to the sum of 1, (1/3, 0).
    near(of(&[0b0111, 0b0100]), &[1.0 / 3.0, 0.0]);
    // {1,2}, {2}, {3}: v₁ = v₃ = 1/4, v₂ = 0, scaled by 4/3.
    near(of(&[0b0011, 0b0010, 0b0100]), &[1.0 / 3.0, 0.0, 1.0 / 3.0]);
}

#[test]
fn what_is_sent() {
    let played = scheme(10, "").aggregate(1, &updates(&[1.0; 10]), &Perfect, 1).unwrap();
    // τ − 1 = 3 steps of ten messages; a window is a list of ten bits and a number.
    let message = HEADER_BYTES as u64 + 2 + 8;
    assert_eq!((played.traffic.client_client, played.traffic.client_server), (30 * message, 10 * message));
    // Three clients, M − 1 = 10 in bits: the second step sends E, and who has none sends nothing.
    let lost = losing([(0, PartyId::Client(0), PartyId::Client(1))]);
    let played = scheme(3, "steps = 2").aggregate(1, &updates(&[1.0; 3]), &lost, 1).unwrap();
    assert_eq!(played.traffic.client_client, 5 * (HEADER_BYTES as u64 + 1 + 8));
}

#[test]
fn what_does_not_go_is_refused_in_one_line() {
    let refused = |clients: usize, text: &str| {
        let config: ProtocolConfig = toml::from_str(&format!("kind = 'coffee'\n{text}")).unwrap();
        config.build(clients, Seed::new(1)).err().unwrap().to_string()
    };
    assert_eq!(
        refused(10, "steps = 5"),
        "steps: 5 is out of range; 10 clients have the sum after 4; give 0 to 4"
    );
    assert_eq!(
        refused(10, "arithmetic = 'field'"),
        "arithmetic: an average is no element of a field; take \"f32\" or \"f64\""
    );
    assert!(refused(2049, "").starts_with("kind: every message lists the clients in its window"));
    // Control vectors keep Σ w c_k = c W only under sums.
    let setting = |solver: &str| {
        let text = format!(
            "rounds = 2\nclients = 4\ndata = {{ name = \"mnist-subset\" }}\nmodel = {{ kind = \"softmax\" }}\n\
             privacy = {{ measure = false }}\nsolver = {{ kind = \"{solver}\", steps = 1 }}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        Setting::build(&config, "cpu".parse().unwrap()).unwrap()
    };
    let coffee: ProtocolConfig = toml::from_str("kind = 'coffee'").unwrap();
    for solver in ["scaffold", "feddyn"] {
        let line = setting(solver).run(&coffee).err().unwrap().to_string();
        assert_eq!(
            line,
            format!(
                "protocol.kind: coffee estimates the sum of what clients send, which would unbalance the control vectors of {solver}; \
                 take another solver or protocol"
            )
        );
    }
    let setting = setting("sgd");
    let run = setting.run(&coffee).unwrap();
    let rows: Vec<_> = run.rounds().map(Result::unwrap).collect();
    assert!(rows.iter().all(|row| row.outcome == seccogc::record::Outcome::Estimate), "{rows:?}");
    // Nothing is lost and the averages of all windows are the mean, to single precision.
    assert!(rows.iter().all(|row| row.recovery_error.unwrap() < 1e-5), "{rows:?}");
}
