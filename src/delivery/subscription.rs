//! One subscription: who wants what, since when, and how it went.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::Clock;
use crate::event::{EventId, Meta};
use crate::metrics::Counter;
use crate::ring::{DrainOrder, Keyed, LANES, Returns};
use crate::routing::{CompiledFilter, Pattern};
use crate::sync::calls::{Calls, State};
use crate::sync::contain::Kept;
use crate::sync::limiter::Limiter;
use crate::sync::owned::OwnedCell;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering};

use super::{
    BreakerRecord, Dedup, Desk, Dispatch, Dropped, HandlerId, Intake, MailboxShared, Obstacle, OverLimit, ReplayPolicy,
    Role, Spill, SubscriptionLedger,
};

/// Names a subscription: a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) EventId);

impl SubscriptionId {
    /// A number that other subscriptions do not have.
    pub(crate) fn seed(self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = *self.0.as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl From<EventId> for SubscriptionId {
    fn from(id: EventId) -> Self {
        Self(id)
    }
}

impl From<SubscriptionId> for EventId {
    fn from(id: SubscriptionId) -> Self {
        id.0
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A subscription as it stands. A copy: it does not change any more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SubscriptionRecord {
    /// Its id.
    pub id: SubscriptionId,
    /// Its name: the subscriber's, or its pattern.
    pub name: String,
    /// What it subscribed to.
    pub pattern: String,
    /// Who handles.
    pub handler_id: HandlerId,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it last handled an event, or took one from its mailbox. Unstamped events do not count.
    pub last_delivered: Option<SystemTime>,
    /// Handled so far.
    pub delivery_count: u64,
    /// Failed so far.
    pub error_count: u64,
    /// Stopped for now.
    pub is_paused: bool,
    /// Its circuit breaker, when it has one.
    pub breaker: Option<BreakerRecord>,
    /// The worker it belongs to.
    pub worker: usize,
    /// Whether it is given replays.
    pub replay: ReplayPolicy,
    /// Filters besides the pattern, as text; empty where there is none.
    pub filters: String,
    /// All counts.
    pub ledger: SubscriptionLedger,
}

/// Where the events go.
pub(crate) enum Sink {
    /// A handler on the worker.
    Inline(OwnedCell<Kept<Box<dyn Dispatch>>>),
    /// A mailbox, and the worker's end of it.
    Mailbox(Arc<MailboxShared>, OwnedCell<Fed>),
}

/// The worker's end of a mailbox.
pub(crate) struct Fed {
    pub(crate) intake: Intake,
    /// Where the events of a key keep their order.
    pub(crate) keyed: Option<Keyed>,
    /// The worker is the mailbox's consumer as well: an inline handler whose events may come again, or wait for their rate.
    pub(crate) consumer: Option<Consumer>,
    /// What of its events is in a store.
    pub(crate) spill: Option<Box<Spill>>,
}

impl Fed {
    /// For reliable delivery.
    pub(crate) fn returns(&mut self) -> Returns<'_> {
        let feeder = self.intake.queue().expect("what comes back waits in a queue of every event");
        Returns { feeder, keyed: self.keyed.as_mut() }
    }
}

/// Who takes the events of a mailbox on its worker.
pub(crate) enum Takes {
    /// An inline handler.
    Handler(Kept<Box<dyn Dispatch>>),
    /// Whoever waits for one of them.
    Desk(Arc<dyn Desk>),
}

/// A mailbox's consumer on its worker.
pub(crate) struct Consumer {
    pub(crate) takes: Takes,
    pub(crate) order: DrainOrder,
}

/// Counts that the subscription's worker writes.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounts {
    pub(crate) matched: Counter,
    pub(crate) filtered: Counter,
    pub(crate) delivered: Counter,
    pub(crate) failed: Counter,
    pub(crate) overflow: Counter,
    pub(crate) superseded: Counter,
    pub(crate) expired: Counter,
    pub(crate) paused: Counter,
    pub(crate) closed: Counter,
    pub(crate) duplicate: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) lost: Counter,
    /// Calls of its handler on the worker that took too long.
    pub(crate) timed_out: Counter,
}

/// The state of a subscription, shared by the control plane and its worker.
pub(crate) struct SubscriptionState {
    pub(crate) id: SubscriptionId,
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    pub(crate) filter: CompiledFilter,
    pub(crate) handler_id: HandlerId,
    pub(crate) created: u64,
    pub(crate) worker: usize,
    /// Events before these sequences were published before the subscription was made.
    pub(crate) starts: [u64; LANES],
    pub(crate) sink: Sink,
    /// Who sends it events.
    pub(crate) role: Role,
    /// Its worker is the consumer of its mailbox.
    pub(crate) is_own_consumer: bool,
    /// Nanoseconds that a call of its handler on the worker may take.
    pub(crate) call_max_ns: u64,
    /// Nanoseconds of such a call after which there is something to tell of it; 0 where all are told of.
    pub(crate) long_ns: u64,
    /// Where its worker brings the events.
    pub(crate) desk: Option<Arc<dyn Desk>>,
    /// What it remembers, to drop what comes again.
    pub(crate) dedup: Option<OwnedCell<Dedup>>,
    /// Bytes that takes.
    pub(crate) dedup_bytes: usize,
    /// Keeps its rate, where what comes over it is rejected.
    pub(crate) limiter: Option<Limiter>,
    /// Whether it is given replays.
    pub(crate) replay: ReplayPolicy,
    pub(crate) counts: WorkerCounts,
    pub(crate) live: Live,
}

/// What changes about a subscription besides its counts.
pub(crate) struct Live {
    /// Instant of the last delivery; 0 = none yet.
    last_delivered: AtomicU64,
    /// The last event for the mailbox met a full one.
    overflowing: AtomicBool,
    /// A thread of the bus consumes its mailbox.
    has_thread: AtomicBool,
    calls: Calls,
}

impl Live {
    /// Of one that has just been made.
    pub(crate) fn new() -> Self {
        Self {
            last_delivered: AtomicU64::new(0),
            overflowing: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            calls: Calls::new(),
        }
    }
}

impl SubscriptionState {
    /// Whether this subscription can want events of this type at all. What a service gets does not go by patterns.
    pub(crate) fn wants_type(&self, name: &str) -> bool {
        matches!(self.role, Role::Subscriber) && self.pattern.matches(name) && self.filter.passes_type(name)
    }

    /// Whether it is given a replay: one for all who say so, or for it alone.
    #[cold]
    pub(crate) fn takes_replay(&self, meta: &Meta<'_>) -> bool {
        self.replay == ReplayPolicy::Safe && meta.replay_to().is_none_or(|to| to == self.id.0)
    }

    /// Whether an event of `lane` at `sequence` was published after the subscription was made.
    #[inline(always)]
    pub(crate) fn has_started(&self, lane: usize, sequence: u64) -> bool {
        (sequence.wrapping_sub(self.starts[lane]) as i64) >= 0
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        self.live.calls.state()
    }

    /// Moves between active and paused; closed stays closed. Rings wakers, which is user code: not under a lock.
    pub(crate) fn set_state(&self, state: State) {
        self.live.calls.set_state(state);
        if let Sink::Mailbox(mailbox, _) = &self.sink {
            mailbox.set_paused(state == State::Paused);
        }
    }

    /// Worker: remembers whether the mailbox was full for this event. Returns whether it was for the one before.
    #[inline(always)]
    pub(crate) fn set_overflowing(&self, full: bool) -> bool {
        // Relaxed (both): only the subscription's worker reads and writes it.
        let before = self.live.overflowing.load(Ordering::Relaxed);
        if before != full {
            self.live.overflowing.store(full, Ordering::Relaxed);
        }
        before
    }

    /// Whether it holds events back for now: paused by its user, or suspended after too many dead letters.
    pub(crate) fn is_paused(&self) -> bool {
        self.state() == State::Paused || matches!(&self.sink, Sink::Mailbox(mailbox, _) if mailbox.is_paused())
    }

    /// From now on a thread of the bus consumes its mailbox.
    pub(crate) fn give_thread(&self) {
        // Relaxed: who shuts down later has met the control plane's lock since.
        self.live.has_thread.store(true, Ordering::Relaxed);
    }

    /// Whether a thread of the bus consumes its mailbox, with reliable delivery or without.
    pub(crate) fn has_thread(&self) -> bool {
        // Relaxed: see `give_thread`.
        self.live.has_thread.load(Ordering::Relaxed)
    }

    /// Whether a handler on a thread of its own is to settle events that come back, or wait for their rate, while there is a worker.
    /// Not those of a paused one, nor of the handler that asks.
    pub(crate) fn is_owed_by_thread(&self) -> bool {
        self.has_thread()
            && self.is_attended()
            && matches!(&self.sink, Sink::Mailbox(mailbox, _) if !mailbox.is_settled())
            && !self.is_paused()
            && !self.live.calls.is_here()
    }

    /// Whether its events may come back to the worker, from a store too, or are held until it tells the consumer; or the worker
    /// keeps time for those who wait for them.
    pub(crate) fn is_attended(&self) -> bool {
        let is_due =
            |mailbox: &MailboxShared| mailbox.reliable().is_some() || mailbox.is_guarded() || mailbox.spill().is_some();
        self.desk.is_some() || matches!(&self.sink, Sink::Mailbox(mailbox, _) if is_due(mailbox))
    }

    /// Worker: whether events of a lane are in a store, behind which the next one waits.
    pub(crate) fn is_spilling(&self, lane: usize) -> bool {
        matches!(&self.sink, Sink::Mailbox(mailbox, _) if mailbox.is_spilling(lane))
    }

    /// Whether its worker keeps the time of its handler's calls, which are elsewhere.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(&self.sink, Sink::Mailbox(mailbox, _) if mailbox.times_calls())
    }

    /// A number that no other subscription has while this one is there.
    #[inline(always)]
    pub(crate) fn number(&self) -> u64 {
        std::ptr::from_ref(self).addr() as u64
    }

    /// Between its consumer's calls of the handler and its end.
    pub(crate) fn calls(&self) -> &Calls {
        &self.live.calls
    }

    /// Whether the calling thread is in this subscription's handler while its mailbox is full and holds its lanes up:
    /// nothing but the end of that call makes room.
    pub(crate) fn is_held_up_by_this_thread(&self) -> bool {
        self.live.calls.is_here() && matches!(&self.sink, Sink::Mailbox(mailbox, _) if mailbox.holds_up())
    }

    /// Remembers when the last delivery was.
    #[inline(always)]
    pub(crate) fn delivered_at(&self, instant: u64) {
        // Relaxed: a figure.
        self.live.last_delivered.store(instant, Ordering::Relaxed);
    }

    pub(crate) fn ledger(&self) -> SubscriptionLedger {
        let counts = &self.counts;
        let mut ledger = SubscriptionLedger {
            matched: counts.matched.get(),
            filtered: counts.filtered.get(),
            delivered: counts.delivered.get(),
            failed: counts.failed.get(),
            timed_out: counts.timed_out.get(),
            dropped: Dropped {
                overflow: counts.overflow.get(),
                expired: counts.expired.get(),
                paused: counts.paused.get(),
                closed: counts.closed.get(),
                duplicate: counts.duplicate.get(),
                superseded: counts.superseded.get(),
                rate_limited: counts.rate_limited.get(),
                lost: counts.lost.get(),
            },
            ..SubscriptionLedger::default()
        };
        if let Sink::Mailbox(mailbox, _) = &self.sink {
            ledger += mailbox.ledger();
        }
        ledger
    }

    /// How its circuit breaker stands, when it has one.
    pub(crate) fn breaker_record(&self) -> Option<BreakerRecord> {
        match &self.sink {
            Sink::Inline(_) => None,
            Sink::Mailbox(mailbox, _) => mailbox.breaker_record(),
        }
    }

    /// Why an event that came at the instant `now` would not come to the consumer then, though nobody has paused the subscription.
    pub(crate) fn obstacle(&self, now: u64) -> Option<Obstacle> {
        let of_mailbox = match &self.sink {
            Sink::Inline(_) => None,
            Sink::Mailbox(mailbox, _) => mailbox.obstacle(now),
        };
        let is_spent = || self.limiter.as_ref().is_some_and(|limiter| limiter.passes_at(now) > now);
        of_mailbox.or_else(|| is_spent().then_some(Obstacle::Rate(OverLimit::Reject)))
    }

    pub(crate) fn record(&self, clock: &Clock) -> SubscriptionRecord {
        let ledger = self.ledger();
        // Relaxed: a figure.
        let last = match &self.sink {
            Sink::Inline(_) => self.live.last_delivered.load(Ordering::Relaxed),
            Sink::Mailbox(mailbox, _) => mailbox.last_delivered(),
        };
        SubscriptionRecord {
            id: self.id,
            name: self.name.clone(),
            pattern: self.pattern.as_str().to_owned(),
            handler_id: self.handler_id.clone(),
            created_at: clock.system_time(self.created),
            last_delivered: (last != 0).then(|| clock.system_time(last)),
            delivery_count: ledger.delivered,
            error_count: ledger.failed,
            is_paused: self.is_paused(),
            breaker: self.breaker_record(),
            worker: self.worker,
            replay: self.replay,
            filters: self.filter.text().to_owned(),
            ledger,
        }
    }
}

impl fmt::Debug for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("pattern", &self.pattern.as_str())
            .field("worker", &self.worker)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
