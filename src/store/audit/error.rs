//! Why there is no record.

use std::error::Error;
use std::fmt;

use crate::PublishError;

use super::super::{AppendError, ReadError};

/// Why something was not recorded, or a record not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum AuditError {
    /// Actor, action or object are not what an event can carry, the change is longer than a payload may be, or the bus has no publisher
    /// left.
    Record(PublishError),
    /// The store did not take the record, or nobody knows whether it did.
    Append(AppendError),
    /// The store could not be read.
    Read(ReadError),
    /// So many others wrote records of this object at once that this one did not get its turn.
    Busy {
        /// The object.
        object: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A record of an object is not as it was written.
    Malformed {
        /// Where it is in the store.
        position: u64,
    },
    /// The system has no thread for it; this is what it says.
    Thread(String),
    /// The events could not be subscribed to.
    Subscribe(crate::SubscribeError),
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(error) => write!(f, "there can be no such record: {error}"),
            Self::Append(error) => write!(f, "the record was not kept: {error}"),
            Self::Read(error) => error.fmt(f),
            Self::Busy { object, attempts } => {
                write!(f, "{attempts} times another record of {object:?} came first; record it again")
            }
            Self::Malformed { position } => {
                write!(f, "the event at position {position} is no record of an audit trail; look who appended it")
            }
            Self::Thread(error) => write!(f, "there is no thread: {error}"),
            Self::Subscribe(error) => error.fmt(f),
        }
    }
}

impl Error for AuditError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Record(error) => Some(error),
            Self::Append(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Subscribe(error) => Some(error),
            Self::Busy { .. } | Self::Malformed { .. } | Self::Thread(_) => None,
        }
    }
}

/// Why an audited action is not done.
#[derive(Debug)]
pub enum AuditedError<E> {
    /// There is no record of it, and so nothing was done.
    NotRecorded(AuditError),
    /// It failed, for this reason. The trail has both: that it was begun, and that it failed.
    Failed(E),
}

impl<E: fmt::Display> fmt::Display for AuditedError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRecorded(error) => write!(f, "nothing was done, for it could not be recorded: {error}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for AuditedError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotRecorded(error) => Some(error),
            Self::Failed(error) => Some(error),
        }
    }
}
