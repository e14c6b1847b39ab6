//! Events that a worker has not come to when a subscription of theirs ends: none is forgotten.
//!
//! ```text
//!   lane   … passed ▸│ a  b  c  d │▸ claimed from now on
//!                    │             └ nobody publishes for the subscription any more
//!                    └ the worker takes over the table that is without it, and closes its books on a, b, c and d
//! ```

use crate::delivery::{DeadReason, Role, Route, Sink, SubscriptionState};
use crate::event::{FLAG_TARGETED, Header, Meta};
use crate::ring::{LANES, Reader};
use crate::sync::owned::Owner;
use crate::worker::engine::{Ended, Engine};

use super::services::{Wanted, add_wanted};
use super::wants::wants;

/// Counts what is in the lanes for a subscription that has ended: as closed, or under reliable delivery as dead letters. An event that
/// its publisher is still writing is left out.
///
/// # Cost
/// A look at each event of the lanes that the worker has not passed, and a dead letter for each reliable one.
#[cold]
pub(super) fn close_books(engine: &Engine, reader: &Reader, ended: &Ended, owner: &mut Owner) {
    close_spill(&ended.subscription, owner);
    for lane in 0..LANES {
        let first = reader.sequence(lane);
        for nth in 0..reader.lag(lane) {
            let sequence = first.wrapping_add(nth);
            let Some(slot) = reader.look(lane, sequence) else { continue };
            let header = Header::of_words(slot.head);
            let route = ended.before.route(header.type_id);
            if route.is_none() && !header.has(FLAG_TARGETED) {
                continue;
            }
            // Not this worker's business, or not readable for anybody.
            let Some(Ok(meta)) = slot.rest().map(|rest| Meta::new(header, rest, sequence, &engine.directory)) else {
                continue;
            };
            if is_for(ended, route, lane, &meta) {
                close_book(engine, &ended.subscription, &meta);
            }
        }
    }
}

/// What the subscription has in a store is read by nobody any more.
fn close_spill(subscription: &SubscriptionState, owner: &mut Owner) {
    if let Sink::Mailbox(_, fed) = &subscription.sink
        && let Some(spill) = fed.get_mut(owner).and_then(|fed| fed.spill.as_mut())
    {
        subscription.counts.closed.add(spill.close());
    }
}

fn is_for(ended: &Ended, route: Option<&Route>, lane: usize, meta: &Meta<'_>) -> bool {
    let (id, services) = (ended.subscription.id, &ended.before.services);
    match ended.subscription.role {
        Role::Subscriber => {
            let mut targets = route.map_or(&[][..], Route::targets).iter();
            targets.any(|target| target.id == id) && wants(&ended.subscription, lane, meta)
        }
        Role::Service(_) => services.iter().position(|service| service.service.id == id).is_some_and(|place| {
            let mut wanted = Wanted::new();
            add_wanted(&mut wanted, services, route, meta);
            wanted.contains(&(place as u8))
        }),
        // Its service has others.
        Role::Instance(_) => false,
    }
}

fn close_book(engine: &Engine, subscription: &SubscriptionState, meta: &Meta<'_>) {
    let counts = &subscription.counts;
    if subscription.filter.is_dynamic() && subscription.filter.refusal(meta).is_some() {
        counts.filtered.add(1);
        return;
    }
    counts.matched.add(1);
    let deadline = meta.header().deadline;
    if deadline != 0 && engine.directory.clock.now() > deadline {
        counts.expired.add(1);
        return;
    }
    let is_letter = match &subscription.sink {
        Sink::Inline(_) => false,
        Sink::Mailbox(mailbox, _) => mailbox.turn_away(meta, DeadReason::Closed),
    };
    counts.closed.add(u64::from(!is_letter));
}
