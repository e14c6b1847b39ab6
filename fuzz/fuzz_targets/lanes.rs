//! Publishers and workers on the lanes, against a queue a worker and lane.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::lanes::check(data));
