//! Frames out of arbitrary bytes, against a reader of the fuzz target's own.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::frames::check(data));

#[cfg(not(fuzzing))]
fn main() {}
