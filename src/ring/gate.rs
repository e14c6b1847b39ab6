//! Publishers that wait at a full lane, and the workers that let them on.

use std::task::Waker;

use crossbeam::utils::CachePadded;

use crate::sync::barrier::Barrier;
use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::sync::waker::WakerCell;

/// A waiting place for each of up to 64 publishers.
#[derive(Debug)]
pub struct Gate {
    /// One bit a publisher that waits. Set by it, cleared by whoever wakes it.
    waiting: CachePadded<AtomicU64>,
    /// The place after the one that was woken first the last time. On a busy machine the first to be woken is the one that
    /// finds room: so they take turns, or the others would wait until they time out.
    turn: AtomicU32,
    wakers: Box<[WakerCell]>,
    barrier: Barrier,
}

impl Gate {
    pub fn new(publishers: usize, barrier: Barrier) -> Self {
        assert!(publishers <= 64, "one bit a publisher");
        Self {
            waiting: CachePadded::new(AtomicU64::new(0)),
            turn: AtomicU32::new(0),
            wakers: (0..publishers).map(|_| WakerCell::new()).collect(),
            barrier,
        }
    }

    /// Leaves `waker`; the publisher must then try once more before it waits.
    pub fn wait(&self, publisher: usize, waker: &Waker) {
        self.wakers[publisher].register(waker);
        // Relaxed: the cell shows the waker, as in `Bell::wait`.
        self.waiting.fetch_or(1 << publisher, Ordering::Relaxed);
        self.barrier.heavy();
    }

    /// The publisher waits no more.
    pub fn leave(&self, publisher: usize) {
        // Relaxed: a wake-up that comes all the same is a spurious one.
        self.waiting.fetch_and(mutant!("gate.leave", !(1 << publisher) => 0), Ordering::Relaxed);
    }

    /// Wakes all who wait. The caller has made room (moved a cursor, freed a block) before. One load when nobody does.
    #[inline]
    pub fn open(&self) {
        self.barrier.light();
        // Relaxed: the barrier orders it after the caller's store; the bits are taken below.
        if self.waiting.load(Ordering::Relaxed) != 0 {
            self.open_all();
        }
    }

    #[cold]
    pub fn open_all(&self) {
        // Relaxed (both): who is first is a question of fairness alone.
        let turn = self.turn.load(Ordering::Relaxed);
        // Relaxed: as in `wait`; it only decides who wakes.
        let mut waiting = self.waiting.swap(0, Ordering::Relaxed).rotate_right(turn);
        if waiting != 0 {
            self.turn.store((waiting.trailing_zeros() + turn + 1) % u64::BITS, Ordering::Relaxed);
        }
        while waiting != 0 {
            let publisher = (waiting.trailing_zeros() + turn) % u64::BITS;
            waiting &= mutant!("gate.open_all", waiting - 1 => 0);
            self.wakers[publisher as usize].wake();
        }
    }
}

#[cfg(all(test, not(any(ringmain_loom, ringmain_shuttle))))]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    struct Named(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn publishers_that_wait_are_woken_first_in_turn() {
        let gate = Gate::new(64, Barrier::fences());
        let woken = Arc::default();
        for first in [0, 7, 63, 0, 7, 63] {
            for place in [0, 7, 63] {
                gate.wait(place, &Waker::from(Arc::new(Named(place, Arc::clone(&woken)))));
            }
            gate.open_all();
            let mut order = std::mem::take(&mut *woken.lock().unwrap());
            assert_eq!(order[0], first);
            order.sort_unstable();
            assert_eq!(order, [0, 7, 63], "all are woken");
        }
    }
}
