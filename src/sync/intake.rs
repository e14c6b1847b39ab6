//! What several hand over to one, who keeps it for a while: taken in without a lock, and in a count until it has gone on.
//!
//! ```text
//!   whoever hands over                 who keeps it
//!   a place, or it is refused
//!   into the queue              ──►    out of the queue, and kept
//!                                      goes on: is in the next count
//!                                      the place is free
//! ```
//!
//! Who reads this count before the next one finds each in one of them at least.

use super::mutant::mutant;
use super::primitive::ArrayQueue;
use super::transit::Transit;

/// A bounded intake.
#[derive(Debug)]
pub struct Intake<T> {
    queue: ArrayQueue<T>,
    /// Places taken: in the queue, or with who keeps them.
    waiting: Transit,
    max: u64,
}

impl<T> Intake<T> {
    /// For `max` at a time, with the keeper's.
    pub fn new(max: usize) -> Self {
        Self { queue: ArrayQueue::new(max.max(1)), waiting: Transit::default(), max: max as u64 }
    }

    pub fn max(&self) -> u64 {
        self.max
    }

    /// How many wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.count()
    }

    /// Takes one in, or gives it back when `max` wait already. A place comes first, so that there is room in the queue.
    pub fn put(&self, one: T) -> Result<(), T> {
        if mutant!("intake.place", self.waiting.begin() => self.waiting.count()) >= self.max {
            self.waiting.end();
            return Err(one);
        }
        // Never full: whoever had this place before has left the queue, as `begin` has seen.
        self.queue.push(one)
    }

    /// Keeper: takes the oldest one over. It keeps its place.
    pub fn take(&self) -> Option<T> {
        self.queue.pop()
    }

    /// Keeper: lets one go on that it took over, if `go` says that it went, and gives its place to another.
    pub fn go_on(&self, go: impl FnOnce() -> bool) -> bool {
        let leave = |has_gone| {
            if has_gone {
                self.waiting.end();
            }
            has_gone
        };
        mutant!("intake.early", leave(go()) => leave(true) && go())
    }

    /// Whether there is something to take over.
    pub fn has_some(&self) -> bool {
        !self.queue.is_empty()
    }
}
