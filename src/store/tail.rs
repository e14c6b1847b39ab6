//! The end of a store, for those who wait for it to move.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Position;

/// The last position, and who waits for another.
#[derive(Debug, Default)]
pub(super) struct Tail {
    last: Mutex<Option<Position>>,
    grown: Condvar,
}

impl Tail {
    pub(super) fn new(last: Option<Position>) -> Self {
        Self { last: Mutex::new(last), grown: Condvar::new() }
    }

    /// Events up to this position can be read.
    pub(super) fn grow(&self, last: Option<Position>) {
        let mut known = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who append at once may come here in any order.
        *known = last.max(*known);
        drop(known);
        self.grown.notify_all();
    }

    /// Waits until there is an event behind a position, at most `limit`. Returns whether there is.
    pub(super) fn wait_behind(&self, position: Option<Position>, limit: Duration) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.grown.wait_timeout_while(last, limit, |last| *last <= position);
        *waited.unwrap_or_else(PoisonError::into_inner).0 > position
    }
}
