//! Services as they ought to be: which events each has to bring to one of its instances, and which instance may get them.
//!
//! A service and each of its instances are subscriptions of the model too. What was sent to a service is *at large* until a
//! consumer of an instance sees it: in a lane, with the service, or in the mailbox of an instance.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ringmain::{BreakerState, DeadReason, EventId, Overflow, ServiceHealth, ServiceRecord, SubscriptionLedger};

use crate::adrift::Adrift;
use crate::sub::{Sub, Way};
use crate::trials::Place;
use crate::world::World;

/// Names of services.
pub(crate) const SERVICES: [&str; 3] = ["one", "two", "three"];

/// What is known of an event at large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surety {
    /// It comes to one instance, or dies.
    Sent,
    /// The same, but maybe in the mailbox of an instance that has ended, in line behind an event that is left there.
    Behind,
    /// Of an instance that has ended: it may stay there until it is due.
    Left,
    /// A dead letter on its way back.
    Returning,
    /// Services or rules changed, or its time came, before it was looked at: it may have gone to nobody.
    Maybe,
}

/// What a subscription is.
#[derive(Debug)]
pub(crate) enum Role {
    Subscriber,
    Service(Service),
    Instance(Instance),
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// It picks an instance whenever one is available.
    pub(crate) takes_any: bool,
    pub(crate) at_large: HashMap<usize, Surety>,
    pub(crate) adrift: HashMap<usize, Adrift>,
    /// An instance has ended with events in its mailbox, which stay there while the service is full.
    pub(crate) is_owed: bool,
    pub(crate) sent: Sent,
    /// Some instance is under best effort: what is in its mailbox when all is over is dropped, and there is no letter.
    pub(crate) drops_at_end: bool,
}

/// How many events were sent to a service.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// For certain, and maybe besides.
    sure: u64,
    maybe: u64,
    /// Of those, how many the books of instances have that ended; `None` when one of them had events still, which
    /// went elsewhere, or ended by a panic.
    gone: Option<u64>,
}

impl Sent {
    pub(crate) fn none() -> Self {
        Self { gone: Some(0), ..Self::default() }
    }

    fn counts(&mut self, surety: Surety) {
        *(if surety == Surety::Maybe { &mut self.maybe } else { &mut self.sure }) += 1;
    }
}

#[derive(Debug)]
pub(crate) struct Instance {
    /// The number of its service.
    pub(crate) service: usize,
    pub(crate) health: ServiceHealth,
}

impl Service {
    /// Whether dead letters are on their way back to it.
    pub(crate) fn is_getting_back(&self) -> bool {
        self.at_large.values().any(|&surety| surety == Surety::Returning)
            || self.adrift.values().any(|adrift| adrift.is_returning)
    }
}

impl Sub {
    pub(crate) fn service(&self) -> Option<&Service> {
        match &self.role {
            Role::Service(service) => Some(service),
            Role::Subscriber | Role::Instance(_) => None,
        }
    }

    pub(crate) fn instance(&self) -> Option<&Instance> {
        match &self.role {
            Role::Instance(instance) => Some(instance),
            Role::Subscriber | Role::Service(_) => None,
        }
    }

    pub(crate) fn service_mut(&mut self) -> Option<&mut Service> {
        match &mut self.role {
            Role::Service(service) => Some(service),
            Role::Subscriber | Role::Instance(_) => None,
        }
    }

    /// What is at large at a service.
    pub(crate) fn at_large(&mut self) -> Option<&mut HashMap<usize, Surety>> {
        self.service_mut().map(|service| &mut service.at_large)
    }

    fn blocks(&self) -> bool {
        self.overflow() == Some(Overflow::Block)
    }

    /// Whether this instance takes nothing, for as long as nothing is done to it; `service_blocks`: it may be left an event when
    /// its service is full.
    fn is_spared(&self, now: u64, service_blocks: bool) -> bool {
        let Some(instance) = self.instance() else { return false };
        let is_open = self.breaker.as_ref().is_some_and(|breaker| breaker.state(now) == BreakerState::Open);
        instance.health == ServiceHealth::Unhealthy || !service_blocks && (self.is_paused || is_open)
    }

    /// Events that its consumer has seen, and that have not come to their end.
    fn open(&self) -> usize {
        self.trials.as_ref().map_or(self.in_hand as usize, |trials| trials.open().count())
    }

    /// Deliveries that were taken away from its consumer, which reads them still: each keeps its cell, also when its event is dead
    /// and is no more among the open ones. The model did not know that when a service gave an event up, and took an instance
    /// for one with room all of whose cells were read by a consumer that was too late.
    fn taken_away(&self) -> usize {
        self.trials.as_ref().map_or(0, |trials| trials.taken_away)
    }

    /// Whether this instance takes whatever comes, unless it is full.
    fn is_willing(&self) -> bool {
        let is_well = self.instance().is_some_and(|instance| instance.health != ServiceHealth::Unhealthy);
        is_well && self.is_live && !self.is_paused && self.breaker.is_none()
    }
}

impl World {
    /// The service of this name that is alive.
    pub(crate) fn service_named(&self, name: &str) -> Option<usize> {
        let is_it = |sub: &Sub| sub.is_live && sub.service().is_some_and(|service| service.name == name);
        self.subs.iter().position(is_it)
    }

    /// The services that are to get an event, and whether it has a place in a lane for a service.
    fn services_of(&mut self, index: usize) -> (Vec<usize>, bool) {
        let (event, mut wanted, mut is_wanted) = (&self.events[index], Vec::new(), false);
        for (nth, sub) in self.subs.iter().enumerate().filter(|(_, sub)| sub.is_live) {
            let Some(name) = sub.service().map(|service| service.name) else { continue };
            let rules = || self.rules.iter().filter(|rule| rule.sends_to(name));
            // Names come before rules.
            let is_named = !event.spec.targets.is_empty();
            is_wanted |= is_named || rules().any(|rule| rule.is_for_type(event));
            if if is_named { event.spec.targets.contains(&name) } else { rules().any(|rule| rule.matches(event)) } {
                self.census.count(if is_named { "sent to a service by name" } else { "sent to a service by a rule" });
                wanted.push(nth);
            }
        }
        (wanted, is_wanted)
    }

    /// Sends an event to the services that are to get it. Whether the bus gives it a place in a lane for them.
    pub(crate) fn send_to_services(&mut self, index: usize, surety: Surety) -> bool {
        let (wanted, is_wanted) = self.services_of(index);
        for nth in wanted {
            if let Some(service) = self.subs[nth].service_mut()
                && let Entry::Vacant(entry) = service.at_large.entry(index)
            {
                entry.insert(surety);
                service.sent.counts(surety);
            }
        }
        is_wanted
    }

    /// An event has come due in one of the turns that have just ended. Whether it was put into a lane for a service.
    pub(crate) fn is_sent(&mut self, index: usize) -> bool {
        let (_, is_wanted) = self.services_of(index);
        for sub in self.subs.iter_mut().filter(|sub| sub.is_live) {
            let Some(service) = sub.service_mut() else { continue };
            let Some(surety) = service.at_large.get_mut(&index) else { continue };
            if *surety == Surety::Maybe {
                (service.sent.sure, service.sent.maybe) = (service.sent.sure + 1, service.sent.maybe - 1);
            }
            *surety = Surety::Sent;
        }
        is_wanted
    }

    /// What no worker may have looked at yet finds other services.
    pub(crate) fn services_change(&mut self) {
        let from = self.routed;
        let Self { subs, entered, .. } = self;
        for sub in subs.iter_mut().filter(|sub| sub.is_live) {
            let in_lanes = |index: &usize| *index >= from || entered.contains(index);
            let Some(service) = sub.service_mut() else { continue };
            for (_, surety) in service.at_large.iter_mut().filter(|(index, _)| in_lanes(index)) {
                if matches!(*surety, Surety::Sent | Surety::Behind) {
                    *surety = Surety::Maybe;
                    (service.sent.sure, service.sent.maybe) = (service.sent.sure - 1, service.sent.maybe + 1);
                }
            }
        }
        let at_once = (from..self.events.len()).filter(|&index| self.events[index].due.is_none());
        let in_lanes: Vec<_> = at_once.chain(self.entered.iter().copied()).collect();
        for index in in_lanes {
            self.send_to_services(index, Surety::Maybe);
        }
    }

    /// An event is seen for the first time by a consumer of this instance.
    pub(crate) fn leaves_service(&mut self, nth: usize, index: usize) -> Result<(), String> {
        let Some(service) = self.subs[nth].instance().map(|instance| instance.service) else { return Ok(()) };
        self.census.count("came by a service");
        let at_large = self.subs[service].at_large().and_then(|at_large| at_large.remove(&index));
        at_large.map(drop).ok_or_else(|| format!("service {service} was not sent it, or has given it to another"))
    }

    /// An instance ends, with these books as far as anybody could look at them.
    pub(crate) fn instance_ends(&mut self, nth: usize, ledger: Option<&SubscriptionLedger>) {
        let Some(service) = self.subs[nth].instance().map(|instance| instance.service) else { return };
        let Some(service) = self.subs[service].service_mut() else { return };
        let books = ledger.filter(|ledger| ledger.open() == 0).map(|ledger| ledger.matched - ledger.passed_on);
        service.sent.gone = service.sent.gone.zip(books).map(|(gone, books)| gone + books);
    }

    /// An instance ends that nobody takes from any more: what it has not had in hand goes back.
    pub(crate) fn gives_back(&mut self, nth: usize) {
        let Some(service) = self.subs[nth].instance().map(|instance| instance.service) else { return };
        let owes = self.subs[service].blocks();
        self.may_be_new(nth);
        if let Some(service) = self.subs[service].service_mut() {
            service.is_owed |= owes;
        }
        let Some(trials) = &mut self.subs[nth].trials else { return };
        let key_of = |index: usize| trials.rule.order.and_then(|order| order.of(&self.events[index]));
        let has_lines = trials.open().any(|index| key_of(index).is_some());
        // Keys that share a bucket share a line: it may stand behind an event of another key.
        let is_behind = |index: usize| has_lines && key_of(index).is_some();
        let behind: Vec<_> = (0..self.events.len()).filter(|&index| is_behind(index)).collect();
        let left: Vec<_> = trials.left_behind().collect();
        for (index, surety) in self.subs[service].at_large().into_iter().flatten() {
            if *surety == Surety::Sent && behind.contains(index) {
                *surety = Surety::Behind;
            }
        }
        for (index, place) in left {
            self.census.count("given back to a service");
            let surety = if matches!(place, Place::Returning) { Surety::Returning } else { Surety::Left };
            if let Some(at_large) = self.subs[service].at_large() {
                at_large.insert(index, surety);
            }
        }
    }

    /// The bus says that a service gave an event up.
    pub(crate) fn service_died(&mut self, nth: usize, id: EventId, letter: u64, reason: DeadReason, attempts: u32) {
        let Some(index) = self.index_of(id) else {
            return self.broken(format!("{id} died, and nobody published it"));
        };
        self.letters.put(letter, nth, index);
        let may_close = self.subs[nth].is_ending || self.subs[nth].is_closed || self.is_closed;
        let taker = self.sure_taker(nth);
        let sub = &mut self.subs[nth];
        let (blocks, attempts_max) = (sub.blocks(), sub.trials.as_ref().map_or(0, |trials| trials.rule.attempts_max));
        let adrift = sub.service_mut().and_then(|service| service.adrift.remove(&index));
        let back = adrift.filter(Adrift::may_be_given_back).map(|_| Surety::Left);
        let surety = sub.at_large().and_then(|at_large| at_large.remove(&index)).or(back);
        if let Some(trials) = &mut sub.trials {
            trials.letters += 1;
        }
        let right = surety.is_some()
            && match reason {
                DeadReason::NoInstance => attempts == u32::from(attempts_max) && taker.is_none(),
                DeadReason::MailboxFull => !blocks && attempts == 0,
                reason => reason == DeadReason::Closed && may_close,
            };
        self.census.count(match reason {
            DeadReason::NoInstance => "died: no instance",
            DeadReason::MailboxFull => "died: mailbox full",
            _ => "died: closed",
        });
        if !right {
            let event = &self.events[index];
            self.broken(format!("service {nth} gave event {index} up for {reason:?} after {attempts}, at large {surety:?}, could be taken by {taker:?}: {event:?}"));
        }
    }

    /// An instance that takes whatever its service gives it, full as everything may be.
    fn sure_taker(&self, service: usize) -> Option<usize> {
        let of = self.subs[service].service()?;
        if !of.takes_any || self.subs[service].is_paused {
            return None;
        }
        let is_one = |sub: &Sub| {
            let has = sub.open() + sub.taken_away() + of.at_large.len() + of.adrift.len();
            sub.instance().is_some_and(|one| one.service == service)
                && sub.is_willing()
                && matches!(sub.way, Way::Mailbox(cells, _) if has as u64 <= cells && has < 16)
        };
        self.subs.iter().position(is_one)
    }

    /// What came to an instance while workers turned: nothing, where it is to be spared.
    pub(crate) fn check_spared(
        &mut self,
        nth: usize,
        before: &SubscriptionLedger,
        after: &SubscriptionLedger,
        was_spared: bool,
    ) -> Result<(), String> {
        let sub = &self.subs[nth];
        let Some(instance) = sub.instance().filter(|_| !self.is_closed) else { return Ok(()) };
        let came = after.matched - before.matched;
        let returned = sub.trials.as_ref().map_or(0, |trials| trials.returning_before);
        // Its breaker may have half opened, and opened again.
        let is_spared =
            was_spared && !self.overruns.has_moved && sub.is_spared(self.now, self.subs[instance.service].blocks());
        if is_spared && came > returned {
            return Err(format!("{came} events came to an instance that is to be spared: {sub:?}"));
        }
        if is_spared {
            self.census.count("instance spared");
        }
        Ok(())
    }

    /// Whether an instance is to be spared now.
    pub(crate) fn is_spared(&self, nth: usize) -> bool {
        let sub = &self.subs[nth];
        sub.instance().is_some_and(|instance| sub.is_spared(self.now, self.subs[instance.service].blocks()))
    }

    /// The books of a service while nothing is in a lane and its worker has done all it could: each event that it was sent is with
    /// it or an instance, and nothing waits that an instance takes.
    pub(crate) fn check_service(&mut self, record: &ServiceRecord) -> Result<(), String> {
        let Some(nth) = self.service_named(&record.name) else {
            return Err(format!("there is a service {}", record.name));
        };
        let now = self.now;
        let Self { subs, events, census, .. } = self;
        let is_late = |index: usize| events[index].deadline.is_some_and(|deadline| now > deadline);
        let service = subs[nth].service().expect("it was found as one");
        let (mut least, mut most) = (0_u64, (service.at_large.len() + service.adrift.len()) as u64);
        for (&index, adrift) in &service.adrift {
            least += u64::from(!adrift.is_returning && !adrift.may_be_given_back() && !is_late(index));
        }
        for (&index, &surety) in &service.at_large {
            least += u64::from(surety == Surety::Sent && !is_late(index));
        }
        for sub in subs.iter().filter(|sub| sub.is_live && sub.instance().is_some_and(|one| one.service == nth)) {
            most += sub.open() as u64;
            let Some(trials) = &sub.trials else {
                least += sub.in_hand;
                continue;
            };
            let returning: Vec<_> = trials.returning().collect();
            least += trials.open().filter(|&index| !is_late(index) && !returning.contains(&index)).count() as u64;
        }
        let open = record.ledger.open();
        if open > most || open < least && !service.is_owed {
            return Err(format!("service {nth} has from {least} to {most} events, {service:?}, but {record:?}"));
        }
        census.count("books of a service checked");
        let is_of = |sub: &&Sub| sub.instance().is_some_and(|one| one.service == nth);
        let of = subs.iter().filter(is_of).chain([&subs[nth]]).filter_map(|sub| sub.trials.as_ref());
        let redriven: u64 = of.map(|trials| trials.redriven).sum();
        let Sent { sure, maybe, gone } = service.sent;
        let Some(gone) = gone else {
            census.count("service: in bounds only");
            return self.check_called(nth, record);
        };
        let came = gone + record.ledger.matched - record.ledger.passed_on;
        if !(sure..=sure + maybe + redriven).contains(&came) {
            return Err(format!(
                "from {sure} to {} events were sent to service {nth}, and {gone} are gone with instances, but {record:?}",
                sure + maybe + redriven
            ));
        }
        census.count(if maybe + redriven == 0 { "service: compared" } else { "service: in bounds only" });
        self.check_called(nth, record)
    }

    /// Nothing waits at a service that an instance takes.
    fn check_called(&self, nth: usize, record: &ServiceRecord) -> Result<(), String> {
        let subs = &self.subs;
        let service = subs[nth].service().expect("it was found as one");
        let is_idle = !service.takes_any || subs[nth].is_paused;
        let takes = |instance: &ringmain::InstanceRecord| {
            let number = instance.name.parse::<usize>().expect("instances are named by their number");
            let sub = &subs[number];
            let taken = instance.ledger.open() + sub.taken_away() as u64;
            sub.is_willing() && matches!(sub.way, Way::Mailbox(cells, _) if taken < cells)
        };
        let taker = record.instances.iter().find(|instance| takes(instance)).filter(|_| !is_idle);
        let stranded = self.stranded(&record.instances);
        match taker.filter(|_| record.waiting > 0 || stranded.is_some()) {
            Some(instance) => Err(format!(
                "{} events wait at service {nth}, and {instance:?} takes them, or those of {stranded:?}",
                record.waiting
            )),
            None => Ok(()),
        }
    }

    /// Events at large at a service that are not late, and are to come to somebody.
    pub(crate) fn at_large<'a>(&'a self, sub: &'a Sub) -> impl Iterator<Item = usize> + 'a {
        let is_late = |index: usize| self.events[index].deadline.is_some_and(|deadline| self.now > deadline);
        let large = sub.service().map(|service| &service.at_large).into_iter().flatten();
        let large = large.filter(|(_, surety)| **surety != Surety::Maybe).map(|(&index, _)| index);
        let adrift = sub.service().map(|service| service.adrift.keys().copied()).into_iter().flatten();
        large.chain(adrift).filter(move |&index| !is_late(index))
    }

    /// How many those are at all services that are alive.
    pub(crate) fn count_at_large(&self) -> usize {
        self.subs.iter().filter(|sub| sub.is_live).map(|sub| self.at_large(sub).count()).sum()
    }
}
