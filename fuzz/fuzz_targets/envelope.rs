#![no_main]

use libfuzzer_sys::fuzz_target;
use seccogc::algebra::field::{M31, M61};
use seccogc::protocol::cogc::CoGcMessage;
use seccogc::protocol::groupwise::Seeds;
use seccogc::protocol::sec_agg::{Cryptographic, SecAggMessage};
use seccogc::protocol::two_round::{Symbols, TwoRoundMessage};
use seccogc::protocol::uncoded::Upload;
use seccogc::wire::{Form, Wire, WireSymbol, decode, encode};

/// What is accepted has one form only.
fn check<S: WireSymbol, M: Wire<S>>(bytes: &[u8], form: &Form) {
    if let Ok(envelope) = decode::<S, M>(bytes, form) {
        assert_eq!(encode::<S, M>(&envelope), bytes);
    }
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (len, members, bytes) = input;
    let form = Form { len: len.into(), members: members.into(), largest: 1e6 };
    check::<f32, Upload<f32>>(bytes, &form);
    check::<f64, CoGcMessage<f64>>(bytes, &form);
    check::<f32, CoGcMessage<f32>>(bytes, &form);
    check::<M61, CoGcMessage<M61>>(bytes, &form);
    check::<M31, CoGcMessage<M31>>(bytes, &form);
    check::<M61, TwoRoundMessage<M61, Symbols<M61>>>(bytes, &form);
    check::<M31, TwoRoundMessage<M31, Symbols<M31>, Seeds>>(bytes, &form);
    check::<M61, SecAggMessage<M61, Cryptographic>>(bytes, &form);
});
