//! The cells of histograms under `--cfg ringmain_shuttle`: as those in `cells`, and out of the scheduler's sight.

#![forbid(unsafe_code)]

use crate::sync::primitive::Ordering;
use crate::sync::primitive::unscheduled::AtomicU64;

/// A count that one thread raises and any thread reads.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: all threads of a schedule run on one of the system.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn add_shared(&self, n: u64) {
        self.add(n);
    }

    pub(crate) fn get(&self) -> u64 {
        // Relaxed: as above.
        self.0.load(Ordering::Relaxed)
    }
}
