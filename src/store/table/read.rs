//! Reading a table: one key, or the keys of a kind in order.

use std::ops::Bound;

use super::super::log::ReadError;
use super::super::state::{StateChange, StateKind, StateValue};
use super::table::Table;

impl Table {
    /// The value of a key, if it has one. What was written is seen before it is durable.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Disk`].
    ///
    /// # Cost
    /// A copy of the value. One of more than 256 bytes is read from the disk, with what comes before it in the same 64 KiB.
    pub fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, ReadError> {
        loop {
            let position = {
                let index = self.index();
                let Some(entry) = index.get(kind, key) else { return Ok(None) };
                if let Some(short) = &entry.short {
                    return Ok(Some(StateValue::copied_from(short)));
                }
                entry.position
            };
            match self.committer.read(position).next_record().expect("what is in the index is written") {
                Ok(record) => {
                    let change = StateChange::of(&record).expect("what is in the index is a change");
                    return Ok(change.value().map(StateValue::copied_from));
                }
                // It was copied meanwhile.
                Err(ReadError::Retired { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The keys of a kind with their values, in the order of their bytes, from a key on; from the first on with `&[]`. Each
    /// is looked for when its turn comes: what is changed meanwhile is seen if it comes later in the order.
    pub fn entries(&self, kind: StateKind, from: &[u8]) -> Entries<'_> {
        Entries { table: self, kind, from: Bound::Included(from.into()) }
    }
}

/// Keys of a kind with their values, in order; see [`Table::entries`]. After an error it goes on behind that key.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    table: &'a Table,
    kind: StateKind,
    from: Bound<Box<[u8]>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<(Box<[u8]>, StateValue), ReadError>;

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
