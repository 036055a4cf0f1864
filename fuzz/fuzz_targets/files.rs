#![no_main]

use libfuzzer_sys::fuzz_target;
use seccogc::deploy::ledger::Ledger;
use seccogc::deploy::policy::Policy;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = Policy::parse(&text) {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
    let _ = Ledger::parse(bytes);
});
