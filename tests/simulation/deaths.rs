//! Events that a subscription gives up: each has its reason, and its letter.

use ringmain::{DeadReason, EventId, Outcome, Overflow};

use crate::services::Surety;
use crate::trials::{Fate, Place, tick};
use crate::world::{World, lane_of};

impl World {
    /// The bus says that subscription `nth` gave an event up.
    pub(crate) fn died(&mut self, nth: usize, id: EventId, letter: u64, reason: DeadReason, attempts: u32) {
        if self.index_of(id).is_none() {
            self.learn_by_time(id);
        }
        let Some(index) = self.index_of(id) else {
            return self.broken(format!("{id} died, and nobody published it"));
        };
        if self.subs[nth].service().is_some() {
            return self.service_died(nth, id, letter, reason, attempts);
        }
        self.census.count(match reason {
            DeadReason::AttemptsExhausted => "died: attempts exhausted",
            DeadReason::Rejected => "died: rejected",
            DeadReason::TimedOut => "died: timed out",
            DeadReason::ReleasesExhausted => "died: releases exhausted",
            DeadReason::MailboxFull => "died: mailbox full",
            DeadReason::BreakerOpen => "died: breaker open",
            DeadReason::RateLimited => "died: over its rate",
            _ => "died: closed",
        });
        self.letters.put(letter, nth, index);
        if let Err(what) = self.check_death(nth, index, reason, attempts) {
            let (event, trials) = (&self.events[index], &self.subs[nth].trials);
            let fate = trials.as_ref().and_then(|trials| trials.fates.get(&index));
            let what =
                format!("subscription {nth}, event {index}: {what}: {reason:?} after {attempts}; {fate:?} {event:?}");
            self.broken(what);
        }
    }

    fn check_death(&mut self, nth: usize, index: usize, reason: DeadReason, attempts: u32) -> Result<(), String> {
        let may_close = self.subs[nth].is_ending || self.subs[nth].is_closed || self.is_closed;
        let service = self.subs[nth].instance().map(|instance| instance.service);
        // Where it was when nobody had seen it.
        let at_large = service.and_then(|service| self.subs[service].at_large());
        let sent = at_large.and_then(|at_large| at_large.remove(&index));
        let adrift = self.sinks(nth, index, reason, attempts);
        let Self { events, subs, dying, now, .. } = self;
        let sub = &mut subs[nth];
        let lane = lane_of(events[index].spec.priority);
        let is_unread = sub.is_inline && !sub.reads(&events[index]);
        let is_given_up = sub.breaker.as_ref().is_some_and(|breaker| breaker.gives_up(*now));
        if is_unread && reason == DeadReason::Rejected {
            // An attempt that the handler has not seen: its bus could not read the event.
            sub.admit(*now, false)?;
            sub.record(*now, u64::MAX, &Outcome::Reject(String::new()));
        }
        let turns_away = sub.turns_away();
        if let (Some(pace), DeadReason::RateLimited) = (&mut sub.pace, reason) {
            pace.turned_away += 1;
        }
        let is_full = sub.overflow() == Some(Overflow::DropNewest);
        let Some(trials) = &mut sub.trials else { return Err("its subscription is not reliable".to_owned()) };
        trials.letters += 1;
        if !matches!(reason, DeadReason::MailboxFull | DeadReason::BreakerOpen | DeadReason::RateLimited) {
            trials.deaths += 1;
        }
        let fate = trials.fates.entry(index).or_insert(Fate { place: Place::Dead, ..Fate::NEW });
        let (place, failures, is_new) = (fate.place, fate.failures, fate.token == 0 && fate.place == Place::Dead);
        fate.place = Place::Dead;
        // What is seen later for the first time is told from this by its attempt's name, and 0 is none.
        fate.token = fate.token.max(u64::from(is_new) * u64::MAX);
        let is_untried = match reason {
            DeadReason::MailboxFull => is_full && attempts == 0,
            DeadReason::Rejected => is_unread && attempts == 1,
            DeadReason::BreakerOpen => is_given_up && attempts == 0,
            DeadReason::RateLimited => turns_away && attempts == 0,
            _ => reason == DeadReason::Closed && may_close && attempts == 0,
        };
        let sent = sent.filter(|_| is_new);
        let right = match place {
            Place::Dead if is_new => {
                let loose = sub.loose.iter().position(|&loose| loose == index);
                let loose = loose.map(|at| sub.loose.swap_remove(at));
                let place = sub.expected[lane].iter().position(|&expected| expected == index);
                let place = place.and_then(|at| sub.expected[lane].remove(at));
                // It had been tried before its instance ended.
                let was_left = matches!(sent, Some(Surety::Left | Surety::Returning));
                adrift == Some(true)
                    || was_left && reason == DeadReason::Closed && may_close
                    || is_untried && (loose.is_some() || place.is_some() || sent.is_some())
            }
            Place::Dying(why, after) => {
                dying.retain(|&one| one != (nth, index));
                (why, after) == (reason, attempts)
            }
            Place::Waiting { from, .. } => {
                let is_given_up = reason == DeadReason::BreakerOpen && is_given_up && tick(*now) >= tick(from);
                (is_given_up || reason == DeadReason::Closed && may_close) && attempts == u32::from(failures)
            }
            Place::Returning => is_untried,
            Place::InHand { .. } | Place::Acked | Place::Dead => false,
        };
        if right { Ok(()) } else { Err(format!("it died although it is {place:?}")) }
    }

    /// Subscription `nth` had too many dead letters in a row.
    pub(crate) fn suspended(&mut self, nth: usize, letters: u32) {
        self.census.count("suspended");
        let is_over = self.subs[nth].is_closed || self.is_stopped;
        let trials = self.trials(nth);
        let right = !is_over && trials.rule.suspend_after == letters && letters > 0 && trials.deaths >= letters;
        trials.deaths = 0;
        self.subs[nth].is_paused = true;
        self.subs[nth].was_paused = true;
        if !right {
            self.broken(format!("subscription {nth} was suspended after {letters} letters"));
        }
    }

    /// A letter of event `index` is about to go back to subscription `nth`.
    pub(crate) fn goes_back(&mut self, nth: usize, index: usize) {
        if let Some(at_large) = self.subs[nth].at_large() {
            at_large.insert(index, Surety::Returning);
        } else if let Some(fate) = self.trials(nth).fates.get_mut(&index) {
            fate.place = Place::Returning;
        }
    }

    /// It stays.
    pub(crate) fn stays(&mut self, nth: usize, index: usize) {
        if let Some(at_large) = self.subs[nth].at_large() {
            at_large.remove(&index);
        } else if let Some(fate) = self.trials(nth).fates.get_mut(&index) {
            fate.place = Place::Dead;
        }
    }
}
