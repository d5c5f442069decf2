#![no_main]

use media_core::codec::{aac, avc};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = avc::Config::parse(bytes);
    let _ = aac::Config::parse(bytes);
});
