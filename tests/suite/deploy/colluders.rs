//! A server that deviates, together with members: what is left of an update when they take off all keys that
//! they know.

use std::collections::BTreeMap;

use seccogc::algebra::grid::{Grid, Public};
use seccogc::algebra::{KeyStream, Symbol};
use seccogc::deploy::roster::{About, Roster};
use seccogc::deploy::statement::Authority;
use seccogc::keys::{KeyKind, KeySource, pairwise_mask};
use seccogc::party::agreement::Secrets;
use seccogc::protocol::uncoded::Upload;
use seccogc::wire::{Form, decode};

use super::rogue::{D, NAMES, Rogue, config, trial};
use super::*;

/// Two of the other three get a share of ann: every two of them together get one.
const SHARED: &str = "kind = \"sec-cogc\"\nkeys = \"pairwise\"\nkey_std = 10.0\nstragglers = 2";

const KEY_STD: f64 = 10.0;

/// The draws that ann has in common with members who give them away; 0 for those of the others.
struct Known(BTreeMap<u16, Secrets>);

impl Known {
    fn of(&self, name: KeyStream) -> Option<&Secrets> {
        self.0.get(&name.a.max(name.b))
    }
}

impl KeySource<f64> for Known {
    fn fill(&self, name: KeyStream, chunk: usize, out: &mut [f64]) {
        match self.of(name) {
            Some(secrets) => KeySource::<f64>::fill(secrets, name, chunk, out),
            None => out.fill(0.0),
        }
    }

    fn noise(&self, name: KeyStream, chunk: usize, out: &mut [<f64 as Symbol>::Draw]) {
        match self.of(name) {
            Some(secrets) => KeySource::<f64>::noise(secrets, name, chunk, out),
            None => out.fill(Symbol::zero()),
        }
    }

    fn coins(&self, name: KeyStream, chunk: usize, out: &mut [u8]) {
        match self.of(name) {
            Some(secrets) => KeySource::<f64>::coins(secrets, name, chunk, out),
            None => out.fill(0),
        }
    }
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// Announces round 1 to ann and to those of the others who are honest; returns what the others know.
fn announce(rogue: &Rogue<'_>, trial: &Trial, colluders: &[&str]) -> Known {
    let pairs: Vec<KeyPair> = NAMES.iter().map(|_| KeyPair::generate().unwrap()).collect();
    let member = |(name, pair): (&&str, &KeyPair)| {
        if colluders.contains(name) {
            rogue.signed(name, 1, |entry| entry.public = Hex(pair.public()))
        } else {
            rogue.entry(name)
        }
    };
    let members: Vec<Signed> = NAMES.iter().zip(&pairs).map(member).collect();
    let announcement = rogue.announcement(1, &members);
    let about = About { run: rogue.run, digest: rogue.digest };
    let authority = Authority::load(&trial.path("pki")).unwrap();
    let known = toml::from_str(&config(trial)).unwrap();
    let roster = Roster::read(&announcement, &members[0], about, &known, &authority).unwrap();
    let public: Vec<[u8; 32]> = roster.members.iter().map(|member| member.public.0).collect();
    rogue.put_models(1);
    for name in NAMES.iter().filter(|name| !colluders.contains(name)) {
        rogue.answer(name, &Order::Round(announcement.clone()));
    }
    let told = (0..).zip(NAMES.iter().zip(&pairs)).filter(|(_, (name, _))| colluders.contains(name));
    Known(told.map(|(k, (_, pair))| (k, pair.agree(k, &public, &roster.context()).unwrap())).collect())
}

/// What ann sends in the clear where her policy allows it.
fn update_of_ann() -> Vec<f64> {
    let trial = trial("kind = \"fedavg\"");
    let rogue = Rogue::start(&trial, &config(&trial));
    let _ann = trial.join("ann");
    announce(&rogue, &trial, &NAMES[1..]);
    let Pulled::Whole(bytes) = rogue.pull_within("seccogc/client/ann/sum/1/1", 20) else {
        panic!("{}", trial.log("ann.log"))
    };
    let form = Form { len: D, members: 4, largest: 1e6 };
    let Upload(update) = decode::<f32, Upload<f32>>(&bytes, &form).unwrap().body;
    update.iter().map(|x| f64::from(*x)).collect()
}

/// What the colluders have of ann's vector when all keys that they know are taken off; up to a factor.
fn left_of_ann(colluders: &[&str]) -> Vec<f64> {
    let trial = trial(SHARED);
    let rogue = Rogue::start(&trial, &config(&trial));
    let honest = NAMES.iter().filter(|name| !colluders.contains(name));
    let _clients: Vec<Process> = honest.map(|name| trial.join(name)).collect();
    let known = announce(&rogue, &trial, colluders);
    let opened = known.0.iter().find_map(|(k, secrets)| {
        let key = format!("seccogc/client/ann/share/1/0/{}", NAMES[usize::from(*k)]);
        match rogue.pull_within(&key, 8) {
            Pulled::Whole(sealed) => secrets.open(0, 0, &sealed),
            _ => None,
        }
    });
    let form = Form { len: D, members: 4, largest: 1e6 };
    let envelope = decode::<f64, CoGcMessage<f64>>(&opened.unwrap(), &form).unwrap();
    let CoGcMessage::Share { vector, .. } = envelope.body else { panic!() };
    let grid = Grid::new(4, KeyKind::Pairwise.stds(4, KEY_STD), false, &Public::default()).unwrap();
    let mask = pairwise_mask::<f64>(0, 4, D, KEY_STD, Some(&grid), 1, &known);
    // The share is a multiple of update and mask; how large a one, the mask tells.
    let scale = product(&vector, &mask) / product(&mask, &mask);
    vector.iter().zip(&mask).map(|(x, mask)| x - scale * mask).collect()
}

#[test]
fn colluders_who_know_all_keys_but_one_learn_what_that_one_allows() {
    let update = update_of_ann();
    // With all keys of ann's the measure finds her update.
    let all = correlation(&left_of_ann(&NAMES[1..]), &update);
    assert!(all > 0.999, "{all}");
    // With those of two, the key that she shares with dan alone is left: σ / √3 a coordinate. Its correlation
    // with anything is 1 / √d on average.
    let two = correlation(&left_of_ann(&NAMES[1..3]), &update);
    let d = D as f64;
    let allowed = product(&update, &update).sqrt() / (KEY_STD * (d / 3.0).sqrt());
    println!("correlation {all:.6} with all keys, {two:.4} without one, which allows {allowed:.4}");
    assert!(two.abs() < allowed + 4.0 / d.sqrt(), "{two}, allowed {allowed}");
}
