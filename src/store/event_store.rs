//! What every store can do, whatever it keeps its events in.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use crate::{DecodeError, Event, EventId, Frame, FrameRef, Meta, Payload};

use super::{
    AppendError, Appended, CausationTree, Durability, ExpectedVersion, Fault, Page, Query, ReadError, Snapshot,
    SnapshotError, StateError,
};

/// Keeps events in one order, finds them again, and keeps snapshots of aggregates. Calls block; any number of threads may
/// make them.
pub trait EventStore: Send + Sync {
    /// Appends events in this order, at positions without a gap between them; all of them, or none.
    ///
    /// Returns when `durability` is met. Whoever reads after that finds them.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended.
    fn append(
        &self,
        events: &[Frame],
        expected: ExpectedVersion,
        durability: Durability,
    ) -> Result<Appended, AppendError>;

    /// Makes durable, as far as the store does that at all, what was appended so far with a weaker word. Whoever keeps how far he
    /// has come calls it before: else the loss of power may take events that he has passed, and others come to their positions.
    ///
    /// # Errors
    /// See [`SyncError`].
    ///
    /// # Cost
    /// A sync of the disk, unless everything is durable.
    fn sync(&self) -> Result<(), SyncError>;

    /// The next page of the events that a query means. A page, and a row of them, has no gap that is not said: see
    /// [`ReadError::Removed`].
    ///
    /// # Errors
    /// See [`ReadError`].
    fn query(&self, query: &Query) -> Result<Page, ReadError>;

    /// Lends the events of the next page, one after the other, until there is no more of it or `look` breaks. Returns behind which position
    /// to go on, `None` when there is nothing more to look at. [`Query::visit`] goes through all pages.
    ///
    /// `look` may call the store. An error comes alone: where events are lent before it, the call ends behind the last of them, and the
    /// next one meets it.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cost
    /// By default that of `query`. A [`LogStore`](super::LogStore) lends each event where it was read: nothing is allocated or copied for it.
    fn visit(
        &self,
        query: &Query,
        look: &mut dyn FnMut(StoredEventRef<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Position>, ReadError> {
        let page = self.query(query)?;
        let is_last = |nth: usize| nth + 1 == page.events.len();
        for (nth, event) in page.events.iter().enumerate() {
            if look(event.view()).is_break() {
                return Ok(if is_last(nth) { page.next } else { Some(event.position()) });
            }
        }
        Ok(page.next)
    }

    /// Keeps a snapshot in place of an older one of the same aggregate. An older one than is there changes nothing.
    ///
    /// # Errors
    /// See [`SnapshotError`]; the snapshot that was there stays.
    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError>;

    /// The latest snapshot of an aggregate; `None` when there is none.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError>;

    /// Has the store keep what aggregates of a kind are made of: it removes no event of them by [its own](super::Retention) that no
    /// snapshot has. A repository says so before it first saves; once said, it holds. Default: nothing, for stores that remove nothing.
    ///
    /// # Errors
    /// See [`StateError`]; as before then.
    fn keep_history(&self, kind: &str) -> Result<(), StateError> {
        let _ = kind;
        Ok(())
    }

    /// The position of the oldest event that is still there; `None` when there is none.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn first(&self) -> Result<Option<Position>, ReadError> {
        let mut query = Query::new().limit(1);
        loop {
            let next = match self.query(&query) {
                Ok(page) if !page.events.is_empty() => return Ok(page.events.first().map(StoredEvent::position)),
                Ok(page) => page.next,
                Err(ReadError::Removed { first, .. }) => return Ok(Some(first)),
                Err(error) => match error.missing() {
                    Some(missing) => return Ok(Some(*missing.start())),
                    None => return Err(error),
                },
            };
            let Some(next) = next else { return Ok(None) };
            query = query.behind(next);
        }
    }

    /// The position of the latest event; `None` when there is none.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn head(&self) -> Result<Option<Position>, ReadError>;

    /// Waits until there is an event behind a position, `None` being before the first, at most `limit`. Returns whether there is.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError>;

    /// The strongest word that this store keeps.
    fn durability(&self) -> Durability;

    /// The first page of an aggregate's events with versions above `after_version`, oldest first.
    /// [`Query::aggregate`] and [`Query::stream`] read all pages.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn load(&self, kind: &str, id: &str, after_version: u64) -> Result<Page, ReadError> {
        self.query(&Query::new().aggregate(kind, id).after_version(after_version).limit(Query::EVENTS_MAX))
    }

    /// Which event of a correlation caused which: at most [`CausationTree::EVENTS_MAX`] of them, oldest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn causation(&self, correlation: EventId) -> Result<CausationTree, ReadError> {
        CausationTree::read(correlation, |query| self.query(query))
    }
}

/// Why it is not known whether what was appended is durable.
#[derive(Debug)]
#[non_exhaustive]
pub enum SyncError {
    /// The disk failed, now or earlier: the store takes nothing more until it is opened again.
    Disk(Fault),
    /// What the store keeps its events in failed.
    Failed(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(fault) => write!(f, "events may not be durable: {fault}; open the store again"),
            Self::Failed(error) => write!(f, "events may not be durable: {error}"),
        }
    }
}

impl Error for SyncError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(fault) => Some(fault),
            Self::Failed(error) => Some(&**error),
        }
    }
}

/// An event's place in the order of all events of a store: 1, 2, 3 and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

impl Position {
    /// Of the first event.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The position of this number; `None` for 0.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number, from 1.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    position: Position,
    recorded_at: SystemTime,
    frame: Frame,
}

impl StoredEvent {
    /// For those who write a store.
    pub const fn new(position: Position, recorded_at: SystemTime, frame: Frame) -> Self {
        Self { position, recorded_at, frame }
    }

    /// Its place in the store.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// When it was appended, by the wall clock of whoever did. For display: the order of events is that of their
    /// positions.
    pub const fn recorded_at(&self) -> SystemTime {
        self.recorded_at
    }

    /// The event as it was appended: to publish it again, or to send it elsewhere.
    pub const fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The event as one that is lent.
    pub fn view(&self) -> StoredEventRef<'_> {
        let Self { position, recorded_at, frame } = self;
        StoredEventRef { position: *position, recorded_at: *recorded_at, frame: frame.view(), kept: Some(frame) }
    }

    /// Everything about the event.
    pub fn meta(&self) -> Meta<'_> {
        self.frame.meta()
    }

    /// The payload as it is.
    pub fn payload(&self) -> Payload<'_> {
        self.frame.payload()
    }

    /// The event as `E`, read in place and validated at each call.
    ///
    /// # Errors
    /// When the payload is in another encoding, or no valid archive of `E`.
    pub fn event<E: Event>(&self) -> Result<&E::Archived, DecodeError> {
        self.frame.event::<E>()
    }
}

/// An event of a store where it lies, lent for as long as it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct StoredEventRef<'a> {
    position: Position,
    recorded_at: SystemTime,
    frame: FrameRef<'a>,
    /// Where the frame is one of its own already.
    kept: Option<&'a Frame>,
}

impl<'a> StoredEventRef<'a> {
    /// For those who write a store.
    pub const fn new(position: Position, recorded_at: SystemTime, frame: FrameRef<'a>) -> Self {
        Self { position, recorded_at, frame, kept: None }
    }

    /// Its place in the store.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// When it was appended, by the wall clock of whoever did: see [`StoredEvent::recorded_at`].
    pub const fn recorded_at(&self) -> SystemTime {
        self.recorded_at
    }

    /// The event as it was appended: to publish it again, or to send it elsewhere.
    pub const fn frame(&self) -> FrameRef<'a> {
        self.frame
    }

    /// Everything about the event.
    pub fn meta(&self) -> Meta<'_> {
        self.frame.meta()
    }

    /// The payload as it is.
    pub fn payload(&self) -> Payload<'a> {
        self.frame.payload()
    }

    /// The event as `E`, read in place and validated at each call.
    ///
    /// # Errors
    /// When the payload is in another encoding, or no valid archive of `E`.
    pub fn event<E: Event>(&self) -> Result<&'a E::Archived, DecodeError> {
        self.frame.event::<E>()
    }

    /// The event to keep.
    ///
    /// # Cost
    /// A copy, unless the store has it as a frame of its own.
    pub fn to_event(&self) -> StoredEvent {
        let frame = self.kept.cloned().unwrap_or_else(|| self.frame.to_frame());
        StoredEvent::new(self.position, self.recorded_at, frame)
    }
}

impl<'a> From<&'a StoredEvent> for StoredEventRef<'a> {
    fn from(event: &'a StoredEvent) -> Self {
        event.view()
    }
}
