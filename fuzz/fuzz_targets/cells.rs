//! The cells of a mailbox, against a queue a lane.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::cells::check(data));

#[cfg(not(fuzzing))]
fn main() {}
