//! What the core has to say: it has no logger, so whoever wants to know observes.

use std::time::Duration;

use crate::event::{DecodeError, EventId, Priority};

use super::{BreakerState, DeadReason, SpillError, SubscriptionId};

/// Hears of what goes wrong or changes. Called on the thread where it happens, workers among them: be short. An observer that
/// publishes may be called again from within that, on its own thread.
///
/// ```
/// use ringmain::{Bus, Notice};
/// let bus = Bus::builder()
///     .observer(|notice: &Notice<'_>| eprintln!("{notice:?}"))
///     .build()?;
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// Something happened. A panic in here is swallowed.
    fn notice(&self, notice: &Notice<'_>);
}

impl<F: Fn(&Notice<'_>) + Send + Sync> Observer for F {
    fn notice(&self, notice: &Notice<'_>) {
        self(notice);
    }
}

/// One thing worth knowing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// An event reached a subscription: every one that went into a mailbox, and every measured one that a handler took, of a bus with
    /// [`enable_debug`](crate::BusBuilder::enable_debug), and of no other.
    Delivered {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The event.
        event: EventId,
        /// Its topic.
        topic: &'a str,
        /// Its priority.
        priority: Priority,
        /// Its place in its lane.
        sequence: u64,
        /// The worker that delivered it.
        worker: usize,
        /// Time since it was published.
        age: Duration,
        /// How long the handler took; `None` when it went into a mailbox.
        handled: Option<Duration>,
    },
    /// The circuit breaker of a subscription opened, half opened or closed. It half opens with its first probe.
    Breaker {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// What it is now.
        state: BreakerState,
    },
    /// A subscription with reliable delivery had too many dead letters in a row, and is paused until it is resumed.
    Suspended {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// Dead letters in a row that suspend it.
        letters: u32,
    },
    /// A handler took longer than the slow threshold.
    SlowHandler {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// Its pattern.
        pattern: &'a str,
        /// The event it handled.
        event: EventId,
        /// How long it took.
        elapsed: Duration,
        /// Events behind this one: in its lane, or, for a handler on a thread of its own, in its mailbox.
        lag: u64,
    },
    /// A handler has had an event for longer than it may: its [`handler_timeout`](crate::Subscribe::handler_timeout), or the timeout of
    /// an attempt. Said once a call, while that lasts, of a handler on a thread and of one in a future, which is cancelled. An inline one
    /// keeps its worker, which says so when it has returned, if it has measured the call; see [`WorkerHung`](Self::WorkerHung).
    HandlerHung {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The event.
        event: EventId,
        /// How long it has had it.
        after: Duration,
    },
    /// A worker does not come back from an inline handler, which has had longer than its
    /// [`handler_timeout`](crate::Subscribe::handler_timeout): the lanes that the worker gates refuse, with its number in
    /// `Full { gated_by }`. Said once a call, by who notices first: a publisher that it refuses or keeps waiting, another worker, or
    /// who asks for [metrics](crate::Bus::metrics) twice.
    WorkerHung {
        /// Which worker.
        worker: usize,
        /// Whose handler it is in.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// How long that is known to have lasted: since the first look that found it.
        after: Duration,
    },
    /// A worker has panicked outside of all user code, which is a bug of this crate (the panic hook has told where), and goes on where
    /// it was: nobody who had its event gets that again, but for the one that the worker was at. See
    /// [`worker_restarts_max`](crate::BusBuilder::worker_restarts_max).
    WorkerRestarted {
        /// Which worker.
        worker: usize,
        /// The how manieth restart of this minute it is, from 1.
        nth: u32,
        /// How many there may be.
        max: u32,
    },
    /// A worker has panicked once more than it may in a minute, and stands still. The bus accepts nothing any more
    /// ([`PublishError::WorkerFailed`](crate::PublishError::WorkerFailed)); other workers bring what was accepted to their
    /// subscriptions, and a shutdown tells what is left.
    WorkerFailed {
        /// Which worker.
        worker: usize,
        /// Restarts of the last minute.
        restarts: u32,
    },
    /// A handler on a thread did not come back, and a fresh thread with a fresh handler goes on:
    /// [`handle_on_each`](crate::Subscribe::handle_on_each).
    HandlerReplaced {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The how manieth replacement this is, from 1.
        nth: u32,
        /// How many there may be.
        max: u32,
    },
    /// A handler on a thread did not come back, and there is no replacement any more: its events wait until it does.
    HandlerNotReplaced {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// How many there were.
        max: u32,
    },
    /// A handler returned an error.
    HandlerFailed {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The event it refused.
        event: EventId,
        /// What it said.
        error: &'a str,
    },
    /// A handler, predicate or key function panicked. The panic was contained.
    HandlerPanicked {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The event it was handling.
        event: EventId,
    },
    /// A payload could not be read as the subscription's type; the event was skipped.
    Undecodable {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The event.
        event: EventId,
        /// Why.
        error: DecodeError,
    },
    /// A mailbox was full, and its policy had an event go: it was dropped, or under reliable delivery became a dead letter (which a
    /// [`DeadLettered`](Self::DeadLettered) says, too). Said at the first of a row of them.
    MailboxOverflow {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
    },
    /// A mailbox was full, and events for it stay in a store from now on: [`Overflow::Spill`](crate::Overflow::Spill).
    Spilling {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
    },
    /// What a mailbox had in a store has come back, and it takes what is published again.
    Rejoined {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// Since events went to the store.
        after: Duration,
        /// Events that came from there.
        events: u64,
    },
    /// Events that a mailbox has in a store were not read back. Said at the first of a row of failures.
    SpillFailed {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// Why.
        error: &'a SpillError,
        /// Events that are in the store.
        spilled: u64,
    },
    /// Events that stayed in a store for a mailbox will not come any more: [`Dropped::lost`](crate::Dropped::lost).
    SpillLost {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// How many.
        events: u64,
    },
    /// A consumer went away, and its subscription with it.
    ConsumerGone {
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// Because it panicked.
        panicked: bool,
    },
    /// A target names a service that there is not. Said once a name, for the first 64 of them, when such an event is published or
    /// scheduled; [`unknown_targets`](crate::Metrics::unknown_targets) counts them all.
    UnknownTarget {
        /// The name.
        target: &'a str,
        /// The event.
        event: EventId,
        /// Its topic.
        topic: &'a str,
    },
    /// Workers asked for a core each and did not get it: there are too few, or the system refuses. They run unpinned. Told once
    /// a bus.
    Unpinned {
        /// The first that found out.
        worker: usize,
    },
    /// Somebody claimed a slot over a second ago and has not filled it: its thread is stopped between two
    /// instructions. The lane waits; other lanes go on.
    StalledPublisher {
        /// The lane that waits.
        priority: Priority,
        /// The sequence it waits for.
        sequence: u64,
    },
    /// A subscription gave an event up for good, and [`Bus::dead_letters`](crate::Bus::dead_letters) has it.
    DeadLettered {
        /// The id of the letter.
        letter: u64,
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The event.
        event: EventId,
        /// Its topic.
        topic: &'a str,
        /// Why.
        reason: DeadReason,
        /// Attempts at delivery there were.
        attempts: u32,
        /// What the last one said.
        error: Option<&'a str>,
    },
    /// A dead letter was on its way back to its subscription, which ended before it had a place in the mailbox:
    /// [`Bus::dead_letters`](crate::Bus::dead_letters) has it again, as it was.
    LetterReturned {
        /// The id of the letter.
        letter: u64,
        /// Whose.
        subscription: SubscriptionId,
        /// Its name.
        name: &'a str,
        /// The event.
        event: EventId,
    },
    /// More dead letters came than may be kept, and one went: the oldest, or one for which there was no room beside those that are being
    /// sent again. Said at the first of a row: until one was sent again, purged or expired.
    DeadLettersOverflow {
        /// Letters that are held; for a moment that may be more than are kept, until they are sorted in.
        held: u64,
        /// Letters that went for want of room, ever.
        discarded: u64,
    },
    /// The reserved memory has filled up to the share set with [`memory_pressure`](crate::BusBuilder::memory_pressure), and Low events
    /// are refused; or that is over.
    MemoryPressure {
        /// Whether it begins; otherwise it ends.
        begins: bool,
        /// How full the fullest lane or the pool is, from 0 to 1.
        fill: f64,
    },
    /// A store did not take events. They wait and hold up their lanes in the end, or are kept in memory, as its journal says; letters
    /// that a [`DeadLetterSink`](crate::DeadLetterSink) did not take wait, too.
    StorageFailed {
        /// The name of the journal; `dead letters` of a sink.
        name: &'a str,
        /// What the store said.
        error: &'a str,
        /// Events that wait for it.
        waiting: u64,
    },
    /// An event that was kept to be published from its store cannot be: no bus set up like this one would take it.
    Undeliverable {
        /// The name of who publishes it.
        name: &'a str,
        /// The event.
        event: EventId,
        /// Its topic.
        topic: &'a str,
        /// Its place in the store.
        position: u64,
        /// Why.
        reason: &'a str,
    },
    /// A store takes events again.
    StorageReturned {
        /// The name of the journal.
        name: &'a str,
        /// Since it failed.
        after: Duration,
        /// Events that the journal has dropped, ever.
        dropped: u64,
    },
    /// An event that was to be kept is not: the store can never take it, or the store fails and there is no room for it in memory.
    /// Of a row of those the first is named.
    StorageDropped {
        /// The name of the journal.
        name: &'a str,
        /// The event.
        event: EventId,
        /// Why.
        reason: &'a str,
    },
}
