//! What becomes of an event of a mailbox by the word of its consumer, or without one.

use crate::event::{FLAG_STAMPED, Meta};
use crate::ring::{Keyed, LANES, Returns, Slot};
use crate::sync::primitive::Ordering;

use super::super::in_hand::Hold;
use super::super::{DeadReason, Fed, Intake, Notice, Outcome, Reliable, Settled};
use super::MailboxShared;

impl MailboxShared {
    /// Gives an event up whose deadline has passed.
    pub(super) fn expire(&self, hold: Hold) {
        match hold {
            Hold::Once(taken) => {
                self.counts.expired.add(1);
                self.custody.settle(taken);
            }
            Hold::Attempt(attempt) => self.of_attempts().expire(&self.counts, attempt),
        }
    }

    /// Gives an event up whose subscription has ended before its handler was called.
    pub(in crate::delivery) fn discard_one(&self, hold: Hold) {
        match hold {
            Hold::Once(taken) => {
                self.counts.discarded.add(1);
                self.custody.settle(taken);
            }
            Hold::Attempt(attempt) => self.of_attempts().discard(&self.counts, attempt),
        }
    }

    /// Moves an event on by what its consumer has made of it.
    #[inline]
    pub(crate) fn settle(&self, hold: Hold, outcome: &Outcome) -> Settled {
        match hold {
            Hold::Once(taken) => {
                let is_handled = *outcome == Outcome::Ack;
                let counter = if is_handled { &self.counts.delivered } else { &self.counts.failed };
                counter.add(1);
                self.custody.settle(taken);
                Settled::Counted
            }
            Hold::Attempt(attempt) => {
                let reliable = self.of_attempts();
                let settled = match self.guard.as_ref().filter(|guard| guard.has_breaker()) {
                    None => reliable.settle(&self.counts, self.stages.ack.as_ref(), attempt, outcome),
                    Some(guard) => self.settle_guarded(reliable, guard, attempt, outcome),
                };
                self.suspend_if_due(reliable);
                settled
            }
        }
    }

    /// Worker: moves an event on by what its own handler has made of it where it lay, in an attempt that began at this instant.
    pub(crate) fn settle_in_place(
        &self,
        fed: &mut Fed,
        lane: usize,
        meta: &Meta<'_>,
        slot: &Slot<'_>,
        began: u64,
        outcome: &Outcome,
    ) {
        let (reliable, header) = (self.of_attempts(), meta.header());
        if header.has(FLAG_STAMPED) {
            self.stages.total[lane].record(began.saturating_sub(header.time));
            // Relaxed: a figure.
            self.last_delivered.store(began, Ordering::Relaxed);
        }
        if *outcome == Outcome::Ack {
            reliable.acknowledged(&self.counts, self.stages.ack.as_ref(), header, lane, began);
            return;
        }
        // From a cell, as if it had been taken from there. One was free before the call, and this worker alone takes them.
        if self.push(fed, lane, meta, slot).is_none() {
            reliable.turn_away(&self.counts, meta, DeadReason::MailboxFull);
            return;
        }
        // Who gives up what a bus leaves behind, past the deadline of its shutdown, may have been faster: then it is in the books.
        let Some(attempt) = reliable.take_since(lane, began) else { return };
        let Fed { intake, keyed, .. } = fed;
        self.settle_own(Hold::Attempt(attempt), outcome, intake, keyed.as_mut());
    }

    /// Worker: as `settle`, and lets the next event of its key follow at once.
    pub(crate) fn settle_own(&self, hold: Hold, outcome: &Outcome, intake: &mut Intake, keyed: Option<&mut Keyed>) {
        let cell = hold.event().cell();
        self.settle(hold, outcome);
        if let (Some(reliable), Some(feeder), Some(keyed)) = (&self.reliable, intake.queue(), keyed) {
            reliable.attempts.follow(&mut Returns { feeder, keyed: Some(keyed) }, cell);
        }
    }

    /// Stops handing events out after too many dead letters in a row.
    pub(super) fn suspend_if_due(&self, reliable: &Reliable) {
        if reliable.takes_suspension() {
            self.set_paused(true);
            let (subscription, name) = (reliable.subscription, reliable.name.as_str());
            let letters = reliable.suspend_after;
            reliable.letters.notice(&Notice::Suspended { subscription, name, letters });
        }
    }

    /// Throws away what is queued, once the consumer is gone.
    pub(crate) fn discard(&self) {
        let Some(reliable) = &self.reliable else {
            self.custody.discard(|| self.counts.discarded.add(1));
            return;
        };
        for lane in 0..LANES {
            while self.custody.cells().queued(lane) > 0 {
                if let Some(attempt) = reliable.take(lane) {
                    reliable.discard(&self.counts, attempt);
                }
            }
        }
        reliable.discard_waiting(&self.counts);
    }

    /// The worker has gone: what waits for it is given up.
    pub(crate) fn lose_worker(&self) {
        if let Some(reliable) = &self.reliable {
            reliable.discard_waiting(&self.counts);
        }
    }
}
