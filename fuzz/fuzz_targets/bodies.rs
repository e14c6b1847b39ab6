//! Archives out of arbitrary bytes and broken valid ones, through the readers of a bus.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::bodies::check(data));

#[cfg(not(fuzzing))]
fn main() {}
