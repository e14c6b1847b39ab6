//! State beside the events, in the same table as snapshots.
//!
//! State speaks of events: a cursor of the last that was read, a saga of those that it has heard. After power loss it must not
//! be ahead of them. So what is written of the events is made durable before state is written: whatever then reaches the
//! disk of the table, and in whatever order, speaks of events that are there. Dead letters speak of none: they bring theirs along.

use super::super::log::{self, CommitError, SyncError, Word};
use super::super::state::{
    self, PageRoom, StateChange, StateError, StateKind, StatePage, StateReadError, StateStore, StateValue,
};
use super::super::table::ChangeError;
use super::super::{Lease, LeaseError};
use super::{Durability, LogStore};

impl StateStore for LogStore {
    /// # Cost
    /// A sync of the events that are not durable yet, if there are any; a write that others may share, and for
    /// [`Durability::Durable`] a sync of the state. Now and then a share of compaction: at most four times the bytes of the
    /// changes, and 256 KiB, are read, and what of that is live is written again.
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        state::check(changes, self.state_batch_bytes_max, durability, self.state_durability())?;
        if changes.is_empty() {
            return Ok(());
        }
        if changes.iter().any(|change| speaks_of_events(change.kind())) {
            self.sync_events()?;
        }
        let word = if durability == Durability::Durable { Word::Durable } else { Word::Written };
        self.shared.table.apply(changes, word).map_err(not_changed)
    }

    fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, StateReadError> {
        self.shared.table.get(kind, key).map_err(|error| not_read(kind, key.into(), error))
    }

    fn list(&self, kind: StateKind, from: &[u8], limit: usize) -> Result<StatePage, StateReadError> {
        let page = self.shared.table.page(kind, from, PageRoom::of(limit)?);
        page.map_err(|(key, error)| not_read(kind, key, error))
    }

    fn state_durability(&self) -> Durability {
        Durability::Durable
    }

    /// The folder is this process's alone, and so are all names in it.
    fn lease(&self, name: &str) -> Result<Lease, LeaseError> {
        self.leases.take(name)
    }
}

fn speaks_of_events(kind: StateKind) -> bool {
    kind != StateKind::DEAD_LETTER && kind != StateKind::DEAD_LETTER_PART
}

pub(super) fn not_changed(error: ChangeError) -> StateError {
    match error {
        ChangeError::TooManyKeys { keys, max } => {
            StateError::Full { limit: "state_keys_max", needed: keys as u64, max: max as u64 }
        }
        ChangeError::TooManyBytes { live_bytes, max } => {
            StateError::Full { limit: "state_bytes_max", needed: live_bytes, max }
        }
        ChangeError::Commit(CommitError::Append(log::AppendError::Full(fault))) => StateError::DiskFull(fault),
        ChangeError::Commit(
            CommitError::Append(log::AppendError::Disk(fault)) | CommitError::Sync(SyncError(fault)),
        ) => StateError::Disk(fault),
        error => StateError::Failed(Box::new(error)),
    }
}

fn not_read(kind: StateKind, key: Box<[u8]>, error: log::ReadError) -> StateReadError {
    match error {
        log::ReadError::Damaged(damage) => StateReadError::Damaged { kind, key, damage },
        log::ReadError::Disk(fault) => StateReadError::Disk(fault),
        error => StateReadError::Failed(Box::new(error)),
    }
}

/// What became of the files of snapshots and state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// Bytes of records before, live and dead.
    pub before_bytes: u64,
    /// Bytes of records after.
    pub after_bytes: u64,
    /// Files that were removed.
    pub removed_segments: u64,
}

impl LogStore {
    /// Makes the events durable that state may speak of.
    fn sync_events(&self) -> Result<(), StateError> {
        self.committer().sync().map_err(|SyncError(fault)| {
            // A full disk that ended nothing is told from a failure.
            if self.committer().fault().is_none() { StateError::DiskFull(fault) } else { StateError::Disk(fault) }
        })
    }

    /// Lets go of what is dead of snapshots and state, now: all but what is in the newest file. It happens by itself, in small
    /// shares, when more is dead than live. Others read and change meanwhile.
    ///
    /// # Errors
    /// [`StateError`]: also when something cannot be read and was not [given up](Self::accept_state_damages), and while a
    /// [backup](Self::backup) copies the files. What was done is done.
    ///
    /// # Cost
    /// Reads all of it, writes what is live once more; a sync and a removed file for each.
    pub fn compact(&self) -> Result<Compaction, StateError> {
        let before = self.shared.table.stats();
        self.shared.table.compact().map_err(|error| StateError::Failed(Box::new(error)))?;
        let after = self.shared.table.stats();
        Ok(Compaction {
            before_bytes: before.log_bytes,
            after_bytes: after.log_bytes,
            removed_segments: after.retired_segments - before.retired_segments,
        })
    }
}
