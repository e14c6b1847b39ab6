//! Routing rules outlive the process: each is kept as state of the store, as JSON by its id.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::PoisonError;

use super::super::rule_form::RuleForm;
use super::Core;
use crate::store::{
    Durability, STATE_CHANGES_MAX, STATE_PAGE_MAX, StateChange, StateError, StateKind, StateReadError, StateStore,
};
use crate::{RuleError, RuleSet, RulesError};

const KIND: StateKind = StateKind::own(1);

/// Why rules were not kept, or not found again.
#[derive(Debug)]
pub(in super::super) enum KeptRulesError {
    /// The store could not be read.
    Read(StateReadError),
    /// The store was not changed.
    Change(StateError),
    /// A rule is not as it was written, or of a newer program.
    Rule {
        /// Its id.
        id: String,
        /// What is wrong with it.
        error: String,
    },
}

impl fmt::Display for KeptRulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "the rules cannot be read: {error}"),
            Self::Change(error) => write!(f, "the rules are in force, and were not kept: {error}"),
            Self::Rule { id, error } => {
                write!(f, "the rule {id:?} is not as it was written, or of a newer program; use that: {error}")
            }
        }
    }
}

type Kept = BTreeMap<Vec<u8>, Vec<u8>>;

/// All rules that a store has, by their ids.
fn kept(state: &dyn StateStore) -> Result<Kept, KeptRulesError> {
    let (mut rules, mut from) = (Kept::new(), Vec::new());
    loop {
        let page = state.list(KIND, &from, STATE_PAGE_MAX).map_err(KeptRulesError::Read)?;
        for (key, value) in &page.entries {
            rules.insert(key.to_vec(), value.to_vec());
        }
        match page.next {
            Some(next) => from = next.to_vec(),
            None => return Ok(rules),
        }
    }
}

/// The rules that an earlier process has left.
///
/// # Errors
/// When one cannot be read: to go on without it would send events elsewhere.
pub(super) fn restored(state: &dyn StateStore) -> Result<RuleSet, KeptRulesError> {
    let mut rules = Vec::new();
    for (key, value) in kept(state)? {
        let wrong = |error: String| KeptRulesError::Rule { id: String::from_utf8_lossy(&key).into_owned(), error };
        let form: RuleForm = serde_json::from_slice(&value).map_err(|error| wrong(error.to_string()))?;
        rules.push(form.rule().map_err(wrong)?);
    }
    RuleSet::new(rules).map_err(|error: RuleError| KeptRulesError::Rule { id: String::new(), error: error.to_string() })
}

impl Core {
    /// Keeps the rules as they are now.
    ///
    /// # Errors
    /// See [`KeptRulesError`].
    pub(in super::super) fn keep_rules(&self) -> Result<(), KeptRulesError> {
        let _one = self.keeping_rules.lock().unwrap_or_else(PoisonError::into_inner);
        let written =
            |form: RuleForm| (form.id.clone().into_bytes(), serde_json::to_vec(&form).expect("it has no map"));
        let now: Kept = self.bus.rules().list().iter().map(|rule| written(RuleForm::from(rule))).collect();
        let before = kept(&*self.state_store)?;
        let gone = before.keys().filter(|key| !now.contains_key(*key));
        let gone = gone.map(|key| StateChange::Remove { kind: KIND, key });
        let other = now.iter().filter(|(key, value)| before.get(*key) != Some(value));
        let other = other.map(|(key, value)| StateChange::Put { kind: KIND, key, value });
        let changes: Vec<_> = gone.chain(other).collect();
        for changes in changes.chunks(STATE_CHANGES_MAX / 2) {
            self.state_store.apply(changes, Durability::Durable).map_err(KeptRulesError::Change)?;
        }
        Ok(())
    }
}

/// Puts them in force.
pub(super) fn enforce(bus: &crate::Bus, rules: RuleSet) -> Result<(), RulesError> {
    if rules.rules().len() == 0 { Ok(()) } else { bus.rules().replace(rules) }
}
