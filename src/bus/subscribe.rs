//! Subscribing: what one wants, and on what terms.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{
    Balance, BreakerPolicy, DedupWindow, DeliveryMode, Desk, HandlerId, Interest, Key, OverLimit, Overflow, Rate,
    ReplayPolicy, RetryPolicy, SpillSource, SubscriptionId, SubscriptionState,
};
use crate::routing::{Filter, PatternError};

use super::{Bus, Shared};

mod check;
mod each;
mod endings;
mod interest;
mod make;

pub use interest::IntoInterest;
use interest::Wanted;

/// Mailboxes may hold this many events.
const MAILBOX_MAX: usize = 1 << 24;

/// Threads that replace one whose handler hangs, unless the subscriber says how many.
const REPLACEMENTS: u32 = 3;

impl Bus {
    /// Begins a subscription to a topic or a pattern. End it with `handle`, `handler`, `handle_on`, `mailbox` or `run`.
    ///
    /// In a pattern `*` is one segment, `**` any number, a lone `*` everything.
    pub fn subscribe<T: IntoInterest>(&self, what: T) -> Subscribe<T::Interest> {
        Subscribe::new(self.shared(), what)
    }
}

/// What a subscription is to be in a service.
pub(super) enum Part {
    /// None: it goes by its pattern.
    None,
    /// The service itself.
    Service(Balance),
    /// An instance.
    Instance { service: Arc<SubscriptionState>, name: String, weight: u32, priority: i32 },
}

/// A subscription under way.
#[must_use = "nothing is subscribed until `handle`, `handler`, `handle_on`, `mailbox` or `run` is called"]
pub struct Subscribe<I: Interest> {
    pub(super) shared: Arc<Shared>,
    what: Result<Wanted, PatternError>,
    name: Option<String>,
    id: Option<SubscriptionId>,
    filters: Vec<Filter>,
    worker: Option<usize>,
    capacity: usize,
    overflow: Overflow,
    spill: Option<Arc<dyn SpillSource>>,
    mode: DeliveryMode,
    retry: RetryPolicy,
    handler_timeout: Duration,
    order: Option<Key>,
    latest_by: Option<Key>,
    keys_max: Option<usize>,
    suspend_after: u32,
    breaker: Option<BreakerPolicy>,
    rate: Option<(Rate, OverLimit)>,
    dedup: Option<DedupWindow>,
    replay: ReplayPolicy,
    pub(super) handler_id: Option<HandlerId>,
    desk: Option<Arc<dyn Desk>>,
    replacements_max: u32,
    part: Part,
    /// A setting of instances was given to something else.
    misplaced: Option<&'static str>,
    interest: PhantomData<fn(I)>,
}

impl<I: Interest> Subscribe<I> {
    pub(super) fn new<T: IntoInterest<Interest = I>>(shared: &Arc<Shared>, what: T) -> Self {
        Self {
            shared: Arc::clone(shared),
            what: what.into_parts(),
            name: None,
            id: None,
            filters: Vec::new(),
            worker: None,
            capacity: shared.settings.mailbox_capacity,
            overflow: Overflow::default(),
            spill: None,
            mode: DeliveryMode::default(),
            retry: shared.settings.retry,
            handler_timeout: shared.settings.handler_timeout,
            order: None,
            latest_by: None,
            keys_max: None,
            suspend_after: 0,
            breaker: None,
            rate: None,
            dedup: None,
            replay: ReplayPolicy::Never,
            handler_id: None,
            desk: None,
            replacements_max: REPLACEMENTS,
            part: Part::None,
            misplaced: None,
            interest: PhantomData,
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn part(mut self, part: Part) -> Self {
        self.part = part;
        self
    }

    /// The share of an instance of a service in a [weighted draw](Balance::WeightedRandom). Default 1; 0 gets nothing there.
    pub fn weight(mut self, share: u32) -> Self {
        match &mut self.part {
            Part::Instance { weight, .. } => *weight = share,
            Part::None | Part::Service(_) => self.misplaced = Some("a weight"),
        }
        self
    }

    /// The priority of an instance of a service, where its strategy [looks at it](Balance::PriorityBased): higher comes first.
    /// Default 0.
    pub fn priority(mut self, rank: i32) -> Self {
        match &mut self.part {
            Part::Instance { priority, .. } => *priority = rank,
            Part::None | Part::Service(_) => self.misplaced = Some("a priority"),
        }
        self
    }

    /// Names the subscriber in records, notices and metrics. Default: the pattern.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Gives it the id that it had in an earlier process. Default: a random one.
    pub fn id(mut self, id: SubscriptionId) -> Self {
        self.id = Some(id);
        self
    }

    /// Its name: as [`named`](Self::named), else its pattern.
    pub fn name(&self) -> &str {
        let pattern = self.what.as_ref().map_or("", |(pattern, _)| pattern.as_str());
        self.name.as_deref().unwrap_or(pattern)
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
        self.spill = self.spill.filter(|_| policy == Overflow::Spill);
        self
    }

    /// When the mailbox is full its events stay in what `source` keeps of the bus, a journal for example, and come from there when
    /// the consumer has come so far: [`Overflow::Spill`]. The consumer gets each event once, those of one priority in order, and
    /// takes what is published again when it has caught up. Nobody waits for it, and no event is kept twice.
    ///
    /// What it has in the store is in its books as [`spilled`](crate::SubscriptionLedger::spilled), and a flush waits for it; what the
    /// store could not keep or cannot read is [dropped as lost](crate::Dropped::lost), said
    /// ([`Notice::SpillFailed`](crate::Notice::SpillFailed), [`Notice::SpillLost`](crate::Notice::SpillLost)) and counted. What is
    /// still there at the end of the bus stays in the store. Critical events overtake what is read back, but for those that the
    /// mailbox has no room for. Deadlines of events that come from the store go by the wall clock, and no latency is measured of them.
    ///
    /// # Cost
    /// A thread that sleeps while the consumer keeps up, and a buffer of as many events as the mailbox has. Until the mailbox is full
    /// a test for each event; then a count for each event that stays in the store, and a copy by the worker of each that comes back.
    ///
    /// # Errors
    /// When it is made: [`SubscribeError::NotCovered`](crate::SubscribeError::NotCovered), [`SubscribeError::SpillWith`](crate::SubscribeError::SpillWith).
    pub fn spill(mut self, source: Arc<dyn SpillSource>) -> Self {
        self.overflow = Overflow::Spill;
        self.spill = Some(source);
        self
    }

    /// How hard it tries. Default: best effort.
    pub fn mode(mut self, mode: DeliveryMode) -> Self {
        self.mode = mode.or_timeout(self.shared.settings.attempt_timeout);
        self
    }

    /// How often reliable delivery tries an event, and how long it waits in between. Default: what the bus has
    /// ([`BusBuilder::retry`](crate::BusBuilder::retry)), three attempts.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long its handler may have an event, 1 ms to 10 days; under [reliable](DeliveryMode::Reliable) delivery the mode's timeout if that
    /// is shorter. Default: what the bus has ([`BusBuilder::handler_timeout`](crate::BusBuilder::handler_timeout)), 30 s.
    ///
    /// Beyond it a handler is reported ([`Notice::HandlerHung`](crate::Notice::HandlerHung)) and its call counted
    /// ([`timed_out`](crate::SubscriptionLedger::timed_out)), once. By best effort and latest only, the async handler of [`run`](Self::run)
    /// is cancelled then: its future is dropped, and the event has failed. A synchronous one cannot be; it keeps its event, and its word
    /// counts when it returns. Who takes events from a [`mailbox`](Self::mailbox) has no handler, and no such time.
    ///
    /// ```
    /// use ringmain::Bus;
    /// use std::time::Duration;
    ///
    /// let bus = Bus::builder().build()?;
    /// let limit = Duration::from_secs(2);
    /// let running = bus.subscribe("mail.*").handler_timeout(limit).run(async |mail| send(mail.payload().text()).await)?;
    /// # async fn send(_: Option<&str>) {}
    /// # drop(running);
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = timeout;
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
    /// [`Overflow::DropNewest`]. Letters of events that nobody tried do not count: those that found the mailbox full, came over the
    /// rate, or met an open breaker. Default 0: never.
    pub fn suspend_after(mut self, dead_letters: u32) -> Self {
        self.suspend_after = dead_letters;
        self
    }

    /// Leaves the consumer of reliably delivered events alone for a while when it fails again and again. Default: none.
    pub fn breaker(mut self, policy: BreakerPolicy) -> Self {
        self.breaker = Some(policy);
        self
    }

    /// Lets the consumer have so many events and no more; `over` says what becomes of the others. Default: no limit.
    ///
    /// Events that wait for their rate have a cell of the mailbox each, also in front of an inline handler; when all cells are in
    /// use the [`Overflow`] policy holds. A flush waits for them, and so does a shutdown as long as it waits for anything.
    pub fn rate_limit(mut self, rate: Rate, over: OverLimit) -> Self {
        self.rate = Some((rate, over));
        self
    }

    /// Drops and counts events that come again within this window, before anything else is made of them. Attempts at one event
    /// are no duplicates. Default: none.
    ///
    /// The window knows what it was asked about, whatever has become of that: by best effort an event has one chance, and the same one
    /// again is a duplicate also when the first was dropped, by a full mailbox, a rate or a pause, or failed. A publisher that repeats
    /// what was dropped takes a new id; where nothing is to be dropped, deliver [reliably](DeliveryMode::Reliable).
    pub fn dedup(mut self, window: DedupWindow) -> Self {
        self.dedup = Some(window);
        self
    }

    /// Whether it is given events that happened before and come again out of a store ([`Meta::is_replay`](crate::Meta::is_replay)).
    /// Default: never.
    pub fn replay(mut self, policy: ReplayPolicy) -> Self {
        self.replay = policy;
        self
    }

    /// Names the handler. Default: the name of its type.
    pub fn handler_id(mut self, id: impl Into<String>) -> Self {
        self.handler_id = Some(HandlerId::new(id));
        self
    }
}

impl<I: Interest> fmt::Debug for Subscribe<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = self.what.as_ref().map_or("", |(pattern, _)| pattern.as_str());
        f.debug_struct("Subscribe")
            .field("pattern", &pattern)
            .field("name", &self.name)
            .field("filters", &self.filters)
            .field("mode", &self.mode)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}
