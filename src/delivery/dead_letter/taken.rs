//! A dead letter that is sent again, from the store to where it goes.

use std::sync::Arc;

use super::{DeadLetter, DeadLetterStore};

/// How a taking ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The letter is back in its place.
    Stays,
    /// It was accepted where it was sent.
    Sent,
    /// It is on its way back to its subscription.
    SetsOut,
}

/// A dead letter that is being sent again. Dropped, it is back in the store.
#[derive(Debug)]
pub(crate) struct TakenLetter {
    store: Arc<DeadLetterStore>,
    letter: Arc<DeadLetter>,
    end: End,
}

impl TakenLetter {
    pub(super) fn new(store: Arc<DeadLetterStore>, letter: Arc<DeadLetter>) -> Self {
        Self { store, letter, end: End::Stays }
    }

    pub(crate) fn letter(&self) -> &DeadLetter {
        &self.letter
    }

    /// It was accepted where it was sent: it is no dead letter any more.
    pub(crate) fn sent(mut self) {
        self.end = End::Sent;
    }

    /// It goes back to its subscription. Its room in the store is others' now.
    pub(crate) fn set_out(mut self) -> ReturningLetter {
        self.end = End::SetsOut;
        ReturningLetter { store: Arc::clone(&self.store), letter: Arc::clone(&self.letter), has_arrived: false }
    }
}

impl Drop for TakenLetter {
    fn drop(&mut self) {
        self.store.give_back(&self.letter, self.end);
    }
}

/// A dead letter on its way back to its subscription. Dropped, it is in the store again, the same as before.
#[derive(Debug)]
pub(crate) struct ReturningLetter {
    store: Arc<DeadLetterStore>,
    letter: Arc<DeadLetter>,
    has_arrived: bool,
}

impl ReturningLetter {
    pub(crate) fn letter(&self) -> &DeadLetter {
        &self.letter
    }

    /// Its event has a place in its mailbox: it is no dead letter any more. Takes no lock.
    pub(crate) fn arrived(mut self) {
        self.has_arrived = true;
    }
}

impl Drop for ReturningLetter {
    fn drop(&mut self) {
        if self.has_arrived {
            self.store.arrived(&self.letter);
        } else {
            self.store.came_back(&self.letter);
        }
    }
}
