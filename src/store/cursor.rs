//! A position that is kept beside the events: how far somebody has come.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::guard::guarded;
use super::{
    Bookmark, Durability, EventStore, Position, ReadError, StateChange, StateError, StateKind, StateReadError,
    StateStore, SyncError,
};

/// Bytes that the name of a cursor may have.
const NAME_BYTES_MAX: usize = 255;

/// Where a cursor of a store is kept.
pub(super) struct Cursor {
    store: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    key: Vec<u8>,
    word: Durability,
}

impl Cursor {
    /// The cursor of a name among those whose keys begin with `kind`.
    pub(super) fn new(
        (store, state): (Arc<dyn EventStore>, Arc<dyn StateStore>),
        kind: &[u8],
        name: &str,
        word: Durability,
    ) -> Result<Self, CursorError> {
        let (bytes, max) = (name.len(), NAME_BYTES_MAX);
        if bytes == 0 || bytes > max {
            return Err(CursorError::Name { bytes, max });
        }
        let key = [kind, &[bytes as u8], name.as_bytes()].concat();
        Ok(Self { store, state, key, word })
    }

    /// Where it stands, if the store still has there what it had; or where it is told to begin. One that is new stands
    /// before the first event that there is. It is kept from now on, so that nothing behind it is removed.
    pub(super) fn open(&self, begin: Option<Option<Position>>) -> Result<Bookmark, CursorError> {
        let at = |position: Option<Position>| match position {
            Some(position) => self.at(position),
            None => Ok(Bookmark::START),
        };
        let (bookmark, is_new) = match (begin, self.read()?) {
            (Some(position), _) => (at(position)?, true),
            (None, Some(kept)) => (kept, false),
            (None, None) => {
                let first = self.store.first().map_err(read)?;
                (at(first.and_then(|first| Position::new(first.get() - 1)))?, true)
            }
        };
        bookmark.check(&*self.store).map_err(read)?;
        if is_new {
            self.keep(bookmark)?;
        }
        Ok(bookmark)
    }

    /// The bookmark of a position.
    pub(super) fn at(&self, position: Position) -> Result<Bookmark, CursorError> {
        guarded(|| Bookmark::at(&*self.store, position), ReadError::Failed).map_err(read)
    }

    fn read(&self) -> Result<Option<Bookmark>, CursorError> {
        let kept = self.state.get(StateKind::CURSOR, &self.key);
        let kept = kept.map_err(|error| CursorError::Read(Arc::new(error)))?;
        let bookmark = |kept: &[u8]| Bookmark::of_bytes(kept).ok_or(CursorError::Malformed { bytes: kept.len() });
        kept.map(|kept| bookmark(&kept)).transpose()
    }

    /// Keeps a bookmark, when the events up to it are durable: it never speaks of one that the loss of power takes.
    pub(super) fn keep(&self, bookmark: Bookmark) -> Result<(), CursorError> {
        let value = bookmark.to_bytes();
        let change = StateChange::Put { kind: StateKind::CURSOR, key: &self.key, value: &value };
        guarded(|| self.store.sync(), SyncError::Failed).map_err(|error| CursorError::Sync(Arc::new(error)))?;
        let kept = guarded(|| self.state.apply(&[change], self.word), StateError::Failed);
        kept.map_err(|error| CursorError::Keep(Arc::new(error)))
    }

    /// Forgets it: nothing is kept for its sake any more.
    pub(super) fn forget(&self) -> Result<(), CursorError> {
        let change = StateChange::Remove { kind: StateKind::CURSOR, key: &self.key };
        self.state.apply(&[change], self.word).map_err(|error| CursorError::Keep(Arc::new(error)))
    }
}

fn read(error: ReadError) -> CursorError {
    CursorError::Store(Arc::new(error))
}

/// Why a cursor was not read, or not kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CursorError {
    /// Its name is empty or too long.
    Name {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It was not read.
    Read(Arc<StateReadError>),
    /// It was not kept.
    Keep(Arc<StateError>),
    /// The events that it speaks of are not known to be durable, so it was not kept.
    Sync(Arc<SyncError>),
    /// The store was not read, or is [another](ReadError::Diverged) than the one it is a cursor of.
    Store(Arc<ReadError>),
    /// What is kept in its place is none.
    Malformed {
        /// Bytes there are, in place of [`Bookmark::BYTES`].
        bytes: usize,
    },
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { bytes, max } => write!(f, "the name has {bytes} bytes, it can have 1 to {max}"),
            Self::Read(error) => write!(f, "the cursor was not read: {error}"),
            Self::Keep(error) => write!(f, "the cursor was not kept: {error}"),
            Self::Sync(error) => write!(f, "the cursor was not kept: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Malformed { bytes } => {
                let needed = Bookmark::BYTES;
                write!(
                    f,
                    "the cursor has {bytes} bytes in place of {needed}; begin anew behind a position of your choice"
                )
            }
        }
    }
}

impl Error for CursorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(&**error),
            Self::Keep(error) => Some(&**error),
            Self::Sync(error) => Some(&**error),
            Self::Store(error) => Some(&**error),
            Self::Name { .. } | Self::Malformed { .. } => None,
        }
    }
}
