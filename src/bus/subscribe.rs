//! Subscribing: what one wants, who handles it, and the handle that ends it.

use std::fmt;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{self, Poll};

use crossbeam::queue::ArrayQueue;

use crate::delivery::{
    Consumer, Context, Custom, Dedup, DedupWindow, Delivery, DeliveryMode, Dispatch, Farewell, Fed, Handler, HandlerId,
    Interest, KEYS_MAX, Kept, Key, Mailbox, MailboxShared, Notice, Outcome, Overflow, REDRIVEN_MAX, Reliable,
    RetryPolicy, Sink, State, SubscriptionId, SubscriptionRecord, SubscriptionState, Typed, Untyped,
};
use crate::event::{Event, EventId, EventSource, KnownAs, Meta, Payload, RustType, Topic};
use crate::ring::{ATTEMPTS_MAX, Attempts, Custody, DrainOrder, RELEASES_MAX};
use crate::routing::{CompiledFilter, Filter, Pattern, PatternError};
use crate::sync::bell::Bell;
use crate::sync::owned::OwnedCell;
use crate::sync::primitive::thread::Builder;
use crate::sync::primitive::{AtomicU32, AtomicU64};
use crate::worker::{Engine, Phase, call_behind_mailbox};

use super::mailbox_memory::{MailboxMemory, Wish};
use super::subscribe_error::SubscribeError;
use super::subscription::Subscription;
use super::{Bus, Shared};

/// A pattern, and for a typed topic its name and Rust type.
type Wanted = (Pattern, Option<(&'static str, RustType)>);

/// Mailboxes may hold this many events.
const MAILBOX_MAX: usize = 1 << 24;
/// Keys of which events wait, unless the subscriber says how many.
const KEYS: usize = 1_024;

/// What can be subscribed to: a [`Topic`], or a pattern as text or [`Pattern`].
pub trait IntoInterest {
    /// What handlers see the event through.
    type Interest: Interest;

    #[doc(hidden)]
    fn into_parts(self) -> Result<Wanted, PatternError>;
}

impl<E: Event> IntoInterest for Topic<E> {
    type Interest = Topic<E>;

    fn into_parts(self) -> Result<Wanted, PatternError> {
        Ok((Pattern::new(self.name())?, Some((self.name(), RustType::of::<E>()))))
    }
}

impl IntoInterest for Pattern {
    type Interest = Pattern;

    fn into_parts(self) -> Result<Wanted, PatternError> {
        Ok((self, None))
    }
}

impl IntoInterest for &str {
    type Interest = Pattern;

    fn into_parts(self) -> Result<Wanted, PatternError> {
        Ok((Pattern::new(self)?, None))
    }
}

impl Bus {
    /// Begins a subscription to a topic or a pattern. End it with `handle`, `handler`, `handle_on`, `mailbox` or `run`.
    ///
    /// In a pattern `*` is one segment, `**` any number, a lone `*` everything.
    pub fn subscribe<T: IntoInterest>(&self, what: T) -> Subscribe<T::Interest> {
        let capacity = self.shared().settings.mailbox_capacity;
        Subscribe {
            shared: Arc::clone(self.shared()),
            what: what.into_parts(),
            name: None,
            filters: Vec::new(),
            worker: None,
            capacity,
            overflow: Overflow::default(),
            mode: DeliveryMode::default(),
            retry: RetryPolicy::default(),
            order: None,
            latest_by: None,
            keys_max: None,
            suspend_after: 0,
            dedup: None,
            handler_id: None,
            interest: PhantomData,
        }
    }

    /// All subscriptions, oldest first.
    pub fn subscriptions(&self) -> Vec<SubscriptionRecord> {
        let clock = &self.shared().engine.directory.clock;
        self.shared().control().subscriptions().map(|subscription| subscription.record(clock)).collect()
    }

    /// One subscription.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn subscription(&self, id: SubscriptionId) -> Result<SubscriptionRecord, SubscribeError> {
        let clock = &self.shared().engine.directory.clock;
        let control = self.shared().control();
        control.find(id).map(|found| found.record(clock)).ok_or(SubscribeError::NotFound(id))
    }

    /// Ends a subscription. When it returns, no call of its handler can begin any more.
    ///
    /// # Errors
    /// When there is none of this id, on a worker thread, or when the worker does not answer in time.
    pub fn unsubscribe(&self, id: SubscriptionId) -> Result<(), SubscribeError> {
        if crate::worker::on_worker_thread() {
            return Err(SubscribeError::OnWorker);
        }
        self.shared().remove(id, true)?.map(drop).ok_or(SubscribeError::NotFound(id))
    }

    /// Ends all subscriptions of this pattern and handler id. Returns how many.
    ///
    /// # Errors
    /// On a worker thread, or when a worker does not answer in time.
    pub fn unsubscribe_handler(&self, pattern: &str, handler: &HandlerId) -> Result<usize, SubscribeError> {
        if crate::worker::on_worker_thread() {
            return Err(SubscribeError::OnWorker);
        }
        let ids: Vec<_> = {
            let control = self.shared().control();
            let found = control
                .subscriptions()
                .filter(|subscription| subscription.pattern.as_str() == pattern && subscription.handler_id == *handler);
            found.map(|subscription| subscription.id).collect()
        };
        ids.iter().try_for_each(|&id| self.unsubscribe(id))?;
        Ok(ids.len())
    }

    /// Stops a subscription for now: a mailbox holds what comes, an inline handler drops and counts it.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn pause(&self, id: SubscriptionId) -> Result<(), SubscribeError> {
        self.set_state(id, State::Paused)
    }

    /// Lets a paused subscription go on.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn resume(&self, id: SubscriptionId) -> Result<(), SubscribeError> {
        self.set_state(id, State::Active)
    }

    fn set_state(&self, id: SubscriptionId, state: State) -> Result<(), SubscribeError> {
        let found = self.shared().control().find(id).cloned().ok_or(SubscribeError::NotFound(id))?;
        found.set_state(state);
        if found.is_own_consumer {
            // Its worker takes up what was held.
            self.shared().engine.alarms[found.worker].set(0, &self.shared().engine.parker);
        }
        Ok(())
    }
}

/// A subscription under way.
#[must_use = "nothing is subscribed until `handle`, `handler`, `handle_on`, `mailbox` or `run` is called"]
pub struct Subscribe<I: Interest> {
    shared: Arc<Shared>,
    what: Result<Wanted, PatternError>,
    name: Option<String>,
    filters: Vec<Filter>,
    worker: Option<usize>,
    capacity: usize,
    overflow: Overflow,
    mode: DeliveryMode,
    retry: RetryPolicy,
    order: Option<Key>,
    latest_by: Option<Key>,
    keys_max: Option<usize>,
    suspend_after: u32,
    dedup: Option<DedupWindow>,
    handler_id: Option<HandlerId>,
    interest: PhantomData<fn(I)>,
}

impl<I: Interest> Subscribe<I> {
    /// Names the subscriber in records, notices and metrics. Default: the pattern.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds conditions; several filters must all pass.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// The worker it belongs to. Default: the one with the fewest subscriptions.
    pub fn on_worker(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Events the mailbox holds, rounded up to a power of two; under latest-only delivery those in its consumer's hands, and
    /// not rounded. Default 1,024 (`mailbox_capacity`).
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// What happens when the mailbox is full. Default: the lane waits.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// How hard it tries. Default: best effort.
    pub fn mode(mut self, mode: DeliveryMode) -> Self {
        self.mode = mode;
        self
    }

    /// How often reliable delivery tries an event, and how long it waits in between. Default: three attempts.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Keeps the order of reliably delivered events that have this in common, also where one of them is tried again: those
    /// behind it wait in the mailbox until it is over. Where the consumer is not the worker, a turn in which one is over costs a
    /// look at all cells: about a microsecond for a thousand.
    /// Default: what is tried again comes behind what was queued meanwhile.
    pub fn ordered_by(mut self, key: Key) -> Self {
        self.order = Some(key);
        self
    }

    /// Lets the newest event of each key wait, instead of one for the whole subscription, under
    /// [latest-only](DeliveryMode::LatestOnly) delivery. Events without a key are one kind more together.
    pub fn latest_by(mut self, key: Key) -> Self {
        self.latest_by = Some(key);
        self
    }

    /// Keys of which an event may wait at a time, where [`latest_by`](Self::latest_by) gives keys; an event of one key more meets
    /// a full mailbox, and the [`Overflow`] policy. From 1 to 16,777,216, each for a cell of memory. Default 1,024.
    pub fn keys_max(mut self, keys: usize) -> Self {
        self.keys_max = Some(keys);
        self
    }

    /// Suspends a subscription with reliable delivery after so many dead letters in a row: it is paused, with a
    /// [`Notice::Suspended`](crate::Notice::Suspended), until [`Bus::resume`]. While it is, its events gather in its mailbox; when that is full they hold its lanes up, or become dead letters under
    /// [`Overflow::DropNewest`]. Default 0: never.
    pub fn suspend_after(mut self, dead_letters: u32) -> Self {
        self.suspend_after = dead_letters;
        self
    }

    /// Drops and counts events that come again within this window, before anything else is made of them. Attempts at one event
    /// are no duplicates. Default: none.
    pub fn dedup(mut self, window: DedupWindow) -> Self {
        self.dedup = Some(window);
        self
    }

    /// Names the handler. Default: the name of its type.
    pub fn handler_id(mut self, id: impl Into<String>) -> Self {
        self.handler_id = Some(HandlerId::new(id));
        self
    }

    /// Calls `handler` on the worker for each event, which it reads in place. It must be short: a slow one delays
    /// everything on its worker, and one that hangs stops the lanes.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handler(self, handler: impl Handler<I>) -> Result<Subscription, SubscribeError> {
        let id = self.handler_id.clone().unwrap_or_else(|| handler.id());
        self.inline(id, |known_as| Box::new(Custom { handler, known_as, interest: PhantomData::<fn(I)> }))
    }

    /// A queue of one's own, to pull events from on any thread or async runtime.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn mailbox(self) -> Result<Mailbox<I>, SubscribeError> {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new("mailbox"));
        self.queued(id)
    }

    /// Calls `handler` for each event on a thread of its own named `thread`, behind a mailbox: it may be slow.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handler_on(self, thread: &str, mut handler: impl Handler<I>) -> Result<Subscription, SubscribeError> {
        let id = self.handler_id.clone().unwrap_or_else(|| handler.id());
        self.on_thread(thread, id, move |delivery, meta, context| {
            delivery.event().map(|event| handler.handle(event, meta, context))
        })
    }

    /// Checks everything that can be wrong before anything is made.
    fn check(&self) -> Result<(Pattern, KnownAs), SubscribeError> {
        if crate::worker::on_worker_thread() {
            return Err(SubscribeError::OnWorker);
        }
        if self.shared.engine.phase() != Phase::Running {
            return Err(SubscribeError::ShuttingDown);
        }
        let (pattern, typed) = self.what.clone().map_err(SubscribeError::Pattern)?;
        let (bytes, max) =
            (self.filters.iter().map(Filter::source_bytes_max).max().unwrap_or(0), EventSource::BYTES_MAX);
        if bytes > max {
            return Err(SubscribeError::SourceTooLong { bytes, max });
        }
        let workers = self.shared.engine.workers();
        if let Some(worker) = self.worker.filter(|&worker| worker >= workers) {
            return Err(SubscribeError::NoWorker { worker, workers });
        }
        self.check_mode()?;
        let Some((name, rust)) = typed else { return Ok((pattern, KnownAs::UNKNOWN)) };
        let type_id = self.shared.type_id(name);
        self.shared.engine.directory.bind(type_id, name, rust).map_err(SubscribeError::TypeConflict)?;
        // Beyond types_max the bus keeps no Rust types, so nothing it carries there is trusted.
        Ok((pattern, if type_id == 0 { KnownAs::UNKNOWN } else { KnownAs::bound(rust.id) }))
    }

    fn check_mode(&self) -> Result<(), SubscribeError> {
        let is_by_key = self.mode == DeliveryMode::LatestOnly && self.latest_by.is_some();
        let (keys_max, max) = (self.keys_max, MAILBOX_MAX);
        if !is_by_key && (self.latest_by.is_some() || keys_max.is_some()) {
            return Err(SubscribeError::NotByKey);
        }
        if let Some(keys_max) = keys_max.filter(|&keys_max| keys_max == 0 || keys_max > max) {
            return Err(SubscribeError::KeysMax { keys_max, max });
        }
        let DeliveryMode::Reliable { timeout } = self.mode else {
            return if self.order.is_some() { Err(SubscribeError::Unordered) } else { Ok(()) };
        };
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let limits = [
            ("timeout in ms", milliseconds, 1, 24 * 3_600_000),
            ("attempts_max", u64::from(self.retry.attempts_max), 1, u64::from(ATTEMPTS_MAX)),
            ("releases_max", u64::from(self.retry.releases_max), 0, u64::from(RELEASES_MAX)),
        ];
        for (setting, value, min, max) in limits {
            if value < min || value > max {
                return Err(SubscribeError::Reliability { setting, value, min, max });
            }
        }
        match self.overflow {
            Overflow::Block | Overflow::DropNewest => Ok(()),
            overflow => Err(SubscribeError::Lossy(overflow)),
        }
    }

    fn inline(
        self,
        handler_id: HandlerId,
        make: impl FnOnce(KnownAs) -> Box<dyn Dispatch>,
    ) -> Result<Subscription, SubscribeError> {
        let (pattern, known_as) = self.check()?;
        let handler = Kept::new(make(known_as));
        let shared = Arc::clone(&self.shared);
        let made = match self.mode {
            DeliveryMode::BestEffort => {
                self.add(pattern, handler_id, false, |_, _, owner, _| Sink::Inline(OwnedCell::new(owner, handler)))?
            }
            DeliveryMode::Reliable { .. } => self.add_mailbox(pattern, known_as, handler_id, Some(handler))?.0,
            DeliveryMode::LatestOnly => return Err(SubscribeError::NeverBehind),
        };
        Ok(Subscription::new(&shared, made))
    }

    fn queued(self, handler_id: HandlerId) -> Result<Mailbox<I>, SubscribeError> {
        let (pattern, known_as) = self.check()?;
        let shared = Arc::clone(&self.shared);
        let (made, mailbox) = self.add_mailbox(pattern, known_as, handler_id, None)?;
        let order = DrainOrder::new(shared.settings.critical_burst_max);
        let farewell = farewell(Arc::downgrade(&shared), &made, Arc::clone(&mailbox));
        Ok(Mailbox::new(made.id, mailbox, order, known_as, farewell))
    }

    /// Adds a subscription with a mailbox. Its consumer is `handler`, on the worker, or whoever asks for the mailbox.
    fn add_mailbox(
        self,
        pattern: Pattern,
        known_as: KnownAs,
        handler_id: HandlerId,
        handler: Option<Kept>,
    ) -> Result<(Arc<SubscriptionState>, Arc<MailboxShared>), SubscribeError> {
        let (capacity, max) = (self.capacity, MAILBOX_MAX);
        if capacity == 0 || capacity > max {
            return Err(SubscribeError::Capacity { capacity, max });
        }
        let shared = Arc::clone(&self.shared);
        let (engine, settings) = (&shared.engine, &shared.settings);
        let wish = match self.mode {
            DeliveryMode::BestEffort => Wish::Queue { capacity: capacity.next_power_of_two() },
            DeliveryMode::Reliable { .. } => {
                Wish::Reliable { capacity: capacity.next_power_of_two(), is_keyed: self.order.is_some() }
            }
            DeliveryMode::LatestOnly => Wish::Latest {
                held_max: capacity,
                key: self.latest_by.clone(),
                keys_max: self.keys_max.unwrap_or(KEYS),
            },
        };
        let MailboxMemory { intake, waits, cells, latency, words, keyed } = MailboxMemory::new(&shared, &wish)
            .ok_or_else(|| SubscribeError::Memory { capacity: wish.cells(), bytes: wish.bytes(&shared) })?;
        let (overflow, retry, order) = (self.overflow, self.retry, self.order.clone());
        let (suspend_after, is_own_consumer) = (self.suspend_after, handler.is_some());
        let timeout_ns = match self.mode {
            DeliveryMode::BestEffort | DeliveryMode::LatestOnly => 0,
            DeliveryMode::Reliable { timeout } => timeout.as_nanos() as u64,
        };
        let consumer = handler.map(|handler| Consumer { handler, order: DrainOrder::new(engine.critical_burst_max) });
        let mut mailbox = None;
        let made = self.add(pattern, handler_id, is_own_consumer, |id, name, owner, worker| {
            let custody = Custody::new(cells, worker, Arc::clone(&engine.parker), Arc::clone(&engine.gate));
            let custody = Arc::new(custody);
            let reliable = words.map(|words| {
                let (alarm, parker) = (Arc::clone(&engine.alarms[worker]), Arc::clone(&engine.parker));
                Reliable {
                    attempts: Arc::new(Attempts::new(
                        words,
                        Arc::clone(&custody),
                        alarm,
                        parker,
                        engine.barrier,
                        order.is_some(),
                    )),
                    timeout_ns,
                    retry,
                    order,
                    seed: settings.id_seed.map_or_else(|| id.seed(), |seed| seed_of(seed, name)),
                    subscription: id,
                    name: name.to_owned(),
                    known_as,
                    letters: Arc::clone(&engine.dead_letters),
                    directory: Arc::clone(&engine.directory),
                    lost: Bell::new(engine.barrier),
                    redriven: ArrayQueue::new(REDRIVEN_MAX),
                    returning: AtomicU64::new(0),
                    suspend_after,
                    deaths: AtomicU32::new(0),
                }
            });
            let directory = Arc::clone(&engine.directory);
            let bell = Bell::new(engine.barrier);
            let made = Arc::new(MailboxShared::new(custody, reliable, waits, overflow, bell, directory, latency));
            mailbox = Some(Arc::clone(&made));
            Sink::Mailbox(made, OwnedCell::new(owner, Fed { intake, keyed, consumer }))
        })?;
        Ok((made, mailbox.expect("`add` makes the sink exactly once")))
    }

    fn add(
        self,
        pattern: Pattern,
        handler_id: HandlerId,
        is_own_consumer: bool,
        sink: impl FnOnce(SubscriptionId, &str, crate::sync::owned::OwnerId, usize) -> Sink,
    ) -> Result<Arc<SubscriptionState>, SubscribeError> {
        let name = self.name.unwrap_or_else(|| pattern.as_str().to_owned());
        let directory = &self.shared.engine.directory;
        let filter = CompiledFilter::new(self.filters, directory);
        let created = directory.clock.now();
        let id = SubscriptionId(EventId::random());
        let wish = self.worker;
        let dedup = self.dedup.map(|window| {
            let (keys, max) = (window.keys(), KEYS_MAX);
            if keys == 0 || keys > max {
                return Err(SubscribeError::Window { keys, max, bytes: 0 });
            }
            let bytes = Dedup::bytes_for(keys);
            Dedup::new(window).ok_or(SubscribeError::Window { keys, max, bytes })
        });
        let dedup = dedup.transpose()?;
        let made = self.shared.add(|control, starts| {
            let worker = wish.unwrap_or_else(|| control.least_loaded());
            let sink = sink(id, &name, control.owner(worker), worker);
            let dedup = dedup.map(|dedup| {
                let bytes = dedup.reserved_bytes();
                (OwnedCell::new(control.owner(worker), dedup), bytes)
            });
            SubscriptionState::new(
                id,
                name,
                pattern,
                filter,
                handler_id,
                created,
                worker,
                starts,
                sink,
                is_own_consumer,
                dedup,
            )
        })?;
        Ok(made)
    }

    fn on_thread(
        self,
        thread: &str,
        handler_id: HandlerId,
        mut call: impl FnMut(&Delivery<I>, &Meta<'_>, &Context<'_>) -> Result<Outcome, crate::DecodeError> + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        if thread.contains('\0') {
            return Err(SubscribeError::Thread(format!("{thread:?} has a zero byte, which no thread name may have")));
        }
        let shared = Arc::clone(&self.shared);
        let mut mailbox = self.queued(handler_id)?;
        let id = mailbox.id();
        let state = shared.control().find(id).cloned().ok_or(SubscribeError::ShuttingDown)?;
        let engine = Arc::clone(&shared.engine);
        let subscription = Arc::clone(&state);
        let spawned = Builder::new().name(thread.to_owned()).spawn(move || {
            while let Ok(delivery) = mailbox.recv() {
                let Some(_calling) = subscription.calls().begin(engine.barrier) else {
                    delivery.discard();
                    break;
                };
                settle_by(&engine, &subscription, delivery, &mut call);
            }
        });
        let handle = spawned.map_err(|error| SubscribeError::Thread(error.to_string()))?;
        state.give_thread();
        let mut control = shared.control();
        // A handle that is kept keeps the stack of a thread that is gone.
        control.handler_threads.retain(|thread| !thread.is_finished());
        control.handler_threads.push(handle);
        drop(control);
        Ok(Subscription::new(&shared, state))
    }
}

impl<E: Event> Subscribe<Topic<E>> {
    /// Calls `handler` on the worker with each event, read in place, and its metadata. It must be short: a slow one
    /// delays everything on its worker, and one that hangs stops the lanes.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle<R, F>(self, handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(&E::Archived, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.inline(id, |known_as| Box::new(Typed::<E, F> { closure: handler, trust: known_as.trust() }))
    }

    /// Calls `handler` for each event on a thread of its own named `thread`, behind a mailbox: it may be slow.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle_on<R, F>(self, thread: &str, mut handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(&E::Archived, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.on_thread(thread, id, move |delivery, meta, _| delivery.event().map(|event| handler(event, meta).into()))
    }
}

impl Subscribe<Pattern> {
    /// Calls `handler` on the worker with each event's payload, in place, and its metadata. It must be short: a slow
    /// one delays everything on its worker, and one that hangs stops the lanes.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle<R, F>(self, handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(Payload<'_>, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.inline(id, |_| Box::new(Untyped(handler)))
    }

    /// Calls `handler` for each event on a thread of its own named `thread`, behind a mailbox: it may be slow.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn handle_on<R, F>(self, thread: &str, mut handler: F) -> Result<Subscription, SubscribeError>
    where
        R: Into<Outcome> + 'static,
        F: FnMut(Payload<'_>, &Meta<'_>) -> R + Send + 'static,
    {
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        self.on_thread(thread, id, move |_, meta, _| Ok(handler(meta.payload(), meta).into()))
    }
}

impl<I: Interest> Subscribe<I> {
    /// A future that hands each event to the async `handler`, one at a time; spawn it on any runtime. It ends with
    /// the subscription, and dropped it unsubscribes.
    ///
    /// While the mailbox is full and holds its lane up, nothing but the end of the handler's future makes room. So what
    /// that future publishes into a full lane, waiting or awaiting, is refused with
    /// [`PublishError::Full`](crate::PublishError::Full) at once; that holds for what is polled as part of it, not for
    /// tasks it spawns and then awaits.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn run<R, Fut, F>(self, mut handler: F) -> Result<impl Future<Output = ()> + use<I, R, Fut, F>, SubscribeError>
    where
        R: Into<Outcome>,
        Fut: Future<Output = R>,
        F: FnMut(Arc<Delivery<I>>) -> Fut,
    {
        let shared = Arc::clone(&self.shared);
        let id = self.handler_id.clone().unwrap_or_else(|| HandlerId::new(std::any::type_name::<F>()));
        let mut mailbox = self.queued(id)?;
        let state = shared.control().find(mailbox.id()).cloned().ok_or(SubscribeError::ShuttingDown)?;
        let engine = Arc::clone(&shared.engine);
        drop(shared);
        Ok(async move {
            // One allocation for all events, unless the handler keeps one of them.
            let mut held = None;
            let mut known = None;
            while let Ok(delivery) = mailbox.recv_async().await {
                let Some(calling) = state.calls().begin(engine.barrier) else {
                    delivery.discard();
                    break;
                };
                let delivery = delivery.share(held.take());
                let handling = handler(Arc::clone(&delivery));
                drop(calling);
                // `None`: the event was taken away, its time being over, and the handler's future is dropped.
                let outcome = {
                    let mut handling = pin!(Some(handling));
                    // Named in each step, on whichever thread: what the handler publishes does not wait for its own mailbox.
                    // Its end is such a step too: drops are the handler's code.
                    let mut step = |context: &mut task::Context<'_>| {
                        delivery.wait(context.waker(), &mut known);
                        if !delivery.is_current() {
                            handling.set(None);
                            return Poll::Ready(None);
                        }
                        let outcome = handling.as_mut().as_pin_mut().expect("it has not ended").poll(context);
                        if outcome.is_ready() {
                            handling.set(None);
                        }
                        outcome.map(Some)
                    };
                    poll_fn(|context| state.calls().poll(|| step(context))).await.map(Into::into)
                };
                let outcome = outcome.unwrap_or_else(|| Outcome::Failed("its time was over".to_owned()));
                if let Outcome::Failed(error) | Outcome::Reject(error) = &outcome {
                    let (event, name) = (delivery.meta().id(), &state.name);
                    engine.notice(&Notice::HandlerFailed { subscription: state.id, name, event, error });
                }
                held = Delivery::settle_shared(delivery, outcome);
            }
        })
    }
}

/// What a subscription of this name draws chance from, where all of it comes from `seed`.
fn seed_of(seed: u64, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, name).hash(&mut hasher);
    hasher.finish()
}

/// Calls a handler behind a mailbox and settles the delivery.
fn settle_by<I: Interest>(
    engine: &Engine,
    subscription: &SubscriptionState,
    delivery: Delivery<I>,
    call: &mut impl FnMut(&Delivery<I>, &Meta<'_>, &Context<'_>) -> Result<Outcome, crate::DecodeError>,
) {
    let meta = delivery.meta();
    let lag = || delivery.queued_behind();
    let outcome = call_behind_mailbox(engine, subscription, &meta, lag, |meta, scene| {
        call(&delivery, meta, &Context { scene, meta, skipped: delivery.skipped() })
    });
    delivery.settle(&outcome);
}

/// How a mailbox takes its subscription with it.
fn farewell(shared: Weak<Shared>, subscription: &Arc<SubscriptionState>, mailbox: Arc<MailboxShared>) -> Farewell {
    let subscription = Arc::downgrade(subscription);
    Box::new(move |panicked| {
        let (Some(shared), Some(subscription)) = (shared.upgrade(), subscription.upgrade()) else { return };
        mailbox.custody().abandon();
        if subscription.state() != State::Closed {
            let (id, name) = (subscription.id, subscription.name.as_str());
            if shared.engine.phase() != Phase::Stopped {
                shared.engine.consumers_gone.add(1);
                shared.engine.notice(&Notice::ConsumerGone { subscription: id, name, panicked });
            }
            // A stuck worker does not change that the subscription is over.
            drop(shared.remove(id, !crate::worker::on_worker_thread()));
        }
        shared.fold_ended();
    })
}

impl<I: Interest> fmt::Debug for Subscribe<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe").field("what", &self.what).field("filters", &self.filters).finish_non_exhaustive()
    }
}
