//! Names that have one owner at a time: who reads on under a name must be alone with its cursor.
//!
//! ```text
//!   lease(name) ──► Lease: it is yours ──► apply_under(lease, changes): made while it is, in one piece with that
//!        │               │ dropped, or the process ends
//!        ▼               ▼
//!   Taken { owner }   the next who asks has it, under the next term
//! ```

mod error;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Durability, StateChange, StateError, StateKind, StatePage, StateReadError, StateStore, StateValue};

pub use error::LeaseError;

/// Bytes that a name may have.
pub(super) const NAME_BYTES_MAX: usize = 1_024;

/// A name of a store that is one's own until this is dropped. See [`StateStore::lease`].
pub struct Lease {
    name: String,
    term: u64,
    /// Gives the name back when it is dropped.
    _held: Box<dyn Send + Sync>,
}

impl Lease {
    /// For those who write a store: `held` gives the name back when it is dropped.
    pub fn new(name: impl Into<String>, term: u64, held: impl Send + Sync + 'static) -> Self {
        Self { name: name.into(), term, _held: Box::new(held) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many owners the name has had, this one included, where the store counts them: it tells a late change of an owner before
    /// this one from one of this. 0 where nobody else can have the name before it is given back.
    pub fn term(&self) -> u64 {
        self.term
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("name", &self.name).field("term", &self.term).finish_non_exhaustive()
    }
}

/// For those who write a store that one process has to itself: the names that are taken in it.
#[derive(Debug, Clone, Default)]
pub struct Leases(Arc<Mutex<HashMap<String, String>>>);

/// Gives a name back.
struct Held {
    leases: Leases,
    name: String,
}

impl Leases {
    /// Takes a name.
    ///
    /// # Errors
    /// When it is empty, too long, or has an owner.
    pub fn take(&self, name: &str) -> Result<Lease, LeaseError> {
        self.take_as(name, &format!("process {}", std::process::id()))
    }

    pub(super) fn take_as(&self, name: &str, owner: &str) -> Result<Lease, LeaseError> {
        let (bytes, max) = (name.len(), NAME_BYTES_MAX);
        if bytes == 0 || bytes > max {
            return Err(LeaseError::Name { bytes, max });
        }
        let mut taken = self.taken();
        if let Some(owner) = taken.get(name) {
            return Err(LeaseError::Taken { name: name.to_owned(), owner: owner.clone() });
        }
        taken.insert(name.to_owned(), owner.to_owned());
        drop(taken);
        Ok(Lease::new(name, 0, Held { leases: self.clone(), name: name.to_owned() }))
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // Changed by steps that do not panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.taken().remove(&self.name);
    }
}

/// A store of state whose changes are made while a name is one's own, and refused with [`StateError::Lease`] when it is not any more.
///
/// ```
/// use ringmain::store::{LeaseError, Leased, MemoryStore};
/// use std::sync::Arc;
///
/// let store = Arc::new(MemoryStore::new());
/// let mine = Leased::take(store.clone(), "nightly report")?;
/// let refused = Leased::take(store.clone(), "nightly report").unwrap_err();
/// assert!(matches!(refused, LeaseError::Taken { .. }));
/// drop(mine);
/// let next = Leased::take(store, "nightly report")?;
/// # Ok::<(), LeaseError>(())
/// ```
pub struct Leased {
    /// Dropped first, while its store is there.
    lease: Lease,
    state: Arc<dyn StateStore>,
}

impl Leased {
    /// Takes a name of a store, 1 to 1,024 bytes.
    ///
    /// # Errors
    /// See [`LeaseError`].
    pub fn take(state: Arc<dyn StateStore>, name: &str) -> Result<Arc<Self>, LeaseError> {
        let lease = state.lease(name)?;
        Ok(Arc::new(Self { lease, state }))
    }

    /// The store, without the name.
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.state
    }
}

impl StateStore for Leased {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        self.state.apply_under(&self.lease, changes, durability)
    }

    fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, StateReadError> {
        self.state.get(kind, key)
    }

    fn list(&self, kind: StateKind, from: &[u8], limit: usize) -> Result<StatePage, StateReadError> {
        self.state.list(kind, from, limit)
    }

    fn state_durability(&self) -> Durability {
        self.state.state_durability()
    }

    fn lease(&self, name: &str) -> Result<Lease, LeaseError> {
        self.state.lease(name)
    }

    fn apply_under(
        &self,
        lease: &Lease,
        changes: &[StateChange<'_>],
        durability: Durability,
    ) -> Result<(), StateError> {
        self.state.apply_under(lease, changes, durability)
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased").field("lease", &self.lease).finish_non_exhaustive()
    }
}
