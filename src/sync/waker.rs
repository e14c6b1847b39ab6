//! One waiter, any number of wakers, no lock: how a mailbox consumer or a publisher at a full lane waits.
//!
//! A thread and an async task wait the same way, because both are a [`Waker`]: [`of_this_thread`] unparks the thread.
//!
//! The state word has two bits. The waiter holds `REGISTERING` while it stores its waker; a waker holds `WAKING`
//! while it takes it out. Whoever finds the other's bit leaves the work to the other: a wake-up that meets a
//! registration makes the registering side wake at once.

use std::sync::Arc;
use std::task::{Wake, Waker};

use super::contain::contained;
use super::mutant::mutant;
use super::primitive::{AtomicU32, Ordering, UnsafeCell, spin_loop, thread, thread_local};

const IDLE: u32 = 0;
const REGISTERING: u32 = 1;
const WAKING: u32 = 2;

/// Where one waiter leaves its waker.
#[derive(Debug)]
pub struct WakerCell {
    state: AtomicU32,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: the waker is touched only by the thread that holds REGISTERING or WAKING, and `Waker` is Send and Sync.
unsafe impl Sync for WakerCell {}

impl Default for WakerCell {
    fn default() -> Self {
        Self::new()
    }
}

impl WakerCell {
    pub fn new() -> Self {
        Self { state: AtomicU32::new(IDLE), waker: UnsafeCell::new(None) }
    }

    /// Leaves `waker` to be woken by the next [`wake`](Self::wake). The caller must then look once more for what it
    /// waits for, after a barrier that the waking side shares. One registration at a time.
    ///
    /// A panic of the waker's own code passes through, and leaves the cell to others.
    pub fn register(&self, waker: &Waker) {
        // Cloning a waker and dropping one is its runtime's code, which may panic: never while the cell is ours.
        let mut waker_or_old = Some(waker.clone());
        // SYNC(waker.hand): Acquire. Pairs with the Release in `wake`; the cell is empty or holds our own old waker.
        // On failure too: who wakes itself then sees at once why.
        let claimed = self.state.compare_exchange(IDLE, REGISTERING, Ordering::Acquire, Ordering::Acquire);
        if claimed.is_err() {
            // A wake-up is under way: it may have missed us, so it counts for us.
            mutant!("waker.busy", waker.wake_by_ref() => ());
            // The caller comes back at once, and again until the wake-up is over.
            spin_loop();
            return;
        }
        self.waker.with_mut(|slot| {
            // SAFETY: REGISTERING is ours, so nobody else touches the cell.
            std::mem::swap(unsafe { &mut *slot }, &mut waker_or_old);
        });
        // SYNC(waker.hand): Release. Shows the waker to `wake`. A failure is relaxed: it leads to the swap below.
        let met =
            self.state.compare_exchange(REGISTERING, IDLE, mutant!("waker.show", Ordering::Release), Ordering::Relaxed);
        if mutant!("waker.met", met.is_err() => false) {
            let waker = self.waker.with_mut(|slot| {
                // SAFETY: the state is REGISTERING | WAKING: the waking side saw our bit and left the cell to us.
                unsafe { &mut *slot }.take()
            });
            // SYNC(waker.hand): Release. Hands the cell back to `register` and `wake`. What the waker did before is seen by
            // the next `register`: whoever is woken comes again.
            self.state.swap(IDLE, Ordering::Release);
            ring(waker);
        }
    }

    /// Wakes the registered waiter, if there is one. Lock-free; costs one read-modify-write when nobody waits.
    pub fn wake(&self) {
        // SYNC(waker.hand): AcqRel. Acquire sees the waker that `register` stored; Release shows what we did before.
        if self.state.fetch_or(WAKING, mutant!("waker.wake", Ordering::AcqRel)) == IDLE {
            let waker = self.waker.with_mut(|slot| {
                // SAFETY: the state was IDLE and is WAKING now, so the cell is ours until we clear the bit.
                unsafe { &mut *slot }.take()
            });
            // SYNC(waker.hand): Release. Pairs with the Acquire in `register`; hands the emptied cell back.
            self.state.fetch_and(!WAKING, mutant!("waker.hand", Ordering::Release));
            ring(waker);
        }
    }
}

/// Wakes who was taken out of a cell, when the cell is another's again.
fn ring(waker: Option<Waker>) {
    if let Some(waker) = waker {
        // A waker is its runtime's code: a panic of it must not end the thread that only wakes.
        let _ = contained(|| waker.wake());
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

fn unpark_current() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

thread_local! {
    static OF_THIS_THREAD: Waker = unpark_current();
}

/// A waker that unparks the calling thread. Allocates once a thread: who waits for each event pays nothing for it.
pub fn of_this_thread() -> Waker {
    // A thread that waits while its locals are torn down gets one of its own.
    OF_THIS_THREAD.try_with(Waker::clone).unwrap_or_else(|_| unpark_current())
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::ptr;
    use std::sync::atomic::AtomicUsize;
    use std::task::{RawWaker, RawWakerVTable};

    use super::*;

    static CLONE_PANICS: RawWakerVTable = RawWakerVTable::new(|_| panic!("clone"), |_| (), |_| (), |_| ());
    static WAKE_PANICS: RawWakerVTable =
        RawWakerVTable::new(|_| RawWaker::new(ptr::null(), &WAKE_PANICS), |_| panic!("wake"), |_| (), |_| ());
    static DROP_PANICS: RawWakerVTable =
        RawWakerVTable::new(|_| RawWaker::new(ptr::null(), &DROP_PANICS), |_| (), |_| (), |_| panic!("drop"));

    /// A waker without data, that does what `table` says.
    fn waker_of(table: &'static RawWakerVTable) -> std::mem::ManuallyDrop<Waker> {
        // SAFETY: no function of the tables uses the data, and any thread may call them.
        std::mem::ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(ptr::null(), table)) })
    }

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            // Relaxed: a count.
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a waker left in `cell` is woken once.
    fn works(cell: &WakerCell) -> bool {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        cell.register(&Waker::from(Arc::clone(&count)));
        // Relaxed: a count of this thread alone.
        let before = count.0.load(Ordering::Relaxed);
        cell.wake();
        cell.wake();
        // Relaxed: as above.
        before == 0 && count.0.load(Ordering::Relaxed) == 1
    }

    #[test]
    fn a_waker_whose_clone_panics_leaves_the_cell_to_the_next() {
        let cell = WakerCell::new();
        catch_unwind(AssertUnwindSafe(|| cell.register(&waker_of(&CLONE_PANICS)))).expect_err("its clone panics");
        assert!(works(&cell));
    }

    #[test]
    fn a_waker_whose_drop_panics_leaves_the_cell_to_the_next() {
        let cell = WakerCell::new();
        cell.register(&waker_of(&DROP_PANICS));
        let next = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
        catch_unwind(AssertUnwindSafe(|| cell.register(&next))).expect_err("the old one's drop panics");
        assert!(works(&cell));
    }
    #[test]
    fn a_waker_that_panics_when_it_wakes_harms_neither_who_wakes_nor_the_cell() {
        let cell = WakerCell::new();
        for _ in 0..2 {
            cell.register(&waker_of(&WAKE_PANICS));
            cell.wake();
            assert!(works(&cell));
        }
    }
}
