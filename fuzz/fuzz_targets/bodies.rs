//! Archives out of arbitrary bytes and broken valid ones, through the readers of a bus.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::bodies::check(data));
