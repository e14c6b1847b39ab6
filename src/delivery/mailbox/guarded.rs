//! A mailbox and the guard between it and its consumer, where it has one.

use crate::event::Header;
use crate::ring::Attempt;
use crate::sync::alarm::NEVER;
use crate::sync::breaker::BreakerState;

use super::super::in_hand::Hold;
use super::super::{BreakerRecord, Guard, Notice, Obstacle, Outcome, Pass, Reliable, Settled};
use super::MailboxShared;

impl MailboxShared {
    /// Consumer: asks whether it may have the next event. `take_by` follows, unless it is held.
    #[inline(always)]
    pub(crate) fn ask(&self) -> Pass {
        self.guard.as_ref().map_or(Pass::Free, |guard| self.ask_guard(guard))
    }

    fn ask_guard(&self, guard: &Guard) -> Pass {
        guard.ask(self.directory.clock.now(), || self.tell_state(BreakerState::HalfOpen))
    }

    /// Consumer: takes the oldest event of `lane`. `None` when it is not to be tried: it has expired, or is given up.
    #[inline(always)]
    pub(crate) fn take_by(&self, pass: Pass, lane: usize) -> Option<Hold> {
        if pass == Pass::Free { self.take_fresh(lane) } else { self.take_guarded(pass, lane) }
    }

    /// Consumer: whether the event that it has just taken is not to be tried after all. A closed mailbox gives all out, for nobody
    /// would say when; but a handler of the bus is left alone where its breaker or its rate says so.
    pub(crate) fn is_held_at_end(&self) -> bool {
        let Some(guard) = self.guard.as_ref().filter(|_| self.custody.is_closed()) else { return false };
        match self.ask_guard(guard) {
            Pass::Free => false,
            Pass::At(now) => {
                guard.took(now, true);
                false
            }
            Pass::GiveUp | Pass::Held => true,
        }
    }

    fn take_guarded(&self, pass: Pass, lane: usize) -> Option<Hold> {
        if pass == Pass::GiveUp {
            self.give_up_next(lane);
            return None;
        }
        let hold = self.take_fresh(lane);
        if let (Pass::At(now), Some(guard)) = (pass, &self.guard) {
            guard.took(now, hold.is_some());
        }
        hold
    }

    /// Gives the oldest event of `lane` up, which the breaker does not let through; one that has expired, as expired.
    fn give_up_next(&self, lane: usize) {
        let Some(hold) = self.take(lane) else { return };
        let deadline = Header::of_words(hold.event().parts().0).deadline;
        match hold {
            Hold::Attempt(attempt) if deadline == 0 || self.directory.clock.now() <= deadline => {
                self.of_attempts().give_up_untried(&self.counts, attempt);
            }
            hold => self.expire(hold),
        }
    }

    /// Tells the breaker what came of an attempt; `None` that its time was over.
    pub(super) fn tell_breaker(&self, guard: &Guard, now: u64, outcome: Option<&Outcome>) {
        let changed = guard.tell(now, outcome);
        if let Some(state) = changed {
            self.tell_state(state);
        }
        // What was in hand when the breaker opened, and comes back, goes on as what waited then did.
        if changed.is_some() || self.goes_on_until(now).is_some() {
            guard.call_worker();
        }
    }

    #[cold]
    fn tell_state(&self, state: BreakerState) {
        let reliable = self.of_attempts();
        let (subscription, name) = (reliable.subscription, reliable.name.as_str());
        reliable.letters.notice(&Notice::Breaker { subscription, name, state });
    }

    /// Why the next event would not come to its consumer at the instant `now`. A look, which changes nothing.
    pub(crate) fn obstacle(&self, now: u64) -> Option<Obstacle> {
        if self.is_paused() {
            return Some(Obstacle::Suspended);
        }
        self.guard.as_ref()?.obstacle(now)
    }

    /// Whether something stands between it and its consumer.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// How its circuit breaker stands, when it has one.
    pub(crate) fn breaker_record(&self) -> Option<BreakerRecord> {
        let clock = &self.directory.clock;
        Some(BreakerRecord::new(self.guard.as_ref()?.breaker_look(clock.now())?, clock))
    }

    /// The state of its circuit breaker, when it has one.
    pub(crate) fn breaker_state(&self) -> Option<BreakerState> {
        self.guard.as_ref()?.breaker_state(self.directory.clock.now())
    }

    /// Whether its circuit breaker, if it has one, lets an attempt be made now. While it is half open that is one event at a time:
    /// more would be held up if this one fails.
    pub(crate) fn admits(&self) -> bool {
        self.guard.as_ref().is_none_or(|guard| {
            let now = self.directory.clock.now();
            let is_closed = || guard.breaker_state(now).is_none_or(|state| state == BreakerState::Closed);
            guard.admits_at(now) <= now && (is_closed() || self.custody.queued() == 0)
        })
    }

    /// The instant from which its circuit breaker lets an attempt be made; `NEVER` while that depends on the one under way.
    pub(crate) fn admits_at(&self, now: u64) -> u64 {
        self.guard.as_ref().map_or(now, |guard| guard.admits_at(now))
    }

    /// Whether what waits in it goes on to the next target while its circuit breaker is open.
    pub(crate) fn goes_on(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.goes_on())
    }

    /// The instant until which what waits in it goes on to the next target: its circuit breaker is open. `None` while it is not, or
    /// where its policy is another one.
    pub(crate) fn goes_on_until(&self, now: u64) -> Option<u64> {
        let at = self.guard.as_ref().filter(|guard| guard.goes_on())?.admits_at(now);
        (at > now && at != NEVER && !self.custody.is_closed()).then_some(at)
    }

    /// Worker: puts the next of its queued events off, none of which has a consumer until the instant `until`, so that it waits as if
    /// to be tried again. Returns its cell; `None` when none is queued.
    pub(crate) fn put_off(&self, now: u64, until: u64) -> Option<usize> {
        loop {
            let ready = self.custody.ready();
            if ready == 0 {
                return None;
            }
            if let Some(Hold::Attempt(attempt)) = self.take_to_pass(ready.trailing_zeros() as usize) {
                let cell = attempt.cell();
                // In a mailbox that is closed meanwhile it waits too: for its service, or to be given up with what waits there.
                attempt.put_off(now, until);
                return Some(cell);
            }
        }
    }

    /// The instant from which its consumer would find something; `NEVER` when nobody knows.
    pub(crate) fn consumer_due(&self, now: u64) -> u64 {
        if !self.needs_consumer() {
            return NEVER;
        }
        self.guard.as_ref().map_or(now, |guard| guard.due(now))
    }

    pub(super) fn settle_guarded(
        &self,
        reliable: &Reliable,
        guard: &Guard,
        attempt: Attempt,
        outcome: &Outcome,
    ) -> Settled {
        let now = self.directory.clock.now();
        let told = (!attempt.is_overdue(now)).then_some(outcome);
        let settled = reliable.settle(&self.counts, self.stages.ack.as_ref(), attempt, outcome);
        // Who was too late has been told of by the worker, who took the event away.
        if settled == Settled::Counted {
            self.tell_breaker(guard, now, told);
        }
        settled
    }
}
