//! Opening what a disk has left of a log, a table or a store.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::recovery::check(data));

#[cfg(not(fuzzing))]
fn main() {}
