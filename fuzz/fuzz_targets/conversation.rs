#![no_main]

use libfuzzer_sys::fuzz_target;
use seccogc::deploy::message::{Order, Ready, Welcome, from_json, to_json};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ready) = from_json::<Ready>(bytes) {
        assert_eq!(from_json::<Ready>(&to_json(&ready)).unwrap(), ready);
    }
    if let Ok(order) = from_json::<Order>(bytes) {
        assert_eq!(from_json::<Order>(&to_json(&order)).unwrap(), order);
    }
    let _ = from_json::<Welcome>(bytes);
});
