//! Attempts at the events of a mailbox: whose word counts, who still reads, and when an event comes back.
//!
//! ```text
//!            ┌───────────────────────── due ─────────────────────────┐
//!            ▼                                                       │
//!   ──► queued ──take──► in hand ──again────────────────────────► waiting
//!                           │  └──too late: the worker takes it away──┘
//!                           └──end──► over ──nobody reads any more──► its cell is free
//! ```
//!
//! All of it is one word a cell, so each step is one exchange, and of two that contradict each other one loses: an
//! acknowledgement that comes when the worker has given the event to somebody else is late, changes nothing and says so. Who
//! is late may go on reading: the cell is freed by whoever lets go of it last.
//!
//! Where the events of a key are to keep their order, only the first of them goes this way; the others are held back until it
//! is over.

mod attempt;
mod attend;
mod dues;
mod word;

use std::sync::Arc;

use super::cells::{Cells, Feeder};
use super::claim::Frame;
use super::custody::{Custody, Open};
use super::keyed::Keyed;
use super::reader::Slot;
use crate::sync::alarm::Alarm;
use crate::sync::barrier::Barrier;
use crate::sync::mutant::mutant;
use crate::sync::parker::Parker;
use crate::sync::primitive::{AtomicU64, BeforeWrite, Ordering};
use crate::sync::transit::Transit;

pub use attempt::{Attempt, Overdue, Returned};
use dues::Dues;
pub use word::{ATTEMPTS_MAX, AttemptWords, RELEASES_MAX, WAIT_MAX_NS};
use word::{
    FAILURE, HELD_BACK, HOLDER, IN_HAND, OVER, QUEUED, STATE, TAKE, WAITING, instant_of, takes, tick_after, with_due,
    with_state,
};

/// What was tried with an event before it came to a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    pub failures: u8,
    /// The instant at which the first attempt began.
    pub began: u64,
}

/// An event in a lane that is to go into a mailbox.
#[derive(Debug)]
pub struct Arrival<'a> {
    pub lane: usize,
    pub sequence: u64,
    pub slot: &'a Slot<'a>,
    /// Bytes of what follows its head in the slot.
    pub rest_bytes: usize,
    pub key: Option<u64>,
}

/// The worker's end of a mailbox whose events come back.
#[derive(Debug)]
pub struct Returns<'a> {
    pub feeder: &'a mut Feeder,
    /// Where the events of a key keep their order.
    pub keyed: Option<&'a mut Keyed>,
}

/// The attempts at the events of one mailbox.
#[derive(Debug)]
pub struct Attempts {
    custody: Arc<Custody>,
    words: Box<[AtomicU64]>,
    began: Box<[AtomicU64]>,
    dues: Dues,
    /// Events that wait for their time, or for others of their key.
    waiting: Transit,
    /// Events of a key keep their order.
    is_keyed: bool,
    /// Events that the worker took away from their holders, to come again.
    overdue: AtomicU64,
    alarm: Arc<Alarm>,
    parker: Arc<Parker>,
    barrier: Barrier,
}

impl Attempts {
    /// At the events in `custody`, whose worker has this alarm.
    ///
    /// # Panics
    /// When there is not a word for each cell.
    pub fn new(
        memory: AttemptWords,
        custody: Arc<Custody>,
        alarm: Arc<Alarm>,
        parker: Arc<Parker>,
        barrier: Barrier,
        is_keyed: bool,
    ) -> Self {
        let AttemptWords { words, began, dues } = memory;
        assert_eq!(words.len(), custody.cells().capacity(), "a word a cell");
        Self {
            custody,
            words,
            began,
            dues,
            waiting: Transit::default(),
            is_keyed,
            overdue: AtomicU64::new(0),
            alarm,
            parker,
            barrier,
        }
    }

    /// Where the events are.
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Events that wait for their time, or for others of their key.
    pub fn waiting(&self) -> u64 {
        self.waiting.count()
    }

    /// In which hands events are. One on its way may show twice, and never not at all.
    pub fn open(&self) -> Open {
        self.custody.open(|| self.waiting())
    }

    /// Events that were taken away from whoever had them for too long, and came again.
    pub fn overdue(&self) -> u64 {
        // Relaxed: a figure.
        self.overdue.load(Ordering::Relaxed)
    }

    /// Lets the worker look after what was left for it. True when the mailbox is closed: then nobody may come, and who left it
    /// takes it back.
    pub fn call_worker(&self) -> bool {
        self.alarm.set(0, &self.parker);
        self.barrier.light();
        self.custody.is_closed()
    }

    /// The word of `cell` was written: the worker is to look at it at `instant`, or before.
    fn look_at(&self, cell: usize, instant: u64) {
        self.dues.set(cell, instant);
        self.alarm.set(instant, &self.parker);
    }

    fn cells(&self) -> &Arc<Cells> {
        self.custody.cells()
    }

    /// Worker: as [`Feeder::push`]. An event with a key is held back behind those of its key that are not over.
    pub fn push(&self, worker: &mut Returns<'_>, event: Arrival<'_>) -> bool {
        let Arrival { lane, sequence, slot, rest_bytes, key } = event;
        let cell = worker.feeder.fill(lane, sequence, slot, rest_bytes);
        cell.inspect(|&cell| self.admit(worker, cell, lane, key, QUEUED)).is_some()
    }

    /// Worker: as `push`, with an event that was tried in another mailbox. Its failed attempts count here too.
    pub fn push_tried(&self, worker: &mut Returns<'_>, event: Arrival<'_>, tried: Tried) -> bool {
        let Arrival { lane, sequence, slot, rest_bytes, key } = event;
        let Some(cell) = worker.feeder.fill(lane, sequence, slot, rest_bytes) else { return false };
        if tried.failures > 0 {
            // Relaxed: the cell is ours; the queue publishes it.
            self.began[cell as usize].store(tried.began, Ordering::Relaxed);
        }
        self.admit(worker, cell, lane, key, QUEUED + u64::from(tried.failures) * (FAILURE + TAKE));
        true
    }

    /// Worker: as `push`, with an event that comes from elsewhere. False when there is no free cell, or it does not fit one.
    pub fn push_frame(
        &self,
        worker: &mut Returns<'_>,
        lane: usize,
        sequence: u64,
        frame: &Frame<'_>,
        key: Option<u64>,
    ) -> bool {
        let cell = worker.feeder.fill_frame(lane, sequence, frame);
        cell.inspect(|&cell| self.admit(worker, cell, lane, key, QUEUED)).is_some()
    }

    /// Worker: lets the event that was put into `cell` begin its way, with this word.
    fn admit(&self, worker: &mut Returns<'_>, cell: u32, lane: usize, key: Option<u64>, begins: u64) {
        // The event that was here before is over, and nobody has looked since.
        mutant!("attempts.refill", self.let_through(worker, cell) => ());
        let is_first = match (&mut worker.keyed, key) {
            (Some(keyed), Some(key)) => keyed.join(cell, key),
            _ => true,
        };
        let word = &self.words[cell as usize];
        if is_first {
            // Relaxed: the cell is ours; the queue publishes it.
            word.store(begins, Ordering::Relaxed);
            worker.feeder.enqueue(lane, cell);
        } else {
            self.waiting.begin();
            // SYNC(attempts.word): Release. Pairs with `discard`; who finds it held back finds the event.
            word.store(with_state(begins, HELD_BACK), mutant!("attempts.hold_back", Ordering::Release));
        }
    }

    /// Worker: queues the event that was held back behind the one in `cell`, if that is over. For a worker that is the
    /// consumer, and so knows which cell to look at.
    pub fn follow(&self, worker: &mut Returns<'_>, cell: usize) {
        // Relaxed: the worker ended the event itself, or somebody else still has it.
        if self.words[cell].load(Ordering::Relaxed) & STATE == OVER {
            self.let_through(worker, cell as u32);
        }
    }

    /// Worker: the event in `cell` is over; queues the one that was held back behind it.
    fn let_through(&self, worker: &mut Returns<'_>, cell: u32) {
        let Some(keyed) = &mut worker.keyed else { return };
        let mut next = keyed.leave(cell);
        while let Some(cell) = next {
            let word = &self.words[cell as usize];
            // Relaxed: the worker wrote it itself; if it is not held back any more, the exchange fails.
            let seen = word.load(Ordering::Relaxed);
            let (held_back, queued) = (with_state(seen, HELD_BACK), with_state(seen, QUEUED));
            // Relaxed (both): of this and `discard` one gets the event.
            let exchange = word.compare_exchange(held_back, queued, Ordering::Relaxed, Ordering::Relaxed);
            if mutant!("attempts.let_through", exchange.is_ok() => true) {
                worker.feeder.enqueue(self.cells().lane(cell), cell);
                self.waiting.end();
                return;
            }
            // It was given up meanwhile.
            next = keyed.leave(cell);
        }
    }

    /// Takes the oldest event of `lane` for an attempt that is to be over by the instant `due`. `None` when there is none.
    pub fn take(self: &Arc<Self>, lane: usize, now: u64, due: u64) -> Option<Attempt> {
        let taken = self.custody.take(lane)?;
        let cell = taken.cell();
        // Rounded up: nobody gets less than was promised.
        let tick = tick_after(due, now);
        // Relaxed: earlier takers wrote it, and the queue has shown that.
        let word = &self.words[cell];
        let mut seen = word.before_write();
        loop {
            debug_assert_eq!(seen & STATE, QUEUED, "who takes it from the queue owns it");
            if takes(seen) == 0 {
                // Relaxed: shown by the exchange that ends this attempt.
                self.began[cell].store(now, Ordering::Relaxed);
            }
            let next = with_due(with_state(seen, IN_HAND), tick) + TAKE + HOLDER;
            // SYNC(attempts.word): Release. Pairs with `attend`; a worker that takes the event away knows when it began.
            // Relaxed: a late holder let go meanwhile, and we wanted nothing of it.
            let release = mutant!("attempts.began", Ordering::Release);
            match word.compare_exchange_weak(seen, next, release, Ordering::Relaxed) {
                Ok(_) => {
                    mutant!("attempts.timeout", self.look_at(cell, instant_of(tick)) => ());
                    return Some(Attempt::new(self, taken, next));
                }
                Err(now) => seen = now,
            }
        }
    }

    /// The caller's hold on an event that it has moved to `word`.
    fn own(self: &Arc<Self>, cell: u32, lane: usize, word: u64) -> Attempt {
        let taken = self.cells().hold(cell, lane);
        Attempt::new(self, taken, word)
    }

    /// Worker: holds the first event in or behind `cell` that waits for its time, to read it and maybe to
    /// [end](Attempt::end_waiting) it; `None` when there is none.
    pub fn waiting_from(self: &Arc<Self>, cell: usize) -> Option<Attempt> {
        (cell..self.words.len()).find_map(|cell| {
            let word = &self.words[cell];
            // Relaxed: the exchange decides.
            let mut seen = word.load(Ordering::Relaxed);
            while seen & STATE == WAITING {
                let held = mutant!("attempts.hold_waiting", seen + HOLDER => seen);
                // SYNC(attempts.word): Acquire. Pairs with the exchange that gave the event back; when the first attempt at it began is
                // seen. Who gives it up meanwhile leaves the cell to us. Relaxed: an exchange that failed has done nothing.
                let acquire = mutant!("attempts.go_on", Ordering::Acquire);
                match word.compare_exchange(seen, held, acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(self.own(cell as u32, self.cells().lane(cell as u32), held)),
                    Err(now) => seen = now,
                }
            }
            None
        })
    }

    /// Ends what waits for its time in a closed mailbox; `book` hears of each. For whoever found it [`Returned::Closed`].
    ///
    /// What is held back stays: the worker may still be at it, and may let it through.
    pub fn discard_returned(self: &Arc<Self>, book: impl FnMut(&Attempt)) {
        self.discard(|state| mutant!("attempts.line", state == WAITING => matches!(state, WAITING | HELD_BACK)), book);
    }

    /// Ends all that waits in a closed mailbox, which no worker attends to any more; `book` hears of each.
    pub fn discard_waiting(self: &Arc<Self>, book: impl FnMut(&Attempt)) {
        self.discard(|state| matches!(state, WAITING | HELD_BACK), book);
    }

    fn discard(self: &Arc<Self>, is_meant: impl Fn(u64) -> bool, mut book: impl FnMut(&Attempt)) {
        mutant!("attempts.discard", self.barrier.heavy() => ());
        for (cell, word) in self.words.iter().enumerate() {
            // Relaxed: the barrier shows what was given back before its consumer looked whether the mailbox is closed, and
            // the exchange decides.
            let mut seen = word.load(Ordering::Relaxed);
            while is_meant(seen & STATE) {
                let next = with_state(seen, OVER) + HOLDER;
                // SYNC(attempts.word): Acquire. Pairs with the exchange that gave the event back, and with `push`. Of
                // several who discard one gets it. Relaxed: an exchange that failed has done nothing.
                let acquire = mutant!("attempts.discarded", Ordering::Acquire);
                match word.compare_exchange(seen, next, acquire, Ordering::Relaxed) {
                    Ok(_) => {
                        let attempt = self.own(cell as u32, self.cells().lane(cell as u32), next);
                        book(&attempt);
                        self.waiting.end();
                        attempt.close();
                        if self.is_keyed {
                            // What is held back behind it.
                            self.dues.set(cell, 0);
                        }
                        break;
                    }
                    Err(now) => seen = now,
                }
            }
        }
    }
}
