//! The routing rules of a bus: to look at, to change while it runs, to try before they are changed.

use std::fmt;
use std::sync::Arc;

use crate::event::Meta;
use crate::routing::{RoutingRule, RuleChange, RuleError, RuleSet, RuleVerdict};
use crate::worker::on_worker_thread;

use super::control::WorkerStuck;
use super::{Bus, Shared};

impl Bus {
    /// The rules that send events to services.
    pub fn rules(&self) -> Rules {
        Rules { shared: Arc::clone(self.shared()) }
    }
}

/// The rules of a bus.
///
/// An event without targets goes to the services that all rules name which match it, to each once; those of rules with a higher
/// priority get it first, and rules of one priority go by their ids. An event with [targets](crate::Outgoing::target) goes to
/// those and to no other service. Rules do not touch subscriptions by pattern. A rule may name a service that is made later.
///
/// A change is in force when it returns, for events published from then on and for those that no worker has looked at yet.
///
/// ```
/// use ringmain::{Bus, Condition, RoutingRule};
///
/// let bus = Bus::builder().build()?;
/// let rules = bus.rules();
/// rules.add(RoutingRule::new("all").to("archive"))?;
/// rules.add(RoutingRule::new("large").types(["orders.*"]).when(Condition::metadata("size").equals("l")).to("freight"))?;
/// rules.disable("all")?;
/// assert_eq!(rules.list().len(), 2);
///
/// // What would another rule change? Nothing is changed by asking.
/// let other = rules.set().with(RoutingRule::new("small").types(["orders.*"]).to("parcels")).unwrap();
/// assert!(rules.diff(&other, []).is_empty(), "no samples, no changes");
/// rules.replace(other)?;
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
#[derive(Clone)]
pub struct Rules {
    shared: Arc<Shared>,
}

impl Rules {
    /// All of them in the order of their evaluation, those that are not enabled too.
    pub fn list(&self) -> Vec<RoutingRule> {
        self.set().rules().cloned().collect()
    }

    /// All of them as they stand: a copy, to make another set of.
    pub fn set(&self) -> RuleSet {
        self.shared.control().rules.clone()
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// [`RuleError::DuplicateId`] when there is one of its id, and what else may be wrong with it; see [`RulesError`].
    pub fn add(&self, rule: RoutingRule) -> Result<(), RulesError> {
        self.apply(|rules| match rules.get(&rule.id) {
            Some(_) => Err(RuleError::DuplicateId { rule: rule.id }),
            None => rules.with(rule),
        })
    }

    /// Puts a rule in the place of the one of its id.
    ///
    /// # Errors
    /// [`RuleError::Unknown`] when there is none, and what else may be wrong with it; see [`RulesError`].
    pub fn change(&self, rule: RoutingRule) -> Result<(), RulesError> {
        self.apply(|rules| match rules.get(&rule.id) {
            Some(_) => rules.with(rule),
            None => Err(RuleError::Unknown { rule: rule.id }),
        })
    }

    /// Enables the rule of this id.
    ///
    /// # Errors
    /// When there is none; see [`RulesError`].
    pub fn enable(&self, id: &str) -> Result<(), RulesError> {
        self.apply(|rules| rules.with_enabled(id, true))
    }

    /// Keeps the rule of this id, and lets it match nothing.
    ///
    /// # Errors
    /// When there is none; see [`RulesError`].
    pub fn disable(&self, id: &str) -> Result<(), RulesError> {
        self.apply(|rules| rules.with_enabled(id, false))
    }

    /// Removes the rule of this id.
    ///
    /// # Errors
    /// When there is none; see [`RulesError`].
    pub fn remove(&self, id: &str) -> Result<(), RulesError> {
        self.apply(|rules| rules.without(id))
    }

    /// Puts these rules in the place of all there are, at once.
    ///
    /// # Errors
    /// See [`RulesError`].
    pub fn replace(&self, rules: RuleSet) -> Result<(), RulesError> {
        self.apply(|_| Ok(rules))
    }

    fn apply(&self, change: impl FnOnce(&RuleSet) -> Result<RuleSet, RuleError>) -> Result<(), RulesError> {
        if on_worker_thread() {
            return Err(RulesError::OnWorker);
        }
        self.shared.change_rules(change)
    }

    /// Which of the sample events would go to other services by the rules in `other`, or to the same in another order. Targets
    /// of the samples' own are not looked at. Nothing is changed.
    pub fn diff<'a>(&self, other: &RuleSet, samples: impl IntoIterator<Item = Meta<'a>>) -> Vec<RuleChange> {
        let set = self.set();
        let other = other.clone().reading_at_most(set.payload_bytes_max());
        set.diff(&other, samples)
    }

    /// Says for each rule, in order, why it matches the event or not.
    pub fn explain(&self, event: &Meta<'_>) -> Vec<RuleVerdict> {
        self.set().explain(event)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("set", &self.set()).finish()
    }
}

/// Why rules were not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RulesError {
    /// Something is wrong with the rule; the rules are as they were.
    Rule(RuleError),
    /// Called on a worker, which cannot wait for itself; the rules are as they were. Do it from another thread.
    OnWorker,
    /// A worker did not take the change over in time, for a handler on it has not returned. The change stands, and the worker
    /// goes by it when it has.
    WorkerStuck {
        /// Which.
        worker: usize,
    },
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(error) => error.fmt(f),
            Self::OnWorker => f.write_str("rules cannot be changed on a worker thread; do it from another"),
            Self::WorkerStuck { worker } => write!(
                f,
                "worker {worker} did not take the rules over in time; a handler on it has not returned: keep inline handlers short, or use handle_on"
            ),
        }
    }
}

impl std::error::Error for RulesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rule(error) => Some(error),
            Self::OnWorker | Self::WorkerStuck { .. } => None,
        }
    }
}

impl From<RuleError> for RulesError {
    fn from(error: RuleError) -> Self {
        Self::Rule(error)
    }
}

impl From<WorkerStuck> for RulesError {
    fn from(stuck: WorkerStuck) -> Self {
        Self::WorkerStuck { worker: stuck.worker }
    }
}
