//! Tables beside a map that says what they hold, and workloads by chance.

use std::collections::BTreeMap;

use ringmain::internals::store::Word;
use ringmain::internals::store::table::{ChangeError, OpenError, Opened, PageRoom, Table, TableOptions};
use ringmain::store::{StateChange, StateKind, StateValue};

use crate::support::{Chance, FOLDER, Shareable};

pub(crate) const KINDS: [StateKind; 3] = [StateKind::CURSOR, StateKind::SAGA, StateKind::TIMER];

/// What a table holds.
pub(crate) type Map = BTreeMap<(StateKind, Vec<u8>), Vec<u8>>;

/// Small segments, so that a workload has many.
pub(crate) fn small() -> TableOptions {
    let mut options = TableOptions::default();
    options.segment_bytes = 4_096;
    options.key_bytes_max = 100;
    options.value_bytes_max = 2_900;
    options
}

pub(crate) fn open(disk: &impl Shareable, options: TableOptions) -> Result<(Table, Opened), OpenError> {
    Table::open(disk.shared(), FOLDER, options)
}

/// A change that owns its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) kind: StateKind,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Owned {
    /// By chance: one of 24 keys; a third is removed, some have long values.
    pub(crate) fn by_chance(chance: &mut Chance) -> Self {
        let kind = KINDS[chance.below(3) as usize];
        let key = vec![b'a'; chance.below(8) as usize];
        let length = match chance.below(12) {
            0..4 => None,
            4 => Some(600 + chance.below(400)),
            5 => Some(250 + chance.below(12)),
            _ => Some(chance.below(60)),
        };
        let value = length.map(|length| (0..length).map(|_| chance.below(256) as u8).collect());
        Self { kind, key, value }
    }

    pub(crate) fn change(&self) -> StateChange<'_> {
        let (kind, key) = (self.kind, &self.key[..]);
        match &self.value {
            Some(value) => StateChange::Put { kind, key, value },
            None => StateChange::Remove { kind, key },
        }
    }

    pub(crate) fn apply(&self, map: &mut Map) {
        let key = (self.kind, self.key.clone());
        match &self.value {
            Some(value) => map.insert(key, value.clone()),
            None => map.remove(&key),
        };
    }
}

pub(crate) fn apply(table: &Table, changes: &[Owned], word: Word) -> Result<(), ChangeError> {
    let changes: Vec<_> = changes.iter().map(Owned::change).collect();
    table.apply(&changes, word)
}

/// The keys of a kind with their values from a key on, read by small pages.
pub(crate) fn entries(table: &Table, kind: StateKind, from: &[u8]) -> Vec<(Box<[u8]>, StateValue)> {
    let (mut found, mut from) = (Vec::new(), Some(Box::from(from)));
    while let Some(at) = from {
        let page = table.page(kind, &at, PageRoom::of(3).expect("a page may have 3")).expect("it can be read");
        assert!(page.entries.len() <= 3);
        found.extend(page.entries);
        from = page.next;
    }
    found
}

/// All that a table holds, by its order of keys; each read once more by its key.
pub(crate) fn read_all(table: &Table) -> Map {
    let mut map = Map::new();
    for kind in KINDS {
        let mut last: Option<Box<[u8]>> = None;
        for (key, value) in entries(table, kind, &[]) {
            assert!(last.as_ref().is_none_or(|last| *last < key), "keys are in order");
            assert_eq!(value.as_ptr().addr() % 16, 0, "a value is aligned");
            let again = table.get(kind, &key).expect("it can be read").expect("it is there");
            assert_eq!(*again, *value);
            map.insert((kind, key.to_vec()), value.to_vec());
            last = Some(key);
        }
    }
    map
}
