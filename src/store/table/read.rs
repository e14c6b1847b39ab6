//! Reading a table: one key, or a page of the keys of a kind.

use super::super::log::{Lookup, ReadError};
use super::super::state::{PageRoom, StateChange, StateKind, StatePage, StateValue};
use super::index::{Listed, Stored};
use super::table::Table;

impl Table {
    /// The value of a key, if it has one. What was written is seen before it is durable.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Disk`].
    ///
    /// # Cost
    /// A copy of the value. One of more than 256 bytes is read from the disk, at once, with a check over it.
    pub fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, ReadError> {
        let mut lookup = self.committer.lookup();
        loop {
            let Some(stored) = self.index().get(kind, key).map(|entry| entry.stored()) else { return Ok(None) };
            match value(&mut lookup, stored) {
                // It was copied meanwhile.
                Err(ReadError::Retired { .. }) => {}
                result => return result.map(Some),
            }
        }
    }

    /// The keys of a kind with their values, in the order of their bytes, from a key on, as many as there is room for; from
    /// the first on with `&[]`. They are as they all were at one moment.
    ///
    /// A page ends before a key whose value cannot be read.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] or [`ReadError::Disk`] where that is the first, with the key.
    ///
    /// # Cost
    /// As [`get`](Self::get) of each. Changes wait while the keys are listed, not while values are read.
    pub fn page(&self, kind: StateKind, from: &[u8], room: PageRoom) -> Result<StatePage, (Box<[u8]>, ReadError)> {
        let mut lookup = self.committer.lookup();
        'listed: loop {
            let Listed { entries, next } = self.index().list(kind, from, room);
            let mut page = StatePage { entries: Vec::with_capacity(entries.len()), next };
            for (key, stored) in entries {
                match value(&mut lookup, stored) {
                    Ok(value) => page.entries.push((key, value)),
                    // It was copied meanwhile, and may have been changed since.
                    Err(ReadError::Retired { .. }) => continue 'listed,
                    Err(error) if page.entries.is_empty() => return Err((key, error)),
                    Err(_) => {
                        page.next = Some(key);
                        break;
                    }
                }
            }
            return Ok(page);
        }
    }
}

fn value(lookup: &mut Lookup, stored: Stored) -> Result<StateValue, ReadError> {
    let (spot, bytes) = match stored {
        Stored::Here(value) => return Ok(value),
        Stored::There { spot, bytes } => (spot, bytes),
    };
    let found = lookup.at(spot.position, spot.offset.into(), bytes);
    let record = found.expect("what is in the index is written")?;
    let change = StateChange::of(&record).expect("what is in the index is a change");
    Ok(StateValue::copied_from(change.value().unwrap_or_default()))
}
