//! What keeps a reliable subscription from its next event.

use std::error::Error;
use std::fmt;

use super::super::{DurableSubscriptionError, NameError, StateError, StateReadError};

/// Why a reliable subscription was not opened, or did not go on. Nothing is lost: the next call goes on where this one failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReliableSubscriptionError {
    /// No subscription can be opened under this name.
    Name(NameError),
    /// The dead letter queue is in another store than the cursor: an event could not leave one and come to the other in one piece.
    OtherStore,
    /// What is kept of the attempts at an event is not as it was written, or of a newer program.
    Record,
    /// No event came in time, the events could not be read, or the cursor was not read or kept.
    Subscription(DurableSubscriptionError),
    /// What is kept of attempts could not be read.
    Read(StateReadError),
    /// The attempt, what came of it, or the dead letter was not kept.
    Change(StateError),
}

impl fmt::Display for ReliableSubscriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::OtherStore => f.write_str(
                "the dead letter queue is in another store than the cursor of the subscription; open both in one",
            ),
            Self::Record => f.write_str(
                "what is kept of attempts is not as it was written, or of a newer program; use that, or another name",
            ),
            Self::Subscription(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
            Self::Change(error) => error.fmt(f),
        }
    }
}

impl Error for ReliableSubscriptionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::Subscription(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Change(error) => Some(error),
            Self::OtherStore | Self::Record => None,
        }
    }
}
