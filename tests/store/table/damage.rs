//! Damage is said when a table is opened or when it is met, harms no other key, and holds compaction until it is accepted.

use std::path::Path;

use ringmain::internals::store::sim::SimDisk;
use ringmain::internals::store::table::CompactError;
use ringmain::internals::store::{Access, Disk, ReadError, Word};
use ringmain::store::StateKind;

use super::support::{Map, Owned, apply, open, read_all, small};
use crate::support::Chance;

/// Several segments, all durable and said to be so, and every map that it was on the way.
fn written() -> (SimDisk, Vec<Map>) {
    let disk = SimDisk::new();
    let mut chance = Chance(3);
    let (table, _) = open(&disk, small()).expect("the disk works");
    let mut states = vec![Map::new()];
    while table.stats().segments < 4 || table.stats().retired_segments < 3 {
        let change = Owned::by_chance(&mut chance);
        apply(&table, std::slice::from_ref(&change), Word::Written).expect("the disk works");
        let mut state = states.last().expect("there is one").clone();
        change.apply(&mut state);
        states.push(state);
    }
    table.close().expect("the disk works");
    (disk, states)
}

/// Flips a bit on the disk itself.
fn flip(disk: &SimDisk, path: &Path, byte: u64) {
    let file = disk.open(path, Access::Write).expect("it is there");
    let mut bytes = [0];
    file.read_at(&mut bytes, byte).expect("the disk works");
    bytes[0] ^= 0x10;
    file.write_at(&bytes, byte).expect("the disk works");
}

#[test]
fn a_flipped_bit_anywhere_is_said_and_harms_no_key_but_its_own() {
    let (disk, states) = written();
    let state = states.last().expect("there is one");
    let mut harmed = 0;
    // The reserve says nothing.
    for (path, length) in disk.files().into_iter().filter(|(path, _)| !path.ends_with("reserve")) {
        for byte in (0..length).step_by(7) {
            let image = disk.flipped(&path, byte, (byte % 8) as u32);
            let place = format!("{} byte {byte}", path.display());
            let (table, opened) = open(&image, small()).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(!opened.recovered.damages.is_empty() || opened.recovered.cut_bytes > 0, "{place}");
            let found = read_all(&table);
            let keys = state.keys().chain(found.keys());
            let mut wrong: Vec<_> = keys.filter(|key| state.get(key) != found.get(key)).collect();
            wrong.dedup();
            assert!(wrong.len() <= 1, "{place}: {wrong:?}");
            for key in wrong {
                assert!(opened.recovered.damages.iter().any(|damage| damage.missing.is_some()), "{place}: {opened:?}");
                assert!(states.iter().any(|state| state.get(key) == found.get(key)), "{place}: a value is invented");
                harmed += 1;
            }
            if byte % 5 > 0 {
                continue;
            }
            let more = [Owned { kind: StateKind::TIMER, key: b"more".to_vec(), value: Some(vec![1; 400]) }];
            apply(&table, &more, Word::Durable).expect("damage is no reason to take nothing more");
            if !opened.recovered.damages.is_empty() {
                assert_eq!(table.damages(), opened.recovered.damages);
                assert!(matches!(table.compact(), Err(CompactError::Damaged(_))), "{place}");
                assert_eq!(table.stats().retired_segments, 0, "nothing is removed that might be needed");
                table.accept_damage();
            }
            table.compact().unwrap_or_else(|error| panic!("{place}: {error}"));
            let mut expected = found;
            more[0].apply(&mut expected);
            assert_eq!(read_all(&table), expected, "{place}");
            drop(table);
            let (table, _) = open(&image, small()).expect("it is whole again, up to the last segment");
            assert_eq!(read_all(&table), expected, "{place}");
        }
    }
    assert!(harmed > 50, "{harmed}");
}

#[test]
fn damage_that_comes_later_is_said_when_it_is_met_and_what_is_in_memory_is_saved() {
    let disk = SimDisk::new();
    let (table, _) = open(&disk, small()).expect("the disk works");
    let put = |kind, key: u64, length| {
        let value = vec![key as u8; length];
        table.put(kind, &key.to_be_bytes(), &value, Word::Durable).expect("the disk works");
    };
    // Record 1 from byte 64 has 64 bytes of header, a value of 100 and a key of 8: its body ends at 236, record 2 is at 240.
    put(StateKind::CURSOR, 1, 100);
    put(StateKind::SAGA, 2, 600);
    (3..20).for_each(|key| put(StateKind::SAGA, key, 600));
    let before = read_all(&table);
    let oldest = disk.files()[0].0.clone();
    flip(&disk, &oldest, 64 + 64 + 50);
    flip(&disk, &oldest, 240 + 64 + 300);
    assert_eq!(
        table.get(StateKind::CURSOR, &1u64.to_be_bytes()).expect("it is in memory").expect("it is there").len(),
        100
    );
    let met = table.get(StateKind::SAGA, &2u64.to_be_bytes()).expect_err("it is damaged");
    assert!(matches!(&met, ReadError::Damaged(damage) if damage.missing == Some(2..=2)), "{met}");
    for nth in 1..=2 {
        let held = table.compact().expect_err("something is damaged");
        assert!(matches!(&held, CompactError::Damaged(damage) if damage.missing == Some(nth..=nth)), "{held}");
        assert_eq!(table.damages().len(), 1);
        table.accept_damage();
        assert!(table.damages().is_empty());
    }
    table.compact().expect("what is damaged is accepted");
    let mut expected = before;
    expected.remove(&(StateKind::SAGA, 2u64.to_be_bytes().to_vec()));
    assert_eq!(read_all(&table), expected);
    assert!(table.get(StateKind::SAGA, &2u64.to_be_bytes()).expect("it is not looked for").is_none());
    assert_eq!(table.stats().keys, expected.len());
    drop(table);
    let (table, opened) = open(&disk, small()).expect("the disk works");
    assert_eq!((opened.recovered.damages.len(), opened.keys), (0, expected.len()));
    assert_eq!(read_all(&table), expected);
}
