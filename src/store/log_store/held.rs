//! What keeps old events from being removed: who reads on and has not come to them, and aggregates that are made of them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::PoisonError;

use crate::Frame;

use super::super::log::{Fault, ReadError, SegmentInfo, Word};
use super::super::state::{PageRoom, STATE_PAGE_MAX, StateError, StateKind, StateValue};
use super::super::{Bookmark, Position};
use super::shared::Shared;
use super::states::not_changed;
use super::{LogStore, Retention};

/// Snapshots whose versions are remembered while a segment is read.
const REMEMBERED_MAX: usize = 65_536;
/// What cursors begin with, and whose they are. A name with its length follows, and a generation where there are several.
const READERS: [(&str, &str); 4] = [
    ("subscription", "durable subscription"),
    ("durable", "durable publisher"),
    ("view", "projection"),
    ("process", "process manager"),
];

/// Events that are to be removed and are kept: those of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Where they are.
    pub positions: RangeInclusive<Position>,
    /// How many there are.
    pub events: u64,
    /// For whom; empty where only older events are held, for the oldest go first.
    pub holders: Vec<Holder>,
}

/// Who keeps events from being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// One who reads on, and has not come to all of them.
    Reader {
        /// Who that is, such as `durable subscription "billing"`.
        name: String,
        /// The last position that he has looked at; `None` = he stands before the first.
        at: Option<Position>,
    },
    /// An aggregate that a repository loads from these events. There may be others: one is enough.
    Aggregate {
        /// Its kind.
        kind: String,
        /// Its id.
        id: String,
        /// The version that no snapshot of it has.
        version: u64,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reader { name, at: Some(at) } => write!(f, "{name}, which is at position {at}"),
            Self::Reader { name, at: None } => write!(f, "{name}, which is before the first position"),
            Self::Aggregate { kind, id, version } => {
                write!(f, "{kind} {id:?}, which has no snapshot of its version {version}")
            }
        }
    }
}

/// The key of a cursor, and where it stands.
type Reader = (Box<[u8]>, Option<Position>);

/// An event that an aggregate is made of.
#[derive(Debug, Clone)]
pub(super) struct Needed {
    /// The first position of its segment.
    segment: u64,
    kind: String,
    id: String,
    version: u64,
}

impl LogStore {
    /// Which events are to be removed by a retention and are kept, for whom: oldest first, a segment each.
    ///
    /// # Errors
    /// When cursors or events cannot be read.
    ///
    /// # Cost
    /// Reads the cursors, and the oldest of these segments where it may hold events of aggregates.
    pub fn held(&self, retention: Retention) -> Result<Vec<Held>, Fault> {
        let segments = self.shared.reader.segments();
        let (_, due) = self.shared.due(retention, &segments)?;
        let readers = self.shared.readers()?;
        let mut held = Vec::with_capacity(due.held_segments);
        for nth in (due.removed_segments..segments.len()).take(due.held_segments) {
            let (segment, next) = (&segments[nth], segments[nth + 1].first);
            let has_more = |at: Option<Position>| at.map_or(0, Position::get) < next - 1;
            let behind = readers.iter().filter(|(_, at)| has_more(*at));
            let mut holders: Vec<_> = behind.map(|(key, at)| Holder::Reader { name: reader(key), at: *at }).collect();
            if held.is_empty() && !retention.removes_unsnapshotted() {
                let needed = self.shared.needed(segment, next)?;
                holders.extend(needed.map(|Needed { kind, id, version, .. }| Holder::Aggregate { kind, id, version }));
            }
            let [first, last] = [segment.first, next - 1].map(|at| Position::new(at).expect("positions count from 1"));
            held.push(Held { positions: first..=last, events: segment.records, holders });
        }
        Ok(held)
    }

    /// That aggregates of a kind are made of their events, kept before any of them is.
    pub(super) fn note_sourced(&self, kind: &str) -> Result<(), StateError> {
        let key = kind.as_bytes();
        if let Ok(Some(_)) = self.shared.table.get(StateKind::SOURCED, key) {
            return Ok(());
        }
        self.shared.table.put(StateKind::SOURCED, key, &[], Word::Durable).map_err(not_changed)
    }
}

impl Shared {
    /// The position of the one who reads on and is furthest behind, 0 = before the first event; `None` when there is nobody.
    pub(super) fn furthest_behind(&self) -> Result<Option<u64>, Fault> {
        Ok(self.readers()?.iter().map(|(_, at)| at.map_or(0, Position::get)).min())
    }

    /// The keys of those who read on, and where they are.
    fn readers(&self) -> Result<Vec<Reader>, Fault> {
        let mut readers = Vec::new();
        self.each_state(StateKind::CURSOR, |key, value| {
            readers.extend(Bookmark::of_bytes(value).map(|bookmark| (key.into(), bookmark.position())));
        })?;
        Ok(readers)
    }

    /// Reads all keys of a kind, and their values.
    fn each_state(&self, kind: StateKind, mut tell: impl FnMut(&[u8], &StateValue)) -> Result<(), Fault> {
        let mut from = Some(Box::from([]));
        while let Some(key) = from {
            let room = PageRoom::of(STATE_PAGE_MAX).expect("it is the limit");
            let page = self.table.page(kind, &key, room).map_err(|(_, error)| {
                Fault::new("read the state in", &self.folder, io::Error::other(error.to_string()))
            })?;
            page.entries.iter().for_each(|(key, value)| tell(key, value));
            from = page.next;
        }
        Ok(())
    }

    /// An event of a segment that an aggregate is made of, of a kind that a repository loads, and that no snapshot has. One is
    /// remembered, so that a segment is not read again for as long as it is held for that.
    pub(super) fn needed(&self, segment: &SegmentInfo, next: u64) -> Result<Option<Needed>, Fault> {
        let mut kinds = Vec::new();
        self.each_state(StateKind::SOURCED, |kind, _| kinds.extend(String::from_utf8(kind.into())))?;
        if kinds.is_empty() {
            return Ok(None);
        }
        let mut known = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        let still = |needed: &Needed| {
            needed.segment == segment.first && self.covered(&needed.kind, &needed.id) < needed.version
        };
        if !known.as_ref().is_some_and(still) {
            *known = self.look_for_needed(&kinds, segment.first, next)?;
        }
        Ok(known.clone())
    }

    fn look_for_needed(&self, kinds: &[String], segment: u64, next: u64) -> Result<Option<Needed>, Fault> {
        let (mut reader, mut snapshots) = (self.reader.from(segment), BTreeMap::new());
        while reader.next_position() < next {
            let record = match reader.next_record() {
                None => break,
                Some(Ok(record)) if record.header.position >= next => break,
                Some(Ok(record)) => record,
                // What cannot be read makes nothing.
                Some(Err(ReadError::Damaged(_) | ReadError::Retired { .. })) => continue,
                Some(Err(ReadError::Disk(fault))) => return Err(fault),
            };
            let Ok(frame) = Frame::read_vouched(record.body) else { continue };
            let meta = frame.meta();
            let Some(of) = meta.aggregate().filter(|of| kinds.iter().any(|kind| kind == of.kind)) else { continue };
            if snapshots.len() >= REMEMBERED_MAX {
                snapshots.clear();
            }
            let key = (of.kind.to_owned(), of.id.to_owned());
            let covered = *snapshots.entry(key).or_insert_with(|| self.covered(of.kind, of.id));
            if covered < of.version {
                let (kind, id) = (of.kind.to_owned(), of.id.to_owned());
                return Ok(Some(Needed { segment, kind, id, version: of.version }));
            }
        }
        Ok(None)
    }

    /// The version that an aggregate's snapshot shows; 0 without one, or where it cannot be read: then its events are needed.
    fn covered(&self, kind: &str, id: &str) -> u64 {
        self.snapshots.load(kind, id).ok().flatten().map_or(0, |snapshot| snapshot.version())
    }
}

/// Whose cursor a key is.
fn reader(key: &[u8]) -> String {
    let known = READERS.iter().find_map(|(prefix, whose)| {
        let (length, rest) = key.strip_prefix(prefix.as_bytes())?.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let name = String::from_utf8_lossy(name);
        match rest.try_into().map(u64::from_be_bytes) {
            Ok(generation) => Some(format!("{whose} {name:?}, generation {generation}")),
            Err(_) => rest.is_empty().then(|| format!("{whose} {name:?}")),
        }
    });
    known.unwrap_or_else(|| format!("the cursor \"{}\"", key.escape_ascii()))
}
