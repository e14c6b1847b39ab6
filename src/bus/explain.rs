//! Why did this event go there, and not elsewhere?

use std::fmt;

use crate::delivery::{State, SubscriptionId};
use crate::event::Priority;

use super::Bus;

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
        })
    }
}

impl Bus {
    /// For an event of this topic, source and priority: each subscription, oldest first, and why it would get it or not.
    pub fn explain(&self, topic: &str, source: &str, priority: Priority) -> Vec<Explanation> {
        let control = self.shared().control();
        let explain = |subscription: &std::sync::Arc<crate::delivery::SubscriptionState>| {
            let filter = &subscription.filter;
            let verdict = if !subscription.pattern.matches(topic) {
                Verdict::Pattern
            } else if !filter.passes_type(topic) {
                Verdict::Type
            } else if filter.lanes() & (1 << priority.lane()) == 0 {
                Verdict::Priority
            } else if !filter.passes_source(source) {
                Verdict::Source
            } else if subscription.state() == State::Paused {
                Verdict::Paused
            } else {
                Verdict::Matches { conditionally: filter.has_predicates() }
            };
            Explanation {
                subscription: subscription.id,
                name: subscription.name.clone(),
                pattern: subscription.pattern.as_str().to_owned(),
                worker: subscription.worker,
                verdict,
            }
        };
        control.subscriptions().map(explain).collect()
    }
}
