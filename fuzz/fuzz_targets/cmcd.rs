#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| origin_http::fuzzing::cmcd(bytes));
