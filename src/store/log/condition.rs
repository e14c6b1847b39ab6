//! What a log says of itself to who does not wait for its disk: a write or sync that hangs holds the log, and no question for it.

use std::sync::OnceLock;

use crate::sync::primitive::Ordering;
use crate::sync::primitive::unscheduled::AtomicBool;

use super::file::Fault;

/// How a log is: set by the log, read by anybody.
#[derive(Debug)]
pub(super) struct Condition {
    fault: OnceLock<Fault>,
    has_reserve: AtomicBool,
}

impl Condition {
    pub(super) fn new() -> Self {
        Self { fault: OnceLock::new(), has_reserve: AtomicBool::new(false) }
    }

    /// Why nothing more is appended, if so.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// Remembers why nothing more is appended; the first reason stays.
    pub(super) fn fail(&self, fault: Fault) -> Fault {
        self.fault.get_or_init(|| fault).clone()
    }

    /// Whether all the room for a segment is known to be set aside.
    pub(super) fn has_reserve(&self) -> bool {
        // Relaxed: told to people; the log itself reads what it has set, under its own lock.
        self.has_reserve.load(Ordering::Relaxed)
    }

    pub(super) fn set_reserve(&self, is_whole: bool) {
        // Relaxed: nothing is read because of it but the word itself.
        self.has_reserve.store(is_whole, Ordering::Relaxed);
    }
}
