//! Which dead letters are meant, in which order, and how many of them.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::SystemTime;

use crate::delivery::SubscriptionId;
use crate::routing::Pattern;

use super::{DeadLetter, DeadReason};

/// Which dead letters are meant: by default all, oldest first. Conditions must all hold.
///
/// ```
/// use ringmain::{DeadLetterFilter, DeadReason, Pattern};
/// let filter = DeadLetterFilter::new()
///     .topic(Pattern::new("orders.**")?)
///     .reason(DeadReason::Rejected)
///     .newest_first()
///     .limit(20);
/// # let _ = filter;
/// # Ok::<(), ringmain::PatternError>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a filter does nothing by itself"]
pub struct DeadLetterFilter {
    subscription: Option<SubscriptionId>,
    name: Option<String>,
    topic: Option<Pattern>,
    reason: Option<DeadReason>,
    died_from: Option<SystemTime>,
    died_before: Option<SystemTime>,
    newest_first: bool,
    after: Option<u64>,
    limit: Option<usize>,
}

impl DeadLetterFilter {
    /// All letters, oldest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those of this subscription.
    pub fn subscription(mut self, id: SubscriptionId) -> Self {
        self.subscription = Some(id);
        self
    }

    /// Only those of subscriptions of this name, which outlives them.
    pub fn subscription_named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only events whose topic matches.
    pub fn topic(mut self, pattern: Pattern) -> Self {
        self.topic = Some(pattern);
        self
    }

    /// Only those that died of this.
    pub fn reason(mut self, reason: DeadReason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// Only those that died at this time or later.
    pub fn died_from(mut self, time: SystemTime) -> Self {
        self.died_from = Some(time);
        self
    }

    /// Only those that died before this time.
    pub fn died_before(mut self, time: SystemTime) -> Self {
        self.died_before = Some(time);
        self
    }

    /// The newest come first. Default: the oldest.
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// Goes on behind the letter with this id, the last one of the page before; it need not be there any more.
    pub fn after(mut self, id: u64) -> Self {
        self.after = Some(id);
        self
    }

    /// At most so many. Default: no limit but that of the store.
    pub fn limit(mut self, letters: usize) -> Self {
        self.limit = Some(letters);
        self
    }

    /// Whether a letter fulfils the conditions; order, page and limit set aside.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let Self { subscription, name, topic, reason, died_from, died_before, .. } = self;
        subscription.is_none_or(|id| id == letter.subscription())
            && name.as_ref().is_none_or(|name| name == letter.subscription_name())
            && topic.as_ref().is_none_or(|pattern| pattern.matches(letter.meta().topic()))
            && reason.is_none_or(|reason| reason == letter.reason())
            && died_from.is_none_or(|time| letter.died() >= time)
            && died_before.is_none_or(|time| letter.died() < time)
    }

    /// Those that are meant, in order.
    pub(super) fn select(&self, letters: &BTreeMap<u64, Arc<DeadLetter>>) -> Vec<Arc<DeadLetter>> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let meant = |(_, letter): &(&u64, &Arc<DeadLetter>)| self.matches(letter);
        let behind = self.after.map_or(Unbounded, Excluded);
        if self.newest_first {
            let newest = letters.range((Unbounded, behind)).rev().filter(meant).take(limit);
            newest.map(|(_, letter)| Arc::clone(letter)).collect()
        } else {
            let oldest = letters.range((behind, Unbounded)).filter(meant).take(limit);
            oldest.map(|(_, letter)| Arc::clone(letter)).collect()
        }
    }
}
