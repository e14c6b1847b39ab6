//! In whose hands the events of a mailbox are: queued, in a consumer's, settled; and who is told when a cell comes free.
//!
//! ```text
//!   worker ──feed──► cells ──take──► consumer ──settle──► done
//!                    queued          in hand              settled
//! ```
//!
//! Nobody sees all three at one moment. Whoever asks looks at them in an order in which an event on its way may show twice
//! and never not at all.

use std::sync::Arc;

use super::broadcast::LANES;
use super::cells::{Cells, Taken};
use super::gate::Gate;
use crate::sync::mutant::mutant;
use crate::sync::parker::Parker;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering};

/// Where the events of a mailbox are that are not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub queued: u64,
    pub in_hand: u64,
    /// For their time, or for others of their key.
    pub waiting: u64,
}

/// What worker, consumers and control plane share of a mailbox but for its bell.
#[derive(Debug)]
pub struct Custody {
    cells: Arc<Cells>,
    /// Events taken so far, and one more while the consumer is at it.
    taken: AtomicU64,
    /// How many of those are over.
    settled: AtomicU64,
    /// The worker is about to sleep, or sleeps, for want of a free cell. Written by it alone.
    starved: AtomicBool,
    worker: usize,
    parker: Arc<Parker>,
    gate: Arc<Gate>,
    closed: AtomicBool,
    /// The consumer is gone and takes nothing any more.
    abandoned: AtomicBool,
}

impl Custody {
    /// Of `cells` that `worker` fills.
    pub fn new(cells: Arc<Cells>, worker: usize, parker: Arc<Parker>, gate: Arc<Gate>) -> Self {
        Self {
            cells,
            taken: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            worker,
            parker,
            gate,
            closed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        }
    }

    pub fn cells(&self) -> &Arc<Cells> {
        &self.cells
    }

    /// Events queued, over all lanes.
    pub fn queued(&self) -> u64 {
        self.cells.waiting()
    }

    /// Lanes of which events are queued, a bit each; where only the newest counts, of which keys are, maybe for nothing.
    pub fn ready(&self) -> u8 {
        (0..LANES).fold(0, |ready, lane| ready | u8::from(self.cells.queued(lane) > 0) << lane)
    }

    /// Consumer: takes the oldest event of `lane`, to be settled. `None` when the worker was faster and dropped it.
    pub fn take(&self, lane: usize) -> Option<Taken> {
        // Relaxed: who finds the event gone from its queue sees this with it (SYNC(cells.head)).
        self.taken.fetch_add(1, Ordering::Relaxed);
        let taken = self.cells.take(lane);
        if taken.is_none() {
            // Relaxed: takes our own count back. As settled it would stand for an event that is still queued.
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// An event that was taken is in nobody's hands any more.
    pub(super) fn returned(&self) {
        // SYNC(custody.settled): Release. Pairs with `settled`; the event was taken, handled and counted before.
        self.settled.fetch_add(1, mutant!("custody.settle", Ordering::Release));
    }

    /// An event is over: frees its cell and tells who waits for one.
    pub fn settle(&self, taken: Taken) {
        // Before the cell is free: who finds it free finds the event settled.
        self.returned();
        drop(taken);
        self.made_room();
    }

    /// Events settled so far.
    pub fn settled(&self) -> u64 {
        // SYNC(custody.settled): Acquire. Pairs with `settle`; what was taken is looked at later and is no less.
        self.settled.load(mutant!("custody.settled", Ordering::Acquire))
    }

    /// Events taken so far. No less than what was settled, or found gone from the queue, before.
    pub fn taken(&self) -> u64 {
        // Relaxed: what must be seen was made visible by the look before, see `take` and `settled`.
        self.taken.load(Ordering::Relaxed)
    }

    /// In which hands events are; `waiting` says how many wait to be queued again. One on its way may show twice, and never
    /// not at all: whatever round it makes, it was in hand since `settled` was asked, or is where it was.
    pub fn open(&self, waiting: impl FnOnce() -> u64) -> Open {
        let settled = self.settled();
        let (waiting, queued) = mutant!("custody.open", (waiting(), self.queued()) => {
            let queued = self.queued();
            (waiting(), queued)
        });
        Open { queued, in_hand: self.taken().saturating_sub(settled), waiting }
    }

    /// Whether nothing is queued or in a consumer's hands.
    pub fn is_settled(&self) -> bool {
        let queued = self.queued();
        // Settled before taken: an event taken and settled in between must not stand for one still in somebody's hands.
        let settled = self.settled();
        queued == 0 && self.taken() == settled
    }

    /// Whether every event from before `ends`, a sequence a lane, is over. The worker has passed these ends, as far as the
    /// caller has seen. Looks at every cell while there is one in use.
    pub fn has_passed(&self, ends: &[u64; LANES]) -> bool {
        self.is_settled() || !self.cells.has_before(ends)
    }

    /// Worker: says that it is about to sleep for want of a cell. It must announce its sleep, look once more, and say
    /// `false` when it is awake again.
    ///
    /// Nobody else takes it back: a consumer that did so for the room made before would take it from the next, if it came
    /// between this and the announcement.
    pub fn starve(&self, starved: bool) {
        // Relaxed: the barrier in `Parker::prepare` orders it before the last look.
        self.starved.store(starved, Ordering::Relaxed);
    }

    /// A cell or block became free.
    pub fn made_room(&self) {
        // The gate's barrier also orders the cell's return before the look at `starved`.
        self.gate.open();
        // Relaxed (both): ordered by the barrier above.
        let load = || self.starved.load(Ordering::Relaxed);
        if mutant!("custody.starved", load() => self.starved.swap(false, Ordering::Relaxed)) {
            self.parker.wake(1 << self.worker);
        }
    }

    pub fn is_closed(&self) -> bool {
        // SYNC(mailbox.close): Acquire. Pairs with `close`.
        self.closed.load(mutant!("custody.is_closed", Ordering::Acquire))
    }

    /// No more events will come; what is queued can still be taken.
    pub fn close(&self) {
        // SYNC(mailbox.close): Release. Pairs with `is_closed`; what was queued before is seen by who sees this.
        self.closed.store(true, mutant!("custody.close", Ordering::Release));
    }

    /// The consumer is gone: what is queued, now or by a worker that is just at it, is to be discarded.
    pub fn abandon(&self) {
        // SYNC(mailbox.abandon): Release. Pairs with `is_abandoned`; the consumer's last take came before.
        self.abandoned.store(true, mutant!("custody.abandon", Ordering::Release));
    }

    pub fn is_abandoned(&self) -> bool {
        // SYNC(mailbox.abandon): Acquire. Pairs with `abandon`.
        self.abandoned.load(mutant!("custody.is_abandoned", Ordering::Acquire))
    }

    /// Throws away what is queued, once the consumer is gone. Calls `count` for each event, before it is settled.
    pub fn discard(&self, mut count: impl FnMut()) {
        for lane in 0..LANES {
            // A look first: who takes from an empty queue seems to have an event in hand for a moment.
            while self.cells.waiting() > 0 && self.cells.queued(lane) > 0 {
                if let Some(taken) = self.take(lane) {
                    count();
                    self.settle(taken);
                }
            }
        }
    }
}
