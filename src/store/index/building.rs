//! The index of a segment that is appended to, in memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::Meta;

use super::{Names, Posting, Term};

/// Records begin at multiples of so many bytes, and so an offset of a segment of 4 GiB and more fits in 32 bits.
pub(super) const OFFSET_UNIT: u64 = 16;

/// One term of one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) term: Term,
    /// In units of [`OFFSET_UNIT`].
    pub(super) offset: u32,
    pub(super) version: u32,
    /// The entry before it with this term, counted from 1; 0 = there is none.
    previous: u32,
}

impl Entry {
    pub(super) fn posting(&self) -> Posting {
        Posting { offset: u64::from(self.offset) * OFFSET_UNIT, version: self.version }
    }
}

/// An index that grows with its segment.
///
/// # Cost
/// 24 bytes an entry and some 32 a term; an event has up to two terms.
#[derive(Debug, Default)]
pub(in crate::store) struct Building {
    entries: Vec<Entry>,
    /// The last entry of each term, counted from 1.
    last: HashMap<Term, u32, TermHash>,
    pub(super) topics: Names,
    pub(super) sources: Names,
}

impl Building {
    /// Takes up the record at an offset, which is behind those before.
    pub(in crate::store) fn add(&mut self, offset: u64, meta: &Meta<'_>) {
        if let Some(aggregate) = meta.aggregate() {
            let version = u32::try_from(aggregate.version).unwrap_or(u32::MAX);
            self.add_term(Term::aggregate(aggregate.kind, aggregate.id), offset, version);
        }
        if let Some(correlation) = meta.correlation() {
            self.add_term(Term::correlation(correlation), offset, 0);
        }
        self.topics.add(meta.topic());
        self.sources.add(meta.source());
    }

    pub(super) fn add_term(&mut self, term: Term, offset: u64, version: u32) {
        debug_assert!(offset.is_multiple_of(OFFSET_UNIT) && offset / OFFSET_UNIT <= u64::from(u32::MAX));
        // Fewer than 2^32: each has a record of at least 64 bytes in a segment of at most 4 GiB, and two terms.
        let number = self.entries.len() as u32 + 1;
        let previous = self.last.insert(term, number).unwrap_or(0);
        self.entries.push(Entry { term, offset: (offset / OFFSET_UNIT) as u32, version, previous });
    }

    /// Where records with this term are, oldest first.
    pub(in crate::store) fn find(&self, term: Term) -> Vec<Posting> {
        let mut found: Vec<Posting> = self.newest_first(term).map(Entry::posting).collect();
        found.reverse();
        found
    }

    fn newest_first(&self, term: Term) -> impl Iterator<Item = &Entry> {
        let at = |number: u32| self.entries.get((number as usize).checked_sub(1)?);
        std::iter::successors(self.last.get(&term).and_then(|last| at(*last)), move |entry| at(entry.previous))
    }

    pub(in crate::store) fn topics(&self) -> &Names {
        &self.topics
    }

    pub(in crate::store) fn sources(&self) -> &Names {
        &self.sources
    }

    /// All entries by term, and by offset within one.
    pub(super) fn sorted(&self) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        entries.sort_unstable_by_key(|entry| (entry.term, entry.offset));
        entries
    }
}

/// Terms are hashes already.
pub(in crate::store) type TermHash = BuildHasherDefault<AsItIs>;

/// Hashes a number to itself.
#[derive(Debug, Default)]
pub(in crate::store) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a term is hashed as one number");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
