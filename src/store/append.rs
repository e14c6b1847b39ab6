//! Appending: what a writer expects, what it is promised, and why it is refused.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;

use crate::{Aggregate, Frame};

use super::{Fault, Position};

/// Events that one append may have.
pub const BATCH_EVENTS_MAX: usize = 1_024;

/// How much an event has to survive before [`append`](super::EventStore::append) returns. Each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Nothing: the event is in memory, and lost when the process dies.
    Accepted,
    /// The end of the process, also by `kill -9`: the operating system has the event.
    Written,
    /// The loss of power, as far as the disk is honest: the event was synced.
    Durable,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accepted => "accepted",
            Self::Written => "written",
            Self::Durable => "durable",
        })
    }
}

/// What a writer expects of the aggregate whose events it appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Nothing is checked, and the events may be of any aggregates, or none: for a journal of what happened elsewhere. The
    /// greatest version found becomes the aggregate's.
    Any,
    /// It has no events yet.
    New,
    /// It is at this version; 0 = it has no events yet.
    Exact(u64),
}

/// Where events were appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    first: Position,
    last: Position,
    version: Option<u64>,
}

impl Appended {
    /// For those who write a store: `version` is that of the aggregate, if one was expected.
    ///
    /// # Panics
    /// When `last` is before `first`.
    pub fn new(first: Position, last: Position, version: Option<u64>) -> Self {
        assert!(first <= last, "events take positions in order");
        Self { first, last, version }
    }

    /// Positions of the first and the last event, and of all between.
    pub fn positions(&self) -> RangeInclusive<Position> {
        self.first..=self.last
    }

    /// The aggregate's version after the append; `None` when none was expected.
    pub fn version(&self) -> Option<u64> {
        self.version
    }
}

/// Why nothing was appended.
#[derive(Debug)]
#[non_exhaustive]
pub enum AppendError {
    /// There are no events.
    Empty,
    /// More events than one append may have.
    TooMany {
        /// Events there are.
        events: usize,
        /// The limit.
        max: usize,
    },
    /// A version is expected, and an event says of no aggregate that it changed.
    NoAggregate {
        /// Its place in the batch, from 0.
        at: usize,
    },
    /// A version is expected, and an event is of another aggregate than the first.
    OtherAggregate {
        /// Its place in the batch, from 0.
        at: usize,
    },
    /// The versions of the events do not follow each other, or not on the version expected.
    Gap {
        /// The event's place in the batch, from 0.
        at: usize,
        /// Its version.
        found: u64,
        /// The version that would follow.
        needed: u64,
    },
    /// Another writer was faster: load the aggregate again.
    Conflict {
        /// The aggregate's kind.
        kind: String,
        /// Its id.
        id: String,
        /// The version expected.
        expected: u64,
        /// The version it is at.
        found: u64,
    },
    /// The aggregate was to be new, and has events.
    AlreadyExists {
        /// The aggregate's kind.
        kind: String,
        /// Its id.
        id: String,
        /// The version it is at.
        version: u64,
    },
    /// The store does not keep this word.
    Durability {
        /// The word asked for.
        asked: Durability,
        /// The strongest it keeps.
        kept: Durability,
    },
    /// The store is full.
    Full {
        /// Which limit.
        limit: &'static str,
        /// What would be needed.
        needed: u64,
        /// The limit.
        max: u64,
    },
    /// The events are longer than the store takes at once.
    TooLong {
        /// Bytes of the longest event, or of all of them with what the store writes beside each.
        bytes: u64,
        /// The limit.
        max: u64,
        /// Which limit.
        limit: &'static str,
    },
    /// The store can never take one of the events, or more of them, as they are; it may take others.
    Refused(Box<dyn Error + Send + Sync>),
    /// The disk is full. The store goes on when there is room.
    DiskFull(Fault),
    /// The disk failed, now or earlier: the store takes nothing more until it is opened again, and only then is it known
    /// whether it has the events: all of them, or none.
    Disk(Fault),
    /// The server was lost in the middle of the commit: all of the events are there, or none. Look before you append them again.
    InDoubt(Box<dyn Error + Send + Sync>),
    /// What the store keeps its events in failed.
    Failed(Box<dyn Error + Send + Sync>),
}

impl AppendError {
    /// Whether another writer was faster, so that it helps to load the aggregate and decide again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::AlreadyExists { .. })
    }

    /// Whether the events are at fault, and not the store: the same append never succeeds, one of other events may.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Empty
            | Self::TooMany { .. }
            | Self::NoAggregate { .. }
            | Self::OtherAggregate { .. }
            | Self::Gap { .. }
            | Self::Conflict { .. }
            | Self::AlreadyExists { .. }
            | Self::TooLong { .. }
            | Self::Refused(_) => true,
            Self::Durability { .. }
            | Self::Full { .. }
            | Self::DiskFull(_)
            | Self::Disk(_)
            | Self::InDoubt(_)
            | Self::Failed(_) => false,
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no events were given to append"),
            Self::TooMany { events, max } => {
                write!(f, "{events} events were given to append, the limit is {max}; split them")
            }
            Self::NoAggregate { at } => {
                write!(f, "event {at} of the batch names no aggregate; name it, or expect ExpectedVersion::Any")
            }
            Self::OtherAggregate { at } => {
                write!(f, "event {at} of the batch is of another aggregate than the first; append them apart")
            }
            Self::Gap { at, found, needed } => {
                write!(f, "event {at} of the batch has version {found}, but {needed} would follow")
            }
            Self::Conflict { kind, id, expected, found } => write!(
                f,
                "{kind} {id:?} was expected at version {expected} and is at {found}: another writer was faster; load it and decide again"
            ),
            Self::AlreadyExists { kind, id, version } => {
                write!(f, "{kind} {id:?} was to be new and is at version {version}; load it, or take another id")
            }
            Self::Durability { asked, kept } => write!(
                f,
                "events were to be {asked}, this store keeps them {kept} at best; ask for less, or use a store on disk"
            ),
            Self::Full { limit, needed, max } => {
                write!(f, "the store is full: {needed} would be needed, the limit is {max}; raise {limit}")
            }
            Self::TooLong { bytes, max, limit } => {
                write!(f, "the events have {bytes} bytes, the limit is {max}; split them, or raise {limit}")
            }
            Self::Refused(error) => write!(f, "the store can never take these events: {error}; leave them out"),
            Self::DiskFull(fault) => {
                write!(f, "the events were not appended: {fault}; make room and append them again")
            }
            Self::Disk(fault) => write!(f, "the events may not have been appended: {fault}; open the store again"),
            Self::InDoubt(error) => {
                write!(f, "the events may have been appended: {error}; look for them before you append them again")
            }
            Self::Failed(error) => write!(f, "the events were not appended: {error}"),
        }
    }
}

impl Error for AppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(error) | Self::InDoubt(error) | Self::Failed(error) => Some(&**error),
            Self::DiskFull(fault) | Self::Disk(fault) => Some(fault),
            _ => None,
        }
    }
}

/// The aggregate that a batch is of, if a version of it is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) kind: String,
    pub(super) id: String,
    /// Before the batch.
    pub(super) version: u64,
    /// With the batch.
    pub(super) version_after: u64,
    /// It was asked for as new.
    is_new: bool,
}

/// Checks what can be said of a batch without the store.
pub(super) fn check(events: &[Frame], expected: ExpectedVersion) -> Result<Option<Expected>, AppendError> {
    let Some(first) = events.first() else { return Err(AppendError::Empty) };
    if events.len() > BATCH_EVENTS_MAX {
        return Err(AppendError::TooMany { events: events.len(), max: BATCH_EVENTS_MAX });
    }
    let expected_version = match expected {
        ExpectedVersion::Any => return Ok(None),
        ExpectedVersion::New => 0,
        ExpectedVersion::Exact(version) => version,
    };
    let meta = first.meta();
    let Aggregate { kind, id, .. } = meta.aggregate().ok_or(AppendError::NoAggregate { at: 0 })?;
    let mut version = expected_version;
    for (at, event) in events.iter().enumerate() {
        let meta = event.meta();
        let aggregate = meta.aggregate().ok_or(AppendError::NoAggregate { at })?;
        if (aggregate.kind, aggregate.id) != (kind, id) {
            return Err(AppendError::OtherAggregate { at });
        }
        let needed = version.saturating_add(1);
        if aggregate.version != needed || needed == version {
            return Err(AppendError::Gap { at, found: aggregate.version, needed });
        }
        version = needed;
    }
    let (kind, id) = (kind.to_owned(), id.to_owned());
    let is_new = expected == ExpectedVersion::New;
    Ok(Some(Expected { kind, id, version: expected_version, version_after: version, is_new }))
}

impl Expected {
    /// Checks it against the version that the store knows, 0 for an aggregate without events.
    pub(super) fn meets(self, found: u64) -> Result<u64, AppendError> {
        let Self { kind, id, version, version_after, is_new } = self;
        match found == version {
            true => Ok(version_after),
            false if is_new => Err(AppendError::AlreadyExists { kind, id, version: found }),
            false => Err(AppendError::Conflict { kind, id, expected: version, found }),
        }
    }
}
