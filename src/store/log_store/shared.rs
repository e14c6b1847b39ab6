//! What appending, reading and the making of indices share.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use crate::Frame;

use super::super::Position;
use super::super::index::{Posting, Term};
use super::super::log::{Batch, Disk, Fault, LogReader, Placed, ReadError};
use super::super::table::Table;
use super::super::tail::Tail;
use super::held::Needed;
use super::indexer::Indexer;
use super::part::{Built, Finder, Part, Plan, Sought};
use super::readers::Readers;
use super::retention::{Retention, Told};
use super::snapshots::Snapshots;
use super::versions::Versions;

/// The store without its log.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    /// Others are made from it.
    pub(super) reader: LogReader,
    /// What queries read with.
    pub(super) readers: Readers,
    pub(super) parts: RwLock<Parts>,
    pub(super) tail: Tail,
    pub(super) versions: Mutex<Versions>,
    pub(super) fronts: Mutex<Fronts>,
    pub(super) indexer: Indexer,
    pub(super) snapshots: Snapshots,
    /// Snapshots and state.
    pub(super) table: Arc<Table>,
    pub(super) retention: Retention,
    /// Held by who archives and removes.
    pub(super) upkeep: Mutex<Told>,
    /// Backups that are being made.
    pub(super) backups: Mutex<usize>,
    /// What the oldest segment was last held for, of aggregates.
    pub(super) needed: Mutex<Option<Needed>>,
}

/// The segments, oldest first, as far as queries see them.
#[derive(Debug)]
pub(super) struct Parts {
    /// All but the last. Replaced as a whole, so that a query can keep it.
    pub(super) sealed: Arc<Vec<Arc<Part>>>,
    /// The last one.
    pub(super) active: Option<Active>,
    /// The last position that queries see.
    pub(super) last: u64,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) first: u64,
    pub(super) built: Built,
}

/// Fronts of indices that are in memory.
#[derive(Debug)]
pub(super) struct Fronts {
    /// In the order in which they were read.
    loaded: VecDeque<(Arc<Part>, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Fronts {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { loaded: VecDeque::new(), bytes: 0, bytes_max }
    }
}

impl Parts {
    /// The first position of the oldest segment, if there is one.
    pub(super) fn first(&self) -> Option<u64> {
        self.sealed.first().map(|part| part.first).or(self.active.as_ref().map(|active| active.first))
    }

    /// Takes up events that are written; says which segment is full, if they begin another.
    fn add(&mut self, frames: &[Frame], batch: &Batch, placed: &Placed) -> Option<Arc<Part>> {
        let mut full = None;
        if self.active.as_ref().is_none_or(|active| active.first != placed.segment) {
            let next = Active { first: placed.segment, built: Built::default() };
            if let Some(Active { first, built }) = self.active.replace(next) {
                let (last, end) = (placed.segment - 1, built.end);
                let part = Part::new(first, last, end, Vec::new(), Finder::Memory(Arc::new(built)));
                let part = Arc::new(part);
                let mut sealed = Vec::clone(&self.sealed);
                sealed.push(Arc::clone(&part));
                self.sealed = Arc::new(sealed);
                full = Some(part);
            }
        }
        let built = &mut self.active.as_mut().expect("it is there since the lines above").built;
        for (offset, frame) in batch.offsets(placed.offset).zip(frames) {
            built.index.add(offset, &frame.meta());
        }
        built.end = placed.offset + batch.extent_bytes() as u64;
        self.last = placed.positions.end - 1;
        full
    }
}

impl Shared {
    pub(super) fn parts(&self) -> RwLockReadGuard<'_, Parts> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up events that are in the log: from now on queries find them.
    pub(super) fn add(&self, frames: &[Frame], batch: &Batch, placed: &Placed) {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let full = parts.add(frames, batch, placed);
        let last = Position::new(parts.last);
        drop(parts);
        self.tail.grow(last);
        if let Some(part) = full {
            self.indexer.hand_in(part);
        }
    }

    /// The front of an index was read. Others make room for it.
    pub(super) fn front_loaded(&self, part: &Arc<Part>, bytes: usize) {
        let mut fronts = self.fronts.lock().unwrap_or_else(PoisonError::into_inner);
        fronts.loaded.push_back((Arc::clone(part), bytes));
        fronts.bytes += bytes;
        let mut cooled = Vec::new();
        while fronts.bytes > fronts.bytes_max && fronts.loaded.len() > 1 {
            let Some((part, bytes)) = fronts.loaded.pop_front() else { break };
            fronts.bytes -= bytes;
            cooled.push(part);
        }
        drop(fronts);
        // Not under the lock: who reads a front holds its part and comes here.
        cooled.iter().for_each(|part| part.cool());
    }

    /// The version of an aggregate as far as queries see, also where it is known; remembers it.
    pub(super) fn version_of(&self, kind: &str, id: &str) -> Result<u64, Fault> {
        let mut versions = self.versions();
        if let Some(version) = versions.get(kind, id) {
            return Ok(version);
        }
        let losses = versions.losses();
        drop(versions);
        let version = match self.look_up_version(kind, id)? {
            // Events of it may have been removed: what they came to is in its snapshot.
            0 if self.parts().first().is_some_and(|first| first > 1) => self.snapshot_version(kind, id)?,
            version => version,
        };
        self.versions().learn_if(losses, kind, id, version);
        Ok(version)
    }

    fn snapshot_version(&self, kind: &str, id: &str) -> Result<u64, Fault> {
        let unread = |error: super::super::ReadError| {
            Fault::new("read the snapshots in", &self.folder, io::Error::other(error.to_string()))
        };
        Ok(self.snapshots.load(kind, id).map_err(unread)?.map_or(0, |snapshot| snapshot.version()))
    }

    /// The greatest version among an aggregate's events. An event that cannot be read counts with the version that its
    /// index says; one that no index knows of, since it could not be read when that was made, does not count.
    fn look_up_version(&self, kind: &str, id: &str) -> Result<u64, Fault> {
        let term = Term::aggregate(kind, id);
        let (sealed, active) = {
            let parts = self.parts();
            let active = parts.active.as_ref().map(|active| (active.first, active.built.index.find(term)));
            (Arc::clone(&parts.sealed), active)
        };
        let mut found: Vec<(u64, Posting)> = Vec::new();
        let mut greatest = 0;
        for part in sealed.iter() {
            match part.plan(&Sought::all(term), self) {
                Plan::Skip => {}
                Plan::Postings(postings) => found.extend(postings.into_iter().map(|posting| (part.first, posting))),
                Plan::Scan => greatest = greatest.max(self.read_version(part, kind, id)?),
            }
        }
        if let Some((first, postings)) = active {
            found.extend(postings.into_iter().map(|posting| (first, posting)));
        }
        found.sort_unstable_by_key(|(_, posting)| Reverse(posting.version));
        let mut lookup = self.reader.lookup();
        for (segment, Posting { offset, version }) in found {
            // The greatest number stands for all versions from it on.
            if u64::from(version) <= greatest && version != u32::MAX {
                break;
            }
            greatest = greatest.max(match lookup.record(segment, offset) {
                Ok(record) => version_in(record.body, kind, id),
                Err(ReadError::Damaged(_)) => u64::from(version),
                Err(ReadError::Retired { .. }) => 0,
                Err(ReadError::Disk(fault)) => return Err(fault),
            });
        }
        Ok(greatest)
    }

    /// The same of one segment, by reading it.
    fn read_version(&self, part: &Part, kind: &str, id: &str) -> Result<u64, Fault> {
        let mut reader = self.reader.from(part.first);
        let mut greatest = 0;
        while reader.next_position() <= part.last {
            match reader.next_record() {
                None => break,
                Some(Ok(record)) if record.header.position > part.last => break,
                Some(Ok(record)) => greatest = greatest.max(version_in(record.body, kind, id)),
                Some(Err(ReadError::Damaged(_) | ReadError::Retired { .. })) => {}
                Some(Err(ReadError::Disk(fault))) => return Err(fault),
            }
        }
        Ok(greatest)
    }
}

/// The version of an aggregate that an event brought it to; 0 for others.
fn version_in(body: &[u8], kind: &str, id: &str) -> u64 {
    let Ok(frame) = Frame::read_vouched(body) else { return 0 };
    let meta = frame.meta();
    meta.aggregate().filter(|of| (of.kind, of.id) == (kind, id)).map_or(0, |of| of.version)
}
