//! Known answers for the leakage of SecCoGC: nats per coordinate, x_k ~ N(0, 1), M = 10, s = 7, the cyclic
//! MDS code, no message lost. Constructions are compared at equal total key power Mσ².

use seccogc::algebra::{LinearForm, Unknown};
use seccogc::coding::CodeKind;
use seccogc::keys::KeyKind;
use seccogc::network::Perfect;
use seccogc::privacy::{Leakage, lmip};
use seccogc::protocol::cogc::SecCoGcConfig;
use seccogc::protocol::{PartyId, ProtocolConfig, Views};
use seccogc::seed::Seed;

const M: usize = 10;

fn views(keys: KeyKind, std: f64) -> Views {
    let power = M as f64 * std * std;
    let key_std = std * (power / keys.total_power(M, std)).sqrt();
    let config = SecCoGcConfig {
        keys: keys.into(),
        key_std,
        code: CodeKind::CyclicMds,
        stragglers: 7.into(),
        ..Default::default()
    };
    ProtocolConfig::SecCoGc(config).build(M, Seed::new(1)).unwrap().views(1, &Perfect, 1).unwrap()
}

fn range(values: &[f64]) -> (f64, f64) {
    (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max))
}

fn assert_range(name: &str, values: &[f64], want: (f64, f64)) {
    let got = range(values);
    // The references have four to five significant digits.
    let close = |got: f64, want: f64| (got - want).abs() <= 5e-4 * want;
    assert!(close(got.0, want.0) && close(got.1, want.1), "{name}: {got:?} for {want:?}");
}

#[test]
fn leakage_of_one_round_has_the_reference_values() {
    let all = |x| (x, x);
    let table = [
        (KeyKind::Fair, 1.0, all(0.3466), all(0.3676), all(0.10829)),
        (KeyKind::Fair, 10.0, all(0.004975), all(0.006647), all(0.053672)),
        (KeyKind::Plain, 1.0, (0.09116, 0.5148), (0.134, 0.5669), (0.09619, 0.12645)),
        (KeyKind::Plain, 10.0, (0.000999, 0.00892), (0.004255, 0.0131), (0.05334, 0.05452)),
    ];
    for (keys, std, link, neighbour, server) in table {
        let leakage = Leakage::of(&views(keys, std), &[1.0; M]).unwrap();
        assert_range(&format!("{keys:?} {std} link"), &leakage.link, link);
        assert_range(&format!("{keys:?} {std} neighbour"), &leakage.neighbour, neighbour);
        assert_range(&format!("{keys:?} {std} server"), &leakage.server, server);
    }
}

#[test]
fn leakage_to_the_server_with_two_clients_has_the_reference_values() {
    let table = [
        (KeyKind::Fair, 1.0, 0.38769),
        (KeyKind::Fair, 10.0, 0.071246),
        (KeyKind::Plain, 1.0, 0.58158),
        (KeyKind::Plain, 10.0, 0.075686),
    ];
    for (keys, std, want) in table {
        let views = views(keys, std);
        let coalition = [PartyId::Server, PartyId::Client(8), PartyId::Client(9)];
        let mut view: Vec<LinearForm> = views
            .messages
            .iter()
            .filter(|message| coalition.contains(&message.link.to))
            .flat_map(|message| message.forms.clone())
            .collect();
        view.extend([8, 9].map(|k| LinearForm::unknown(Unknown::Input(k, 0))));
        for (id, forms) in &views.keys {
            if coalition.contains(id) {
                view.extend(forms.iter().cloned());
            }
        }
        let leak = lmip(&view, &[1.0; M]).unwrap();
        assert_range(&format!("{keys:?} {std}"), &leak[..8], (want, want));
        assert!(leak[8].is_infinite() && leak[9].is_infinite(), "the colluders know their own updates");
    }
}

#[test]
fn strong_keys_leave_the_server_the_floor_and_the_others_nothing() {
    let leakage = Leakage::of(&views(KeyKind::Fair, 1e6), &[1.0; M]).unwrap();
    let floor = Leakage::floor(M);
    assert!((floor - 0.05268).abs() < 5e-6);
    for k in 0..M {
        assert!((leakage.server[k] - floor).abs() < 1e-6, "{}", leakage.server[k]);
        assert!(leakage.link[k] < 1e-11 && leakage.neighbour[k] < 1e-11);
    }
}

#[test]
fn without_keys_everybody_who_receives_a_share_knows_the_update() {
    let config = seccogc::protocol::cogc::CoGcConfig::default();
    let views = ProtocolConfig::CoGc(config).build(M, Seed::new(1)).unwrap().views(1, &Perfect, 1).unwrap();
    let leakage = Leakage::of(&views, &[1.0; M]).unwrap();
    assert!(leakage.link.iter().chain(&leakage.neighbour).all(|leak| leak.is_infinite()));
}

#[test]
fn a_link_key_protects_the_link_beyond_the_mask() {
    let leak = |link_key_std| {
        let config = SecCoGcConfig { key_std: 1.0, link_key_std, stragglers: 7.into(), ..Default::default() };
        let views =
            ProtocolConfig::SecCoGc(config).build(M, Seed::new(1)).unwrap().views(1, &Perfect, 1).unwrap();
        Leakage::of(&views, &[1.0; M]).unwrap()
    };
    let (without, with) = (leak(0.0), leak(10.0));
    assert!(range(&with.link).1 < 0.1 * range(&without.link).1, "{:?} {:?}", with.link, without.link);
    assert!(
        (range(&with.server).1 - range(&without.server).1).abs() < 1e-9,
        "complete sums carry no link key"
    );
}
