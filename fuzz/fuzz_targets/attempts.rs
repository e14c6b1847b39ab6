//! Attempts at the events of a mailbox, against a list of cells.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::attempts::check(data));
