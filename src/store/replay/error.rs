//! Why a replay does not begin, or stopped.

use std::error::Error;
use std::fmt;

use crate::{PublishError, RateError};

use super::super::{Position, ReadError};

/// Why a replay did not begin, or stopped before its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no subscription of this name, or more than one.
    Subscription {
        /// The name.
        name: String,
        /// How many there are.
        found: usize,
    },
    /// The subscription has not said that replays do no harm to it.
    NotSafe {
        /// Its name.
        name: String,
    },
    /// No subscription has said that replays do no harm to it.
    Nobody,
    /// The rate cannot be kept.
    Rate(RateError),
    /// There is no publisher for it.
    Publisher(PublishError),
    /// The system has no thread for it; this is what it says.
    Thread(String),
    /// The store could not be read.
    Read(ReadError),
    /// The bus refused an event. Those before it were published.
    Publish {
        /// Where it is.
        position: Position,
        /// Why.
        error: PublishError,
    },
    /// The function that hears of progress, or the store, has panicked.
    Panicked,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscription { name, found } => {
                write!(f, "{found} subscriptions are named {name:?}; a replay to one needs a name that one has")
            }
            Self::NotSafe { name } => write!(
                f,
                "{name:?} takes no replays; subscribe with replay(ReplayPolicy::Safe) if it does no harm to handle an event again"
            ),
            Self::Nobody => f.write_str(
                "no subscription takes replays; subscribe with replay(ReplayPolicy::Safe) where it does no harm to handle an event again",
            ),
            Self::Rate(error) => error.fmt(f),
            Self::Publisher(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "the replay has no thread: {error}"),
            Self::Read(error) => error.fmt(f),
            Self::Publish { position, error } => {
                write!(f, "the event at position {position} was not replayed: {error}; begin again behind it")
            }
            Self::Panicked => f.write_str("the store panicked, or the function that hears of progress"),
        }
    }
}

impl Error for ReplayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rate(error) => Some(error),
            Self::Publisher(error) | Self::Publish { error, .. } => Some(error),
            Self::Read(error) => Some(error),
            _ => None,
        }
    }
}
