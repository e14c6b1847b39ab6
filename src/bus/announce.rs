//! What changes on a bus, as events on that bus: for those who would rather subscribe than observe.

use std::cell::Cell;
use std::sync::{OnceLock, Weak};

use crate::delivery::{BreakerState, Notice, Observer};
use crate::event::{Payload, Priority};
use crate::sync::contain::contained;

use super::{Bus, Inner, PublishError};

/// Publishes the changes among the notices. It is an observer like any other.
#[derive(Default)]
pub(super) struct Announcer(OnceLock<Weak<Inner>>);

thread_local! {
    /// This thread is announcing: what that brings about is not announced in turn.
    static ANNOUNCING: Cell<bool> = const { Cell::new(false) };
}

/// A change: its topic, what to say of it, and in fields.
struct Change<'a> {
    topic: &'static str,
    name: &'a str,
    state: &'a str,
}

/// `None` of what is said of single events, of which there is no end.
fn change<'a>(notice: &Notice<'a>) -> Option<Change<'a>> {
    let on = |topic, name, state| Some(Change { topic, name, state });
    match *notice {
        Notice::Breaker { name, state, .. } => on(
            "ringmain.breaker",
            name,
            match state {
                BreakerState::Closed => "closed",
                BreakerState::Open => "open",
                BreakerState::HalfOpen => "half-open",
            },
        ),
        Notice::MemoryPressure { begins, .. } => {
            on("ringmain.memory-pressure", "", if begins { "begins" } else { "ends" })
        }
        Notice::Suspended { name, .. } => on("ringmain.subscription", name, "suspended"),
        Notice::ConsumerGone { name, .. } => on("ringmain.subscription", name, "consumer-gone"),
        Notice::MailboxOverflow { name, .. } => on("ringmain.subscription", name, "overflow"),
        Notice::HandlerReplaced { name, .. } => on("ringmain.subscription", name, "replaced"),
        Notice::HandlerNotReplaced { name, .. } => on("ringmain.subscription", name, "not-replaced"),
        Notice::WorkerHung { name, .. } => on("ringmain.worker", name, "hung"),
        Notice::WorkerRestarted { .. } => on("ringmain.worker", "", "restarted"),
        Notice::DeadLettersOverflow { .. } => on("ringmain.dead-letters", "", "overflow"),
        Notice::StorageFailed { name, .. } => on("ringmain.storage", name, "failed"),
        Notice::StorageReturned { name, .. } => on("ringmain.storage", name, "returned"),
        _ => None,
    }
}

impl Announcer {
    /// From now on it publishes on this bus.
    pub(super) fn begin(&self, bus: &Bus) {
        // Set once, by whoever built it.
        let _ = self.0.set(std::sync::Arc::downgrade(&bus.inner));
    }

    fn publish(&self, change: &Change<'_>, text: &str) -> Result<(), PublishError> {
        let Some(bus) = self.0.get().and_then(Weak::upgrade).map(|inner| Bus { inner }) else { return Ok(()) };
        let mut lent = bus.lend()?;
        let event = lent.publisher().event().priority(Priority::High).metadata("state", change.state);
        let event = if change.name.is_empty() { event } else { event.metadata("name", change.name) };
        event.try_publish(change.topic, Payload::plain_text(text)).map(drop)
    }
}

impl Observer for Announcer {
    fn notice(&self, notice: &Notice<'_>) {
        let Some(change) = change(notice) else { return };
        if ANNOUNCING.replace(true) {
            return;
        }
        // A refusal is in the metrics, as any publisher's, and there is nobody else to tell.
        let _ = contained(|| self.publish(&change, &format!("{notice:?}")));
        ANNOUNCING.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::SubscriptionId;
    use crate::event::EventId;

    #[test]
    fn what_happens_to_threads_workers_and_stores_has_its_topic_and_state() {
        let (subscription, name, after) = (SubscriptionId(EventId::random()), "mail", Duration::ZERO);
        let changes = [
            (Notice::HandlerReplaced { subscription, name, nth: 1, max: 3 }, "ringmain.subscription", "replaced"),
            (Notice::HandlerNotReplaced { subscription, name, max: 3 }, "ringmain.subscription", "not-replaced"),
            (Notice::WorkerHung { worker: 1, subscription, name, after }, "ringmain.worker", "hung"),
            (Notice::StorageFailed { name, error: "full", waiting: 1 }, "ringmain.storage", "failed"),
            (Notice::StorageReturned { name, after, dropped: 0 }, "ringmain.storage", "returned"),
        ];
        for (notice, topic, state) in &changes {
            let told = change(notice).map(|change| (change.topic, change.state, change.name));
            assert_eq!(told, Some((*topic, *state, name)), "{notice:?}");
        }
        let restarted = change(&Notice::WorkerRestarted { worker: 0, nth: 1, max: 10 });
        assert_eq!(
            restarted.map(|change| (change.topic, change.state, change.name)),
            Some(("ringmain.worker", "restarted", ""))
        );
    }
}
