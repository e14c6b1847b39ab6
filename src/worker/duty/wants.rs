//! Whose business an event is, whether there is room for it, and why a subscription does not get one that it matches.

use std::sync::Arc;

use crate::delivery::{BreakerState, DeadReason, Overflow, Sink, State, SubscriptionState};
use crate::event::Meta;
use crate::routing::Refusal;
use crate::sync::limiter::Limiter;
use crate::sync::mutant::mutant;
use crate::sync::owned::Owner;

use super::call::Call;
use super::verdict::panicked;

/// Whether every mailbox that blocks and wants the event could take it: checked before anyone gets it, so that an event
/// that has to wait has gone to nobody.
#[inline(always)]
pub(super) fn has_room(targets: &[Arc<SubscriptionState>], lane: usize, meta: &Meta<'_>, owner: &mut Owner) -> bool {
    // A loop: `all` with this closure is not inlined, which costs each event 32 instructions.
    for subscription in targets {
        let Sink::Mailbox(mailbox, fed) = &subscription.sink else { continue };
        let has_room = mailbox.overflow() != Overflow::Block
            || fed.get_mut(owner).is_none_or(|fed| fed.intake.has_room(meta))
            || mailbox.custody().is_closed()
            || !wants(subscription, lane, meta)
            || refuses(subscription, meta);
        if !has_room {
            return false;
        }
    }
    true
}

/// Whether a target of the event's type wants this very event, as far as that does not depend on its content: published
/// after it subscribed, at a priority it asked for, and under a name it matches where the table could not tell.
#[inline(always)]
pub(super) fn wants(subscription: &SubscriptionState, lane: usize, meta: &Meta<'_>) -> bool {
    subscription.has_started(lane, meta.sequence())
        && subscription.filter.lanes() & (1 << lane) != 0
        && (meta.header().type_id != 0 || subscription.wants_type(meta.topic()))
}

/// Whether a subscription with a full mailbox refuses the event as a replay, or its filters do by source or content. Asked again with each turn that the
/// mailbox stays full.
#[cold]
fn refuses(subscription: &SubscriptionState, meta: &Meta<'_>) -> bool {
    (meta.is_replay() && !subscription.takes_replay(meta))
        || (subscription.filter.is_dynamic() && subscription.filter.refusal(meta).is_some())
}

impl Call<'_> {
    /// Whether the event is `subscription`'s business, and not too late. Counts why not.
    pub(super) fn passes(&self, subscription: &SubscriptionState, owner: &mut Owner) -> bool {
        if !wants(subscription, self.lane, &self.meta) {
            return false;
        }
        let counts = &subscription.counts;
        if self.meta.is_replay() && !subscription.takes_replay(&self.meta) {
            counts.filtered.add(1);
            return false;
        }
        if subscription.filter.is_dynamic()
            && let Some(refusal) = subscription.filter.refusal(&self.meta)
        {
            counts.filtered.add(1);
            if refusal == Refusal::PredicatePanicked {
                panicked(self.engine, subscription, self.meta.id());
            }
            return false;
        }
        let is_late = |now| mutant!("deadline.passed", now > self.header.deadline => false);
        if self.header.deadline != 0
            && is_late(self.engine.directory.clock.now())
            // What comes back from a store is given up then.
            && !subscription.is_spilling(self.lane)
        {
            counts.matched.add(1);
            counts.expired.add(1);
            return false;
        }
        if let Some(dedup) = subscription.dedup.as_ref().and_then(|dedup| dedup.get_mut(owner))
            && !dedup.is_new(&self.meta, self.engine.directory.clock.now())
        {
            counts.matched.add(1);
            counts.duplicate.add(1);
            return false;
        }
        if let Some(limiter) = &subscription.limiter
            && self.is_over_rate(subscription, limiter)
        {
            counts.matched.add(1);
            let turned_away = match &subscription.sink {
                Sink::Inline(_) => false,
                Sink::Mailbox(mailbox, _) => mailbox.turn_away(&self.meta, DeadReason::RateLimited),
            };
            counts.rate_limited.add(u64::from(!turned_away));
            return false;
        }
        true
    }

    /// Whether the event comes over a rate that rejects it. One that has no attempt before it anyway does not count.
    fn is_over_rate(&self, subscription: &SubscriptionState, limiter: &Limiter) -> bool {
        let is_stopped = match &subscription.sink {
            Sink::Inline(_) => subscription.state() != State::Active,
            Sink::Mailbox(mailbox, _) => {
                mailbox.custody().is_closed() || mailbox.breaker_state() == Some(BreakerState::Open)
            }
        };
        !is_stopped && limiter.pass(self.engine.directory.clock.now()).is_err()
    }
}
