//! A subscription as data: what is wanted, on what terms, and the name of who handles it.

use std::time::Duration;

use crate::{
    BreakerPolicy, Bus, Condition, DedupWindow, DeliveryMode, Filter, Key, OverLimit, Overflow, Pattern, Rate,
    ReplayPolicy, RetryPolicy, RoutingRule, RuleError, RuleFilter, RuleSet, Subscribe, SubscriptionId,
};

use super::StoredSubscriptionsError;

/// A subscription that can be written down: settings as those of [`Subscribe`], whose defaults they have, filters and conditions as
/// those of a [`RoutingRule`], and a handler by its name.
///
/// ```
/// use ringmain::store::StoredSubscription;
/// use ringmain::{Condition, DeliveryMode};
/// let wish = StoredSubscription::new("billing", "orders.*", "charge")
///     .mode(DeliveryMode::reliable())
///     .when(Condition::metadata("country").equals("de"));
/// # let _ = wish;
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is stored until it is added"]
pub struct StoredSubscription {
    pub(super) name: String,
    pub(super) pattern: String,
    pub(super) handler: String,
    pub(super) filter: RuleFilter,
    pub(super) conditions: Vec<Condition>,
    pub(super) is_durable: bool,
    pub(super) mode: DeliveryMode,
    pub(super) overflow: Overflow,
    pub(super) replay: ReplayPolicy,
    pub(super) suspend_after: u32,
    pub(super) capacity: Option<usize>,
    pub(super) handler_timeout: Option<Duration>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) breaker: Option<BreakerPolicy>,
    pub(super) rate: Option<(Rate, OverLimit)>,
    pub(super) dedup: Option<DedupWindow>,
    pub(super) order: Option<Key>,
    pub(super) latest_by: Option<Key>,
    pub(super) keys_max: Option<usize>,
}

impl StoredSubscription {
    /// A subscription of this name, 1 to 255 bytes, to what matches a pattern; a handler that is known by a name handles it.
    pub fn new(name: impl Into<String>, pattern: impl Into<String>, handler: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            pattern: pattern.into(),
            handler: handler.into(),
            filter: RuleFilter::default(),
            conditions: Vec::new(),
            is_durable: false,
            mode: DeliveryMode::default(),
            overflow: Overflow::default(),
            replay: ReplayPolicy::default(),
            suspend_after: 0,
            capacity: None,
            handler_timeout: None,
            retry: None,
            breaker: None,
            rate: None,
            dedup: None,
            order: None,
            latest_by: None,
            keys_max: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it subscribes to.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The name of who handles it.
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// Whether it reads a store from a cursor.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Reads the events of a store from a cursor that is kept under its name: a [`DurableSubscription`](super::super::DurableSubscription). It
    /// has a pattern and no other setting.
    pub fn durable(self) -> Self {
        Self { is_durable: true, ..self }
    }

    /// Only events that pass. Default: all that match the pattern.
    pub fn filter(self, filter: RuleFilter) -> Self {
        Self { filter, ..self }
    }

    /// Only events that meet this condition, too.
    pub fn when(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// As [`Subscribe::mode`].
    pub fn mode(self, mode: DeliveryMode) -> Self {
        Self { mode, ..self }
    }

    /// As [`Subscribe::overflow`].
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// As [`Subscribe::replay`].
    pub fn replay(self, replay: ReplayPolicy) -> Self {
        Self { replay, ..self }
    }

    /// As [`Subscribe::suspend_after`].
    pub fn suspend_after(self, dead_letters: u32) -> Self {
        Self { suspend_after: dead_letters, ..self }
    }

    /// As [`Subscribe::capacity`]. Default: that of the bus, whatever it is then.
    pub fn capacity(self, events: usize) -> Self {
        Self { capacity: Some(events), ..self }
    }

    /// As [`Subscribe::handler_timeout`]. Default: that of the bus.
    pub fn handler_timeout(self, timeout: Duration) -> Self {
        Self { handler_timeout: Some(timeout), ..self }
    }

    /// As [`Subscribe::retry`]. Default: that of the bus.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        Self { retry: Some(policy), ..self }
    }

    /// As [`Subscribe::breaker`].
    pub fn breaker(self, policy: BreakerPolicy) -> Self {
        Self { breaker: Some(policy), ..self }
    }

    /// As [`Subscribe::rate_limit`].
    pub fn rate_limit(self, rate: Rate, over: OverLimit) -> Self {
        Self { rate: Some((rate, over)), ..self }
    }

    /// As [`Subscribe::dedup`], by id: a window by a key cannot be stored.
    pub fn dedup(self, window: DedupWindow) -> Self {
        Self { dedup: Some(window), ..self }
    }

    /// As [`Subscribe::ordered_by`]. [`Key::By`] cannot be stored.
    pub fn ordered_by(self, key: Key) -> Self {
        Self { order: Some(key), ..self }
    }

    /// As [`Subscribe::latest_by`]. [`Key::By`] cannot be stored.
    pub fn latest_by(self, key: Key) -> Self {
        Self { latest_by: Some(key), ..self }
    }

    /// As [`Subscribe::keys_max`].
    pub fn keys_max(self, keys: usize) -> Self {
        Self { keys_max: Some(keys), ..self }
    }

    /// Of a durable one: the setting that it cannot have and does.
    pub(super) fn misplaced(&self) -> Option<&'static str> {
        let plain = (self.mode, self.overflow, self.replay, self.suspend_after)
            == (DeliveryMode::default(), Overflow::default(), ReplayPolicy::default(), 0);
        let settings = [
            ("filter", self.filter != RuleFilter::default()),
            ("condition", !self.conditions.is_empty()),
            ("capacity", self.capacity.is_some()),
            ("handler_timeout", self.handler_timeout.is_some()),
            ("retry", self.retry.is_some()),
            ("breaker", self.breaker.is_some()),
            ("rate_limit", self.rate.is_some()),
            ("dedup", self.dedup.is_some()),
            ("key", self.order.is_some() || self.latest_by.is_some() || self.keys_max.is_some()),
            ("delivery mode, overflow policy, replay policy or suspend_after", !plain),
        ];
        let first = settings.into_iter().find(|(_, is_set)| *is_set);
        first.map(|(setting, _)| setting).filter(|_| self.is_durable)
    }

    /// The subscription under way.
    pub(super) fn begin(&self, bus: &Bus, id: SubscriptionId) -> Result<Subscribe<Pattern>, StoredSubscriptionsError> {
        let mut wish = bus.subscribe(self.pattern.as_str()).named(self.name.as_str()).id(id);
        if let Some(filter) = self.filter_of_bus().map_err(StoredSubscriptionsError::Filter)? {
            wish = wish.filter(filter);
        }
        wish = wish.mode(self.mode).overflow(self.overflow).replay(self.replay).suspend_after(self.suspend_after);
        wish = match self.capacity {
            Some(events) => wish.capacity(events),
            None => wish,
        };
        wish = match self.handler_timeout {
            Some(timeout) => wish.handler_timeout(timeout),
            None => wish,
        };
        wish = match self.retry {
            Some(policy) => wish.retry(policy),
            None => wish,
        };
        wish = match self.breaker {
            Some(policy) => wish.breaker(policy),
            None => wish,
        };
        wish = match self.rate {
            Some((rate, over)) => wish.rate_limit(rate, over),
            None => wish,
        };
        wish = match &self.dedup {
            Some(window) => wish.dedup(window.clone()),
            None => wish,
        };
        wish = match &self.order {
            Some(key) => wish.ordered_by(key.clone()),
            None => wish,
        };
        wish = match &self.latest_by {
            Some(key) => wish.latest_by(key.clone()),
            None => wish,
        };
        Ok(match self.keys_max {
            Some(keys) => wish.keys_max(keys),
            None => wish,
        })
    }

    /// What passes, as the bus asks it. A rule's conditions are asked as those of a rule are.
    fn filter_of_bus(&self) -> Result<Option<Filter>, RuleError> {
        if self.filter == RuleFilter::default() && self.conditions.is_empty() {
            return Ok(None);
        }
        let mut rule = RoutingRule::new("stored").to("here");
        (rule.filter, rule.conditions) = (self.filter.clone(), self.conditions.clone());
        let rules = RuleSet::new([rule])?;
        let mut filter = Filter::all().sources(self.filter.sources.clone());
        if !self.filter.priorities.is_empty() {
            filter = filter.priorities(self.filter.priorities.clone());
        }
        if !self.filter.event_types.is_empty() || !self.conditions.is_empty() {
            filter = filter.matching(move |meta| rules.evaluate(meta).next().is_some());
        }
        Ok(Some(filter))
    }
}
