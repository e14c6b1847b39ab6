//! What can go wrong with the log, one type an operation.

use std::error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::Fault;
use super::options::OptionOutOfRange;
use super::record::VERSION;
use super::walk::Damage;

/// Why a log could not be opened. Nothing on the disk was changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OpenError {
    /// An option has a value it cannot have.
    Option(OptionOutOfRange),
    /// Another log is open in the folder, in this process or another.
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// A segment has a version of the format that this program does not know.
    UnknownVersion {
        /// The segment's file.
        file: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A segment begins at a position that the one before it has too: files of two logs lie in the folder.
    Overlap {
        /// The second segment's file.
        file: PathBuf,
        /// Its first position.
        first: u64,
        /// The last position of the segment before it.
        last: u64,
    },
    /// A segment is named by a position that no log comes to: it is of something else.
    Far {
        /// The folder.
        folder: PathBuf,
        /// The position.
        first: u64,
    },
    /// The disk failed.
    Disk(Fault),
    /// What is kept beside the log cannot be used.
    Beside(Arc<dyn error::Error + Send + Sync>),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(error) => error.fmt(f),
            Self::Locked { folder } => {
                write!(f, "a log is open in {} already; close it first", folder.display())
            }
            Self::UnknownVersion { file, version } => {
                let file = file.display();
                write!(f, "{file} has version {version}, this program reads {VERSION}; use a newer one")
            }
            Self::Overlap { file, first, last } => {
                let file = file.display();
                write!(f, "{file} begins at position {first}, but there are records up to {last} before it; ")?;
                f.write_str("move the files of one of the two logs elsewhere")
            }
            Self::Far { folder, first } => {
                let folder = folder.display();
                write!(f, "a file in {folder} is named by position {first}, to which no log comes; move it elsewhere")
            }
            Self::Disk(fault) => fault.fmt(f),
            Self::Beside(error) => write!(f, "what is kept beside the log cannot be used: {error}"),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Option(error) => Some(error),
            Self::Disk(fault) => Some(fault),
            Self::Beside(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Disk(fault)
    }
}

/// Why a batch was not appended. None of it will be in the log, unless the disk failed: then it may be there after the log
/// is opened again, all of it or nothing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AppendError {
    /// A record's body is too long.
    RecordTooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// The batch does not fit in a segment.
    BatchTooLong {
        /// Its bytes with the headers of its records.
        bytes: usize,
        /// The limit.
        max: u64,
    },
    /// There is no room for another segment. The log is as it was: append again when there is room.
    Full(Fault),
    /// The disk failed, now or earlier: the log takes nothing more until it is opened again.
    Disk(Fault),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecordTooLong { bytes, max } => {
                write!(f, "a record is {bytes} bytes, the limit is {max}; raise `record_bytes_max` or split it")
            }
            Self::BatchTooLong { bytes, max } => {
                write!(f, "a batch is {bytes} bytes, the limit is {max}; raise `segment_bytes` or split it")
            }
            Self::Full(fault) => write!(f, "{fault}; make room on the disk and append again"),
            Self::Disk(fault) => write!(f, "{fault}; open the log again"),
        }
    }
}

impl error::Error for AppendError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Full(fault) | Self::Disk(fault) => Some(fault),
            _ => None,
        }
    }
}

/// Why records are not known to be durable: the disk failed, now or earlier. They may or may not survive power loss; the log
/// takes nothing more until it is opened again.
#[derive(Debug, Clone)]
pub struct SyncError(pub Fault);

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; open the log again", self.0)
    }
}

impl error::Error for SyncError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Why the next record was not read. Reading may go on: it continues behind what could not be read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReadError {
    /// It is damaged.
    Damaged(Damage),
    /// Records from a position on are no longer in the log; reading goes on at the first that is.
    Retired {
        /// The position.
        position: u64,
        /// The first position in the log.
        first: u64,
    },
    /// The disk failed; the next call tries again.
    Disk(Fault),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(f),
            Self::Retired { position, first } => {
                write!(f, "position {position} is no longer in the log, which begins at {first}; read from there")
            }
            Self::Disk(fault) => fault.fmt(f),
        }
    }
}

impl error::Error for ReadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Damaged(damage) => Some(damage),
            Self::Disk(fault) => Some(fault),
            Self::Retired { .. } => None,
        }
    }
}

/// Why old segments were not removed, or not all.
#[derive(Debug, Clone)]
pub struct RetireError(pub Fault);

impl fmt::Display for RetireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for RetireError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Why a batch is not what it was asked to be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CommitError {
    /// It was not appended.
    Append(AppendError),
    /// Its gate did not let it in.
    Refused(Arc<dyn error::Error + Send + Sync>),
    /// It was written, and is not known to be durable.
    Sync(SyncError),
    /// As many bytes wait as may.
    Busy {
        /// Bytes that wait.
        waiting_bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The committer was closed.
    Closed,
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(error) => error.fmt(f),
            Self::Refused(error) => error.fmt(f),
            Self::Sync(error) => error.fmt(f),
            Self::Busy { waiting_bytes, max } => {
                write!(
                    f,
                    "{waiting_bytes} bytes wait for the disk, the limit is {max}; wait, or raise `queue_bytes_max`"
                )
            }
            Self::Closed => f.write_str("the log was closed; open it again"),
        }
    }
}

impl error::Error for CommitError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Append(error) => Some(error),
            Self::Refused(error) => Some(&**error),
            Self::Sync(error) => Some(error),
            Self::Busy { .. } | Self::Closed => None,
        }
    }
}
