//! A store on disk: a segmented log is the one truth, beside it an index a segment that can be made again from it.
//!
//! ```text
//!   append ──► batch ──► committer: admission, in the order of the log ──► one write, one sync for all that wait
//!                            │ is the aggregate at the version expected?       │
//!                            ▼                                                 ▼
//!                        versions ◄──────────── index of the last segment ◄── written; only now anybody is told
//!                                                    │ full
//!                                                    ▼
//!   query ──► segment by segment ◄──────────── indexer: a thread writes the index beside the segment
//!              by postings, or by reading, or not at all
//! ```
//!
//! An index is never ahead of the log: an event enters it after it was written, and queries end where it ends. A file that is
//! no whole index of its segment as it is now, be it older, newer, torn or flipped, is made again, and meanwhile the segment
//! is read. Snapshots and [state](super::StateStore) are in a [table](super::table) in a folder of its own; they are kept
//! after the events that they speak of are durable. What cannot be read is never left out in silence: where an index was made although part of its segment could not
//! be read, queries for that part read the segment and meet what is wrong.

mod admission;
mod backup;
mod builder;
mod held;
mod indexer;
mod look;
mod opening;
mod part;
mod readers;
mod retention;
mod shared;
mod snapshots;
mod states;
mod stats;
mod versions;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Frame;

use super::append::{self, Expected};
use super::log::{self, Batch, CommitError, Committer, Kind, LogOptions, NewRecord, Word};
use super::{
    AppendError, Appended, Damage, Durability, EventStore, ExpectedVersion, Fault, Leases, OpenError, Page, Position,
    Query, ReadError, Recovered, Snapshot, SnapshotError, StateError, StoredEventRef, SyncError, snapshot,
};
use admission::{Admission, Refusal};
use shared::Shared;

pub(super) use backup::folder_of;
pub use builder::{LogStoreBuilder, open_on};
pub use held::{Held, Holder};
pub use indexer::IndexFault;
pub use opening::Opening;
pub use retention::{Retention, Upkeep};
pub use states::Compaction;
pub use stats::LogStoreStats;

/// Of snapshots, in the folder of the store.
const TABLE_FOLDER: &str = "table";

/// An [`EventStore`] and [`StateStore`](super::StateStore) in a folder, for one process at a time.
///
/// It keeps all three words, of events and of state. Nothing it says was appended or changed is only in memory:
/// [`Durability::Accepted`] is met as [`Durability::Written`] is.
///
/// ```
/// use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query};
/// use ringmain::{Aggregate, Bus, Payload};
/// # let folder = std::env::temp_dir().join(format!("ringmain-doc-{}", std::process::id()));
///
/// let bus = Bus::builder().build()?;
/// let mut publisher = bus.publisher()?;
/// let placed = publisher
///     .event()
///     .aggregate(Aggregate { kind: "order", id: "7", version: 1 })
///     .to_frame("orders.placed", Payload::json(r#"{"cents": 1999}"#))?;
///
/// let store = LogStore::open(&folder)?;
/// store.append(&[placed.clone()], ExpectedVersion::New, Durability::Durable)?;
/// store.close()?;
///
/// let store = LogStore::builder(&folder).versions_max(1_000).open()?;
/// assert_eq!(store.load("order", "7", 0)?.events[0].frame(), &placed);
/// let again = store.append(&[placed], ExpectedVersion::New, Durability::Durable).unwrap_err();
/// assert!(again.is_conflict());
/// # drop(store);
/// # std::fs::remove_dir_all(&folder)?;
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
/// An append is one write, shared with all that came while the one before was under way, and one sync if anybody asked for
/// it. An aggregate's or a correlation's events are found by postings; other queries read the log, past segments that have
/// no event of the topic or source asked for. 56 to 112 bytes of memory an event of the last segment, and about 2 for others.
///
/// # Damage
/// A query that meets events that cannot be read ends its page before them; the next says which they are
/// ([`ReadError::Damaged`], [`ReadError::NoEvent`]). An aggregate is at the greatest version of its events that can be read,
/// or that an index knows of.
pub struct LogStore {
    /// Ends before the indexer, for which it may wait. `None` once closed.
    committer: Option<Committer>,
    indexer: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    state_batch_bytes_max: usize,
    leases: Leases,
    options: LogOptions,
    recovered: Recovered,
    state_recovered: Recovered,
    opening: Opening,
}

impl LogStore {
    /// Opens the store in a folder, which is made if it is not there, with default limits.
    ///
    /// # Errors
    /// As [`LogStoreBuilder::open`].
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::builder(folder).open()
    }

    /// The limits of a store in a folder.
    pub fn builder(folder: impl Into<PathBuf>) -> LogStoreBuilder {
        LogStoreBuilder::new(folder.into())
    }

    /// What was found of the events when it was opened: damage, and what was cut off because it was never durable.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What was found of snapshots and state when it was opened: cursors, dead letters, sagas and timers among them. Where it
    /// names positions, they are not those of events. What was cut off had been changed last: a cursor is then further
    /// back, a letter not there or there again.
    pub fn state_recovered(&self) -> &Recovered {
        &self.state_recovered
    }

    /// What of snapshots and state cannot be read; where a damage names positions, they are not those of events. An aggregate
    /// whose snapshot is in it has an older one or none, and is made of its events. A key whose last change is in it has an
    /// older value, has none though one was put, or has one though it was removed: look here before you go on with sagas.
    /// What is dead takes room until this is [accepted](Self::accept_state_damages).
    pub fn state_damages(&self) -> Vec<Damage> {
        self.shared.table.damages()
    }

    /// Gives up what of snapshots and state cannot be read, so that its room can be used again.
    pub fn accept_state_damages(&self) {
        self.shared.table.accept_damage();
    }

    /// Indices that could not be written since it was opened, oldest first. No append fails for it.
    pub fn index_faults(&self) -> Vec<IndexFault> {
        self.shared.indexer.faults()
    }

    /// Why it takes no more events, or no more state, until it is opened again, if so: a write or a sync has failed. Waits for no disk.
    pub fn fault(&self) -> Option<&Fault> {
        self.committer().fault().or_else(|| self.shared.table.fault())
    }

    /// Why old events were not archived or removed when that was last tried, if it failed.
    pub fn upkeep_fault(&self) -> Option<Fault> {
        self.shared.indexer.upkeep_fault()
    }

    /// The folder it is in.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Makes everything durable, writes what indices are waiting, and ends. Dropped instead, everything is as durable as was
    /// said, and indices that wait are made when the store is opened again.
    ///
    /// # Errors
    /// When the disk fails: what was not said to be durable may not be. When the thread that writes indices has panicked: all
    /// events are durable, and indices are made when the store is opened again.
    pub fn close(mut self) -> Result<(), Fault> {
        let closed = self.committer.take().map_or(Ok(()), Committer::close);
        self.end_indexer(true);
        closed.and_then(|()| self.shared.table.sync()).map_err(|log::SyncError(fault)| fault)?;
        let panicked = |error| Fault::new("write the indices in", self.folder(), io::Error::other(error));
        self.shared.indexer.check().map_err(panicked)
    }

    fn committer(&self) -> &Committer {
        self.committer.as_ref().expect("only `close` takes it, and the store with it")
    }

    fn end_indexer(&mut self, when_done: bool) {
        self.shared.indexer.end(when_done);
        if let Some(thread) = self.indexer.take() {
            // It only makes what can be made again, and its panics are remembered.
            drop(thread.join());
        }
    }

    /// The records of events, if the log takes them.
    fn batch(&self, events: &[Frame]) -> Result<Batch, AppendError> {
        let too_long = |bytes: usize, max: u64, limit| {
            let bytes = bytes as u64;
            if bytes > max { Err(AppendError::TooLong { bytes, max, limit }) } else { Ok(()) }
        };
        let mut batch = Batch::new();
        for frame in events {
            let body = frame.bytes();
            too_long(body.len(), u64::from(self.options.record_bytes_max), "event_bytes_max")?;
            let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: 0, body };
            batch.push(&record).expect("a record of the log has room for more than its limit");
        }
        too_long(batch.extent_bytes(), self.options.batch_bytes_max(), "segment_bytes")?;
        Ok(batch)
    }
}

impl EventStore for LogStore {
    fn append(
        &self,
        events: &[Frame],
        expected: ExpectedVersion,
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        let expected = append::check(events, expected)?;
        self.shared.indexer.check().map_err(|panicked| AppendError::Failed(Box::new(panicked)))?;
        let batch = self.batch(events)?;
        if let Some(Expected { kind, id, .. }) = &expected {
            // Looked up here, so that whoever writes for all need not. What has changed when it is this batch's turn is
            // found then.
            self.shared.version_of(kind, id).map_err(AppendError::Disk)?;
        }
        let admission =
            Admission { shared: Arc::clone(&self.shared), frames: events.to_vec(), expected: expected.clone() };
        let word = if durability == Durability::Durable { Word::Durable } else { Word::Written };
        let positions = self
            .committer()
            .append_gated(Box::new(admission), batch, word)
            .map_err(|error| refused(error, expected.as_ref()))?
            .positions;
        let [first, last] =
            [positions.start, positions.end - 1].map(|number| Position::new(number).expect("positions count from 1"));
        Ok(Appended::new(first, last, expected.map(|expected| expected.version_after)))
    }

    fn sync(&self) -> Result<(), SyncError> {
        self.committer().sync().map_err(|log::SyncError(fault)| SyncError::Disk(fault))
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        let mut events = Vec::new();
        let next = self.visit(query, &mut |event| {
            events.push(event.to_event());
            ControlFlow::Continue(())
        })?;
        Ok(Page { events, next })
    }

    fn visit(
        &self,
        query: &Query,
        look: &mut dyn FnMut(StoredEventRef<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Position>, ReadError> {
        look::visit(&self.shared, query, look)
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let failed = |fault| SnapshotError::Failed(Box::new(fault));
        let found = self.shared.version_of(snapshot.kind(), snapshot.id()).map_err(failed)?;
        snapshot::check(snapshot, found)?;
        // What it shows must not be lost before it.
        self.committer().sync().map_err(|log::SyncError(fault)| failed(fault))?;
        self.shared.snapshots.save(snapshot)
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        let Some(snapshot) = self.shared.snapshots.load(kind, id)? else { return Ok(None) };
        // Events that it shows may have been damaged since.
        let found = self.shared.version_of(kind, id).map_err(ReadError::Disk)?;
        Ok((snapshot.version() <= found).then_some(snapshot))
    }

    fn keep_history(&self, kind: &str) -> Result<(), StateError> {
        self.note_sourced(kind)
    }

    fn first(&self) -> Result<Option<Position>, ReadError> {
        let parts = self.shared.parts();
        Ok(parts.first().filter(|first| *first <= parts.last).and_then(Position::new))
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(Position::new(self.shared.parts().last))
    }

    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError> {
        Ok(self.shared.tail.wait_behind(position, limit))
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }
}

/// Why nothing was appended, as the store says it.
fn refused(error: CommitError, expected: Option<&Expected>) -> AppendError {
    match error {
        CommitError::Refused(refusal) => match (refusal.downcast_ref::<Refusal>(), expected) {
            (Some(Refusal::Version(found)), Some(expected)) => match expected.clone().meets(*found) {
                Err(conflict) => conflict,
                Ok(_) => unreachable!("a version that is as expected is not refused"),
            },
            (Some(Refusal::Unknown(fault)), _) => AppendError::Disk(fault.clone()),
            _ => AppendError::Failed(Box::new(CommitError::Refused(refusal))),
        },
        CommitError::Append(log::AppendError::Full(fault)) => AppendError::DiskFull(fault),
        CommitError::Append(log::AppendError::Disk(fault)) | CommitError::Sync(log::SyncError(fault)) => {
            AppendError::Disk(fault)
        }
        other => AppendError::Failed(Box::new(other)),
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        drop(self.committer.take());
        self.end_indexer(false);
    }
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.shared.parts();
        f.debug_struct("LogStore")
            .field("folder", &self.shared.folder)
            .field("last", &parts.last)
            .field("segments", &(parts.sealed.len() + usize::from(parts.active.is_some())))
            .finish_non_exhaustive()
    }
}
