//! What can go wrong with a table, one type an operation.

use std::error;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::super::log::{self, CommitError, Damage, Fault, OptionOutOfRange, RetireError, SyncError};
use super::super::state::StateKind;

/// Why a table could not be opened. Nothing on the disk was changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OpenError {
    /// An option has a value it cannot have.
    Option(OptionOutOfRange),
    /// Its log could not be opened.
    Log(log::OpenError),
    /// Its log could not be read.
    Disk(Fault),
    /// A record is no table's: the folder holds the log of something else, or of a newer program.
    Foreign {
        /// The record's position.
        position: u64,
    },
    /// A value is longer than the options allow now.
    TooLong {
        /// What its key is the key of.
        kind: StateKind,
        /// Bytes of the key and the value.
        bytes: usize,
        /// The limit for both together.
        max: u64,
    },
    /// The system has no thread.
    Thread(Arc<io::Error>),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::Disk(fault) => fault.fmt(f),
            Self::Foreign { position } => {
                write!(
                    f,
                    "the record at position {position} is no table's; open the right folder, or use a newer program"
                )
            }
            Self::TooLong { kind, bytes, max } => {
                write!(f, "a {kind} is {bytes} bytes with its key, the limit is {max}; ")?;
                f.write_str("raise `value_bytes_max`, and `segment_bytes` to what it needs")
            }
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Option(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::Disk(fault) => Some(fault),
            Self::Thread(error) => Some(error),
            Self::Foreign { .. } | Self::TooLong { .. } => None,
        }
    }
}

/// Why changes were not made. None of them is, unless the disk failed: then all of them or none may be there after the table
/// is opened again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChangeError {
    /// A key is too long.
    KeyTooLong {
        /// What it is the key of.
        kind: StateKind,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// A value is too long.
    ValueTooLong {
        /// What its key is the key of.
        kind: StateKind,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// There would be too many keys.
    TooManyKeys {
        /// How many there would be.
        keys: usize,
        /// The limit.
        max: usize,
    },
    /// Keys and values would take too many bytes.
    TooManyBytes {
        /// Bytes of all records that there would be.
        live_bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The log did not take them.
    Commit(CommitError),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTooLong { kind, bytes, max } => {
                write!(
                    f,
                    "the key of a {kind} is {bytes} bytes, the limit is {max}; raise `key_bytes_max` or shorten it"
                )
            }
            Self::ValueTooLong { kind, bytes, max } => {
                write!(f, "a {kind} is {bytes} bytes, the limit is {max}; raise `value_bytes_max` or split it")
            }
            Self::TooManyKeys { keys, max } => {
                write!(f, "there would be {keys} keys, the limit is {max}; raise `keys_max` or remove some first")
            }
            Self::TooManyBytes { live_bytes, max } => {
                write!(f, "there would be {live_bytes} live bytes, the limit is {max}; ")?;
                f.write_str("raise `live_bytes_max` or remove some first")
            }
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl error::Error for ChangeError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Commit(error) => Some(error),
            _ => None,
        }
    }
}

/// Why compaction did not go on. What the table holds is as it was.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CompactError {
    /// Something cannot be read, and was not accepted as lost.
    Damaged(Damage),
    /// The oldest segment could not be read.
    Read(Fault),
    /// What is live in it could not be appended.
    Append(CommitError),
    /// What is written could not be made durable.
    Sync(SyncError),
    /// The segment could not be removed.
    Retire(RetireError),
    /// A backup copies the files.
    Held,
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table is not compacted: ")?;
        match self {
            Self::Damaged(damage) => write!(f, "{damage}; restore the file, or accept the damage"),
            Self::Read(fault) => fault.fmt(f),
            Self::Append(error) => error.fmt(f),
            Self::Sync(error) => error.fmt(f),
            Self::Retire(error) => error.fmt(f),
            Self::Held => f.write_str("a backup copies its files; compact it when that has ended"),
        }
    }
}

impl error::Error for CompactError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Damaged(damage) => Some(damage),
            Self::Read(fault) => Some(fault),
            Self::Append(error) => Some(error),
            Self::Sync(error) => Some(error),
            Self::Retire(error) => Some(error),
            Self::Held => None,
        }
    }
}
