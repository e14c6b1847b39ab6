//! A store in memory: complete, bounded, gone with its process.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use crate::{EventId, Frame};

use super::memory_state::States;
use super::tail::Tail;
use super::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, Leases, Order, Page, Position, Query, ReadError,
    Snapshot, SnapshotError, StateError, StoredEvent, SyncError, append, snapshot,
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
    evicts: bool,
    pub(super) states: RwLock<States>,
    pub(super) state_bytes_max: u64,
    pub(super) durability: Durability,
    pub(super) leases: Leases,
}

#[derive(Default)]
struct Kept {
    /// Oldest first.
    events: VecDeque<StoredEvent>,
    bytes: u64,
    /// Events that were before them.
    evicted: u64,
    /// Kinds of aggregates that are loaded from their events.
    sourced: HashSet<Box<str>>,
    /// By kind, then by id.
    aggregates: HashMap<Box<str>, HashMap<Box<str>, OneAggregate>>,
    topics: HashMap<Box<str>, VecDeque<Position>>,
    correlations: HashMap<EventId, VecDeque<Position>>,
}

#[derive(Default)]
struct OneAggregate {
    version: u64,
    events: VecDeque<Position>,
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
            evicts: false,
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

    /// Evicts the oldest events where a limit is reached, in place of refusing what is appended. Nobody who reads on is waited
    /// for: he hears of what he missed ([`ReadError::Removed`]). What an aggregate is [loaded from](EventStore::keep_history) stays
    /// until a snapshot has it, and what is behind it, too. Default: it refuses.
    #[must_use]
    pub fn evicting(self) -> Self {
        Self { evicts: true, ..self }
    }

    /// Events that were evicted so far.
    pub fn evicted(&self) -> u64 {
        self.read().evicted
    }

    /// Makes room for so many events and bytes more, if it may and that helps. Else says which limit is in the way, what would
    /// be needed, and the limit.
    fn make_room(&self, kept: &mut Kept, events: u64, bytes: u64) -> Result<(), (&'static str, u64, u64)> {
        let may_fit = events <= self.events_max && bytes <= self.bytes_max;
        loop {
            let needed = [
                ("events_max", kept.events.len() as u64 + events, self.events_max),
                ("bytes_max", kept.bytes + bytes, self.bytes_max),
            ];
            let Some(over) = needed.into_iter().find(|(_, needed, max)| needed > max) else { return Ok(()) };
            if !self.evicts || !may_fit || !kept.evict() {
                return Err(over);
            }
        }
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
        let bytes = events.iter().map(event_bytes).sum();
        self.make_room(&mut kept, events.len() as u64, bytes).map_err(|(limit, needed, max)| AppendError::Full {
            limit,
            needed,
            max,
        })?;
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
        let mut page = Page { events: Vec::new(), next: None };
        let mut query = query.clone();
        loop {
            let kept = self.read();
            match query.check_first(kept.first()) {
                // Evicted since the page was begun: whoever asks for the next hears of it.
                Err(_) if !page.events.is_empty() => return Ok(page),
                checked => checked?,
            }
            page.next = kept.look(&query, limit, &mut page.events);
            match page.next {
                Some(next) if page.events.len() < limit => query = query.behind(next),
                _ => return Ok(page),
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
        let bytes = snapshot.state().bytes().len() as u64;
        self.make_room(&mut kept, 0, bytes.saturating_sub(freed))
            .map_err(|(limit, needed, max)| SnapshotError::Full { limit, needed, max })?;
        kept.bytes = kept.bytes - freed + bytes;
        kept.aggregate_mut(snapshot.kind(), snapshot.id()).snapshot = Some(snapshot.clone());
        Ok(())
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        Ok(self.read().aggregate(kind, id).and_then(|aggregate| aggregate.snapshot.clone()))
    }

    fn keep_history(&self, kind: &str) -> Result<(), StateError> {
        self.write().sourced.insert(kind.into());
        Ok(())
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(Position::new(self.read().last()))
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

    /// The position of the oldest event, or of the next.
    fn first(&self) -> Position {
        Position::new(self.evicted + 1).expect("not 0")
    }

    /// The position of the last event there was, 0 before the first.
    fn last(&self) -> u64 {
        self.evicted + self.events.len() as u64
    }

    fn next_position(&self) -> Position {
        Position::new(self.last() + 1).expect("not 0")
    }

    /// Lets go of the oldest event, unless there is none or an aggregate has to be loaded from it.
    fn evict(&mut self) -> bool {
        let Some(event) = self.events.front().cloned() else { return false };
        let meta = event.meta();
        if let Some(of) = meta.aggregate() {
            let is_sourced = self.sourced.contains(of.kind);
            let ids = self.aggregates.get_mut(of.kind).expect("each event is in its indices");
            let aggregate = ids.get_mut(of.id).expect("each event is in its indices");
            let shown = aggregate.snapshot.as_ref().map_or(0, Snapshot::version);
            if is_sourced && shown < of.version {
                return false;
            }
            aggregate.events.pop_front();
            if aggregate.events.is_empty() && aggregate.snapshot.is_none() {
                ids.remove(of.id);
            }
            if ids.is_empty() {
                self.aggregates.remove(of.kind);
            }
        }
        if let Some(correlation) = meta.correlation() {
            let events = self.correlations.get_mut(&correlation).expect("each event is in its indices");
            events.pop_front();
            if events.is_empty() {
                self.correlations.remove(&correlation);
            }
        }
        let events = self.topics.get_mut(meta.topic()).expect("each event is in its indices");
        events.pop_front();
        if events.is_empty() {
            self.topics.remove(meta.topic());
        }
        self.bytes -= event_bytes(event.frame());
        self.events.pop_front();
        self.evicted += 1;
        true
    }

    fn push(&mut self, frame: &Frame, recorded_at: SystemTime) -> Position {
        let position = self.next_position();
        let meta = frame.meta();
        if let Some(of) = meta.aggregate() {
            let aggregate = self.aggregate_mut(of.kind, of.id);
            aggregate.version = aggregate.version.max(of.version);
            aggregate.events.push_back(position);
        }
        if let Some(correlation) = meta.correlation() {
            self.correlations.entry(correlation).or_default().push_back(position);
        }
        entry(&mut self.topics, meta.topic()).push_back(position);
        self.bytes += event_bytes(frame);
        self.events.push_back(StoredEvent::new(position, recorded_at, frame.clone()));
        position
    }

    /// Positions among which all events are that a query means, in order; `None` = all there are.
    fn candidates(&self, query: &Query) -> Option<&VecDeque<Position>> {
        static NONE: VecDeque<Position> = VecDeque::new();
        if let Some((kind, id)) = query.aggregate_asked() {
            return Some(self.aggregate(kind, id).map_or(&NONE, |aggregate| &aggregate.events));
        }
        if let Some(correlation) = query.correlation_asked() {
            return Some(self.correlations.get(&correlation).unwrap_or(&NONE));
        }
        let pattern = query.pattern_asked().filter(|pattern| pattern.is_exact())?;
        Some(self.topics.get(pattern.as_str()).unwrap_or(&NONE))
    }

    /// Adds events that a query means, up to `limit`, looking at no more than [`LOOK_MAX`]. Returns where to go on, if there
    /// is more to look at.
    fn look(&self, query: &Query, limit: usize, events: &mut Vec<StoredEvent>) -> Option<Position> {
        let (first, last) = query.positions()?;
        let (first, last) = (first.max(self.first()), last.get().min(self.last()));
        match self.candidates(query) {
            Some(positions) => {
                let start = positions.partition_point(|position| *position < first);
                let end = positions.partition_point(|position| position.get() <= last);
                let range = if start < end { start..end } else { return None };
                self.look_at(query, limit, events, positions.range(range).copied())
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
            let event = &self.events[(position.get() - 1 - self.evicted) as usize];
            if query.means(event) {
                events.push(event.clone());
            }
            looked_at = Some(position);
        }
        let more = if newest_first { positions.next_back() } else { positions.next() };
        more.and(looked_at)
    }
}

/// Bytes that an event is taken to need.
fn event_bytes(frame: &Frame) -> u64 {
    frame.bytes().len() as u64 + EVENT_BYTES
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
            .field("evicted", &kept.evicted)
            .field("bytes", &kept.bytes)
            .field("events_max", &self.events_max)
            .field("bytes_max", &self.bytes_max)
            .field("state_bytes", &self.states.read().unwrap_or_else(PoisonError::into_inner).bytes)
            .field("state_bytes_max", &self.state_bytes_max)
            .finish_non_exhaustive()
    }
}
