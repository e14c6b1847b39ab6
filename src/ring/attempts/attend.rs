//! What a worker does with the events of its mailbox that are due: queues those that waited, takes away those that were in hand
//! for too long, and lets through what was held back behind those that are over.

use std::sync::Arc;

use super::super::cells::{Feeder, Taken};
use super::dues::Dues;
use super::word::{
    FAILURE, HOLDER, IN_HAND, OVER, QUEUED, STATE, TICK_SHIFT, WAIT_MAX_NS, WAITING, failures, instant_of, ticks_late,
    ticks_left, with_due, with_state,
};
use super::{Attempt, Attempts, Overdue, Returns};
use crate::sync::alarm::NEVER;
use crate::sync::mutant::mutant;
use crate::sync::primitive::Ordering;

impl Attempts {
    /// Worker: queues what is due, and takes away what has been in hand for too long: `overdue` says, by its cell and the number
    /// of its failures, this one among them, what becomes of it; `lost` hears of it, and how many nanoseconds too late it is; and
    /// `book` hears of those that are over. Returns the instant at which to look again. Looks at one bound for each 64 cells, and
    /// at the cells of those that are due.
    pub fn attend(
        self: &Arc<Self>,
        worker: &mut Returns<'_>,
        now: u64,
        mut overdue: impl FnMut(usize, u8) -> Overdue,
        mut lost: impl FnMut(&Taken, u64),
        mut book: impl FnMut(&Attempt),
    ) -> u64 {
        let mut next_look = NEVER;
        for nth in 0..self.dues.len() {
            let next = self.dues.take(nth, now).err().unwrap_or_else(|| {
                let cells = Dues::cells(nth, self.words.len());
                let looks = cells.map(|cell| self.attend_to(worker, cell, now, &mut overdue, &mut lost, &mut book));
                let next = looks.min().unwrap_or(NEVER);
                self.dues.resume(nth, next);
                next
            });
            next_look = next_look.min(next);
        }
        // What is to come again at once comes with the next tick.
        next_look.max(instant_of((now >> TICK_SHIFT) + 1))
    }

    /// As `attend`, to one cell.
    fn attend_to(
        self: &Arc<Self>,
        worker: &mut Returns<'_>,
        cell: usize,
        now: u64,
        overdue: &mut impl FnMut(usize, u8) -> Overdue,
        lost: &mut impl FnMut(&Taken, u64),
        book: &mut impl FnMut(&Attempt),
    ) -> u64 {
        let tick = now >> TICK_SHIFT;
        let word = &self.words[cell];
        // SYNC(attempts.word): Acquire. Pairs with the exchange that gave the event back.
        let mut seen = word.load(mutant!("attempts.attend", Ordering::Acquire));
        loop {
            let state = seen & STATE;
            if state == OVER {
                self.let_through(worker, cell as u32);
            }
            if state != WAITING && state != IN_HAND {
                return NEVER;
            }
            if let Some(left) = ticks_left(seen, tick) {
                return instant_of(tick + left);
            }
            let next = if state == WAITING {
                with_due(with_state(seen, QUEUED), 0)
            } else {
                match overdue(cell, failures(seen).saturating_add(1)) {
                    Overdue::Again(due) => {
                        with_due(with_state(seen, WAITING), due.min(now.saturating_add(WAIT_MAX_NS)) >> TICK_SHIFT)
                            + FAILURE
                    }
                    // Held by us too, so that it can be read and is not freed meanwhile.
                    Overdue::Over => with_state(seen, OVER) + FAILURE + HOLDER,
                }
            };
            if next & STATE == WAITING {
                self.waiting.begin();
            }
            // Relaxed on success: of this and the holder's own exchange one comes too late, and what the worker reads
            // of the event its look has shown.
            let success = Ordering::Relaxed;
            // SYNC(attempts.word): Acquire on failure, which is such a look.
            match word.compare_exchange(seen, next, success, mutant!("attempts.met", Ordering::Acquire)) {
                Ok(_) => {
                    if state == IN_HAND {
                        // It stays where it is until it is over, and it is not over before we let go of it.
                        let event = self.cells().hold(cell as u32, self.cells().lane(cell as u32));
                        lost(&event, instant_of(ticks_late(seen, tick)));
                        event.leave();
                    }
                    self.moved(worker.feeder, cell as u32, next, book);
                    let is_waiting = next & STATE == WAITING;
                    return if is_waiting { instant_of(tick + ticks_left(next, tick).unwrap_or(0)) } else { NEVER };
                }
                Err(now) => {
                    if next & STATE == WAITING {
                        self.waiting.end();
                    }
                    seen = now;
                }
            }
        }
    }

    /// Worker: an event has come back to it.
    fn moved(self: &Arc<Self>, feeder: &mut Feeder, cell: u32, word: u64, book: &mut impl FnMut(&Attempt)) {
        let lane = self.cells().lane(cell);
        match word & STATE {
            QUEUED => {
                feeder.enqueue(lane, cell);
                self.waiting.end();
            }
            WAITING => {
                // Relaxed: a figure.
                self.overdue.fetch_add(1, Ordering::Relaxed);
                self.custody.returned();
            }
            _ => {
                let attempt = self.own(cell, lane, word);
                book(&attempt);
                attempt.finish();
            }
        }
    }
}
