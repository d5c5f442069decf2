#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| http_server::fuzzing::quic_unidirectional(bytes));
