//! What `ringmain pipe` promises, kept by the real binary.
#![cfg(feature = "daemon")]
