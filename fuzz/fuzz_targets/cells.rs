//! The cells of a mailbox, against a queue a lane.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringmain_fuzz::cells::check(data));
