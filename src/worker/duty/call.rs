//! One event at its subscriptions: brought to their handlers or into their mailboxes.

use std::slice::Iter;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{
    Consumer, DeadReason, Dispatch, Fed, MailboxShared, Notice, Outcome, Overflow, Pass, Scene, Sink, State, Stopwatch,
    SubscriptionState, Takes, meta_of,
};
use crate::event::{DecodeError, Header, Meta};
use crate::ring::{LANES, Put, Reader, Serve, Slot};
use crate::sync::contain::Kept;
use crate::sync::mutant::mutant;
use crate::sync::owned::{OwnedCell, Owner};
use crate::sync::under_way::UnderWay;
use crate::worker::engine::Engine;

use super::verdict::{book, call_behind_mailbox, judge_time, long};

/// Events that a worker's own handler takes from its mailbox when one comes: that one, and one of what is queued before it.
/// The others have a turn of their own.
const CATCH_UP_MAX: usize = 2;

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
