//! Backups: a copy of the store as it is at one moment, made while it goes on.
//!
//! State speaks of events that were there before it. So the moment of the state comes first, that of the events behind it: what
//! the copied state speaks of is among the copied events. In between nothing may go that the state still needs: nothing is
//! archived or removed from before the first moment on until all is copied, and no state compacted until that is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::super::backup::{Part, Writing};
use super::super::{Backup, BackupError, BackupProgress};
use super::shared::Shared;
use super::{LogStore, TABLE_FOLDER};

impl LogStore {
    /// Makes a backup of all events, snapshots and state in a folder, which must be new or empty, while others append, change
    /// and read: it has all events up to the [position](Backup::position) it says, and what state there was when it was begun.
    /// When it returns, the backup survives the loss of power. `tell` hears how far it is, after each file and each MiB.
    ///
    /// Meanwhile nothing is archived or removed, and what is dead of state stays while state is copied, which comes first. Do not
    /// call it in what [`on_upkeep`](Self::on_upkeep) was given.
    ///
    /// # Errors
    /// [`BackupError`]: there is no backup then, and what was copied is removed.
    ///
    /// # Cost
    /// Reads and writes all of the store once, 1 MiB at a time; a sync for each file. Nobody waits for more than a look at
    /// which files there are. The copies are no links: what damages a file of the store leaves its copy alone.
    pub fn backup(&self, folder: impl AsRef<Path>, tell: impl FnMut(BackupProgress)) -> Result<Backup, BackupError> {
        let shared = &*self.shared;
        let _kept = shared.keep_all();
        let uncompacted = shared.table.uncompacted();
        let state = shared.table.still();
        let events = shared.reader.still();
        let mut writing = Writing::begin(Arc::clone(&shared.disk), folder.as_ref(), [&state, &events], tell)?;
        writing.copy(Part::State, &state)?;
        drop(uncompacted);
        writing.copy(Part::Events, &events)?;
        writing.end(events.last())
    }
}

/// Where a part of a backup is in the folder of a store.
pub(in crate::store) fn folder_of(folder: &Path, part: Part) -> PathBuf {
    match part {
        Part::Events => folder.to_owned(),
        Part::State => folder.join(TABLE_FOLDER),
    }
}

/// Nothing is archived or removed until this is dropped.
struct Kept<'a>(&'a Shared);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let mut backups = self.0.backups.lock().unwrap_or_else(PoisonError::into_inner);
        *backups -= 1;
        let is_last = *backups == 0;
        drop(backups);
        if is_last {
            self.0.indexer.look_again();
        }
    }
}

impl Shared {
    /// Keeps all files of events. What was being archived or removed is done then.
    fn keep_all(&self) -> Kept<'_> {
        *self.backups.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let kept = Kept(self);
        drop(self.upkeep.lock().unwrap_or_else(PoisonError::into_inner));
        kept
    }

    /// Whether a backup is being made.
    pub(super) fn is_backed_up(&self) -> bool {
        *self.backups.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }
}
