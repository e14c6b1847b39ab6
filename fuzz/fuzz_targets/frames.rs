//! Frames out of arbitrary bytes, against a reader of the fuzz target's own.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::frames::check(data));
