//! Subscriptions, publishes and turns of a whole bus, against a plain list of subscriptions.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(
    init: ringmain_fuzz::routing::keep_the_past(),
    |data: &[u8]| ringmain_fuzz::routing::check(data)
);

#[cfg(not(fuzzing))]
fn main() {}
