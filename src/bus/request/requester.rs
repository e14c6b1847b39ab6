//! Who asks: publishes queries, and waits for the answers to them, blocking or async.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use crate::bus::publisher::Outgoing;
use crate::bus::{Bus, Driver, Inner, PublishError, SubscribeError, Subscription};
use crate::delivery::{Delivery, Overflow};
use crate::event::{Event, Meta, Priority, Topic};
use crate::routing::Filter;
use crate::sync::primitive::thread;
use crate::sync::waker::of_this_thread;
use crate::worker::{Phase, on_worker_thread};

use super::RequestError;
use super::pending::{Asked, PENDING_MAX, Pending, is_of, tag_of};

/// Requests that may wait at a time, unless the user says how many.
const PENDING: usize = 1_024;

/// Asks questions of type `Q` on one topic and gets answers of type `A` on another. Shared by any number of threads and tasks.
///
/// ```
/// use ringmain::{Bus, Topic};
/// use rkyv::{Archive, Serialize};
/// use std::time::Duration;
///
/// #[derive(Archive, Serialize)]
/// struct PriceOf { item: u32 }
/// #[derive(Archive, Serialize)]
/// struct Price { cents: u64 }
///
/// const PRICE_OF: Topic<PriceOf> = Topic::new("price.query");
/// const PRICE: Topic<Price> = Topic::new("price.answer");
///
/// let bus = Bus::builder().build()?;
/// let _shop = bus.subscribe(PRICE_OF).respond(PRICE, |query, _| Price { cents: u64::from(query.item.to_native()) * 100 })?;
///
/// let prices = bus.requester(PRICE_OF, PRICE)?;
/// let answer = prices.request(&PriceOf { item: 7 }, Duration::from_secs(5))?;
/// assert_eq!(answer.get().cents, 700);
/// # drop(answer);
/// # bus.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The answer to a query is the event on the answer's topic whose correlation is the query's id. Several requesters on one pair
/// of topics do not take each other's answers; plain subscriptions to the answer's topic see them all.
///
/// Dropped, it unsubscribes, and requests that wait end with [`RequestError::ShuttingDown`]. It does not keep its bus alive.
pub struct Requester<Q: Event, A: Event> {
    bus: Weak<Inner>,
    query: Topic<Q>,
    query_type: u32,
    priority: Priority,
    pending: Arc<Pending<A>>,
    /// The worker that brings the answers.
    worker: usize,
    subscription: Subscription,
}

impl Bus {
    /// A requester that publishes queries on `query` and gets their answers on `answer`; at most 1,024 requests wait at a time.
    ///
    /// # Errors
    /// As for any subscription: see [`SubscribeError`].
    pub fn requester<Q: Event, A: Event>(
        &self,
        query: Topic<Q>,
        answer: Topic<A>,
    ) -> Result<Requester<Q, A>, SubscribeError> {
        self.requester_of(query, answer, PENDING)
    }

    /// As [`requester`](Self::requester), with another limit: at most `pending_max` requests, from 1 to 65,536, wait at a time.
    /// Each takes memory for one answer, which is reserved here: about a slot of the bus.
    ///
    /// # Errors
    /// As for any subscription: see [`SubscribeError`].
    pub fn requester_of<Q: Event, A: Event>(
        &self,
        query: Topic<Q>,
        answer: Topic<A>,
        pending_max: usize,
    ) -> Result<Requester<Q, A>, SubscribeError> {
        if pending_max == 0 || pending_max > PENDING_MAX {
            return Err(SubscribeError::PendingMax { pending_max, max: PENDING_MAX });
        }
        let shared = self.shared();
        let query_type = shared.bind(query)?;
        let tag = tag_of(self.lend().map_err(SubscribeError::of_publisher)?.publisher().fresh_id());
        let clock = shared.engine.directory.clock.clone();
        let wish = self
            .subscribe(answer)
            .named(format!("requester of {}", query.name()))
            .handler_id("requester")
            .filter(Filter::all().matching(move |meta| meta.correlation().is_some_and(|id| is_of(id, tag))))
            .capacity(pending_max)
            .overflow(Overflow::DropNewest);
        let (subscription, worker, pending) =
            wish.at_desk(|known_as| Pending::new(pending_max, tag, known_as, clock))?;
        let bus = Arc::downgrade(&self.inner);
        Ok(Requester { bus, query, query_type, priority: Priority::Normal, pending, worker, subscription })
    }
}

impl<Q: Event, A: Event> Requester<Q, A> {
    /// The priority of its queries, and so of their answers. Default Normal.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Requests that wait for their answers, or whose answers wait for them.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Answers that no request waited for any more: after its time, after it was cancelled, or a second one. They also count as
    /// failed in the [record](Self::record).
    pub fn late(&self) -> u64 {
        self.pending.late()
    }

    /// The subscription to its answers as it stands.
    pub fn record(&self) -> crate::SubscriptionRecord {
        self.subscription.record()
    }

    /// Publishes the query and waits for its answer, at most `timeout`, by the bus's clock. The query expires then: a responder
    /// that has not begun with it does not begin any more.
    ///
    /// In a [simulation](crate::testing) nothing waits: the workers are turned until they are idle, and then the time is over.
    ///
    /// # Errors
    /// See [`RequestError`]. On a worker, and in a handler behind a mailbox, it is refused at once.
    pub fn request(&self, query: &Q, timeout: Duration) -> Result<Answer<A>, RequestError> {
        if on_worker_thread() {
            return Err(RequestError::OnWorker);
        }
        let bus = self.bus()?;
        if bus.shared().is_called_by_this_thread() {
            return Err(RequestError::InHandler);
        }
        let asked = self.ask(&bus, timeout)?;
        let mut lent = bus.lend()?;
        self.event(lent.publisher().event(), &asked, timeout).publish_deadline(self.query, query, timeout)?;
        drop(lent);
        let is_manual = matches!(bus.shared().driver, Driver::Manual(_));
        if is_manual {
            bus.shared().drive_until_idle();
        }
        drop(bus);
        let waker = of_this_thread();
        loop {
            asked.wait(&waker);
            match asked.look() {
                Some(result) => return result.and_then(Answer::new),
                None if is_manual => return Err(asked.timed_out()),
                None => thread::park_timeout(asked.left()),
            }
        }
    }

    /// As [`request`](Self::request), without blocking the thread, on any async runtime. Nothing is published before it is
    /// polled. Dropped, it is cancelled: its place is free, and an answer that still comes is late.
    ///
    /// The end of its time is told by the worker that brings the answers: one that is held up by an inline handler tells late.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request_async(&self, query: &Q, timeout: Duration) -> Result<Answer<A>, RequestError> {
        let asked = {
            let bus = self.bus()?;
            let asked = self.ask(&bus, timeout)?;
            let engine = &bus.shared().engine;
            engine.alarms[self.worker].set(asked.deadline(), &engine.parker);
            let mut lent = bus.lend()?;
            let event = self.event(lent.publisher().event(), &asked, timeout);
            let mut publishing = pin!(event.publish_async(self.query, query));
            let over = poll_fn(|context| {
                asked.wait(context.waker());
                match asked.look() {
                    Some(over) => Poll::Ready(over.map(|_| ())),
                    None => publishing.as_mut().poll(context).map(|result| Ok(result.map(|_| ())?)),
                }
            });
            over.await?;
            asked
        };
        let answered = poll_fn(|context| {
            asked.wait(context.waker());
            asked.look().map_or(Poll::Pending, Poll::Ready)
        });
        answered.await.and_then(Answer::new)
    }

    fn bus(&self) -> Result<Bus, RequestError> {
        self.bus.upgrade().map(|inner| Bus { inner }).ok_or(RequestError::ShuttingDown)
    }

    /// Takes a place, if there is anybody to ask.
    fn ask(&self, bus: &Bus, timeout: Duration) -> Result<Asked<A>, RequestError> {
        let engine = &bus.shared().engine;
        if engine.phase() != Phase::Running {
            return Err(RequestError::ShuttingDown);
        }
        if engine.wants.workers(self.query_type, self.priority.lane()) == 0 {
            return Err(RequestError::NoResponder { topic: self.query.name() });
        }
        self.pending.ask(timeout)
    }

    fn event<'p>(&self, event: Outgoing<'p>, asked: &Asked<A>, timeout: Duration) -> Outgoing<'p> {
        event.priority(self.priority).id(asked.id()).expires_after(timeout)
    }
}

impl<Q: Event, A: Event> fmt::Debug for Requester<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Requester");
        debug
            .field("query", &self.query)
            .field("pending", &self.pending())
            .field("late", &self.late())
            .finish_non_exhaustive()
    }
}

/// The answer to a request, read in place. It holds one cell of the requester's memory until it is dropped, and like a
/// [`Delivery`] it is in a consumer's hands: [`Bus::flush`] waits for it.
pub struct Answer<A: Event>(Delivery<Topic<A>>);

impl<A: Event> Answer<A> {
    fn new(delivery: Delivery<Topic<A>>) -> Result<Self, RequestError> {
        match delivery.event() {
            Ok(_) => Ok(Self(delivery)),
            Err(error) => Err(RequestError::Undecodable(error)),
        }
    }

    /// The answer.
    pub fn get(&self) -> &A::Archived {
        self.0.event().expect("it was read when it came")
    }

    /// Everything about the answer's event but its payload: its correlation and causation are the query's id.
    pub fn meta(&self) -> Meta<'_> {
        self.0.meta()
    }
}

impl<A: Event> fmt::Debug for Answer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.meta()).finish()
    }
}

impl SubscribeError {
    /// Why there is no publisher for a requester or responder.
    pub(super) fn of_publisher(error: PublishError) -> Self {
        match error {
            PublishError::NoPublisher { max } => Self::NoPublisher { max },
            _ => Self::ShuttingDown,
        }
    }
}
