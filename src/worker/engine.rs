//! What the threads of one bus share. Made once by the builder; nothing in it is allocated later on the data plane.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use crate::delivery::{Notice, Observer, Route};
use crate::event::Directory;
use crate::metrics::{Counter, Recorder, SharedCounter};
use crate::ring::{Gate, LANES, Lanes, Pool, Wants};
use crate::routing::Table;
use crate::sync::barrier::Barrier;
use crate::sync::contain::contained;
use crate::sync::parker::Parker;
use crate::sync::primitive::{AtomicU32, Ordering};
use crate::sync::snapshot::Snapshot;

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

/// The life of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Running = 0,
    /// Publishers are refused; some may still be inside a publish.
    Closing = 1,
    /// No publisher is inside: the lanes get no more events. Workers leave when they have read everything.
    Draining = 2,
    /// Workers leave at once.
    Halting = 3,
    Stopped = 4,
}

/// A worker's routing table.
pub(crate) type WorkerTable = Table<Route>;

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

/// A publisher's place: whether it is inside a publish, and what it counted. In cache lines of its own.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct PublisherSlot {
    /// 1 while its publisher is between the look at the phase and the commit. In one line with what every publish counts.
    busy: AtomicU32,
    pub(crate) counts: PublisherCounts,
}

/// A publisher is inside a publish until this is dropped: also when user code panics there.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a PublisherSlot);

impl Inside<'_> {
    #[inline(always)]
    pub(crate) fn counts(&self) -> &PublisherCounts {
        &self.0.counts
    }
}

impl Drop for Inside<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // SYNC(engine.busy): Release. Pairs with `publishers_inside`; claims and counts come before.
        self.0.busy.store(0, Ordering::Release);
    }
}

impl PublisherSlot {
    /// The publisher steps in, unless the bus is closing.
    #[inline(always)]
    pub(crate) fn enter(&self, engine: &Engine) -> Option<Inside<'_>> {
        // Relaxed: the barrier orders it before the look at the phase; `close` does the same the other way round.
        self.busy.store(1, Ordering::Relaxed);
        let inside = Inside(self);
        engine.barrier.light();
        engine.is_running().then_some(inside)
    }
}

/// The phase of a bus, in a word of its own.
#[derive(Debug)]
pub(crate) struct PhaseCell(CachePadded<AtomicU32>);

impl Default for PhaseCell {
    fn default() -> Self {
        Self(CachePadded::new(AtomicU32::new(Phase::Running as u32)))
    }
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
    /// One a worker.
    pub(crate) recorders: Box<[Arc<Recorder>]>,
    /// One a publisher, and a last one for the timers.
    pub(crate) publishers: Box<[Arc<PublisherSlot>]>,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) phase: PhaseCell,
    /// One bit a worker that has left.
    pub(crate) left: AtomicU32,
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

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        // SYNC(engine.phase): Acquire. Pairs with `set_phase`.
        match self.phase.0.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Closing,
            2 => Phase::Draining,
            3 => Phase::Halting,
            _ => Phase::Stopped,
        }
    }

    #[inline(always)]
    pub(crate) fn is_running(&self) -> bool {
        // SYNC(engine.phase): Acquire. Pairs with `set_phase`.
        self.phase.0.load(Ordering::Acquire) == Phase::Running as u32
    }

    /// Moves on; phases only ever rise. Returns whether this call raised it.
    pub(crate) fn set_phase(&self, phase: Phase) -> bool {
        // SYNC(engine.phase): AcqRel. Pairs with `phase`.
        let raised = self.phase.0.fetch_max(phase as u32, Ordering::AcqRel) < phase as u32;
        if phase >= Phase::Halting {
            // A worker amid its events looks for a newer table only; it finds the phase as well.
            self.tables.iter().for_each(|table| table.nudge());
        }
        raised
    }

    /// A worker has read everything and reads nothing any more.
    pub(crate) fn leave_worker(&self, worker: usize) {
        // SYNC(engine.left): Release. Pairs with `has_left`; its last use of tables and mailboxes came before.
        self.left.fetch_or(1 << worker, Ordering::Release);
    }

    pub(crate) fn has_left(&self, worker: usize) -> bool {
        // SYNC(engine.left): Acquire. Pairs with `leave_worker`.
        self.phase() == Phase::Stopped || self.left.load(Ordering::Acquire) & (1 << worker) != 0
    }

    /// Refuses publishers from now on. Returns whether this call began it.
    pub(crate) fn close(&self) -> bool {
        let first = self.set_phase(Phase::Closing);
        self.barrier.heavy();
        self.gate.open_all();
        first
    }

    /// Whether a publisher is still between its look at the phase and its commit.
    pub(crate) fn publishers_inside(&self) -> bool {
        // SYNC(engine.busy): Acquire. Pairs with the drop of `Inside`.
        self.publishers.iter().any(|slot| slot.busy.load(Ordering::Acquire) != 0)
    }

    /// Whether worker 0 is between taking a due event out of the schedule's books and writing it into the publishers'.
    pub(crate) fn timers_inside(&self) -> bool {
        // SYNC(engine.busy): Acquire. Pairs with the drop of `Inside`.
        self.publishers.last().is_some_and(|timers| timers.busy.load(Ordering::Acquire) != 0)
    }

    /// Wakes every worker that sleeps.
    pub(crate) fn wake_all(&self) {
        self.parker.wake(u64::MAX);
    }

    /// Whether `worker` has read everything claimed so far.
    pub(crate) fn has_caught_up(&self, worker: usize, claimed: &[u64; LANES]) -> bool {
        self.lanes.active() & (1 << worker) == 0
            || (0..LANES).all(|lane| (self.lanes.cursor(worker, lane).wrapping_sub(claimed[lane]) as i64) >= 0)
    }

    /// The end of every lane at this moment.
    pub(crate) fn claimed(&self) -> [u64; LANES] {
        std::array::from_fn(|lane| self.lanes.claimed(lane))
    }

    /// The sum of a count over all publishers.
    pub(crate) fn published(&self, count: impl Fn(&PublisherCounts) -> &Counter) -> u64 {
        self.publishers.iter().map(|slot| count(&slot.counts).get()).sum()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
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
