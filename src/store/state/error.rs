//! Why state was not changed, or not read.

use std::error::Error;
use std::fmt;

use super::super::{Damage, Durability, Fault, LeaseError};
use super::{STATE_BATCH_BYTES_MAX, StateKind};

/// Why state was not changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateError {
    /// More changes than may be made in one piece.
    TooMany {
        /// Changes there are.
        changes: usize,
        /// The limit.
        max: usize,
    },
    /// A key is too long.
    KeyTooLong {
        /// What it is the key of.
        kind: StateKind,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A value is too long.
    ValueTooLong {
        /// What its key is the key of.
        kind: StateKind,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// More bytes than may be changed in one piece.
    BatchTooLong {
        /// Bytes of all keys and values.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The store does not keep this word.
    Durability {
        /// The word asked for.
        asked: Durability,
        /// The strongest it keeps.
        kept: Durability,
    },
    /// The store is full.
    Full {
        /// Which limit.
        limit: &'static str,
        /// What would be needed.
        needed: u64,
        /// The limit.
        max: u64,
    },
    /// The name under which it was to be changed is somebody else's.
    Lease(LeaseError),
    /// The disk is full. The store goes on when there is room.
    DiskFull(Fault),
    /// The disk failed, now or earlier: the store changes nothing more until it is opened again, and only then is it known
    /// whether it has the changes: all of them, or none.
    Disk(Fault),
    /// What the store keeps state in failed. All of the changes or none may be there when it is opened again.
    Failed(Box<dyn Error + Send + Sync>),
}

impl StateError {
    /// Whether the changes are at fault, and not the store: the same ones are never made, others may be.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::TooMany { .. } | Self::KeyTooLong { .. } | Self::ValueTooLong { .. } | Self::BatchTooLong { .. } => {
                true
            }
            Self::Durability { .. }
            | Self::Full { .. }
            | Self::Lease(_)
            | Self::DiskFull(_)
            | Self::Disk(_)
            | Self::Failed(_) => false,
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { changes, max } => {
                write!(f, "{changes} changes were given to make in one piece, the limit is {max}; split them")
            }
            Self::KeyTooLong { kind, bytes, max } => {
                write!(f, "the key of a {kind} has {bytes} bytes, the limit is {max}; shorten it")
            }
            Self::ValueTooLong { kind, bytes, max } => {
                write!(f, "the value of a {kind} has {bytes} bytes, the limit is {max}; keep less in it")
            }
            Self::BatchTooLong { bytes, max } => {
                write!(f, "{bytes} bytes were given to change in one piece, the limit is {max}; split the changes")?;
                if *max < STATE_BATCH_BYTES_MAX { f.write_str(", or raise state_batch_bytes_max") } else { Ok(()) }
            }
            Self::Durability { asked, kept } => write!(
                f,
                "state was to be {asked}, this store keeps it {kept} at best; ask for less, or use a store on disk"
            ),
            Self::Full { limit, needed, max } => {
                write!(f, "the store is full: {needed} would be needed, the limit is {max}; raise {limit}")
            }
            Self::Lease(error) => write!(f, "the state was not changed: {error}"),
            Self::DiskFull(fault) => write!(f, "the state was not changed: {fault}; make room and change it again"),
            Self::Disk(fault) => write!(f, "the state may not have been changed: {fault}; open the store again"),
            Self::Failed(error) => write!(f, "the state may not have been changed: {error}"),
        }
    }
}

impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::DiskFull(fault) | Self::Disk(fault) => Some(fault),
            Self::Failed(error) => Some(&**error),
            Self::Lease(error) => Some(error),
            _ => None,
        }
    }
}

/// Why state was not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateReadError {
    /// A page of no entries, or of too many.
    Limit {
        /// Entries asked for.
        asked: usize,
        /// The limit.
        max: usize,
    },
    /// The value of a key cannot be read; those of others can. A page ends before it: list what is behind it, or give it
    /// another value.
    Damaged {
        /// What it is the key of.
        kind: StateKind,
        /// The key.
        key: Box<[u8]>,
        /// What is wrong. Its positions are not those of events.
        damage: Damage,
    },
    /// The disk failed.
    Disk(Fault),
    /// What the store keeps state in failed.
    Failed(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for StateReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { asked, max } => {
                write!(f, "a page of {asked} entries was asked for, it has 1 to {max}; read on where a page ends")
            }
            Self::Damaged { kind, key, damage } => {
                write!(f, "the {kind} \"{}\" cannot be read: {damage}; ", key.escape_ascii())?;
                f.write_str("restore the file, or give it another value")
            }
            Self::Disk(fault) => fault.fmt(f),
            Self::Failed(error) => write!(f, "the state could not be read: {error}"),
        }
    }
}

impl Error for StateReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Damaged { damage, .. } => Some(damage),
            Self::Disk(fault) => Some(fault),
            Self::Limit { .. } => None,
        }
    }
}
