//! Publishers and workers on the lanes, against a queue a worker and lane.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::lanes::check(data));

#[cfg(not(fuzzing))]
fn main() {}
