//! Attempts at the events of a mailbox, against a list of cells.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::attempts::check(data));

#[cfg(not(fuzzing))]
fn main() {}
