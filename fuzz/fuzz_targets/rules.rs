//! Rules, targets and services of a whole bus, against rules evaluated by hand.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::rules::check(data));

#[cfg(not(fuzzing))]
fn main() {}
