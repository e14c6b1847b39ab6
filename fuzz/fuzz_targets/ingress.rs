//! Arbitrary bytes as a line of `ringmain pipe`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::ingress::check(data));

#[cfg(not(fuzzing))]
fn main() {}
