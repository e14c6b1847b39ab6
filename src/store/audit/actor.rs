//! Whoever acts on a bus, and is recorded.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use crate::{
    DeadLetterFilter, EventId, Interest, RateLimit, RateLimitError, Redrive, RedriveError, RoutingRule, RuleSet, Rules,
    RulesError, ServiceError, ServiceHealth, Subscribe, SubscribeError, SubscriptionId, SubscriptionRecord,
};

use super::super::{Fault, LogStore, Retention, Upkeep};
use super::{AuditAct, AuditError, AuditTrail, AuditedError};

/// Somebody who acts on a bus, as its [`AuditTrail`] knows them. Each call leaves one record, then does what it says; see there. Cheap to clone.
///
/// | call | action | object |
/// |---|---|---|
/// | `add_rule`, `change_rule`, `enable_rule`, `disable_rule`, `remove_rule` | `rule.added`, `.changed`, `.enabled`, `.disabled`, `.removed` | `rule ID` |
/// | `replace_rules` | `rules.replaced` | `rules` |
/// | `set_rate_limits` | `limits.set` | `rate limits` |
/// | `subscribe`, `unsubscribe`, `pause`, `resume` | `subscription.added`, `.ended`, `.paused`, `.resumed` | `subscription NAME` |
/// | `redrive`, `redrive_all`, `purge` | `letter.redriven`, `letters.redriven`, `letters.purged` | `dead letter ID`, `dead letters` |
/// | `keep` | `retention.applied` | `store` |
/// | `update_service_health` | `health.set` | `service NAME` |
/// | `act`, `record` | yours | yours |
#[derive(Clone)]
pub struct AuditActor {
    trail: AuditTrail,
    name: String,
}

impl AuditActor {
    pub(super) fn new(trail: AuditTrail, name: String) -> Self {
        Self { trail, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records what is already done, or is done by others.
    ///
    /// # Errors
    /// See [`AuditError`].
    pub fn record(&self, act: AuditAct) -> Result<EventId, AuditError> {
        self.trail.0.record(&self.name, &act, None)
    }

    /// Records an action, then does it.
    ///
    /// # Errors
    /// [`AuditedError::NotRecorded`], and nothing is done; [`AuditedError::Failed`] with what `does` returned.
    pub fn act<T, E: fmt::Display>(
        &self,
        act: AuditAct,
        does: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, AuditedError<E>> {
        let trail = &self.trail.0;
        let recorded = trail.record(&self.name, &act, None).inspect_err(|_| trail.counts().refused += 1);
        let id = recorded.map_err(AuditedError::NotRecorded)?;
        does().map_err(|error| {
            trail.counts().failed += 1;
            if let Err(unsaid) = trail.record(&self.name, &act.failed(error.to_string()), Some(id)) {
                trail.counts().unsaid += 1;
                trail.tell("audit trail", id, &format!("that {} failed is not recorded: {unsaid}", act.action()));
            }
            AuditedError::Failed(error)
        })
    }

    /// Adds a rule, as [`Rules::add`](crate::Rules::add).
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn add_rule(&self, rule: RoutingRule) -> Result<(), AuditedError<RulesError>> {
        let id = rule.id.clone();
        self.rule("rule.added", &id, Some(rule.clone()), |rules| rules.add(rule))
    }

    /// Changes a rule, as [`Rules::change`](crate::Rules::change).
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn change_rule(&self, rule: RoutingRule) -> Result<(), AuditedError<RulesError>> {
        let id = rule.id.clone();
        self.rule("rule.changed", &id, Some(rule.clone()), |rules| rules.change(rule))
    }

    /// Enables a rule.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn enable_rule(&self, id: &str) -> Result<(), AuditedError<RulesError>> {
        self.switch_rule("rule.enabled", id, true)
    }

    /// Disables a rule.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn disable_rule(&self, id: &str) -> Result<(), AuditedError<RulesError>> {
        self.switch_rule("rule.disabled", id, false)
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn remove_rule(&self, id: &str) -> Result<(), AuditedError<RulesError>> {
        self.rule("rule.removed", id, None, |rules| rules.remove(id))
    }

    fn switch_rule(&self, action: &str, id: &str, enabled: bool) -> Result<(), AuditedError<RulesError>> {
        let after = self.rules().set().get(id).map(|rule| rule.clone().enabled(enabled));
        self.rule(action, id, after, |rules| if enabled { rules.enable(id) } else { rules.disable(id) })
    }

    fn rules(&self) -> Rules {
        self.trail.0.bus.rules()
    }

    fn rule(
        &self,
        action: &str,
        id: &str,
        after: Option<RoutingRule>,
        change: impl FnOnce(&Rules) -> Result<(), RulesError>,
    ) -> Result<(), AuditedError<RulesError>> {
        let _alone = self.trail.0.changing();
        let rules = self.rules();
        let before = rules.set().get(id).map(|rule| format!("{rule:?}"));
        let act = AuditAct::new(action, format!("rule {id}"));
        self.act(act.changing(before, after.map(|rule| format!("{rule:?}"))), || change(&rules))
    }

    /// Puts other rules in the place of all there are. The record has those that are not the same before and after.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn replace_rules(&self, rules: RuleSet) -> Result<(), AuditedError<RulesError>> {
        let _alone = self.trail.0.changing();
        let own = self.rules();
        let set = own.set();
        let only_in = |one: &RuleSet, other: &RuleSet| {
            let only: Vec<_> = one.rules().filter(|rule| other.get(&rule.id) != Some(*rule)).collect();
            format!("{only:?}")
        };
        let act = AuditAct::new("rules.replaced", "rules").before(only_in(&set, &rules)).after(only_in(&rules, &set));
        self.act(act, || own.replace(rules))
    }

    /// Replaces all rate limits on publishing.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn set_rate_limits(
        &self,
        limits: impl IntoIterator<Item = RateLimit>,
    ) -> Result<(), AuditedError<RateLimitError>> {
        let limits: Vec<_> = limits.into_iter().collect();
        let _alone = self.trail.0.changing();
        let bus = &self.trail.0.bus;
        let before: Vec<_> = bus.rate_limits().iter().map(|status| status.limit.to_string()).collect();
        let after: Vec<_> = limits.iter().map(RateLimit::to_string).collect();
        let act = AuditAct::new("limits.set", "rate limits").before(before.join("; ")).after(after.join("; "));
        self.act(act, || bus.set_rate_limits(limits))
    }

    /// Subscribes: `end` ends what `wish` has begun, with a handler or a mailbox.
    ///
    /// ```
    /// # use ringmain::store::{AuditTrail, MemoryStore};
    /// # use ringmain::Bus;
    /// # let bus = Bus::builder().build()?;
    /// # let trail = AuditTrail::over(&bus, std::sync::Arc::new(MemoryStore::new()))?;
    /// let wish = bus.subscribe("orders.*").named("billing");
    /// let billing = trail.by("ada").subscribe(wish, |wish| wish.handle(|_, meta| println!("{}", meta.topic())))?;
    /// trail.by("bob").unsubscribe(billing.id())?;
    /// # drop(trail);
    /// # bus.shutdown()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn subscribe<I: Interest, S>(
        &self,
        wish: Subscribe<I>,
        end: impl FnOnce(Subscribe<I>) -> Result<S, SubscribeError>,
    ) -> Result<S, AuditedError<SubscribeError>> {
        let name = wish.name().to_owned();
        let act = AuditAct::new("subscription.added", format!("subscription {name}")).after(format!("{wish:?}"));
        self.act(act, || end(wish))
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// See [`AuditedError`]; that there is no such subscription is recorded as of its id.
    pub fn unsubscribe(&self, id: SubscriptionId) -> Result<(), AuditedError<SubscribeError>> {
        let _alone = self.trail.0.changing();
        let (object, before) = self.subscription(id);
        let act = AuditAct::new("subscription.ended", object).changing(before, None);
        self.act(act, || self.trail.0.bus.unsubscribe(id))
    }

    /// Pauses a subscription.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn pause(&self, id: SubscriptionId) -> Result<(), AuditedError<SubscribeError>> {
        let _alone = self.trail.0.changing();
        let act = AuditAct::new("subscription.paused", self.subscription(id).0);
        self.act(act.before(self.running(id)).after("paused"), || self.trail.0.bus.pause(id))
    }

    /// Resumes a subscription.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn resume(&self, id: SubscriptionId) -> Result<(), AuditedError<SubscribeError>> {
        let _alone = self.trail.0.changing();
        let act = AuditAct::new("subscription.resumed", self.subscription(id).0);
        self.act(act.before(self.running(id)).after("running"), || self.trail.0.bus.resume(id))
    }

    fn running(&self, id: SubscriptionId) -> &'static str {
        match self.trail.0.bus.subscription(id) {
            Ok(record) if record.is_paused => "paused",
            Ok(_) => "running",
            Err(_) => "not there",
        }
    }

    /// What a subscription is called, and what it is.
    fn subscription(&self, id: SubscriptionId) -> (String, Option<String>) {
        match self.trail.0.bus.subscription(id) {
            Ok(SubscriptionRecord { name, pattern, handler_id, filters, .. }) => {
                let what = format!("{id}: {pattern} to {handler_id}, filters {filters}");
                (format!("subscription {name}"), Some(what))
            }
            Err(_) => (format!("subscription {id}"), None),
        }
    }

    /// Sends a dead letter to its subscription again.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn redrive(&self, letter: u64) -> Result<(), AuditedError<RedriveError>> {
        let _alone = self.trail.0.changing();
        let letters = self.trail.0.bus.dead_letters();
        let before = letters.get(letter).map(|letter| {
            let (meta, of, reason) = (letter.meta(), letter.subscription_name(), letter.reason());
            format!("{} {} of {of}: {reason}", meta.topic(), meta.id())
        });
        let act = AuditAct::new("letter.redriven", format!("dead letter {letter}"));
        self.act(act.changing(before, None), || letters.redrive(letter))
    }

    /// Sends dead letters to their subscriptions again, so far apart. The record has the ids of those that are meant now.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn redrive_all(
        &self,
        filter: &DeadLetterFilter,
        pause: Duration,
    ) -> Result<Redrive, AuditedError<RedriveError>> {
        let _alone = self.trail.0.changing();
        let act = AuditAct::new("letters.redriven", "dead letters").before(self.letters(filter));
        self.act(act, || self.trail.0.bus.dead_letters().redrive_all(filter, pause))
    }

    /// Removes dead letters. Returns how many. The record has the ids of those that are meant now.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn purge(&self, filter: &DeadLetterFilter) -> Result<usize, AuditedError<Infallible>> {
        let _alone = self.trail.0.changing();
        let act = AuditAct::new("letters.purged", "dead letters").before(self.letters(filter));
        self.act(act, || Ok(self.trail.0.bus.dead_letters().purge(filter)))
    }

    fn letters(&self, filter: &DeadLetterFilter) -> String {
        let ids: Vec<_> =
            self.trail.0.bus.dead_letters().list(filter).iter().map(|letter| letter.id().to_string()).collect();
        format!("{} letters: {}", ids.len(), ids.join(", "))
    }

    /// Does to old events of a store what a retention says. What is removed by it may be old records.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn keep(&self, store: &LogStore, retention: Retention) -> Result<Upkeep, AuditedError<Fault>> {
        let act = AuditAct::new("retention.applied", "store").after(format!("{retention:?}"));
        self.act(act, || store.keep(retention))
    }

    /// Sets the health of an instance of a service.
    ///
    /// # Errors
    /// See [`AuditedError`].
    pub fn update_service_health(
        &self,
        service: &str,
        instance: &str,
        health: ServiceHealth,
    ) -> Result<(), AuditedError<ServiceError>> {
        let _alone = self.trail.0.changing();
        let bus = &self.trail.0.bus;
        let known = bus.get_service(service).ok().map(|service| service.record());
        let known = known.and_then(|record| record.instances.into_iter().find(|one| one.name == instance));
        let before = known.map(|one| format!("{instance}: {:?}", one.health));
        let act = AuditAct::new("health.set", format!("service {service}"));
        let act = act.changing(before, Some(format!("{instance}: {health:?}")));
        self.act(act, || bus.update_service_health(service, instance, health))
    }
}

impl fmt::Debug for AuditActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditActor").field("name", &self.name).finish_non_exhaustive()
    }
}
