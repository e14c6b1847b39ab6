//! The books of the bus against the model's: each term is counted by the test itself.

use ringmain::{Bus, Ledger, Overflow, Refused, SubscriptionId, SubscriptionLedger};

use crate::world::{LANES, Skipped, Sub, Way, World, lane_of};

/// What a mailbox did while workers turned and no consumer took anything: full or not, to the last event.
pub(crate) fn check_filling(way: Way, before: &SubscriptionLedger, after: &SubscriptionLedger) -> Result<(), String> {
    let Way::Mailbox(cells, overflow) = way else { return Ok(()) };
    let came = after.matched - before.matched - (after.dropped.expired - before.dropped.expired);
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
    let World { subs, events, pending, now, .. } = world;
    let sub = &mut subs[nth];
    sub.matched += sub.fresh.0;
    sub.filtered += sub.fresh.1;
    sub.fresh = (0, 0);
    if !sub.is_vague && (ledger.matched, ledger.filtered) != (sub.matched, sub.filtered) {
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
                && ledger.queued + ledger.in_flight <= cells
                && dropped.paused == 0
                && (overflow != Overflow::Block || dropped.overflow == 0)
        }
    };
    if right && ledger.delivered == sub.acked { Ok(()) } else { Err(format!("{ledger:?} of {sub:?}")) }
}

/// The books of the bus, between any two steps.
pub(crate) fn check_books(world: &World, ledger: &Ledger) -> Result<(), String> {
    let sum = |term: fn(&Sub) -> u64| world.subs.iter().map(term).sum::<u64>();
    let (delivered, failed, in_hand) = (sum(|sub| sub.acked), sum(|sub| sub.failed), sum(|sub| sub.in_hand));
    let all = &ledger.subscriptions;
    let (scheduled, unsure) = (world.pending.len() as u64, world.unsure());
    let unmatched_least = if world.overflows_types { 0 } else { world.unmatched };
    let right = ledger.is_balanced()
        && ledger.accepted == world.events.len() as u64
        && (scheduled - unsure..=scheduled).contains(&ledger.scheduled)
        && (unmatched_least..=world.unmatched + world.vague + unsure).contains(&ledger.unmatched)
        && (all.delivered, all.in_flight) == (delivered, in_hand)
        && all.failed >= failed;
    if right {
        return Ok(());
    }
    let accepted = world.events.len();
    Err(format!(
        "{accepted} accepted, {scheduled} scheduled, {} unmatched, {delivered} delivered, {failed} failed, {in_hand} in \
         hand, but {ledger:?}",
        world.unmatched
    ))
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
    ];
    let ours = |reason| world.refused.get(reason).copied().unwrap_or(0);
    match counted.into_iter().find(|&(reason, count)| count != ours(reason)) {
        None => Ok(()),
        Some((reason, count)) => Err(format!("{} refusals {reason}, the bus counts {count}", ours(reason))),
    }
}

/// The books of a subscription that is alive.
pub(crate) fn ledger_of(bus: &Bus, id: SubscriptionId) -> SubscriptionLedger {
    bus.subscription(id).unwrap_or_else(|error| panic!("{error}")).ledger
}
