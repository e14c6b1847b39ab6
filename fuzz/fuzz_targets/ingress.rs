//! Arbitrary bytes as a line of `ringmain pipe`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::ingress::check(data));
