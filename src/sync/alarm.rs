//! The earliest instant at which a worker has something to look after, set by whoever knows of one.
//!
//! ```text
//!   who has a time                        the worker, when the alarm is due
//!   write what is to be looked after      take the alarm
//!   light barrier                         heavy barrier
//!   alarm later than that? move it        look after everything, move the alarm to what is next
//! ```
//!
//! Either the worker sees what was written, or who wrote it sees that the alarm was taken and sets it anew.

use crossbeam::utils::CachePadded;

use super::barrier::Barrier;
use super::mutant::mutant;
use super::parker::Parker;
use super::primitive::{AtomicU64, Ordering};

/// No time at all.
pub const NEVER: u64 = u64::MAX;

/// One worker's alarm. Instants are nanoseconds of the bus clock.
#[derive(Debug)]
pub struct Alarm {
    at: CachePadded<AtomicU64>,
    worker: usize,
    barrier: Barrier,
}

impl Alarm {
    /// The alarm of `worker`, not set.
    pub fn new(worker: usize, barrier: Barrier) -> Self {
        Self { at: CachePadded::new(AtomicU64::new(NEVER)), worker, barrier }
    }

    /// Sees to it that the worker looks at `instant`, or before. What it is to find has been written before. Wakes it when
    /// the alarm moved, for it may sleep until later.
    pub fn set(&self, instant: u64, parker: &Parker) {
        self.barrier.light();
        // Relaxed: ordered after the caller's store by the barrier, against `take`, which does the same the other way round.
        let is_earlier = instant < self.at.load(Ordering::Relaxed);
        // Relaxed: the wake-up, or the worker's own next look, shows it.
        if is_earlier && self.at.fetch_min(instant, Ordering::Relaxed) > instant {
            mutant!("alarm.wake", parker.wake(1 << self.worker) => ());
        }
    }

    /// When it is set for; `NEVER` when it is not.
    #[inline]
    pub fn at(&self) -> u64 {
        // Relaxed: a time and nothing else; what is to be found is read after `take`.
        self.at.load(Ordering::Relaxed)
    }

    /// Worker: unsets the alarm, before it looks after everything that may have set it.
    pub fn take(&self) {
        // Relaxed: the barrier orders it before the looks that follow.
        self.at.store(NEVER, Ordering::Relaxed);
        mutant!("alarm.take", self.barrier.heavy() => ());
    }

    /// Worker: sets it to what it has found to be next.
    pub fn resume(&self, instant: u64) {
        // Relaxed: the worker's own time; somebody may have set an earlier one since.
        mutant!("alarm.resume", self.at.fetch_min(instant, Ordering::Relaxed) => self.at.swap(instant, Ordering::Relaxed));
    }
}
