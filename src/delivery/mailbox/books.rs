//! Where the events of a mailbox are, and what it takes.

use crate::metrics::MailboxStages;
use crate::ring::{AttemptWords, Keyed, LANES};

use super::super::{Dropped, Reliable, SubscriptionLedger};
use super::MailboxShared;

impl MailboxShared {
    /// Cells, their queues and the histograms.
    pub(crate) fn reserved_bytes(&self) -> usize {
        let capacity = self.custody.cells().capacity();
        let attempts = self.reliable.as_ref().map_or(0, |reliable| {
            let keyed = if reliable.order.is_some() { Keyed::bytes_for(capacity) } else { 0 };
            (AttemptWords::bytes_for(capacity) + keyed) as usize
        });
        // Of a store, the buffer has as many cells again.
        let buffers = 1 + usize::from(self.spill.is_some());
        attempts
            + size_of::<Self>()
            + buffers * self.custody.cells().reserved_bytes()
            + MailboxStages::bytes_for(self.reliable.is_some())
    }

    /// Whether every event from before `ends`, a sequence a lane, is over.
    pub(crate) fn has_passed(&self, ends: &[u64; LANES]) -> bool {
        if !self.has_come_back(ends) {
            return false;
        }
        match &self.reliable {
            None => self.custody.has_passed(ends),
            // An event goes round between queue, hands and waiting: only its cell shows it at any moment.
            Some(reliable) => {
                // Where nothing is left, the figures are to say so, too.
                let cells = self.custody.cells();
                !reliable.is_returning()
                    && !cells.has_before(ends)
                    && (reliable.attempts.waiting() == 0 || !cells.is_over())
            }
        }
    }

    /// Whether no event is queued, waits or is in a consumer's hands.
    pub(crate) fn is_settled(&self) -> bool {
        if self.spilled() > 0 {
            return false;
        }
        match &self.reliable {
            None => self.custody.is_settled(),
            Some(reliable) => {
                !reliable.is_returning() && self.custody.cells().is_over() && reliable.attempts.waiting() == 0
            }
        }
    }

    /// Whether dead letters are on their way back to it, which show in no count yet.
    pub(crate) fn is_returning(&self) -> bool {
        self.reliable.as_ref().is_some_and(Reliable::is_returning)
    }

    /// Events that wait, and those in its consumer's hands.
    pub(in crate::delivery) fn load(&self) -> (u64, u64) {
        let open = self.custody.open(|| self.reliable.as_ref().map_or(0, |reliable| reliable.attempts.waiting()));
        (open.queued + open.waiting, open.in_hand)
    }

    pub(crate) fn ledger(&self) -> SubscriptionLedger {
        // Before the cells, to which they come.
        let spilled = self.spilled();
        // First: an event that ends in between shows as in flight, not as missing.
        let open = self.reliable.as_ref().map_or_else(|| self.custody.open(|| 0), |reliable| reliable.attempts.open());
        let counts = &self.counts;
        SubscriptionLedger {
            matched: self.redelivered.get(),
            queued: open.queued,
            in_flight: open.in_hand,
            waiting: open.waiting,
            spilled,
            delivered: counts.delivered.get(),
            failed: counts.failed.get(),
            dead_lettered: counts.dead_lettered.get(),
            passed_on: counts.passed_on.get(),
            dropped: Dropped { expired: counts.expired.get(), closed: counts.discarded.get(), ..Dropped::default() },
            retried: counts.retried.get() + self.reliable.as_ref().map_or(0, |reliable| reliable.attempts.overdue()),
            late: counts.late.get(),
            timed_out: counts.timed_out.get(),
            ..SubscriptionLedger::default()
        }
    }
}
