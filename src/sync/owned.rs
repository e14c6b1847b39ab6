//! A value that many may hold and only one worker may touch: handlers are `FnMut`, and no lock guards them.
//!
//! An [`Owner`] is unique and cannot be copied; a cell remembers whose it is. Access borrows the owner mutably and
//! compares one number, so two accesses can never overlap.

use std::cell::UnsafeCell;

use std::sync::atomic::{AtomicU64, Ordering};

/// The right to open the cells made for it.
#[derive(Debug)]
pub struct Owner {
    id: u64,
}

/// The name of an owner, to make cells for it elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(u64);

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

impl Owner {
    /// A new owner, unlike any other of this process.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness matters. std's, not loom's: it is a static.
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    pub fn id(&self) -> OwnerId {
        OwnerId(self.id)
    }
}

/// A value that only its [`Owner`] opens.
pub struct OwnedCell<T> {
    owner: OwnerId,
    value: UnsafeCell<T>,
}

// SAFETY: references come only from `get_mut`, which borrows the one owner mutably, so all accesses are exclusive and
// the value only ever moves between threads with its owner: T: Send suffices.
unsafe impl<T: Send> Sync for OwnedCell<T> {}

impl<T> OwnedCell<T> {
    pub fn new(owner: OwnerId, value: T) -> Self {
        Self { owner, value: UnsafeCell::new(value) }
    }

    /// The value, for its owner. `None` for anybody else's.
    #[inline]
    pub fn get_mut<'a>(&'a self, owner: &'a mut Owner) -> Option<&'a mut T> {
        if self.owner.0 != owner.id {
            return None;
        }
        // SAFETY: owners are unique and ours is borrowed mutably for as long as the reference lives, so no other
        // reference into any cell of this owner exists.
        Some(unsafe { &mut *self.value.get() })
    }
}

impl<T> std::fmt::Debug for OwnedCell<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnedCell").field("owner", &self.owner).finish_non_exhaustive()
    }
}
