//! Rules, targets and services of a whole bus, against rules evaluated by hand.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::rules::check(data));
