//! The rules that an event type can match: what a compiled route holds of a rule set.

use std::sync::Arc;

use super::{Compiled, Path, Reading, RoutingRule, RuleSet};
use crate::event::Meta;

impl RuleSet {
    /// The rules that events of the type `name` can match and that name a target which `resolve` knows. Without a name: of
    /// all types that have no id, so that the type is asked for each event.
    pub(crate) fn for_type<T>(&self, name: Option<&str>, mut resolve: impl FnMut(&str) -> Option<T>) -> TypeRules<T> {
        let mut lanes = 0;
        let mut rules = Vec::new();
        for compiled in self.enabled().filter(|compiled| name.is_none_or(|name| compiled.matches_type(name))) {
            let targets: Box<[T]> = compiled.rule.targets.iter().filter_map(|target| resolve(target)).collect();
            if !targets.is_empty() {
                lanes |= compiled.lanes;
                rules.push(RuleHere { compiled: Arc::clone(compiled), targets });
            }
        }
        let mut paths = Vec::new();
        let conditions = rules.iter().flat_map(|rule| &rule.compiled.rule.conditions);
        conditions.for_each(|condition| condition.add_paths(&mut paths));
        paths.sort_unstable();
        paths.dedup();
        let bytes_max = self.payload_bytes_max;
        TypeRules { rules: rules.into(), paths: paths.into(), bytes_max, lanes, asks_type: name.is_none() }
    }
}

/// The rules that events of one type can match, with their targets as the reader knows them. Part of a compiled route.
#[derive(Debug, Clone)]
pub(crate) struct TypeRules<T> {
    rules: Box<[RuleHere<T>]>,
    /// By which their conditions read payloads: sorted, each once.
    paths: Box<[Path]>,
    /// Bytes of a payload that they read.
    bytes_max: usize,
    lanes: u8,
    asks_type: bool,
}

impl<T> Default for TypeRules<T> {
    fn default() -> Self {
        Self { rules: Box::default(), paths: Box::default(), bytes_max: 0, lanes: 0, asks_type: false }
    }
}

#[derive(Debug, Clone)]
struct RuleHere<T> {
    compiled: Arc<Compiled>,
    targets: Box<[T]>,
}

impl<T> TypeRules<T> {
    /// Whether no event of the type matches a rule: then nothing has to be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Lanes of which some rules want events, a bit each.
    pub(crate) fn lanes(&self) -> u8 {
        self.lanes
    }

    /// An event as they read it.
    pub(crate) fn reading<'s>(&'s self, meta: &Meta<'s>) -> Reading<'s> {
        Reading::new(*meta, &self.paths, self.bytes_max)
    }

    /// The targets of each rule that matches the event, in the order of the rules. A target may come again.
    ///
    /// # Cost
    /// As [`RuleSet::evaluate`], without the patterns, and the payload is read once.
    pub(crate) fn evaluate<'s>(&'s self, event: &'s Reading<'_>) -> impl Iterator<Item = (&'s RoutingRule, &'s [T])> {
        let matches = move |rule: &&RuleHere<T>| {
            (!self.asks_type || rule.compiled.matches_type(event.meta().topic())) && rule.compiled.matches_rest(event)
        };
        self.rules.iter().filter(matches).map(|rule| (&rule.compiled.rule, &*rule.targets))
    }
}
