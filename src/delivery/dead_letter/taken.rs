//! A dead letter on its way to be sent again.

use std::sync::Arc;

use super::{DeadLetter, DeadLetterStore};

/// A dead letter that is being sent again. Dropped, it is back in the store.
#[derive(Debug)]
pub(crate) struct TakenLetter {
    store: Arc<DeadLetterStore>,
    letter: Arc<DeadLetter>,
    is_sent: bool,
}

impl TakenLetter {
    pub(super) fn new(store: Arc<DeadLetterStore>, letter: Arc<DeadLetter>) -> Self {
        Self { store, letter, is_sent: false }
    }

    pub(crate) fn letter(&self) -> &DeadLetter {
        &self.letter
    }

    pub(crate) fn shared(&self) -> Arc<DeadLetter> {
        Arc::clone(&self.letter)
    }

    /// It was accepted where it was sent: it is no dead letter any more.
    pub(crate) fn sent(mut self) {
        self.is_sent = true;
    }
}

impl Drop for TakenLetter {
    fn drop(&mut self) {
        self.store.give_back(&self.letter, self.is_sent);
    }
}
