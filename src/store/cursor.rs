//! A position that is kept beside the events: how far somebody has come.

use std::sync::Arc;

use super::durable::DurableError;
use super::{Durability, Position, StateChange, StateKind, StateStore};

/// Bytes that the name of a cursor may have.
const NAME_BYTES_MAX: usize = 255;

/// Where a cursor is kept.
pub(super) struct Cursor {
    state: Arc<dyn StateStore>,
    key: Vec<u8>,
    word: Durability,
}

impl Cursor {
    /// The cursor of a name among those whose keys begin with `kind`. It is kept no better than written: behind where it was, events
    /// come again.
    pub(super) fn new(state: Arc<dyn StateStore>, kind: &[u8], name: &str) -> Result<Self, DurableError> {
        let (bytes, max) = (name.len(), NAME_BYTES_MAX);
        if bytes == 0 || bytes > max {
            return Err(DurableError::Name { bytes, max });
        }
        let key = [kind, &[bytes as u8], name.as_bytes()].concat();
        let word = state.state_durability().min(Durability::Written);
        Ok(Self { state, key, word })
    }

    /// The position kept; `None` when none is.
    pub(super) fn read(&self) -> Result<Option<Position>, DurableError> {
        let kept = self.state.get(StateKind::CURSOR, &self.key);
        let kept = kept.map_err(|error| DurableError::ReadCursor(Arc::new(error)))?;
        let Some(kept) = kept else { return Ok(None) };
        let number: [u8; 8] = (*kept).try_into().map_err(|_| DurableError::NoCursor { bytes: kept.len() })?;
        Ok(Position::new(u64::from_le_bytes(number)))
    }

    /// Keeps a position; `None` = before the first.
    pub(super) fn keep(&self, position: Option<Position>) -> Result<(), DurableError> {
        let number = position.map_or(0, Position::get).to_le_bytes();
        let change = StateChange::Put { kind: StateKind::CURSOR, key: &self.key, value: &number };
        self.state.apply(&[change], self.word).map_err(|error| DurableError::Cursor(Arc::new(error)))
    }

    /// The position kept, unless the log ends before it: then it has lost what was there, and others come to those positions.
    pub(super) fn within(&self, head: Option<Position>) -> Result<Option<Position>, DurableError> {
        let kept = self.read()?;
        if kept > head {
            self.keep(head)?;
        }
        Ok(kept.min(head))
    }
}
