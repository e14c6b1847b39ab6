//! What can go wrong with watching a folder.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a folder is not watched, or not all of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum WatchError {
    /// It is no folder.
    NoFolder {
        /// Which.
        folder: PathBuf,
    },
    /// It cannot be read.
    Read {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It was there, and is not any more.
    Gone {
        /// Which.
        folder: PathBuf,
    },
    /// It lies in one that is left out.
    Excluded {
        /// Which.
        folder: PathBuf,
        /// Where it lies.
        excluded: PathBuf,
    },
    /// More folders are in it than are watched.
    TooManyFolders {
        /// In which.
        folder: PathBuf,
        /// The limit.
        folders_max: usize,
    },
    /// More files are in it than are watched.
    TooManyEntries {
        /// In which.
        folder: PathBuf,
        /// The limit.
        entries_max: usize,
    },
    /// The system gives no more watches.
    NoWatches {
        /// At which folder that showed.
        folder: PathBuf,
    },
    /// The system does not tell what happens to files.
    System(String),
}

impl WatchError {
    pub(super) fn read(folder: &Path, error: io::Error) -> Self {
        Self::Read { folder: folder.to_owned(), error }
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFolder { folder } => write!(f, "{} is no folder; watch the one that it is in", folder.display()),
            Self::Read { folder, error } => write!(f, "{} cannot be read: {error}", folder.display()),
            Self::Gone { folder } => {
                write!(f, "{} is gone; it is watched again, and looked at, once it is there", folder.display())
            }
            Self::Excluded { folder, excluded } => write!(
                f,
                "{} lies in {}, which the node writes to; watch another folder, or keep the data elsewhere with --data",
                folder.display(),
                excluded.display()
            ),
            Self::TooManyFolders { folder, folders_max } => write!(
                f,
                "{} has more than {folders_max} folders in it, which is the limit; watch a part of it, name in .gitignore \
                 what is not to be watched, or raise folders_max",
                folder.display()
            ),
            Self::TooManyEntries { folder, entries_max } => write!(
                f,
                "{} has more than {entries_max} files and folders in it, which is the limit; watch a part of it, name in \
                 .gitignore what is not to be watched, or raise entries_max",
                folder.display()
            ),
            Self::NoWatches { folder } => write!(
                f,
                "the system gives no more watches, first at {}; raise them with `sysctl fs.inotify.max_user_watches=524288`, \
                 or name in .gitignore what is not to be watched",
                folder.display()
            ),
            Self::System(said) => write!(
                f,
                "the system does not tell what happens to files: {said}; if it is out of instances, raise \
                 fs.inotify.max_user_instances"
            ),
        }
    }
}

impl Error for WatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read { error, .. } => Some(error),
            _ => None,
        }
    }
}
