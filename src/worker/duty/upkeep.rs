//! What a worker does beside its lanes: timers, events that come back, stalled publishers, and what to do before it sleeps.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::delivery::{Brought, Fed, MailboxShared, Notice, Rejoined, Route, Sink, SubscriptionState};
use crate::event::{EventId, Header, Priority};
use crate::ring::{Claimant, Frame, HEAD_BYTES, LANES, Rest};
use crate::sync::alarm::NEVER;
use crate::worker::engine::{Engine, PublisherCounts};
use crate::worker::timer::Scheduled;

use super::call::consume;
use super::verdict::hung;
use super::{Worker, services};

/// A publisher that keeps a claimed slot empty for longer than this is reported.
const STALL_NS: u64 = 1_000_000_000;
/// How often the wall clock's origin is looked at again.
const WALL_CHECK_NS: u64 = 1_000_000_000;
/// The shortest time between two looks at what other workers do: such a look takes lines from them, and wakes one that sleeps.
const HANG_LOOK_MIN: Duration = Duration::from_millis(100);
/// When what came back from a store and found no room is tried again.
const BRING_BACK_AGAIN_NS: u64 = 1_000_000;

impl Worker {
    /// Publishes scheduled events that are due. Returns how many.
    pub(super) fn run_timers(&mut self) -> usize {
        let Some((timers, claimant)) = &mut self.timers else { return 0 };
        let engine = &*self.engine;
        if engine.schedule.has_some() {
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
    pub(super) fn is_alarm_due(&self) -> bool {
        let at = self.alarm.at();
        at != NEVER && at <= self.engine.directory.clock.now()
    }

    /// Looks after the subscriptions whose events come back, when one of them is due. Returns how many events the worker's
    /// own handlers took.
    pub(super) fn attend(&mut self) -> usize {
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
            next = next.min(mailbox.attend(fed, now)).min(attend_call(engine, subscription, mailbox, now));
            if mailbox.spill().is_some() {
                let (brought, again) = bring_back(engine, subscription, mailbox, fed, share, now);
                (taken, next) = (taken + brought, next.min(again));
            }
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
    pub(super) fn is_service_called(&mut self) -> bool {
        self.table.get().services.iter().any(|service| services::is_called(service, &mut self.owner))
    }

    /// Brings events that wait for an instance to one. Returns how many.
    #[cold]
    pub(super) fn pass_waiting(&mut self) -> usize {
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
    pub(super) fn is_needed(&mut self) -> bool {
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
        let next = next.min(self.look_for_hangs(now));
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

    /// Looks now and then whether the other workers come back from their handlers, for one that does not can tell nobody. Returns when to
    /// look again.
    fn look_for_hangs(&mut self, now: u64) -> u64 {
        let engine = &*self.engine;
        // A schedule of shuttle has no time.
        let is_wanted = engine.workers() > 1 && !cfg!(ringmain_shuttle);
        let Some(least) = engine.hang_look().filter(|_| is_wanted) else { return NEVER };
        let pause = least.max(HANG_LOOK_MIN).as_nanos() as u64;
        if now < self.hangs_looked.saturating_add(pause) {
            return self.hangs_looked + pause;
        }
        self.hangs_looked = now;
        for (worker, under_way) in engine.under_way.iter().enumerate() {
            if worker != self.index
                && under_way.is_calling()
                && let Some(watch) = engine.hang_watch.get().and_then(Weak::upgrade)
            {
                watch.look_for_hang(worker);
            }
        }
        now + pause
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

/// Takes back what a mailbox has in a store. Returns how many events, and the instant to look again at.
fn bring_back(
    engine: &Engine,
    subscription: &SubscriptionState,
    mailbox: &MailboxShared,
    fed: &mut Fed,
    share: usize,
    now: u64,
) -> (usize, u64) {
    let Brought { events, lost, waits, rejoined } = mailbox.bring_back(fed, share);
    let (id, name) = (subscription.id, subscription.name.as_str());
    if lost > 0 {
        subscription.counts.lost.add(lost);
        engine.notice(&Notice::SpillLost { subscription: id, name, events: lost });
    }
    if let Some(Rejoined { since, events }) = rejoined {
        let after = Duration::from_nanos(now.saturating_sub(since));
        engine.notice(&Notice::Rejoined { subscription: id, name, after, events });
    }
    // Nobody tells when there is room, nor when the worker has come far enough.
    (events, if waits { now + BRING_BACK_AGAIN_NS } else { NEVER })
}

/// Tells of a handler's call whose time is over. Returns the instant to look again at.
fn attend_call(engine: &Engine, subscription: &SubscriptionState, mailbox: &MailboxShared, now: u64) -> u64 {
    let overrun = match mailbox.attend_call(now) {
        None => return NEVER,
        Some(Err(next)) => return next,
        Some(Ok(overrun)) => overrun,
    };
    hung(engine, subscription, EventId::from(overrun.event), overrun.elapsed);
    // Its consumer sets the alarm with its next call.
    NEVER
}

fn starve(subscriptions: &[Arc<SubscriptionState>], starved: bool) {
    for subscription in subscriptions {
        if let Sink::Mailbox(mailbox, _) = &subscription.sink {
            mailbox.custody().starve(starved);
        }
    }
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
