//! Why did this event go there, and not elsewhere?

use std::fmt;
use std::sync::Arc;

use crate::delivery::{State, SubscriptionId, SubscriptionState};
use crate::event::{Meta, Priority};

use super::{Bus, Shared};

/// What one subscription would do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It gets it, if its source and predicate conditions pass.
    Matches {
        /// Whether there are such conditions, which depend on the event itself.
        conditionally: bool,
    },
    /// It would get it, but it is paused.
    Paused,
    /// Its pattern does not match the topic.
    Pattern,
    /// Its filters do not want the type.
    Type,
    /// Its filters do not want the priority.
    Priority,
    /// Its filters do not want the source.
    Source,
    /// A predicate refused the event, or panicked over it.
    Predicate,
}

/// The verdict of one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// Which.
    pub subscription: SubscriptionId,
    /// Its name.
    pub name: String,
    /// Its pattern.
    pub pattern: String,
    /// The worker it belongs to.
    pub worker: usize,
    /// What it would do.
    pub verdict: Verdict,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) on worker {}: ", self.name, self.pattern, self.worker)?;
        f.write_str(match self.verdict {
            Verdict::Matches { conditionally: false } => "gets it",
            Verdict::Matches { conditionally: true } => "gets it if its predicates pass",
            Verdict::Paused => "wants it, but is paused",
            Verdict::Pattern => "its pattern does not match the topic",
            Verdict::Type => "its filters do not want the type",
            Verdict::Priority => "its filters do not want the priority",
            Verdict::Source => "its filters do not want the source",
            Verdict::Predicate => "a predicate refuses it",
        })
    }
}

impl Bus {
    /// For an event of this topic, source and priority: each subscription, oldest first, and why it would get it or not.
    /// [`Outgoing::explain`](super::Outgoing::explain) asks the predicates too, with the event in hand.
    pub fn explain(&self, topic: &str, source: &str, priority: Priority) -> Vec<Explanation> {
        self.shared().explain(topic, source, priority, None)
    }
}

impl Shared {
    pub(super) fn explain(
        &self,
        topic: &str,
        source: &str,
        priority: Priority,
        event: Option<&Meta<'_>>,
    ) -> Vec<Explanation> {
        // Predicates are user code: they do not run under the lock.
        let subscriptions: Vec<_> = self.control().subscriptions().cloned().collect();
        let explain = |subscription: &Arc<SubscriptionState>| {
            let filter = &subscription.filter;
            let verdict = if !subscription.pattern.matches(topic) {
                Verdict::Pattern
            } else if !filter.passes_type(topic) {
                Verdict::Type
            } else if filter.lanes() & (1 << priority.lane()) == 0 {
                Verdict::Priority
            } else if !filter.passes_source(source) {
                Verdict::Source
            } else if event.is_some_and(|event| filter.refusal(event).is_some()) {
                Verdict::Predicate
            } else if subscription.state() == State::Paused {
                Verdict::Paused
            } else {
                Verdict::Matches { conditionally: event.is_none() && filter.has_predicates() }
            };
            Explanation {
                subscription: subscription.id,
                name: subscription.name.clone(),
                pattern: subscription.pattern.as_str().to_owned(),
                worker: subscription.worker,
                verdict,
            }
        };
        subscriptions.iter().map(explain).collect()
    }
}
