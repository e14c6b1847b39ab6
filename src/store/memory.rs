//! A store in memory: complete, bounded, gone with its process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use crate::{EventId, Frame};

use super::memory_state::States;
use super::tail::Tail;
use super::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, Leases, Order, Page, Position, Query, ReadError,
    Snapshot, SnapshotError, StoredEvent, SyncError, append, snapshot,
};

/// Bytes that an event is taken to need beside its frame: its place in the list and in three indices.
const EVENT_BYTES: u64 = 256;
/// Events looked at before writers get their turn.
const LOOK_MAX: usize = 4_096;

/// An [`EventStore`] and [`StateStore`](super::StateStore) in memory, for tests and for what may be lost. What it keeps does not
/// outlive it.
///
/// # Cost
/// A lock. Readers hold it for some thousand events at a time; an index finds those of an aggregate, of a correlation and of
/// one topic, other queries look at all.
pub struct MemoryStore {
    kept: RwLock<Kept>,
    tail: Tail,
    events_max: u64,
    bytes_max: u64,
    pub(super) states: RwLock<States>,
    pub(super) state_bytes_max: u64,
    pub(super) durability: Durability,
    pub(super) leases: Leases,
}

#[derive(Default)]
struct Kept {
    /// The event of position 1 first.
    events: Vec<StoredEvent>,
    bytes: u64,
    /// By kind, then by id.
    aggregates: HashMap<Box<str>, HashMap<Box<str>, OneAggregate>>,
    topics: HashMap<Box<str>, Vec<Position>>,
    correlations: HashMap<EventId, Vec<Position>>,
}

#[derive(Default)]
struct OneAggregate {
    version: u64,
    events: Vec<Position>,
    snapshot: Option<Snapshot>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            kept: RwLock::default(),
            tail: Tail::default(),
            events_max: 1_000_000,
            bytes_max: 256 << 20,
            states: RwLock::default(),
            state_bytes_max: 64 << 20,
            durability: Durability::Accepted,
            leases: Leases::default(),
        }
    }

    /// Events that it keeps. Default 1,000,000.
    #[must_use]
    pub fn events_max(self, events: u64) -> Self {
        Self { events_max: events, ..self }
    }

    /// Bytes that events and snapshots may take, 256 beside each frame among them. Default 256 MiB.
    #[must_use]
    pub fn bytes_max(self, bytes: u64) -> Self {
        Self { bytes_max: bytes, ..self }
    }

    /// Bytes that state may take, 64 beside each key and value among them. Default 64 MiB.
    #[must_use]
    pub fn state_bytes_max(self, bytes: u64) -> Self {
        Self { state_bytes_max: bytes, ..self }
    }

    /// Says that it keeps this word although it does not: for tests of code that asks for it.
    #[must_use]
    pub fn pretending(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    // What is kept is changed after everything was checked, by steps that do not panic: a poisoned lock guards nothing
    // broken.
    fn read(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl EventStore for MemoryStore {
    fn append(
        &self,
        events: &[Frame],
        expected: ExpectedVersion,
        durability: Durability,
    ) -> Result<Appended, AppendError> {
        if durability > self.durability {
            return Err(AppendError::Durability { asked: durability, kept: self.durability });
        }
        let expected = append::check(events, expected)?;
        let mut kept = self.write();
        let found = expected.as_ref().map_or(0, |of| kept.version(&of.kind, &of.id));
        let version = expected.map(|expected| expected.meets(found)).transpose()?;
        let full = |limit, needed, max| {
            if needed > max { Err(AppendError::Full { limit, needed, max }) } else { Ok(()) }
        };
        let count = events.len() as u64;
        full("events_max", kept.events.len() as u64 + count, self.events_max)?;
        let bytes: u64 = events.iter().map(|frame| frame.bytes().len() as u64).sum();
        full("bytes_max", kept.bytes + bytes + count * EVENT_BYTES, self.bytes_max)?;
        let recorded_at = SystemTime::now();
        let first = kept.next_position();
        let mut last = first;
        for frame in events {
            last = kept.push(frame, recorded_at);
        }
        drop(kept);
        self.tail.grow(Some(last));
        Ok(Appended::new(first, last, version))
    }

    fn sync(&self) -> Result<(), SyncError> {
        Ok(())
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        let limit = query.events_max()?;
        let mut events = Vec::new();
        let mut query = query.clone();
        loop {
            let next = self.read().look(&query, limit, &mut events);
            match next {
                Some(next) if events.len() < limit => query = query.behind(next),
                next => return Ok(Page { events, next }),
            }
        }
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let mut kept = self.write();
        snapshot::check(snapshot, kept.version(snapshot.kind(), snapshot.id()))?;
        let before = kept.aggregate(snapshot.kind(), snapshot.id()).and_then(|aggregate| aggregate.snapshot.as_ref());
        if before.is_some_and(|before| before.version() > snapshot.version()) {
            return Ok(());
        }
        let freed = before.map_or(0, |before| before.state().bytes().len() as u64);
        let (needed, max) = (kept.bytes - freed + snapshot.state().bytes().len() as u64, self.bytes_max);
        if needed > max {
            return Err(SnapshotError::Full { limit: "bytes_max", needed, max });
        }
        kept.bytes = needed;
        kept.aggregate_mut(snapshot.kind(), snapshot.id()).snapshot = Some(snapshot.clone());
        Ok(())
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        Ok(self.read().aggregate(kind, id).and_then(|aggregate| aggregate.snapshot.clone()))
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(self.read().events.last().map(StoredEvent::position))
    }

    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError> {
        Ok(self.tail.wait_behind(position, limit))
    }

    fn durability(&self) -> Durability {
        self.durability
    }
}

impl Kept {
    fn aggregate(&self, kind: &str, id: &str) -> Option<&OneAggregate> {
        self.aggregates.get(kind)?.get(id)
    }

    fn aggregate_mut(&mut self, kind: &str, id: &str) -> &mut OneAggregate {
        entry(entry(&mut self.aggregates, kind), id)
    }

    /// 0 of an aggregate without events.
    fn version(&self, kind: &str, id: &str) -> u64 {
        self.aggregate(kind, id).map_or(0, |aggregate| aggregate.version)
    }

    fn next_position(&self) -> Position {
        Position::new(self.events.len() as u64 + 1).expect("not 0")
    }

    fn push(&mut self, frame: &Frame, recorded_at: SystemTime) -> Position {
        let position = self.next_position();
        let meta = frame.meta();
        if let Some(of) = meta.aggregate() {
            let aggregate = self.aggregate_mut(of.kind, of.id);
            aggregate.version = aggregate.version.max(of.version);
            aggregate.events.push(position);
        }
        if let Some(correlation) = meta.correlation() {
            self.correlations.entry(correlation).or_default().push(position);
        }
        entry(&mut self.topics, meta.topic()).push(position);
        self.bytes += frame.bytes().len() as u64 + EVENT_BYTES;
        self.events.push(StoredEvent::new(position, recorded_at, frame.clone()));
        position
    }

    /// Positions among which all events are that a query means, in order; `None` = all there are.
    fn candidates(&self, query: &Query) -> Option<&[Position]> {
        if let Some((kind, id)) = query.aggregate_asked() {
            return Some(self.aggregate(kind, id).map_or(&[], |aggregate| &aggregate.events));
        }
        if let Some(correlation) = query.correlation_asked() {
            return Some(self.correlations.get(&correlation).map_or(&[], |events| events));
        }
        let pattern = query.pattern_asked().filter(|pattern| pattern.is_exact())?;
        Some(self.topics.get(pattern.as_str()).map_or(&[], |events| events))
    }

    /// Adds events that a query means, up to `limit`, looking at no more than [`LOOK_MAX`]. Returns where to go on, if there
    /// is more to look at.
    fn look(&self, query: &Query, limit: usize, events: &mut Vec<StoredEvent>) -> Option<Position> {
        let (first, last) = query.positions()?;
        let last = last.get().min(self.events.len() as u64);
        match self.candidates(query) {
            Some(positions) => {
                let start = positions.partition_point(|position| *position < first);
                let end = positions.partition_point(|position| position.get() <= last);
                self.look_at(query, limit, events, positions.get(start..end)?.iter().copied())
            }
            None => {
                let range = first.get()..=last;
                self.look_at(query, limit, events, range.filter_map(Position::new))
            }
        }
    }

    fn look_at(
        &self,
        query: &Query,
        limit: usize,
        events: &mut Vec<StoredEvent>,
        positions: impl DoubleEndedIterator<Item = Position>,
    ) -> Option<Position> {
        let newest_first = query.order() == Order::NewestFirst;
        let mut positions = positions;
        let mut looked_at = None;
        for _ in 0..LOOK_MAX {
            if events.len() == limit {
                break;
            }
            let position = if newest_first { positions.next_back() } else { positions.next() }?;
            let event = &self.events[position.get() as usize - 1];
            if query.means(event) {
                events.push(event.clone());
            }
            looked_at = Some(position);
        }
        let more = if newest_first { positions.next_back() } else { positions.next() };
        more.and(looked_at)
    }
}

/// The entry of a text, made when it is new.
fn entry<'m, V: Default>(map: &'m mut HashMap<Box<str>, V>, text: &str) -> &'m mut V {
    if !map.contains_key(text) {
        map.insert(text.into(), V::default());
    }
    map.get_mut(text).expect("it was there, or has just been put there")
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.read();
        f.debug_struct("MemoryStore")
            .field("events", &kept.events.len())
            .field("bytes", &kept.bytes)
            .field("events_max", &self.events_max)
            .field("bytes_max", &self.bytes_max)
            .field("state_bytes", &self.states.read().unwrap_or_else(PoisonError::into_inner).bytes)
            .field("state_bytes_max", &self.state_bytes_max)
            .finish_non_exhaustive()
    }
}
