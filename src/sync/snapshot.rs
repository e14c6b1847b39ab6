//! How the control plane hands a worker its next routing table, and learns when the old one is out of use.
//!
//! Each worker *owns* its table, so a lookup needs no reference count, no hazard pointer and no epoch. The control
//! plane leaves the next table in an exchange slot and raises the generation; between two events the worker sees the
//! generation, takes the table, puts its old one on the retired list, and acknowledges. From then on no lookup can
//! meet the old table, and the control plane frees it.

use std::ptr;

use super::mutant::mutant;
use super::primitive::{AtomicPtr, AtomicU64, Ordering};

/// A value on its way to, or back from, its worker.
#[derive(Debug)]
struct Crate<T> {
    value: T,
    below: *mut Crate<T>,
}

/// The exchange between the control plane (calls serialised by its own lock) and one worker.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// The newest value that the worker has not taken yet, or null.
    next: AtomicPtr<Crate<T>>,
    /// Counts `offer`s and nudges. Written by the control plane, read by the worker between events.
    generation: AtomicU64,
    /// The newest generation the worker has taken over. Written by the worker.
    acknowledged: AtomicU64,
    /// A list of values the worker no longer uses. Pushed by the worker, emptied by the control plane.
    retired: AtomicPtr<Crate<T>>,
}

// SAFETY: the pointers own their boxes, and each box is reachable from one place at a time (slot, worker or list).
unsafe impl<T: Send> Send for Snapshot<T> {}
// SAFETY: values move between threads whole; no reference to a value crosses, so T: Send suffices.
unsafe impl<T: Send> Sync for Snapshot<T> {}

/// The worker's end: it owns the value in use.
#[derive(Debug)]
pub struct Current<T> {
    holding: Box<Crate<T>>,
    generation: u64,
}

// SAFETY: `below` is null while a worker holds the box, so the box owns all that it points to.
unsafe impl<T: Send> Send for Current<T> {}

impl<T> Snapshot<T> {
    /// An exchange whose worker starts with `first`.
    pub fn new(first: T) -> (Self, Current<T>) {
        let exchange = Self {
            next: AtomicPtr::new(ptr::null_mut()),
            generation: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            retired: AtomicPtr::new(ptr::null_mut()),
        };
        (exchange, Current { holding: Box::new(Crate { value: first, below: ptr::null_mut() }), generation: 0 })
    }

    /// Leaves `value` for the worker and returns its generation. A value offered before and not yet taken is
    /// replaced, and dropped here. Control plane: allocates, and calls must not overlap.
    pub fn offer(&self, value: T) -> u64 {
        let offered = Box::into_raw(Box::new(Crate { value, below: ptr::null_mut() }));
        // SYNC(snapshot.offer): Release. Shows the value to `adopt`. What we take back is our own, under the same lock.
        let replaced = self.next.swap(offered, mutant!("snapshot.offer", Ordering::Release));
        if mutant!("snapshot.replaced", !replaced.is_null() => false) {
            // SAFETY: the swap took it out of the slot, so it is ours alone and was made by Box::into_raw.
            drop(unsafe { Box::from_raw(replaced) });
        }
        // SYNC(snapshot.generation): Release. Pairs with `is_stale`; who sees the generation finds the value.
        self.generation.fetch_add(1, Ordering::Release) + 1
    }

    /// Whether a newer value waits. One load; the worker asks between events.
    #[inline]
    pub fn is_stale(&self, current: &Current<T>) -> bool {
        self.watch(current).is_stale()
    }

    /// Makes the worker look up from its work, as if a newer value waited: something else has changed.
    pub fn nudge(&self) {
        // SYNC(snapshot.generation): Release. Pairs with `is_stale`; what changed before is seen by who sees this.
        self.generation.fetch_add(1, mutant!("snapshot.nudge", Ordering::Release));
    }

    /// What [`is_stale`](Self::is_stale) asks, to ask often while `current` is lent out.
    pub fn watch(&self, current: &Current<T>) -> Watch<'_> {
        Watch { generation: &self.generation, seen: current.generation }
    }

    /// Takes the newest value over, retires the old one and acknowledges. `change` sees the old and the new one in between. Worker only;
    /// no allocation.
    pub fn adopt(&self, current: &mut Current<T>, change: impl FnOnce(&mut T, &mut T)) {
        // SYNC(snapshot.generation): Acquire. Pairs with `offer`; read before the slot, so that a value offered in
        // between is taken now and acknowledged with the next call.
        let generation = self.generation.load(Ordering::Acquire);
        // SYNC(snapshot.offer): Acquire. Pairs with `offer`, which reads nothing through the null we leave.
        let taken = self.next.swap(ptr::null_mut(), Ordering::Acquire);
        if !taken.is_null() {
            // SAFETY: the swap took it out of the slot, so it is ours alone and was made by Box::into_raw.
            let mut fresh = unsafe { Box::from_raw(taken) };
            change(&mut current.holding.value, &mut fresh.value);
            self.retire(std::mem::replace(&mut current.holding, fresh));
        }
        // Relaxed: in the bug alone, which looks again.
        current.generation = mutant!("snapshot.late", generation => self.generation.load(Ordering::Relaxed));
        // SYNC(snapshot.acknowledge): Release. Pairs with `acknowledged`; all use of older values came before.
        self.acknowledged.store(generation, mutant!("snapshot.acknowledge", Ordering::Release));
    }

    fn retire(&self, old: Box<Crate<T>>) {
        let old = Box::into_raw(old);
        // Relaxed: only the worker pushes, so the head can only have been emptied since; the exchange below decides.
        let mut head = self.retired.load(Ordering::Relaxed);
        loop {
            // SAFETY: `old` is still ours until the exchange below succeeds.
            unsafe { (*old).below = head };
            // SYNC(snapshot.retire): Release. Pairs with `collect`; our last use of the value comes before its drop.
            let release = mutant!("snapshot.retire", Ordering::Release);
            // Relaxed: an exchange that failed has done nothing.
            match self.retired.compare_exchange_weak(head, old, release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The newest generation the worker has acknowledged: no lookup meets an older value any more.
    pub fn acknowledged(&self) -> u64 {
        // SYNC(snapshot.acknowledge): Acquire. Pairs with `adopt`.
        let word = mutant!("snapshot.eager", &self.acknowledged => &self.generation);
        word.load(Ordering::Acquire)
    }

    /// Frees what the worker has retired. Control plane.
    pub fn collect(&self) {
        // SYNC(snapshot.retire): Acquire. Pairs with `retire`.
        let mut head = self.retired.swap(ptr::null_mut(), Ordering::Acquire);
        while !head.is_null() {
            // SAFETY: the swap emptied the list, so its boxes are ours alone, each made by Box::into_raw.
            let old = unsafe { Box::from_raw(head) };
            head = old.below;
        }
    }
}

/// Watches for a newer value.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'a> {
    generation: &'a AtomicU64,
    seen: u64,
}

impl Watch<'_> {
    /// Whether a newer value waits, or the worker was nudged. One load.
    #[inline(always)]
    pub fn is_stale(&self) -> bool {
        // SYNC(snapshot.generation): Acquire. Pairs with `offer` and `nudge`.
        self.generation.load(Ordering::Acquire) != self.seen
    }
}

impl<T> Current<T> {
    #[inline]
    pub fn get(&self) -> &T {
        &self.holding.value
    }
}

impl<T> Drop for Snapshot<T> {
    fn drop(&mut self) {
        self.collect();
        // Relaxed: `&mut self` is the only access left.
        let pending = self.next.swap(ptr::null_mut(), Ordering::Relaxed);
        if mutant!("snapshot.drop", !pending.is_null() => false) {
            // SAFETY: nobody else has access any more, and it was made by Box::into_raw.
            drop(unsafe { Box::from_raw(pending) });
        }
    }
}
