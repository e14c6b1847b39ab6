//! Counting cells: one number each, written on the data plane, read from anywhere.
//!
//! | cell | writers | cost of a write |
//! |---|---|---|
//! | [`Counter`] | one thread, or any by `add_shared` | a load and a store |
//! | [`Peak`] | one thread, or any by `raise_shared` | a load, a comparison, and a store when it rises |
//! | [`SharedCounter`] | any | one atomic read-modify-write |
//!
//! None of them publishes anything but itself: a reader may see a cell's newest value beside another
//! cell's older one, and never sees one cell go back.

#![forbid(unsafe_code)]

use crate::sync::primitive::{AtomicU64, Ordering};

/// A count that one thread raises and any thread reads.
///
/// With a second writer nothing breaks but the figure: additions that overlap are lost. Where several
/// threads count, use [`SharedCounter`].
///
/// # Cost
///
/// A load and a store; no read-modify-write, no fence. Its line moves only when a reader looks.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`, wrapping at 2^64. Call it from the writing thread only.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: the only writer reads its own last store.
        let count = self.0.load(Ordering::Relaxed);
        // Relaxed: the count announces nothing but itself.
        self.0.store(count.wrapping_add(n), Ordering::Relaxed);
    }

    /// As [`add`](Self::add), from any thread, where no thread uses that.
    #[inline]
    pub(crate) fn add_shared(&self, n: u64) {
        // Relaxed: the addition is atomic, which is all a count asks.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count as of some moment during the call; never lower than an earlier answer to the same thread.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: a reader takes the number alone and concludes nothing about other memory.
        self.0.load(Ordering::Relaxed)
    }
}

/// The highest value seen, kept by one thread and read by any; 0 until something was seen.
#[derive(Debug, Default)]
pub(crate) struct Peak(AtomicU64);

impl Peak {
    /// Remembers `value` if it is the highest so far. Call it from the writing thread only.
    #[inline]
    pub(crate) fn raise(&self, value: u64) {
        // Relaxed: the only writer reads its own last store.
        if value > self.0.load(Ordering::Relaxed) {
            // Relaxed: the peak announces nothing but itself.
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// As [`raise`](Self::raise), from any thread, where no thread uses that.
    #[inline]
    pub(crate) fn raise_shared(&self, value: u64) {
        // Relaxed: the peak announces nothing but itself.
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// The highest value seen as of some moment during the call.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: a reader takes the number alone and concludes nothing about other memory.
        self.0.load(Ordering::Relaxed)
    }
}

/// A count that any thread raises and any thread reads: for the control plane, and for data-plane events
/// that several threads count and that are rare.
///
/// # Cost
///
/// One atomic addition, several times a [`Counter`]'s when alone and far more when writers meet.
#[derive(Debug, Default)]
pub(crate) struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `n`, wrapping at 2^64; no addition is lost.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // Relaxed: the addition is atomic, which is all a count asks; it announces nothing but itself.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count as of some moment during the call; never lower than an earlier answer to the same thread.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: a reader takes the number alone and concludes nothing about other memory.
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    // Miri looks at each step, and takes its time.
    const ADDITIONS: u64 = if cfg!(miri) { 50 } else { 100_000 };

    #[test]
    fn counter_read_while_written_only_rises() {
        let counter = Counter::default();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                for _ in 0..ADDITIONS {
                    counter.add(3);
                }
            });
            start.wait();
            let mut seen = 0;
            while seen < 3 * ADDITIONS {
                let now = counter.get();
                assert!(now >= seen, "{now} after {seen}");
                assert_eq!(now % 3, 0, "half an addition was seen");
                seen = now;
            }
        });
        assert_eq!(counter.get(), 3 * ADDITIONS);
    }

    #[test]
    fn counter_wraps_instead_of_panicking() {
        let counter = Counter::default();
        counter.add(u64::MAX);
        counter.add(2);
        assert_eq!(counter.get(), 1);
    }

    #[test]
    fn shared_counter_loses_no_addition_of_any_writer() {
        let counter = SharedCounter::default();
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    // Long enough that writers overlap, whatever the barrier took to let them go.
                    for _ in 0..20 * ADDITIONS {
                        counter.add(1);
                    }
                });
            }
        });
        assert_eq!(counter.get(), 80 * ADDITIONS);
    }

    #[test]
    fn peak_keeps_the_highest_and_ignores_the_rest() {
        let peak = Peak::default();
        assert_eq!(peak.get(), 0);
        for (value, highest) in [(5, 5), (3, 5), (5, 5), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            peak.raise(value);
            assert_eq!(peak.get(), highest);
        }
    }
}
