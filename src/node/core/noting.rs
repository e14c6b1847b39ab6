//! The store of a node: whoever appends to it, the ids of the events are known.

use std::sync::Arc;
use std::time::Duration;

use super::KnownIds;
use crate::store::{
    AppendError, Appended, CausationTree, Durability, EventStore, ExpectedVersion, Page, Position, Query, ReadError,
    Snapshot, SnapshotError, StateError, SyncError,
};
use crate::{EventId, Frame};

/// A store that tells of what it has taken.
pub(super) struct Noting {
    store: Arc<dyn EventStore>,
    known: Arc<KnownIds>,
}

impl Noting {
    pub(super) fn new(store: Arc<dyn EventStore>, known: Arc<KnownIds>) -> Self {
        Self { store, known }
    }
}

impl EventStore for Noting {
    fn append(&self, events: &[Frame], expected: ExpectedVersion, word: Durability) -> Result<Appended, AppendError> {
        let appended = self.store.append(events, expected, word)?;
        self.known.note(events.iter().map(Frame::meta));
        Ok(appended)
    }

    fn sync(&self) -> Result<(), SyncError> {
        self.store.sync()
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        self.store.query(query)
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.store.save_snapshot(snapshot)
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        self.store.load_snapshot(kind, id)
    }

    fn keep_history(&self, kind: &str) -> Result<(), StateError> {
        self.store.keep_history(kind)
    }

    fn first(&self) -> Result<Option<Position>, ReadError> {
        self.store.first()
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        self.store.head()
    }

    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError> {
        self.store.wait_behind(position, limit)
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn load(&self, kind: &str, id: &str, after_version: u64) -> Result<Page, ReadError> {
        self.store.load(kind, id, after_version)
    }

    fn causation(&self, correlation: EventId) -> Result<CausationTree, ReadError> {
        self.store.causation(correlation)
    }
}
