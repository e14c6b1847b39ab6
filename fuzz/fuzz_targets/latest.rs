//! The newest event of each key, against a list of keys and four lines.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::latest::check(data));

#[cfg(not(fuzzing))]
fn main() {}
