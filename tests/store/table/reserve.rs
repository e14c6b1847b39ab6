//! The room that a table keeps for a full disk: who else needs the disk is left as much, and nobody can take it while it is used.

use std::path::{Path, PathBuf};

use ringmain::internals::store::Word;
use ringmain::internals::store::sim::{Kept, Replay, SimDisk};
use ringmain::internals::store::table::{ChangeError, Table, TableOptions};
use ringmain::store::StateKind;

use super::support::{entries, open};
use crate::ordeal::kinds;
use crate::support::{Chance, FOLDER};

const SEGMENT: u64 = 16_384;

/// Files of several blocks, which all is live in.
fn small() -> TableOptions {
    let mut options = super::support::small();
    options.segment_bytes = SEGMENT;
    options
}

fn reserve() -> PathBuf {
    Path::new(FOLDER).join("reserve")
}

fn length(disk: &SimDisk) -> Option<u64> {
    disk.files().into_iter().find(|(path, _)| *path == reserve()).map(|(_, length)| length)
}

fn used(disk: &SimDisk) -> u64 {
    disk.files().iter().map(|(_, length)| length).sum()
}

fn try_put(table: &Table, number: u64) -> Result<(), ChangeError> {
    table.put(StateKind::SAGA, &number.to_be_bytes(), &[number as u8; 400], Word::Durable)
}

fn put(table: &Table, number: u64) {
    try_put(table, number).expect("there is room");
}

/// So many were put, one after the other.
fn count(table: &Table) -> u64 {
    let found = entries(table, StateKind::SAGA, &[]);
    let are_in_order = (1..).zip(&found).all(|(number, (key, value))| {
        let number: u64 = number;
        (&**key, &**value) == (&number.to_be_bytes()[..], &[number as u8; 400][..])
    });
    assert!(are_in_order, "{found:?}");
    found.len() as u64
}

fn segments(table: &Table) -> usize {
    table.stats().segments
}

#[test]
fn a_new_reserve_leaves_as_much_room_as_it_takes() {
    let disk = SimDisk::new();
    // Of what the first file leaves, a byte less than twice its length.
    disk.set_capacity_bytes(3 * SEGMENT - 1);
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, 1);
    assert_eq!((length(&disk), table.has_reserve()), (None, false));
    drop(table);
    disk.set_capacity_bytes(3 * SEGMENT);
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, 2);
    assert_eq!((length(&disk), table.has_reserve()), (Some(SEGMENT), true));
}

/// A table whose reserve was used: its disk, and how many were put.
fn handed_over() -> (SimDisk, u64, Table) {
    let disk = SimDisk::new();
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, 1);
    assert!(table.has_reserve());
    disk.set_capacity_bytes(used(&disk));
    let mut last = 1;
    while segments(&table) == 1 {
        last += 1;
        put(&table, last);
    }
    (disk, last, table)
}

#[test]
fn the_reserve_becomes_the_next_file_and_its_room_is_free_at_no_moment() {
    let (disk, _, table) = handed_over();
    assert!(!table.has_reserve());
    assert_eq!(length(&disk).unwrap_or(0), 0, "nothing is left for another");
    let mut replay = Replay::new(&disk);
    let (mut was_full, mut least) = (false, u64::MAX);
    while replay.step() {
        let bytes = used(&replay.image(Kept::Killed));
        was_full |= bytes == 2 * SEGMENT;
        if was_full {
            least = least.min(bytes);
        }
    }
    // A full file gives back what it had not needed: less than a record of these.
    assert!(was_full && least > 2 * SEGMENT - 500, "{least}");
}

#[test]
fn a_shorter_reserve_stays_and_goes_on_growing() {
    let (disk, last, table) = handed_over();
    drop(table);
    // Half of one is free.
    disk.set_capacity_bytes(used(&disk) + SEGMENT / 2);
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, last + 1);
    assert_eq!((length(&disk).map(|length| length >= SEGMENT / 2), table.has_reserve()), (Some(true), false));
    let refused = (last + 2..).find(|number| try_put(&table, *number).is_err()).expect("it comes to an end");
    assert!(table.fault().is_none());
    assert!(length(&disk).is_some_and(|length| (SEGMENT / 2..SEGMENT).contains(&length)), "{:?}", length(&disk));
    disk.set_capacity_bytes(used(&disk) + SEGMENT);
    put(&table, refused);
    assert_eq!(count(&table), refused);
}

#[test]
fn a_crash_while_the_reserve_becomes_a_file_loses_nothing() {
    let disk = SimDisk::new();
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, 1);
    disk.set_capacity_bytes(used(&disk));
    let mut durable = vec![(disk.effects(), 1)];
    while segments(&table) == 1 {
        let number = durable.len() as u64 + 1;
        put(&table, number);
        durable.push((disk.effects(), number));
    }
    let begun = durable[durable.len() - 2].0;
    drop(table);
    let (mut chance, mut images) = (Chance(7), 0);
    let mut replay = Replay::new(&disk);
    while replay.step() {
        let at = replay.at();
        if at < begun {
            continue;
        }
        let least = durable[durable.partition_point(|(effects, _)| *effects <= at) - 1].1;
        for kept in kinds(&replay, [1, 63, 64], 8, &mut chance) {
            let image = replay.image(kept);
            image.set_capacity_bytes(3 * SEGMENT);
            let (table, opened) = open(&image, small()).expect("a crash is no reason not to open");
            assert!(opened.recovered.damages.is_empty(), "{kept:?} at {at}: {opened:?}");
            let found = count(&table);
            assert!((least..=durable.len() as u64).contains(&found), "{kept:?} at {at}: {found}, not {least}");
            put(&table, found + 1);
            drop(table);
            let (table, _) = open(&image, small()).expect("it works");
            assert_eq!(count(&table), found + 1, "{kept:?} at {at}");
            images += 1;
        }
    }
    assert!(images > 50, "{images}");
}

fn without() -> TableOptions {
    let mut options = small();
    options.reserve = false;
    options
}

#[test]
fn where_none_is_to_be_kept_that_of_an_earlier_process_is_removed() {
    let disk = SimDisk::new();
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, 1);
    assert_eq!(length(&disk), Some(SEGMENT));
    drop(table);
    let (table, _) = open(&disk, without()).expect("the disk works");
    assert_eq!(length(&disk), None);
    put(&table, 2);
    assert_eq!((length(&disk), table.has_reserve()), (None, false));
}

#[test]
fn where_the_disk_sets_nothing_aside_there_is_no_reserve() {
    let disk = SimDisk::new();
    disk.set_nothing_aside();
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, 1);
    assert_eq!((length(&disk), table.has_reserve()), (None, false));
    drop(table);
    // As it is where a folder was copied: as long as one, with nothing behind it.
    let disk = disk.with(&reserve(), vec![0; SEGMENT as usize]);
    disk.set_nothing_aside();
    let (table, _) = open(&disk, small()).expect("the disk works");
    put(&table, 2);
    assert_eq!((length(&disk), table.has_reserve()), (None, false));
    assert_eq!(count(&table), 2);
}
