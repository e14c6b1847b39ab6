//! Opening what a disk has left of a log, a table or a store.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::recovery::check(data));
