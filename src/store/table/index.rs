//! What the table holds, in memory: the last record of every key, and its value if it is short.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::super::state::{StateChange, StateKind};
use super::change::extent_bytes;
use super::error::ChangeError;
use super::options::TableOptions;

/// Values up to so many bytes are kept in memory.
const SHORT_BYTES_MAX: usize = 256;
/// Bytes that are looked at for compaction for each byte that is written while it is due.
pub(super) const PACE: u64 = 4;

/// The last record of a key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) position: u64,
    /// Bytes of the record's body: key and value.
    pub(super) body_bytes: usize,
    /// The value, if it is short.
    pub(super) short: Option<Box<[u8]>>,
}

impl Entry {
    fn extent_bytes(&self) -> u64 {
        extent_bytes(self.body_bytes)
    }
}

/// A key whose value is in memory, with it.
#[derive(Debug)]
pub(super) struct Short {
    pub(super) kind: StateKind,
    pub(super) key: Box<[u8]>,
    pub(super) value: Box<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    kinds: BTreeMap<StateKind, BTreeMap<Box<[u8]>, Entry>>,
    /// Changes that were begun and not ended.
    under_way: usize,
    /// Keys that were removed while other changes were under way, which may be older.
    removed: HashMap<(StateKind, Box<[u8]>), u64>,
    keys: usize,
    live_bytes: u64,
    /// Bytes of all records that were ever in the log while it was open, and of those that are no more.
    added_bytes: u64,
    retired_bytes: u64,
    /// Bytes that compaction is behind.
    debt_bytes: u64,
}

impl Index {
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of all records in the log.
    pub(super) fn log_bytes(&self) -> u64 {
        self.added_bytes.saturating_sub(self.retired_bytes)
    }

    pub(super) fn get(&self, kind: StateKind, key: &[u8]) -> Option<&Entry> {
        self.kinds.get(&kind)?.get(key)
    }

    /// The first key of a kind from a bound on.
    pub(super) fn first(&self, kind: StateKind, from: Bound<&[u8]>) -> Option<&[u8]> {
        let keys = self.kinds.get(&kind)?;
        keys.range::<[u8], _>((from, Bound::Unbounded)).next().map(|(key, _)| &**key)
    }

    /// All entries, with what their keys are the keys of.
    pub(super) fn entries(&self) -> impl Iterator<Item = (StateKind, &Entry)> {
        self.kinds.iter().flat_map(|(kind, keys)| keys.values().map(|entry| (*kind, entry)))
    }

    /// Whether a record is the last of its key.
    pub(super) fn is_live(&self, kind: StateKind, key: &[u8], position: u64) -> bool {
        self.get(kind, key).is_some_and(|entry| entry.position == position)
    }

    /// Changes are about to be appended.
    pub(super) fn begin(&mut self, changes: &[StateChange<'_>], options: &TableOptions) -> Result<(), ChangeError> {
        let (mut more_keys, mut more_bytes) = (0, 0);
        for change in changes.iter().filter(|change| change.value().is_some()) {
            let old = self.get(change.kind(), change.key());
            more_keys += usize::from(old.is_none());
            more_bytes += change.extent_bytes().saturating_sub(old.map_or(0, Entry::extent_bytes));
        }
        let (keys, max) = (self.keys + more_keys, options.keys_max);
        if more_keys > 0 && keys > max {
            return Err(ChangeError::TooManyKeys { keys, max });
        }
        let (live_bytes, max) = (self.live_bytes + more_bytes, options.live_bytes_max);
        if more_bytes > 0 && live_bytes > max {
            return Err(ChangeError::TooManyBytes { live_bytes, max });
        }
        self.under_way += 1;
        Ok(())
    }

    /// Changes were appended from a position on, or were not.
    pub(super) fn end(&mut self, first: Option<u64>, changes: &[StateChange<'_>]) {
        self.under_way -= 1;
        if let Some(first) = first {
            changes.iter().zip(first..).for_each(|(change, position)| self.apply(change, position));
        }
        if self.under_way == 0 {
            // No change can come that is older than a removal.
            self.removed.clear();
        }
    }

    /// The record at a position says this. Records of a key may come in any order while changes are under way.
    pub(super) fn apply(&mut self, change: &StateChange<'_>, position: u64) {
        self.added_bytes += change.extent_bytes();
        let (kind, key) = (change.kind(), change.key());
        if self.removed_at(kind, key).is_some_and(|removed| removed > position) {
            return;
        }
        let keys = self.kinds.entry(kind).or_default();
        let old = keys.get_mut(key);
        if old.as_ref().is_some_and(|old| old.position > position) {
            return;
        }
        if let Some(value) = change.value() {
            let short = (value.len() <= SHORT_BYTES_MAX).then(|| value.into());
            let entry = Entry { position, body_bytes: key.len() + value.len(), short };
            self.live_bytes += entry.extent_bytes();
            match old {
                Some(old) => self.live_bytes -= std::mem::replace(old, entry).extent_bytes(),
                None => {
                    keys.insert(key.into(), entry);
                    self.keys += 1;
                }
            }
        } else {
            if let Some(old) = keys.remove(key) {
                self.live_bytes -= old.extent_bytes();
                self.keys -= 1;
            }
            if self.under_way > 0 {
                self.removed.insert((kind, key.into()), position);
            }
        }
    }

    fn removed_at(&self, kind: StateKind, key: &[u8]) -> Option<u64> {
        if self.removed.is_empty() {
            return None;
        }
        self.removed.get(&(kind, key.into())).copied()
    }

    /// A live record was copied to another position.
    pub(super) fn moved(&mut self, kind: StateKind, key: &[u8], position: u64) {
        let entry = self.kinds.get_mut(&kind).and_then(|keys| keys.get_mut(key)).expect("what is copied is live");
        entry.position = position;
        self.added_bytes += extent_bytes(entry.body_bytes);
    }

    /// Forgets the keys whose records are before a position and whose values are not in memory; gives the others there.
    pub(super) fn give_up_before(&mut self, end: u64) -> Vec<Short> {
        let mut kept = Vec::new();
        for (kind, keys) in &mut self.kinds {
            keys.retain(|key, entry| match &entry.short {
                _ if entry.position >= end => true,
                Some(short) => {
                    kept.push(Short { kind: *kind, key: key.clone(), value: short.clone() });
                    true
                }
                None => {
                    self.keys -= 1;
                    self.live_bytes -= entry.extent_bytes();
                    false
                }
            });
        }
        kept
    }

    /// A segment went that had so many bytes of records.
    pub(super) fn retired(&mut self, bytes: u64) {
        self.retired_bytes += bytes;
    }

    /// The log has so many bytes of records.
    pub(super) fn set_log_bytes(&mut self, bytes: u64) {
        (self.added_bytes, self.retired_bytes) = (bytes, 0);
    }

    /// Whether more is dead than live and a segment.
    fn is_due(&self, segment_bytes: u64) -> bool {
        self.log_bytes() > 2 * self.live_bytes + segment_bytes
    }

    /// So many bytes were written: says how many bytes compaction is behind in all.
    pub(super) fn owe(&mut self, bytes: u64, segment_bytes: u64) -> u64 {
        if self.is_due(segment_bytes) {
            self.debt_bytes += PACE * bytes;
        } else {
            self.debt_bytes = 0;
        }
        self.debt_bytes
    }

    /// So many bytes were looked at: says how many it is still behind.
    pub(super) fn pay(&mut self, bytes: u64, segment_bytes: u64) -> u64 {
        let left = self.debt_bytes.saturating_sub(bytes);
        self.debt_bytes = if self.is_due(segment_bytes) { left } else { 0 };
        self.debt_bytes
    }

    /// Nothing can be looked at now.
    pub(super) fn forgive(&mut self) {
        self.debt_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn changes_under_way_together_come_to_the_same_in_any_order(
            values in prop::collection::vec((0u8..3, prop::option::of(0usize..600)), 1..12),
            order in any::<prop::sample::Index>(),
            stride in any::<prop::sample::Index>(),
        ) {
            let bytes = vec![7; 600];
            let kind = StateKind::CURSOR;
            let changes: Vec<_> = values.iter().map(|(key, length)| {
                let key = std::slice::from_ref(key);
                match length {
                    Some(length) => [StateChange::Put { kind, key, value: &bytes[..*length] }],
                    None => [StateChange::Remove { kind, key }],
                }
            }).collect();
            let state = |index: &Index| {
                let at = |key: u8| index.get(kind, &[key]).map(|entry| (entry.position, entry.body_bytes));
                ([0, 1, 2].map(at), index.keys(), index.live_bytes(), index.log_bytes())
            };
            let mut in_order = Index::default();
            for (change, position) in changes.iter().zip(1..) {
                in_order.apply(&change[0], position);
            }
            // All are begun, then ended in an order of their own: a walk through a prime field.
            let mut index = Index::default();
            for change in &changes {
                index.begin(change, &TableOptions::default()).expect("there is room");
            }
            let (start, stride) = (order.index(13), 1 + stride.index(12));
            for nth in (0..13).map(|turn| (start + turn * stride) % 13).filter(|nth| *nth < changes.len()) {
                index.end(Some(nth as u64 + 1), &changes[nth]);
            }
            prop_assert_eq!(state(&index), state(&in_order));
            prop_assert!(index.removed.is_empty(), "nothing is remembered of what is over");
        }
    }
}
