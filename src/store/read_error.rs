//! Why events are not read, and which.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;

use crate::{EventId, FrameError};

use super::{Bookmark, Damage, Fault, Position};

/// Why nothing was read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// A page of no events, or of too many.
    Limit {
        /// Events asked for.
        asked: usize,
        /// The limit.
        max: usize,
    },
    /// The next events in the order of the query cannot be read; those behind them can. They are named by position in
    /// [`Damage::missing`]: ask for what is behind it.
    Damaged(Damage),
    /// What the store has at a position is whole, and no event that this program knows how to read.
    NoEvent {
        /// The position: ask for what is behind it.
        position: Position,
        /// What is wrong.
        error: FrameError,
    },
    /// Events were removed before they were read, as a [`Retention`](super::Retention) says, or
    /// [evicted](super::MemoryStore::evicting): those from one position on, up to the one before `first`.
    Removed {
        /// Where reading was to go on.
        from: Position,
        /// The oldest event that there is.
        first: Position,
    },
    /// The store is not the one that a reader has read before, or has lost its end: it has another event where that one was, or none.
    Diverged {
        /// How far the reader had come.
        bookmark: Bookmark,
        /// The event that is there; `None` when the store ends before.
        found: Option<EventId>,
    },
    /// The disk failed.
    Disk(Fault),
    /// What the store keeps its events in failed.
    Failed(Box<dyn Error + Send + Sync>),
}

impl ReadError {
    /// The positions of what cannot be read, now or ever; `None` where they are not known, or reading again may help.
    pub fn missing(&self) -> Option<RangeInclusive<Position>> {
        match self {
            Self::Damaged(damage) => {
                let missing = damage.missing.as_ref()?;
                Some(Position::new(*missing.start())?..=Position::new(*missing.end())?)
            }
            Self::NoEvent { position, .. } => Some(*position..=*position),
            Self::Removed { from, first } => Some(*from..=Position::new(first.get() - 1)?),
            Self::Limit { .. } | Self::Diverged { .. } | Self::Disk(_) | Self::Failed(_) => None,
        }
    }

    /// The last position of what cannot be read and is to be left out; `None` where that is not known, or reading again may help.
    pub fn behind(&self) -> Option<Position> {
        self.missing().map(|missing| *missing.end())
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { asked, max } => {
                write!(f, "a page of {asked} events was asked for, it has 1 to {max}; read more with Query::stream")
            }
            Self::Damaged(damage) => write!(f, "{damage}; read on behind it"),
            Self::NoEvent { position, error } => {
                write!(f, "what is at position {position} cannot be read as an event: {error}; read on behind it")
            }
            Self::Removed { from, first } => {
                let events = first.get().saturating_sub(from.get());
                write!(
                    f,
                    "{events} events from position {from} on were removed before they were read; read on at {first}, or have the store keep more"
                )
            }
            Self::Diverged { bookmark, found } => {
                let position = bookmark.position().map_or(0, Position::get);
                write!(f, "a reader has come to position {position}")?;
                match (bookmark.event(), found) {
                    (Some(event), Some(found)) => write!(f, ", event {event}, and the store has event {found} there")?,
                    _ => f.write_str(", and the store ends before it")?,
                }
                f.write_str(": it is another store, or has lost its end; read the right one, or begin anew behind a position of your choice")
            }
            Self::Disk(fault) => write!(f, "the store could not be read: {fault}"),
            Self::Failed(error) => write!(f, "the store could not be read: {error}"),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Damaged(damage) => Some(damage),
            Self::NoEvent { error, .. } => Some(error),
            Self::Disk(fault) => Some(fault),
            Self::Limit { .. } | Self::Removed { .. } | Self::Diverged { .. } => None,
        }
    }
}
