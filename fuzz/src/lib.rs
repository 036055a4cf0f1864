//! What the fuzz targets do with their input. `tests/suite/seeds.rs` does the same with the seeds, without a fuzzer.

use std::fmt::Debug;
use std::sync::LazyLock;

use seccogc::algebra::field::{M31, M61};
use seccogc::config::Config;
use seccogc::deploy::ledger::Ledger;
use seccogc::deploy::message::{
    Announcement, Entry, Hex, Order, Signed, Welcome, from_hex, from_json, to_hex, to_json, told,
};
use seccogc::deploy::page::{Status, respond};
use seccogc::deploy::pki;
use seccogc::deploy::policy::Policy;
use seccogc::deploy::roster::{About, entry};
use seccogc::deploy::server;
use seccogc::deploy::shelf;
use seccogc::deploy::statement::{Authority, Signer, Topic};
use seccogc::deploy::transport::Identity;
use seccogc::deploy::vote::Ballot;
use seccogc::party::agreement::{KeyPair, Secrets};
use seccogc::protocol::ProtocolConfig;
use seccogc::protocol::cogc::CoGcMessage;
use seccogc::protocol::groupwise::Seeds;
use seccogc::protocol::sec_agg::{Cryptographic, SecAggMessage};
use seccogc::protocol::two_round::{Symbols, TwoRoundMessage};
use seccogc::protocol::uncoded::Upload;
use seccogc::wire::{Form, Wire, WireSymbol, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Takes any bytes, and says whether it accepted them as something; panics where that is wrong.
pub type Target = fn(&[u8]) -> bool;

/// The targets by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("envelope", envelope),
    ("conversation", conversation),
    ("configuration", configuration),
    ("statement", statement),
    ("files", files),
    ("page", page),
    ("question", question),
    ("seal", seal),
];

/// What is accepted has one form only.
fn check<S: WireSymbol, M: Wire<S>>(bytes: &[u8], form: &Form) -> bool {
    let Ok(envelope) = decode::<S, M>(bytes, form) else { return false };
    assert_eq!(encode::<S, M>(&envelope), bytes);
    true
}

/// Length of a vector, number of clients, and an envelope.
pub fn envelope(bytes: &[u8]) -> bool {
    let [len, members, bytes @ ..] = bytes else { return false };
    let form = Form { len: (*len).into(), members: (*members).into(), largest: 1e6 };
    let schemes = [
        check::<f32, Upload<f32>>,
        check::<f64, CoGcMessage<f64>>,
        check::<f32, CoGcMessage<f32>>,
        check::<M61, CoGcMessage<M61>>,
        check::<M31, CoGcMessage<M31>>,
        check::<M61, TwoRoundMessage<M61, Symbols<M61>>>,
        check::<M31, TwoRoundMessage<M31, Symbols<M31>, Seeds>>,
        check::<M61, SecAggMessage<M61, Cryptographic>>,
    ];
    schemes.map(|check: fn(&[u8], &Form) -> bool| check(bytes, &form)).contains(&true)
}

/// What is read comes back.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(message) = from_json::<T>(bytes) else { return false };
    assert_eq!(from_json::<T>(&to_json(&message)).unwrap(), message);
    true
}

/// A small message in JSON.
pub fn conversation(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    if let Some(decoded) = from_hex(&text) {
        assert_eq!(to_hex(&decoded), text.to_lowercase());
    }
    let line = told(&text);
    assert!(line.lines().count() <= 1 && line.len() < 200);
    let messages = [
        comes_back::<Signed>,
        comes_back::<Entry>,
        comes_back::<Announcement>,
        comes_back::<Order>,
        comes_back::<Vec<Ballot>>,
        comes_back::<Welcome>,
    ];
    messages.map(|comes_back: fn(&[u8]) -> bool| comes_back(bytes)).contains(&true)
}

/// A policy that leaves it to the checks of a configuration whether it can be played.
static LENIENT: LazyLock<Policy> = LazyLock::new(|| {
    let protocols = ProtocolConfig::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    Policy { protocols, colluders: 0, trusted_seed: true, least_key_ratio: 0.0, ..Policy::default() }
});

/// What a client does with the configuration of a welcome before it trains: it is played, or refused.
pub fn configuration(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(config) = toml::from_str::<Config>(&text) else { return false };
    let checked = config
        .check()
        .and_then(|()| LENIENT.run(&config))
        .and_then(|()| server::check(&config))
        .and_then(|()| LENIENT.work(&config, [1, 28, 28], 10, 100));
    if checked.is_err() {
        return false;
    }
    // It travels in the same form, and what bounds an update does so.
    let text = config.to_toml().unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap().to_toml().unwrap(), text);
    assert!(config.solver.solver().clip_norm().is_none_or(|clip| clip > 0.0 && clip.is_finite()));
    true
}

/// A policy or a ledger.
pub fn files(bytes: &[u8]) -> bool {
    let policy = Policy::parse(&String::from_utf8_lossy(bytes)).map(drop);
    let ledger = Ledger::parse(bytes).map(drop);
    let accepted = policy.is_ok() || ledger.is_ok();
    for line in [policy, ledger].into_iter().filter_map(Result::err) {
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    accepted
}

/// A request to the server's page: one answer, as long as it says, with no line of the reader's in its head.
pub fn page(bytes: &[u8]) -> bool {
    let answer = respond(bytes, &["localhost".into()], Status::default);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!((length.parse(), head.lines().count()), (Ok(body.len()), 6), "{head}");
    answer.starts_with("HTTP/1.1 200 OK\r\n")
}

static MESSAGE: [u8; 255 << 11] = [0; 255 << 11];

/// The length of a message, and the parameters of a question for a piece of it.
pub fn question(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first() else { return false };
    let message = &MESSAGE[..usize::from(*length) << 11];
    let piece = shelf::piece(message, &String::from_utf8_lossy(rest));
    assert!(piece.len() <= message.len().min(256 << 10));
    !piece.is_empty()
}

static SECRETS: LazyLock<Secrets> = LazyLock::new(|| {
    let pairs = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    pairs[0].agree(0, &[pairs[0].public(), pairs[1].public()], b"fuzz").unwrap()
});

/// A sealed share from a peer that does not know the secret.
pub fn seal(bytes: &[u8]) -> bool {
    for peer in 0..3 {
        assert!(SECRETS.open(peer, 0, bytes).is_none());
    }
    false
}

const ABOUT: About = About { run: Hex([1; 32]), digest: Hex([2; 32]) };

/// An authority, and a statement that it vouches for.
static TRIAL: LazyLock<(Authority, Signed)> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("seccogc-fuzz-{}", std::process::id()));
    let pki = folder.join("pki");
    std::fs::create_dir_all(&folder).unwrap();
    pki::init(&pki, &[]).unwrap();
    pki::issue(&pki, "ann", &[], 30).unwrap();
    let About { run, digest } = ABOUT;
    let (nonce, public) = (Hex([3; 32]), Hex([4; 32]));
    let said = Entry { run, digest, round: 1, nonce, name: "ann".into(), public, examples: 1 };
    let signer = Signer::load(&Identity { folder: &pki, name: "ann" }).unwrap();
    let trial = (Authority::load(&pki).unwrap(), signer.sign(Topic::Entry, &said).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    trial
});

/// The first byte says what of a good statement the others replace: nothing else may pass.
pub fn statement(bytes: &[u8]) -> bool {
    let (authority, good) = &*TRIAL;
    let Some((place, rest)) = bytes.split_first() else { return false };
    let text = String::from_utf8_lossy(rest).into_owned();
    let mut signed = good.clone();
    match place % 4 {
        0 => signed.body = text,
        1 => signed.chain = text,
        2 => signed.signature = text,
        _ => signed.scheme = rest.iter().fold(0, |scheme, byte| scheme << 8 | u16::from(*byte)),
    }
    let Ok(said) = entry(&signed, ABOUT, authority) else { return false };
    assert_eq!((said.name.as_str(), &signed.body), ("ann", &good.body));
    true
}
