//! What the table holds, in memory: the last record of every key, and its value if it is short.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::super::state::{PageRoom, StateChange, StateKind, StateValue};
use super::change::extent_bytes;
use super::error::ChangeError;
use super::options::TableOptions;

/// Values up to so many bytes are kept in memory.
const SHORT_BYTES_MAX: usize = 256;
/// Bytes that are looked at for compaction for each byte that is written while it is due.
pub(super) const PACE: u64 = 4;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) position: u64,
    /// In its segment, which has at most 4 GiB.
    pub(super) offset: u32,
}

impl Spot {
    pub(super) fn new(position: u64, offset: u64) -> Self {
        Self { position, offset: u32::try_from(offset).expect("a segment has at most 4 GiB") }
    }
}

/// The last record of a key.
#[derive(Debug)]
pub(super) struct Entry {
    spot: Spot,
    /// Bytes of the record's body: key and value.
    body_bytes: u32,
    /// The value, if it is short.
    short: Option<Box<[u8]>>,
}

impl Entry {
    pub(super) fn body_bytes(&self) -> usize {
        self.body_bytes as usize
    }

    fn extent_bytes(&self) -> u64 {
        extent_bytes(self.body_bytes())
    }

    /// Its value, or where that is.
    pub(super) fn stored(&self) -> Stored {
        match &self.short {
            Some(value) => Stored::Here(StateValue::copied_from(value)),
            None => Stored::There { spot: self.spot, bytes: self.extent_bytes() as usize },
        }
    }
}

/// A value, or where it is.
#[derive(Debug)]
pub(super) enum Stored {
    Here(StateValue),
    /// In a record of so many bytes.
    There {
        spot: Spot,
        bytes: usize,
    },
}

/// Keys of a kind in order, each with its value or where that is, and where to go on.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) entries: Vec<(Box<[u8]>, Stored)>,
    pub(super) next: Option<Box<[u8]>>,
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
    removed: HashMap<(StateKind, Box<[u8]>), Spot>,
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

    /// The keys of a kind from one on, as many as there is room for.
    pub(super) fn list(&self, kind: StateKind, from: &[u8], mut room: PageRoom) -> Listed {
        let mut listed = Listed { entries: Vec::new(), next: None };
        let keys = self.kinds.get(&kind).into_iter();
        for (key, entry) in keys.flat_map(|keys| keys.range::<[u8], _>((Bound::Included(from), Bound::Unbounded))) {
            if !room.take(entry.body_bytes()) {
                listed.next = Some(key.clone());
                break;
            }
            listed.entries.push((key.clone(), entry.stored()));
        }
        listed
    }

    /// All entries, with what their keys are the keys of.
    pub(super) fn entries(&self) -> impl Iterator<Item = (StateKind, &Entry)> {
        self.kinds.iter().flat_map(|(kind, keys)| keys.values().map(|entry| (*kind, entry)))
    }

    /// Whether a record is the last of its key.
    pub(super) fn is_live(&self, kind: StateKind, key: &[u8], position: u64) -> bool {
        self.get(kind, key).is_some_and(|entry| entry.spot.position == position)
    }

    /// Changes are about to be appended.
    pub(super) fn begin(&mut self, changes: &[StateChange<'_>], options: &TableOptions) -> Result<(), ChangeError> {
        // Of several changes of a key the last holds.
        let last: HashMap<_, _> = changes.iter().map(|change| ((change.kind(), change.key()), change)).collect();
        let (mut keys, mut live_bytes) = (self.keys, self.live_bytes);
        for change in last.values().filter(|change| change.value().is_some()) {
            keys += 1;
            live_bytes += change.extent_bytes();
        }
        for old in last.keys().filter_map(|(kind, key)| self.get(*kind, key)) {
            keys -= 1;
            live_bytes -= old.extent_bytes();
        }
        let max = options.keys_max;
        if keys > self.keys && keys > max {
            return Err(ChangeError::TooManyKeys { keys, max });
        }
        let max = options.live_bytes_max;
        if live_bytes > self.live_bytes && live_bytes > max {
            return Err(ChangeError::TooManyBytes { live_bytes, max });
        }
        self.under_way += 1;
        Ok(())
    }

    /// Changes were appended, each to its spot, or were not.
    pub(super) fn end(&mut self, spots: impl IntoIterator<Item = Spot>, changes: &[StateChange<'_>]) {
        self.under_way -= 1;
        changes.iter().zip(spots).for_each(|(change, spot)| self.apply(change, spot));
        if self.under_way == 0 {
            // No change can come that is older than a removal.
            self.removed.clear();
        }
    }

    /// The record at a spot says this. Records of a key may come in any order while changes are under way.
    pub(super) fn apply(&mut self, change: &StateChange<'_>, spot: Spot) {
        self.added_bytes += change.extent_bytes();
        let (kind, key) = (change.kind(), change.key());
        if self.removed_at(kind, key).is_some_and(|removed| removed > spot) {
            return;
        }
        let keys = self.kinds.entry(kind).or_default();
        let old = keys.get_mut(key);
        if old.as_ref().is_some_and(|old| old.spot > spot) {
            return;
        }
        if let Some(value) = change.value() {
            let short = (value.len() <= SHORT_BYTES_MAX).then(|| value.into());
            // The log takes no longer body.
            let entry = Entry { spot, body_bytes: (key.len() + value.len()) as u32, short };
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
                self.removed.insert((kind, key.into()), spot);
            }
        }
    }

    fn removed_at(&self, kind: StateKind, key: &[u8]) -> Option<Spot> {
        if self.removed.is_empty() {
            return None;
        }
        self.removed.get(&(kind, key.into())).copied()
    }

    /// A live record was copied to another spot.
    pub(super) fn moved(&mut self, kind: StateKind, key: &[u8], spot: Spot) {
        let entry = self.kinds.get_mut(&kind).and_then(|keys| keys.get_mut(key)).expect("what is copied is live");
        entry.spot = spot;
        self.added_bytes += entry.extent_bytes();
    }

    /// Forgets the keys whose records are before a position and whose values are not in memory; gives the others there.
    pub(super) fn give_up_before(&mut self, end: u64) -> Vec<Short> {
        let mut kept = Vec::new();
        for (kind, keys) in &mut self.kinds {
            keys.retain(|key, entry| match &entry.short {
                _ if entry.spot.position >= end => true,
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
                let at = |key: u8| index.get(kind, &[key]).map(|entry| (entry.spot, entry.body_bytes));
                ([0, 1, 2].map(at), index.keys(), index.live_bytes(), index.log_bytes())
            };
            let mut in_order = Index::default();
            for (change, position) in changes.iter().zip(1..) {
                in_order.apply(&change[0], Spot::new(position, position));
            }
            // All are begun, then ended in an order of their own: a walk through a prime field.
            let mut index = Index::default();
            for change in &changes {
                index.begin(change, &TableOptions::default()).expect("there is room");
            }
            let (start, stride) = (order.index(13), 1 + stride.index(12));
            for nth in (0..13).map(|turn| (start + turn * stride) % 13).filter(|nth| *nth < changes.len()) {
                index.end([Spot::new(nth as u64 + 1, nth as u64 + 1)], &changes[nth]);
            }
            prop_assert_eq!(state(&index), state(&in_order));
            prop_assert!(index.removed.is_empty(), "nothing is remembered of what is over");
        }
    }
}
