//! One side rings, the other waits: a mailbox and its consumer, a consumer and its suspended worker.
//!
//! Ringing costs one load while nobody waits.

use std::task::Waker;

use super::barrier::Barrier;
use super::primitive::{AtomicBool, Ordering};
use super::waker::WakerCell;

/// A waiting place for one.
#[derive(Debug)]
pub struct Bell {
    waiting: AtomicBool,
    waker: WakerCell,
    barrier: Barrier,
}

impl Bell {
    pub fn new(barrier: Barrier) -> Self {
        Self { waiting: AtomicBool::new(false), waker: WakerCell::new(), barrier }
    }

    /// Leaves `waker`; the waiter must then look once more before it waits.
    pub fn wait(&self, waker: &Waker) {
        self.waker.register(waker);
        // Relaxed: the cell shows the waker. A wake-up that came to the cell before `register` was seen by it, so it took
        // the flag before this store, and not this one.
        self.waiting.store(true, Ordering::Relaxed);
        self.barrier.heavy();
    }

    /// Whether the waker that was left last is still to be woken. For the waiter.
    pub fn is_awaited(&self) -> bool {
        // Relaxed: who takes the flag wakes the waiter, which then asks again.
        self.waiting.load(Ordering::Relaxed)
    }

    /// Wakes the waiter. What it waits for was stored before, by the caller.
    #[inline]
    pub fn ring(&self) {
        self.barrier.light();
        // Relaxed: the barrier orders it after the caller's store; the swap below decides who wakes.
        if self.waiting.load(Ordering::Relaxed) {
            self.ring_out();
        }
    }

    #[cold]
    fn ring_out(&self) {
        // Relaxed: see `wait`; it only decides who wakes.
        if self.waiting.swap(false, Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}
