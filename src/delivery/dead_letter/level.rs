//! A figure that any thread raises and lowers, and any thread reads.

use crate::sync::primitive::{AtomicU64, Ordering};

/// How much of something there is.
#[derive(Debug, Default)]
pub(super) struct Level(AtomicU64);

impl Level {
    pub(super) fn raise(&self, by: u64) {
        // Relaxed: the figure announces nothing but itself.
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Takes back what was raised before.
    pub(super) fn lower(&self, by: u64) {
        // Relaxed: the figure announces nothing but itself.
        self.0.fetch_sub(by, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        // Relaxed: the figure announces nothing but itself.
        self.0.load(Ordering::Relaxed)
    }
}
