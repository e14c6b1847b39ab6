//! Why a process manager stopped.

use std::error::Error;
use std::fmt;

use crate::store::{AppendError, LeaseError, Position, ReadError, StateError, StateReadError, SyncError, UpcastError};

/// Why a process manager stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProcessError {
    /// A name or key is empty or too long.
    Name {
        /// Which.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The events could not be read.
    Read(ReadError),
    /// An event was not brought to the current version of its schema.
    Upcast {
        /// Where it is.
        position: Position,
        /// Why.
        error: Box<UpcastError>,
    },
    /// The manager refused an event.
    React {
        /// Where it is.
        position: Position,
        /// What the manager says.
        error: Box<dyn Error + Send + Sync>,
    },
    /// A record is not as it was written, or of a newer program.
    Record {
        /// The instance; empty = where the manager goes on.
        id: String,
    },
    /// The state of an instance could not be read or written.
    Data {
        /// The instance.
        id: String,
        /// What its type says.
        error: Box<dyn Error + Send + Sync>,
    },
    /// Somebody else runs the process manager of this name.
    Lease(LeaseError),
    /// State could not be read.
    ReadState(StateReadError),
    /// State was not kept.
    Keep(StateError),
    /// The events that it comes from are not known to be durable, so it was not kept.
    Sync(SyncError),
    /// What is in the outbox was not appended. The next step does that first.
    Append(AppendError),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { what, bytes, max } => write!(f, "the {what} has {bytes} bytes, it may have 1 to {max}"),
            Self::Read(error) => error.fmt(f),
            Self::Upcast { position, error } => write!(f, "the event at position {position} is not handled: {error}"),
            Self::React { position, error } => {
                write!(f, "the event at position {position} could not be handled: {error}")
            }
            Self::Record { id } => {
                write!(f, "the record of process {id:?} is not as it was written, or of a newer program")
            }
            Self::Data { id, error } => write!(f, "the state of process {id:?} could not be read or written: {error}"),
            Self::Lease(error) => error.fmt(f),
            Self::ReadState(error) => error.fmt(f),
            Self::Keep(error) => error.fmt(f),
            Self::Sync(error) => error.fmt(f),
            Self::Append(error) => error.fmt(f),
        }
    }
}

impl Error for ProcessError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Upcast { error, .. } => Some(error),
            Self::React { error, .. } | Self::Data { error, .. } => Some(&**error),
            Self::Lease(error) => Some(error),
            Self::ReadState(error) => Some(error),
            Self::Keep(error) => Some(error),
            Self::Sync(error) => Some(error),
            Self::Append(error) => Some(error),
            Self::Name { .. } | Self::Record { .. } => None,
        }
    }
}
