//! Pattern parsing and matching against an oracle.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::patterns::check(data));

#[cfg(not(fuzzing))]
fn main() {}
