//! Settings of a bus, their defaults and limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{DeadLetterSink, Observer, Rate, RetryPolicy};
use crate::routing::RuleSet;
use crate::worker::{IdleStrategy, StampPolicy};

use super::{FullPolicy, RateLimit};

mod assemble;
mod build;
mod faults;

/// Publishers a bus can have: one of the 64 places is kept for its timers.
const PUBLISHERS_MAX: usize = 63;
const TYPES_MAX: usize = 1 << 20;

/// How a bus is set up. Every setting has a default; [`build`](Self::build) checks them all and reports every fault at once.
///
/// ```
/// use ringmain::{Bus, IdleStrategy};
/// let bus = Bus::builder().workers(2).idle(IdleStrategy::Park).max_queue_size(50_000).build()?;
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[must_use = "nothing runs until `build` is called"]
#[derive(Clone)]
pub struct BusBuilder {
    name: String,
    workers: Option<usize>,
    pin: bool,
    idle: IdleStrategy,
    max_queue_size: usize,
    slot_bytes: usize,
    payload_bytes_max: usize,
    condition_payload_bytes_max: usize,
    blocks: Vec<(usize, usize)>,
    publishers_max: usize,
    single_publisher: bool,
    batch_max: Option<usize>,
    turn_max: usize,
    coalesce_max: Duration,
    critical_burst_max: u32,
    worker_restarts_max: u32,
    stamps: StampPolicy,
    slow_handler: Duration,
    handler_timeout: Duration,
    attempt_timeout: Duration,
    full_policy: FullPolicy,
    deadline: Duration,
    mailbox_capacity: usize,
    types_max: usize,
    sources_max: usize,
    scheduled_max: usize,
    retry: RetryPolicy,
    dead_letters_max: usize,
    dead_letter_bytes_max: usize,
    dead_letter_sink_max: usize,
    redrives_max: usize,
    dead_letter_expiry: Option<Duration>,
    dead_letter_sink: Option<Arc<dyn DeadLetterSink>>,
    rate_limits: Vec<RateLimit>,
    throttle: Option<Rate>,
    memory_pressure: Option<f64>,
    huge_pages: bool,
    prefault: bool,
    observers: Vec<Arc<dyn Observer>>,
    debug: bool,
    announces: bool,
    first_sequence: u64,
    id_seed: Option<u64>,
}

impl Default for BusBuilder {
    fn default() -> Self {
        Self {
            name: "ringmain".to_owned(),
            workers: None,
            pin: true,
            idle: IdleStrategy::default(),
            max_queue_size: 10_000,
            slot_bytes: 256,
            payload_bytes_max: 1 << 20,
            condition_payload_bytes_max: RuleSet::PAYLOAD_BYTES_MAX,
            blocks: vec![(4 << 10, 1_024), (64 << 10, 64), (1 << 20, 8)],
            publishers_max: PUBLISHERS_MAX,
            single_publisher: false,
            batch_max: None,
            turn_max: 100,
            coalesce_max: Duration::from_micros(10),
            critical_burst_max: 64,
            worker_restarts_max: 10,
            stamps: StampPolicy::default(),
            slow_handler: Duration::from_millis(50),
            handler_timeout: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(5),
            full_policy: FullPolicy::wait(Duration::from_secs(5)),
            deadline: Duration::from_secs(5),
            mailbox_capacity: 1_024,
            types_max: 65_536,
            sources_max: 65_536,
            scheduled_max: 1_024,
            retry: RetryPolicy::default(),
            dead_letters_max: 5_000,
            dead_letter_bytes_max: 64 << 20,
            dead_letter_sink_max: 1_024,
            redrives_max: 64,
            dead_letter_expiry: None,
            dead_letter_sink: None,
            rate_limits: Vec::new(),
            throttle: None,
            memory_pressure: None,
            huge_pages: false,
            prefault: false,
            observers: Vec::new(),
            debug: false,
            announces: false,
            first_sequence: 0,
            id_seed: None,
        }
    }
}

impl BusBuilder {
    /// Names the bus: its threads are `name-0`, `name-1`…, its publishers' default source `service:name`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Worker threads, 1 to 16. Default: the cores this process may use, at most 4.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Whether workers are pinned, one a core of those the process may use. Default: yes, where there is a core for each.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// What a worker does when there is nothing to do. Default: spin briefly, yield briefly, then park.
    pub fn idle(mut self, strategy: IdleStrategy) -> Self {
        self.idle = strategy;
        self
    }

    /// Events of one priority that may wait before publishers are refused. Default 10,000. The lanes have the next power of
    /// two above it and the publishers' headroom.
    pub fn max_queue_size(mut self, events: usize) -> Self {
        self.max_queue_size = events;
        self
    }

    /// Bytes of a slot, 128 to 65,536 and a multiple of 64; 64 of them are header. Default 256. What does not fit goes
    /// through a block.
    pub fn slot_bytes(mut self, bytes: usize) -> Self {
        self.slot_bytes = bytes;
        self
    }

    /// The longest payload accepted. Default 1 MiB.
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.payload_bytes_max = bytes;
        self
    }

    /// The longest JSON payload that conditions of [routing rules](crate::RoutingRule) read, 1 byte to 1 GiB. Default 64 KiB.
    ///
    /// A worker reads all of a payload for the rules of its services, and its lanes wait meanwhile. Of a longer one no
    /// comparison of a field holds, nor does `!` of one, so a rule that needs it does not match: counted in
    /// [`conditions_unread`](crate::Metrics::conditions_unread), and said by [`Rules::explain`](crate::Rules::explain).
    pub fn condition_payload_bytes_max(mut self, bytes: usize) -> Self {
        self.condition_payload_bytes_max = bytes;
        self
    }

    /// Replaces the pool for payloads that do not fit a slot: pairs of block size and number of blocks. Default 1,024 of
    /// 4 KiB, 64 of 64 KiB, 8 of 1 MiB (the largest grow with `payload_bytes_max`).
    pub fn blocks(mut self, sizes: impl IntoIterator<Item = (usize, usize)>) -> Self {
        self.blocks = sizes.into_iter().collect();
        self
    }

    /// Publishers that may be alive at once, 1 to 63. Default 63.
    pub fn publishers_max(mut self, publishers: usize) -> Self {
        self.publishers_max = publishers;
        self
    }

    /// Promises that one publisher is all there is: it claims slots with a plain store. Scheduled events are refused, as
    /// they would be published beside it.
    pub fn single_publisher(mut self) -> Self {
        self.single_publisher = true;
        self
    }

    /// Events a batch may have, at most `max_queue_size`. Default 1,024, or `max_queue_size` where that is less.
    pub fn batch_max(mut self, events: usize) -> Self {
        self.batch_max = Some(events);
        self
    }

    /// Events a worker handles before it publishes its progress. Default 100.
    pub fn turn_max(mut self, events: usize) -> Self {
        self.turn_max = events;
        self
    }

    /// How long at most a worker that has caught up with a flow of events rests before it looks again, so that publishers
    /// fill a batch meanwhile: a dense flow between two cores is up to three times as fast for it. Default 10 µs; zero: never.
    ///
    /// The rest is 50 ns for each event handled since the last one. There is none after single events, Critical ones, or a
    /// flow slower than 200 ns an event, nor with [`IdleStrategy::Park`]; [`IdleStrategy::Yield`] yields meanwhile. More urgent events,
    /// changes of the worker's subscriptions and the end of the bus end it. At most 1 ms.
    pub fn coalesce_max(mut self, time: Duration) -> Self {
        self.coalesce_max = time;
        self
    }

    /// Critical events served in a row before one of another priority. Default 64.
    pub fn critical_burst_max(mut self, events: u32) -> Self {
        self.critical_burst_max = events;
        self
    }

    /// Panics of its own that a worker goes on after, in a minute. Default 10; 0: none.
    ///
    /// User code cannot cause them, for what it panics at is contained where it is called: this is for a bug of this crate. The worker
    /// goes on from its cursors, so no event is skipped; of the event that it was giving out, those who had it do not get it
    /// again, but for the one that the worker was at. Each restart is a
    /// [`WorkerRestarted`](crate::Notice::WorkerRestarted) and counts in [`worker_restarts`](crate::Metrics::worker_restarts). With one
    /// more the worker stands still, and its bus accepts nothing any more: [`WorkerFailed`](crate::Notice::WorkerFailed),
    /// [`BusState::Failed`](crate::BusState::Failed).
    ///
    /// A program that aborts when it panics (`panic = "abort"`) ends with the first one.
    pub fn worker_restarts_max(mut self, restarts: u32) -> Self {
        self.worker_restarts_max = restarts;
        self
    }

    /// Which events are stamped with the time and measured. Default: every one.
    pub fn stamps(mut self, policy: StampPolicy) -> Self {
        self.stamps = policy;
        self
    }

    /// A handler that takes longer is reported. Default 50 ms.
    pub fn slow_handler_threshold(mut self, threshold: Duration) -> Self {
        self.slow_handler = threshold;
        self
    }

    /// How long a handler may have an event, unless its subscription says so itself
    /// ([`Subscribe::handler_timeout`](crate::Subscribe::handler_timeout)). Default 30 s.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = timeout;
        self
    }

    /// How long an attempt at an event may take under reliable delivery, 1 ms to a day, unless its subscription says so itself
    /// ([`DeliveryMode::Reliable`](crate::DeliveryMode::Reliable)). Default 5 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// What publishers do at a full lane, unless they say otherwise. Default: wait up to 5 s.
    pub fn when_full(mut self, policy: FullPolicy) -> Self {
        self.full_policy = policy;
        self
    }

    /// How long flush, shutdown and changes of subscriptions wait, unless told otherwise. Default 5 s.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Events a mailbox holds unless its subscription says otherwise. Default 1,024.
    pub fn mailbox_capacity(mut self, events: usize) -> Self {
        self.mailbox_capacity = events;
        self
    }

    /// Topic names that get a place in the routing table, up to 1,048,576. Default 65,536. Those beyond are matched by name.
    ///
    /// # Cost
    /// Each publish of a topic beyond the limit takes the control plane's lock, and each worker with subscriptions compares its
    /// name with their patterns: neither lock-free nor fast. The other topics are as fast as ever.
    pub fn types_max(mut self, names: usize) -> Self {
        self.types_max = names;
        self
    }

    /// Sources that travel as a number, up to 1,048,576. Default 65,536. Those beyond travel as text.
    pub fn sources_max(mut self, sources: usize) -> Self {
        self.sources_max = sources;
        self
    }

    /// Events that may wait for their not-before time. Default 1,024.
    pub fn scheduled_max(mut self, events: usize) -> Self {
        self.scheduled_max = events;
        self
    }

    /// How often reliable subscriptions try an event, and how long they wait in between, unless they say so themselves
    /// ([`Subscribe::retry`](crate::Subscribe::retry)). Default: three attempts.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Dead letters that are kept, 0 to 16,777,216; when there are more, the oldest goes. Default 5,000; 0: they are counted only.
    pub fn dead_letters_max(mut self, letters: usize) -> Self {
        self.dead_letters_max = letters;
        self
    }

    /// Bytes that the dead letters may take, 1,024 or more; when they would take more, the oldest go. Default 64 MiB. A
    /// further eighth of it may wait to be sorted in, and as much again while somebody looks at them. Taken as they come, not reserved.
    pub fn dead_letter_bytes_max(mut self, bytes: usize) -> Self {
        self.dead_letter_bytes_max = bytes;
        self
    }

    /// How long a dead letter is kept, more than nothing. Default: until it is purged, sent again, or has to make room. Those that are older go when
    /// somebody looks at the letters or at [`Bus::metrics`](crate::Bus::metrics), or new ones are sorted in.
    pub fn dead_letter_expiry(mut self, time: Duration) -> Self {
        self.dead_letter_expiry = Some(time);
        self
    }

    /// Somebody to be told of each dead letter, on a thread of its own: a store, an alert. Default: nobody.
    pub fn dead_letter_sink(mut self, sink: impl DeadLetterSink + 'static) -> Self {
        self.dead_letter_sink = Some(Arc::new(sink));
        self
    }

    /// Letters that may wait for the sink, 1 to 16,777,216, before events stay with their subscriptions instead of dying: see
    /// [`DeadLetterSink`]. Default 1,024. Taken as they come, not reserved.
    pub fn dead_letter_sink_max(mut self, letters: usize) -> Self {
        self.dead_letter_sink_max = letters;
        self
    }

    /// Redrives of many dead letters ([`DeadLetters::redrive_all`](crate::DeadLetters::redrive_all)) that may be under way at once, 1 to
    /// 65,536. Each keeps eight bytes for each letter that has not had its turn. Default 64.
    pub fn redrives_max(mut self, redrives: usize) -> Self {
        self.redrives_max = redrives;
        self
    }

    /// Adds a limit to how fast events may be published; up to 64. Default: none. They may be replaced while the bus runs:
    /// [`Bus::set_rate_limits`](crate::Bus::set_rate_limits).
    ///
    /// # Cost
    /// An event under no limit is as fast as ever. One under a limit takes the long way of a publish, some hundred
    /// instructions, and reads the clock; all who publish under one limit write one word. No lock, and no allocation once the
    /// publisher has met the topic under limits, and the bus the source.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limits.push(limit);
        self
    }

    /// Workers pass at most so many events, all of them together, Critical ones apart. Default: as many as they can.
    ///
    /// The rest waits in the lanes, and publishers at full lanes by their [`FullPolicy`]. An event counts once for each worker
    /// that has a subscription for it; attempts after the first, and what consumers pull from mailboxes, do not count. A
    /// worker sleeps until an event may pass, 100 µs at least: a burst below what comes in that time wastes some of the rate.
    /// [`flush`](crate::Bus::flush) waits as ever; a shutdown drains the lanes as fast as it can.
    pub fn throttle(mut self, rate: Rate) -> Self {
        self.throttle = Some(rate);
        self
    }

    /// Refuses Low events, with [`PublishError::MemoryPressure`](crate::PublishError::MemoryPressure), while a lane or the pool of blocks is filled to
    /// this share or more, from 0.01 to 1; until both are below seven eighths of it. Default: never. 0.9 leaves room for
    /// what is more urgent.
    ///
    /// Its begin and end are told to [observers](Self::observer), and [`Metrics`](crate::Metrics) show them. It is noticed by whoever fills a
    /// lane or takes a block, not by each publish: Low events that come at the same moment may still pass.
    pub fn memory_pressure(mut self, share: f64) -> Self {
        self.memory_pressure = Some(share);
        self
    }

    /// Whether the lanes ask for huge pages, so that a lap around one misses fewer address translations. Default: no.
    /// [`Memory::huge_pages`](crate::Memory::huge_pages) says what came of it; without any the bus works all the same.
    ///
    /// Linux only: by advice to the kernel, whose switch `/sys/kernel/mm/transparent_hugepage/enabled` is not `never`.
    ///
    /// # Cost
    /// Resident memory grows in steps of a huge page (2 MiB on most machines) instead of 4 KiB, each as long as it takes
    /// to clear it: with [`prefault`](Self::prefault) that is during `build`, without it amid the first publishes.
    pub fn huge_pages(mut self, wanted: bool) -> Self {
        self.huge_pages = wanted;
        self
    }

    /// Whether `build` makes lanes, blocks and histograms resident, so that the first lap around a lane takes no page
    /// faults. Default: no. Mailboxes are made resident by the thread that subscribes.
    ///
    /// On a machine with several memory nodes a page lies near the core that first writes it. Pages are touched on
    /// threads pinned to the workers' cores, 2 MiB by each in turn, and so lie on the workers' nodes, not on those of
    /// whoever publishes first. Workers take the first cores that the process may use: choose them with `taskset` or
    /// `numactl --cpunodebind`. Elsewhere than on Linux, memory that the allocator had in use before stays where it is.
    ///
    /// # Cost
    /// Some tenths of a millisecond a MiB during `build`, and all of [`Memory`](crate::Memory) but routing and
    /// schedule is resident from the start: 35 MB by default.
    pub fn prefault(mut self, wanted: bool) -> Self {
        self.prefault = wanted;
        self
    }

    /// Adds somebody to tell about slow handlers, panics and the like.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Publishes what changes on the bus as events on it, for those who would rather subscribe than [observe](Self::observer). Default: no.
    ///
    /// | topic | `state` in the metadata | `name` in the metadata |
    /// |---|---|---|
    /// | `ringmain.breaker` | `open`, `half-open`, `closed` | the subscription's |
    /// | `ringmain.memory-pressure` | `begins`, `ends` | |
    /// | `ringmain.subscription` | `suspended`, `consumer-gone`, `overflow`, `replaced`, `not-replaced` | the subscription's |
    /// | `ringmain.worker` | `restarted`, `hung` | of `hung`, the subscription's |
    /// | `ringmain.dead-letters` | `overflow` | |
    /// | `ringmain.storage` | `failed`, `returned` | the journal's |
    ///
    /// Their priority is High, and their payload the [notice](crate::Notice) as text, for people. They are published where the change
    /// happens, without waiting: at a full lane one is refused, and counted as any. What is said of single events, such as a
    /// handler's error, is not among them, nor is what comes of publishing one.
    ///
    /// ```
    /// use ringmain::testing::Simulation;
    /// use ringmain::{BreakerPolicy, Bus, DeliveryMode, Payload};
    ///
    /// let simulation = Simulation::new(Bus::builder().workers(1).announce(true), 1)?;
    /// let bus = simulation.bus();
    /// let mut changes = bus.subscribe("ringmain.*").mailbox()?;
    /// let flaky = bus.subscribe("mail").named("mail").mode(DeliveryMode::reliable());
    /// let _flaky = flaky.breaker(BreakerPolicy::default().failures_max(1)).handle(|_, _| Err::<(), _>("down"))?;
    /// bus.publish("mail", Payload::plain_text("hello"))?;
    /// simulation.run();
    ///
    /// let change = changes.try_recv().expect("the breaker has opened");
    /// assert_eq!(change.meta().topic(), "ringmain.breaker");
    /// assert_eq!((change.meta().get("name"), change.meta().get("state")), (Some("mail"), Some("open")));
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn announce(mut self, changes: bool) -> Self {
        self.announces = changes;
        self
    }

    /// Tells observers of every delivery, to follow events through the bus. Slow; for finding out, not for running.
    pub fn enable_debug(mut self, debug: bool) -> Self {
        self.debug = debug;
        self
    }

    /// The first sequence of every lane, to test what happens at a wrap.
    #[doc(hidden)]
    pub fn first_sequence(mut self, sequence: u64) -> Self {
        self.first_sequence = sequence;
        self
    }

    /// Seeds event ids, so that a simulation repeats.
    pub(crate) fn id_seed(mut self, seed: u64) -> Self {
        self.id_seed = Some(seed);
        self
    }
}

impl fmt::Debug for BusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusBuilder").field("name", &self.name).field("workers", &self.workers).finish_non_exhaustive()
    }
}
