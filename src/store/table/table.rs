//! The table: changes are appended to its log, then applied to the index.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::log::{Batch, CommitError, Committer, Damage, Fault, SyncError, Word};
use super::super::state::{StateChange, StateKind};
use super::compact::Compactor;
use super::error::{ChangeError, CompactError};
use super::index::{Index, Spot};
use super::options::TableOptions;

/// A durable map that is open: the only one in its folder. All methods may be called by several threads at once.
#[derive(Debug)]
pub struct Table {
    pub(super) committer: Committer,
    pub(super) options: TableOptions,
    /// Shared by changes on their way, taken alone while records are copied.
    pub(super) changing: RwLock<()>,
    pub(super) index: RwLock<Index>,
    pub(super) compactor: Mutex<Compactor>,
}

/// What a table holds and takes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TableStats {
    /// Keys that have a value.
    pub keys: usize,
    /// Bytes of their records.
    pub live_bytes: u64,
    /// Bytes of all records.
    pub log_bytes: u64,
    /// Segments of its log.
    pub segments: usize,
    /// Bytes that compaction has copied since the table was opened.
    pub copied_bytes: u64,
    /// Segments that compaction has removed since then.
    pub retired_segments: u64,
    /// Why compaction did not go on when it was last tried.
    pub not_compacted: Option<CompactError>,
}

impl Table {
    /// Makes changes, all of them or none, and blocks until they are as asked. Of several changes of a key the last holds.
    ///
    /// # Errors
    /// [`ChangeError`].
    ///
    /// # Cost
    /// A write that others may share; a sync if asked, shared too. While compaction is due it also reads four times the bytes
    /// of the changes from the oldest segment, appends what of that is live, and where the segment ends, syncs and removes it.
    pub fn apply(&self, changes: &[StateChange<'_>], word: Word) -> Result<(), ChangeError> {
        let batch = self.batch(changes)?;
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.extent_bytes() as u64;
        {
            let _changing = self.changing.read().unwrap_or_else(PoisonError::into_inner);
            self.index_mut().begin(changes, &self.options)?;
            let appended = self.append_batch(batch, word);
            let spots = appended.as_deref().unwrap_or_default().iter().copied();
            self.index_mut().end(spots, changes);
            appended.map_err(ChangeError::Commit)?;
        }
        self.pay(bytes);
        Ok(())
    }

    /// Gives a key a value: [`apply`](Self::apply) of one change.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn put(&self, kind: StateKind, key: &[u8], value: &[u8], word: Word) -> Result<(), ChangeError> {
        self.apply(&[StateChange::Put { kind, key, value }], word)
    }

    /// Takes a key's value, if it has one: [`apply`](Self::apply) of one change.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn remove(&self, kind: StateKind, key: &[u8], word: Word) -> Result<(), ChangeError> {
        self.apply(&[StateChange::Remove { kind, key }], word)
    }

    /// Makes all that was changed durable, and says so on the disk: what is damaged later is not taken for a write that power
    /// loss cut short.
    ///
    /// # Errors
    /// [`SyncError`]: the table takes nothing more until it is opened again.
    pub fn sync(&self) -> Result<(), SyncError> {
        self.committer.sync()
    }

    /// Makes all that was changed durable, and ends.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn close(self) -> Result<(), SyncError> {
        self.committer.close()
    }

    /// What it holds and takes.
    pub fn stats(&self) -> TableStats {
        let segments = self.committer.log().segments().len();
        let (not_compacted, (copied_bytes, retired_segments)) = {
            let compactor = self.compactor();
            (compactor.failure(), compactor.work())
        };
        let index = self.index();
        let (keys, live_bytes, log_bytes) = (index.keys(), index.live_bytes(), index.log_bytes());
        TableStats { keys, live_bytes, log_bytes, segments, copied_bytes, retired_segments, not_compacted }
    }

    /// Whether room for one more segment is set aside. Waits for nothing.
    pub fn has_reserve(&self) -> bool {
        self.committer.has_reserve()
    }

    /// Why nothing more is changed until the table is opened again, if so. Waits for nothing.
    pub fn fault(&self) -> Option<&Fault> {
        self.committer.fault()
    }

    /// What cannot be read and was not accepted as lost, as far as it is known.
    pub fn damages(&self) -> Vec<Damage> {
        self.compactor().damages().to_vec()
    }

    /// Takes as lost what cannot be read, so that compaction goes on and removes the files it is in. A key whose record is
    /// in them is written again if its value is in memory, and has none from then on otherwise. Only what is known by now is
    /// accepted: what is found later is said again.
    pub fn accept_damage(&self) {
        self.compactor().accept_damage();
    }

    /// The options it was opened with.
    pub fn options(&self) -> &TableOptions {
        &self.options
    }

    /// Checks changes and lays them out for the log.
    fn batch(&self, changes: &[StateChange<'_>]) -> Result<Batch, ChangeError> {
        let TableOptions { key_bytes_max, value_bytes_max, .. } = self.options;
        for change in changes {
            let (kind, bytes, max) = (change.kind(), change.key().len(), key_bytes_max);
            if bytes > max as usize {
                return Err(ChangeError::KeyTooLong { kind, bytes, max });
            }
            let (bytes, max) = (change.value().map_or(0, <[u8]>::len), value_bytes_max);
            if bytes > max as usize {
                return Err(ChangeError::ValueTooLong { kind, bytes, max });
            }
        }
        let (mut batch, mut body) = (Batch::new(), Vec::new());
        for change in changes {
            batch.push(&change.record(&mut body)).expect("the limits of keys and values are below that of bodies");
        }
        Ok(batch)
    }

    /// Appends a batch, and says where each of its records lies.
    pub(super) fn append_batch(&self, batch: Batch, word: Word) -> Result<Vec<Spot>, CommitError> {
        let offsets: Vec<_> = batch.offsets(0).collect();
        let placed = self.committer.append(batch, word)?;
        let spots = placed.positions.zip(offsets);
        Ok(spots.map(|(position, offset)| Spot::new(position, placed.offset + offset)).collect())
    }

    pub(super) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn compactor(&self) -> MutexGuard<'_, Compactor> {
        self.compactor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
