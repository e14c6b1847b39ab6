//! Routing: who wants this event.
//!
//! A subscription says what it wants as a [`Pattern`] over topic names. `pattern` holds the grammar and the matcher
//! of one pattern; `trie` answers the question the other way round, which of many patterns match one name; `filter` holds
//! the conditions beyond the name; `table` is what a worker looks an event up in.

#![forbid(unsafe_code)]

mod filter;
mod pattern;
mod table;
mod trie;

pub use filter::Filter;
pub use pattern::{Pattern, PatternError};

pub(crate) use filter::{CompiledFilter, Refusal};
pub(crate) use table::Table;
pub(crate) use trie::PatternTrie;
