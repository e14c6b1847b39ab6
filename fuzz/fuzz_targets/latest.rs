//! The newest event of each key, against a list of keys and four lines.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::latest::check(data));
