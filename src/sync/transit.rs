//! How much is on its way from one count to the next, so that it is never in none: begun before it leaves the first, ended
//! when it has come to the second.
//!
//! Who reads the counts in the order of the way finds what is on it twice, or once, and never not at all.

use super::mutant::mutant;
use super::primitive::{AtomicU64, Ordering};

/// So much is on its way.
#[derive(Debug)]
pub struct Transit(AtomicU64);

impl Default for Transit {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Transit {
    /// One is about to set out. How many were on their way before.
    pub fn begin(&self) -> u64 {
        // SYNC(transit): Acquire. Pairs with `end`; whoever takes the place of one that has ended finds the room that it left.
        // It need not release: what shows it gone from where it was shows this with it.
        self.0.fetch_add(1, mutant!("transit.begin", Ordering::Acquire))
    }

    /// One has arrived, was counted where it ended, or did not set out.
    pub fn end(&self) {
        // SYNC(transit): Release. Pairs with `count`, it is in the next count, and with `begin`.
        self.0.fetch_sub(1, mutant!("transit.end", Ordering::Release));
    }

    /// How much is on its way. Asked after the count that it left, and before the one to which it comes.
    pub fn count(&self) -> u64 {
        // SYNC(transit): Acquire. Pairs with `end`.
        self.0.load(mutant!("transit.count", Ordering::Acquire))
    }
}
