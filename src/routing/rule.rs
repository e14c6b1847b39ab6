//! Routing rules: which services get which events, said as data that can change while the bus runs.
//!
//! ```text
//!   rules ──► RuleSet::new: checked, sorted, patterns parsed
//!                  │ per type, when the routing table is compiled
//!                  ▼
//!             TypeRules: the enabled rules whose types match the name; none = the type costs nothing
//!                  │ per event
//!                  ▼
//!             priority ──► source ──► conditions on header and metadata ──► conditions on the payload
//! ```
//!
//! An event goes to the targets of all rules that match it. Rules of a higher priority come first, those of the same
//! priority by their ids.

mod error;
mod explain;
mod set;
mod types;

use std::fmt;

use super::Pattern;
use super::condition::{self, Condition, Path, Reading};
use crate::event::{EventSource, Priority};

pub use error::RuleError;
pub use explain::{RuleChange, RuleReason, RuleVerdict};
pub use set::RuleSet;
pub(crate) use types::TypeRules;

/// Sends the events it matches to services. A value: it does nothing until it is part of a [`RuleSet`].
///
/// ```
/// use ringmain::{Condition, Priority, RoutingRule, RuleFilter};
///
/// let rule = RoutingRule::new("large-orders")
///     .types(["orders.*"])
///     .priority_min(Priority::Normal)
///     .when(Condition::metadata("tenant").equals("acme"))
///     .to("fraud-check")
///     .priority(10);
///
/// let same = RoutingRule {
///     id: "large-orders".into(),
///     name: "large-orders".into(),
///     filter: RuleFilter {
///         event_types: vec!["orders.*".into()],
///         priorities: vec![Priority::Critical, Priority::High, Priority::Normal],
///         ..RuleFilter::default()
///     },
///     targets: vec!["fraud-check".into()],
///     priority: 10,
///     enabled: true,
///     conditions: vec![Condition::metadata("tenant").equals("acme")],
/// };
/// assert_eq!(rule, same);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingRule {
    /// Names the rule among others; 1 to 255 bytes.
    pub id: String,
    /// What it is for, for people; at most 255 bytes.
    pub name: String,
    /// Which events it looks at.
    pub filter: RuleFilter,
    /// The services that get what it matches, by their ids; 1 to 16, of 1 to 255 bytes.
    pub targets: Vec<String>,
    /// Rules of a higher priority come first.
    pub priority: i32,
    /// A rule that is not enabled matches nothing.
    pub enabled: bool,
    /// What an event has to meet, besides the filter: all of them. At most 64, counting those in groups, 8 levels deep.
    pub conditions: Vec<Condition>,
}

/// Which events a rule looks at, by what is known before the event is read. An empty list is no restriction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleFilter {
    /// Patterns over event types, such as `orders.*`. One word without a dot is a category: `filesystem` is
    /// `filesystem` and all types that begin with `filesystem.`. At most 64.
    pub event_types: Vec<String>,
    /// Sources, by exact text; at most 64, of at most 255 bytes.
    pub sources: Vec<String>,
    /// Priorities.
    pub priorities: Vec<Priority>,
}

impl RoutingRule {
    /// Services one rule may name.
    pub const TARGETS_MAX: usize = 16;
    /// Patterns, and sources, one filter may list.
    pub const FILTER_MAX: usize = 64;
    /// Conditions of one rule, groups among them.
    pub const CONDITIONS_MAX: usize = condition::CONDITIONS_MAX;
    /// Levels of a condition.
    pub const DEPTH_MAX: usize = condition::DEPTH_MAX;
    /// Bytes of an id, a name and a target.
    pub const NAME_BYTES_MAX: usize = 255;

    /// A rule of this id and name: enabled, of priority 0, for all events. It still needs a target.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            name: id.clone(),
            id,
            filter: RuleFilter::default(),
            targets: Vec::new(),
            priority: 0,
            enabled: true,
            conditions: Vec::new(),
        }
    }

    /// With this name. Default: the id.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Also for types that match one of these patterns, or are of one of these categories.
    #[must_use]
    pub fn types<T: Into<String>>(mut self, patterns: impl IntoIterator<Item = T>) -> Self {
        self.filter.event_types.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Also for events from these sources.
    #[must_use]
    pub fn sources<T: Into<String>>(mut self, sources: impl IntoIterator<Item = T>) -> Self {
        self.filter.sources.extend(sources.into_iter().map(Into::into));
        self
    }

    /// Also for these priorities.
    #[must_use]
    pub fn priorities(mut self, priorities: impl IntoIterator<Item = Priority>) -> Self {
        self.filter.priorities.extend(priorities);
        self
    }

    /// Also for this priority and more urgent ones.
    #[must_use]
    pub fn priority_min(self, least: Priority) -> Self {
        self.priorities(Priority::ALL.into_iter().filter(|&priority| priority >= least))
    }

    /// Also to this service.
    #[must_use]
    pub fn to(mut self, service: impl Into<String>) -> Self {
        self.targets.push(service.into());
        self
    }

    /// With this place among the rules. Default 0; higher comes first.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Enabled or not. Default: enabled.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Only for events that meet this condition too.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }
}

/// A checked rule, with all that can be known before an event comes.
struct Compiled {
    rule: RoutingRule,
    /// Empty: every type.
    types: Box<[Pattern]>,
    /// Bits of lanes that it wants.
    lanes: u8,
    /// Places in `rule.conditions`: those that read no payload first.
    order: Box<[u8]>,
}

impl Compiled {
    fn new(rule: RoutingRule) -> Result<Self, RuleError> {
        let name_bytes_max = RoutingRule::NAME_BYTES_MAX;
        let (id, filter) = (rule.id.as_str(), &rule.filter);
        error::check_bytes("", "rule's id", id, name_bytes_max)?;
        error::check_bytes(id, "name", &rule.name, name_bytes_max)?;
        if id.is_empty() {
            return Err(RuleError::Empty { rule: rule.name, what: "id" });
        }
        if rule.targets.is_empty() {
            return Err(RuleError::NoTargets { rule: rule.id });
        }
        error::check_count(id, "targets", rule.targets.len(), RoutingRule::TARGETS_MAX)?;
        for target in &rule.targets {
            error::check_bytes(id, "target", target, name_bytes_max)?;
            if target.is_empty() {
                return Err(RuleError::Empty { rule: rule.id, what: "target" });
            }
        }
        error::check_count(id, "event types", filter.event_types.len(), RoutingRule::FILTER_MAX)?;
        error::check_count(id, "sources", filter.sources.len(), RoutingRule::FILTER_MAX)?;
        for source in &filter.sources {
            error::check_bytes(id, "source", source, EventSource::BYTES_MAX)?;
        }
        let parse = |text: &String| {
            type_pattern(text).map_err(|error| RuleError::Pattern { rule: id.to_owned(), pattern: text.clone(), error })
        };
        let types = filter.event_types.iter().map(parse).collect::<Result<_, _>>()?;
        let mut count = 0;
        rule.conditions.iter().try_for_each(|condition| condition.check(id, 1, &mut count))?;

        let lanes = match filter.priorities.iter().fold(0, |lanes, priority| lanes | 1 << priority.lane()) {
            0 => 0b1111,
            lanes => lanes,
        };
        // At most 64: checked above.
        let mut order: Box<[u8]> = (0..rule.conditions.len() as u8).collect();
        order.sort_by_key(|&at| rule.conditions[usize::from(at)].reads_payload());
        Ok(Self { types, lanes, order, rule })
    }

    fn matches_type(&self, name: &str) -> bool {
        self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(name))
    }

    fn wants(&self, priority: Priority) -> bool {
        self.lanes & (1 << priority.lane()) != 0
    }

    fn wants_source(&self, source: &str) -> bool {
        let sources = &self.rule.filter.sources;
        sources.is_empty() || sources.iter().any(|wanted| wanted == source)
    }

    /// The conditions in the order of asking.
    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.order.iter().map(|&at| &self.rule.conditions[usize::from(at)])
    }

    /// Whether an event of a type that matches does so, too.
    fn matches_rest(&self, event: &Reading<'_>) -> bool {
        self.wants(event.meta().priority())
            // Of a rule for all sources the event is not asked for its own.
            && (self.rule.filter.sources.is_empty() || self.wants_source(event.meta().source()))
            && self.conditions().all(|condition| condition.holds(event))
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rule.fmt(f)
    }
}

/// The pattern of an entry in a rule's event types. One word is a category, and so are its types.
fn type_pattern(text: &str) -> Result<Pattern, super::PatternError> {
    let pattern = Pattern::new(text)?;
    if pattern.is_exact() && !text.contains('.') { Pattern::new(&format!("{text}.**")) } else { Ok(pattern) }
}

#[cfg(test)]
mod naive;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
