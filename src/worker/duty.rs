//! The duty cycle: one turn reads a batch of events, most urgent first, and brings each to its subscriptions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delivery::{Kept, Notice, Route, Run, Sink, Stopwatch, SubscriptionState};
use crate::event::{FLAG_MEASURED, FLAG_TARGETED, Header, Meta, Priority};
use crate::metrics::Recorder;
use crate::ring::{Claimant, DrainOrder, Frame, HEAD_BYTES, LANES, Reader, Rest, Serve};
use crate::sync::alarm::{Alarm, NEVER};
use crate::sync::contain::contained;
use crate::sync::limiter::Limiter;
use crate::sync::owned::{Owner, OwnerId};
use crate::sync::snapshot::{Current, Snapshot};

use super::Phase;
use super::engine::{Engine, PublisherCounts, WorkerTable};
use super::timer::{Scheduled, Timers};
use call::{Call, consume, finish, has_room};
use services::Wanted;

pub(crate) use call::call_behind_mailbox;

mod call;
mod services;

/// A publisher that keeps a claimed slot empty for longer than this is reported.
const STALL_NS: u64 = 1_000_000_000;
/// A worker that always has something to do looks for stalled publishers after so many turns, and after each long one.
const WATCH_TURNS: u32 = 256;
/// How often the wall clock's origin is looked at again.
const WALL_CHECK_NS: u64 = 1_000_000_000;

/// What one event of a flow adds to the time that a worker coalesces: a few times what it takes to hand it over, or else
/// batches would not grow.
const COALESCE_NS: u64 = 50;
/// Nanoseconds an event, from one catching up to the next, up to which a flow is dense: slower ones do not wait for lines.
const DENSE_NS: u64 = 200;

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
}

/// Why an event could not be passed.
struct NoRoom;

/// What the throttle lets pass.
struct Lease {
    events: u32,
    /// Taken from the throttle, and so to be given back.
    counted: bool,
    taken: u64,
}

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
            engine,
            table,
            owner: Owner::new(),
            suspended: 0,
            throttled: 0,
            throttled_until: 0,
            timers,
            stalled: [(0, 0); LANES],
            wall_checked: 0,
            stopwatch: Stopwatch::default(),
            closing: false,
            moved: 0,
            caught_up: Instant::now(),
            flow: 0,
            gate_shut: 0,
            unwatched: 0,
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
        self.reader.activate();
        self.exchange.adopt(&mut self.table);
    }

    /// One duty cycle: at most `turn_max` events.
    ///
    /// # Cost
    /// No lock, no allocation. Cursors are published once, at the end.
    pub(crate) fn turn(&mut self) -> Turn {
        if self.exchange.is_stale(&self.table) {
            self.adopt();
        }
        let phase = self.engine.phase();
        if phase >= Phase::Halting {
            return Turn::Finished;
        }
        self.closing = phase > Phase::Running;
        let mut passed = self.run_timers();
        // Beside what the lanes may bring: however much comes back, they get their turn.
        let mut taken = if self.is_alarm_due() { self.attend() } else { 0 };
        if self.is_service_called() {
            taken += self.pass_waiting();
        }
        (self.suspended, self.throttled) = (0, 0);
        self.moved = 0;
        self.stopwatch.begin_turn();
        let mut caught_up = false;
        while passed < self.engine.turn_max {
            let Some(serve) = self.order.next(self.ready()) else {
                caught_up = self.suspended | self.throttled == 0;
                break;
            };
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
            // A newer table is taken over between two events, and a long turn is cut short. A handler may also have held
            // the worker past the end of the bus: that is told the same way, and nothing more is called then.
            if self.stopwatch.is_turn_long() || self.exchange.is_stale(&self.table) {
                break;
            }
        }
        if passed + taken > 0 {
            self.reader.release();
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

    /// Lanes with a committed event that may be passed, one bit each.
    #[inline(always)]
    fn ready(&self) -> u8 {
        self.reader.ready() & !(self.suspended | self.throttled)
    }

    /// As `serve`, as far as the throttle lets it, which holds up neither Critical events nor a shutdown. `Err` is from when on
    /// it lets an event pass.
    #[inline(never)]
    fn serve_throttled(&mut self, serve: Serve) -> Result<Result<u32, NoRoom>, u64> {
        let lease = match &self.engine.throttle {
            Some(throttle) if serve.lane != 0 && !self.closing => self.ask(throttle, serve.lane, serve.max)?,
            _ => return Ok(self.serve(serve)),
        };
        let served = self.serve(Serve { max: lease.events, ..serve });
        self.settle(&lease, *served.as_ref().unwrap_or(&0));
        Ok(served)
    }

    /// Asks the throttle for events of `lane`, whose next one is seen: how many of `max` may pass, or from when on one may.
    #[cold]
    #[inline(never)]
    fn ask(&self, throttle: &Limiter, lane: usize, max: u32) -> Result<Lease, u64> {
        let taken = self.engine.directory.clock.now();
        let table = self.table.get();
        let header = self.reader.peek(lane).map(|slot| Header::of_words(slot.head));
        let type_id = header.map_or(0, |header| header.type_id);
        // It may name a service of this worker, whose type nobody needs to have subscribed to.
        let is_named = !table.services.is_empty() && header.is_some_and(|header| header.has(FLAG_TARGETED));
        let is_wanted = is_named || table.route(type_id).is_some();
        if !is_wanted && (table.knows(type_id) || !self.exchange.is_stale(&self.table)) {
            // Nobody's business here: it is stepped over.
            return Ok(Lease { events: 1, counted: false, taken });
        }
        let events = throttle.pass_some(taken, max)?;
        Ok(Lease { events, counted: true, taken })
    }

    /// Gives back what the throttle let pass and was not passed.
    #[cold]
    #[inline(never)]
    fn settle(&self, lease: &Lease, served: u32) {
        let unused = lease.events - served;
        if let Some(throttle) = &self.engine.throttle
            && lease.counted
            && unused > 0
        {
            throttle.give_back(unused, lease.taken, self.engine.directory.clock.now());
        }
    }

    /// The throttle lets nothing pass before this instant: all but Critical waits.
    #[cold]
    fn hold_back(&mut self, until: u64) {
        if until != self.throttled_until {
            self.recorder.throttled.add(1);
        }
        (self.throttled, self.throttled_until) = (!1, until);
    }

    /// Whether the throttle is all that the worker waits for.
    pub(super) fn is_held_back(&self) -> bool {
        self.throttled != 0
    }

    /// Leaves the lanes alone for a while after a flow of `events` that ended with the last one there was.
    ///
    /// Who reads each slot as soon as it is written pulls the lines out of the publisher's hands, and both wait for lines
    /// instead of working: the flow is several times slower. Left alone, the publisher fills a batch; in a flow fast
    /// enough to gain by it the batches grow, each while the worker rests from the one before. Nobody rests after single
    /// events, slow ones or Critical ones, and a more urgent event, a newer table or the end of the bus ends the rest.
    ///
    /// `lanes` are the flow's, a bit each; `pause` is what to do between two looks at the time and at more urgent lanes.
    pub(crate) fn coalesce(&mut self, events: usize, lanes: u8, pause: fn()) {
        // What single events took counts too: a worker at the publisher's heels meets few others.
        self.flow = if lanes & 1 == 0 { self.flow + events } else { 0 };
        let rest = self.rest_after(events, lanes);
        if rest.is_zero() {
            return;
        }
        // Real time, whatever the clock of the bus shows.
        let begun = Instant::now();
        let is_dense = is_dense(self.flow, begun.saturating_duration_since(self.caught_up));
        let mut now = begun;
        while is_dense && now.saturating_duration_since(begun) < rest && !self.is_called() {
            pause();
            now = Instant::now();
        }
        (self.caught_up, self.flow) = (now, 0);
    }

    /// Lanes of which the last turn passed events, a bit each.
    pub(super) fn moved(&self) -> u8 {
        self.moved
    }

    /// How long to rest at most after a dense flow of `events`; zero: not at all.
    fn rest_after(&self, events: usize, lanes: u8) -> Duration {
        if events < 2 || lanes & 1 != 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((events as u64).saturating_mul(COALESCE_NS).min(self.engine.coalesce_max_ns))
    }

    /// Whether something does not wait for the end of a rest.
    fn is_called(&self) -> bool {
        let urgent = (1_u8 << self.moved.trailing_zeros().min(LANES as u32)) - 1;
        self.reader.has_any(urgent) || self.exchange.is_stale(&self.table) || self.engine.phase() > Phase::Running
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
        if self.timers.is_some() && self.engine.schedule.has_intake() || self.is_alarm_due() || self.is_service_called()
        {
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
        let mut wanted = Wanted::new();
        services::add_wanted(&mut wanted, &table.services, route, &meta);
        has_room(route.map_or(&[], Route::targets), lane, &meta, &mut self.owner)
            && services::have_room(&table.services, &wanted, &mut self.owner)
    }

    fn has_read_all(&self) -> bool {
        !self.reader.is_active() || (0..LANES).all(|lane| self.reader.lag(lane) == 0)
    }

    /// Brings events of a lane that has one to their subscriptions. Returns how many.
    #[inline(always)]
    fn serve(&mut self, serve: Serve) -> Result<u32, NoRoom> {
        let lane = serve.lane;
        let Some(slot) = self.reader.peek(lane) else { return Ok(0) };
        let header = Header::of_words(slot.head);
        let (type_id, is_targeted) = (header.type_id, header.has(FLAG_TARGETED));
        if !self.table.get().knows(type_id) && self.exchange.is_stale(&self.table) {
            // The type is younger than the table; whoever made it offered a table that knows it first.
            self.exchange.adopt(&mut self.table);
        }
        let Some(route) = self.table.get().route(type_id) else {
            if is_targeted {
                self.pass(lane)?;
            }
            self.reader.advance(lane);
            return Ok(1);
        };
        // One inline subscription is the most common case.
        if let [only] = route.targets()
            && route.is_plain(lane, self.reader.sequence(lane))
            && let Sink::Inline(handler) = &only.sink
            && !self.engine.debug
            && let Some(handler) = handler.get_mut(&mut self.owner).and_then(Kept::get_mut)
        {
            let run = Run {
                reader: &mut self.reader,
                lane,
                urgent: serve.urgent,
                type_id,
                max: serve.max,
                served: 0,
                subscription: only,
                directory: &self.engine.directory,
                interrupt: self.exchange.watch(&self.table),
                stages: &self.recorder.lanes[lane],
                stopwatch: &mut self.stopwatch,
                slow_ns: self.engine.slow_handler_ns,
                closing: self.closing,
                measured: false,
                elapsed: None,
            };
            let served = finish(&self.engine, run, handler);
            if served > 0 {
                return Ok(served);
            }
        }
        self.pass(lane)?;
        self.reader.advance(lane);
        Ok(1)
    }

    /// Brings the next event of `lane` to all its subscriptions, whatever they are.
    #[inline(never)]
    fn pass(&mut self, lane: usize) -> Result<(), NoRoom> {
        let sequence = self.reader.sequence(lane);
        let Some(slot) = self.reader.peek(lane) else { return Ok(()) };
        let header = Header::of_words(slot.head);
        let Some(rest) = slot.rest() else { return Ok(()) };
        let table = self.table.get();
        let route = table.route(header.type_id);
        let engine = &*self.engine;
        let Ok(meta) = Meta::new(header, rest, sequence, &engine.directory) else { return Ok(()) };
        let plain = route.is_some_and(|route| route.is_plain(lane, sequence)) && header.deadline == 0;
        let targets = route.map_or(&[][..], Route::targets);
        let stages = &self.recorder.lanes[lane];
        let measured = header.has(FLAG_MEASURED);
        // Written where it stays, before anybody asks for it.
        let mut call = Call {
            engine,
            lane,
            lag: &self.reader,
            stages,
            header,
            meta,
            slot,
            closing: self.closing,
            measured,
            stopwatch: &mut self.stopwatch,
            called: false,
        };
        if !plain && !has_room(targets, lane, &call.meta, &mut self.owner) {
            return Err(NoRoom);
        }
        let mut wanted = Wanted::new();
        if !table.services.is_empty() {
            services::add_wanted(&mut wanted, &table.services, route, &call.meta);
            if !services::have_room(&table.services, &wanted, &mut self.owner) {
                return Err(NoRoom);
            }
        }
        if measured {
            call.stopwatch.begin(&engine.directory.clock, stages, header);
        } else {
            call.stopwatch.skip();
        }
        if header.type_id == 0 {
            self.recorder.matched_by_name.add(1);
        }
        let mut targets = targets.iter();
        while !targets.as_slice().is_empty() {
            // One net for as many handlers as do not panic; whose panic it was, the targets left tell.
            let left = targets.as_slice();
            let ended = contained(|| match plain {
                true => call.deliver_inline(&mut targets, &mut self.owner),
                false => call.deliver(&mut targets, &mut self.owner),
            });
            if !matches!(ended, Some(None)) {
                call.book(&left[left.len() - targets.len() - 1], ended.flatten());
            }
        }
        let Call { meta, slot, called, .. } = call;
        for service in wanted.iter().filter_map(|&place| table.services.get(usize::from(place))) {
            services::hand_over(engine, service, lane, &meta, &slot, &mut self.owner);
        }
        if !called {
            // Mailboxes took time that is no handler's.
            self.stopwatch.skip();
        }
        Ok(())
    }

    /// Publishes scheduled events that are due. Returns how many.
    fn run_timers(&mut self) -> usize {
        let Some((timers, claimant)) = &mut self.timers else { return 0 };
        let engine = &*self.engine;
        if engine.schedule.has_intake() {
            timers.collect(&engine.schedule);
        }
        if timers.is_empty() {
            return 0;
        }
        let now = engine.directory.clock.now();
        // The timers publish like any publisher, so that a shutdown waits for them before it drains the lanes.
        let slot = &engine.publishers[engine.publishers.len() - 1];
        if timers.next_due().is_none_or(|due| due > now) {
            return 0;
        }
        let Some(inside) = slot.enter(&engine.admission) else { return 0 };
        timers.run(now, &engine.schedule, |event| publish_due(engine, claimant, inside.counts(), event))
    }

    #[inline(always)]
    fn is_alarm_due(&self) -> bool {
        let at = self.alarm.at();
        at != NEVER && at <= self.engine.directory.clock.now()
    }

    /// Looks after the subscriptions whose events come back, when one of them is due. Returns how many events the worker's
    /// own handlers took.
    fn attend(&mut self) -> usize {
        let (engine, alarm) = (&*self.engine, &*self.alarm);
        let now = engine.directory.clock.now();
        alarm.take();
        // Tasks that wait for a rate limit: who is still to wait sets the alarm anew.
        engine.gate.open();
        let (mut next, mut taken) = (NEVER, 0);
        let table = self.table.get();
        let attended = &table.attended;
        // Half a turn for all of them together.
        let share = (engine.turn_max / 2 / attended.len().max(1)).max(1);
        for subscription in attended {
            let Sink::Mailbox(mailbox, fed) = &subscription.sink else { continue };
            let Some(fed) = fed.get_mut(&mut self.owner) else { continue };
            next = next.min(mailbox.attend(fed, now, subscription.has_thread()));
            if let Some(desk) = &subscription.desk {
                next = next.min(desk.attend(now));
            }
            if fed.consumer.is_some() {
                taken += consume(engine, subscription, mailbox, fed, share);
                next = next.min(mailbox.consumer_due(now));
            }
        }
        for service in &table.services {
            let (moved, again) = services::attend(engine, service, share, now, next, &mut self.owner);
            (taken, next) = (taken + moved, again);
        }
        alarm.resume(next);
        taken
    }

    /// Whether events wait at a service for an instance, and there is one.
    #[inline(always)]
    fn is_service_called(&mut self) -> bool {
        self.table.get().services.iter().any(|service| services::is_called(service, &mut self.owner))
    }

    /// Brings events that wait for an instance to one. Returns how many.
    #[cold]
    fn pass_waiting(&mut self) -> usize {
        let mut passed = 0;
        for service in &self.table.get().services {
            if services::is_called(service, &mut self.owner) {
                let share = (self.engine.turn_max / 2 / self.table.get().services.len()).max(1);
                passed += services::pass_waiting(&self.engine, service, share, &mut self.owner);
            }
        }
        passed
    }

    /// Whether events are still to come back to this worker.
    fn is_needed(&mut self) -> bool {
        if self.table.get().services.iter().any(|service| services::is_needed(service)) {
            return true;
        }
        self.table.get().attended.iter().any(|subscription| match &subscription.sink {
            Sink::Mailbox(mailbox, fed) => {
                let is_consumer = fed.get_mut(&mut self.owner).is_some_and(|fed| fed.consumer.is_some());
                // What a pause holds does not come in time, nor does what is behind it.
                !mailbox.is_paused() && (mailbox.is_waiting() || is_consumer && mailbox.needs_consumer())
            }
            Sink::Inline(_) => false,
        })
    }

    /// What a worker looks after now and then: stalled publishers, the next timer. Returns when to look again. Not for
    /// every turn or idle look: it reads the publishers' claims, and so takes their cache lines away.
    #[cold]
    pub(crate) fn watch(&mut self) -> Option<u64> {
        self.unwatched = 0;
        let now = self.engine.directory.clock.now();
        if now.saturating_sub(self.wall_checked) >= WALL_CHECK_NS {
            self.wall_checked = now;
            self.engine.directory.clock.follow_wall();
        }
        let scheduled = self.timers.as_ref().and_then(|(timers, _)| timers.next_due());
        let held_back = if self.throttled != 0 { self.throttled_until } else { NEVER };
        let next = self.alarm.at().min(scheduled.unwrap_or(NEVER)).min(held_back);
        self.engine.feel_pressure();
        let mut due = (next != NEVER).then_some(next);
        if !self.reader.is_active() {
            return due;
        }
        for lane in 0..LANES {
            let waits =
                self.suspended & (1 << lane) == 0 && self.reader.lag(lane) > 0 && !self.reader.has_any(1 << lane);
            if !waits {
                continue;
            }
            let now = self.engine.directory.clock.now();
            let sequence = self.reader.sequence(lane);
            let (stalled, since) = self.stalled[lane];
            if stalled != sequence || since == 0 {
                self.stalled[lane] = (sequence, now);
            } else if now.saturating_sub(since) >= STALL_NS {
                let priority = Priority::of_lane(lane);
                self.engine.notice(&Notice::StalledPublisher { priority, sequence });
                self.stalled[lane] = (sequence, now);
            }
            // Behind the empty slot there may be an event for this worker, whose publisher's wake-up it has had already; the
            // one who fills the slot may have another type and wake somebody else. So: look again soon.
            due = Some(due.map_or(now, |due| due.min(now)));
        }
        due
    }

    /// Tells the mailboxes that hold this worker up that it is about to sleep for want of a cell, or
    /// that it is awake again. Between the two it serves nothing and takes no newer table, so both go to the same mailboxes.
    pub(crate) fn starve(&mut self, starved: bool) {
        for service in &self.table.get().services {
            if !starved || services::is_waiting(service) {
                starve(&service.instances, starved);
            }
        }
        for lane in 0..LANES {
            if self.suspended & (1 << lane) == 0 {
                continue;
            }
            let Some(slot) = self.reader.peek(lane) else { continue };
            let type_id = Header::of_words(slot.head).type_id;
            let table = self.table.get();
            // Of all services: which of them the event goes to costs more to find out.
            table.services.iter().for_each(|service| starve(&service.instances, starved));
            starve(table.route(type_id).map_or(&[], Route::targets), starved);
        }
    }
}

fn starve(subscriptions: &[Arc<SubscriptionState>], starved: bool) {
    for subscription in subscriptions {
        if let Sink::Mailbox(mailbox, _) = &subscription.sink {
            mailbox.custody().starve(starved);
        }
    }
}

/// Whether a flow of `events` in this time gains by a rest.
fn is_dense(events: usize, took: Duration) -> bool {
    took <= Duration::from_nanos((events as u64).saturating_mul(DENSE_NS))
}

/// Puts a due event into its lane. False when the lane is full: it is tried again with the next turn.
fn publish_due(engine: &Engine, claimant: &mut Claimant, counts: &PublisherCounts, event: &mut Scheduled) -> bool {
    let lane = LANES - 1 - usize::from(event.header.priority & 3);
    let workers = engine.wanted_by(event.header.type_id, event.header.flags, lane);
    if workers == 0 {
        counts.unmatched.add(1);
        return true;
    }
    let bytes = event.header.rest_bytes();
    let inline_max = engine.lanes.body_bytes() - HEAD_BYTES;
    let head = *event.header.as_words();
    let sent = if bytes <= inline_max {
        claimant.push(lane, Frame { head: &head, rest: Rest::Inline(&event.rest.bytes()[..bytes]) })
    } else {
        claimant.push(lane, Frame { head: &head, rest: Rest::Block(&event.rest, workers) })
    };
    match &sent {
        Ok(_) => {
            counts.routed.add(1);
            engine.parker.wake(workers);
        }
        // Sleeping workers that do not want what fills the lane may hold it.
        Err(_) => engine.parker.wake(engine.lanes.active()),
    }
    sent.is_ok()
}

#[cfg(test)]
mod tests;
