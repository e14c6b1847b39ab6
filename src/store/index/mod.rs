//! Finding events by what they say: an index a segment of the log, made from it and thrown away with it.
//!
//! ```text
//!   term (aggregate, correlation)  ──►  offsets of records in the segment, oldest first
//!   names (topics, sources)        ──►  how many records have them: whether the segment has to be read at all
//! ```
//!
//! While a segment is appended to, its index is in memory ([`Building`]); when it is sealed, the index is written beside it
//! ([`Sealed`]) and looked up from the file. It holds nothing that the log does not: one that is missing or damaged is made
//! again by reading the segment.

mod building;
mod names;
mod sealed;
mod term;

pub(in crate::store) use building::{Building, TermHash};
pub(in crate::store) use names::Names;
pub(in crate::store) use sealed::Sealed;
pub(in crate::store) use term::Term;

/// Where a record with a term is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Posting {
    /// Its offset in the segment.
    pub(in crate::store) offset: u64,
    /// The version of the aggregate after it; 0 for other terms, `u32::MAX` for that version and all beyond.
    pub(in crate::store) version: u32,
}

#[cfg(test)]
mod tests;
