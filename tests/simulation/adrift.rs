//! Events that have been tried at an instance whose circuit breaker is open, and may go on to others: from there on they are
//! adrift in their service, until a consumer of any instance sees them again.

use ringmain::{BreakerState, DeadReason, InstanceRecord};

use crate::services::Service;
use crate::sub::Sub;
use crate::trials::{Fate, Place, Trials};
use crate::world::World;

/// What is known of such an event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adrift {
    /// The instance that tried it last.
    from: usize,
    /// Attempts that have failed.
    failures: u8,
    /// How often a consumer had it. Who goes on to another instance begins anew with its releases.
    takes: u16,
    /// It may have been at another instance, and come back.
    may_be_back: bool,
    /// An instance has ended meanwhile: if the event was there, its service has it back, as one that is new.
    may_be_new: bool,
    /// A dead letter on its way back.
    pub(crate) is_returning: bool,
}

impl Adrift {
    /// Whether its service may have it back.
    pub(crate) fn may_be_given_back(&self) -> bool {
        self.may_be_new
    }

    fn has_failed(&self, attempts: u32) -> bool {
        attempts == u32::from(self.failures) || self.may_be_new && attempts == 0
    }
}

impl Sub {
    /// Whether what waits here goes on to other instances now.
    pub(crate) fn goes_on(&self, now: u64) -> bool {
        let breaker = self.breaker.as_ref().filter(|_| self.is_live && self.instance().is_some());
        breaker.is_some_and(|breaker| breaker.limits.goes_on() && breaker.state(now) == BreakerState::Open)
    }

    /// Whether it may ever.
    pub(crate) fn may_go_on(&self) -> bool {
        self.breaker.as_ref().is_some_and(|breaker| breaker.limits.goes_on())
    }
}

impl Trials {
    /// What waits here, and need not any more.
    fn let_drift(&mut self, from: usize) -> Vec<(usize, Adrift)> {
        let is_off = |place| matches!(place, Place::Waiting { .. } | Place::Returning);
        let off = self.fates.extract_if(|_, fate| is_off(fate.place));
        let off = off.map(|(index, fate)| {
            let is_returning = matches!(fate.place, Place::Returning);
            let failures = if is_returning { 0 } else { fate.failures };
            let takes = if is_returning { 0 } else { fate.takes };
            (index, Adrift { from, failures, takes, may_be_back: false, may_be_new: false, is_returning })
        });
        let off: Vec<_> = off.collect();
        self.forget_waiting(&off);
        off
    }
}

impl World {
    fn service_of(&mut self, nth: usize) -> Option<&mut Service> {
        let service = self.subs[nth].instance()?.service;
        self.subs[service].service_mut()
    }

    /// Workers are about to turn: what waits at instances whose breakers are open may go on.
    pub(crate) fn let_drift(&mut self) {
        for nth in 0..self.subs.len() {
            // A letter may be on its way to the instance still that it is to go on from.
            let is_its = |adrift: &&Adrift| adrift.is_returning && adrift.from == nth;
            let returning = self.service_of(nth).map_or(0, |service| service.adrift.values().filter(is_its).count());
            if let Some(trials) = &mut self.subs[nth].trials {
                trials.returning_before += returning as u64;
            }
            self.let_drift_from(nth);
        }
    }

    /// Also while they turn, when the breaker of an instance opens that a handler serves.
    pub(crate) fn let_drift_from(&mut self, nth: usize) {
        if !self.is_stopped && self.subs[nth].goes_on(self.now) {
            let off = self.subs[nth].trials.as_mut().map(|trials| trials.let_drift(nth)).unwrap_or_default();
            if let Some(service) = self.service_of(nth) {
                service.adrift.values_mut().for_each(|adrift| adrift.may_be_back |= adrift.from != nth);
                service.adrift.extend(off);
            }
        }
    }

    /// An event that was adrift is seen at instance `nth`, in what is said to be this attempt. Returns what is known of it.
    pub(crate) fn lands(&mut self, nth: usize, index: usize, attempt: u8) -> Option<Fate> {
        let told = self.events[index].spec.attempt;
        let Adrift { from, failures, takes, may_be_back, may_be_new, .. } =
            self.service_of(nth)?.adrift.remove(&index)?;
        if from != nth {
            self.census.count("went on to another instance");
        }
        let failures = if may_be_new && attempt == told { 0 } else { failures };
        let (takes, is_unsure) =
            if from == nth { (takes, may_be_back || may_be_new) } else { (u16::from(failures), false) };
        Some(Fate { place: Place::Acked, failures, takes, is_unsure, token: 0 })
    }

    /// Whether it is known how often an event was released that a consumer has in hand.
    pub(crate) fn knows_releases(&self, nth: usize, index: usize) -> bool {
        let fates = self.subs[nth].trials.as_ref().map(|trials| &trials.fates);
        fates.and_then(|fates| fates.get(&index)).is_none_or(|fate| !fate.is_unsure)
    }

    /// One that was adrift is given up at instance `nth`. Whether that is right; `None`: it was not adrift.
    pub(crate) fn sinks(&mut self, nth: usize, index: usize, reason: DeadReason, attempts: u32) -> Option<bool> {
        let (now, is_closed) = (self.now, self.is_closed);
        let adrift = self.service_of(nth)?.adrift.remove(&index)?;
        let sub = &self.subs[nth];
        let may_close = sub.is_ending || sub.is_closed || is_closed;
        let is_given_up = sub.breaker.as_ref().is_some_and(|breaker| breaker.gives_up(now));
        let right = match reason {
            DeadReason::Closed => may_close,
            DeadReason::BreakerOpen => is_given_up,
            _ => false,
        };
        Some(right && adrift.has_failed(attempts))
    }

    /// A letter that was on its way back to instance `nth`, and might have gone on from there, has not arrived.
    pub(crate) fn comes_to_rest(&mut self, nth: usize, index: usize) {
        if self.service_of(nth).and_then(|service| service.adrift.remove(&index)).is_some() {
            self.trials(nth).fates.insert(index, Fate { place: Place::Dead, ..Fate::NEW });
        }
    }

    /// An instance of this service has ended.
    pub(crate) fn may_be_new(&mut self, nth: usize) {
        if let Some(service) = self.service_of(nth) {
            service.adrift.values_mut().for_each(|adrift| adrift.may_be_new = true);
        }
    }

    /// After all workers have done what they could: nothing waits at an instance whose breaker is open, where another takes it.
    pub(crate) fn stranded<'a>(&self, instances: &'a [InstanceRecord]) -> Option<&'a InstanceRecord> {
        instances.iter().find(|instance| {
            let sub = &self.subs[instance.name.parse::<usize>().expect("instances are named by their number")];
            sub.goes_on(self.now) && !sub.is_paused && instance.ledger.queued + instance.ledger.waiting > 0
        })
    }
}
