//! Where letters wait until somebody sorts them in: whoever brings one never waits, whoever holds the shelf.

use std::sync::Arc;

use crossbeam::queue::SegQueue;

use crate::sync::primitive::{AtomicBool, Ordering};

use super::level::Level;
use super::{DeadLetter, DeadLetterLimits};

/// So many letters in the intake have each put sort some in.
pub(super) const DUE: usize = 128;
/// Of the bytes allowed, the share that has each put sort some in: one in so many.
pub(super) const DUE_SHARE: usize = 8;

/// Letters that nobody has sorted in. It grows and shrinks with them.
pub(super) struct Intake {
    queue: SegQueue<Arc<DeadLetter>>,
    letters: Level,
    bytes: Level,
    /// Somebody lets the oldest go.
    trimming: AtomicBool,
}

impl Intake {
    pub(super) fn new() -> Self {
        let trimming = AtomicBool::new(false);
        Self { queue: SegQueue::new(), letters: Level::default(), bytes: Level::default(), trimming }
    }

    /// Never waits.
    pub(super) fn push(&self, letter: Arc<DeadLetter>) {
        self.letters.raise(1);
        self.bytes.raise(letter.bytes() as u64);
        self.queue.push(letter);
    }

    /// The oldest.
    pub(super) fn pop(&self) -> Option<Arc<DeadLetter>> {
        let letter = self.queue.pop()?;
        self.letters.lower(1);
        self.bytes.lower(letter.bytes() as u64);
        Some(letter)
    }

    /// Letters in it; one may be about to come.
    pub(super) fn len(&self) -> usize {
        self.letters.get() as usize
    }

    /// Bytes that it takes beside the letters.
    pub(super) fn own_bytes(&self) -> usize {
        // A place has a word of state beside the letter.
        self.len() * size_of::<(usize, Arc<DeadLetter>)>()
    }

    /// Whether it is time to sort some in.
    pub(super) fn is_due(&self, limits: &DeadLetterLimits) -> bool {
        self.len() >= DUE || self.bytes.get() as usize > limits.bytes / DUE_SHARE
    }

    /// Whether these letters alone are more than may be kept.
    fn is_beyond(&self, limits: &DeadLetterLimits) -> bool {
        self.len() > limits.events || self.bytes.get() as usize > limits.bytes
    }

    /// Lets the oldest go as long as there are more than may be kept. Returns whether one went. Who finds somebody at it leaves
    /// it to them: two at a time would let too many go.
    pub(super) fn trim(&self, limits: &DeadLetterLimits, mut discard: impl FnMut(&DeadLetter)) -> bool {
        // Relaxed: it only keeps a second one out; letters travel through the queue.
        if !self.is_beyond(limits) || self.trimming.swap(true, Ordering::Relaxed) {
            return false;
        }
        let mut is_less = false;
        while self.is_beyond(limits)
            && let Some(oldest) = self.pop()
        {
            discard(&oldest);
            is_less = true;
        }
        // Relaxed: see above.
        self.trimming.store(false, Ordering::Relaxed);
        is_less
    }
}
