//! Where dead letters went, in figures, and how many there may be.

use std::time::Duration;

/// Where the dead letters of a bus went. Exact when nothing moves.
///
/// A letter that is published again is held until that has come to an end. One that is redriven is `returning` until the worker of
/// its subscription has given it a cell in the mailbox: then it is `redriven`, and in the subscription's own books. When the
/// subscription ends before, it is held again, as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterCounts {
    /// Events that died, ever.
    pub total: u64,
    /// Kept at the moment.
    pub held: u64,
    /// On their way back to their subscriptions, at most 64 to each. They are not kept in the store, nor listed.
    pub returning: u64,
    /// Bytes of those that are kept: payloads, envelopes, texts.
    pub bytes: u64,
    /// Gone because there was no room: the oldest, one larger than the room for all, or all where none are kept.
    pub discarded: u64,
    /// Gone because they had been kept for as long as the bus was told to.
    pub expired: u64,
    /// Sent again, and accepted: by their subscription, or as a new event.
    pub redriven: u64,
    /// Removed by hand.
    pub purged: u64,
    /// The sink is still to hear of them, or to hear again of one that it did not take.
    pub waiting: u64,
    /// The sink was too slow to hear of them, or has rejected them. Whether they are kept is another question: not part of `total`.
    pub unheard: u64,
    /// Of the events of those, how many came out of a store: a [durable publisher](crate::store::DurablePublisher) does not count them as
    /// settled, and its next start brings them again.
    pub unheard_stored: u64,
}

impl DeadLetterCounts {
    /// Whether `total = held + returning + discarded + expired + redriven + purged`.
    pub fn is_balanced(&self) -> bool {
        let gone = self.discarded + self.expired + self.redriven + self.purged;
        self.total == self.held + self.returning + gone
    }
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetterLimits {
    /// 0 = none are kept.
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) expiry: Option<Duration>,
    /// How many may wait for a sink before others stay with their subscriptions.
    pub(crate) waiting: usize,
}
