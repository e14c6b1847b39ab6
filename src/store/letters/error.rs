//! What can go wrong with stored dead letters.

use std::error::Error;
use std::fmt;

use super::super::NameError;
use super::super::state::{StateError, StateReadError};

/// Why a stored dead letter was not read, sent or removed. It stays where it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeadLetterQueueError {
    /// No queue can be opened under this name.
    Name(NameError),
    /// There is no letter of this id: it never was one, or has gone.
    NotFound {
        /// The id asked for.
        id: u64,
    },
    /// A letter is not as it was written, or of a newer program.
    Record {
        /// Its id; 0 where that cannot be read either.
        id: u64,
    },
    /// Somebody is publishing the letter.
    UnderWay {
        /// Its id.
        id: u64,
    },
    /// The event was not published.
    Publish {
        /// The letter.
        id: u64,
        /// What was said of it.
        error: Box<dyn Error + Send + Sync>,
    },
    /// The store could not be read.
    Read(StateReadError),
    /// The store was not changed. After a redrive: the event was published, and the letter is there still.
    Change(StateError),
}

impl fmt::Display for DeadLetterQueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::UnderWay { id } => {
                write!(f, "dead letter {id} is being published by somebody else; look again when that is over")
            }
            Self::NotFound { id } => write!(f, "there is no dead letter {id}; list those there are"),
            Self::Record { id } => {
                write!(f, "dead letter {id} is not as it was written, or of a newer program; use that, or purge it")
            }
            Self::Publish { id, error } => write!(f, "dead letter {id} was not published and stays: {error}"),
            Self::Read(error) => error.fmt(f),
            Self::Change(error) => error.fmt(f),
        }
    }
}

impl Error for DeadLetterQueueError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Publish { error, .. } => Some(&**error),
            Self::Read(error) => Some(error),
            Self::Change(error) => Some(error),
            Self::NotFound { .. } | Self::Record { .. } | Self::UnderWay { .. } => None,
        }
    }
}

impl From<StateReadError> for DeadLetterQueueError {
    fn from(error: StateReadError) -> Self {
        Self::Read(error)
    }
}
