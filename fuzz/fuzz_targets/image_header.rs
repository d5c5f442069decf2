#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transcoder::fuzzing::image_header(bytes));
