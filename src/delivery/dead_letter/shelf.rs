//! The letters that are sorted in, by their numbers: what the store's lock guards.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DeadLetter, DeadLetterLimits};

/// What the lock guards.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) letters: BTreeMap<u64, Arc<DeadLetter>>,
    /// Bytes of `letters`.
    bytes: usize,
    /// Letters that somebody sends again just now: they keep their room until it is known whether they come back.
    in_hand: usize,
    in_hand_bytes: usize,
}

impl Shelf {
    pub(super) fn insert(&mut self, letter: Arc<DeadLetter>) {
        self.bytes += letter.bytes();
        self.letters.insert(letter.id(), letter);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<DeadLetter>> {
        let letter = self.letters.remove(&id)?;
        self.bytes -= letter.bytes();
        Some(letter)
    }

    pub(super) fn oldest(&self) -> Option<&DeadLetter> {
        self.letters.first_key_value().map(|(_, oldest)| &**oldest)
    }

    pub(super) fn remove_oldest(&mut self) -> Option<Arc<DeadLetter>> {
        let (_, oldest) = self.letters.pop_first()?;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }

    /// Takes a letter out that keeps its room.
    pub(super) fn take(&mut self, id: u64) -> Option<Arc<DeadLetter>> {
        let letter = self.remove(id)?;
        self.in_hand += 1;
        self.in_hand_bytes += letter.bytes();
        Some(letter)
    }

    /// A letter that was taken needs its room no more, or comes back into it.
    pub(super) fn end_taking(&mut self, letter: &DeadLetter) {
        self.in_hand -= 1;
        self.in_hand_bytes -= letter.bytes();
    }

    /// Whether a letter would have room if all others went that can.
    pub(super) fn could_hold(&self, letter: &DeadLetter, limits: &DeadLetterLimits) -> bool {
        self.in_hand < limits.events && self.in_hand_bytes + letter.bytes() <= limits.bytes
    }

    pub(super) fn is_beyond(&self, limits: &DeadLetterLimits) -> bool {
        self.letters.len() + self.in_hand > limits.events || self.bytes + self.in_hand_bytes > limits.bytes
    }
}
