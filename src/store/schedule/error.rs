//! What can go wrong with scheduled events.

use std::error::Error;
use std::fmt;

use super::super::NameError;
use super::super::state::{StateError, StateReadError};

/// Why an event was not scheduled or published.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScheduleError {
    /// No schedule can be opened under this name.
    Name(NameError),
    /// As many events wait as may.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// An event is not as it was written, or of a newer program.
    Record {
        /// Its number.
        id: u64,
    },
    /// An event was not published. It stays.
    Publish {
        /// Its number.
        id: u64,
        /// What was said of it.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The store could not be read.
    Read(StateReadError),
    /// The store was not changed. After an event was published: it is there still, and is published again.
    Change(StateError),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::TooMany { max } => {
                write!(f, "{max} events wait, which is the limit; raise `events_max`, or publish those that are due")
            }
            Self::Record { id } => {
                write!(
                    f,
                    "scheduled event {id} is not as it was written, or of a newer program; use that, or cancel it"
                )
            }
            Self::Publish { id, error } => write!(f, "scheduled event {id} was not published and stays: {error}"),
            Self::Read(error) => error.fmt(f),
            Self::Change(error) => error.fmt(f),
        }
    }
}

impl Error for ScheduleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Publish { error, .. } => Some(&**error),
            Self::Read(error) => Some(error),
            Self::Change(error) => Some(error),
            Self::TooMany { .. } | Self::Record { .. } => None,
        }
    }
}

impl From<StateReadError> for ScheduleError {
    fn from(error: StateReadError) -> Self {
        Self::Read(error)
    }
}
