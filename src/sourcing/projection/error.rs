//! Why a projection stopped.

use std::error::Error;
use std::fmt;

use crate::store::{LeaseError, Position, ReadError, StateError, StateReadError, SyncError, UpcastError};

/// Why a projection stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProjectionError {
    /// The events could not be read.
    Read(ReadError),
    /// An event was not brought to the current version of its schema.
    Upcast {
        /// Where it is.
        position: Position,
        /// Why.
        error: Box<UpcastError>,
    },
    /// The projection refused an event.
    Apply {
        /// Where it is.
        position: Position,
        /// What the projection says.
        error: Box<dyn Error + Send + Sync>,
    },
    /// View or position could not be read.
    State(StateReadError),
    /// Somebody else makes this generation of the view.
    Lease(LeaseError),
    /// View and position were not kept.
    Keep(StateError),
    /// The events that they come from are not known to be durable, so they were not kept.
    Sync(SyncError),
    /// A record of the view's own is not as it was written.
    Record {
        /// The view.
        name: String,
    },
    /// The name is too long.
    NameTooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A newer generation took over.
    Replaced {
        /// The view.
        name: String,
        /// The generation of this projector.
        generation: u64,
        /// The live one.
        live: u64,
    },
    /// It cannot take over: the live generation has come further.
    Behind {
        /// The last event that it has looked at.
        position: Option<Position>,
        /// The last event that the live generation has looked at.
        live: Option<Position>,
    },
    /// It cannot be discarded: it is live.
    Live {
        /// The view.
        name: String,
    },
}

impl fmt::Display for ProjectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::State(error) => error.fmt(f),
            Self::Lease(error) => error.fmt(f),
            Self::Keep(error) => error.fmt(f),
            Self::Sync(error) => error.fmt(f),
            Self::Upcast { position, error } => write!(f, "the event at position {position} is not projected: {error}"),
            Self::Apply { position, error } => {
                write!(f, "the event at position {position} could not be projected: {error}")
            }
            Self::Record { name } => {
                write!(f, "the record of view {name:?} is not as it was written; rebuild it under another name")
            }
            Self::NameTooLong { bytes, max } => {
                write!(f, "the name of the view has {bytes} bytes, the limit is {max}; shorten it")
            }
            Self::Replaced { name, generation, live } => {
                write!(f, "generation {generation} of view {name:?} was replaced by {live}; go on with Projector::live")
            }
            Self::Behind { position, live } => {
                let number = |position: &Option<Position>| position.map_or(0, Position::get);
                write!(
                    f,
                    "the view has come to position {}, the live one to {}; step until there is no more",
                    number(position),
                    number(live)
                )
            }
            Self::Live { name } => write!(f, "view {name:?} is live in this generation; rebuild it, then take over"),
        }
    }
}

impl Error for ProjectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::State(error) => Some(error),
            Self::Lease(error) => Some(error),
            Self::Keep(error) => Some(error),
            Self::Sync(error) => Some(error),
            Self::Upcast { error, .. } => Some(error),
            Self::Apply { error, .. } => Some(&**error),
            _ => None,
        }
    }
}
