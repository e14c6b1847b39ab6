//! A subscriber's own queue: filled by its worker, pulled by its consumer on any thread or async runtime.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::event::{DecodeError, Directory, FLAG_STAMPED, Header, KnownAs, Meta, Payload};
use crate::metrics::{HistogramCells, SharedCounter};
use crate::ring::{Custody, DrainOrder, LANES, Serve, Taken};
use crate::routing::Pattern;
use crate::sync::bell::Bell;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering, thread};
use crate::sync::waker::of_this_thread;

use super::handler::Interest;
use super::{Outcome, SubscriptionId, SubscriptionLedger};

/// What happens when an event meets a full mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The worker stops reading that lane until there is room: nothing is lost, and publishers feel it when the lane
    /// fills. The default.
    #[default]
    Block,
    /// The event is dropped and counted.
    DropNewest,
    /// The oldest queued event that is no more urgent is dropped and counted; when there is none, the new one.
    DropOldest,
}

/// What worker and consumer of a mailbox share.
#[derive(Debug)]
pub(crate) struct MailboxShared {
    custody: Custody,
    overflow: Overflow,
    consumer: Bell,
    paused: AtomicBool,
    delivered: SharedCounter,
    failed: SharedCounter,
    /// Events whose deadline passed while they were queued.
    expired: SharedCounter,
    discarded: SharedCounter,
    /// Instant of the last hand-over of a stamped event; 0 = none yet.
    last_delivered: AtomicU64,
    /// Publish to hand-over, a lane. Written by the consumer.
    latency: [HistogramCells; LANES],
    directory: Arc<Directory>,
}

impl MailboxShared {
    pub(crate) fn new(
        custody: Custody,
        overflow: Overflow,
        consumer: Bell,
        directory: Arc<Directory>,
        latency: [HistogramCells; LANES],
    ) -> Self {
        Self {
            custody,
            overflow,
            consumer,
            paused: AtomicBool::new(false),
            delivered: SharedCounter::default(),
            failed: SharedCounter::default(),
            expired: SharedCounter::default(),
            discarded: SharedCounter::default(),
            last_delivered: AtomicU64::new(0),
            latency,
            directory,
        }
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) fn latency(&self, lane: usize) -> &HistogramCells {
        &self.latency[lane]
    }

    /// Instant of the last hand-over; 0 = none yet.
    pub(crate) fn last_delivered(&self) -> u64 {
        // Relaxed: a figure.
        self.last_delivered.load(Ordering::Relaxed)
    }

    /// Cells, their queues and the histograms.
    pub(crate) fn reserved_bytes(&self) -> usize {
        size_of::<Self>() + self.custody.cells().reserved_bytes() + LANES * HistogramCells::BYTES
    }

    /// Where its events are.
    pub(crate) fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Whether it is full and its worker waits for room in it. Exact for its consumer, who alone takes and settles.
    pub(crate) fn holds_up(&self) -> bool {
        let settled = self.custody.settled();
        let held = self.custody.queued() + self.custody.taken() - settled;
        self.overflow == Overflow::Block && held >= self.custody.cells().capacity() as u64
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
        self.custody.made_room();
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        // Relaxed: takes effect at some event soon; the bell orders it for a waiting consumer.
        self.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.consumer.ring();
        }
    }

    fn is_paused(&self) -> bool {
        // Relaxed: see `set_paused`.
        self.paused.load(Ordering::Relaxed)
    }

    /// Throws away what is queued, once the consumer is gone.
    pub(crate) fn discard(&self) {
        self.custody.discard(|| self.discarded.add(1));
    }

    pub(crate) fn ledger(&self) -> SubscriptionLedger {
        // Settled first: an event that settles in between shows as in flight, not as missing.
        let settled = self.custody.settled();
        SubscriptionLedger {
            queued: self.custody.queued(),
            in_flight: self.custody.taken().saturating_sub(settled),
            delivered: self.delivered.get(),
            failed: self.failed.get(),
            dropped: super::Dropped {
                expired: self.expired.get(),
                closed: self.discarded.get(),
                ..super::Dropped::default()
            },
            ..SubscriptionLedger::default()
        }
    }
}

/// Nothing to take at the moment, or ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is queued, or the subscription is paused.
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
            let ready = (0..LANES).fold(0, |ready, lane| ready | u8::from(custody.cells().queued(lane) > 0) << lane);
            let Some(Serve { lane, .. }) = self.order.next(ready) else {
                return Err(if closed { TryRecvError::Closed } else { TryRecvError::Empty });
            };
            self.order.served(lane, 1);
            if let Some(delivery) = self.shared.custody.take(lane).and_then(|taken| self.hand_over(taken)) {
                return Ok(delivery);
            }
        }
    }

    /// `None` when its deadline has passed while it was queued.
    fn hand_over(&self, taken: Taken) -> Option<Delivery<I>> {
        let lane = taken.lane();
        let delivery = Delivery {
            taken: Some(taken),
            shared: Arc::clone(&self.shared),
            known_as: self.known_as,
            has_failed: AtomicBool::new(false),
            interest: PhantomData,
        };
        let header = delivery.header();
        if header.has(FLAG_STAMPED) || header.deadline != 0 {
            let now = self.shared.directory.clock.now();
            if header.deadline != 0 && now > header.deadline {
                delivery.expire();
                return None;
            }
            if header.has(FLAG_STAMPED) {
                self.shared.latency[lane].record(now.saturating_sub(header.time));
                // Relaxed: a figure.
                self.shared.last_delivered.store(now, Ordering::Relaxed);
            }
        }
        Some(delivery)
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

/// An event in a consumer's hands. It may move between threads; dropped, it counts as delivered.
pub struct Delivery<I: Interest> {
    /// Present until it is settled.
    taken: Option<Taken>,
    shared: Arc<MailboxShared>,
    known_as: KnownAs,
    /// The handler's word, where others may still hold the delivery.
    has_failed: AtomicBool,
    interest: PhantomData<fn(I)>,
}

impl<I: Interest> Delivery<I> {
    /// Settles the delivery as failed once nobody holds it any more.
    pub(crate) fn mark_failed(&self) {
        // Relaxed: the last holder is ordered after all others by whatever shares the delivery.
        self.has_failed.store(true, Ordering::Relaxed);
    }

    fn taken(&self) -> &Taken {
        self.taken.as_ref().expect("a delivery holds its cell until it is settled")
    }

    fn header(&self) -> &Header {
        Header::of_words(self.taken().parts().0)
    }

    /// Events waiting in the mailbox it came from.
    pub(crate) fn queued_behind(&self) -> u64 {
        self.shared.custody.queued()
    }

    /// Everything about the event but its payload.
    pub fn meta(&self) -> Meta<'_> {
        let (_, rest) = self.taken().parts();
        let header = self.header();
        Meta::new(header, rest, self.taken().sequence(), &self.shared.directory)
            .expect("a worker queues only frames that it could read")
    }

    /// The event, read in place.
    ///
    /// # Errors
    /// For typed topics, when the payload is in another encoding or, coming from outside, is not valid.
    pub fn event(&self) -> Result<I::View<'_>, DecodeError> {
        I::view(&self.meta(), self.known_as)
    }

    /// Settles the delivery as failed, for this reason.
    pub fn fail(self, reason: impl Into<String>) {
        self.settle(&Outcome::Failed(reason.into()));
    }

    /// Gives the event up: its deadline has passed.
    fn expire(mut self) {
        self.shared.expired.add(1);
        self.finish();
    }

    /// Gives the event up: its subscription has ended before its handler was called. For the mailbox's own consumer.
    pub(crate) fn discard(mut self) {
        self.shared.discarded.add(1);
        self.finish();
    }

    /// Shares the delivery, in the memory of a settled one that nobody else holds.
    pub(crate) fn share(self, settled: Option<Arc<Self>>) -> Arc<Self> {
        if let Some(mut settled) = settled
            && let Some(place) = Arc::get_mut(&mut settled)
        {
            *place = self;
            return settled;
        }
        Arc::new(self)
    }

    /// Settles a delivery that its handler may have kept a clone of: then it is settled with the last one, else now, and
    /// its memory is given back for the next.
    pub(crate) fn settle_shared(mut delivery: Arc<Self>) -> Option<Arc<Self>> {
        Arc::get_mut(&mut delivery)?.settle_as_marked();
        Some(delivery)
    }

    fn settle_as_marked(&mut self) {
        if self.taken.is_some() {
            // Relaxed: see `mark_failed`.
            let failed = std::thread::panicking() || self.has_failed.load(Ordering::Relaxed);
            let counter = if failed { &self.shared.failed } else { &self.shared.delivered };
            counter.add(1);
            self.finish();
        }
    }

    /// Settles the delivery by what its handler returned.
    pub(crate) fn settle(mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Ack => &self.shared.delivered,
            Outcome::Failed(_) => &self.shared.failed,
        };
        counter.add(1);
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.shared.custody.settle(taken);
        }
    }
}

impl Delivery<Pattern> {
    /// The payload as it is.
    pub fn payload(&self) -> Payload<'_> {
        self.meta().payload()
    }
}

impl<I: Interest> Drop for Delivery<I> {
    fn drop(&mut self) {
        self.settle_as_marked();
    }
}

impl<I: Interest> fmt::Debug for Delivery<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("meta", &self.meta()).finish_non_exhaustive()
    }
}
