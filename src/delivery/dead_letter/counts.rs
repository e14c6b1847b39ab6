//! Where dead letters went, in figures, and how many there may be.

use std::time::Duration;

/// Where the dead letters of a bus went. Exact when nothing moves.
///
/// A letter that is being sent again is held until that has come to an end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterCounts {
    /// Events that died, ever.
    pub total: u64,
    /// Kept at the moment.
    pub held: u64,
    /// Bytes of those: payloads, envelopes, texts.
    pub bytes: u64,
    /// Gone because there was no room: the oldest, one larger than the room for all, or all where none are kept.
    pub discarded: u64,
    /// Gone because they had been kept for as long as the bus was told to.
    pub expired: u64,
    /// Sent again, to their subscription or as a new event.
    pub redriven: u64,
    /// Removed by hand.
    pub purged: u64,
    /// The sink was too slow to hear of them. Whether they are kept is another question: not part of `total`.
    pub unheard: u64,
}

impl DeadLetterCounts {
    /// Whether `total = held + discarded + expired + redriven + purged`.
    pub fn is_balanced(&self) -> bool {
        self.total == self.held + self.discarded + self.expired + self.redriven + self.purged
    }
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetterLimits {
    /// 0 = none are kept.
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) expiry: Option<Duration>,
}
