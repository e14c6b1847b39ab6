//! Stores: every one passes the same tests.

mod conformance;
mod memory;
