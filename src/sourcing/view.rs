//! Where a view is in a store of state: its keys, its generations, and changes of one event.
//!
//! ```text
//!   VIEW    bytes of name 1 │ name │ generation 8, big-endian │ key    value
//!   CURSOR  "view" │ bytes of name 1 │ name                            live generation 8
//!   CURSOR  "view" │ bytes of name 1 │ name │ generation 8             bookmark of the last event looked at
//! ```

use std::collections::BTreeMap;
use std::fmt;

use crate::store::{
    Bookmark, Durability, STATE_KEY_BYTES_MAX, STATE_PAGE_MAX, StateChange, StateKind, StateStore, StateValue,
};

use super::projection::{ProjectionError, ViewPage};

/// Bytes that the name of a view may have.
const NAME_BYTES_MAX: usize = 255;
/// What positions of views begin with, among all cursors.
const CURSOR: &[u8] = b"view";

/// Values by key, as they are in the store of state; `None` = removed.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Whether it is time to keep changes.
pub(super) fn is_large(changes: &Changes, count: usize, bytes: usize) -> bool {
    let size = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len);
    changes.len() >= count || changes.iter().map(size).sum::<usize>() >= bytes
}

/// One generation of a view.
#[derive(Debug, Clone)]
pub(super) struct Place {
    name: String,
    generation: u64,
    /// What its keys begin with.
    prefix: Vec<u8>,
}

impl Place {
    pub(super) fn new(name: &str, generation: u64) -> Result<Self, ProjectionError> {
        let mut prefix = name_prefix(name)?;
        prefix.extend_from_slice(&generation.to_be_bytes());
        Ok(Self { name: name.to_owned(), generation, prefix })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    pub(super) fn position_key(&self) -> Vec<u8> {
        [CURSOR, &self.prefix].concat()
    }

    /// The last event that it has looked at.
    pub(super) fn bookmark(&self, state: &dyn StateStore) -> Result<Bookmark, ProjectionError> {
        let kept = state.get(StateKind::CURSOR, &self.position_key()).map_err(ProjectionError::State)?;
        let record = || ProjectionError::Record { name: self.name.clone() };
        kept.map_or(Ok(Bookmark::START), |bytes| Bookmark::of_bytes(&bytes).ok_or_else(record))
    }

    pub(super) fn get(&self, state: &dyn StateStore, key: &[u8]) -> Result<Option<StateValue>, ProjectionError> {
        state.get(StateKind::VIEW, &self.key(key)).map_err(ProjectionError::State)
    }

    pub(super) fn list(&self, state: &dyn StateStore, from: &[u8], limit: usize) -> Result<ViewPage, ProjectionError> {
        let page = state.list(StateKind::VIEW, &self.key(from), limit).map_err(ProjectionError::State)?;
        let own = |key: &[u8]| key.strip_prefix(&*self.prefix).map(Into::into);
        let entries = page.entries.iter().map_while(|(key, value)| Some((own(key)?, value.clone()))).collect();
        Ok(ViewPage { entries, next: page.next.and_then(|next| own(&next)) })
    }
}

fn name_prefix(name: &str) -> Result<Vec<u8>, ProjectionError> {
    let (bytes, max) = (name.len(), NAME_BYTES_MAX);
    let length = u8::try_from(bytes).map_err(|_| ProjectionError::NameTooLong { bytes, max })?;
    Ok([&[length], name.as_bytes()].concat())
}

pub(super) fn live_key(name: &str) -> Vec<u8> {
    // Who has a place has a name that is short enough.
    [CURSOR, &[name.len() as u8], name.as_bytes()].concat()
}

fn number(state: &dyn StateStore, key: &[u8], name: &str) -> Result<Option<u64>, ProjectionError> {
    let Some(value) = state.get(StateKind::CURSOR, key).map_err(ProjectionError::State)? else { return Ok(None) };
    let bytes = (*value).try_into().map_err(|_| ProjectionError::Record { name: name.to_owned() })?;
    Ok(Some(u64::from_le_bytes(bytes)))
}

/// The generation that is read; 1 when none has taken over.
pub(super) fn live_generation(state: &dyn StateStore, name: &str) -> Result<u64, ProjectionError> {
    name_prefix(name)?;
    Ok(number(state, &live_key(name), name)?.unwrap_or(1))
}

/// Removes all generations before this one.
pub(super) fn remove_before(
    state: &dyn StateStore,
    name: &str,
    generation: u64,
    durability: Durability,
) -> Result<(), ProjectionError> {
    let (names, end) = (name_prefix(name)?, Place::new(name, generation)?);
    for (kind, prefix) in [(StateKind::VIEW, Vec::new()), (StateKind::CURSOR, CURSOR.to_vec())] {
        // Of the cursors, the live generation's has no number behind the name.
        let first = [&*prefix, &names, &[0]].concat();
        remove_range(state, kind, &first, &[&*prefix, &end.prefix].concat(), durability)?;
    }
    Ok(())
}

/// Removes a generation.
pub(super) fn remove(state: &dyn StateStore, place: &Place, durability: Durability) -> Result<(), ProjectionError> {
    // The position goes first: a generation without one is emptied before it is begun.
    let next = Place::new(&place.name, place.generation + 1)?;
    let (first, end) = (place.position_key(), next.position_key());
    remove_range(state, StateKind::CURSOR, &first, &end, durability)?;
    remove_range(state, StateKind::VIEW, &place.prefix, &next.prefix, durability)
}

/// Removes the keys from `first` on and before `end`.
fn remove_range(
    state: &dyn StateStore,
    kind: StateKind,
    first: &[u8],
    end: &[u8],
    durability: Durability,
) -> Result<(), ProjectionError> {
    loop {
        let page = state.list(kind, first, STATE_PAGE_MAX).map_err(ProjectionError::State)?;
        let keys = page.entries.iter().map(|(key, _)| &**key).take_while(|key| *key < end);
        let changes: Vec<_> = keys.map(|key| StateChange::Remove { kind, key }).collect();
        if changes.is_empty() {
            return Ok(());
        }
        state.apply(&changes, durability).map_err(ProjectionError::Keep)?;
    }
}

/// The view as an event finds it: what it changes is kept when it was applied as a whole.
pub struct View<'a> {
    place: &'a Place,
    state: &'a dyn StateStore,
    /// Of events before, not kept yet.
    before: &'a Changes,
    changes: Changes,
}

impl<'a> View<'a> {
    /// Bytes that a key may have, at least: a store's keys have the view's name in front.
    pub const KEY_BYTES_MAX: usize = STATE_KEY_BYTES_MAX - NAME_BYTES_MAX - 9;

    pub(super) fn new(place: &'a Place, state: &'a dyn StateStore, before: &'a Changes) -> Self {
        Self { place, state, before, changes: BTreeMap::new() }
    }

    pub(super) fn into_changes(self) -> Changes {
        self.changes
    }

    /// The value of a key; `None` when it has none.
    ///
    /// # Errors
    /// When the store of state cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<StateValue>, ProjectionError> {
        let whole = self.place.key(key);
        match self.changes.get(&whole).or_else(|| self.before.get(&whole)) {
            Some(value) => Ok(value.as_deref().map(StateValue::copied_from)),
            None => self.place.get(self.state, key),
        }
    }

    /// Gives a key a value, of up to [`STATE_VALUE_BYTES_MAX`](crate::store::STATE_VALUE_BYTES_MAX).
    pub fn put(&mut self, key: &[u8], value: impl Into<Vec<u8>>) {
        self.changes.insert(self.place.key(key), Some(value.into()));
    }

    /// Takes a key's value, if it has one.
    pub fn remove(&mut self, key: &[u8]) {
        self.changes.insert(self.place.key(key), None);
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("place", self.place).field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}
