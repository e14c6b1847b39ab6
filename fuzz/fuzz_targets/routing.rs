//! Subscriptions, publishes and turns of a whole bus, against a plain list of subscriptions.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::routing::check(data));
