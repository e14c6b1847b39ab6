//! What can go wrong with stored subscriptions.

use std::error::Error;
use std::fmt;

use crate::{RuleError, SubscribeError};

use super::super::{DurableSubscriptionError, LeaseError, StateError, StateReadError};

/// Why a subscription was not stored, made again, or removed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoredSubscriptionsError {
    /// A name is empty or too long.
    Name {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There is one of this name: remove it first.
    Exists {
        /// The name.
        name: String,
    },
    /// No handler of this name was given, or none of its kind: one of a durable subscription, or one of another.
    NoHandler {
        /// The handler's name.
        handler: String,
    },
    /// A setting is code, and so cannot be stored.
    Code {
        /// Which.
        setting: &'static str,
    },
    /// A durable subscription has a setting that is for others.
    Durable {
        /// Which.
        setting: &'static str,
    },
    /// Filter or conditions are not sound.
    Filter(RuleError),
    /// The bus did not take it.
    Subscribe(SubscribeError),
    /// The durable subscription could not be opened.
    Open(DurableSubscriptionError),
    /// What is stored is not as it was written, or of a newer program.
    Record,
    /// Somebody else has the subscriptions of this name.
    Lease(LeaseError),
    /// The store could not be read.
    Read(StateReadError),
    /// The store was not changed.
    Change(StateError),
}

impl fmt::Display for StoredSubscriptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { bytes, max } => write!(f, "the name has {bytes} bytes, it can have 1 to {max}"),
            Self::Exists { name } => write!(f, "there is a stored subscription {name:?}; remove it first"),
            Self::NoHandler { handler } => {
                write!(f, "there is no handler {handler:?} for such a subscription; give one before it is restored")
            }
            Self::Code { setting } => write!(f, "its {setting} is code, which cannot be stored; take one that is data"),
            Self::Durable { setting } => {
                write!(
                    f,
                    "a durable subscription is pulled and has no {setting}; leave it away, or subscribe to the bus"
                )
            }
            Self::Filter(error) => error.fmt(f),
            Self::Subscribe(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Record => {
                f.write_str("what is stored is not as it was written, or of a newer program; use that, or remove it")
            }
            Self::Lease(error) => error.fmt(f),
            Self::Read(error) => error.fmt(f),
            Self::Change(error) => error.fmt(f),
        }
    }
}

impl Error for StoredSubscriptionsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Filter(error) => Some(error),
            Self::Subscribe(error) => Some(error),
            Self::Open(error) => Some(error),
            Self::Lease(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Change(error) => Some(error),
            _ => None,
        }
    }
}
