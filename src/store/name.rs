//! What is kept in a store under a name: keys that begin with it, one owner at a time, and the last number that was given.
//!
//! ```text
//!   key             bytes of the name 1 │ name │ what follows
//!   last number     of StateKind::NUMBER: kind 4, big-endian │ bytes of the name 1 │ name   ──►   number 8, little-endian
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::{STATE_PAGE_MAX, StateKind, StateReadError, StateStore, StateValue};

/// Bytes that a name may have.
const NAME_BYTES_MAX: usize = 255;

/// Names that have an owner in this process: the address of the store, the kind, the beginning of the keys.
static OWNED: Mutex<BTreeSet<Place>> = Mutex::new(BTreeSet::new());

type Place = (usize, StateKind, Vec<u8>);

/// A name in a store. Nobody else in this process has it while this lives.
pub(super) struct Name {
    state: Arc<dyn StateStore>,
    place: Place,
}

impl Name {
    /// The name among those of a kind in a store.
    pub(super) fn claim(name: &str, kind: StateKind, state: Arc<dyn StateStore>) -> Result<Self, NameError> {
        let (bytes, max) = (name.len(), NAME_BYTES_MAX);
        if bytes > max {
            return Err(NameError::TooLong { bytes, max });
        }
        // The store stays where it is: the name holds it.
        let address = Arc::as_ptr(&state).cast::<()>().addr();
        let place = (address, kind, [&[bytes as u8], name.as_bytes()].concat());
        if !owned().insert(place.clone()) {
            return Err(NameError::Owned { name: name.to_owned() });
        }
        Ok(Self { state, place })
    }

    pub(super) fn state(&self) -> &Arc<dyn StateStore> {
        &self.state
    }

    /// Whether it is a name in this store.
    pub(super) fn is_in(&self, state: &Arc<dyn StateStore>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.state), Arc::as_ptr(state))
    }

    /// A key of the name.
    pub(super) fn key(&self, rest: &[u8]) -> Vec<u8> {
        [&*self.place.2, rest].concat()
    }

    /// Reads the keys of the name, each without it, and their values.
    pub(super) fn each<E: From<StateReadError>>(
        &self,
        mut tell: impl FnMut(&[u8], &StateValue) -> Result<(), E>,
    ) -> Result<(), E> {
        let (_, kind, prefix) = &self.place;
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
        let (_, kind, prefix) = &self.place;
        [&kind.number().to_be_bytes()[..], prefix].concat()
    }

    /// The last number that was given, as far as it was kept; 0 = none was.
    pub(super) fn number(&self) -> Result<u64, StateReadError> {
        let kept = self.state.get(StateKind::NUMBER, &self.number_key())?;
        Ok(kept.and_then(|kept| kept[..].try_into().ok()).map_or(0, u64::from_le_bytes))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        owned().remove(&self.place);
    }
}

fn owned() -> MutexGuard<'static, BTreeSet<Place>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why nothing was opened under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// It is too long.
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It has an owner: something is open under it, in this store and process.
    Owned {
        /// The name.
        name: String,
    },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, max } => write!(f, "the name has {bytes} bytes, the limit is {max}; shorten it"),
            Self::Owned { name } => {
                write!(
                    f,
                    "{name:?} is open already, and has one owner at a time; share that, drop it, or take another name"
                )
            }
        }
    }
}

impl Error for NameError {}
