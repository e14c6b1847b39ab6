//! What cannot be read is said by the queries that meet it, in either order, and hides nothing behind it.

use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use ringmain::EventId;
use ringmain::internals::store::sim::{Kept, Replay, SimDisk};
use ringmain::internals::store::{Access, Batch, Disk, Kind, Log, LogOptions, NewRecord, open_on};
use ringmain::store::{
    Cause, Durability, EventStore, ExpectedVersion, LogStore, Order, Position, Query, ReadError, StateChange,
    StateKind, StateReadError, StateStore,
};

use super::{files, found, open, position, small, written};
use crate::conformance::Writer;
use crate::support::{FOLDER, Shareable};

/// Where each record of a disk is: its file, and its offset there.
fn places(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let mut options = LogOptions::default();
    (options.segment_bytes, options.record_bytes_max) = (4_096, 3_000);
    let (log, _) = Log::open(disk.shared(), FOLDER, options).expect("the disk works");
    let mut reader = log.read(1);
    let mut places = Vec::new();
    while let Some(record) = reader.next_record() {
        let record = record.expect("it is whole");
        places.push((PathBuf::from(format!("{FOLDER}/{:020}.log", record.segment)), record.offset));
    }
    places
}

/// Reads on behind everything that cannot be read. Returns the events, and what was said to be missing.
fn read_around(store: &dyn EventStore, query: &Query) -> (Vec<u64>, Vec<RangeInclusive<u64>>) {
    let (mut query, mut events, mut missing) = (query.clone(), Vec::new(), Vec::new());
    loop {
        let before = events.len();
        let visited = store.visit(&query, &mut |event| {
            events.push(event.position().get());
            ControlFlow::Continue(())
        });
        match visited {
            Ok(None) => return (events, missing),
            Ok(Some(next)) => query = query.behind(next),
            Err(ReadError::Damaged(damage)) => {
                assert_eq!(events.len(), before, "an error comes alone");
                let positions = damage.missing.clone().expect("it names positions");
                let newest_first = query.order() == Order::NewestFirst;
                query = query.behind(position(if newest_first { *positions.start() } else { *positions.end() }));
                missing.push(positions);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Asks in both orders and for pages of several lengths.
fn check(store: &dyn EventStore, query: &Query, expected: &[u64], missing: &[RangeInclusive<u64>], place: &str) {
    for limit in [1, 4, 1_000] {
        let query = query.clone().limit(limit);
        let (events, said) = read_around(store, &query);
        assert_eq!((&events[..], &said[..]), (expected, missing), "{place}");
        let (mut events, mut said) = read_around(store, &query.newest_first());
        events.reverse();
        said.reverse();
        assert_eq!((&events[..], &said[..]), (expected, missing), "{place}, newest first");
    }
}

#[test]
fn a_damaged_event_is_said_by_the_queries_that_meet_it_and_hides_no_other() {
    let (disk, _) = written();
    let places = places(&disk);
    assert_eq!(places.len(), 120);
    let last_file = &places[119].0;
    for (damaged, (path, offset)) in (1..).zip(&places) {
        let without = |events: Vec<u64>| events.into_iter().filter(|event| *event != damaged).collect::<Vec<_>>();
        let place = format!("position {damaged}");
        let image = disk.flipped(path, offset + 64 + damaged % 40, 5);
        let gap = [damaged..=damaged];
        let queries = [
            (Query::new().aggregate("order", "7"), (1..=12).map(|nth| nth * 10).collect::<Vec<u64>>()),
            (Query::new().correlation(EventId::from_bytes([7; 16])), (1..=17).map(|nth| nth * 7).collect()),
        ];
        let store = open(&image);
        check(&store, &Query::new(), &without((1..=120).collect()), &gap, &place);
        for (query, events) in &queries {
            // The last segment's index was made without it: what it was is not known there.
            let meets = events.contains(&damaged) || path == last_file;
            check(&store, query, &without(events.clone()), &gap[..usize::from(meets)], &place);
        }
        // The version is still known where an index was made before the damage.
        let next = Writer::new().of_aggregate("order", "7", 13..=13);
        let appended = store.append(&next, ExpectedVersion::Exact(12), Durability::Written);
        assert!(appended.is_ok() || damaged == 120, "{place}: {appended:?}");
        drop(store);
        // Without an index nobody knows what the damaged event was: whoever might have meant it is told.
        let index = path.with_extension("idx");
        if files(&image, "idx").contains(&index) {
            let store = open(&image.without(&index));
            for (query, events) in &queries {
                let query = query.clone().to_position(position(120));
                check(&store, &query, &without(events.clone()), &gap, &place);
            }
            // Also when it was tried to make it again.
            store.close().expect("the disk works");
        }
    }
}

#[test]
fn a_missing_segment_is_a_gap_that_is_said() {
    let (disk, _) = written();
    let logs = files(&disk, "log");
    let first =
        |path: &PathBuf| -> u64 { path.file_stem().and_then(|name| name.to_str()?.parse().ok()).expect("a position") };
    let gap = first(&logs[3])..=first(&logs[4]) - 1;
    let store = open(&disk.without(&logs[3]));
    assert_eq!(store.recovered().damages.len(), 1);
    let with: Vec<u64> = (1..=120).filter(|event| !gap.contains(event)).collect();
    check(&store, &Query::new(), &with, std::slice::from_ref(&gap), "all");
    let orders: Vec<u64> = with.iter().copied().filter(|event| event % 10 == 0).collect();
    check(&store, &Query::new().aggregate("order", "7"), &orders, &[gap], "orders");
}

#[test]
fn damage_names_file_and_positions_and_what_to_do() {
    let (disk, _) = written();
    let (path, offset) = &places(&disk)[0];
    let store = open(&disk.flipped(path, offset + 64, 0));
    let refused = store.query(&Query::new()).unwrap_err();
    let ReadError::Damaged(damage) = &refused else { panic!("{refused:?}") };
    assert_eq!((&damage.file, damage.cause, damage.missing.clone()), (path, Cause::Body, Some(1..=1)));
    let text = refused.to_string();
    assert!(text.starts_with("the body of a record is damaged: log/00000000000000000001.log from byte 64"), "{text}");
    assert!(text.ends_with("positions 1 to 1; read on behind it"), "{text}");
}

#[test]
fn a_whole_record_that_is_no_event_is_said_with_its_position() {
    let disk = SimDisk::new();
    let mut writer = Writer::new();
    let store = open(&disk);
    store
        .append(&writer.of_aggregate("order", "7", 1..=2), ExpectedVersion::New, Durability::Durable)
        .expect("the disk works");
    store.close().expect("the disk works");
    let mut options = LogOptions::default();
    (options.segment_bytes, options.record_bytes_max) = (4_096, 3_000);
    let (mut log, _) = Log::open(disk.shared(), FOLDER, options).expect("the disk works");
    let mut batch = Batch::new();
    let record = NewRecord { kind: Kind::EVENT, flags: 0, lane: 0, sequence: 0, body: b"of a later version" };
    batch.push(&record).expect("it is short");
    log.append(&batch).expect("the disk works");
    log.close().expect("the disk works");
    let store = open(&disk);
    store
        .append(&writer.of_aggregate("order", "7", 3..=3), ExpectedVersion::Exact(2), Durability::Written)
        .expect("the disk works");
    for query in [Query::new(), Query::new().aggregate("order", "7")] {
        let page = store.query(&query).expect("the page ends before it");
        assert_eq!((page.events.len(), page.next), (2, Position::new(2)));
        let refused = store.query(&query.clone().behind(position(2))).unwrap_err();
        assert!(matches!(&refused, ReadError::NoEvent { position, .. } if position.get() == 3), "{refused:?}");
        assert_eq!(found(&store, query.clone().behind(position(3))), [4]);
        assert_eq!(store.query(&query.clone().newest_first()).expect("the page ends before it").events.len(), 1);
        assert!(matches!(
            store.query(&query.clone().newest_first().behind(position(4))),
            Err(ReadError::NoEvent { .. })
        ));
        assert_eq!(found(&store, query.newest_first().behind(position(3))), [2, 1]);
    }
}

/// Opens a store whose files of state are small, too.
fn tight(disk: &SimDisk) -> LogStore {
    let builder = small().snapshot_state_bytes_max(64).state_batch_bytes_max(1_000);
    open_on(disk.shared(), builder).expect("the disk works")
}

/// Flips a bit of every seventh byte of the last file of a folder, and looks at each store.
fn flip_each(disk: &SimDisk, folder: &str, length: u64, check: impl Fn(&LogStore, &str)) {
    let in_it = |path: &PathBuf| path.parent() == Some(Path::new(folder));
    let path = files(disk, "log").into_iter().rfind(in_it).expect("there is one");
    for byte in (64..length).step_by(7) {
        let place = format!("{} byte {byte}", path.display());
        check(&tight(&disk.flipped(&path, byte, (byte % 8) as u32)), &place);
    }
}

/// What power loss leaves where all is written to the disk, or what the end of a process leaves.
fn after(disk: &SimDisk, power_is_lost: bool) -> SimDisk {
    let mut replay = Replay::new(disk);
    while replay.step() {}
    let kept = if power_is_lost { Kept::Oldest(replay.pending()) } else { Kept::Killed };
    replay.image(kept)
}

#[test]
fn what_was_written_or_synced_is_not_cut_where_a_bit_flips() {
    for is_synced in [false, true] {
        let (disk, mut writer) = (SimDisk::new(), Writer::new());
        let store = tight(&disk);
        for _ in 0..3 {
            store.append(&writer.frames("a", 2), ExpectedVersion::Any, Durability::Written).expect("the disk works");
        }
        if is_synced {
            store.sync().expect("the disk works");
        }
        let length = store.stats().event_bytes;
        drop(store);
        // What was synced is not cut after power loss either.
        flip_each(&after(&disk, is_synced), FOLDER, length, |store, place| {
            assert_eq!(store.head().unwrap(), Some(position(6)), "{place}: {:?}", store.recovered());
            let (events, missing) = read_around(store, &Query::new());
            assert!(events.len() == 5 && missing.len() == 1, "{place}: {events:?} {missing:?}");
        });
    }
}

#[test]
fn what_was_only_written_may_be_cut_when_the_machine_went_down_and_is_said_to_be() {
    let (disk, mut writer) = (SimDisk::new(), Writer::new());
    let store = tight(&disk);
    let (kind, value) = (StateKind::DEAD_LETTER, &[7; 40][..]);
    for key in [b"a", b"b", b"c"] {
        store.append(&writer.frames("a", 2), ExpectedVersion::Any, Durability::Written).expect("the disk works");
        store.apply(&[StateChange::Put { kind, key, value }], Durability::Written).expect("the disk works");
    }
    let length = store.stats().event_bytes;
    drop(store);
    let keys = |store: &LogStore| store.list(kind, b"", 10).unwrap().entries.len();
    flip_each(&after(&disk, true), FOLDER, length, |store, place| {
        let recovered = store.recovered();
        assert!(recovered.cut_bytes > 0 && recovered.cut_may_be_written, "{place}: {recovered:?}");
        assert!(recovered.next < 7 && !store.state_recovered().cut_may_be_written, "{place}: {recovered:?}");
        assert_eq!(keys(store), 3, "{place}");
    });
    // Each record of state has 64 bytes of header, a value of 40 and a key of 1.
    let (table, length) = (format!("{FOLDER}/table"), 64 + 3 * 112);
    flip_each(&after(&disk, true), &table, length, |store, place| {
        let recovered = store.state_recovered();
        assert!(recovered.cut_bytes > 0 && recovered.cut_may_be_written, "{place}: {recovered:?}");
        assert!(keys(store) < 3 && !store.recovered().cut_may_be_written, "{place}: {recovered:?}");
    });
    flip_each(&after(&disk, false), &table, length, |store, place| {
        assert_eq!((store.state_recovered().cut_bytes, store.state_damages().len()), (0, 1), "{place}");
        assert_eq!(keys(store), 2, "{place}");
    });
}

#[test]
fn state_that_cannot_be_read_ends_a_page_before_it_and_is_said_with_its_key() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let kind = StateKind::own(1);
    for key in [b"a", b"b", b"c"] {
        // Too long to be kept in memory.
        store.apply(&[StateChange::Put { kind, key, value: &[key[0]; 1_000] }], Durability::Durable).unwrap();
    }
    let path = PathBuf::from(format!("{FOLDER}/table/{:020}.log", 1));
    let flip = |byte| {
        let file = disk.open(&path, Access::Write).expect("it is there");
        let mut bytes = [0];
        file.read_at(&mut bytes, byte).expect("the disk works");
        file.write_at(&[bytes[0] ^ 1], byte).expect("the disk works");
    };
    // Each record has 64 bytes of header, a value of 1,000 and a key: the second begins at 64 + 1,072.
    flip(64 + 1_072 + 500);
    let keys = |from: &[u8]| {
        let page = store.list(kind, from, 10).map_err(|error| error.to_string());
        page.map(|page| (page.entries.into_iter().map(|(key, _)| key[0]).collect::<Vec<_>>(), page.next))
    };
    assert_eq!(keys(b""), Ok((vec![b'a'], Some(b"b".as_slice().into()))));
    assert_eq!(keys(b"b\0"), Ok((vec![b'c'], None)));
    let said = keys(b"b").unwrap_err();
    assert!(said.starts_with("the kind 65537 \"b\" cannot be read: ") && said.contains("positions 2 to 2"), "{said}");
    for error in [store.list(kind, b"b", 1).map(drop).unwrap_err(), store.get(kind, b"b").map(drop).unwrap_err()] {
        let StateReadError::Damaged { kind: found, key, damage } = error else { panic!("{error}") };
        assert_eq!((found, &*key, damage.missing), (kind, b"b".as_slice(), Some(2..=2)));
    }
    // The header of the third: what it was is known all the same.
    flip(64 + 2 * 1_072 + 8);
    let Err(StateReadError::Damaged { damage, .. }) = store.get(kind, b"c") else { panic!("it is damaged") };
    assert_eq!(damage.missing, Some(3..=3));
    store.close().expect("the disk works");
    let store = open(&disk);
    assert_eq!(store.state_damages().len(), 2);
    assert_eq!(store.list(kind, b"", 10).unwrap().entries.len(), 1, "what is found on opening counts as not there");
    store.accept_state_damages();
    assert_eq!(store.state_damages(), []);
}
