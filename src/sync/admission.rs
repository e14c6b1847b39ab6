//! Who may still come in while a bus closes: every publish steps in and out, and a close waits until nobody is inside.
//!
//! ```text
//!   publisher                          who closes
//!   say that I am inside               raise the phase
//!   light barrier                      heavy barrier
//!   look at the phase                  look who is inside, until nobody is
//!   running? claim, commit             raise the phase to draining
//!   step out
//! ```
//!
//! Of the two looks at least one sees the other side's store. So a publisher is refused, or is waited for; and who sees the
//! phase say draining sees everything that was ever claimed.

use crossbeam::utils::CachePadded;

use super::barrier::Barrier;
use super::mutant::mutant;
use super::primitive::{AtomicU32, Ordering};

/// The life of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    Running = 0,
    /// Publishers are refused; some may still be inside a publish.
    Closing = 1,
    /// No publisher is inside: the lanes get no more events. Workers leave when they have read everything.
    Draining = 2,
    /// Workers leave at once.
    Halting = 3,
    Stopped = 4,
}

/// The phase of a bus, and how looks at it are ordered, in cache lines of their own: every publish reads both.
#[derive(Debug)]
pub struct Admission(CachePadded<Inner>);

#[derive(Debug)]
struct Inner {
    phase: AtomicU32,
    barrier: Barrier,
}

impl Admission {
    /// Of a bus that runs.
    pub fn new(barrier: Barrier) -> Self {
        Self(CachePadded::new(Inner { phase: AtomicU32::new(Phase::Running as u32), barrier }))
    }

    #[inline]
    pub fn phase(&self) -> Phase {
        // SYNC(admission.phase): Acquire. Pairs with `raise`; who sees it drain sees all that was claimed.
        match self.0.phase.load(mutant!("admission.phase", Ordering::Acquire)) {
            0 => Phase::Running,
            1 => Phase::Closing,
            2 => Phase::Draining,
            3 => Phase::Halting,
            _ => Phase::Stopped,
        }
    }

    #[inline(always)]
    fn is_running(&self) -> bool {
        // Relaxed: nothing comes before this phase, and who is refused goes on with nothing.
        self.0.phase.load(Ordering::Relaxed) == Phase::Running as u32
    }

    /// Moves on; phases only ever rise. Returns whether this call raised it.
    pub fn raise(&self, phase: Phase) -> bool {
        // SYNC(admission.phase): Release. Pairs with `phase`; what was done before is seen by who sees this, or a later
        // phase. Who did not raise it learns nothing from that: the report of who did comes under a lock.
        self.0.phase.fetch_max(phase as u32, mutant!("admission.raise", Ordering::Release)) < phase as u32
    }

    /// Refuses publishers from now on. Returns whether this call began it. Who is not seen inside after this never
    /// comes in.
    pub fn close(&self) -> bool {
        let first = self.raise(Phase::Closing);
        self.0.barrier.heavy();
        first
    }

    /// Refuses publishers because `worker` has failed, which [`failure`](Self::failure) tells whoever was refused.
    pub fn fail(&self, failed: &Left, worker: usize) {
        mutant!("admission.fail", { failed.leave(worker); self.close() } => { self.close(); failed.leave(worker); true });
    }

    /// For who was refused: the worker whose failure is the reason; `None` when there is another one.
    pub fn failure(&self, failed: &Left) -> Option<usize> {
        // The failure was written down before the phase: whoever sees this one sees that.
        let _ = mutant!("admission.failure", self.phase() => Phase::Closing);
        failed.all().next()
    }
}

/// Where one publisher steps in, and what it counts there, in cache lines of their own.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Entrance<C> {
    /// 1 while its publisher is between the look at the phase and the commit. In one line with what every publish counts.
    busy: AtomicU32,
    /// Not 0: what its publisher keeps a copy of has changed. Beside what every publish writes, and compared with a constant:
    /// so the look costs next to nothing.
    stale: AtomicU32,
    pub counts: C,
}

impl<C> Entrance<C> {
    /// The publisher steps in, unless the bus is closing. One publisher at a time has the entrance.
    #[inline(always)]
    pub fn enter(&self, admission: &Admission) -> Option<Inside<'_, C>> {
        // Relaxed: the barrier orders it before the look at the phase; `close` does the same the other way round.
        self.busy.store(1, Ordering::Relaxed);
        let inside = Inside(self);
        admission.0.barrier.light();
        mutant!("admission.look", admission.is_running() => true).then_some(inside)
    }

    /// Tells its publisher that what it keeps a copy of has changed: before, under a lock.
    pub fn tell(&self) {
        // Relaxed: the lock orders it. Whoever clears this takes the lock then, and finds what was changed before.
        mutant!("admission.tell", self.stale.store(1, Ordering::Relaxed) => ());
    }

    /// Whether its publisher was told.
    #[inline(always)]
    pub fn is_told(&self) -> bool {
        // Relaxed: see `tell`.
        self.stale.load(Ordering::Relaxed) != 0
    }

    /// The publisher heeds what it was told, and takes a new copy, under the lock, after this.
    pub fn heed(&self) {
        // Relaxed: see `tell`.
        self.stale.store(0, Ordering::Relaxed);
    }

    /// Whether its publisher is still between its look at the phase and its commit.
    pub fn is_occupied(&self) -> bool {
        // SYNC(admission.inside): Acquire. Pairs with the drop of `Inside`.
        self.busy.load(mutant!("admission.occupied", Ordering::Acquire)) != 0
    }
}

/// A publisher is inside a publish until this is dropped: also when user code panics there.
#[derive(Debug)]
pub struct Inside<'a, C>(&'a Entrance<C>);

impl<C> Inside<'_, C> {
    #[inline(always)]
    pub fn counts(&self) -> &C {
        &self.0.counts
    }
}

impl<C> Drop for Inside<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        // SYNC(admission.inside): Release. Pairs with `is_occupied`; claims and counts come before.
        self.0.busy.store(0, mutant!("admission.leave", Ordering::Release));
    }
}

/// Workers that have left for good.
#[derive(Debug, Default)]
pub struct Left(AtomicU32);

impl Left {
    /// `worker`, below 32, has read everything and reads nothing any more.
    pub fn leave(&self, worker: usize) {
        // SYNC(admission.left): Release. Pairs with `has`; its last use of tables and mailboxes came before.
        self.0.fetch_or(1 << worker, mutant!("admission.left", Ordering::Release));
    }

    /// Whether `worker` has left: then what it used is out of use.
    pub fn has(&self, worker: usize) -> bool {
        // SYNC(admission.left): Acquire. Pairs with `leave`.
        self.0.load(mutant!("admission.has_left", Ordering::Acquire)) & (1 << worker) != 0
    }

    /// All that have left.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        (0..u32::BITS as usize).filter(|&worker| self.has(worker))
    }
}
