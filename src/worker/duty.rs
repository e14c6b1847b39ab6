//! The duty cycle: one turn reads a batch of events, most urgent first, and brings each to its subscriptions.

use std::sync::Arc;
use std::time::Instant;

use crate::delivery::{Route, Stopwatch};
use crate::event::{Header, Meta};
use crate::metrics::Recorder;
use crate::ring::{Claimant, DrainOrder, LANES, Reader, Serve};
use crate::sync::alarm::Alarm;
use crate::sync::contain::contained;
use crate::sync::owned::{Owner, OwnerId};
use crate::sync::snapshot::{Current, Snapshot};
use crate::sync::under_way::UnderWay;

use super::Phase;
use super::engine::{Engine, WorkerTable};
use super::timer::Timers;
use restart::{Given, Restarts};
use services::Directed;
use wants::has_room;

pub(crate) use verdict::call_behind_mailbox;

/// Between two steps of a worker: there tests may have it panic.
macro_rules! visit {
    ($boundary:ident) => {{
        #[cfg(feature = "stall")]
        crate::worker::fault::visit(crate::worker::fault::Boundary::$boundary);
    }};
}

mod call;
mod rest;
mod restart;
mod serve;
mod services;
mod throttle;
mod unserved;
mod upkeep;
mod verdict;
mod wants;

/// A worker that always has something to do looks for stalled publishers after so many turns, and after each long one.
const WATCH_TURNS: u32 = 256;
/// Turns after which waiting publishers are woken, however little room there is.
const GATE_TURNS: u32 = 8;

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// So many events were passed; and whether no more could be seen then.
    Worked { events: usize, caught_up: bool },
    /// Nothing to do.
    Idle,
    /// Everything was read and no more can come: the worker may leave.
    Finished,
}

/// One worker. It alone owns its cursors, its table, its handlers and its measurements.
pub(crate) struct Worker {
    index: usize,
    engine: Arc<Engine>,
    alarm: Arc<Alarm>,
    reader: Reader,
    /// Where newer tables come from.
    exchange: Arc<Snapshot<WorkerTable>>,
    table: Current<WorkerTable>,
    recorder: Arc<Recorder>,
    under_way: Arc<UnderWay>,
    owner: Owner,
    order: DrainOrder,
    /// Lanes whose next event waits for room in a mailbox that blocks.
    suspended: u8,
    /// Lanes that the throttle holds back, a bit each, and until when.
    throttled: u8,
    throttled_until: u64,
    /// Worker 0 keeps the timers.
    timers: Option<(Timers, Claimant)>,
    /// The slot of each lane that was last seen claimed and empty, and since when; 0 = none was.
    stalled: [(u64, u64); LANES],
    wall_checked: u64,
    /// When it last looked whether other workers come back from their handlers.
    hangs_looked: u64,
    stopwatch: Stopwatch,
    /// The bus was shutting down when this turn began.
    closing: bool,
    /// Lanes of which this turn passed events, a bit each.
    moved: u8,
    /// When it last caught up with a flow.
    caught_up: Instant,
    /// Events passed since then.
    flow: usize,
    /// Turns in a row that made too little room to wake waiting publishers for.
    gate_shut: u32,
    /// Turns that passed events since the last look for stalled publishers.
    unwatched: u32,
    /// Where the event at the head of each lane goes.
    directed: [Directed; LANES],
    /// How far the event that is being passed has been given out.
    given: Given,
    restarts: Restarts,
}

/// Why an event could not be passed.
struct NoRoom;

impl Worker {
    pub(crate) fn new(index: usize, engine: Arc<Engine>, table: Current<WorkerTable>) -> Self {
        let timers = (index == 0).then(|| {
            let max = engine.schedule.max() as usize;
            (Timers::new(max), Claimant::new(Arc::clone(&engine.lanes), false))
        });
        Self {
            index,
            reader: Reader::new(Arc::clone(&engine.lanes), index),
            order: DrainOrder::new(engine.critical_burst_max),
            exchange: Arc::clone(&engine.tables[index]),
            recorder: Arc::clone(&engine.recorders[index]),
            alarm: Arc::clone(&engine.alarms[index]),
            under_way: Arc::clone(&engine.under_way[index]),
            engine,
            table,
            owner: Owner::new(),
            suspended: 0,
            throttled: 0,
            throttled_until: 0,
            timers,
            stalled: [(0, 0); LANES],
            wall_checked: 0,
            hangs_looked: 0,
            stopwatch: Stopwatch::default(),
            closing: false,
            moved: 0,
            caught_up: Instant::now(),
            flow: 0,
            gate_shut: 0,
            unwatched: 0,
            directed: Default::default(),
            given: Given::NONE,
            restarts: Restarts::default(),
        }
    }

    /// For handlers that this worker is to own.
    pub(crate) fn owner_id(&self) -> OwnerId {
        self.owner.id()
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Takes a newer table over. The first one brings the first subscription: from then on this worker's cursors gate.
    pub(crate) fn adopt(&mut self) {
        self.directed.iter_mut().for_each(Directed::forget);
        self.reader.activate();
        let (engine, reader, owner) = (&*self.engine, &self.reader, &mut self.owner);
        let mut closed = Some(());
        self.exchange.adopt(&mut self.table, |old, new| {
            let ended = || new.ended.iter().filter(|ended| ended.is_first());
            // A table that is half taken over would be lost.
            closed = contained(|| ended().for_each(|ended| unserved::close_books(engine, reader, ended, owner)));
            // They go with the table that is retired, and so not on this thread.
            old.ended = std::mem::take(&mut new.ended);
        });
        closed.expect("the books of a subscription that ended were closed");
    }

    /// One duty cycle: at most `turn_max` events.
    ///
    /// # Cost
    /// No lock, no allocation. Cursors are published once, at the end.
    pub(crate) fn turn(&mut self) -> Turn {
        visit!(Begin);
        if self.exchange.is_stale(&self.table) {
            self.adopt();
        }
        let phase = self.engine.phase();
        if phase >= Phase::Halting {
            return Turn::Finished;
        }
        self.closing = phase > Phase::Running;
        let mut passed = self.run_timers();
        visit!(Timers);
        // Beside what the lanes may bring: however much comes back, they get their turn.
        let mut taken = if self.is_alarm_due() { self.attend() } else { 0 };
        if self.is_service_called() {
            taken += self.pass_waiting();
        }
        visit!(Attended);
        (self.suspended, self.throttled) = (0, 0);
        self.moved = 0;
        self.stopwatch.begin_turn();
        let mut caught_up = false;
        while passed < self.engine.turn_max {
            let Some(serve) = self.order.next(self.ready()) else {
                caught_up = self.suspended | self.throttled == 0;
                break;
            };
            visit!(Serve);
            let max = serve.max.min((self.engine.turn_max - passed) as u32);
            let serve = Serve { max, urgent: serve.urgent & !self.suspended, ..serve };
            let served = if self.engine.throttle.is_some() {
                match self.serve_throttled(serve) {
                    Ok(served) => served,
                    Err(until) => {
                        self.hold_back(until);
                        continue;
                    }
                }
            } else {
                self.serve(serve)
            };
            let served = match served {
                Ok(served) => served,
                Err(NoRoom) => {
                    self.suspended |= 1 << serve.lane;
                    continue;
                }
            };
            self.order.served(serve.lane, served);
            self.moved |= 1 << serve.lane;
            passed += served as usize;
            visit!(Passed);
            // A newer table is taken over between two events, and a long turn is cut short. A handler may also have held
            // the worker past the end of the bus: that is told the same way, and nothing more is called then.
            if self.stopwatch.is_turn_long() || self.exchange.is_stale(&self.table) {
                break;
            }
        }
        visit!(Unreleased);
        if passed + taken > 0 {
            self.under_way.rest();
            self.reader.release();
            visit!(Released);
            // Waking publishers for a few slots costs more than it brings, but nobody is kept waiting for many turns.
            let enough = passed < self.engine.turn_max || self.has_made_room();
            self.gate_shut = if enough || self.gate_shut >= GATE_TURNS { 0 } else { self.gate_shut + 1 };
            if self.gate_shut == 0 {
                self.engine.gate.open();
            }
            // One lane may stand still while the others leave no turn idle.
            self.unwatched += 1;
            if self.unwatched >= WATCH_TURNS || self.stopwatch.is_turn_long() {
                self.watch();
            }
            return Turn::Worked { events: passed + taken, caught_up };
        }
        if std::mem::take(&mut self.gate_shut) > 0 {
            self.engine.gate.open();
        }
        if phase == Phase::Draining && self.suspended == 0 && self.has_read_all() && !self.is_needed() {
            return Turn::Finished;
        }
        Turn::Idle
    }

    /// Whether one of the lanes that moved has room worth waking a waiting publisher for. One that has not will move
    /// again, or the worker falls idle and opens the gate then.
    fn has_made_room(&self) -> bool {
        let limit = self.engine.lanes.limit();
        (0..LANES).any(|lane| self.moved & (1 << lane) != 0 && self.reader.lag(lane) <= limit - limit / 4)
    }

    /// Lanes of which the last turn passed events, a bit each.
    pub(super) fn moved(&self) -> u8 {
        self.moved
    }

    /// Lanes with a committed event that may be passed, one bit each.
    #[inline(always)]
    fn ready(&self) -> u8 {
        self.reader.ready() & !(self.suspended | self.throttled)
    }

    /// Whether a turn would find something. Asked once more before sleeping.
    pub(crate) fn has_work(&mut self) -> bool {
        if self.exchange.is_stale(&self.table) {
            return true;
        }
        let phase = self.engine.phase();
        match phase {
            Phase::Running | Phase::Closing => {}
            Phase::Draining if self.suspended != 0 || !self.has_read_all() || self.is_needed() => {}
            Phase::Draining | Phase::Halting | Phase::Stopped => return true,
        }
        if self.timers.is_some() && self.engine.schedule.has_some() || self.is_alarm_due() || self.is_service_called() {
            return true;
        }
        // Nothing is throttled any more once the bus closes; who closed it may have come before the announcement of this sleep.
        let is_let_go = || phase > Phase::Running || self.throttled_until <= self.engine.directory.clock.now();
        if self.ready() != 0 || self.throttled != 0 && is_let_go() {
            return true;
        }
        (0..LANES).any(|lane| self.suspended & (1 << lane) != 0 && self.may_resume(lane))
    }

    /// Whether the mailboxes that suspended `lane` have room now.
    fn may_resume(&mut self, lane: usize) -> bool {
        let Some(slot) = self.reader.peek(lane) else { return false };
        let header = Header::of_words(slot.head);
        let Some(rest) = slot.rest() else { return true };
        let table = self.table.get();
        let route = table.route(header.type_id);
        let Ok(meta) = Meta::new(header, rest, self.reader.sequence(lane), &self.engine.directory) else {
            return false;
        };
        if !has_room(route.map_or(&[], Route::targets), lane, &meta, &mut self.owner) {
            return false;
        }
        let directed = self.directed[lane].ask(&table.services, route, &meta);
        services::have_room(&table.services, &directed.wanted, &mut self.owner)
    }

    fn has_read_all(&self) -> bool {
        !self.reader.is_active() || (0..LANES).all(|lane| self.reader.lag(lane) == 0)
    }
}

#[cfg(test)]
mod tests;
