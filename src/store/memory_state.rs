//! State in memory, beside the events of the same store.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::PoisonError;

use super::state::{
    self, STATE_BATCH_BYTES_MAX, StateChange, StateError, StateKind, StatePage, StateReadError, StateStore, StateValue,
};
use super::{Durability, Lease, LeaseError, MemoryStore};

/// Bytes that an entry is taken to need beside its key and value.
const ENTRY_BYTES: u64 = 64;

/// Values by kind and key.
#[derive(Default)]
pub(super) struct States {
    kinds: HashMap<StateKind, BTreeMap<Box<[u8]>, StateValue>>,
    pub(super) bytes: u64,
}

impl States {
    fn value(&self, kind: StateKind, key: &[u8]) -> Option<&StateValue> {
        self.kinds.get(&kind)?.get(key)
    }

    /// Bytes that a key takes with its value, if it has one.
    fn bytes_of(&self, kind: StateKind, key: &[u8]) -> u64 {
        self.value(kind, key).map_or(0, |value| entry_bytes(key, value))
    }
}

fn entry_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + ENTRY_BYTES
}

impl StateStore for MemoryStore {
    fn apply(&self, changes: &[StateChange<'_>], durability: Durability) -> Result<(), StateError> {
        state::check(changes, STATE_BATCH_BYTES_MAX, durability, self.state_durability())?;
        // The last change of a key holds.
        let last: HashMap<_, _> =
            changes.iter().map(|change| ((change.kind(), change.key()), change.value())).collect();
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        let freed: u64 = last.keys().map(|(kind, key)| states.bytes_of(*kind, key)).sum();
        let added: u64 = last.iter().filter_map(|((_, key), value)| Some(entry_bytes(key, (*value)?))).sum();
        let (needed, max) = (states.bytes - freed + added, self.state_bytes_max);
        if added > freed && needed > max {
            return Err(StateError::Full { limit: "state_bytes_max", needed, max });
        }
        states.bytes = needed;
        for ((kind, key), value) in last {
            let entries = states.kinds.entry(kind).or_default();
            match value {
                Some(value) => drop(entries.insert(key.into(), StateValue::copied_from(value))),
                None => drop(entries.remove(key)),
            }
        }
        Ok(())
    }

    fn get(&self, kind: StateKind, key: &[u8]) -> Result<Option<StateValue>, StateReadError> {
        Ok(self.states.read().unwrap_or_else(PoisonError::into_inner).value(kind, key).cloned())
    }

    fn list(&self, kind: StateKind, from: &[u8], limit: usize) -> Result<StatePage, StateReadError> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        let entries = states.kinds.get(&kind).into_iter();
        let entries = entries.flat_map(|entries| entries.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)));
        StatePage::collect(entries.map(|(key, value)| Ok((key.clone(), value.clone()))), limit)
    }

    fn state_durability(&self) -> Durability {
        self.durability
    }

    fn lease(&self, name: &str) -> Result<Lease, LeaseError> {
        self.leases.take(name)
    }
}
