//! What a subscription wants beyond its pattern: types, more patterns, categories, sources, priorities, a predicate.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use crate::event::{Directory, Meta, Priority};
use crate::sync::contain::contained;

use super::Pattern;

type Predicate = Arc<dyn Fn(&Meta<'_>) -> bool + Send + Sync>;

/// Conditions that must all hold. An empty list holds for everything.
///
/// ```
/// use ringmain::{Category, Filter, Priority};
/// let urgent_files = Filter::all()
///     .categories([Category::Filesystem])
///     .sources(["filesystem:watcher-1"])
///     .priority_min(Priority::High)
///     .matching(|meta| meta.get("tenant") == Some("acme"));
/// # let _ = urgent_files;
/// ```
///
/// Types, patterns, categories and priorities are resolved when the routing table is compiled and cost nothing per event;
/// sources cost a comparison of numbers; a predicate is called for each event that passed the rest.
#[derive(Clone, Default)]
pub struct Filter {
    types: Vec<String>,
    patterns: Vec<Pattern>,
    categories: Vec<String>,
    sources: Vec<String>,
    /// Bits of lanes that do not pass.
    lanes_refused: u8,
    predicates: Vec<Predicate>,
}

impl Filter {
    /// Everything passes.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these event types, by exact name.
    pub fn types<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.types.extend(names.into_iter().map(Into::into));
        self
    }

    /// Only event types that match one of these patterns.
    pub fn patterns(mut self, patterns: impl IntoIterator<Item = Pattern>) -> Self {
        self.patterns.extend(patterns);
        self
    }

    /// Only types whose first segment is one of these, such as `filesystem`.
    pub fn categories<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.categories.extend(names.into_iter().map(Into::into));
        self
    }

    /// Only events from these sources, by exact text; a subscription with one of more than 255 bytes is refused.
    pub fn sources<T: Into<String>>(mut self, sources: impl IntoIterator<Item = T>) -> Self {
        self.sources.extend(sources.into_iter().map(Into::into));
        self
    }

    /// Only this priority and more urgent ones.
    pub fn priority_min(self, least: Priority) -> Self {
        self.priorities(Priority::ALL.into_iter().filter(|&priority| priority >= least))
    }

    /// Only these priorities.
    pub fn priorities(mut self, wanted: impl IntoIterator<Item = Priority>) -> Self {
        let wanted = wanted.into_iter().fold(0, |lanes, priority| lanes | 1 << priority.lane());
        self.lanes_refused |= !wanted & 0b1111;
        self
    }

    /// Only events for which `predicate` is true. It runs on a worker: keep it short, and let it depend on the event
    /// alone, for it may be asked more than once for the same one. A panic counts as false.
    pub fn matching(mut self, predicate: impl Fn(&Meta<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.predicates.push(Arc::new(predicate));
        self
    }

    /// Bytes of the longest source.
    pub(crate) fn source_bytes_max(&self) -> usize {
        self.sources.iter().map(String::len).max().unwrap_or(0)
    }

    /// The lanes that pass, one bit each.
    pub(crate) fn lanes(&self) -> u8 {
        !self.lanes_refused & 0b1111
    }

    /// Whether a type of this name can pass.
    pub(crate) fn passes_type(&self, name: &str) -> bool {
        let category = name.split('.').next().unwrap_or(name);
        (self.types.is_empty() || self.types.iter().any(|wanted| wanted == name))
            && (self.patterns.is_empty() || self.patterns.iter().any(|wanted| wanted.matches(name)))
            && (self.categories.is_empty() || self.categories.iter().any(|wanted| wanted == category))
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("types", &self.types)
            .field("patterns", &self.patterns)
            .field("categories", &self.categories)
            .field("sources", &self.sources)
            .field("lanes", &format_args!("{:04b}", self.lanes()))
            .field("predicates", &self.predicates.len())
            .finish()
    }
}

/// `types a, b; sources service:x; priorities critical, high; 1 predicate`; nothing of what lets everything pass.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<_> = self.patterns.iter().map(Pattern::as_str).collect();
        let passing = Priority::ALL.into_iter().filter(|priority| self.lanes() & 1 << priority.lane() != 0);
        let priorities: Vec<_> = passing.map(Priority::as_str).collect();
        let predicates = match self.predicates.len() {
            0 => String::new(),
            1 => "1 predicate".to_owned(),
            many => format!("{many} predicates"),
        };
        let named = |name: &str, list: &str| if list.is_empty() { String::new() } else { format!("{name} {list}") };
        let parts = [
            named("types", &self.types.join(", ")),
            named("patterns", &patterns.join(", ")),
            named("categories", &self.categories.join(", ")),
            named("sources", &self.sources.join(", ")),
            if self.lanes_refused == 0 { String::new() } else { format!("priorities {}", priorities.join(", ")) },
            predicates,
        ];
        let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect();
        f.write_str(&parts.join("; "))
    }
}

/// Why an event does not pass, in the order of checking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Source,
    Predicate,
    PredicatePanicked,
}

/// All filters of one subscription, with sources as numbers.
pub(crate) struct CompiledFilter {
    filters: Box<[(Filter, Box<[u32]>)]>,
    lanes: u8,
    /// Something is left to check for each event.
    dynamic: bool,
    text: OnceLock<String>,
}

impl fmt::Debug for CompiledFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filters, lanes, dynamic, text: _ } = self;
        f.debug_struct("CompiledFilter")
            .field("filters", filters)
            .field("lanes", lanes)
            .field("dynamic", dynamic)
            .finish()
    }
}

impl Drop for CompiledFilter {
    fn drop(&mut self) {
        for (filter, _) in std::mem::take(&mut self.filters) {
            // What a predicate holds is its user's: whoever ends a subscription is not hurt by its drop.
            let _ = contained(|| drop(filter));
        }
    }
}

impl CompiledFilter {
    /// Resolves sources to ids; a source that the directory has no room for is compared by its text.
    pub(crate) fn new(filters: Vec<Filter>, directory: &Directory) -> Self {
        let lanes = filters.iter().fold(0b1111, |lanes, filter| lanes & filter.lanes());
        let dynamic = filters.iter().any(|filter| !filter.sources.is_empty() || !filter.predicates.is_empty());
        let resolve = |filter: Filter| {
            let ids = filter.sources.iter().map(|source| directory.intern_source(source)).collect();
            (filter, ids)
        };
        Self { filters: filters.into_iter().map(resolve).collect(), lanes, dynamic, text: OnceLock::new() }
    }

    /// All of them, for people; empty where everything passes. Made when first asked for, since filters never change.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let texts = self.filters.iter().map(|(filter, _)| filter.to_string()).filter(|text| !text.is_empty());
            texts.collect::<Vec<_>>().join("; ")
        })
    }

    pub(crate) fn lanes(&self) -> u8 {
        self.lanes
    }

    pub(crate) fn passes_type(&self, name: &str) -> bool {
        self.filters.iter().all(|(filter, _)| filter.passes_type(name))
    }

    pub(crate) fn passes_source(&self, source: &str) -> bool {
        let wanted = |filter: &Filter| filter.sources.is_empty() || filter.sources.iter().any(|one| one == source);
        self.filters.iter().all(|(filter, _)| wanted(filter))
    }

    pub(crate) fn has_predicates(&self) -> bool {
        self.filters.iter().any(|(filter, _)| !filter.predicates.is_empty())
    }

    /// Whether `refusal` has to be asked for each event.
    #[inline(always)]
    pub(crate) fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// The first condition on source or content that the event breaks.
    pub(crate) fn refusal(&self, meta: &Meta<'_>) -> Option<Refusal> {
        for (filter, ids) in &self.filters {
            if !ids.is_empty() {
                let id = meta.header().source_id;
                let wanted = match id {
                    0 => filter.sources.iter().any(|source| source == meta.source()),
                    _ => ids.contains(&id),
                };
                if !wanted {
                    return Some(Refusal::Source);
                }
            }
            for predicate in &filter.predicates {
                match contained(|| predicate(meta)) {
                    Some(true) => {}
                    Some(false) => return Some(Refusal::Predicate),
                    None => return Some(Refusal::PredicatePanicked),
                }
            }
        }
        None
    }
}
