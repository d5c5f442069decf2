#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| http_server::fuzzing::http1_head(bytes));
