//! What it took to open a store.

use std::time::Duration;

use super::LogStore;

/// What opening a [`LogStore`] did, beside what it found of [events](LogStore::recovered) and of
/// [state](LogStore::state_recovered).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opening {
    /// How long it took.
    pub took: Duration,
    /// Events that were read for the index of the last segment, which is in memory only.
    pub indexed_events: u64,
    /// Full segments that had no index: it is made beside appending and reading, and until then they are read instead.
    pub indices_missing: usize,
    /// Indices of segments that are not there, or that go on: they were removed.
    pub indices_removed: usize,
}

impl LogStore {
    /// What it took to open it.
    pub fn opening(&self) -> Opening {
        self.opening
    }
}
