//! Routing: who wants this event.
//!
//! A subscription says what it wants as a [`Pattern`] over topic names. `pattern` holds the grammar and the matcher
//! of one pattern; `trie` answers the question the other way round, which of many patterns match one name.

#![forbid(unsafe_code)]

mod pattern;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "its caller, the routing table, is laid next")
)]
mod trie;

pub use pattern::{Pattern, PatternError};
