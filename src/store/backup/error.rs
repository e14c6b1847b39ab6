//! Why there is no backup, or none was restored.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use super::super::{Fault, OpenError, Position, ReadError};
use super::manifest;

/// Why no backup was made. What was copied is removed, as far as the disk lets it; a folder without a manifest is no backup.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// Something is in the folder: a backup, another one that was cut short, or anything else.
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// There is not enough room on the disk. Nothing was written.
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Bytes of the backup.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The disk was full before all was written.
    DiskFull(Fault),
    /// The disk failed.
    Disk(Fault),
}

impl From<Fault> for BackupError {
    fn from(fault: Fault) -> Self {
        if fault.is_full() { Self::DiskFull(fault) } else { Self::Disk(fault) }
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied { folder } => {
                let folder = folder.display();
                write!(f, "{folder} has something in it, maybe of a backup that was cut short; ")?;
                f.write_str("name a folder that is new or empty, or empty this one first")
            }
            Self::NoRoom { folder, needed, free } => {
                let folder = folder.display();
                write!(
                    f,
                    "the backup takes {needed} bytes, and {free} are free where {folder} is; make room, or name another folder"
                )
            }
            Self::DiskFull(fault) => write!(f, "{fault}; make room and make the backup again"),
            Self::Disk(fault) => write!(f, "{fault}; there is no backup"),
        }
    }
}

impl Error for BackupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::DiskFull(fault) | Self::Disk(fault) => Some(fault),
            Self::Occupied { .. } | Self::NoRoom { .. } => None,
        }
    }
}

/// Why a backup cannot be used, or was not restored. Nothing is in the folder then that it was to be restored into.
#[derive(Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is no manifest in the folder.
    NoBackup {
        /// The folder.
        folder: PathBuf,
    },
    /// The manifest is not as it was written.
    Manifest {
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The backup was made by a program that has another format.
    UnknownFormat {
        /// The manifest.
        file: PathBuf,
        /// The backup's format.
        format: u32,
        /// The one that this program reads.
        known: u32,
    },
    /// A file of the backup is missing, or not as long as it was written.
    Length {
        /// The file.
        file: PathBuf,
        /// Its bytes; `None` = it is missing.
        found: Option<u64>,
        /// Bytes that were written.
        written: u64,
    },
    /// A file of the backup is as long as it was written, and has something else in it.
    Damaged {
        /// The file.
        file: PathBuf,
    },
    /// Something is in the folder that the backup was to be restored into.
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// Another restore into the same folder is under way, or was cut short and has left this.
    Unfinished {
        /// The folder beside, in which the store is made.
        folder: PathBuf,
    },
    /// There is not enough room on the disk. Nothing was written.
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Bytes of the backup.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The disk was full before all was written.
    DiskFull(Fault),
    /// The disk failed.
    Disk(Fault),
    /// All files are as they were written, and no store can be opened in them.
    Open(OpenError),
    /// All files are as they were written, and the events in them could not be read.
    Read(ReadError),
    /// All files are as they were written, and the store in them ends at another position.
    Position {
        /// Where it ends.
        found: Option<Position>,
        /// Where it ended when the backup was made.
        made: Option<Position>,
    },
}

impl From<Fault> for RestoreError {
    fn from(fault: Fault) -> Self {
        if fault.is_full() { Self::DiskFull(fault) } else { Self::Disk(fault) }
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackup { folder } => {
                let (folder, manifest) = (folder.display(), manifest::NAME);
                write!(f, "there is no whole backup in {folder}: {manifest} is written last, and is not there; ")?;
                f.write_str("it was cut short, or is no backup, so take another")
            }
            Self::Manifest { file, cause } => {
                write!(f, "{} is not as it was written: {cause}; take another backup", file.display())
            }
            Self::UnknownFormat { file, format, known } => {
                write!(f, "{} has format {format}, this program reads {known}; use a newer one", file.display())
            }
            Self::Length { file, found: None, written } => {
                write!(f, "{}, of {written} bytes, is missing; take another backup", file.display())
            }
            Self::Length { file, found: Some(found), written } => {
                let file = file.display();
                write!(f, "{file} has {found} bytes, {written} were written; take another backup")
            }
            Self::Damaged { file } => {
                write!(f, "{} is not as it was written: its checksum is another; take another backup", file.display())
            }
            Self::Occupied { folder } => {
                let folder = folder.display();
                write!(f, "{folder} has something in it; restore into a folder that is new or empty")
            }
            Self::Unfinished { folder } => {
                let folder = folder.display();
                write!(f, "{folder} is there: a store is being restored in it, or that was cut short; ")?;
                f.write_str("wait for that, or remove it, and restore again")
            }
            Self::NoRoom { folder, needed, free } => {
                let folder = folder.display();
                write!(
                    f,
                    "the store takes {needed} bytes, and {free} are free where {folder} is; make room, or name another folder"
                )
            }
            Self::DiskFull(fault) => write!(f, "{fault}; make room and restore again"),
            Self::Disk(fault) => write!(f, "{fault}; nothing was restored"),
            Self::Open(error) => write!(f, "the store in the backup cannot be opened: {error}"),
            Self::Read(error) => write!(f, "the events in the backup could not be read: {error}"),
            Self::Position { found, made } => {
                let [found, made] = [found, made].map(|position| position.map_or(0, Position::get));
                write!(f, "the store in the backup ends at position {found}, and ended at {made} when it was made; ")?;
                f.write_str("restore it with the program that made it, and report this")
            }
        }
    }
}

impl Error for RestoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::DiskFull(fault) | Self::Disk(fault) => Some(fault),
            Self::Open(error) => Some(error),
            Self::Read(error) => Some(error),
            _ => None,
        }
    }
}
