//! What a table promises while nothing fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use ringmain::internals::store::sim::{Kept, Replay, SimDisk};
use ringmain::internals::store::table::{ChangeError, OpenError, PageRoom, Table, TableOptions};
use ringmain::internals::store::{AppendError, CommitError, RealDisk, Word};
use ringmain::store::{StateChange, StateKind};

use super::support::{Map, Owned, apply, entries, open, read_all, small};
use crate::folder::Folder;
use crate::support::{Chance, batch};

/// Bytes of the record of a key and a value of so many bytes together.
fn extent(bytes: usize) -> u64 {
    64 + bytes.next_multiple_of(16) as u64
}

fn live_bytes(map: &Map) -> u64 {
    map.iter().map(|((_, key), value)| extent(key.len() + value.len())).sum()
}

/// Bytes on the disk.
fn disk_bytes(disk: &SimDisk) -> u64 {
    disk.files().iter().map(|(_, bytes)| bytes).sum()
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Change { seed: u64, changes: u64, durable: bool },
    Compact,
    Reopen,
    LosePower,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (any::<u64>(), 1u64..4, any::<bool>())
            .prop_map(|(seed, changes, durable)| Step::Change { seed, changes, durable }),
        1 => Just(Step::Compact),
        2 => Just(Step::Reopen),
        1 => Just(Step::LosePower),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_table_holds_what_a_map_would_also_when_it_is_opened_again(
        steps in prop::collection::vec(step(), 1..160),
    ) {
        let mut disk = SimDisk::new();
        let (mut table, _) = open(&disk, small()).expect("the disk works");
        let mut map = Map::new();
        for step in steps {
            match step {
                Step::Change { seed, changes, durable } => {
                    let mut chance = Chance(seed);
                    let changes: Vec<_> = (0..changes).map(|_| Owned::by_chance(&mut chance)).collect();
                    apply(&table, &changes, if durable { Word::Durable } else { Word::Written }).expect("the disk works");
                    changes.iter().for_each(|change| change.apply(&mut map));
                }
                Step::Compact => table.compact().expect("the disk works"),
                Step::Reopen => {
                    drop(table);
                    table = open(&disk, small()).expect("the disk works").0;
                }
                Step::LosePower => {
                    table.close().expect("the disk works");
                    let mut replay = Replay::new(&disk);
                    while replay.step() {}
                    disk = replay.image(Kept::Nothing);
                    let (again, opened) = open(&disk, small()).expect("the disk works");
                    prop_assert_eq!((opened.recovered.cut_bytes, &opened.recovered.damages[..]), (0, &[][..]));
                    prop_assert_eq!((opened.keys, opened.live_bytes), (map.len(), live_bytes(&map)));
                    table = again;
                }
            }
            prop_assert_eq!(&read_all(&table), &map);
            let stats = table.stats();
            prop_assert_eq!((stats.keys, stats.live_bytes), (map.len(), live_bytes(&map)));
            prop_assert!(stats.not_compacted.is_none());
        }
    }
}

#[test]
fn space_is_bounded_however_much_is_written() {
    for (seed, keys) in [(1, 3), (2, 40), (3, 150)] {
        let mut chance = Chance(seed);
        let disk = SimDisk::new();
        let (table, _) = open(&disk, small()).expect("the disk works");
        let mut live_max = 0;
        let mut written = 0;
        for _ in 0..6_000 {
            let key = chance.below(keys).to_be_bytes();
            // Most changes are of few keys, so that old segments are nearly all alive.
            let key = if chance.below(4) > 0 { 0u64.to_be_bytes() } else { key };
            let length_max = if chance.below(30) == 0 { 2_000 } else { 300 };
            let value = vec![7; chance.below(length_max) as usize];
            if chance.below(10) == 0 {
                table.remove(StateKind::TIMER, &key, Word::Written).expect("the disk works");
            } else {
                table.put(StateKind::TIMER, &key, &value, Word::Written).expect("the disk works");
                written += extent(8 + value.len());
            }
            let stats = table.stats();
            live_max = live_max.max(stats.live_bytes);
            let bound = live_max * 5 / 2 + 4 * 4_096;
            assert!(stats.log_bytes <= bound, "{stats:?}, at most {live_max} were live");
            assert!(disk_bytes(&disk) <= bound, "{} on the disk, {stats:?}", disk_bytes(&disk));
        }
        let stats = table.stats();
        assert!(stats.copied_bytes < 2 * written, "{stats:?}: compaction copies less than twice what is written");
        assert!(written > 20 * live_max, "{written} bytes were written, {live_max} were live at most");
        let before = read_all(&table);
        table.compact().expect("the disk works");
        assert_eq!(read_all(&table), before);
        let stats = table.stats();
        // What is left beside is in the segment that is appended to.
        assert!(stats.log_bytes <= stats.live_bytes + 4_096, "{stats:?}");
        drop(table);
        let (table, opened) = open(&disk, small()).expect("the disk works");
        assert_eq!((opened.log_bytes, opened.live_bytes), (stats.log_bytes, stats.live_bytes));
        assert_eq!(read_all(&table), before);
    }
}

#[test]
fn a_table_whose_keys_were_all_removed_takes_no_space_in_the_end() {
    let disk = SimDisk::new();
    let (table, _) = open(&disk, small()).expect("the disk works");
    for key in 0..500u64 {
        table.put(StateKind::VIEW, &key.to_be_bytes(), &[1; 200], Word::Written).expect("the disk works");
    }
    for key in 0..500u64 {
        table.remove(StateKind::VIEW, &key.to_be_bytes(), Word::Written).expect("the disk works");
    }
    table.compact().expect("the disk works");
    let stats = table.stats();
    assert_eq!((stats.keys, stats.live_bytes, stats.segments), (0, 0, 1), "{stats:?}");
    drop(table);
    let (table, opened) = open(&disk, small()).expect("the disk works");
    assert_eq!(opened.keys, 0, "no removed key is back");
    assert!(entries(&table, StateKind::VIEW, &[]).is_empty());
}

#[test]
fn keys_of_a_kind_are_given_in_order_from_a_key_on() {
    let disk = SimDisk::new();
    let (table, _) = open(&disk, small()).expect("the disk works");
    for key in [5u16, 3, 1, 260] {
        table.put(StateKind::TIMER, &key.to_be_bytes(), &[key as u8], Word::Written).expect("the disk works");
        table.put(StateKind::SAGA, &key.to_be_bytes(), b"another kind", Word::Written).expect("the disk works");
    }
    let from = |key: u16| {
        let entries = entries(&table, StateKind::TIMER, &key.to_be_bytes());
        entries.iter().map(|(_, value)| value[0]).collect::<Vec<_>>()
    };
    assert_eq!(from(0), [1, 3, 5, 4]);
    assert_eq!(from(3), [3, 5, 4]);
    assert_eq!(from(4), [5, 4]);
    assert_eq!(from(300), [0; 0]);
}

#[test]
fn a_page_is_as_the_table_was_at_one_moment() {
    const KEYS: u16 = 20;
    let folder = Folder::new("table-pages");
    let mut options = small();
    options.segment_bytes = 16 << 10;
    let (table, _) = Table::open(Arc::new(RealDisk), &folder.0, options).expect("the disk works");
    let change = |round: u32| {
        // Too long to be kept in memory, so that it is read from segments that go.
        let value = round.to_le_bytes().repeat(70);
        let keys: Vec<_> = (0..KEYS).map(u16::to_be_bytes).collect();
        let kind = StateKind::VIEW;
        let put: Vec<_> = keys.iter().map(|key| StateChange::Put { kind, key, value: &value }).collect();
        table.apply(&put, Word::Written).expect("the disk works");
    };
    change(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (1..400).for_each(change);
            // Relaxed: it is looked at until it is seen.
            is_over.store(true, Ordering::Relaxed);
        });
        // Relaxed: see above.
        while !is_over.load(Ordering::Relaxed) {
            let room = PageRoom::of(KEYS.into()).expect("a page may have as many");
            let page = table.page(StateKind::VIEW, &[], room).expect("it can be read");
            assert_eq!((page.entries.len(), page.next), (KEYS.into(), None));
            assert!(page.entries.iter().all(|(_, value)| **value == *page.entries[0].1), "all of one round");
        }
    });
    assert!(table.stats().retired_segments > 20, "{:?}", table.stats());
}

#[test]
fn what_is_over_a_limit_is_refused_with_it_and_changes_nothing() {
    let disk = SimDisk::new();
    let mut options = small();
    options.keys_max = 3;
    options.live_bytes_max = 2_000;
    let (table, _) = open(&disk, options).expect("the disk works");
    let put = |key: &[u8], value: &[u8]| table.put(StateKind::CURSOR, key, value, Word::Written);
    put(&[1; 100], &[]).expect("the key is not longer than the limit");
    match put(&[1; 101], &[]) {
        Err(ChangeError::KeyTooLong { kind: StateKind::CURSOR, bytes: 101, max: 100 }) => {}
        other => panic!("{other:?}"),
    }
    match put(b"value", &[0; 2_901]) {
        Err(ChangeError::ValueTooLong { kind: StateKind::CURSOR, bytes: 2_901, max: 2_900 }) => {}
        other => panic!("{other:?}"),
    }
    match put(b"value", &[0; 2_000]) {
        Err(ChangeError::TooManyBytes { live_bytes: 2_256, max: 2_000 }) => {}
        other => panic!("{other:?}"),
    }
    put(b"two", &[]).expect("there is room");
    put(b"three", &[]).expect("there is room");
    let changes = [
        StateChange::Put { kind: StateKind::CURSOR, key: b"two", value: b"changed" },
        StateChange::Put { kind: StateKind::CURSOR, key: b"four", value: &[] },
    ];
    match table.apply(&changes, Word::Written) {
        Err(ChangeError::TooManyKeys { keys: 4, max: 3 }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(table.get(StateKind::CURSOR, b"two").expect("it can be read").expect("it is there").len(), 0);
    put(b"two", b"changed").expect("a key that is there may change");
    table.remove(StateKind::CURSOR, b"three", Word::Written).expect("a key may go");
    put(b"four", &[]).expect("there is room again");
    let changes = [
        StateChange::Put { kind: StateKind::CURSOR, key: b"five", value: &[] },
        StateChange::Remove { kind: StateKind::CURSOR, key: b"four" },
        StateChange::Put { kind: StateKind::CURSOR, key: b"five", value: b"again" },
    ];
    table.apply(&changes, Word::Written).expect("what is removed makes room, and a key counts once");
    put(b"four", &[]).expect_err("there is no room");
    table.remove(StateKind::CURSOR, b"five", Word::Written).expect("a key may go");
    put(b"four", &[]).expect("there is room again");
    let long = [0; 1_300];
    table.remove(StateKind::CURSOR, &[1; 100], Word::Written).expect("a key may go");
    let changes = ["two", "four", "two"].map(|key| StateChange::Put {
        kind: StateKind::CURSOR,
        key: key.as_bytes(),
        value: &long,
    });
    options.live_bytes_max = 1 << 20;
    drop(table);
    let (table, _) = open(&disk, options).expect("the disk works");
    match table.apply(&changes, Word::Written) {
        Err(ChangeError::Commit(CommitError::Append(AppendError::BatchTooLong { bytes: 4_128, max: 3_904 }))) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(*table.get(StateKind::CURSOR, b"two").expect("it can be read").expect("it is there"), *b"changed");
    table.apply(&[], Word::Durable).expect("nothing is asked for");
}

#[test]
fn a_table_is_not_opened_with_options_or_files_it_cannot_have() {
    let disk = SimDisk::new();
    let refused = |change: fn(&mut TableOptions)| {
        let mut options = small();
        change(&mut options);
        open(&disk, options).map(drop).expect_err("it is refused")
    };
    assert!(matches!(refused(|options| options.segment_bytes = 4_000), OpenError::Log(_)));
    assert!(matches!(refused(|options| options.value_bytes_max = 4_000), OpenError::Log(_)));
    assert!(matches!(refused(|options| options.value_bytes_max = u32::MAX), OpenError::Option(_)));
    let (table, _) = open(&disk, small()).expect("the disk works");
    table.put(StateKind::SAGA, b"key", &[0; 2_900], Word::Durable).expect("the disk works");
    assert!(matches!(refused(|_| {}), OpenError::Log(ringmain::internals::store::OpenError::Locked { .. })));
    drop(table);
    match refused(|options| options.value_bytes_max = 2_000) {
        OpenError::TooLong { kind: StateKind::SAGA, bytes: 2_903, max: 2_100 } => {}
        other => panic!("{other}"),
    }
    let disk = SimDisk::new();
    let (mut log, _) = crate::support::open(&disk, crate::support::small()).expect("the disk works");
    log.append(&batch(1, 1)).expect("the disk works");
    drop(log);
    let foreign = open(&disk, small()).map(drop).expect_err("events are no table");
    assert!(matches!(foreign, OpenError::Foreign { position: 1 }), "{foreign}");
}

#[test]
fn a_real_disk_holds_a_table_that_many_threads_change_and_read() {
    const THREADS: u64 = 4;
    const KEYS: u64 = 12;
    const ROUNDS: u64 = 400;
    let folder = Folder::new("table");
    let disk = Arc::new(RealDisk);
    let mut options = small();
    options.segment_bytes = 16 << 10;
    let (table, _) = Table::open(disk.clone(), &folder.0, options).expect("the disk works");
    // Each thread has keys of its own, and one that all of them change together with one of its own.
    let shared = b"shared";
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let table = &table;
            scope.spawn(move || {
                let mut chance = Chance(thread);
                for round in 0..ROUNDS {
                    let key = (thread * KEYS + round % KEYS).to_be_bytes();
                    let mut value = round.to_le_bytes().repeat(1 + chance.below(60) as usize);
                    let word = if chance.below(100) == 0 { Word::Durable } else { Word::Written };
                    if chance.below(4) == 0 {
                        table.remove(StateKind::TIMER, &key, word).expect("the disk works");
                        let found = table.get(StateKind::TIMER, &key).expect("it can be read");
                        assert!(found.is_none(), "it was removed, and nobody else puts it");
                        continue;
                    }
                    value.extend_from_slice(&key);
                    let own = StateChange::Put { kind: StateKind::TIMER, key: &key, value: &value };
                    let both = [
                        own,
                        if round % 3 == 0 {
                            StateChange::Remove { kind: StateKind::CURSOR, key: shared }
                        } else {
                            StateChange::Put { kind: StateKind::CURSOR, key: shared, value: &value }
                        },
                    ];
                    table.apply(&both, word).expect("the disk works");
                    let found = table.get(StateKind::TIMER, &key).expect("it can be read").expect("it is there");
                    assert_eq!(*found, *value);
                    table.get(StateKind::CURSOR, shared).expect("it can be read");
                }
            });
        }
        let table = &table;
        scope.spawn(move || {
            for _ in 0..40 {
                for (key, value) in entries(table, StateKind::TIMER, &[]) {
                    assert!(value.ends_with(&key), "a value is its own key's");
                }
                table.compact().expect("the disk works");
            }
        });
    });
    let before = read_all(&table);
    assert!(table.stats().retired_segments > 20, "{:?}", table.stats());
    table.close().expect("the disk works");
    let (table, opened) = Table::open(disk, &folder.0, options).expect("the disk works");
    assert_eq!((opened.recovered.cut_bytes, opened.recovered.damages.len()), (0, 0));
    assert_eq!(read_all(&table), before, "of changes at the same time, the same is the last before and after");
}

#[test]
fn a_table_goes_on_with_shorter_and_longer_segments() {
    let disk = SimDisk::new();
    let mut options = small();
    let mut chance = Chance(9);
    let mut map = Map::new();
    for segment_bytes in [64 << 10, 4_096, 8_192, 4_096, 64 << 10, 4_096] {
        options.segment_bytes = segment_bytes;
        let (table, opened) = open(&disk, options).expect("the disk works");
        assert_eq!(opened.keys, map.len());
        for _ in 0..120 {
            let change = Owned::by_chance(&mut chance);
            apply(&table, std::slice::from_ref(&change), Word::Written).expect("the disk works");
            change.apply(&mut map);
        }
        assert_eq!(read_all(&table), map);
    }
}
