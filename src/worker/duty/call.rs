//! One event at its subscriptions: who wants it, what its handlers make of it, and what is booked and told of that.

use std::slice::Iter;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{
    BreakerState, Consumer, DeadReason, Dispatch, Fed, MailboxShared, Notice, Outcome, Overflow, Pass, Run, Scene,
    Sink, State, Stopwatch, SubscriptionState, Takes, meta_of,
};
use crate::event::{DecodeError, EventId, Header, Meta};
use crate::ring::{LANES, Put, Reader, Serve, Slot};
use crate::routing::Refusal;
use crate::sync::contain::{Kept, contained};
use crate::sync::limiter::Limiter;
use crate::sync::mutant::mutant;
use crate::sync::owned::{OwnedCell, Owner};
use crate::sync::under_way::UnderWay;
use crate::worker::Phase;
use crate::worker::engine::Engine;

/// Events that a worker's own handler takes from its mailbox when one comes: that one, and one of what is queued before it.
/// The others have a turn of their own.
const CATCH_UP_MAX: usize = 2;

/// Whether every mailbox that blocks and wants the event could take it: checked before anyone gets it, so that an event
/// that has to wait has gone to nobody.
#[inline(always)]
pub(super) fn has_room(targets: &[Arc<SubscriptionState>], lane: usize, meta: &Meta<'_>, owner: &mut Owner) -> bool {
    targets.iter().all(|subscription| match &subscription.sink {
        Sink::Inline(_) => true,
        Sink::Mailbox(mailbox, fed) => {
            mailbox.overflow() != Overflow::Block
                || fed.get_mut(owner).is_none_or(|fed| fed.intake.has_room(meta))
                || mailbox.custody().is_closed()
                || !wants(subscription, lane, meta)
                || refuses(subscription, meta)
        }
    })
}

/// Whether a target of the event's type wants this very event, as far as that does not depend on its content: published
/// after it subscribed, at a priority it asked for, and under a name it matches where the table could not tell.
#[inline(always)]
pub(super) fn wants(subscription: &SubscriptionState, lane: usize, meta: &Meta<'_>) -> bool {
    subscription.has_started(lane, meta.sequence())
        && subscription.filter.lanes() & (1 << lane) != 0
        && (meta.header().type_id != 0 || subscription.wants_type(meta.topic()))
}

/// Whether a subscription with a full mailbox refuses the event as a replay, or its filters do by source or content. Asked again with each turn that the
/// mailbox stays full.
#[cold]
fn refuses(subscription: &SubscriptionState, meta: &Meta<'_>) -> bool {
    (meta.is_replay() && !subscription.takes_replay(meta))
        || (subscription.filter.is_dynamic() && subscription.filter.refusal(meta).is_some())
}

/// Lets an inline handler run, and books what came of it. Returns how many events it had.
#[inline(always)]
pub(super) fn finish(engine: &Engine, mut run: Run<'_>, handler: &mut dyn Dispatch) -> u32 {
    let ended = contained(|| handler.run(&mut run));
    let counts = &run.subscription.counts;
    counts.matched.add(u64::from(run.served));
    counts.delivered.add(u64::from(run.served));
    if !matches!(ended, Some(None)) {
        settle(engine, &mut run, ended.flatten());
    }
    run.served
}

/// Settles the event that ended a run: one that failed, panicked (`None`) or took long.
#[cold]
fn settle(engine: &Engine, run: &mut Run<'_>, result: Option<Result<Outcome, DecodeError>>) {
    let elapsed = run.stop();
    let subscription = run.subscription;
    let Some((meta, lag)) = run.in_hand() else { return };
    book(engine, subscription, &meta, result);
    if let Some(elapsed) = elapsed {
        long(engine, subscription, meta.id(), elapsed, lag);
    }
    run.step_over();
}

/// Counts what a handler has made of an event, and tells of it when that was no good; `None` is a panic.
#[inline(always)]
fn book(
    engine: &Engine,
    subscription: &SubscriptionState,
    meta: &Meta<'_>,
    result: Option<Result<Outcome, DecodeError>>,
) {
    match result {
        Some(Ok(Outcome::Ack)) => {
            subscription.counts.matched.add(1);
            subscription.counts.delivered.add(1);
        }
        other => failed(engine, subscription, meta, other),
    }
}

#[cold]
fn failed(
    engine: &Engine,
    subscription: &SubscriptionState,
    meta: &Meta<'_>,
    result: Option<Result<Outcome, DecodeError>>,
) {
    // What goes to a mailbox has been counted before.
    subscription.counts.matched.add(u64::from(matches!(&subscription.sink, Sink::Inline(_))));
    subscription.counts.failed.add(mutant!("panic.books", 1 => u64::from(result.is_some())));
    judge(engine, subscription, meta.id(), result);
}

#[cold]
fn panicked(engine: &Engine, subscription: &SubscriptionState, event: EventId) {
    engine.notice(&Notice::HandlerPanicked { subscription: subscription.id, name: &subscription.name, event });
}

#[cold]
fn slow(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64, lag: u64) {
    engine.notice(&Notice::SlowHandler {
        subscription: subscription.id,
        name: &subscription.name,
        pattern: subscription.pattern.as_str(),
        event,
        elapsed: Duration::from_nanos(elapsed),
        lag,
    });
}

/// A handler on the worker took long: tells how long, when that was too long.
#[cold]
fn long(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64, lag: u64) {
    if elapsed >= engine.slow_handler_ns {
        slow(engine, subscription, event, elapsed, lag);
    }
    judge_time(engine, subscription, event, elapsed);
}

/// Counts and tells of a call of a handler on the worker, if it took too long: nobody could take its event away, so its word counts.
#[inline]
fn judge_time(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64) {
    if elapsed >= subscription.call_max_ns {
        subscription.counts.timed_out.add(1);
        hung(engine, subscription, event, elapsed);
    }
}

/// Tells of a handler that has had an event for so many nanoseconds, longer than a call may take.
#[cold]
pub(super) fn hung(engine: &Engine, subscription: &SubscriptionState, event: EventId, elapsed: u64) {
    engine.notice(&Notice::HandlerHung {
        subscription: subscription.id,
        name: &subscription.name,
        event,
        after: Duration::from_nanos(elapsed),
    });
}

/// The outcome that a call of a handler comes to, and tells of it when that was no good; `None` is a panic.
fn judge(
    engine: &Engine,
    subscription: &SubscriptionState,
    event: EventId,
    result: Option<Result<Outcome, DecodeError>>,
) -> Outcome {
    let (id, name) = (subscription.id, subscription.name.as_str());
    match result {
        Some(Ok(outcome)) => {
            if let Outcome::Failed(error) | Outcome::Reject(error) = &outcome {
                engine.notice(&Notice::HandlerFailed { subscription: id, name, event, error });
            }
            outcome
        }
        Some(Err(error)) => {
            let reason = error.to_string();
            engine.notice(&Notice::Undecodable { subscription: id, name, event, error });
            // It would not be readable the next time either.
            Outcome::Reject(reason)
        }
        None => {
            panicked(engine, subscription, event);
            Outcome::Failed("the handler panicked".to_owned())
        }
    }
}

/// Calls a handler behind a mailbox, contains its panic, and tells of what was no good. `lag` is the number of events
/// behind this one; it is the instant `begun`. Returns also how many nanoseconds it took.
pub(crate) fn call_behind_mailbox(
    begun: u64,
    engine: &Engine,
    subscription: &SubscriptionState,
    meta: &Meta<'_>,
    lag: impl FnOnce() -> u64,
    call: impl FnOnce(&Meta<'_>, Scene<'_>) -> Result<Outcome, DecodeError>,
) -> (Outcome, u64) {
    let scene = Scene { subscription: &subscription.id, cancelled: engine.phase() > Phase::Running };
    let outcome = judge(engine, subscription, meta.id(), contained(|| call(meta, scene)));
    let elapsed = engine.directory.clock.now().saturating_sub(begun);
    if elapsed >= engine.slow_handler_ns {
        slow(engine, subscription, meta.id(), elapsed, lag());
    }
    (outcome, elapsed)
}

/// Lets the worker's own handler take events from its mailbox, at most so many. Returns how many it took.
#[inline(never)]
pub(super) fn consume(
    engine: &Engine,
    subscription: &SubscriptionState,
    mailbox: &Arc<MailboxShared>,
    fed: &mut Fed,
    max: usize,
) -> usize {
    let Fed { intake, keyed, consumer: Some(consumer), .. } = fed else { return 0 };
    let mut taken = 0;
    while taken < max && subscription.state() == State::Active && !mailbox.is_paused() {
        let Some(Serve { lane, .. }) = consumer.order.next(mailbox.custody().ready()) else { break };
        let pass = mailbox.ask();
        if pass == Pass::Held {
            break;
        }
        consumer.order.served(lane, 1);
        taken += 1;
        let Some(hold) = mailbox.take_by(pass, lane) else { continue };
        let handler = match &mut consumer.takes {
            Takes::Handler(handler) => &mut ***handler,
            Takes::Desk(desk) => {
                desk.bring(hold, mailbox);
                continue;
            }
        };
        let meta = meta_of(hold.event(), &engine.directory, hold.failures());
        let lag = || mailbox.custody().queued();
        let under_way = &engine.under_way[subscription.worker];
        under_way.begin_run();
        under_way.call(subscription.number());
        let (outcome, elapsed) =
            call_behind_mailbox(engine.directory.clock.now(), engine, subscription, &meta, lag, |meta, scene| {
                handler.dispatch(meta, scene)
            });
        judge_time(engine, subscription, meta.id(), elapsed);
        mailbox.settle_own(hold, &outcome, intake, keyed.as_mut());
    }
    taken
}

/// Lets the worker's own handler take what has just come into its mailbox, and has the alarm ring for the rest.
pub(super) fn catch_up(engine: &Engine, subscription: &SubscriptionState, mailbox: &Arc<MailboxShared>, fed: &mut Fed) {
    consume(engine, subscription, mailbox, fed, CATCH_UP_MAX);
    if mailbox.needs_consumer() {
        engine.alarms[subscription.worker].resume(mailbox.consumer_due(engine.directory.clock.now()));
    }
}

/// One event on its way to its subscriptions.
pub(super) struct Call<'a> {
    pub(super) engine: &'a Engine,
    pub(super) lane: usize,
    pub(super) lag: &'a Reader,
    pub(super) stages: &'a crate::metrics::Stages,
    pub(super) header: &'a Header,
    pub(super) meta: Meta<'a>,
    pub(super) slot: Slot<'a>,
    pub(super) closing: bool,
    /// Its handlers are timed.
    pub(super) measured: bool,
    pub(super) stopwatch: &'a mut Stopwatch,
    pub(super) under_way: &'a UnderWay,
    /// The stopwatch shows the end of a handler of this event.
    pub(super) called: bool,
}

impl Call<'_> {
    /// Brings the event to `targets`, in order. `Some` is what the last one taken made of it, when that was no
    /// acknowledgement; the others are still to come.
    pub(super) fn deliver(
        &mut self,
        targets: &mut Iter<'_, Arc<SubscriptionState>>,
        owner: &mut Owner,
    ) -> Option<Result<Outcome, DecodeError>> {
        for subscription in targets {
            if !self.passes(subscription, owner) {
                continue;
            }
            match &subscription.sink {
                Sink::Inline(handler) => {
                    let outcome = self.call(subscription, handler, owner);
                    if outcome.is_some() {
                        return outcome;
                    }
                }
                Sink::Mailbox(mailbox, fed) => self.post(subscription, mailbox, fed, owner),
            }
        }
        None
    }

    /// As [`deliver`](Self::deliver), to targets that are all inline and want the event: a loop with nothing else in it.
    pub(super) fn deliver_inline(
        &mut self,
        targets: &mut Iter<'_, Arc<SubscriptionState>>,
        owner: &mut Owner,
    ) -> Option<Result<Outcome, DecodeError>> {
        for subscription in targets {
            let Sink::Inline(handler) = &subscription.sink else { continue };
            let outcome = self.call(subscription, handler, owner);
            if outcome.is_some() {
                return outcome;
            }
        }
        None
    }

    /// Calls an inline handler. Returns what it made of the event, when that was no acknowledgement.
    #[inline(always)]
    fn call(
        &mut self,
        subscription: &SubscriptionState,
        handler: &OwnedCell<Kept<Box<dyn Dispatch>>>,
        owner: &mut Owner,
    ) -> Option<Result<Outcome, DecodeError>> {
        let counts = &subscription.counts;
        match subscription.state() {
            State::Active => {
                let handler = &mut ***handler.get_mut(owner)?;
                let scene = Scene { subscription: &subscription.id, cancelled: self.closing };
                self.under_way.call(subscription.number());
                // What it comes to is booked when it has: until then the event is in the lane, as far as the books know.
                match handler.dispatch(&self.meta, scene) {
                    Ok(Outcome::Ack) => {
                        counts.matched.add(1);
                        counts.delivered.add(1);
                    }
                    other => return Some(other),
                }
                if self.measured {
                    self.measure(subscription);
                }
            }
            State::Paused => {
                counts.matched.add(1);
                counts.paused.add(1);
            }
            State::Closed => {
                counts.matched.add(1);
                counts.closed.add(1);
            }
        }
        None
    }

    /// Brings the event to a mailbox, or to its consumer where that is this worker.
    #[inline(always)]
    fn post(
        &mut self,
        subscription: &SubscriptionState,
        mailbox: &Arc<MailboxShared>,
        fed: &OwnedCell<Fed>,
        owner: &mut Owner,
    ) {
        let counts = &subscription.counts;
        if mailbox.custody().is_closed() {
            counts.matched.add(1);
            let is_letter = mailbox.turn_away(&self.meta, DeadReason::Closed);
            counts.closed.add(u64::from(!is_letter));
        } else if let Some(fed) = fed.get_mut(owner) {
            if subscription.is_own_consumer
                && let Some(ended) = self.try_in_place(subscription, mailbox, fed)
            {
                self.step_out(ended);
                return;
            }
            counts.matched.add(1);
            self.put(subscription, mailbox, fed);
            if fed.consumer.is_some() {
                catch_up(self.engine, subscription, mailbox, fed);
                self.step_out(self.engine.directory.clock.now());
            }
        }
    }

    /// A handler behind a mailbox has returned at the instant `now`.
    fn step_out(&mut self, now: u64) {
        self.stopwatch.pass(now);
        self.called = true;
    }

    /// Whether the event is `subscription`'s business, and not too late. Counts why not.
    fn passes(&self, subscription: &SubscriptionState, owner: &mut Owner) -> bool {
        if !wants(subscription, self.lane, &self.meta) {
            return false;
        }
        let counts = &subscription.counts;
        if self.meta.is_replay() && !subscription.takes_replay(&self.meta) {
            counts.filtered.add(1);
            return false;
        }
        if subscription.filter.is_dynamic()
            && let Some(refusal) = subscription.filter.refusal(&self.meta)
        {
            counts.filtered.add(1);
            if refusal == Refusal::PredicatePanicked {
                panicked(self.engine, subscription, self.meta.id());
            }
            return false;
        }
        let is_late = |now| mutant!("deadline.passed", now > self.header.deadline => false);
        if self.header.deadline != 0
            && is_late(self.engine.directory.clock.now())
            // What comes back from a store is given up then.
            && !subscription.is_spilling(self.lane)
        {
            counts.matched.add(1);
            counts.expired.add(1);
            return false;
        }
        if let Some(dedup) = subscription.dedup.as_ref().and_then(|dedup| dedup.get_mut(owner))
            && !dedup.is_new(&self.meta, self.engine.directory.clock.now())
        {
            counts.matched.add(1);
            counts.duplicate.add(1);
            return false;
        }
        if let Some(limiter) = &subscription.limiter
            && self.is_over_rate(subscription, limiter)
        {
            counts.matched.add(1);
            let turned_away = match &subscription.sink {
                Sink::Inline(_) => false,
                Sink::Mailbox(mailbox, _) => mailbox.turn_away(&self.meta, DeadReason::RateLimited),
            };
            counts.rate_limited.add(u64::from(!turned_away));
            return false;
        }
        true
    }

    /// Whether the event comes over a rate that rejects it. One that has no attempt before it anyway does not count.
    fn is_over_rate(&self, subscription: &SubscriptionState, limiter: &Limiter) -> bool {
        let is_stopped = match &subscription.sink {
            Sink::Inline(_) => subscription.state() != State::Active,
            Sink::Mailbox(mailbox, _) => {
                mailbox.custody().is_closed() || mailbox.breaker_state() == Some(BreakerState::Open)
            }
        };
        !is_stopped && limiter.pass(self.engine.directory.clock.now()).is_err()
    }

    /// Lets the worker's own handler try the event where it lies: it gets a cell only if it is to come back. Returns when it has
    /// returned; `None` when the event has to queue.
    #[inline(never)]
    fn try_in_place(&self, subscription: &SubscriptionState, mailbox: &MailboxShared, fed: &mut Fed) -> Option<u64> {
        if subscription.state() != State::Active || !mailbox.may_try_in_place(fed, &self.meta) {
            return None;
        }
        let Some(Consumer { takes: Takes::Handler(handler), .. }) = &mut fed.consumer else { return None };
        let began = self.engine.directory.clock.now();
        let lag = || self.lag.lag(self.lane);
        self.under_way.call(subscription.number());
        let (outcome, elapsed) =
            call_behind_mailbox(began, self.engine, subscription, &self.meta, lag, |meta, scene| {
                handler.dispatch(meta, scene)
            });
        judge_time(self.engine, subscription, self.meta.id(), elapsed);
        // Not before the call: while that lasts, the event is in the lane as far as the books know.
        subscription.counts.matched.add(1);
        mailbox.settle_in_place(fed, self.lane, &self.meta, &self.slot, began, &outcome);
        Some(began + elapsed)
    }

    /// Copies the event into a mailbox, or counts it as overflow; or an older one, whose place it takes, as superseded.
    fn put(&self, subscription: &SubscriptionState, mailbox: &MailboxShared, fed: &mut Fed) {
        if let Some(spill) = fed.spill.as_mut().filter(|spill| spill.has_lapsed(self.lane)) {
            spill.divert(self.lane, &self.meta, &self.slot, || mailbox.used());
            return;
        }
        let put = mailbox.push(fed, self.lane, &self.meta, &self.slot);
        let mut queued = put.is_some();
        if queued {
            if put == Some(Put::Supersedes) {
                subscription.counts.superseded.add(1);
            }
            subscription.set_overflowing(false);
        } else if mailbox.overflow() == Overflow::DropOldest {
            // Only events that are no more urgent make way.
            let victim =
                (mutant!("overflow.victim", self.lane => 0)..LANES).rev().any(|lane| fed.intake.drop_oldest(lane));
            queued = victim && mailbox.push(fed, self.lane, &self.meta, &self.slot).is_some();
            if queued {
                self.overflowed(subscription);
            }
        }
        if !queued && self.spill(subscription, fed) {
            return;
        }
        if queued {
            mailbox.notify();
            if self.engine.debug {
                self.debug(subscription, None);
            }
        } else if mailbox.turn_away(&self.meta, DeadReason::MailboxFull) {
            self.tell_overflow(subscription);
        } else {
            self.overflowed(subscription);
        }
    }

    /// Leaves the event in the store of a mailbox that is full. False when there is none.
    #[cold]
    fn spill(&self, subscription: &SubscriptionState, fed: &mut Fed) -> bool {
        let Some(spill) = &mut fed.spill else { return false };
        let (sequence, is_first) = (self.meta.sequence(), spill.is_live());
        if !spill.lapse(self.lane, sequence, || self.engine.directory.clock.now()) {
            return false;
        }
        if is_first {
            self.engine.notice(&Notice::Spilling { subscription: subscription.id, name: &subscription.name });
        }
        true
    }

    /// Books what a handler has made of the event; `None` is a panic.
    #[cold]
    pub(super) fn book(&mut self, subscription: &SubscriptionState, result: Option<Result<Outcome, DecodeError>>) {
        book(self.engine, subscription, &self.meta, result);
        if self.measured {
            self.measure(subscription);
        }
    }

    /// Books the time of a handler call that has ended.
    fn measure(&mut self, subscription: &SubscriptionState) {
        let (now, elapsed) = self.stopwatch.end(&self.engine.directory.clock, self.stages);
        subscription.delivered_at(now);
        self.called = true;
        if elapsed >= subscription.long_ns {
            self.tell(subscription, elapsed);
        }
    }

    #[cold]
    fn tell(&self, subscription: &SubscriptionState, elapsed: u64) {
        long(self.engine, subscription, self.meta.id(), elapsed, self.lag.lag(self.lane));
        if self.engine.debug {
            self.debug(subscription, Some(elapsed));
        }
    }

    #[cold]
    fn debug(&self, subscription: &SubscriptionState, handled: Option<u64>) {
        let now = self.engine.directory.clock.now();
        self.engine.notice(&Notice::Delivered {
            subscription: subscription.id,
            name: &subscription.name,
            event: self.meta.id(),
            topic: self.meta.topic(),
            priority: self.meta.priority(),
            sequence: self.meta.sequence(),
            worker: subscription.worker,
            age: Duration::from_nanos(now.saturating_sub(self.header.time)),
            handled: handled.map(Duration::from_nanos),
        });
    }

    #[cold]
    fn overflowed(&self, subscription: &SubscriptionState) {
        subscription.counts.overflow.add(1);
        self.tell_overflow(subscription);
    }

    /// Says once that a mailbox is full.
    #[cold]
    fn tell_overflow(&self, subscription: &SubscriptionState) {
        if !subscription.set_overflowing(true) {
            self.engine.notice(&Notice::MailboxOverflow { subscription: subscription.id, name: &subscription.name });
        }
    }
}
