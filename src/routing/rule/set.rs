//! All rules of a bus, checked and in order.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use super::{Compiled, Reading, RoutingRule, RuleError};
use crate::event::Meta;
use crate::sync::mutant::mutant;

/// Checked rules in the order of their evaluation: higher priority first, then by id. It never changes; a change makes
/// another set, which shares the rules that stay.
///
/// ```
/// use ringmain::{RoutingRule, RuleSet};
///
/// let rules = RuleSet::new([
///     RoutingRule::new("everything").to("archive"),
///     RoutingRule::new("files").types(["filesystem"]).to("indexer").priority(10),
/// ])?;
/// assert!(rules.applies_to_type("filesystem.created"));
/// let ids: Vec<_> = rules.rules().map(|rule| rule.id.as_str()).collect();
/// assert_eq!(ids, ["files", "everything"]);
///
/// let rules = rules.with_enabled("everything", false)?;
/// assert!(!rules.applies_to_type("orders.placed"));
/// # Ok::<(), ringmain::RuleError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RuleSet {
    /// Sorted by priority, highest first, and id.
    rules: Arc<[Arc<Compiled>]>,
    /// Bytes of a payload that conditions read.
    pub(super) payload_bytes_max: usize,
}

impl Default for RuleSet {
    /// No rules.
    fn default() -> Self {
        Self { rules: Arc::default(), payload_bytes_max: Self::PAYLOAD_BYTES_MAX }
    }
}

impl RuleSet {
    /// Rules a set may have.
    pub const RULES_MAX: usize = 1_024;
    /// Bytes of a payload that conditions read, unless the bus says otherwise
    /// ([`condition_payload_bytes_max`](crate::BusBuilder::condition_payload_bytes_max)).
    pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;

    /// Checks the rules and puts them in order.
    ///
    /// # Errors
    /// The first thing that is wrong with one of them; see [`RuleError`].
    pub fn new(rules: impl IntoIterator<Item = RoutingRule>) -> Result<Self, RuleError> {
        let rules: Vec<_> = rules.into_iter().collect();
        let mut ids = HashSet::with_capacity(rules.len());
        if let Some(twice) = rules.iter().find(|rule| !ids.insert(rule.id.as_str())) {
            return Err(RuleError::DuplicateId { rule: twice.id.clone() });
        }
        let compile = |rule| Compiled::new(rule).map(Arc::new);
        Self::default().of(rules.into_iter().map(compile).collect::<Result<_, _>>()?)
    }

    /// The same rules, of which conditions read payloads of at most so many bytes.
    pub(crate) fn reading_at_most(self, payload_bytes_max: usize) -> Self {
        Self { payload_bytes_max, ..self }
    }

    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// Of rules with different ids, which read as much.
    fn of(&self, mut rules: Vec<Arc<Compiled>>) -> Result<Self, RuleError> {
        if rules.len() > Self::RULES_MAX {
            return Err(RuleError::TooManyRules { count: rules.len(), max: Self::RULES_MAX });
        }
        rules.sort_by(|one, other| {
            let key = |compiled: &Compiled| Reverse(compiled.rule.priority);
            let by_priority = mutant!("rule.order", key(one).cmp(&key(other)) => key(other).cmp(&key(one)));
            by_priority.then_with(|| one.rule.id.cmp(&other.rule.id))
        });
        Ok(Self { rules: rules.into(), payload_bytes_max: self.payload_bytes_max })
    }

    /// With `rule` too, in the place of the one of its id if there is one.
    ///
    /// # Errors
    /// What is wrong with the rule, or that the set is full.
    pub fn with(&self, rule: RoutingRule) -> Result<Self, RuleError> {
        let compiled = Arc::new(Compiled::new(rule)?);
        let others = self.rules.iter().filter(|other| other.rule.id != compiled.rule.id).cloned();
        self.of(others.chain([Arc::clone(&compiled)]).collect())
    }

    /// Without the rule of this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn without(&self, id: &str) -> Result<Self, RuleError> {
        self.known(id)?;
        self.of(self.rules.iter().filter(|other| other.rule.id != id).cloned().collect())
    }

    /// With the rule of this id enabled, or not.
    ///
    /// # Errors
    /// When there is none.
    pub fn with_enabled(&self, id: &str, enabled: bool) -> Result<Self, RuleError> {
        self.with(self.known(id)?.clone().enabled(mutant!("rule.enabled", enabled => false)))
    }

    fn known(&self, id: &str) -> Result<&RoutingRule, RuleError> {
        self.get(id).ok_or_else(|| RuleError::Unknown { rule: id.to_owned() })
    }

    /// The rules in order, those that are not enabled too.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &RoutingRule> {
        self.rules.iter().map(|compiled| &compiled.rule)
    }

    /// The rule of this id.
    pub fn get(&self, id: &str) -> Option<&RoutingRule> {
        self.rules().find(|rule| rule.id == id)
    }

    /// Whether an enabled rule can match events of a type of this name.
    pub fn applies_to_type(&self, name: &str) -> bool {
        self.enabled().any(|compiled| compiled.matches_type(name))
    }

    /// The rules that match the event, in order. Rules that are not enabled match nothing.
    ///
    /// # Cost
    /// Each rule's patterns, then its priorities, sources and conditions up to the first that fails; no allocation, except
    /// in conditions on the payload where that has escapes. Each of those reads the payload, which a bus does once for all rules.
    pub fn evaluate<'s>(&'s self, meta: &Meta<'s>) -> impl Iterator<Item = &'s RoutingRule> + use<'s> {
        let event = Reading::new(*meta, &[], self.payload_bytes_max);
        self.enabled()
            .filter(move |compiled| compiled.matches_type(event.meta().topic()) && compiled.matches_rest(&event))
            .map(|compiled| &compiled.rule)
    }

    pub(super) fn enabled(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        self.compiled().filter(|compiled| compiled.rule.enabled)
    }

    pub(super) fn compiled(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        self.rules.iter()
    }
}
