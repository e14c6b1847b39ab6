//! Why did a rule match this event or not, and what would a change of rules change?

use std::fmt;

use super::{Compiled, Reading, RoutingRule, RuleSet};
use crate::event::{EventId, Meta, Priority};

/// What one rule says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleVerdict {
    /// The rule's id.
    pub rule: String,
    /// Its name.
    pub name: String,
    /// Why it matches, or does not.
    pub reason: RuleReason,
}

impl RuleVerdict {
    /// Whether the rule matches the event.
    pub fn matches(&self) -> bool {
        matches!(self.reason, RuleReason::Matches { .. })
    }
}

/// Why a rule matches an event, or what it fails at first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleReason {
    /// It matches.
    Matches {
        /// The services that get the event by this rule.
        targets: Vec<String>,
    },
    /// It is not enabled.
    Disabled,
    /// It is for other types.
    Type {
        /// The event's.
        seen: String,
    },
    /// It is for other priorities.
    Priority {
        /// The event's.
        seen: Priority,
    },
    /// It is for other sources.
    Source {
        /// The event's.
        seen: String,
    },
    /// The event fails a condition. Conditions that read the payload are asked after those that do not.
    Condition {
        /// The condition; of a group of which all must hold the one that does not.
        condition: String,
        /// The fields it compares, and what the event has there, cut at 64 characters; None = nothing.
        seen: Vec<(String, Option<String>)>,
    },
    /// A condition asks for the payload, which is too long to be read.
    PayloadTooLong {
        /// The condition.
        condition: String,
        /// The payload's bytes.
        bytes: usize,
        /// The limit, `condition_payload_bytes_max`.
        max: usize,
    },
}

impl fmt::Display for RuleVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule)?;
        match &self.reason {
            RuleReason::Matches { targets } => write!(f, "matches, to {}", targets.join(", ")),
            RuleReason::Disabled => f.write_str("is not enabled"),
            RuleReason::Type { seen } => write!(f, "its event types do not match {seen}"),
            RuleReason::Priority { seen } => write!(f, "its priorities leave out {seen}"),
            RuleReason::Source { seen } => write!(f, "its sources leave out {seen:?}"),
            RuleReason::Condition { condition, seen } => {
                write!(f, "fails at: {condition}")?;
                for (at, (field, value)) in seen.iter().enumerate() {
                    write!(
                        f,
                        "{}{field} is {}",
                        if at == 0 { "; " } else { ", " },
                        value.as_deref().unwrap_or("missing")
                    )?;
                }
                Ok(())
            }
            RuleReason::PayloadTooLong { condition, bytes, max } => write!(
                f,
                "fails at: {condition}; the payload is {bytes} bytes, conditions read {max}: raise condition_payload_bytes_max"
            ),
        }
    }
}

/// An event that goes elsewhere when the rules change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleChange {
    /// Its place among the samples.
    pub sample: usize,
    /// Its id.
    pub event: EventId,
    /// Where it goes by the rules as they are: each service once, in the order of the rules.
    pub before: Vec<String>,
    /// Where it would go.
    pub after: Vec<String>,
}

impl RuleSet {
    /// Says for each rule, in order, why it matches the event or not.
    ///
    /// ```
    /// use ringmain::testing::Simulation;
    /// use ringmain::{Bus, Condition, Payload, RoutingRule, RuleSet};
    ///
    /// let simulation = Simulation::new(Bus::builder().workers(1), 1)?;
    /// let mut inbox = simulation.bus().subscribe("orders.*").mailbox()?;
    /// let mut publisher = simulation.bus().publisher()?;
    /// publisher.event().metadata("tenant", "acme").publish("orders.placed", Payload::raw(b""))?;
    /// simulation.run();
    /// let delivery = inbox.try_recv().unwrap();
    ///
    /// let other = Condition::metadata("tenant").one_of(["globex", "initech"]);
    /// let rules = RuleSet::new([RoutingRule::new("others").types(["orders.*"]).when(other).to("audit")]).unwrap();
    /// let verdicts = rules.explain(&delivery.meta());
    /// assert_eq!(
    ///     verdicts[0].to_string(),
    ///     r#"others: fails at: metadata.tenant is one of ["globex", "initech"]; metadata.tenant is acme"#,
    /// );
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn explain(&self, meta: &Meta<'_>) -> Vec<RuleVerdict> {
        let verdict = |compiled: &Compiled| RuleVerdict {
            rule: compiled.rule.id.clone(),
            name: compiled.rule.name.clone(),
            reason: compiled.reason(meta, self.payload_bytes_max),
        };
        self.compiled().map(|compiled| verdict(compiled)).collect()
    }

    /// The rules that could match an event of which no more is known than this, in order; those that have conditions depend on
    /// the rest.
    pub(crate) fn could_match(
        &self,
        topic: &str,
        source: &str,
        priority: Priority,
    ) -> impl Iterator<Item = &RoutingRule> {
        self.could_match_type(topic, priority)
            .filter(move |rule| rule.filter.sources.is_empty() || rule.filter.sources.iter().any(|one| one == source))
    }

    /// The rules that a worker asks for each event of this type and priority.
    pub(crate) fn could_match_type(&self, topic: &str, priority: Priority) -> impl Iterator<Item = &RoutingRule> {
        self.enabled()
            .filter(move |rule| rule.matches_type(topic) && rule.wants(priority))
            .map(|compiled| &compiled.rule)
    }

    /// Which of the sample events would go to other services by the rules in `other`, or to the same in another order.
    pub fn diff<'a>(&self, other: &Self, samples: impl IntoIterator<Item = Meta<'a>>) -> Vec<RuleChange> {
        let change = |(sample, meta): (usize, Meta<'a>)| {
            let (before, after) = (self.targets(&meta), other.targets(&meta));
            (before != after).then(|| RuleChange { sample, event: meta.id(), before, after })
        };
        samples.into_iter().enumerate().filter_map(change).collect()
    }

    /// Where the event goes: each service once, in the order of the rules.
    fn targets(&self, meta: &Meta<'_>) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        for target in self.evaluate(meta).flat_map(|rule| &rule.targets) {
            if !targets.contains(target) {
                targets.push(target.clone());
            }
        }
        targets
    }
}

impl Compiled {
    fn reason(&self, meta: &Meta<'_>, max: usize) -> RuleReason {
        if !self.rule.enabled {
            return RuleReason::Disabled;
        }
        if !self.matches_type(meta.topic()) {
            return RuleReason::Type { seen: meta.topic().to_owned() };
        }
        if !self.wants(meta.priority()) {
            return RuleReason::Priority { seen: meta.priority() };
        }
        if !self.wants_source(meta.source()) {
            return RuleReason::Source { seen: meta.source().to_owned() };
        }
        let event = Reading::new(*meta, &[], max);
        match self.conditions().find_map(|condition| condition.first_failing(&event)) {
            None => RuleReason::Matches { targets: self.rule.targets.clone() },
            Some(failing) if event.is_unread() && failing.reads_payload() => {
                let (condition, bytes) = (failing.to_string(), meta.payload().bytes().len());
                RuleReason::PayloadTooLong { condition, bytes, max }
            }
            Some(failing) => {
                let mut seen = Vec::new();
                failing.see_fields(&event, &mut seen);
                RuleReason::Condition { condition: failing.to_string(), seen }
            }
        }
    }
}
