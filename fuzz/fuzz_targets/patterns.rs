//! Pattern parsing and matching against an oracle.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::patterns::check(data));
