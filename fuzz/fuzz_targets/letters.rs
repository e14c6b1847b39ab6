//! Dead letters, against plain lists.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::letters::check(data));

#[cfg(not(fuzzing))]
fn main() {}
