//! A subscriber's own queue: filled by its worker, pulled by its consumer on any thread or async runtime.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use crate::event::{Directory, EventId, FLAG_STAMPED, Header, KnownAs, Meta};
use crate::metrics::{MailboxStages, SharedCounter};
use crate::ring::{AttemptWords, Custody, DrainOrder, Keyed, LANES, Put, Returns, Serve, Slot};
use crate::sync::alarm::NEVER;
use crate::sync::bell::Bell;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering, thread};
use crate::sync::waker::of_this_thread;

use super::in_hand::Hold;
use super::intake::put_latest;
use super::{
    Crew, DeadReason, Delivery, Dropped, Fed, Guard, Intake, Interest, Notice, Outcome, Pass, Reliable, Settled,
    SubscriptionId, SubscriptionLedger, Waits,
};

mod guarded;

/// When dead letters that found no room are tried again.
const REDRIVE_AGAIN_NS: u64 = 1_000_000;

/// What happens when an event meets a full mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The worker stops reading that lane until there is room: nothing is lost, and publishers feel it when the lane
    /// fills. The default.
    #[default]
    Block,
    /// The event is dropped and counted. Under reliable delivery nothing is dropped: there it is a dead letter.
    DropNewest,
    /// The oldest queued event that is no more urgent is dropped and counted; when there is none, the new one.
    DropOldest,
}

/// What became of a mailbox's events.
#[derive(Debug, Default)]
pub(super) struct MailboxCounts {
    pub(super) delivered: SharedCounter,
    pub(super) failed: SharedCounter,
    /// Events whose deadline passed while they were queued.
    pub(super) expired: SharedCounter,
    pub(super) discarded: SharedCounter,
    pub(super) dead_lettered: SharedCounter,
    /// Events of a service that went to one of its instances, or back.
    pub(super) passed_on: SharedCounter,
    /// Attempts after which the event came again.
    pub(super) retried: SharedCounter,
    /// Words that came too late.
    pub(super) late: SharedCounter,
    /// Attempts whose time was over before their consumer said a word.
    pub(super) timed_out: SharedCounter,
}

/// What worker and consumer of a mailbox share.
#[derive(Debug)]
pub(crate) struct MailboxShared {
    custody: Arc<Custody>,
    /// Of a subscription with reliable delivery.
    reliable: Option<Reliable>,
    /// What stands between it and its consumer.
    guard: Option<Box<Guard>>,
    waits: Waits,
    overflow: Overflow,
    consumer: Bell,
    paused: AtomicBool,
    counts: MailboxCounts,
    /// Dead letters that came back.
    redelivered: SharedCounter,
    /// Instant of the last hand-over of a stamped event; 0 = none yet.
    last_delivered: AtomicU64,
    stages: MailboxStages,
    pub(super) directory: Arc<Directory>,
}

impl MailboxShared {
    pub(crate) fn new(
        custody: Arc<Custody>,
        reliable: Option<Reliable>,
        waits: Waits,
        overflow: Overflow,
        consumer: Bell,
        directory: Arc<Directory>,
        stages: MailboxStages,
    ) -> Self {
        Self {
            custody,
            reliable,
            guard: None,
            waits,
            overflow,
            consumer,
            paused: AtomicBool::new(false),
            counts: MailboxCounts::default(),
            redelivered: SharedCounter::default(),
            last_delivered: AtomicU64::new(0),
            stages,
            directory,
        }
    }

    /// With this between it and its consumer.
    pub(crate) fn guarded(self, guard: Option<Guard>) -> Self {
        Self { guard: guard.map(Box::new), ..self }
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) fn stages(&self) -> &MailboxStages {
        &self.stages
    }

    /// Instant of the last hand-over; 0 = none yet.
    pub(crate) fn last_delivered(&self) -> u64 {
        // Relaxed: a figure.
        self.last_delivered.load(Ordering::Relaxed)
    }

    /// Cells, their queues and the histograms.
    pub(crate) fn reserved_bytes(&self) -> usize {
        let capacity = self.custody.cells().capacity();
        let attempts = self.reliable.as_ref().map_or(0, |reliable| {
            let keyed = if reliable.order.is_some() { Keyed::bytes_for(capacity) } else { 0 };
            (AttemptWords::bytes_for(capacity) + keyed) as usize
        });
        attempts
            + size_of::<Self>()
            + self.custody.cells().reserved_bytes()
            + MailboxStages::bytes_for(self.reliable.is_some())
    }

    /// Where its events are.
    pub(crate) fn custody(&self) -> &Custody {
        &self.custody
    }

    /// The attempts of reliable delivery.
    #[inline]
    pub(crate) fn reliable(&self) -> Option<&Reliable> {
        self.reliable.as_ref()
    }

    /// Whether every event from before `ends`, a sequence a lane, is over.
    pub(crate) fn has_passed(&self, ends: &[u64; LANES]) -> bool {
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
        match &self.reliable {
            None => self.custody.is_settled(),
            Some(reliable) => {
                !reliable.is_returning() && self.custody.cells().is_over() && reliable.attempts.waiting() == 0
            }
        }
    }

    /// Worker: copies the event of `slot` into a cell and queues it, see `Feeder::push` and `LatestFeeder::put`. `None` when
    /// there is no room.
    #[inline]
    pub(crate) fn push(&self, fed: &mut Fed, lane: usize, meta: &Meta<'_>, slot: &Slot<'_>) -> Option<Put> {
        let (sequence, bytes) = (meta.sequence(), meta.header().rest_bytes());
        let queued = match (&mut fed.intake, &self.reliable) {
            (Intake::Queue(feeder), None) => feeder.push(lane, sequence, slot, bytes),
            (Intake::Queue(feeder), Some(reliable)) => {
                let key = reliable.key_of(meta);
                let mut returns = Returns { feeder, keyed: fed.keyed.as_mut() };
                reliable.attempts.push(&mut returns, lane, sequence, slot, bytes, key)
            }
            (Intake::Latest(feeder, key), _) => return put_latest(feeder, key, lane, meta, slot),
        };
        queued.then_some(Put::Waits)
    }

    /// Worker: an event met a full mailbox, or came over the rate. Under reliable delivery it is a dead letter; false in other
    /// modes.
    #[cold]
    pub(crate) fn turn_away(&self, meta: &Meta<'_>, reason: DeadReason) -> bool {
        let Some(reliable) = &self.reliable else { return false };
        reliable.turn_away(&self.counts, meta, reason);
        true
    }

    /// Takes the oldest event of `lane`.
    #[inline(always)]
    fn take(&self, lane: usize) -> Option<Hold> {
        match &self.reliable {
            None => self.custody.take(lane).inspect(|_| self.made_place()).map(Hold::Once),
            Some(reliable) => reliable.take(lane).map(Hold::Attempt),
        }
    }

    /// An event was taken: where only so many keys wait, another may now, though its cell is still in use.
    #[inline(always)]
    fn made_place(&self) {
        if self.waits == Waits::NewestOfEach && self.overflow == Overflow::Block {
            self.custody.made_room();
        }
    }

    /// `None` when its deadline has passed while it was queued.
    #[inline(always)]
    fn hand_over(&self, hold: Hold, lane: usize) -> Option<Hold> {
        let header = Header::of_words(hold.event().parts().0);
        if header.has(FLAG_STAMPED) || header.deadline != 0 {
            let now = self.directory.clock.now();
            if header.deadline != 0 && now > header.deadline {
                self.expire(hold);
                return None;
            }
            if header.has(FLAG_STAMPED) {
                self.stages.total[lane].record(now.saturating_sub(header.time));
                // Relaxed: a figure.
                self.last_delivered.store(now, Ordering::Relaxed);
            }
        }
        Some(hold)
    }

    /// Gives an event up whose deadline has passed.
    fn expire(&self, hold: Hold) {
        match hold {
            Hold::Once(taken) => {
                self.counts.expired.add(1);
                self.custody.settle(taken);
            }
            Hold::Attempt(attempt) => self.of_attempts().expire(&self.counts, attempt),
        }
    }

    /// Gives an event up whose subscription has ended before its handler was called.
    pub(super) fn discard_one(&self, hold: Hold) {
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

    /// Events that wait, and those in its consumer's hands.
    pub(super) fn load(&self) -> (u64, u64) {
        let open = self.custody.open(|| self.reliable.as_ref().map_or(0, |reliable| reliable.attempts.waiting()));
        (open.queued + open.waiting, open.in_hand)
    }

    /// Worker: whether its own handler may try an event where it lies, in its lane: nothing is before it or stands in between, and
    /// there is a cell for it to come back to.
    #[inline]
    pub(crate) fn may_try_in_place(&self, fed: &Fed, meta: &Meta<'_>) -> bool {
        let is_next = self.custody.queued() == 0 && fed.keyed.as_ref().is_none_or(Keyed::is_empty);
        self.guard.is_none() && is_next && !self.is_paused() && fed.intake.has_room(meta)
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
        // From a cell, as if it had been taken from there.
        let queued = self.push(fed, lane, meta, slot);
        let attempt =
            queued.and_then(|_| reliable.take_since(lane, began)).expect("there was a cell, and nothing before it");
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
    fn suspend_if_due(&self, reliable: &Reliable) {
        if reliable.takes_suspension() {
            self.set_paused(true);
            let (subscription, name) = (reliable.subscription, reliable.name.as_str());
            let letters = reliable.suspend_after;
            reliable.letters.notice(&Notice::Suspended { subscription, name, letters });
        }
    }

    fn of_attempts(&self) -> &Reliable {
        self.reliable.as_ref().expect("only a reliable mailbox hands out attempts")
    }

    /// Worker: queues what is due, takes away what has been in hand for too long, tells the consumer when it may have what is
    /// queued. Returns the instant to look again at. `is_thread`: it is a handler on a thread of its own.
    pub(crate) fn attend(&self, fed: &mut Fed, now: u64, is_thread: bool) -> u64 {
        let next = self.reliable.as_ref().map_or(NEVER, |reliable| self.attend_attempts(reliable, fed, now, is_thread));
        let due = self.consumer_due(now);
        if due <= now {
            self.notify();
            return next;
        }
        next.min(due)
    }

    fn attend_attempts(&self, reliable: &Reliable, fed: &mut Fed, now: u64, is_thread: bool) -> u64 {
        reliable.take_back(fed, || self.redelivered.add(1));
        let (next, lost) = reliable.attend(&self.counts, fed, now, is_thread);
        if let Some(guard) = &self.guard {
            (0..lost).for_each(|_| self.tell_breaker(guard, now, None));
        }
        self.suspend_if_due(reliable);
        // For want of a cell; nobody tells when one comes free.
        if reliable.redriven.is_empty() { next } else { next.min(now + REDRIVE_AGAIN_NS) }
    }

    /// The oldest event of `lane`, and whether it is still wanted: what has expired is given up.
    #[inline(always)]
    pub(crate) fn take_fresh(&self, lane: usize) -> Option<Hold> {
        self.take(lane).and_then(|hold| self.hand_over(hold, lane))
    }

    /// Consumer: `waker` hears when an event is taken away from its hands. `known` is the one that was left the last time: it
    /// need not be left again while nobody has rung, for leaving it is dear.
    pub(super) fn wait_for_loss(&self, waker: &Waker, known: &mut Option<Waker>) {
        let Some(reliable) = &self.reliable else { return };
        if !reliable.lost.is_awaited() || !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            reliable.lost.wait(waker);
            *known = Some(waker.clone());
        }
    }

    /// From now on these threads consume it.
    pub(crate) fn set_crew(&self, crew: Arc<Crew>) {
        let unset = self.of_attempts().crew.set(crew);
        debug_assert!(unset.is_ok(), "whoever makes the subscription says so once");
    }

    /// A thread that stands by: `waker` hears when it may be on duty, and when the mailbox is closed. Look once more before
    /// waiting.
    pub(crate) fn wait_for_relief(&self, waker: &Waker) {
        self.of_attempts().lost.wait(waker);
    }

    /// Worker: its own handler has had an event for so many nanoseconds. It alone could take it away, so its word counts.
    #[inline]
    pub(crate) fn took(&self, event: EventId, elapsed: u64) {
        if let Some(reliable) = self.reliable.as_ref().filter(|reliable| elapsed >= reliable.timeout_ns) {
            reliable.hangs(&self.counts, event, elapsed);
        }
    }

    /// Whether events wait for their time to come again.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reliable.as_ref().is_some_and(|reliable| reliable.attempts.waiting() > 0)
    }

    /// Whether its consumer would find something, now or when it may have it.
    pub(crate) fn needs_consumer(&self) -> bool {
        self.custody.queued() > 0 && !self.is_paused()
    }

    /// The worker has gone: what waits for it is given up.
    pub(crate) fn lose_worker(&self) {
        if let Some(reliable) = &self.reliable {
            reliable.discard_waiting(&self.counts);
        }
    }

    /// Whether it is full and its worker waits for room in it. Exact for its consumer, who alone makes room.
    pub(crate) fn holds_up(&self) -> bool {
        // An event that is over keeps its cell while somebody reads it, so that only the cells know.
        let cells = self.custody.cells();
        let is_full = !cells.has_room() || self.waits == Waits::NewestOfEach && cells.is_full(0);
        self.overflow == Overflow::Block && is_full
    }

    /// Worker: tells the consumer that something was queued.
    #[inline]
    pub(crate) fn notify(&self) {
        self.consumer.ring();
    }

    /// No more events will come; what is queued can still be taken.
    pub(crate) fn close(&self) {
        self.custody.close();
        self.consumer.ring();
        if let Some(reliable) = &self.reliable {
            // For a thread that stands by.
            reliable.lost.ring();
        }
        self.custody.made_room();
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        // Relaxed: takes effect at some event soon; the bell orders it for a waiting consumer.
        self.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.consumer.ring();
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        // Relaxed: see `set_paused`.
        self.paused.load(Ordering::Relaxed)
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

    pub(crate) fn ledger(&self) -> SubscriptionLedger {
        // First: an event that ends in between shows as in flight, not as missing.
        let open = self.reliable.as_ref().map_or_else(|| self.custody.open(|| 0), |reliable| reliable.attempts.open());
        let counts = &self.counts;
        SubscriptionLedger {
            matched: self.redelivered.get(),
            queued: open.queued,
            in_flight: open.in_hand,
            waiting: open.waiting,
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

/// Nothing to take at the moment, or ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is queued, or what is queued is held: the subscription is paused, its circuit breaker open, or its rate reached.
    Empty,
    /// The subscription has ended and everything queued was taken.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the mailbox is empty",
            Self::Closed => "the subscription has ended and its mailbox is empty",
        })
    }
}

impl std::error::Error for TryRecvError {}

/// No event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// Not within the time given.
    TimedOut {
        /// That time.
        after: Duration,
    },
    /// The subscription has ended and everything queued was taken.
    Closed,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(f, "no event within {after:?}"),
            Self::Closed => f.write_str("the subscription has ended and its mailbox is empty"),
        }
    }
}

impl std::error::Error for RecvError {}

/// How a mailbox ends its subscription when it is dropped.
pub(crate) type Farewell = Box<dyn FnOnce(bool) + Send>;

/// The consumer's end of a subscription with a mailbox. Dropped, it unsubscribes.
///
/// More urgent events come first, events of one priority in order. It is also a
/// [`Stream`](https://docs.rs/futures-core) of deliveries, on any async runtime.
pub struct Mailbox<I: Interest> {
    id: SubscriptionId,
    shared: Arc<MailboxShared>,
    order: DrainOrder,
    known_as: KnownAs,
    farewell: Option<Farewell>,
    interest: PhantomData<fn(I)>,
}

impl<I: Interest> Mailbox<I> {
    pub(crate) fn new(
        id: SubscriptionId,
        shared: Arc<MailboxShared>,
        order: DrainOrder,
        known_as: KnownAs,
        farewell: Farewell,
    ) -> Self {
        Self { id, shared, order, known_as, farewell: Some(farewell), interest: PhantomData }
    }

    /// The subscription's id.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Events waiting.
    pub fn len(&self) -> usize {
        self.shared.custody.queued() as usize
    }

    /// Whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next event, if there is one.
    ///
    /// # Errors
    /// `Empty` when nothing is queued or the subscription is paused; `Closed` when nothing will come any more.
    ///
    /// # Cost
    /// Lock-free, no allocation.
    pub fn try_recv(&mut self) -> Result<Delivery<I>, TryRecvError> {
        let custody = &self.shared.custody;
        let closed = custody.is_closed();
        if self.shared.is_paused() && !closed {
            return Err(TryRecvError::Empty);
        }
        loop {
            let Some(Serve { lane, .. }) = self.order.next(custody.ready()) else {
                return Err(if closed { TryRecvError::Closed } else { TryRecvError::Empty });
            };
            // The worker of a closed mailbox may be gone, and nobody would tell when it is held no more.
            let pass = if closed { Pass::Free } else { self.shared.ask() };
            if pass == Pass::Held {
                return Err(TryRecvError::Empty);
            }
            self.order.served(lane, 1);
            if let Some(hold) = self.shared.take_by(pass, lane) {
                return Ok(Delivery::new(hold, Arc::clone(&self.shared), self.known_as));
            }
        }
    }

    /// Waits for the next event, as long as it takes.
    ///
    /// # Errors
    /// `Closed` when nothing will come any more.
    pub fn recv(&mut self) -> Result<Delivery<I>, RecvError> {
        self.recv_until(None)
    }

    /// Waits for the next event, at most `limit`.
    ///
    /// # Errors
    /// `TimedOut` or `Closed`.
    pub fn recv_deadline(&mut self, limit: Duration) -> Result<Delivery<I>, RecvError> {
        self.recv_until(Some(limit))
    }

    fn recv_until(&mut self, limit: Option<Duration>) -> Result<Delivery<I>, RecvError> {
        match self.try_recv() {
            Ok(delivery) => return Ok(delivery),
            Err(TryRecvError::Closed) => return Err(RecvError::Closed),
            Err(TryRecvError::Empty) => {}
        }
        let clock = self.shared.directory.clock.clone();
        let begun = clock.now();
        let waker = of_this_thread();
        loop {
            self.shared.consumer.wait(&waker);
            match self.try_recv() {
                Ok(delivery) => return Ok(delivery),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                Err(TryRecvError::Empty) => {}
            }
            match limit {
                None => thread::park(),
                Some(after) => {
                    let waited = Duration::from_nanos(clock.now().saturating_sub(begun));
                    match after.checked_sub(waited).filter(|left| !left.is_zero()) {
                        None => return Err(RecvError::TimedOut { after }),
                        Some(left) => thread::park_timeout(left),
                    }
                }
            }
        }
    }

    fn poll_recv(&mut self, context: &mut task::Context<'_>) -> Poll<Option<Delivery<I>>> {
        for registered in [false, true] {
            match self.try_recv() {
                Ok(delivery) => return Poll::Ready(Some(delivery)),
                Err(TryRecvError::Closed) => return Poll::Ready(None),
                Err(TryRecvError::Empty) if !registered => self.shared.consumer.wait(context.waker()),
                Err(TryRecvError::Empty) => {}
            }
        }
        Poll::Pending
    }

    /// Waits for the next event without blocking the thread, on any async runtime. Cancel-safe.
    ///
    /// # Errors
    /// `Closed` when nothing will come any more.
    pub async fn recv_async(&mut self) -> Result<Delivery<I>, RecvError> {
        poll_fn(|context| self.poll_recv(context)).await.ok_or(RecvError::Closed)
    }

    /// Blocks for each next event, until the subscription ends.
    pub fn iter(&mut self) -> Iter<'_, I> {
        Iter { mailbox: self }
    }
}

impl<I: Interest> Stream for Mailbox<I> {
    type Item = Delivery<I>;

    fn poll_next(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Delivery<I>>> {
        self.get_mut().poll_recv(context)
    }
}

impl<'m, I: Interest> IntoIterator for &'m mut Mailbox<I> {
    type Item = Delivery<I>;
    type IntoIter = Iter<'m, I>;

    fn into_iter(self) -> Iter<'m, I> {
        self.iter()
    }
}

impl<I: Interest> Drop for Mailbox<I> {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(farewell) = self.farewell.take() {
            farewell(std::thread::panicking());
        }
    }
}

impl<I: Interest> fmt::Debug for Mailbox<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("id", &self.id).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Blocking iterator over a mailbox.
#[derive(Debug)]
pub struct Iter<'m, I: Interest> {
    mailbox: &'m mut Mailbox<I>,
}

impl<I: Interest> Iterator for Iter<'_, I> {
    type Item = Delivery<I>;

    fn next(&mut self) -> Option<Delivery<I>> {
        self.mailbox.recv().ok()
    }
}
