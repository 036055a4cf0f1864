#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use seccogc::party::agreement::{KeyPair, Secrets};

static SECRETS: LazyLock<Secrets> = LazyLock::new(|| {
    let pairs = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    pairs[0].agree(0, &[pairs[0].public(), pairs[1].public()], b"fuzz").unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    for peer in 0..3 {
        assert!(SECRETS.open(peer, 0, bytes).is_none());
    }
});
