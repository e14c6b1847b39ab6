//! The books: every event that was accepted is in exactly one place, and each place counts for itself.

use std::ops::AddAssign;

/// Events of one subscription that were given up, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// The mailbox was full, and its policy drops.
    pub overflow: u64,
    /// The deadline had passed before the handler ran or the consumer took the event.
    pub expired: u64,
    /// The subscription was paused, and it has no mailbox to hold events.
    pub paused: u64,
    /// The consumer was gone.
    pub closed: u64,
    /// It had come before, within the subscription's [`DedupWindow`](crate::DedupWindow).
    pub duplicate: u64,
    /// A newer event of the same key took its place while it waited:
    /// [latest-only](crate::DeliveryMode::LatestOnly) delivery.
    pub superseded: u64,
    /// It came over the subscription's [`rate_limit`](crate::Subscribe::rate_limit), which rejects such events.
    pub rate_limited: u64,
    /// The mailbox was full, so it stayed in a store ([`Overflow::Spill`](crate::Overflow::Spill)), and could not be read back.
    pub lost: u64,
}

impl Dropped {
    /// All reasons together.
    pub fn total(&self) -> u64 {
        let one_by_one = self.overflow + self.expired + self.paused + self.closed;
        one_by_one + self.duplicate + self.superseded + self.rate_limited + self.lost
    }
}

/// Where the events of one subscription are. Each figure is counted on its own; none is a remainder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionLedger {
    /// Events that its pattern and filters wanted.
    pub matched: u64,
    /// Events that its pattern wanted and a source or predicate refused, and replays that it is [not given](crate::ReplayPolicy). Not part of `matched`.
    pub filtered: u64,
    /// In the mailbox.
    pub queued: u64,
    /// In a consumer's hands.
    pub in_flight: u64,
    /// Waiting to be tried again.
    pub waiting: u64,
    /// In a store, since the mailbox was full ([`Overflow::Spill`](crate::Overflow::Spill)): they come from there.
    pub spilled: u64,
    /// Handled.
    pub delivered: u64,
    /// The handler returned an error or panicked, or could not read the payload.
    pub failed: u64,
    /// Given up after reliable delivery's attempts, and put among the dead letters.
    pub dead_lettered: u64,
    /// Handed to an instance of the service, or by an instance that ended back to its service: there they count again.
    pub passed_on: u64,
    /// Given up.
    pub dropped: Dropped,
    /// Attempts that failed and were followed by another. A count of attempts, not of events.
    pub retried: u64,
    /// Words about an event that came after it had been taken away. A count of words, not of events.
    pub late: u64,
    /// Attempts, or without reliable delivery calls of a handler, whose time was over before their consumer said a word: taken away to
    /// come again or to be given up, cancelled in a future, or, of a handler that nobody can interrupt, only counted; an inline one when
    /// it has returned. A count of attempts and calls, not of events.
    pub timed_out: u64,
}

impl SubscriptionLedger {
    /// Events that are not over yet.
    pub fn open(&self) -> u64 {
        self.queued + self.in_flight + self.waiting + self.spilled
    }

    /// Whether `matched = queued + in flight + waiting + spilled + delivered + failed + dead-lettered + passed on + dropped`. Exact
    /// when nothing moves, however long a call of a handler lasts: what an inline handler reads where it lies is in the lane until
    /// the call ends, and has matched then.
    pub fn is_balanced(&self) -> bool {
        self.matched
            == self.open() + self.delivered + self.failed + self.dead_lettered + self.passed_on + self.dropped.total()
    }
}

impl AddAssign for SubscriptionLedger {
    fn add_assign(&mut self, other: Self) {
        self.matched += other.matched;
        self.filtered += other.filtered;
        self.queued += other.queued;
        self.in_flight += other.in_flight;
        self.waiting += other.waiting;
        self.spilled += other.spilled;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.dead_lettered += other.dead_lettered;
        self.passed_on += other.passed_on;
        self.retried += other.retried;
        self.late += other.late;
        self.timed_out += other.timed_out;
        self.dropped.overflow += other.dropped.overflow;
        self.dropped.expired += other.dropped.expired;
        self.dropped.paused += other.dropped.paused;
        self.dropped.closed += other.dropped.closed;
        self.dropped.duplicate += other.dropped.duplicate;
        self.dropped.superseded += other.dropped.superseded;
        self.dropped.rate_limited += other.dropped.rate_limited;
        self.dropped.lost += other.dropped.lost;
    }
}

/// The books of a bus.
///
/// ```text
/// accepted = scheduled + unmatched + routed
/// routed   = claimed, which the lanes count for themselves
/// matched  = queued + in flight + waiting + spilled + delivered + failed + dead-lettered + passed on + dropped   (each subscription)
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// Publishes that returned an id.
    pub accepted: u64,
    /// Waiting for their not-before time.
    pub scheduled: u64,
    /// No subscription's pattern and priorities wanted them: they took no slot.
    pub unmatched: u64,
    /// Put into a lane.
    pub routed: u64,
    /// Sequences claimed in all lanes, counted by the lanes.
    pub claimed: u64,
    /// Routed events that the slowest worker has not passed yet.
    pub in_lanes: u64,
    /// All subscriptions together, those that ended included.
    pub subscriptions: SubscriptionLedger,
    /// Subscriptions whose own books do not balance.
    pub unbalanced: u64,
}

impl Ledger {
    /// Whether nothing is lost. Exact when nothing moves: after [`flush`](crate::Bus::flush) with publishers quiet, or
    /// after shutdown.
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.scheduled + self.unmatched + self.routed
            && self.routed == self.claimed
            && self.subscriptions.is_balanced()
            && self.unbalanced == 0
    }
}
