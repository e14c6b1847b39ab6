//! Why did this event go there, and not elsewhere?

use std::fmt;
use std::sync::Arc;

use crate::delivery::{
    Obstacle, OverLimit, Role, ServiceHere, Sink, State, SubscriptionId, SubscriptionState, WhileOpen,
};
use crate::event::{Meta, Priority};
use crate::routing::RoutingRule;

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
    /// It would get it, but was suspended after dead letters in a row ([`suspend_after`](crate::Subscribe::suspend_after)): the event
    /// would wait in its mailbox until [`Bus::resume`].
    Suspended,
    /// It would get it, but its circuit breaker lets nothing through now: so the event would be held, be a dead letter, or go to the
    /// next target.
    BreakerOpen(WhileOpen),
    /// It would get it, but has had as many as its rate allows: so the event would wait, or be turned away, which makes it a dead
    /// letter under reliable delivery.
    RateSpent(OverLimit),
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
    /// A service: rules send the event to it, or the event names it as a target.
    Directed {
        /// Whether all rules that do have conditions, which depend on the event itself.
        conditionally: bool,
    },
    /// A service: the event is sent to it, and would wait there, for no instance can take it now.
    NoInstance,
    /// A service: no rule sends the event to it, or it names other services as its targets.
    NotDirected,
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
    /// Rules may send events of the topic to services of its worker, or the event names services itself.
    Services,
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
            Self::Services => f.write_str("by dispatch, for services may get the event, too"),
            Self::Debug => f.write_str("by dispatch, for the bus tells of each delivery"),
        }
    }
}

/// The verdict of one subscription, or of a service.
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
    /// Of a service: the rules that send the event to it, by their ids, in order; none where its targets name it.
    pub rules: Vec<String>,
    /// How the event would reach it, where it would get it.
    pub path: Option<Path>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.pattern {
            "" => write!(f, "service {} on worker {}: ", self.name, self.worker)?,
            pattern => write!(f, "{} ({pattern}) on worker {}: ", self.name, self.worker)?,
        }
        f.write_str(match self.verdict {
            Verdict::Matches { conditionally: false } => "gets it",
            Verdict::Matches { conditionally: true } => "gets it if its predicates pass",
            Verdict::Paused => "wants it, but is paused",
            Verdict::Suspended => {
                "wants it, but is suspended after dead letters in a row: it waits until somebody resumes it"
            }
            Verdict::BreakerOpen(WhileOpen::Hold) => {
                "wants it, but its breaker is open: it waits until that lets it through"
            }
            Verdict::BreakerOpen(WhileOpen::DeadLetter) => "wants it, but its breaker is open: it is a dead letter",
            Verdict::BreakerOpen(WhileOpen::NextTarget) => {
                "wants it, but its breaker is open: it goes to the next target"
            }
            Verdict::RateSpent(OverLimit::Queue) => "wants it, but its rate is spent: it waits its turn",
            Verdict::RateSpent(OverLimit::Reject) => "wants it, but its rate is spent: it is turned away",
            Verdict::Pattern => "its pattern does not match the topic",
            Verdict::Type => "its filters do not want the type",
            Verdict::Priority => "its filters do not want the priority",
            Verdict::Source => "its filters do not want the source",
            Verdict::Predicate => "a predicate refuses it",
            Verdict::Directed { conditionally: false } => "is sent it",
            Verdict::Directed { conditionally: true } => "is sent it if the conditions hold",
            Verdict::NoInstance => "is sent it, but no instance can take it now",
            Verdict::NotDirected => "is not sent it",
        })?;
        match &*self.rules {
            [] => {}
            rules => write!(f, ", by {}", rules.join(", "))?,
        }
        self.path.map_or(Ok(()), |path| write!(f, ", {path}"))
    }
}

impl Bus {
    /// For an event of this topic, source and priority: each subscription, oldest first, and why it would get it or not; then
    /// each service, and the rules that send the event there. What each rule has to say of an event tells
    /// [`Rules::explain`](crate::Rules::explain).
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
        let (subscriptions, services, rules) = {
            let control = self.control();
            let by_pattern = control.subscriptions().filter(|one| matches!(one.role, Role::Subscriber));
            (by_pattern.cloned().collect::<Vec<_>>(), control.services.clone(), control.rules.clone())
        };
        let now = self.engine.directory.clock.now();
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
            } else if let Some(verdict) = in_the_way(subscription, now) {
                verdict
            } else {
                Verdict::Matches { conditionally: event.is_none() && filter.has_predicates() }
            };
            let gets_it = matches!(verdict, Verdict::Matches { .. });
            let is_sent = |rule: &RoutingRule| {
                let here = services.iter().filter(|service| service.service.worker == subscription.worker);
                here.into_iter().any(|service| rule.targets.iter().any(|target| target == service.name()))
            };
            let to_services = event.is_some_and(|event| event.targets().next().is_some())
                || rules.could_match_type(topic, priority).any(is_sent);
            let path = gets_it.then(|| self.path(topic, event, subscription, &subscriptions, to_services));
            Explanation {
                subscription: subscription.id,
                name: subscription.name.clone(),
                pattern: subscription.pattern.as_str().to_owned(),
                worker: subscription.worker,
                verdict,
                rules: Vec::new(),
                path,
            }
        };
        let directing: Vec<_> = match event {
            Some(event) => rules.evaluate(event).collect(),
            None => rules.could_match(topic, source, priority).collect(),
        };
        let services = services.iter().map(|service| explain_service(service, &directing, event, now));
        subscriptions.iter().map(explain).chain(services).collect()
    }

    /// How an event of `topic` reaches one of `all` subscriptions: what the worker finds in its table, and in the event.
    fn path(
        &self,
        topic: &str,
        event: Option<&Meta<'_>>,
        subscription: &SubscriptionState,
        all: &[Arc<SubscriptionState>],
        to_services: bool,
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
        } else if to_services {
            Path::Services
        } else if self.engine.debug {
            Path::Debug
        } else {
            Path::Direct
        }
    }
}

/// What keeps an event, which comes at the instant `now`, from who is to get it.
fn in_the_way(subscription: &SubscriptionState, now: u64) -> Option<Verdict> {
    if subscription.state() == State::Paused {
        return Some(Verdict::Paused);
    }
    Some(match subscription.obstacle(now)? {
        Obstacle::Suspended => Verdict::Suspended,
        Obstacle::Breaker(while_open) => Verdict::BreakerOpen(while_open),
        Obstacle::Rate(over) => Verdict::RateSpent(over),
    })
}

/// What a service would do with an event that these rules match, or could.
fn explain_service(here: &ServiceHere, rules: &[&RoutingRule], event: Option<&Meta<'_>>, now: u64) -> Explanation {
    let names_it = |rule: &&&RoutingRule| rule.targets.iter().any(|target| target == here.name());
    let is_targeted = event.is_some_and(|event| event.targets().next().is_some());
    let mut rules: Vec<_> = rules.iter().filter(names_it).collect();
    if is_targeted {
        rules.clear();
    }
    let is_named = event.is_some_and(|event| event.targets().any(|target| target.id() == here.name()));
    let verdict = if rules.is_empty() && !is_named {
        Verdict::NotDirected
    } else if let Some(verdict) = in_the_way(&here.service, now) {
        verdict
    } else if !here.is_available() {
        Verdict::NoInstance
    } else {
        let conditionally = event.is_none() && rules.iter().all(|rule| !rule.conditions.is_empty());
        Verdict::Directed { conditionally }
    };
    Explanation {
        subscription: here.service.id,
        name: here.name().to_owned(),
        pattern: String::new(),
        worker: here.service.worker,
        verdict,
        rules: rules.iter().map(|rule| rule.id.clone()).collect(),
        path: None,
    }
}
