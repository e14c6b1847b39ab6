//! What the threads of one bus share. Made once by the builder; nothing in it is allocated later on the data plane.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam::utils::CachePadded;

use crate::delivery::{DeadLetterStore, Notice, Observer, Route, ServiceHere, SubscriptionState};
use crate::event::{Directory, FLAG_TARGETED};
use crate::metrics::{Counter, Recorder, SharedCounter};
use crate::ring::{Gate, LANES, Lanes, Pool, Wants};
use crate::routing::Table;
use crate::sync::admission::{Admission, Entrance, Left, Phase};
use crate::sync::alarm::{Alarm, NEVER};
use crate::sync::barrier::Barrier;
use crate::sync::contain::contained;
use crate::sync::limiter::Limiter;
use crate::sync::parker::Parker;
use crate::sync::primitive::{AtomicBool, AtomicU64, Ordering};
use crate::sync::snapshot::Snapshot;
use crate::sync::under_way::UnderWay;

use super::pressure::Pressure;
use super::services_known::ServicesKnown;
use super::timer::Schedule;

/// Which events get a fresh time stamp, and so count in the latency histograms. A stamp costs one clock read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StampPolicy {
    /// Every event: the default.
    #[default]
    Every,
    /// One in this many (at least 1), and every event that finds a sleeping worker. The others carry the time of the last stamp.
    OneIn(u32),
}

/// A worker's routing table, and the subscriptions that it attends to besides.
#[derive(Clone)]
pub(crate) struct WorkerTable {
    routes: Table<Route>,
    /// Those whose events may come back, as under reliable delivery, and those whose handlers' calls have a time.
    pub(crate) attended: Vec<Arc<SubscriptionState>>,
    /// Routes name them by their places.
    pub(crate) services: Vec<Arc<ServiceHere>>,
    /// Those that end with this table, and with others before it that the worker may not have had.
    pub(crate) ended: Vec<Arc<Ended>>,
}

/// A subscription that ends, and the table that still had it.
pub(crate) struct Ended {
    pub(crate) subscription: Arc<SubscriptionState>,
    pub(crate) before: WorkerTable,
    is_counted: AtomicBool,
}

impl Ended {
    pub(crate) fn new(subscription: Arc<SubscriptionState>, before: WorkerTable) -> Self {
        Self { subscription, before, is_counted: AtomicBool::new(false) }
    }

    /// Whether its worker has not asked before: two tables in a row may have it.
    pub(crate) fn is_first(&self) -> bool {
        // Relaxed: its worker alone asks.
        !self.is_counted.swap(true, Ordering::Relaxed)
    }
}

impl WorkerTable {
    pub(crate) fn new() -> Self {
        Self { routes: Table::new(), attended: Vec::new(), services: Vec::new(), ended: Vec::new() }
    }

    /// Whether the table is as young as the type. Never of id 0: when the first name beyond the limit is met it leads to
    /// subscriptions, and to none before.
    #[inline(always)]
    pub(crate) fn knows(&self, type_id: u32) -> bool {
        type_id != 0 && self.routes.knows(type_id)
    }

    /// The route of a type, if it has one.
    #[inline(always)]
    pub(crate) fn route(&self, type_id: u32) -> Option<&Route> {
        self.routes.route(type_id)
    }

    /// Sets the route of a type, and makes the table know all types up to it.
    pub(crate) fn set(&mut self, type_id: u32, route: Option<Route>) {
        self.routes.set(type_id, route);
    }
}

/// Counts of one publisher slot, written by the one publisher that holds it.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct PublisherCounts {
    pub(crate) accepted: Counter,
    pub(crate) routed: Counter,
    pub(crate) unmatched: Counter,
    pub(crate) full: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) shed: Counter,
    pub(crate) shutting_down: Counter,
    pub(crate) invalid: Counter,
    pub(crate) pool_exhausted: Counter,
    pub(crate) schedule_full: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) memory_pressure: Counter,
    /// Targets of accepted events that named no service.
    pub(crate) unknown_targets: Counter,
}

impl PublisherCounts {
    /// Counts events that went into a lane.
    #[inline(always)]
    pub(crate) fn route(&self, events: u64) {
        self.routed.add(events);
        self.accepted.add(events);
    }

    /// Counts events that were accepted and that nobody wanted.
    #[inline]
    pub(crate) fn pass_over(&self, events: u64) {
        self.unmatched.add(events);
        self.accepted.add(events);
    }
}

/// A publisher's place: whether it is inside a publish, and what it counted.
pub(crate) type PublisherSlot = Entrance<PublisherCounts>;

/// Who knows whose handler a worker is in, and how long that may take: the control plane.
pub(crate) trait HangWatch: Send + Sync {
    /// Looks at `worker`, which somebody has seen in a handler: tells, once a call, of the one that it has been calling for longer than that
    /// may take, since an earlier look. Does nothing while others have the control plane; the next look is as good.
    fn look_for_hang(&self, worker: usize);
}

/// The shared state of one bus.
pub(crate) struct Engine {
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) parker: Arc<Parker>,
    pub(crate) wants: Wants,
    pub(crate) schedule: Schedule,
    pub(crate) directory: Arc<Directory>,
    pub(crate) barrier: Barrier,
    pub(crate) tables: Box<[Arc<Snapshot<WorkerTable>>]>,
    /// When each worker has something to look after.
    pub(crate) alarms: Box<[Arc<Alarm>]>,
    /// Whose handler each worker is calling.
    pub(crate) under_way: Box<[Arc<UnderWay>]>,
    /// The least time that a call of an inline handler may take, in nanoseconds.
    pub(crate) call_max_least_ns: AtomicU64,
    /// Whom a worker asks that sees another one in a handler.
    pub(crate) hang_watch: OnceLock<Weak<dyn HangWatch>>,
    /// One a worker.
    pub(crate) recorders: Box<[Arc<Recorder>]>,
    /// One a publisher, and a last one for the timers.
    pub(crate) publishers: Box<[Arc<PublisherSlot>]>,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) dead_letters: Arc<DeadLetterStore>,
    pub(crate) admission: Admission,
    pub(crate) pressure: Pressure,
    pub(crate) services_known: ServicesKnown,
    /// What workers pass together, when that has a limit.
    pub(crate) throttle: Option<Box<CachePadded<Limiter>>>,
    /// Workers that have left.
    pub(crate) left: Left,
    /// Those among them that have panicked too often.
    pub(crate) failed: Left,
    /// Panics of its own that a worker goes on after, in a minute.
    pub(crate) worker_restarts_max: u32,
    /// Publishes that found no free publisher to borrow.
    pub(crate) unplaced: SharedCounter,
    /// Publishes that could not borrow a publisher because the bus was shutting down.
    pub(crate) turned_away: SharedCounter,
    /// Consumers that went away with their mailbox still subscribed.
    pub(crate) consumers_gone: SharedCounter,
    /// Events a worker handles in one turn.
    pub(crate) turn_max: usize,
    pub(crate) coalesce_max_ns: u64,
    pub(crate) critical_burst_max: u32,
    /// Nanoseconds of one handler call after which it is told of.
    pub(crate) slow_handler_ns: u64,
    /// Observers hear of every delivery.
    pub(crate) debug: bool,
}

impl Engine {
    pub(crate) fn workers(&self) -> usize {
        self.tables.len()
    }

    /// Tells all observers. A panic of theirs goes no further.
    #[cold]
    pub(crate) fn notice(&self, notice: &Notice<'_>) {
        for observer in &self.observers {
            let _ = contained(|| observer.notice(notice));
        }
    }

    /// After which time to look again whether a worker comes back from its handlers; `None` where there are no inline ones.
    pub(crate) fn hang_look(&self) -> Option<Duration> {
        // Relaxed: a number.
        let least = self.call_max_least_ns.load(Ordering::Relaxed);
        (least != NEVER).then(|| Duration::from_nanos(least))
    }

    /// How full the fullest lane or the pool is, from 0 to 1.
    pub(crate) fn fill(&self) -> f64 {
        let limit = self.lanes.limit() as f64;
        let lanes = (0..LANES).map(|lane| (self.lanes.depth(lane) as f64 / limit).min(1.0));
        lanes.fold(self.pool.fill(), f64::max)
    }

    /// Looks whether memory is short, where anybody wants to know, and tells when that has changed: not for who is inside a
    /// publish. Returns the fill.
    #[inline]
    pub(crate) fn feel_pressure(&self) -> f64 {
        if self.pressure.share().is_some() { self.look_at_memory() } else { 0.0 }
    }

    #[cold]
    fn look_at_memory(&self) -> f64 {
        let fill = self.fill();
        if let Some(begins) = self.pressure.look(fill) {
            self.notice(&Notice::MemoryPressure { begins, fill });
        }
        fill
    }

    /// As `feel_pressure`, for who has taken a block: a look at the lanes only if that matters.
    #[inline]
    pub(crate) fn feel_blocks(&self) {
        if let Some(share) = self.pressure.share()
            && !self.pressure.is_on()
            && self.pool.fill() >= share
        {
            self.look_at_memory();
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.admission.phase()
    }

    /// Moves on; phases only ever rise. Returns whether this call raised it.
    pub(crate) fn set_phase(&self, phase: Phase) -> bool {
        let raised = self.admission.raise(phase);
        if phase >= Phase::Halting {
            // A worker amid its events looks for a newer table only; it finds the phase as well.
            self.tables.iter().for_each(|table| table.nudge());
        }
        if phase == Phase::Stopped {
            self.dead_letters.close();
        }
        raised
    }

    /// A worker has read everything and reads nothing any more.
    pub(crate) fn leave_worker(&self, worker: usize) {
        self.left.leave(worker);
    }

    /// A worker reads nothing any more, whatever there is: nobody is to publish what it would never bring.
    pub(crate) fn fail_worker(&self, worker: usize) {
        self.admission.fail(&self.failed, worker);
        self.gate.open_all();
    }

    /// The worker that has failed, for who was refused; `None` when the bus closes in order.
    #[cold]
    pub(crate) fn failure(&self) -> Option<usize> {
        self.admission.failure(&self.failed)
    }

    /// The first worker that has failed.
    pub(crate) fn failed_worker(&self) -> Option<usize> {
        self.failed.all().next()
    }

    pub(crate) fn has_left(&self, worker: usize) -> bool {
        self.phase() == Phase::Stopped || self.left.has(worker)
    }

    /// Refuses publishers from now on.
    pub(crate) fn close(&self) {
        self.admission.close();
        self.gate.open_all();
    }

    /// Whether a publisher is still between its look at the phase and its commit.
    pub(crate) fn publishers_inside(&self) -> bool {
        self.publishers.iter().any(|slot| slot.is_occupied())
    }

    /// Whether worker 0 is between taking a due event out of the schedule's books and writing it into the publishers'.
    pub(crate) fn timers_inside(&self) -> bool {
        self.publishers.last().is_some_and(|timers| timers.is_occupied())
    }

    /// Workers that get an event of this type and with these flags of its header.
    #[inline]
    pub(crate) fn wanted_by(&self, type_id: u32, flags: u8, lane: usize) -> u64 {
        let named = if flags & FLAG_TARGETED != 0 { self.wants.workers(self.wants.named(), lane) } else { 0 };
        self.wants.workers(type_id, lane) | named
    }

    /// Wakes every worker that sleeps.
    pub(crate) fn wake_all(&self) {
        self.parker.wake(u64::MAX);
    }

    /// The sum of a count over all publishers.
    pub(crate) fn published(&self, count: impl Fn(&PublisherCounts) -> &Counter) -> u64 {
        self.publishers.iter().map(|slot| count(&slot.counts).get()).sum()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Of a bus that could not shut down in order.
        self.dead_letters.close();
        for observer in self.observers.drain(..) {
            // Whoever drops the engine last, a worker perhaps, is not hurt by an observer's drop.
            let _ = contained(|| drop(observer));
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("phase", &self.phase()).field("workers", &self.workers()).finish_non_exhaustive()
    }
}
