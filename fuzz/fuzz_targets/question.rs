#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    seccogc_fuzz::question(bytes);
});
