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
        // SYNC(bell): Release. Pairs with `ring`; the waker is there when the flag is seen.
        self.waiting.store(true, Ordering::Release);
        self.barrier.heavy();
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
        // SYNC(bell): Acquire. Pairs with `wait`.
        if self.waiting.swap(false, Ordering::Acquire) {
            self.waker.wake();
        }
    }
}
