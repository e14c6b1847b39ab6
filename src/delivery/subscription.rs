//! One subscription: who wants what, since when, and how it went.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::Clock;
use crate::event::EventId;
use crate::metrics::Counter;
use crate::ring::{Feeder, LANES};
use crate::routing::{CompiledFilter, Pattern};
use crate::sync::barrier::Barrier;
use crate::sync::owned::OwnedCell;
use crate::sync::primitive::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::{Dropped, HandlerId, Kept, MailboxShared, SubscriptionLedger};

/// Names a subscription: a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) EventId);

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
    /// The worker it belongs to.
    pub worker: usize,
    /// Filters besides the pattern, as text.
    pub filters: String,
    /// All counts.
    pub ledger: SubscriptionLedger,
}

/// Where the events go.
pub(crate) enum Sink {
    /// A handler on the worker.
    Inline(OwnedCell<Kept>),
    /// A mailbox, and the worker's end of it.
    Mailbox(Arc<MailboxShared>, OwnedCell<Feeder>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Active = 0,
    Paused = 1,
    /// Unsubscribed; what still comes is dropped.
    Closed = 2,
}

/// Counts that the subscription's worker writes.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounts {
    pub(crate) matched: Counter,
    pub(crate) filtered: Counter,
    pub(crate) delivered: Counter,
    pub(crate) failed: Counter,
    pub(crate) overflow: Counter,
    pub(crate) expired: Counter,
    pub(crate) paused: Counter,
    pub(crate) closed: Counter,
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
    pub(crate) counts: WorkerCounts,
    /// Instant of the last delivery; 0 = none yet.
    last_delivered: AtomicU64,
    /// The last event for the mailbox met a full one.
    overflowing: AtomicBool,
    state: AtomicU8,
    /// The consumer that calls the handler is between its look at `state` and the end of the call.
    calling: AtomicBool,
}

thread_local! {
    /// The address of the subscription whose handler this thread calls, or whose handler's future it polls, outside its
    /// worker; 0 = none.
    static CALLING: Cell<usize> = const { Cell::new(0) };
}

/// Whether the calling thread is in a handler's call, outside its worker.
pub(crate) fn is_calling() -> bool {
    CALLING.get() != 0
}

/// Names the subscription whose handler runs on this thread, until it is dropped.
struct Named {
    /// The one that this call is nested in.
    outer: usize,
}

impl Named {
    fn new(subscription: &SubscriptionState) -> Self {
        Self { outer: CALLING.replace(std::ptr::from_ref(subscription).addr()) }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        CALLING.set(self.outer);
    }
}

/// A call of a handler by a consumer, until it is dropped.
pub(crate) struct Calling<'a> {
    subscription: &'a SubscriptionState,
    _named: Named,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        // SYNC(subscription.call): Release. Pairs with `is_calling_elsewhere`.
        self.subscription.calling.store(false, Ordering::Release);
    }
}

impl SubscriptionState {
    #[allow(clippy::too_many_arguments, reason = "made in one place, by the subscription builder")]
    pub(crate) fn new(
        id: SubscriptionId,
        name: String,
        pattern: Pattern,
        filter: CompiledFilter,
        handler_id: HandlerId,
        created: u64,
        worker: usize,
        starts: [u64; LANES],
        sink: Sink,
    ) -> Self {
        Self {
            id,
            name,
            pattern,
            filter,
            handler_id,
            created,
            worker,
            starts,
            sink,
            counts: WorkerCounts::default(),
            last_delivered: AtomicU64::new(0),
            overflowing: AtomicBool::new(false),
            state: AtomicU8::new(State::Active as u8),
            calling: AtomicBool::new(false),
        }
    }

    /// Whether this subscription can want events of this type at all.
    pub(crate) fn wants_type(&self, name: &str) -> bool {
        self.pattern.matches(name) && self.filter.passes_type(name)
    }

    /// Whether an event of `lane` at `sequence` was published after the subscription was made.
    #[inline(always)]
    pub(crate) fn has_started(&self, lane: usize, sequence: u64) -> bool {
        (sequence.wrapping_sub(self.starts[lane]) as i64) >= 0
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        // Relaxed: a pause takes effect at some event soon; unsubscribing is ordered by the table's generation.
        match self.state.load(Ordering::Relaxed) {
            0 => State::Active,
            1 => State::Paused,
            _ => State::Closed,
        }
    }

    /// Moves between active and paused; closed stays closed. Rings wakers, which is user code: not under a lock.
    pub(crate) fn set_state(&self, state: State) {
        let open = |now: u8| (now != State::Closed as u8).then_some(state as u8);
        // Relaxed (both): see `state`.
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, open);
        if let Sink::Mailbox(mailbox, _) = &self.sink {
            mailbox.set_paused(state == State::Paused);
        }
    }

    /// Worker: remembers whether the mailbox was full for this event. Returns whether it was for the one before.
    #[inline(always)]
    pub(crate) fn set_overflowing(&self, full: bool) -> bool {
        // Relaxed (both): only the subscription's worker reads and writes it.
        let before = self.overflowing.load(Ordering::Relaxed);
        if before != full {
            self.overflowing.store(full, Ordering::Relaxed);
        }
        before
    }

    /// A consumer that calls a handler steps in. `None` when the subscription has ended: it must not call any more.
    pub(crate) fn begin_call(&self, barrier: Barrier) -> Option<Calling<'_>> {
        // Relaxed: the barrier orders it before the look at the state; `is_calling_elsewhere` does the same the other
        // way round.
        self.calling.store(true, Ordering::Relaxed);
        let call = Calling { subscription: self, _named: Named::new(self) };
        barrier.light();
        (self.state() != State::Closed).then_some(call)
    }

    /// Takes one step of the future that its handler has returned: what happens in it happens in the handler.
    pub(crate) fn poll<R>(&self, step: impl FnOnce() -> R) -> R {
        let _named = Named::new(self);
        step()
    }

    /// Whether the calling thread is in this subscription's handler, or in a step of the future it returned.
    pub(crate) fn is_called_by_this_thread(&self) -> bool {
        CALLING.get() == std::ptr::from_ref(self).addr()
    }

    /// Whether the calling thread is in this subscription's handler while its mailbox is full and holds its lanes up:
    /// nothing but the end of that call makes room.
    pub(crate) fn is_held_up_by_this_thread(&self) -> bool {
        self.is_called_by_this_thread() && matches!(&self.sink, Sink::Mailbox(mailbox, _) if mailbox.holds_up())
    }

    /// Orders the end of the subscription before a look at `is_calling_elsewhere`. Control plane.
    pub(crate) fn forbid_calls(&self, barrier: Barrier) {
        barrier.heavy();
    }

    /// Whether a consumer that may not have seen the end is in a call. Not the calling thread's own: it would wait for
    /// itself. Ask after `forbid_calls`.
    pub(crate) fn is_calling_elsewhere(&self) -> bool {
        // SYNC(subscription.call): Acquire. Pairs with the end of the call; what the handler did is seen by who
        // unsubscribed it.
        self.calling.load(Ordering::Acquire) && !self.is_called_by_this_thread()
    }

    /// Remembers when the last delivery was.
    #[inline(always)]
    pub(crate) fn delivered_at(&self, instant: u64) {
        // Relaxed: a figure.
        self.last_delivered.store(instant, Ordering::Relaxed);
    }

    pub(crate) fn ledger(&self) -> SubscriptionLedger {
        let counts = &self.counts;
        let mut ledger = SubscriptionLedger {
            matched: counts.matched.get(),
            filtered: counts.filtered.get(),
            delivered: counts.delivered.get(),
            failed: counts.failed.get(),
            dropped: Dropped {
                overflow: counts.overflow.get(),
                expired: counts.expired.get(),
                paused: counts.paused.get(),
                closed: counts.closed.get(),
            },
            ..SubscriptionLedger::default()
        };
        if let Sink::Mailbox(mailbox, _) = &self.sink {
            ledger += mailbox.ledger();
        }
        ledger
    }

    pub(crate) fn record(&self, clock: &Clock) -> SubscriptionRecord {
        let ledger = self.ledger();
        // Relaxed: a figure.
        let last = match &self.sink {
            Sink::Inline(_) => self.last_delivered.load(Ordering::Relaxed),
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
            is_paused: self.state() == State::Paused,
            worker: self.worker,
            filters: format!("{:?}", self.filter),
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
