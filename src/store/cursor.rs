//! A position that is kept beside the events: how far somebody has come.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::{Durability, Position, StateChange, StateError, StateKind, StateReadError, StateStore};

/// Bytes that the name of a cursor may have.
const NAME_BYTES_MAX: usize = 255;

/// Where a cursor is kept.
pub(super) struct Cursor {
    state: Arc<dyn StateStore>,
    key: Vec<u8>,
    word: Durability,
}

impl Cursor {
    /// The cursor of a name among those whose keys begin with `kind`.
    pub(super) fn new(
        state: Arc<dyn StateStore>,
        kind: &[u8],
        name: &str,
        word: Durability,
    ) -> Result<Self, CursorError> {
        let (bytes, max) = (name.len(), NAME_BYTES_MAX);
        if bytes == 0 || bytes > max {
            return Err(CursorError::Name { bytes, max });
        }
        let key = [kind, &[bytes as u8], name.as_bytes()].concat();
        Ok(Self { state, key, word })
    }

    /// The position kept; `None` when none is.
    pub(super) fn read(&self) -> Result<Option<Position>, CursorError> {
        let kept = self.state.get(StateKind::CURSOR, &self.key);
        let kept = kept.map_err(|error| CursorError::Read(Arc::new(error)))?;
        let Some(kept) = kept else { return Ok(None) };
        let number: [u8; 8] = (*kept).try_into().map_err(|_| CursorError::Malformed { bytes: kept.len() })?;
        Ok(Position::new(u64::from_le_bytes(number)))
    }

    /// Keeps a position; `None` = before the first.
    pub(super) fn keep(&self, position: Option<Position>) -> Result<(), CursorError> {
        let number = position.map_or(0, Position::get).to_le_bytes();
        let change = StateChange::Put { kind: StateKind::CURSOR, key: &self.key, value: &number };
        self.state.apply(&[change], self.word).map_err(|error| CursorError::Keep(Arc::new(error)))
    }

    /// The position kept, unless the log ends before it: then it has lost what was there, and others come to those positions.
    pub(super) fn within(&self, head: Option<Position>) -> Result<Option<Position>, CursorError> {
        let kept = self.read()?;
        if kept > head {
            self.keep(head)?;
        }
        Ok(kept.min(head))
    }
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
    /// What is kept in its place is none.
    Malformed {
        /// Bytes there are, in place of 8.
        bytes: usize,
    },
}

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { bytes, max } => write!(f, "the name has {bytes} bytes, it can have 1 to {max}"),
            Self::Read(error) => write!(f, "the cursor was not read: {error}"),
            Self::Keep(error) => write!(f, "the cursor was not kept: {error}"),
            Self::Malformed { bytes } => {
                write!(f, "the cursor has {bytes} bytes in place of 8; remove it, and everything is delivered again")
            }
        }
    }
}

impl Error for CursorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(&**error),
            Self::Keep(error) => Some(&**error),
            Self::Name { .. } | Self::Malformed { .. } => None,
        }
    }
}
