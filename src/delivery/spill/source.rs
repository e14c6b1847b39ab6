//! The store of what finds a mailbox full, as the bus sees it.

use std::fmt;
use std::time::Duration;

use crate::event::{Frame, Priority};
use crate::routing::Pattern;

/// What keeps the events of a bus, in the order of each lane, so that a subscription that cannot keep up reads them there: a journal
/// (`store::Journal::spill_source`), or one's own. See [`Subscribe::spill`](crate::Subscribe::spill).
pub trait SpillSource: Send + Sync {
    /// Whether it keeps every event that this pattern matches.
    fn covers(&self, pattern: &Pattern) -> bool;

    /// Begins to read, of each priority named the events of this [`sequence`](crate::Meta::sequence) and behind it. Of the other
    /// priorities nothing is asked for. Sequences count up and wrap.
    fn read_from(&self, first: &[(Priority, u64)]) -> Box<dyn SpillReader>;
}

/// Reads what a [`SpillSource`] keeps. On a thread of the subscription's own, so it may block.
pub trait SpillReader: Send {
    /// The next events, waiting at most `limit` while there are none. Those that were not asked for may be among them.
    ///
    /// # Errors
    /// See [`SpillError`].
    fn next_page(&mut self, limit: Duration) -> Result<SpillPage, SpillError>;
}

/// Events that were read back.
#[derive(Debug, Default)]
pub struct SpillPage {
    /// The events; those of one priority by rising sequence.
    pub events: Vec<SpilledEvent>,
    /// For each of these priorities: every event before this sequence has been read, or never will be.
    pub complete_before: Vec<(Priority, u64)>,
}

/// An event that was read back.
#[derive(Debug, Clone)]
pub struct SpilledEvent {
    /// Its [`sequence`](crate::Meta::sequence) when it was in its lane.
    pub sequence: u64,
    /// Its [`position`](crate::Meta::position) when it was there, if it had one.
    pub position: Option<u64>,
    /// The event.
    pub frame: Frame,
}

/// Why events were not read back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpillError {
    /// It did not work now, for this reason, and is tried again.
    Failed(String),
    /// Some events can never be read, for this reason. Reading goes on behind them.
    Unreadable(String),
    /// Nothing more is kept, for this reason, and what was not read is lost.
    Over(String),
}

impl fmt::Display for SpillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "events could not be read back, which is tried again: {reason}"),
            Self::Unreadable(reason) => write!(f, "some events cannot be read back and are left out: {reason}"),
            Self::Over(reason) => write!(f, "no more events are kept to be read back: {reason}"),
        }
    }
}

impl std::error::Error for SpillError {}
