#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use seccogc::deploy::message::{Entry, Hex, Signed};
use seccogc::deploy::roster::{About, entry};
use seccogc::deploy::statement::{Authority, Signer, Topic};
use seccogc::deploy::transport::Identity;
use seccogc::deploy::pki;

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
fuzz_target!(|bytes: &[u8]| {
    let (authority, good) = &*TRIAL;
    let Some((place, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest).into_owned();
    let mut signed = good.clone();
    match place % 4 {
        0 => signed.body = text,
        1 => signed.chain = text,
        2 => signed.signature = text,
        _ => signed.scheme = rest.iter().fold(0, |scheme, byte| scheme << 8 | u16::from(*byte)),
    }
    if let Ok(said) = entry(&signed, ABOUT, authority) {
        assert_eq!((said.name.as_str(), &signed.body), ("ann", &good.body));
    }
});
