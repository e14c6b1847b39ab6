//! What is kept in a store under a name: keys that begin with it, one owner at a time, and the last number that was given.
//!
//! ```text
//!   key             bytes of the name 1 │ name │ what follows
//!   last number     of StateKind::NUMBER: kind 4, big-endian │ bytes of the name 1 │ name   ──►   number 8, little-endian
//! ```

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::lease::{LeaseError, Leased};
use super::state::{STATE_PAGE_MAX, StateKind, StateReadError, StateStore, StateValue};

/// Bytes that a name may have.
const NAME_BYTES_MAX: usize = 255;

/// A name in a store. Nobody else has it while this lives, in whichever process.
pub(super) struct Name {
    /// As its owner changes it.
    state: Arc<dyn StateStore>,
    /// As others know it.
    store: Arc<dyn StateStore>,
    kind: StateKind,
    prefix: Vec<u8>,
}

impl Name {
    /// The name among those of a kind in a store.
    pub(super) fn claim(name: &str, kind: StateKind, state: Arc<dyn StateStore>) -> Result<Self, NameError> {
        let (bytes, max) = (name.len(), NAME_BYTES_MAX);
        if bytes > max {
            return Err(NameError::TooLong { bytes, max });
        }
        let owned = match kind {
            StateKind::DEAD_LETTER => "dead letter queue",
            StateKind::TIMER => "schedule",
            StateKind::HANDLED => "handled window",
            StateKind::ATTEMPT => "reliable subscription",
            _ => "name",
        };
        let leased = Leased::take(Arc::clone(&state), &format!("{owned} {name:?}")).map_err(NameError::Lease)?;
        let prefix = [&[bytes as u8], name.as_bytes()].concat();
        Ok(Self { state: leased, store: state, kind, prefix })
    }

    pub(super) fn state(&self) -> &Arc<dyn StateStore> {
        &self.state
    }

    /// Whether it is a name in this store.
    pub(super) fn is_in(&self, state: &Arc<dyn StateStore>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.store), Arc::as_ptr(state))
    }

    /// A key of the name.
    pub(super) fn key(&self, rest: &[u8]) -> Vec<u8> {
        [&*self.prefix, rest].concat()
    }

    /// Reads the keys of the name, each without it, and their values.
    pub(super) fn each<E: From<StateReadError>>(
        &self,
        mut tell: impl FnMut(&[u8], &StateValue) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { kind, prefix, .. } = self;
        let mut from = Some(prefix.clone());
        while let Some(at) = from {
            let page = self.state.list(*kind, &at, STATE_PAGE_MAX)?;
            for (key, value) in &page.entries {
                let Some(rest) = key.strip_prefix(&**prefix) else { return Ok(()) };
                tell(rest, value)?;
            }
            from = page.next.map(Vec::from);
        }
        Ok(())
    }

    /// The key of the last number that was given.
    pub(super) fn number_key(&self) -> Vec<u8> {
        let Self { kind, prefix, .. } = self;
        [&kind.number().to_be_bytes()[..], prefix].concat()
    }

    /// The last number that was given, as far as it was kept; 0 = none was.
    pub(super) fn number(&self) -> Result<u64, StateReadError> {
        let kept = self.state.get(StateKind::NUMBER, &self.number_key())?;
        Ok(kept.and_then(|kept| kept[..].try_into().ok()).map_or(0, u64::from_le_bytes))
    }
}

/// Why nothing was opened under a name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NameError {
    /// It is too long.
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It has an owner: something is open under it, in this process or another.
    Lease(LeaseError),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, max } => write!(f, "the name has {bytes} bytes, the limit is {max}; shorten it"),
            Self::Lease(error) => error.fmt(f),
        }
    }
}

impl Error for NameError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooLong { .. } => None,
            Self::Lease(error) => Some(error),
        }
    }
}
