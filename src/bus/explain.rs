//! Why did this event go there, and not elsewhere?

use std::fmt;
use std::sync::Arc;

use crate::delivery::{Sink, State, SubscriptionId, SubscriptionState};
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

/// How an event reaches a subscription that gets it: straight from its lane into the handler, or by the generic dispatch,
/// which looks at each target of the event in turn; and then, why not straight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Path {
    /// Straight: it is the only one of its worker that wants the topic, inline and by best effort, and there is nothing to ask of
    /// single events. Events in a row are then one call of the worker.
    Direct,
    /// Through a mailbox: its own, or that of reliable delivery.
    Mailbox,
    /// There are others on its worker that want the topic, at this priority or another.
    Shared {
        /// How many.
        others: usize,
    },
    /// Its filters ask each event for its source or content.
    Filtered,
    /// It has a [`DedupWindow`](crate::DedupWindow), and so looks whether it knows the event.
    Dedup,
    /// The event may come too late: it has a deadline.
    Deadline,
    /// The topic is beyond `types_max`, and known by its name alone.
    ByName,
    /// The bus tells of each delivery: [`enable_debug`](crate::BusBuilder::enable_debug).
    Debug,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("on the direct path"),
            Self::Mailbox => f.write_str("through a mailbox"),
            Self::Shared { others } => write!(f, "by dispatch, for {others} others on its worker want the topic"),
            Self::Filtered => f.write_str("by dispatch, for its filters look at each event"),
            Self::Dedup => f.write_str("by dispatch, for it drops what comes again"),
            Self::Deadline => f.write_str("by dispatch, for the event has a deadline"),
            Self::ByName => f.write_str("by dispatch, for the topic is beyond types_max"),
            Self::Debug => f.write_str("by dispatch, for the bus tells of each delivery"),
        }
    }
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
    /// How the event would reach it, where it would get it.
    pub path: Option<Path>,
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
        })?;
        self.path.map_or(Ok(()), |path| write!(f, ", {path}"))
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
            let gets_it = matches!(verdict, Verdict::Matches { .. });
            let path = gets_it.then(|| self.path(topic, event, subscription, &subscriptions));
            Explanation {
                subscription: subscription.id,
                name: subscription.name.clone(),
                pattern: subscription.pattern.as_str().to_owned(),
                worker: subscription.worker,
                verdict,
                path,
            }
        };
        subscriptions.iter().map(explain).collect()
    }

    /// How an event of `topic` reaches one of `all` subscriptions: what the worker finds in its table, and in the event.
    fn path(
        &self,
        topic: &str,
        event: Option<&Meta<'_>>,
        subscription: &SubscriptionState,
        all: &[Arc<SubscriptionState>],
    ) -> Path {
        let directory = &self.engine.directory;
        let is_beside =
            |other: &&Arc<SubscriptionState>| other.worker == subscription.worker && other.wants_type(topic);
        let others = all.iter().filter(is_beside).count().saturating_sub(1);
        if matches!(subscription.sink, Sink::Mailbox(..)) {
            Path::Mailbox
        } else if directory.is_full() && directory.type_id(topic).is_none() {
            Path::ByName
        } else if others > 0 {
            Path::Shared { others }
        } else if subscription.filter.is_dynamic() {
            Path::Filtered
        } else if subscription.dedup.is_some() {
            Path::Dedup
        } else if event.is_some_and(|event| event.header().deadline != 0) {
            Path::Deadline
        } else if self.engine.debug {
            Path::Debug
        } else {
            Path::Direct
        }
    }
}
