//! What a bus tells about itself: metrics, ledger, health.

use hdrhistogram::Histogram;

use crate::delivery::{DeadLetterCounts, Ledger, Sink, SubscriptionLedger};
use crate::event::Priority;
use crate::metrics::{HistogramCells, LatencySummary, MailboxStages, Stages};
use crate::ring::LANES;

use super::{Bus, Shared};

/// Publishes that were refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The lane was full and the policy does not wait.
    pub full: u64,
    /// The lane stayed full as long as the publisher waited.
    pub timed_out: u64,
    /// Low events dropped above the watermark.
    pub shed: u64,
    /// The bus was shutting down, or a worker had failed.
    pub shutting_down: u64,
    /// The event was invalid: too large, a wrong name, a broken envelope, an encoder that failed.
    pub invalid: u64,
    /// No free block for a large payload.
    pub pool_exhausted: u64,
    /// All publishers were taken when [`Bus::publish`] wanted to borrow one.
    pub no_publisher: u64,
    /// Too many scheduled events.
    pub schedule_full: u64,
    /// A rate limit was spent, also after a wait for it.
    pub rate_limited: u64,
    /// Low events, while the reserved memory was nearly full.
    pub memory_pressure: u64,
}

impl Refused {
    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.full
            + self.timed_out
            + self.shed
            + self.shutting_down
            + self.invalid
            + self.pool_exhausted
            + self.no_publisher
            + self.schedule_full
            + self.rate_limited
            + self.memory_pressure
    }
}

/// Latency by the part of the trip it is spent in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StageLatency {
    /// Publish to the worker's look at the event.
    pub queue: LatencySummary,
    /// From that look to the first handler or mailbox; measured for one event in 64.
    pub route: LatencySummary,
    /// One handler call.
    pub handler: LatencySummary,
    /// Publish to the end of the handler call, or to the hand-over by a mailbox.
    pub total: LatencySummary,
    /// The beginning of the first attempt to the acknowledgement, under reliable delivery: what attempts that failed and the
    /// waits between them took is in it.
    pub ack: LatencySummary,
}

/// One lane.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LaneMetrics {
    /// Its priority.
    pub priority: Priority,
    /// Events that the slowest worker has not passed.
    pub depth: u64,
    /// Events per second through it, over the last second sampled.
    pub rate: f64,
    /// The most other events served while one waits at its head: what starvation is bounded by.
    pub wait_max_events: u64,
    /// Latencies over all workers.
    pub latency: StageLatency,
}

/// A bus in figures. Counts are exact when nothing moves.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Publishes that returned an id.
    pub messages_published: u64,
    /// Deliveries that ended well, over all subscriptions.
    pub messages_delivered: u64,
    /// Deliveries that failed.
    pub messages_failed: u64,
    /// Deliveries that were given up, over all subscriptions and reasons.
    pub messages_dropped: u64,
    /// Publishes that were refused.
    pub refused: Refused,
    /// Share of deliveries that ended well, 0 to 1; 1 when there was none.
    pub success_rate: f64,
    /// Share of deliveries that failed, were given up as dead letters or dropped, 0 to 1; duplicates do not count.
    pub error_rate: f64,
    /// Accepted events per second, over the last second sampled. Sampled whenever metrics are read.
    pub throughput: f64,
    /// Accepted events per second, over the last minute.
    pub throughput_last_minute: f64,
    /// Events in the fullest lane.
    pub current_queue_depth: u64,
    /// The limit of each lane.
    pub max_queue_size: u64,
    /// Each lane, most urgent first.
    pub lanes: Vec<LaneMetrics>,
    /// Latencies over all lanes, workers and mailboxes, those that are gone among them.
    pub delivery_latency: StageLatency,
    /// Latencies of each worker's inline handlers, over all lanes.
    pub workers: Vec<StageLatency>,
    /// Panics of their own that workers have gone on after: see
    /// [`worker_restarts_max`](crate::BusBuilder::worker_restarts_max).
    pub worker_restarts: u64,
    /// Workers that have panicked too often, and stand still.
    pub workers_failed: usize,
    /// Subscriptions alive.
    pub subscriptions: usize,
    /// Consumers that went away and took their subscription with them.
    pub consumers_gone: u64,
    /// Events of topics beyond `types_max`, matched by name.
    pub matched_by_name: u64,
    /// Events of which a rule's condition would have read the payload, which was longer than
    /// [`condition_payload_bytes_max`](crate::BusBuilder::condition_payload_bytes_max). Once for each worker whose rules did.
    pub conditions_unread: u64,
    /// Bytes reserved, over all parts of [`Bus::memory`]; most become resident when they are first written.
    pub memory_reserved_bytes: usize,
    /// Free blocks of the pool.
    pub free_blocks: usize,
    /// Targets of accepted events that named no service then. The events themselves are in the ledger: they went to their
    /// subscriptions and other targets, or to nobody.
    pub unknown_targets: u64,
    /// Parts built upon the bus that do less than they should: see [`Bus::degrade`].
    pub degraded: u64,
    /// How full the fullest lane or the pool of blocks is, from 0 to 1.
    pub memory_fill: f64,
    /// Whether Low events are refused for that: see [`memory_pressure`](crate::BusBuilder::memory_pressure).
    pub memory_pressure: bool,
    /// How often that began.
    pub memory_pressures: u64,
    /// How often a worker stopped because of the [`throttle`](crate::BusBuilder::throttle).
    pub throttled: u64,
    /// Events that subscriptions gave up on, where they are now: none that has expired is held.
    pub dead_letters: DeadLetterCounts,
    /// Where every event is.
    pub ledger: Ledger,
}

/// Whether a bus is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// No lane at 80 % of its limit, p95 of the delivery latency under 100 ms, no memory pressure, and no part that is degraded.
    Healthy,
    /// One of them does not hold.
    Degraded,
    /// A worker stands still, and the bus accepts nothing.
    Failed,
}

impl Metrics {
    /// Failed when a worker has failed; degraded when a lane is filled to 80 %, p95 of the delivery latency reaches 100 ms, Low events are
    /// refused for want of memory, or a part of the bus [is](Bus::degrade), such as a journal whose store fails.
    pub fn health(&self) -> Health {
        self.health_at(self.delivery_latency.total.p95_ns)
    }

    /// As [`health`](Self::health), by the p95 of another stretch of time than since the bus was built: what was slow once is not slow for
    /// ever. In nanoseconds.
    pub fn health_at(&self, p95_ns: u64) -> Health {
        if self.workers_failed > 0 {
            return Health::Failed;
        }
        let deep = self.current_queue_depth * 10 >= self.max_queue_size * 8;
        let slow = p95_ns >= 100_000_000;
        if deep || slow || self.memory_pressure || self.degraded > 0 { Health::Degraded } else { Health::Healthy }
    }
}

impl Bus {
    /// Everything it knows about itself. Control plane: merges all histograms, some hundred microseconds.
    pub fn metrics(&self) -> Metrics {
        self.shared().metrics()
    }

    /// Where every event is. Exact when nothing moves.
    pub fn ledger(&self) -> Ledger {
        self.shared().ledger()
    }

    /// The latency from publish to the end of delivery at one priority, over all workers and mailboxes.
    pub fn latency_histogram(&self, priority: Priority) -> Histogram<u64> {
        let mut merged = HistogramCells::empty_snapshot();
        let shared = self.shared();
        let lane = priority.lane();
        for recorder in &shared.engine.recorders {
            recorder.lanes[lane].total.merge_into(&mut merged);
        }
        let control = shared.control();
        for subscription in control.subscriptions().chain(control.ending()) {
            if let Sink::Mailbox(mailbox, _) = &subscription.sink {
                mailbox.stages().total[lane].merge_into(&mut merged);
            }
        }
        if let Some(ended) = control.ended_stages() {
            ended.total[lane].merge_into(&mut merged);
        }
        merged
    }
}

impl Shared {
    pub(super) fn ledger(&self) -> Ledger {
        let engine = &self.engine;
        let mut subscriptions = SubscriptionLedger::default();
        let mut unbalanced = 0;
        {
            let control = self.control();
            for subscription in control.subscriptions().chain(control.ending()) {
                let ledger = subscription.ledger();
                unbalanced += u64::from(!ledger.is_balanced());
                subscriptions += ledger;
            }
            subscriptions += control.ended;
            unbalanced += control.ended_unbalanced;
        }
        let first = self.settings.first_sequence;
        Ledger {
            accepted: engine.published(|counts| &counts.accepted),
            scheduled: engine.schedule.waiting(),
            unmatched: engine.published(|counts| &counts.unmatched),
            routed: engine.published(|counts| &counts.routed),
            claimed: engine.lanes.ends().iter().map(|claimed| claimed.wrapping_sub(first)).sum(),
            in_lanes: (0..LANES).map(|lane| engine.lanes.depth(lane)).sum(),
            subscriptions,
            unbalanced,
        }
    }

    fn metrics(&self) -> Metrics {
        let engine = &self.engine;
        engine.feel_pressure();
        self.look_for_hangs();
        // Not under the lock of the control plane, for observers may hear of letters that find no room.
        let dead_letters = engine.dead_letters.watch();
        let ledger = self.ledger();
        let now = engine.directory.clock.now();
        let mut mailboxes: Vec<_> = Vec::new();
        let mut control = self.control();
        for subscription in control.subscriptions().chain(control.ending()) {
            if matches!(&subscription.sink, Sink::Mailbox(..)) {
                mailboxes.push(std::sync::Arc::clone(subscription));
            }
        }
        let subscriptions = control.subscriptions().count();
        control.published_rate.sample(now, ledger.accepted);
        let throughput = control.published_rate.per_second_now(now);
        let throughput_last_minute = control.published_rate.per_second_last_minute(now);
        let first = self.settings.first_sequence;
        let rates: [f64; LANES] = std::array::from_fn(|lane| {
            let total = engine.lanes.claimed(lane).wrapping_sub(first);
            control.lane_rates[lane].sample(now, total);
            control.lane_rates[lane].per_second_now(now)
        });
        // Together with the list of those that are not gone: no mailbox counts twice, and none goes missing.
        let ended = control.ended_stages();
        let memory = self.memory(&control);
        drop(control);
        let in_mailboxes = |lane: usize| {
            let alive = mailboxes.iter().filter_map(move |subscription| match &subscription.sink {
                Sink::Mailbox(mailbox, _) => Some(mailbox.stages()),
                Sink::Inline(_) => None,
            });
            alive.chain(&ended).map(move |stages| (stages, lane))
        };
        let workers_at = |lane: usize| engine.recorders.iter().map(move |recorder| &recorder.lanes[lane]);
        let order = crate::ring::DrainOrder::new(self.settings.critical_burst_max);
        let lanes: Vec<_> = Priority::ALL
            .into_iter()
            .map(|priority| {
                let lane = priority.lane();
                LaneMetrics {
                    priority,
                    depth: engine.lanes.depth(lane),
                    rate: rates[lane],
                    wait_max_events: order.wait_max(lane),
                    latency: stage_latency(workers_at(lane), in_mailboxes(lane)),
                }
            })
            .collect();
        let delivery_latency = stage_latency((0..LANES).flat_map(workers_at), (0..LANES).flat_map(in_mailboxes));
        let workers =
            engine.recorders.iter().map(|recorder| stage_latency(recorder.lanes.iter(), std::iter::empty())).collect();
        let books = &ledger.subscriptions;
        // A duplicate is dropped because all is well, and a superseded event because its subscription has asked for newer ones.
        let lost = books.dropped.total() - books.dropped.duplicate - books.dropped.superseded;
        let (delivered, lost) = (books.delivered, books.failed + books.dead_lettered + lost);
        let ended = (delivered + lost).max(1) as f64;
        Metrics {
            messages_published: ledger.accepted,
            messages_delivered: delivered,
            messages_failed: books.failed,
            messages_dropped: books.dropped.total(),
            refused: Refused {
                full: engine.published(|counts| &counts.full),
                timed_out: engine.published(|counts| &counts.timed_out),
                shed: engine.published(|counts| &counts.shed),
                shutting_down: engine.published(|counts| &counts.shutting_down) + engine.turned_away.get(),
                no_publisher: engine.unplaced.get(),
                invalid: engine.published(|counts| &counts.invalid),
                pool_exhausted: engine.published(|counts| &counts.pool_exhausted),
                schedule_full: engine.published(|counts| &counts.schedule_full),
                rate_limited: engine.published(|counts| &counts.rate_limited),
                memory_pressure: engine.published(|counts| &counts.memory_pressure),
            },
            success_rate: if delivered + lost == 0 { 1.0 } else { delivered as f64 / ended },
            error_rate: lost as f64 / ended,
            throughput,
            throughput_last_minute,
            current_queue_depth: lanes.iter().map(|lane| lane.depth).max().unwrap_or(0),
            max_queue_size: engine.lanes.limit(),
            lanes,
            delivery_latency,
            workers,
            worker_restarts: engine.recorders.iter().map(|recorder| recorder.restarts.get()).sum(),
            workers_failed: engine.failed.all().count(),
            subscriptions,
            consumers_gone: engine.consumers_gone.get(),
            matched_by_name: engine.recorders.iter().map(|recorder| recorder.matched_by_name.get()).sum(),
            conditions_unread: engine.recorders.iter().map(|recorder| recorder.conditions_unread.get()).sum(),
            memory_reserved_bytes: memory.reserved_bytes(),
            free_blocks: engine.pool.free_blocks(),
            unknown_targets: engine.published(|counts| &counts.unknown_targets),
            degraded: self.degradations.count(),
            memory_fill: engine.fill(),
            memory_pressure: engine.pressure.is_on(),
            memory_pressures: engine.pressure.begun(),
            throttled: engine.recorders.iter().map(|recorder| recorder.throttled.get()).sum(),
            dead_letters,
            ledger,
        }
    }
}

fn stage_latency<'a>(
    stages: impl Iterator<Item = &'a Stages> + Clone,
    mailboxes: impl Iterator<Item = (&'a MailboxStages, usize)> + Clone,
) -> StageLatency {
    let totals = mailboxes.clone().map(|(mailbox, lane)| &mailbox.total[lane]);
    let acks = mailboxes.filter_map(|(mailbox, lane)| Some(&mailbox.ack.as_ref()?[lane]));
    StageLatency {
        queue: LatencySummary::of_cells(stages.clone().map(|stages| &stages.queue)),
        route: LatencySummary::of_cells(stages.clone().map(|stages| &stages.route)),
        handler: LatencySummary::of_cells(stages.clone().map(|stages| &stages.handler)),
        total: LatencySummary::of_cells(stages.map(|stages| &stages.total).chain(totals)),
        ack: LatencySummary::of_cells(acks),
    }
}
