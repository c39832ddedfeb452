#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deval_manifest::fuzz::manifest(bytes));
