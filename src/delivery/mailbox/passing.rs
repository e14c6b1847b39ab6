//! Events of a mailbox that go on from another one, as from a service to its instances, and between them.

use crate::event::{Header, Meta};
use crate::ring::{Arrival, Attempt, Returns, Slot, Taken, Tried};

use super::super::in_hand::Hold;
use super::super::{Fed, Intake};
use super::MailboxShared;

impl MailboxShared {
    /// Worker: as `push`, with an event that was tried in another mailbox.
    pub(crate) fn push_tried(
        &self,
        fed: &mut Fed,
        lane: usize,
        meta: &Meta<'_>,
        slot: &Slot<'_>,
        tried: Tried,
    ) -> bool {
        let (Intake::Queue(feeder), Some(reliable)) = (&mut fed.intake, &self.reliable) else {
            return self.push(fed, lane, meta, slot).is_some();
        };
        let (sequence, rest_bytes, key) = (meta.sequence(), meta.header().rest_bytes(), reliable.key_of(meta));
        let mut returns = Returns { feeder, keyed: fed.keyed.as_mut() };
        reliable.attempts.push_tried(&mut returns, Arrival { lane, sequence, slot, rest_bytes, key }, tried)
    }

    /// Worker: takes the oldest event of `lane` that has not expired, to pass it on. No consumer sees it, so that no latency is
    /// booked.
    pub(crate) fn take_to_pass(&self, lane: usize) -> Option<Hold> {
        let hold = self.take(lane)?;
        let deadline = Header::of_words(hold.event().parts().0).deadline;
        if deadline != 0 && self.directory.clock.now() > deadline {
            self.expire(hold);
            return None;
        }
        Some(hold)
    }

    /// Worker: the event goes on from another mailbox.
    pub(crate) fn pass_on(&self, hold: Hold) {
        match hold {
            Hold::Once(taken) => {
                self.counts.passed_on.add(1);
                self.custody.settle(taken);
            }
            Hold::Attempt(attempt) => self.of_attempts().pass_on(&self.counts, attempt),
        }
    }

    /// Worker: an event that waits for its time goes on from another mailbox now. Holds the first of them in or behind `cell`.
    pub(crate) fn waiting_from(&self, cell: usize) -> Option<Attempt> {
        self.reliable.as_ref().filter(|_| self.is_waiting())?.attempts.waiting_from(cell)
    }

    /// Worker: ends an event held by `waiting_from` that `give` brings to another mailbox. False when it was given up meanwhile.
    pub(crate) fn pass_on_waiting(&self, waits: Attempt, give: impl FnOnce(&Taken)) -> bool {
        waits.end_waiting(|waits| {
            give(waits.event());
            self.counts.passed_on.add(1);
        })
    }
}
