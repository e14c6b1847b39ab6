//! Reading a table: one key, or the keys of a kind in order.

use std::ops::{Bound, Deref};

use rkyv::util::AlignedVec;

use super::super::log::{ALIGN, ReadError};
use super::change::{Change, KeyKind};
use super::table::Table;

/// The value of a key: bytes whose first is at an address that is a multiple of 16.
#[derive(Debug, Clone)]
pub struct Value(AlignedVec<ALIGN>);

impl Value {
    fn new(bytes: &[u8]) -> Self {
        // One without room would not be aligned.
        let mut aligned = AlignedVec::with_capacity(bytes.len().max(1));
        aligned.extend_from_slice(bytes);
        Self(aligned)
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Table {
    /// The value of a key, if it has one. What was written is seen before it is durable.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Disk`].
    ///
    /// # Cost
    /// A copy of the value. One of more than 256 bytes is read from the disk, with what comes before it in the same 64 KiB.
    pub fn get(&self, kind: KeyKind, key: &[u8]) -> Result<Option<Value>, ReadError> {
        loop {
            let position = {
                let index = self.index();
                let Some(entry) = index.get(kind, key) else { return Ok(None) };
                if let Some(short) = &entry.short {
                    return Ok(Some(Value::new(short)));
                }
                entry.position
            };
            match self.committer.read(position).next_record().expect("what is in the index is written") {
                Ok(record) => {
                    let change = Change::of(&record).expect("what is in the index is a change");
                    return Ok(change.value().map(Value::new));
                }
                // It was copied meanwhile.
                Err(ReadError::Retired { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The keys of a kind with their values, in the order of their bytes, from a key on; from the first on with `&[]`. Each
    /// is looked for when its turn comes: what is changed meanwhile is seen if it comes later in the order.
    pub fn entries(&self, kind: KeyKind, from: &[u8]) -> Entries<'_> {
        Entries { table: self, kind, from: Bound::Included(from.into()) }
    }
}

/// Keys of a kind with their values, in order; see [`Table::entries`]. After an error it goes on behind that key.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    table: &'a Table,
    kind: KeyKind,
    from: Bound<Box<[u8]>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<(Box<[u8]>, Value), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.from.as_ref().map(|key| &**key);
            let key: Box<[u8]> = self.table.index().first(self.kind, from)?.into();
            self.from = Bound::Excluded(key.clone());
            match self.table.get(self.kind, &key) {
                Ok(Some(value)) => return Some(Ok((key, value))),
                // It was removed meanwhile.
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
