//! What a journal's handle and its thread share: the store, where the events are, and what the thread is to do.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::super::spill::Trail;
use super::super::{EventStore, Position};
use super::{JournalCounts, JournalState};

/// What the journal's handle and its thread share.
pub(in crate::store) struct Shared {
    inner: Mutex<Inner>,
    /// The journal has come further.
    grown: Condvar,
}

pub(in crate::store) struct Inner {
    pub(in crate::store) store: Option<Arc<dyn EventStore>>,
    pub(in crate::store) state: JournalState,
    pub(super) counts: JournalCounts,
    /// The last position that the store had, or that the journal has appended at.
    pub(in crate::store) last: Option<Position>,
    /// How far it has come in each lane, and where in the store that is.
    pub(in crate::store) trail: Trail,
    pub(super) is_ending: bool,
    /// It ends although its subscription has not.
    pub(super) is_leaving: bool,
    /// A store that failed is to be tried at once.
    pub(super) is_urgent: bool,
    pub(super) thread: Option<Thread>,
}

impl Shared {
    pub(super) fn new(store: Arc<dyn EventStore>, last: Option<Position>) -> Self {
        let inner = Inner {
            store: Some(store),
            state: JournalState::Writing,
            counts: JournalCounts::default(),
            last,
            trail: Trail::new(last),
            is_ending: false,
            is_leaving: false,
            is_urgent: false,
            thread: None,
        };
        Self { inner: Mutex::new(inner), grown: Condvar::new() }
    }

    /// Waits until the journal has come further than this, at most `limit`.
    pub(in crate::store) fn wait_beyond(&self, steps: u64, limit: Duration) {
        let waits = |inner: &mut Inner| inner.trail.steps() == steps && !inner.trail.is_over();
        drop(self.grown.wait_timeout_while(self.inner(), limit, waits));
    }

    /// The journal has come further: tells who waits for that.
    pub(super) fn grow(&self) {
        self.grown.notify_all();
    }

    pub(in crate::store) fn inner(&self) -> MutexGuard<'_, Inner> {
        // Changed by steps that do not panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> JournalCounts {
        self.inner().counts
    }

    pub(super) fn state(&self) -> JournalState {
        self.inner().state.clone()
    }

    /// What the store said last, if it did not work.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.inner().state {
            JournalState::Retrying(error) | JournalState::Lost(error) => Some(error.clone()),
            JournalState::Writing | JournalState::Ended => None,
        }
    }

    pub(super) fn resume(&self, store: Arc<dyn EventStore>) {
        let before = self.inner().store.replace(store);
        // Its end may take time.
        drop(before);
        self.retry();
    }

    pub(super) fn retry(&self) {
        self.inner().is_urgent = true;
        self.wake();
    }

    pub(super) fn end(&self) {
        self.inner().is_ending = true;
    }

    /// The subscription could not be ended from outside: its thread is to end it.
    pub(super) fn leave(&self) {
        self.inner().is_leaving = true;
    }

    pub(super) fn wake(&self) {
        if let Some(thread) = &self.inner().thread {
            thread.unpark();
        }
    }
}
