//! The books of the bus against the model's: each term is counted by the test itself.

use ringmain::{Bus, Ledger, Overflow, Refused, SubscriptionId, SubscriptionLedger, SubscriptionRecord};

use crate::services::Role;
use crate::sub::{Skipped, Sub, Way};
use crate::trials::Trials;
use crate::world::{Event, LANES, World, lane_of};

/// What a mailbox did while workers turned and no consumer took anything: full or not, to the last event.
pub(crate) fn check_filling(sub: &Sub, before: &SubscriptionLedger, after: &SubscriptionLedger) -> Result<(), String> {
    let Way::Mailbox(cells, overflow) = sub.way else { return Ok(()) };
    if sub.trials.is_some() || sub.newest.is_some() || sub.requests.is_some() || sub.is_inline {
        return Ok(());
    }
    let unfit =
        |ledger: &SubscriptionLedger| ledger.dropped.expired + ledger.dropped.duplicate + ledger.dropped.rate_limited;
    let came = after.matched - before.matched - (unfit(after) - unfit(before));
    let free = cells - before.queued - before.in_flight;
    let kept = came.min(free);
    let dropped = after.dropped.overflow - before.dropped.overflow;
    let right = after.queued == before.queued + kept && dropped == came - kept;
    if !right || (overflow == Overflow::Block && dropped > 0) {
        return Err(format!("{came} events met a mailbox with {free} free cells: {before:?} became {after:?}"));
    }
    Ok(())
}

/// One subscription, while nothing is in a lane: every event that it must get has come to it.
pub(crate) fn check_at_rest(world: &mut World, nth: usize, ledger: &SubscriptionLedger) -> Result<(), String> {
    let World { subs, events, pending, now, census, .. } = world;
    let sub = &mut subs[nth];
    sub.matched += sub.fresh.0;
    sub.filtered += sub.fresh.1;
    sub.fresh = (0, 0);
    let redriven = sub.trials.as_ref().map_or(0, |trials| trials.redriven);
    let is_matched = (sub.matched..=sub.matched + redriven).contains(&ledger.matched);
    let is_counted = is_matched && ledger.filtered == sub.filtered;
    // Services and their instances have a check of their own, together.
    if matches!(sub.role, Role::Subscriber) {
        census.count(if sub.is_vague { "at rest: in bounds only" } else { "at rest: compared" });
    }
    if !sub.is_vague && !is_counted {
        let (matched, filtered) = (sub.matched, sub.filtered);
        return Err(format!("{matched} events match it and {filtered} are filtered, but {ledger:?}"));
    }
    if !ledger.is_balanced() {
        return Err(format!("not balanced: {ledger:?}"));
    }
    if sub.way == Way::Inline {
        let lanes = sub.expected.each_mut().map(std::mem::take);
        // What has found its lane full waits with the timers still.
        let (waiting, loose): (Vec<_>, Vec<_>) =
            std::mem::take(&mut sub.loose).into_iter().partition(|index| pending.contains(index));
        sub.loose = waiting;
        let missing: Vec<_> = lanes.into_iter().flatten().chain(loose).collect();
        for index in missing {
            if !sub.skip(&events[index], *now) && !sub.is_vague {
                return Err(format!("event {index} never came: {:?}", events[index]));
            }
        }
    }
    sub.was_paused = sub.is_paused;
    check_terms(sub, ledger)?;
    if sub.way == Way::Inline && !sub.is_vague {
        let unread = ledger.failed - sub.failed;
        let gone = ledger.dropped.total() + unread;
        let Skipped { events, late, paused, unreadable } = sub.skipped;
        if gone != events || ledger.dropped.expired > late || ledger.dropped.paused > paused || unread > unreadable {
            return Err(format!("{:?} never came, but {ledger:?}", sub.skipped));
        }
    }
    Ok(())
}

/// What is true of a subscription's books whatever is under way.
pub(crate) fn check_terms(sub: &Sub, ledger: &SubscriptionLedger) -> Result<(), String> {
    let dropped = &ledger.dropped;
    let right = match sub.way {
        Way::Inline => {
            let unread = ledger.failed.checked_sub(sub.failed);
            unread.is_some_and(|unread| sub.shape.is_some() || unread == 0)
                && ledger.queued + ledger.in_flight + dropped.overflow + dropped.closed == 0
        }
        Way::Mailbox(cells, overflow) => {
            ledger.failed == sub.failed
                && ledger.in_flight == sub.in_hand
                && (sub.newest.is_some() || ledger.open() <= cells)
                && dropped.paused == 0
                && (overflow != Overflow::Block && sub.trials.is_none() || dropped.overflow == 0)
        }
    };
    let right = right
        && ledger.timed_out == sub.timed_out
        && (sub.dedup.is_some() || dropped.duplicate == 0)
        && (sub.newest.is_some() || dropped.superseded == 0)
        && (sub.turns_away() && sub.trials.is_none() || dropped.rate_limited == 0)
        && sub.trials.as_ref().map_or(
            ledger.dead_lettered + ledger.retried + ledger.late + ledger.waiting == 0,
            |trials| {
                ledger.dead_lettered == trials.letters
                    && (ledger.retried == trials.retried || sub.service().is_some())
                    && ledger.late == trials.late
            },
        );
    if right && ledger.delivered == sub.acked { Ok(()) } else { Err(format!("{ledger:?} of {sub:?}")) }
}

/// The books of the bus, between any two steps.
pub(crate) fn check_books(world: &World, ledger: &Ledger) -> Result<(), String> {
    let sum = |term: fn(&Sub) -> u64| world.subs.iter().map(term).sum::<u64>();
    let (delivered, failed, in_hand) = (sum(|sub| sub.acked), sum(|sub| sub.failed), sum(|sub| sub.in_hand));
    let trials =
        |term: fn(&Trials) -> u64| world.subs.iter().filter_map(|sub| sub.trials.as_ref()).map(term).sum::<u64>();
    let letters = trials(|trials| trials.letters);
    let (retried, late) = (trials(|trials| trials.retried), trials(|trials| trials.late));
    // How often services have looked for an instance is not known.
    let offered = if world.services.is_empty() { 0 } else { u64::MAX / 2 };
    let late_after = trials(|trials| trials.late_after);
    let all = &ledger.subscriptions;
    let (scheduled, unsure) = (world.pending.len() as u64, world.unsure());
    let unmatched_least = if world.overflows_types { 0 } else { world.unmatched };
    let right = ledger.is_balanced()
        && ledger.accepted == world.events.len() as u64
        && (scheduled - unsure..=scheduled).contains(&ledger.scheduled)
        && (unmatched_least..=world.unmatched + world.vague + unsure).contains(&ledger.unmatched)
        && (all.delivered, all.in_flight) == (delivered, in_hand)
        && all.failed >= failed
        && all.dead_lettered == letters
        && (retried..=retried + offered).contains(&all.retried)
        && (late..=late + late_after).contains(&all.late);
    if right {
        return Ok(());
    }
    let accepted = world.events.len();
    Err(format!(
        "{accepted} accepted, {scheduled} scheduled, {} unmatched, {delivered} delivered, {failed} failed, {in_hand} in \
         hand, {letters} dead, {retried} tried again, {late} too late, but {ledger:?}",
        world.unmatched
    ))
}

/// Nothing is lost in the step that has just ended: each event that was given up has its letter, and a subscription that
/// gave too many up is suspended.
pub(crate) fn check_dying(world: &World) -> Result<(), String> {
    if let Some((nth, index)) = world.dying.first() {
        return Err(format!("subscription {nth} gave event {index} up, and there is no letter"));
    }
    let is_overdue = |sub: &Sub| {
        let trials =
            sub.trials.as_ref().filter(|trials| trials.rule.suspend_after > 0 && sub.is_live && !world.is_closed);
        trials.is_some_and(|trials| trials.deaths >= trials.rule.suspend_after)
    };
    match world.subs.iter().position(is_overdue) {
        Some(nth) => Err(format!("subscription {nth} is not suspended")),
        None => Ok(()),
    }
}

/// What waits for its time, after a look of its worker.
pub(crate) fn check_waiting(
    world: &mut World,
    nth: usize,
    ledger: &SubscriptionLedger,
    all_have_looked: bool,
) -> Result<(), String> {
    let (now, is_service) = (world.now, world.subs[nth].service().is_some());
    // What goes on to other instances waits here, though its time is not the question.
    let is_service = is_service || world.subs[nth].may_go_on();
    let Some(trials) = &mut world.subs[nth].trials else { return Ok(()) };
    if trials.rule.order.is_some() || !all_have_looked || is_service {
        return Ok(());
    }
    let (least, most) = trials.waiting(now);
    if !world.is_closed && !(least..=most).contains(&ledger.waiting) {
        return Err(format!("from {least} to {most} events wait for their time, but {ledger:?}"));
    }
    Ok(())
}

/// What a handler on a worker leaves queued, after the worker has done all it could: it is held for a reason.
pub(crate) fn check_held(
    world: &mut World,
    nth: usize,
    ledger: &SubscriptionLedger,
    all_have_looked: bool,
) -> Result<(), String> {
    let sub = &world.subs[nth];
    if !sub.is_inline || !all_have_looked || world.is_closed || sub.is_paused || ledger.queued == 0 {
        return Ok(());
    }
    if !sub.is_held_back(world.now) {
        return Err(format!("nothing holds {} events back that are queued: {sub:?}", ledger.queued));
    }
    world.census.count("held back from a handler");
    Ok(())
}

/// At the end: each event is in exactly one place. Those that no consumer has acknowledged and that are no letters have
/// expired, or are duplicates.
pub(crate) fn check_fates(
    world: &mut World,
    ledgers: &[(usize, SubscriptionLedger)],
    all: &Ledger,
) -> Result<(), String> {
    let (lanes_are_stuck, closed) = (all.in_lanes > 0, all.subscriptions.dropped.closed);
    let mut dropped = 0;
    let now = world.now;
    let is_late = |event: &Event| event.deadline.is_some_and(|deadline| now > deadline);
    for (nth, sub) in world.subs.iter().enumerate() {
        let Some(trials) = &sub.trials else { continue };
        let is_over = sub.is_closed || world.is_closed;
        if is_over && sub.service().is_some_and(|service| service.drops_at_end) {
            dropped += world.at_large(sub).count() as u64;
        } else if let Some(index) = world.at_large(sub).next().filter(|_| !lanes_are_stuck) {
            return Err(format!("service {nth} has lost event {index}: {sub:?}"));
        }
        if let Some(index) = trials.open().find(|&index| !is_late(&world.events[index])) {
            return Err(format!("subscription {nth} has lost event {index}: {:?}", world.events[index]));
        }
    }
    if dropped > closed && !lanes_are_stuck {
        return Err(format!("{dropped} events went with instances at the end, and {closed} are dropped: {all:?}"));
    }
    for (nth, ledger) in ledgers {
        let sub = &world.subs[*nth];
        if !lanes_are_stuck {
            world.check_newest(*nth).map_err(|what| format!("subscription {nth}: {what}"))?;
        }
        let is_vague = sub.is_vague || lanes_are_stuck;
        if sub.trials.is_some() && matches!(sub.role, Role::Subscriber) {
            world.census.count(if is_vague { "fates: in bounds only" } else { "fates: compared" });
        }
        let sub = &world.subs[*nth];
        let Some(trials) = sub.trials.as_ref().filter(|_| !is_vague) else { continue };
        let missing = sub.expected.iter().flatten().chain(&sub.loose);
        let missing: Vec<_> = missing.filter(|index| !world.pending.contains(index)).copied().collect();
        for &index in &missing {
            if !sub.is_excused(&world.events[index], world.now) {
                return Err(format!("subscription {nth} has lost event {index}: {:?}", world.events[index]));
            }
        }
        let gone = ledger.dropped.expired + ledger.dropped.duplicate;
        let ours = missing.len() as u64 + sub.skipped.events + trials.open().count() as u64;
        if gone != ours {
            return Err(format!("subscription {nth} has not seen {ours} events to their end, but {ledger:?}"));
        }
    }
    Ok(())
}

/// Each lane has one order, and what was accepted at once is in it as it was accepted.
pub(crate) fn check_order(world: &World) -> Result<(), String> {
    for lane in 0..LANES {
        let seen = world.events.iter().enumerate();
        let mut seen: Vec<_> = seen
            .filter(|(_, event)| lane_of(event.spec.priority) == lane)
            .filter_map(|(index, event)| Some((event.sequence?, index, event.due.is_none())))
            .collect();
        let at_once: Vec<_> = seen.iter().filter(|(_, _, at_once)| *at_once).collect();
        if let Some(pair) = at_once.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("lane {lane} is out of order: {pair:?}"));
        }
        seen.sort_unstable();
        if let Some(pair) = seen.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("lane {lane} has two events at one place: {pair:?}"));
        }
    }
    Ok(())
}

/// Refusals, by reason, as the bus counts them.
pub(crate) fn check_refusals(refused: &Refused, world: &World) -> Result<(), String> {
    let counted = [
        ("full", refused.full),
        ("shed", refused.shed),
        ("shutting_down", refused.shutting_down),
        ("invalid", refused.invalid),
        ("no_publisher", refused.no_publisher),
        ("pool_exhausted", refused.pool_exhausted),
        ("schedule_full", refused.schedule_full),
        ("timed_out", refused.timed_out),
        ("rate_limited", refused.rate_limited),
        ("memory_pressure", refused.memory_pressure),
    ];
    let ours = |reason| world.refused.get(reason).copied().unwrap_or(0);
    if let Some((reason, count)) = counted.into_iter().find(|&(reason, count)| count < ours(reason)) {
        return Err(format!("{} refusals {reason}, the bus counts {count}", ours(reason)));
    }
    let more: u64 = counted.into_iter().map(|(reason, count)| count - ours(reason)).sum();
    let untold = world.refused_untold;
    if more == untold { Ok(()) } else { Err(format!("{more} refusals more, and {untold} answers: {counted:?}")) }
}

/// A subscription that is alive.
pub(crate) fn record_of(bus: &Bus, id: SubscriptionId) -> SubscriptionRecord {
    bus.subscription(id).unwrap_or_else(|error| panic!("{error}"))
}
