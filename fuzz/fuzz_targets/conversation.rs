#![no_main]

use libfuzzer_sys::fuzz_target;
use seccogc::deploy::message::{Announcement, Entry, Order, Signed, Welcome, from_hex, from_json, to_hex, to_json, told};
use seccogc::deploy::vote::Ballot;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signed) = from_json::<Signed>(bytes) {
        assert_eq!(from_json::<Signed>(&to_json(&signed)).unwrap(), signed);
    }
    if let Ok(entry) = from_json::<Entry>(bytes) {
        assert_eq!(from_json::<Entry>(&to_json(&entry)).unwrap(), entry);
    }
    if let Ok(announcement) = from_json::<Announcement>(bytes) {
        assert_eq!(from_json::<Announcement>(&to_json(&announcement)).unwrap(), announcement);
    }
    if let Ok(order) = from_json::<Order>(bytes) {
        assert_eq!(from_json::<Order>(&to_json(&order)).unwrap(), order);
    }
    if let Ok(ballots) = from_json::<Vec<Ballot>>(bytes) {
        assert_eq!(from_json::<Vec<Ballot>>(&to_json(&ballots)).unwrap(), ballots);
    }
    let _ = from_json::<Welcome>(bytes);
    let text = String::from_utf8_lossy(bytes);
    if let Some(decoded) = from_hex(&text) {
        assert_eq!(to_hex(&decoded), text.to_lowercase());
    }
    let line = told(&text);
    assert!(line.lines().count() <= 1 && line.len() < 200);
});
