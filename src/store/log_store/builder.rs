//! What a store on disk may be told when it is opened, and opening it.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use super::super::log::{
    self, CommitOptions, Committer, Disk, Fault, Log, LogOptions, OpenError, RealDisk, Recovered, SegmentInfo, remove,
};
use super::super::snapshot::Snapshot;
use super::super::state::{
    STATE_BATCH_BYTES_MAX, STATE_CHANGES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX, StateKind,
};
use super::super::table::{self, Table, TableOptions};
use super::super::tail::Tail;
use super::super::{Leases, Position};
use super::indexer::Indexer;
use super::part::{Built, Finder, Part};
use super::readers::Readers;
use super::retention::Retention;
use super::shared::{Active, Fronts, Parts, Shared};
use super::snapshots::{self, Snapshots};
use super::versions::Versions;
use super::{LogStore, Opening, TABLE_FOLDER};

/// Bytes that the table writes beside each key and value, at most.
const RECORD_BYTES: u64 = (log::HEADER_BYTES + log::ALIGN) as u64;
/// Bytes of a segment of the table that are no records, at most.
const SEGMENT_BYTES: u64 = 1_024;

/// Limits of a [`LogStore`]. All have a default.
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct LogStoreBuilder {
    folder: PathBuf,
    log: LogOptions,
    commit: CommitOptions,
    index_bytes_max: usize,
    versions_max: usize,
    retention: Retention,
    state_keys_max: usize,
    state_bytes_max: u64,
    snapshot_state_bytes_max: usize,
    state_batch_bytes_max: usize,
    state_reserve: bool,
}

impl LogStoreBuilder {
    pub(super) fn new(folder: PathBuf) -> Self {
        let (log, commit) = Default::default();
        Self {
            folder,
            log,
            commit,
            index_bytes_max: 256 << 20,
            versions_max: 65_536,
            retention: Retention::default(),
            state_keys_max: 1_000_000,
            state_bytes_max: 4 << 30,
            snapshot_state_bytes_max: Snapshot::STATE_BYTES_MAX,
            state_batch_bytes_max: STATE_BATCH_BYTES_MAX,
            state_reserve: true,
        }
    }

    /// Bytes of a segment, which are reserved on the disk when it is begun; from 4 KiB to 4 GiB, a multiple of 16. An append
    /// must fit in a segment. Default 64 MiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.log.segment_bytes = bytes;
        self
    }

    /// Bytes of an event's frame. Default 16 MiB, at most what fits in a segment.
    pub fn event_bytes_max(mut self, bytes: u32) -> Self {
        self.log.record_bytes_max = bytes;
        self
    }

    /// Bytes of events that may wait for the disk; whoever appends more waits. Default 64 MiB.
    pub fn queue_bytes_max(mut self, bytes: usize) -> Self {
        self.commit.queue_bytes_max = bytes;
        self
    }

    /// Bytes of indices that are kept in memory, beside those of segments whose index is not in a file yet. Those read first
    /// are given up for others; one is always kept. Default 256 MiB, which is some hundred million events.
    pub fn index_bytes_max(mut self, bytes: usize) -> Self {
        self.index_bytes_max = bytes;
        self
    }

    /// Files of events and of their indices that are kept open for reading, 1 at least, beside those that are read from at the
    /// moment: one a reader. Default 32. Snapshots and state keep 8 more open at most, and both together 6 for themselves.
    pub fn open_files_max(mut self, files: usize) -> Self {
        self.log.open_files_max = files;
        self
    }

    /// Aggregates whose version is kept in memory; the version of others is looked up. Default 65,536.
    pub fn versions_max(mut self, aggregates: usize) -> Self {
        self.versions_max = aggregates;
        self
    }

    /// Keys of state, and aggregates that have a snapshot, together. Default 1,000,000; all are kept in memory.
    pub fn state_keys_max(mut self, keys: usize) -> Self {
        self.state_keys_max = keys;
        self
    }

    /// Bytes of state and snapshots together, keys too, with some 100 beside each. Default 4 GiB; on the disk they take up to
    /// 2.5 times as much, and 128 MiB.
    pub fn state_bytes_max(mut self, bytes: u64) -> Self {
        self.state_bytes_max = bytes;
        self
    }

    /// Bytes of keys and values of state that may be changed in one piece, and so of one value. Default, and most:
    /// [`STATE_BATCH_BYTES_MAX`], 16 MiB. Room for that, and 80 KiB, is reserved on the disk at a time. A projection changes up to
    /// 5 MiB in one piece, a saga or process 2 MiB.
    pub fn state_batch_bytes_max(mut self, bytes: usize) -> Self {
        self.state_batch_bytes_max = bytes.min(STATE_BATCH_BYTES_MAX);
        self
    }

    /// Bytes of a snapshot's state. Default, and most: 16 MiB. Room for two such snapshots is reserved on the disk at a time.
    pub fn snapshot_state_bytes_max(mut self, bytes: usize) -> Self {
        self.snapshot_state_bytes_max = bytes.min(Snapshot::STATE_BYTES_MAX);
        self
    }

    /// Whether room is kept on the disk for one more file of state, 32 MiB unless [`state_batch_bytes_max`](Self::state_batch_bytes_max) or
    /// [`snapshot_state_bytes_max`](Self::snapshot_state_bytes_max) are less. When the disk is full it is given up, so that cursors, dead
    /// letters, timers and sagas go on where no event is taken any more; it is set aside again of what compaction gives back. A new one is
    /// made where there is twice the room. With no, one that an earlier process has made is removed when the store is opened. Default yes.
    pub fn state_reserve(mut self, is_kept: bool) -> Self {
        self.state_reserve = is_kept;
        self
    }

    /// What becomes of old events. Default: they are archived after 90 days, and kept for ever.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// A table that takes all that these limits let in.
    fn table(&self) -> TableOptions {
        let (key, batch) = (STATE_KEY_BYTES_MAX as u64, self.state_batch_bytes_max as u64);
        let snapshot = (snapshots::HEAD_BYTES + self.snapshot_state_bytes_max) as u64;
        let changes = batch + STATE_CHANGES_MAX as u64 * RECORD_BYTES;
        let segment = changes.max(2 * (snapshot + key + RECORD_BYTES));
        TableOptions {
            segment_bytes: (segment + SEGMENT_BYTES).next_multiple_of(4_096),
            key_bytes_max: key as u32,
            value_bytes_max: snapshot.max(batch.min(STATE_VALUE_BYTES_MAX as u64)) as u32,
            keys_max: self.state_keys_max,
            live_bytes_max: self.state_bytes_max,
            reserve: self.state_reserve,
        }
    }

    /// Opens the store, and makes the folder if it is not there.
    ///
    /// # Errors
    /// [`OpenError`]. Damage is none: it is said in [`LogStore::recovered`], and by the queries that meet it.
    ///
    /// # Cost
    /// Reads the last segment, twice, and of the others only their ends; reads all snapshots and state. Takes three threads.
    pub fn open(self) -> Result<LogStore, OpenError> {
        open_on(Arc::new(RealDisk), self)
    }
}

/// Opens a store on a disk.
///
/// # Errors
/// [`OpenError`].
pub fn open_on(disk: Arc<dyn Disk>, builder: LogStoreBuilder) -> Result<LogStore, OpenError> {
    let table = builder.table();
    let LogStoreBuilder { folder, log, commit, index_bytes_max, versions_max, retention, .. } = builder;
    let LogStoreBuilder { snapshot_state_bytes_max, state_batch_bytes_max, .. } = builder;
    let begun_ns = disk.steady_now_ns();
    let (log, recovered) = Log::open(Arc::clone(&disk), &folder, log)?;
    let (table, opened) =
        Table::open(Arc::clone(&disk), folder.join(TABLE_FOLDER), table).map_err(|error| beside(error, &folder))?;
    let reader = log.read(1);
    let indices = indices(&*disk, &folder)?;
    let parts = parts(&log.segments(), &recovered, &reader, &indices)?;
    let indexer = Indexer::default();
    let table = Arc::new(table);
    let snapshots = Snapshots::new(Arc::clone(&table), snapshot_state_bytes_max);
    let sealed: HashSet<u64> = parts.sealed.iter().map(|part| part.first).collect();
    let missing: Vec<_> = parts.sealed.iter().filter(|part| !indices.contains(&part.first)).collect();
    missing.iter().for_each(|part| indexer.remake(part));
    // Of a segment that is not there, or is appended to. It does no harm where it cannot be removed.
    let mut indices_removed = 0;
    for stale in indices.difference(&sealed) {
        indices_removed += usize::from(remove(&*disk, &Part::index_path(&folder, *stale)).is_ok());
    }
    let mut opening = Opening {
        took: Duration::ZERO,
        indexed_events: parts.active.as_ref().map_or(0, |active| (parts.last + 1).saturating_sub(active.first)),
        indices_missing: missing.len(),
        indices_removed,
    };
    let shared = Arc::new(Shared {
        disk,
        folder: folder.clone(),
        reader,
        readers: Readers::default(),
        tail: Tail::new(Position::new(parts.last)),
        parts: RwLock::new(parts),
        versions: Mutex::new(Versions::new(versions_max)),
        fronts: Mutex::new(Fronts::new(index_bytes_max)),
        indexer,
        snapshots,
        table,
        retention,
        upkeep: Mutex::default(),
        backups: Mutex::default(),
        needed: Mutex::default(),
    });
    let no_thread = |error| OpenError::Disk(Fault::new("start a thread for", &folder, error));
    let options = *log.options();
    let committer = Committer::start(log, commit).map_err(no_thread)?;
    let own = Arc::clone(&shared);
    let thread = thread::Builder::new().name("ringmain-index".into());
    let thread = thread.spawn(move || own.indexer.run(&own)).map_err(no_thread)?;
    opening.took = Duration::from_nanos(shared.disk.steady_now_ns().saturating_sub(begun_ns));
    Ok(LogStore {
        committer: Some(committer),
        indexer: Some(thread),
        shared,
        state_batch_bytes_max,
        leases: Leases::default(),
        options,
        recovered,
        state_recovered: opened.recovered,
        opening,
    })
}

fn beside(error: table::OpenError, folder: &Path) -> OpenError {
    match error {
        table::OpenError::Option(error) => OpenError::Option(error),
        table::OpenError::Log(error) => error,
        table::OpenError::Disk(fault) => OpenError::Disk(fault),
        table::OpenError::TooLong { kind, bytes, max } => {
            let is_snapshot = kind == StateKind::SNAPSHOT;
            let option = if is_snapshot { "snapshot_state_bytes_max" } else { "state_batch_bytes_max" };
            let error = format!("a {kind} is {bytes} bytes with its key, there is room for {max}; raise {option}");
            OpenError::Beside(Box::<dyn Error + Send + Sync>::from(error).into())
        }
        table::OpenError::Thread(source) => {
            OpenError::Disk(Fault { operation: "start a thread for", path: folder.to_owned(), source })
        }
        error => OpenError::Beside(Arc::new(error)),
    }
}

/// The first positions of segments that have an index in a file.
fn indices(disk: &dyn Disk, folder: &Path) -> Result<HashSet<u64>, Fault> {
    let names = log::retried("list", folder, || disk.list(folder))?;
    Ok(names.iter().filter_map(|name| Part::first_of_index(name)).collect())
}

/// Sees through what the log has found: all segments but the last have an index or get one, the last is read.
fn parts(
    segments: &[SegmentInfo],
    recovered: &Recovered,
    reader: &log::LogReader,
    indices: &HashSet<u64>,
) -> Result<Parts, Fault> {
    let last = recovered.next - 1;
    let Some((newest, older)) = segments.split_last() else {
        return Ok(Parts { sealed: Arc::default(), active: None, last });
    };
    let end = |segment: &SegmentInfo| segment.bytes + log::HEADER_BYTES as u64;
    let built = Built::read(reader, newest.first, last, end(newest))?;
    let mut damaged: HashMap<u64, Vec<_>> = HashMap::new();
    for missing in recovered.damages.iter().filter_map(|damage| damage.missing.clone()) {
        let after = segments.partition_point(|segment| segment.first <= *missing.start());
        let first = after.checked_sub(1).map_or(0, |nth| segments[nth].first);
        damaged.entry(first).or_default().push(missing);
    }
    let sealed = older.iter().zip(&segments[1..]).map(|(segment, next)| {
        let finder = if indices.contains(&segment.first) { Finder::Cold } else { Finder::Nothing };
        let damaged = damaged.remove(&segment.first).unwrap_or_default();
        Arc::new(Part::new(segment.first, next.first - 1, end(segment), damaged, finder))
    });
    let sealed = Arc::new(sealed.collect());
    Ok(Parts { sealed, active: Some(Active { first: newest.first, built }), last })
}
