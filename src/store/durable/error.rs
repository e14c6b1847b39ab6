//! Why an event is not durably published, or nobody could be made who does that.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::PublishError;

use super::super::positions::{InTheWay, Part};
use super::super::{AppendError, CursorError, Durability, LeaseError, ReadError, SyncError};

/// Why an event was not published durably, or a durable publisher did not start.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DurableError {
    /// The store does not keep this word, or it is [`Durability::Accepted`]: no durable publish is acknowledged from memory.
    Durability {
        /// The word asked for.
        asked: Durability,
        /// The strongest that the store keeps.
        kept: Durability,
    },
    /// The event is not valid, or there is no publisher for it.
    Publish(PublishError),
    /// The event has a not-before time. What is scheduled is in memory, and so not durable.
    Scheduled,
    /// The store did not take it. After [`AppendError::Disk`] only the store, opened again, tells whether it has it; it is delivered
    /// then if it has.
    Append(Arc<AppendError>),
    /// So many publishes wait for the store already.
    Full {
        /// As [`queue_max`](super::DurableBuilder::queue_max) says.
        waiting: usize,
    },
    /// The publisher has been closed.
    Closed,
    /// It was closed, and not everything that was acknowledged is settled: the next start delivers it.
    Left {
        /// Positions in the store that did not come to the lanes.
        undelivered: u64,
        /// Positions that came to the lanes, and are not known to be settled.
        unsettled: u64,
    },
    /// It was to be closed on a worker thread, which cannot wait for what waits for it.
    OnWorker,
    /// A time or a number is zero.
    Zero {
        /// Of which setting.
        setting: &'static str,
    },
    /// What the store had when it started is not known to be durable.
    Sync(Arc<SyncError>),
    /// The bus is shutting down or has stopped.
    ShuttingDown,
    /// The store does not tell where it ends.
    Read(Arc<ReadError>),
    /// The cursor was not read, or not kept.
    Cursor(CursorError),
    /// Somebody else publishes under this name.
    Lease(LeaseError),
    /// The bus has a durable publisher: two would each deliver all that either keeps, or give events positions that mean two things.
    Publisher {
        /// Its name.
        name: String,
    },
    /// A journal of the bus keeps its events in another store. It would leave out what has a position, and not have it.
    OtherStore {
        /// The journal's name.
        journal: String,
    },
    /// The system has no thread for it; this is what it says.
    Thread(String),
}

impl DurableError {
    pub(super) fn in_the_way(by: InTheWay) -> Self {
        match by.part {
            Part::Publisher => Self::Publisher { name: by.name },
            Part::Journal => Self::OtherStore { journal: by.name },
        }
    }
}

impl fmt::Display for DurableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Durability { asked: Durability::Accepted, .. } => {
                f.write_str("an event cannot be published durably and only be accepted; ask for written or durable")
            }
            Self::Durability { asked, kept } => write!(
                f,
                "an event was to be {asked}, this store keeps it {kept} at best; ask for less, or use a store on disk"
            ),
            Self::Publish(error) => error.fmt(f),
            Self::Scheduled => f.write_str(
                "an event with a not-before time cannot be published durably: what is scheduled is in memory; publish it when it is due",
            ),
            Self::Append(error) => error.fmt(f),
            Self::Full { waiting } => write!(
                f,
                "{waiting} publishes wait for the store; try again when some are acknowledged, publish in a way that waits, or raise queue_max"
            ),
            Self::Closed => f.write_str("the durable publisher is closed; start another"),
            Self::Left { undelivered, unsettled } => write!(
                f,
                "{undelivered} events of the store were not delivered when the durable publisher was closed, {unsettled} are not known to be settled; start it again, or raise close_max"
            ),
            Self::OnWorker => f.write_str("a worker cannot wait for events to be delivered; close it from another thread"),
            Self::Zero { setting } => write!(f, "{setting} is zero; give it more"),
            Self::Sync(error) => error.fmt(f),
            Self::ShuttingDown => f.write_str("the bus is shutting down and publishes no more events"),
            Self::Read(error) => error.fmt(f),
            Self::Cursor(error) => error.fmt(f),
            Self::Lease(error) => error.fmt(f),
            Self::Publisher { name } => {
                write!(f, "the bus has the durable publisher {name:?} already; use a clone of it, or close it first")
            }
            Self::OtherStore { journal } => write!(
                f,
                "the journal {journal:?} of this bus keeps events in another store; give both the same store, or close it first"
            ),
            Self::Thread(error) => write!(f, "there is no thread: {error}"),
        }
    }
}

impl Error for DurableError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Publish(error) => Some(error),
            Self::Append(error) => Some(&**error),
            Self::Read(error) => Some(&**error),
            Self::Sync(error) => Some(&**error),
            Self::Cursor(error) => Some(error),
            Self::Lease(error) => Some(error),
            _ => None,
        }
    }
}
