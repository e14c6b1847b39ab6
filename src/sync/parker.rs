//! Workers sleep here, and whoever has work for one wakes it; nobody pays when nobody sleeps.
//!
//! ```text
//!   worker                                   publisher
//!   set my bit in `parked`                   commit the event
//!   heavy barrier                            light barrier
//!   look once more at lanes, table, timers   load `parked`
//!   nothing? sleep until my bit is clear     my targets' bits set? clear them, unpark
//! ```
//!
//! Of the two loads at the end at least one sees the other side's store, so no wake-up is lost. Who clears the bit
//! unparks, so one sleep gets one wake-up however many publishers come at once.

use std::sync::OnceLock;
use std::time::Duration;

use crossbeam::utils::CachePadded;

use super::barrier::Barrier;
use super::mutant::mutant;
use super::primitive::{AtomicU64, Ordering, thread};

/// The sleeping places of up to 64 workers.
#[derive(Debug)]
pub struct Parker {
    /// One bit a worker: it sleeps, or is about to. Written by workers (set) and whoever wakes (clear).
    parked: CachePadded<AtomicU64>,
    threads: Box<[OnceLock<thread::Thread>]>,
    barrier: Barrier,
}

impl Parker {
    /// # Panics
    /// Never for `workers <= 64`, which the builder checks.
    pub fn new(workers: usize, barrier: Barrier) -> Self {
        assert!(workers <= 64, "one bit a worker");
        Self {
            parked: CachePadded::new(AtomicU64::new(0)),
            threads: (0..workers).map(|_| OnceLock::new()).collect(),
            barrier,
        }
    }

    /// Says that the calling thread is worker `worker`. Must come before its first `park`.
    pub fn enter(&self, worker: usize) {
        let first = self.threads[worker].set(thread::current()).is_ok();
        debug_assert!(first, "a worker enters once");
    }

    /// Announces that `worker` is about to sleep; after this it must look once more for work, then `park` or `cancel`.
    pub fn prepare(&self, worker: usize) {
        // Relaxed: the barrier that follows orders this store before the looks that come after it.
        self.parked.fetch_or(1 << worker, Ordering::Relaxed);
        self.barrier.heavy();
    }

    /// Takes the announcement back.
    pub fn cancel(&self, worker: usize) {
        // Relaxed: a wake-up that came in between left a token for the next park, which then looks again.
        self.parked.fetch_and(!(1 << worker), Ordering::Relaxed);
    }

    /// Sleeps until somebody wakes `worker`, or `limit` has passed. Call only after `prepare`.
    pub fn park(&self, worker: usize, limit: Option<Duration>) {
        // SYNC(parker.wake): Acquire. Pairs with `wake`; what the waker did before it is visible after the sleep.
        while self.parked.load(Ordering::Acquire) & (1 << worker) != 0 {
            match limit {
                None => thread::park(),
                Some(limit) => {
                    thread::park_timeout(limit);
                    break;
                }
            }
        }
        self.cancel(worker);
    }

    /// Wakes those of `workers` (one bit each) that sleep. One load when none does; about 6 µs a sleeper.
    ///
    /// The caller's store (an event, a table) must come before it in program order.
    #[inline]
    pub fn wake(&self, workers: u64) {
        self.barrier.light();
        // Relaxed: the barrier above orders it after the caller's store; the bits are claimed below.
        if self.parked.load(Ordering::Relaxed) & workers != 0 {
            self.unpark(workers);
        }
    }

    /// Whether any of `workers` seems to sleep: a hint, not to be waited on. One load, and who they are is asked only when
    /// somebody does.
    #[inline(always)]
    pub fn seems_parked(&self, workers: impl FnOnce() -> u64) -> bool {
        // Relaxed: nothing is concluded from it; `wake`, which comes later, looks behind a barrier.
        let parked = self.parked.load(Ordering::Relaxed);
        parked != 0 && parked & workers() != 0
    }

    #[cold]
    fn unpark(&self, workers: u64) {
        // SYNC(parker.wake): Release. Pairs with `park`. Clearing the bit decides who unparks, and nothing is read by it.
        let mut mine = self.parked.fetch_and(mutant!("parker.named", !workers => 0), Ordering::Release) & workers;
        while mine != 0 {
            let worker = mine.trailing_zeros() as usize;
            mine &= mutant!("parker.all", mine - 1 => 0);
            if let Some(thread) = self.threads[worker].get() {
                thread.unpark();
            }
        }
    }
}
