//! What every store of state promises, run against stores made by a closure.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ringmain::store::{
    Durability, LeaseError, LogStore, MemoryStore, STATE_BATCH_BYTES_MAX, STATE_CHANGES_MAX, STATE_KEY_BYTES_MAX,
    STATE_PAGE_BYTES, STATE_PAGE_MAX, STATE_VALUE_BYTES_MAX, StateChange, StateError, StateKind, StateReadError,
    StateStore,
};

use crate::folder::Folder;

/// Makes an empty store.
pub(crate) type Make<'a> = &'a dyn Fn() -> Box<dyn StateStore>;

const KIND: StateKind = StateKind::own(1);
const OTHER: StateKind = StateKind::SAGA;

/// Every promise, one after the other.
///
/// # Panics
/// When one is broken.
pub(crate) fn run(make: Make<'_>) {
    a_store_is_a_sorted_map_of_each_kind(make);
    changes_are_made_together_or_not_at_all(make);
    the_longest_key_and_value_come_back_as_they_were(make);
    a_page_is_bounded_in_entries_and_bytes(make);
    readers_see_whole_batches(make);
    pages_are_of_one_moment(make);
    a_name_has_one_owner_until_it_is_given_back(make);
}

fn a_name_has_one_owner_until_it_is_given_back(make: Make<'_>) {
    let store = make();
    let first = store.lease("the name").unwrap();
    let refused = store.lease("the name").unwrap_err();
    let owner = format!("process {}", std::process::id());
    assert!(
        matches!(&refused, LeaseError::Taken { name, owner: by } if name == "the name" && *by == owner),
        "{refused}"
    );
    let other = store.lease("the name \0").unwrap();
    let put = [StateChange::Put { kind: KIND, key: b"a", value: b"1" }];
    store.apply_under(&first, &put, store.state_durability()).unwrap();
    store.apply_under(&other, &[], store.state_durability()).unwrap();
    assert!(store.get(KIND, b"a").unwrap().is_some());
    let term = first.term();
    drop(first);
    let second = store.lease("the name").unwrap();
    assert!(second.term() > term || second.term() == 0, "{term}, then {}", second.term());
}

#[test]
fn the_store_in_memory_is_a_store_of_state() {
    run(&|| Box::new(MemoryStore::new()));
}

#[test]
fn the_store_on_disk_is_a_store_of_state() {
    let folder = Folder::new("states");
    let stores = Cell::new(0);
    run(&|| {
        stores.set(stores.get() + 1);
        // The least room that the longest changes have.
        let builder = LogStore::builder(folder.0.join(stores.get().to_string())).snapshot_state_bytes_max(1_000);
        Box::new(builder.open().expect("the disk works"))
    });
}

#[test]
fn a_store_in_memory_bounds_its_state_and_says_what_it_does_not_keep() {
    let store = MemoryStore::new().state_bytes_max(2 * (64 + 10));
    let put = |key, value| StateChange::Put { kind: KIND, key, value };
    store.apply(&[put(b"a", b"123456789"), put(b"b", b"123456789")], Durability::Accepted).unwrap();
    let refused = store.apply(&[put(b"a", b"1234567890")], Durability::Accepted).unwrap_err();
    assert!(matches!(refused, StateError::Full { needed: 149, max: 148, .. }), "{refused:?}");
    assert_eq!(refused.to_string(), "the store is full: 149 would be needed, the limit is 148; raise state_bytes_max");
    let remove = StateChange::Remove { kind: KIND, key: b"b" };
    store.apply(&[put(b"c", b"12"), put(b"a", b"1234"), remove], Durability::Accepted).unwrap();
    assert!(store.get(KIND, b"b").unwrap().is_none(), "what is removed makes room");
    let refused = store.apply(&[remove], Durability::Written).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "state was to be written, this store keeps it accepted at best; ask for less, or use a store on disk"
    );
}

#[test]
fn a_store_on_disk_bounds_its_state_and_says_which_limit() {
    let folder = Folder::new("state-limits");
    let builder = LogStore::builder(&folder.0).state_keys_max(2).state_bytes_max(3_000);
    let store = builder.clone().state_batch_bytes_max(2_000).open().unwrap();
    let put = |key, value| StateChange::Put { kind: KIND, key, value };
    let refused = |store: &LogStore, changes: &[StateChange<'_>]| {
        store.apply(changes, Durability::Written).expect_err("it is over a limit").to_string()
    };
    assert_eq!(
        refused(&store, &[put(b"a", &[1; 2_000])]),
        "2001 bytes were given to change in one piece, the limit is 2000; split the changes, or raise state_batch_bytes_max"
    );
    store.apply(&[put(b"a", &[1; 1_900])], Durability::Durable).unwrap();
    assert_eq!(
        refused(&store, &[put(b"b", &[1; 1_900])]),
        "the store is full: 3936 would be needed, the limit is 3000; raise state_bytes_max"
    );
    store.apply(&[put(b"b", b"")], Durability::Accepted).unwrap();
    assert_eq!(
        refused(&store, &[put(b"c", b"")]),
        "the store is full: 3 would be needed, the limit is 2; raise state_keys_max"
    );
    let remove = StateChange::Remove { kind: KIND, key: b"b" };
    store.apply(&[put(b"c", b""), remove], Durability::Written).expect("what is removed makes room");
    drop(store);
    let shrunk = builder.state_batch_bytes_max(500).snapshot_state_bytes_max(100).open().unwrap_err();
    assert_eq!(
        shrunk.to_string(),
        "what is kept beside the log cannot be used: \
         a kind 65537 is 1901 bytes with its key, there is room for 1524; raise state_batch_bytes_max"
    );
}

fn apply(store: &dyn StateStore, changes: &[StateChange<'_>]) -> Result<(), StateError> {
    store.apply(changes, store.state_durability())
}

/// All keys of a kind with their values, from a key on, read by pages of this many.
fn all(store: &dyn StateStore, kind: StateKind, from: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut found, mut from) = (Vec::new(), from.to_vec());
    loop {
        let page = store.list(kind, &from, limit).unwrap();
        assert!(page.entries.len() <= limit);
        found.extend(page.entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        match page.next {
            Some(next) => from = next.into_vec(),
            None => return found,
        }
    }
}

fn a_store_is_a_sorted_map_of_each_kind(make: Make<'_>) {
    let key = || prop::collection::vec(prop::sample::select(vec![0_u8, 1, 255]), 0..4);
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    let batch = prop::collection::vec((any::<bool>(), key(), value), 0..6);
    let cases = (prop::collection::vec(batch, 1..12), key(), 1_usize..5);
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let stores = RefCell::new(0);
    runner
        .run(&cases, |(batches, from, limit)| {
            *stores.borrow_mut() += 1;
            let store = make();
            let mut model = [BTreeMap::new(), BTreeMap::new()];
            for batch in &batches {
                let changes: Vec<_> = batch
                    .iter()
                    .map(|(other, key, value)| {
                        let kind = if *other { OTHER } else { KIND };
                        match value {
                            Some(value) => StateChange::Put { kind, key, value },
                            None => StateChange::Remove { kind, key },
                        }
                    })
                    .collect();
                apply(&*store, &changes).unwrap();
                for (other, key, value) in batch {
                    let model = &mut model[usize::from(*other)];
                    match value {
                        Some(value) => drop(model.insert(key.clone(), value.clone())),
                        None => drop(model.remove(key)),
                    }
                }
            }
            for (kind, model) in [(KIND, &model[0]), (OTHER, &model[1])] {
                let expected: Vec<_> =
                    model.range(from.clone()..).map(|(key, value)| (key.clone(), value.clone())).collect();
                prop_assert_eq!(all(&*store, kind, &from, limit), expected);
                for (key, value) in model {
                    let found = store.get(kind, key).unwrap().unwrap();
                    prop_assert_eq!(&*found, &**value);
                    prop_assert_eq!(found.as_ptr().addr() % 16, 0, "an archive is read in place");
                }
            }
            prop_assert!(store.get(StateKind::own(2), &from).unwrap().is_none());
            Ok(())
        })
        .unwrap();
    assert!(*stores.borrow() >= 64);
}

fn changes_are_made_together_or_not_at_all(make: Make<'_>) {
    let store = make();
    let put = |key, value| StateChange::Put { kind: KIND, key, value };
    apply(&*store, &[]).unwrap();
    let long = vec![7; STATE_KEY_BYTES_MAX + 1];
    let refused = apply(&*store, &[put(b"a", b"1"), put(&long, b"2")]).unwrap_err();
    assert!(matches!(refused, StateError::KeyTooLong { bytes: 1_025, max: 1_024, .. }), "{refused:?}");
    let value = vec![7; STATE_VALUE_BYTES_MAX + 1];
    let refused = apply(&*store, &[put(b"a", b"1"), put(b"b", &value)]).unwrap_err();
    assert!(matches!(refused, StateError::ValueTooLong { bytes: 1_048_577, .. }), "{refused:?}");
    let refused = apply(&*store, &vec![put(b"a", b"1"); STATE_CHANGES_MAX + 1]).unwrap_err();
    assert!(matches!(refused, StateError::TooMany { changes: 1_025, max: 1_024 }), "{refused:?}");
    let value = &value[1..];
    let refused = apply(&*store, &[put(b"a", value); STATE_BATCH_BYTES_MAX / STATE_VALUE_BYTES_MAX]).unwrap_err();
    assert!(matches!(refused, StateError::BatchTooLong { max: STATE_BATCH_BYTES_MAX, .. }), "{refused:?}");
    assert!(all(&*store, KIND, &[], 10).is_empty(), "nothing was changed");
}

fn the_longest_key_and_value_come_back_as_they_were(make: Make<'_>) {
    let store = make();
    let (key, value) = (vec![7; STATE_KEY_BYTES_MAX], vec![9; STATE_VALUE_BYTES_MAX]);
    apply(&*store, &[StateChange::Put { kind: KIND, key: &key, value: &value }]).unwrap();
    assert_eq!(*store.get(KIND, &key).unwrap().unwrap(), *value);
    assert_eq!(all(&*store, KIND, &key, 1), [(key, value)]);
}

fn a_page_is_bounded_in_entries_and_bytes(make: Make<'_>) {
    let store = make();
    for asked in [0, STATE_PAGE_MAX + 1] {
        let refused = store.list(KIND, &[], asked).unwrap_err();
        assert!(matches!(refused, StateReadError::Limit { max: STATE_PAGE_MAX, .. }), "{refused:?}");
    }
    let value = vec![1; STATE_VALUE_BYTES_MAX];
    for key in 0..8_u8 {
        apply(&*store, &[StateChange::Put { kind: KIND, key: &[key], value: &value }]).unwrap();
    }
    let page = store.list(KIND, &[], STATE_PAGE_MAX).unwrap();
    assert_eq!(page.entries.len(), STATE_PAGE_BYTES / STATE_VALUE_BYTES_MAX);
    assert_eq!(all(&*store, KIND, &[], STATE_PAGE_MAX).len(), 8);
}

fn readers_see_whole_batches(make: Make<'_>) {
    const ROUNDS: u32 = 100;
    let store = make();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            for round in 0..=ROUNDS {
                let value = round.to_le_bytes();
                let changes = [b"a", b"b", b"c"].map(|key| StateChange::Put { kind: KIND, key, value: &value });
                apply(&*store, &changes).unwrap();
            }
        });
        barrier.wait();
        let mut last = None;
        while last != Some(ROUNDS) {
            // Keys are read one after the other, so a later one may be newer, and is never older.
            let read = |key| {
                let value = store.get(KIND, key).unwrap()?;
                Some(u32::from_le_bytes((*value).try_into().unwrap()))
            };
            let (first, second) = (read(b"a"), read(b"c"));
            assert!(first <= second && last <= first, "{last:?} {first:?} {second:?}");
            last = first;
        }
    });
}

fn pages_are_of_one_moment(make: Make<'_>) {
    const ROUNDS: u32 = 50;
    let store = make();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            for round in 0..=ROUNDS {
                // What is not there in one round is there in the next.
                let value = round.to_le_bytes().repeat(100);
                let present = StateChange::Put { kind: KIND, key: &[(round % 7) as u8], value: &value };
                let gone = StateChange::Remove { kind: KIND, key: &[((round + 6) % 7) as u8] };
                apply(&*store, &[gone, present]).unwrap();
            }
        });
        barrier.wait();
        loop {
            let page = store.list(KIND, &[], 10).unwrap();
            assert!(page.entries.len() <= 1 && page.next.is_none(), "{page:?}");
            if page.entries.first().is_some_and(|(_, value)| value[..4] == ROUNDS.to_le_bytes()) {
                break;
            }
        }
    });
}
