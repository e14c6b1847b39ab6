//! An event at services: which it goes to, which instance of each gets it, and where it waits when none can.

use arrayvec::ArrayVec;
use std::cmp::Reverse;
use std::sync::Arc;

use crate::delivery::{
    DeadReason, Fed, MailboxShared, Notice, Overflow, Rota, Route, SERVICES_MAX, ServiceHere, Sink, State,
    SubscriptionState, may_hold, meta_of,
};
use crate::event::{FLAG_TARGETED, Meta, ServiceTarget};
use crate::ring::{Slot, Taken};
use crate::sync::alarm::NEVER;
use crate::sync::mutant::mutant;
use crate::sync::owned::Owner;
use crate::worker::engine::Engine;

use super::call::catch_up;

mod stranded;

/// Services that one event may name.
const TARGETS_MAX: usize = 16;
/// When events of an instance that ended are looked at again, where nobody could take them.
const LEAVE_AGAIN_NS: u64 = 1_000_000;

/// The places of the services that an event goes to, each once.
pub(super) type Wanted = ArrayVec<u8, SERVICES_MAX>;

/// Where the event at the head of a lane goes, while that waits for room: asked once, for its rules may have to read the payload.
#[derive(Debug, Clone, Default)]
pub(super) struct Directed {
    /// The event's; none has been asked about before the first.
    sequence: Option<u64>,
    pub(super) wanted: Wanted,
    /// A rule would have read a payload that is too long.
    pub(super) is_unread: bool,
}

impl Directed {
    /// The rules or services have changed.
    pub(super) fn forget(&mut self) {
        self.sequence = None;
    }

    /// Asks for an event, unless it is the one that was asked for last.
    #[inline]
    pub(super) fn ask(&mut self, services: &[Arc<ServiceHere>], route: Option<&Route>, meta: &Meta<'_>) -> &Self {
        if self.sequence != Some(meta.sequence()) {
            // A worker that panics amid this asks again.
            self.sequence = None;
            self.wanted.clear();
            visit!(Asked);
            self.is_unread = add_wanted(&mut self.wanted, services, route, meta);
            self.sequence = Some(meta.sequence());
        }
        self
    }
}

/// Adds which services get the event: those that its targets name, the highest of them first, or else those that rules send
/// it to, in the order of the rules. Whether a rule would have read a payload that is too long.
#[inline(never)]
pub(super) fn add_wanted(
    wanted: &mut Wanted,
    services: &[Arc<ServiceHere>],
    route: Option<&Route>,
    meta: &Meta<'_>,
) -> bool {
    let takes = |place: u8| {
        let service = services.get(usize::from(place));
        !meta.is_replay() || service.is_some_and(|service| service.service.takes_replay(meta))
    };
    let mut add = |place: u8| {
        if takes(place) && !wanted.contains(&place) {
            // There are no more places than it holds.
            let _ = wanted.try_push(place);
        }
    };
    if meta.header().has(FLAG_TARGETED) {
        let mut targets: ArrayVec<(Reverse<u8>, usize, ServiceTarget<'_>), TARGETS_MAX> = meta
            .targets()
            .take(TARGETS_MAX)
            .enumerate()
            .map(|(nth, target)| (Reverse(target.priority()), nth, target))
            .collect();
        targets.sort_unstable_by_key(|&(priority, nth, _)| (priority, nth));
        for (.., target) in &targets {
            if let Some(place) = services.iter().position(|service| service.name() == target.id()) {
                add(place as u8);
            }
        }
    } else if let Some(route) = route {
        let event = route.rules().reading(meta);
        for (_, places) in route.rules().evaluate(&event) {
            places.iter().for_each(|&place| add(place));
        }
        return event.is_unread();
    }
    false
}

fn mailbox(subscription: &SubscriptionState) -> Option<&MailboxShared> {
    match &subscription.sink {
        Sink::Mailbox(mailbox, _) => Some(mailbox),
        Sink::Inline(_) => None,
    }
}

/// Whether each of the services could take the event: an instance, or the service to hold it.
#[inline(never)]
pub(super) fn have_room(services: &[Arc<ServiceHere>], wanted: &Wanted, owner: &mut Owner) -> bool {
    wanted.iter().filter_map(|&place| services.get(usize::from(place))).all(|service| has_room(service, owner))
}

fn has_room(service: &ServiceHere, owner: &mut Owner) -> bool {
    mailbox(&service.service).is_none_or(|mailbox| {
        mailbox.overflow() != Overflow::Block
            || mailbox.custody().is_closed()
            || mailbox.custody().cells().has_room()
            || service.has_instance(owner)
    })
}

/// An event on its way to an instance.
#[derive(Clone, Copy)]
pub(super) struct Passed<'a> {
    pub(super) lane: usize,
    pub(super) meta: &'a Meta<'a>,
    pub(super) slot: &'a Slot<'a>,
}

/// Brings an event to a service: to the instance that it picks, or else to where it waits for one.
#[inline(never)]
pub(super) fn hand_over(engine: &Engine, service: &ServiceHere, event: Passed<'_>, owner: &mut Owner) {
    let Passed { lane, meta, slot } = event;
    let state = &service.service;
    let Sink::Mailbox(mailbox, fed) = &state.sink else { return };
    let deadline = meta.header().deadline;
    if deadline != 0 && engine.directory.clock.now() > deadline {
        state.counts.matched.add(1);
        state.counts.expired.add(1);
        return;
    }
    if mailbox.custody().is_closed() {
        state.counts.matched.add(1);
        mailbox.turn_away(meta, DeadReason::Closed);
        return;
    }
    // A service that is paused holds what comes.
    let is_paused = state.is_paused();
    if !is_paused
        && let Some(instance) = service.pick(meta, owner)
        && give(engine, instance, event, owner)
    {
        return;
    }
    if mailbox.overflow() == Overflow::Block
        && !mailbox.custody().cells().has_room()
        && service.instances.iter().any(|one| may_hold(one) && give(engine, one, event, owner))
    {
        // An instance that had room when this lane was let go on, and has been paused, or its breaker has opened, since. It
        // holds the event now, which would be given up otherwise.
        return;
    }
    let Some(own) = fed.get_mut(owner) else { return };
    state.counts.matched.add(1);
    if mailbox.push(own, lane, meta, slot).is_some() {
        state.set_overflowing(false);
        if is_paused && let Some(search) = service.search(owner) {
            search.ask_again();
        }
        serve_waiting(engine, service, 1, owner);
    } else {
        mailbox.turn_away(meta, DeadReason::MailboxFull);
        if !state.set_overflowing(true) {
            engine.notice(&Notice::MailboxOverflow { subscription: state.id, name: &state.name });
        }
    }
}

/// An event that comes from another mailbox.
fn passed<'a>(event: &Taken, meta: &'a Meta<'a>, slot: &'a Slot<'a>) -> Passed<'a> {
    Passed { lane: event.lane(), meta, slot }
}

/// Puts an event into the mailbox of an instance. False when that has no room.
fn give(engine: &Engine, instance: &SubscriptionState, event: Passed<'_>, owner: &mut Owner) -> bool {
    let Passed { lane, meta, slot } = event;
    give_by(engine, instance, meta, owner, |mailbox, fed| mailbox.push(fed, lane, meta, slot).is_some())
}

/// As `give`; `push` puts it there.
#[inline(always)]
fn give_by(
    engine: &Engine,
    instance: &SubscriptionState,
    meta: &Meta<'_>,
    owner: &mut Owner,
    push: impl FnOnce(&MailboxShared, &mut Fed) -> bool,
) -> bool {
    let Sink::Mailbox(mailbox, fed) = &instance.sink else { return false };
    let Some(fed) = fed.get_mut(owner).filter(|fed| fed.intake.has_room(meta)) else { return false };
    instance.counts.matched.add(1);
    if !push(mailbox, fed) {
        // There is room, and the event was read; should it not fit after all, it is in the books all the same.
        lose(instance, mailbox, meta);
        return true;
    }
    mailbox.notify();
    if fed.consumer.is_some() {
        catch_up(engine, instance, mailbox, fed);
    }
    true
}

/// As `give_by`, to an instance that was picked for its room. Should it have none after all, the event is its loss: whoever gave it
/// does not have it any more.
fn give_picked(
    engine: &Engine,
    instance: &SubscriptionState,
    meta: &Meta<'_>,
    owner: &mut Owner,
    push: impl FnOnce(&MailboxShared, &mut Fed) -> bool,
) {
    if !give_by(engine, instance, meta, owner, push)
        && let Some(mailbox) = mailbox(instance)
    {
        instance.counts.matched.add(1);
        lose(instance, mailbox, meta);
    }
}

/// An event that has matched does not get into the mailbox of an instance.
#[cold]
fn lose(instance: &SubscriptionState, mailbox: &MailboxShared, meta: &Meta<'_>) {
    if !mailbox.turn_away(meta, DeadReason::MailboxFull) {
        instance.counts.overflow.add(1);
    }
}

/// Tries events again that wait for an instance and are due, at most so many. Returns how many it tried.
fn serve_waiting(engine: &Engine, service: &ServiceHere, max: usize, owner: &mut Owner) -> usize {
    let state = &service.service;
    let (Some(rota), Some(mailbox)) = (service.rota(), mailbox(state)) else { return 0 };
    let mut tried = 0;
    while tried < max && state.state() == State::Active && !mailbox.is_paused() {
        let ready = mailbox.custody().ready();
        if ready == 0 {
            break;
        }
        tried += 1;
        let Some(hold) = mailbox.take_to_pass(ready.trailing_zeros() as usize) else { continue };
        let event = hold.event();
        let meta = meta_of(event, &engine.directory, hold.failures());
        let slot = event.slot();
        let instance = service.pick(&meta, owner);
        let is_given = instance.is_some_and(|instance| {
            let event = passed(event, &meta, &slot);
            mutant!("service.given", give(engine, instance, event, owner) => true)
        });
        if is_given {
            mailbox.pass_on(hold);
        } else {
            mailbox.settle(hold, &rota.no_instance);
            // Who is full now may have room again before the next look, and has refused nothing then.
            service.is_called(owner);
            let now = engine.directory.clock.now();
            engine.alarms[state.worker].resume(half_opens_at(service, now));
        }
    }
    tried
}

/// The next instant at which the circuit breaker of an instance half opens.
fn half_opens_at(service: &ServiceHere, now: u64) -> u64 {
    let mailboxes = service.instances.iter().filter_map(|instance| mailbox(instance));
    mailboxes.map(|mailbox| mailbox.admits_at(now)).filter(|&at| at > now).min().unwrap_or(NEVER)
}

/// Whether events wait that an instance may take.
#[inline]
pub(super) fn is_called(service: &ServiceHere, owner: &mut Owner) -> bool {
    is_waiting(service) && service.is_called(owner)
}

/// Whether events wait for an instance, at the service or in the mailbox of another one.
pub(super) fn is_waiting(service: &ServiceHere) -> bool {
    mailbox(&service.service).is_some_and(MailboxShared::is_waiting) || service.rota().is_some_and(Rota::is_stranded)
}

/// Brings events that wait for an instance to one that takes them now, at most so many: first those that wait at the service, then those
/// in the mailboxes of other instances. Returns how many it brought or asked about.
pub(super) fn pass_waiting(engine: &Engine, service: &ServiceHere, max: usize, owner: &mut Owner) -> usize {
    // Who has just refused it all is not asked in each look of the worker: nothing would be left of that for instances that end.
    let asked = if service.is_called(owner) { pass_from_service(engine, service, max, owner) } else { 0 };
    let passed_on = stranded::pass_from_instances(engine, service, max - asked, owner);
    if passed_on > 0
        && let Some(search) = service.search(owner)
    {
        search.ask_again();
    }
    asked + passed_on
}

/// Brings events that wait at the service, and would be tried again in their time, to an instance; asks about so many at most. Who
/// stays has not been tried. Returns about how many it asked.
fn pass_from_service(engine: &Engine, service: &ServiceHere, max: usize, owner: &mut Owner) -> usize {
    let (Some(mailbox), Some(&mut mut search)) = (mailbox(&service.service), service.search(owner)) else { return 0 };
    let mut looks = 0;
    search.resume(service.available());
    while looks < max && !service.service.is_paused() && service.is_available() {
        let Some(waits) = mailbox.waiting_from(search.cell) else {
            search.end();
            break;
        };
        looks += 1;
        let (cell, failures) = (waits.cell(), waits.failures());
        let instance = service.pick(&meta_of(waits.event(), &engine.directory, failures), owner);
        search.has_asked(cell, instance.is_some());
        let Some(instance) = instance else { continue };
        mailbox.pass_on_waiting(waits, |event| {
            let meta = meta_of(event, &engine.directory, failures);
            let push = |mailbox: &MailboxShared, fed: &mut Fed| {
                mailbox.push(fed, event.lane(), &meta, &event.slot()).is_some()
            };
            give_picked(engine, instance, &meta, owner, push);
        });
    }
    if let Some(kept) = service.search(owner) {
        *kept = search;
    }
    looks
}

/// Looks after what waits for an instance of `service`, and after what instances that ended have left. Returns how many events
/// moved, and the instant to look again at.
pub(super) fn attend(
    engine: &Engine,
    service: &ServiceHere,
    max: usize,
    now: u64,
    mut next: u64,
    owner: &mut Owner,
) -> (usize, u64) {
    let mut moved = serve_waiting(engine, service, max, owner);
    moved += pass_waiting(engine, service, max, owner);
    if is_waiting(service) {
        next = next.min(half_opens_at(service, now)).min(stranded::again_at(service, now, owner));
    }
    if mailbox(&service.service).is_some_and(MailboxShared::needs_consumer) {
        next = now;
    }
    for instance in &service.leaving {
        let Sink::Mailbox(mailbox, fed) = &instance.sink else { continue };
        if !mailbox.custody().is_abandoned() {
            continue;
        }
        if let Some(fed) = fed.get_mut(owner) {
            next = next.min(mailbox.attend(fed, now));
        }
        // Where the service waits for room, they wait where they are.
        if mailbox.goes_on() {
            moved += stranded::give_back(engine, service, mailbox, max.saturating_sub(moved), owner);
        }
        while moved < max && mailbox.custody().ready() != 0 && has_room(service, owner) {
            moved += 1;
            let Some(hold) = mailbox.take_to_pass(mailbox.custody().ready().trailing_zeros() as usize) else {
                continue;
            };
            let event = hold.event();
            let meta = meta_of(event, &engine.directory, 0);
            hand_over(engine, service, passed(event, &meta, &event.slot()), owner);
            mailbox.pass_on(hold);
        }
        if mailbox.custody().queued() > 0 || mailbox.goes_on() && mailbox.is_waiting() {
            next = next.min(if moved < max { now + LEAVE_AGAIN_NS } else { now });
        }
    }
    (moved, next)
}

/// Whether events of `service` are still to come back to its worker.
pub(super) fn is_needed(service: &ServiceHere) -> bool {
    let is_owed = |subscription: &SubscriptionState| {
        mailbox(subscription).is_some_and(|mailbox| mailbox.is_waiting() || mailbox.custody().queued() > 0)
    };
    let is_left = |subscription: &SubscriptionState| {
        mailbox(subscription).is_some_and(|mailbox| mailbox.custody().is_abandoned()) && is_owed(subscription)
    };
    !service.service.is_paused() && (is_owed(&service.service) || service.leaving.iter().any(|one| is_left(one)))
}
