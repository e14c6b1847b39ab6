//! Events in the mailbox of an instance whose circuit breaker is open, which go on to other instances.
//!
//! ```text
//!   instance a, open:  queued ──put off──► waiting ──► instance b, c: queued, with the attempts that have failed
//!                        ▲                    │ nobody takes it
//!                        └──── half open ─────┘
//! ```

use crate::delivery::{MailboxShared, ServiceHere, meta_of};
use crate::ring::Attempt;
use crate::sync::alarm::NEVER;
use crate::sync::owned::Owner;
use crate::worker::engine::Engine;

use super::{give_picked, hand_over, has_room, mailbox, passed};

/// When events that nobody could take are looked at again, where the strategy does not tell when somebody can.
const AGAIN_NS: u64 = 10_000_000;
/// Due times and the instants of breakers are kept to 262 and 66 µs: so much later than the breaker half opens events come back, or they
/// would find it open still.
const MARGIN_NS: u64 = 1 << 19;

/// Brings events on from the mailboxes of instances whose circuit breakers are open, at most so many: instance by instance in the order
/// they were made, of each first those that wait to be tried again, then what is queued, the most urgent first. Who is not taken
/// by anybody stays there until the breaker half opens. Returns how many it brought.
pub(super) fn pass_from_instances(engine: &Engine, service: &ServiceHere, max: usize, owner: &mut Owner) -> usize {
    let Some(rota) = service.rota() else { return 0 };
    let now = engine.directory.clock.now();
    let (mut looks, mut moved, mut is_stranded) = (0, 0, false);
    for from in service.instances.iter().filter_map(|instance| mailbox(instance)) {
        let Some(until) = from.goes_on_until(now) else { continue };
        let mut cell = 0;
        while looks < max
            && !service.service.is_paused()
            && service.is_available()
            && let Some(waits) = next(from, &mut cell, now, until)
        {
            looks += 1;
            let tried = waits.tried();
            let meta = meta_of(waits.event(), &engine.directory, tried.failures);
            let Some(to) = service.pick(&meta, owner) else { continue };
            let passed = from.pass_on_waiting(waits, |event| {
                let meta = meta_of(event, &engine.directory, tried.failures);
                let push = |mailbox: &MailboxShared, fed: &mut _| {
                    mailbox.push_tried(fed, event.lane(), &meta, &event.slot(), tried)
                };
                give_picked(engine, to, &meta, owner, push);
            });
            moved += usize::from(passed);
        }
        is_stranded |= from.is_waiting() || from.custody().queued() > 0;
    }
    if is_stranded != rota.is_stranded() {
        rota.set_stranded(is_stranded);
    }
    moved
}

/// The next event that may go on, from `cell` on among those that wait, and then of those that are queued.
fn next(from: &MailboxShared, cell: &mut usize, now: u64, until: u64) -> Option<Attempt> {
    loop {
        if let Some(waits) = from.waiting_from(*cell) {
            *cell = waits.cell() + 1;
            return Some(waits);
        }
        *cell = from.put_off(now, until.saturating_add(MARGIN_NS))?;
    }
}

/// When to look again at what nobody took. Room wakes the worker, but not for a strategy that may not find it.
pub(super) fn again_at(service: &ServiceHere, now: u64, owner: &mut Owner) -> u64 {
    let is_stranded = service.rota().is_some_and(|rota| rota.is_stranded());
    if is_stranded && !service.takes_any(owner) { now + AGAIN_NS } else { NEVER }
}

/// Gives the service back what waits in the mailbox of an instance that has ended, whose circuit breaker need not close first.
pub(super) fn give_back(
    engine: &Engine,
    service: &ServiceHere,
    from: &MailboxShared,
    max: usize,
    owner: &mut Owner,
) -> usize {
    let mut moved = 0;
    while moved < max
        && has_room(service, owner)
        && let Some(waits) = from.waiting_from(0)
    {
        let passed = from.pass_on_waiting(waits, |event| {
            let meta = meta_of(event, &engine.directory, 0);
            hand_over(engine, service, passed(event, &meta, &event.slot()), owner);
        });
        moved += usize::from(passed);
    }
    moved
}
