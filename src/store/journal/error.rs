//! Why a journal does not begin, or what it could not write.

use std::error::Error;
use std::fmt;

use crate::SubscribeError;

use super::super::{Durability, ReadError};

/// Why a journal did not start, or what was lost with its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// A setting is out of bounds.
    Setting {
        /// Which.
        setting: &'static str,
        /// What was asked for.
        value: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A time is zero.
    Zero {
        /// Of which setting.
        setting: &'static str,
    },
    /// The store does not keep this word.
    Durability {
        /// The word asked for.
        asked: Durability,
        /// The strongest it keeps.
        kept: Durability,
    },
    /// The store does not tell where it ends.
    Read(ReadError),
    /// A durable publisher of the bus publishes from another store. The journal would leave out what has a position, and not have it.
    OtherStore {
        /// The publisher's name.
        publisher: String,
    },
    /// The subscription was not made.
    Subscribe(SubscribeError),
    /// The system has no thread for it; this is what it says.
    Thread(String),
    /// The journal's thread has panicked; a panic of the store is none of it. What it had in hand is in no book.
    Panicked,
    /// It was closed on a worker thread, which cannot wait for what waits for it: it ends by itself.
    OnWorker,
    /// The store did not work when the journal was closed.
    Left {
        /// Events that were dropped during its life.
        events: u64,
        /// What the store said last.
        error: String,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting { setting, value, min, max } => {
                write!(f, "{setting} is {value}, it can be {min} to {max}")
            }
            Self::Zero { setting } => write!(f, "{setting} is zero, and it would never rest; give it a time"),
            Self::Durability { asked, kept } => write!(
                f,
                "events were to be {asked}, this store keeps them {kept} at best; ask for less, or use a store on disk"
            ),
            Self::Read(error) => error.fmt(f),
            Self::OtherStore { publisher } => write!(
                f,
                "the durable publisher {publisher:?} of this bus has another store; give both the same store, or close it first"
            ),
            Self::Subscribe(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "the journal has no thread: {error}"),
            Self::Panicked => f.write_str("the thread of the journal has panicked"),
            Self::OnWorker => f.write_str("a worker cannot wait for a journal to end; close it from another thread"),
            Self::Left { events, error } => write!(
                f,
                "the journal was closed while its store did not work, and has dropped {events} events: {error}; resume it with a store that works, and close it then"
            ),
        }
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Subscribe(error) => Some(error),
            _ => None,
        }
    }
}
