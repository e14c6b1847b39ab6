//! Old events are archived and removed as the store was told, and all that is left is found as before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringmain::Aggregate;
use ringmain::internals::store::open_on;
use ringmain::internals::store::sim::SimDisk;
use ringmain::store::{
    AppendError, Durability, EventStore, ExpectedVersion, Holder, LogStore, Query, ReadError, Retention, Snapshot,
};

use super::{check, conform, files, found, open, position, small, written};
use crate::conformance::{Writer, queries};
use crate::folder::Folder;
use crate::support::Shareable;

/// Everything but the newest segment is archived.
const NOW: Retention = Retention::forever().archive_after(Duration::ZERO);

#[test]
fn archived_events_are_found_by_every_query_as_before() {
    let (disk, _) = written();
    let segments = files(&disk, "log").len();
    let store = open(&disk);
    let done = store.keep(NOW).expect("the disk works");
    assert_eq!((done.archived_segments, done.removed_segments), (segments - 1, 0), "all but the newest");
    check(&store);
    assert_eq!(store.keep(NOW).expect("the disk works").archived_segments, 0, "once");
    store.close().expect("the disk works");
    assert_eq!((files(&disk, "log").len(), files(&disk, "logz").len()), (1, segments - 1));
    let store = open(&disk);
    check(&store);
    drop(store);
    for index in files(&disk, "idx") {
        let disk = disk.without(&index);
        check(&open(&disk));
    }
}

#[test]
fn events_of_an_age_are_removed_with_their_indices() {
    let (disk, frames) = written();
    let store = open(&disk);
    let done = store.keep(NOW.remove_after(Duration::from_secs(3_600))).expect("the disk works");
    assert_eq!(done.removed_segments, 0, "nothing is so old");
    let done = store.keep(Retention::forever().remove_after(Duration::ZERO)).expect("the disk works");
    let (first, last) = store.stats().positions.expect("the newest segment stays");
    assert_eq!((done.removed_events, last.get()), (first.get() - 1, frames.len() as u64));
    assert_eq!(found(&store, Query::new()), (first.get()..=last.get()).collect::<Vec<_>>());
    assert_eq!(
        found(&store, Query::new().newest_first().from_position(position(1))).len() as u64,
        last.get() - first.get() + 1
    );
    let mut writer = Writer::new();
    let next = store.append(&[writer.frame("common", |event| event)], ExpectedVersion::Any, Durability::Durable);
    assert_eq!(next.expect("the disk works").positions().start().get(), last.get() + 1, "positions go on");
    store.close().expect("the disk works");
    assert_eq!((files(&disk, "log").len() + files(&disk, "logz").len(), files(&disk, "idx").len()), (1, 0));
    assert_eq!(found(&open(&disk), Query::new()).first(), Some(&first.get()));
}

#[test]
fn an_aggregate_whose_events_are_removed_is_at_the_version_of_its_snapshot() {
    let (disk, _) = written();
    let store = open(&disk);
    let mut writer = Writer::new();
    let state = ringmain::Payload::json("{}");
    store.save_snapshot(&Snapshot::new("order", "7", 12, state)).expect("it is at this version");
    let mut filler = |count: usize| -> Vec<_> { (0..count).map(|_| writer.frame("common", |event| event)).collect() };
    for _ in 0..10 {
        store.append(&filler(4), ExpectedVersion::Any, Durability::Durable).expect("the disk works");
    }
    let removed = store.keep(Retention::forever().remove_after(Duration::ZERO)).expect("the disk works");
    assert!(removed.removed_events >= 120, "{removed:?}");
    store.close().expect("the disk works");
    let store = open(&disk);
    assert_eq!(store.load("order", "7", 0).expect("it can be read").events.len(), 0);
    assert_eq!(store.load_snapshot("order", "7").expect("it can be read").expect("it is kept").version(), 12);
    let of = |version| Aggregate { kind: "order", id: "7", version };
    let mut writer = Writer::new();
    let again =
        store.append(&[writer.frame("a", |event| event.aggregate(of(1)))], ExpectedVersion::New, Durability::Durable);
    assert!(matches!(again, Err(AppendError::AlreadyExists { version: 12, .. })), "{again:?}");
    let next = writer.frame("a", |event| event.aggregate(of(13)));
    store.append(&[next], ExpectedVersion::Exact(12), Durability::Durable).expect("it goes on");
}

#[test]
fn the_oldest_events_are_removed_while_there_are_too_many_bytes() {
    let (disk, _) = written();
    let store = open(&disk);
    let before = store.stats();
    let wanted = before.event_bytes / 2;
    let done = store.keep(NOW.bytes_max(wanted)).expect("the disk works");
    assert!(done.removed_segments > 0 && done.archived_segments > 0, "{done:?}");
    assert_eq!(done.removed_segments + done.archived_segments + 1, before.segments);
    // A file has 64 bytes of its own.
    let after = store.stats().event_bytes - store.stats().segments as u64 * 64;
    assert!(after <= wanted && after > wanted - 2 * 4_096, "{after} of {wanted}: no more than needed");
}

#[test]
fn a_store_that_archives_at_once_is_a_store() {
    conform("archive", |builder| builder.retention(NOW));
    queries::find_what_a_filter_by_hand_finds(&|| {
        Box::new(open_on(SimDisk::new().shared(), small().retention(NOW)).expect("the disk works"))
    });
}

#[test]
fn the_store_does_it_by_itself_when_it_is_opened_and_when_a_segment_is_full() {
    let (disk, _) = written();
    let store = open_on(disk.shared(), small().retention(NOW)).expect("the disk works");
    // It does so on a thread of its own.
    while files(&disk, "log").len() > 1 {
        thread::yield_now();
    }
    let archived = files(&disk, "logz").len();
    let mut writer = Writer::new();
    while files(&disk, "logz").len() == archived {
        let frame = writer.frame("common", |event| event);
        store.append(&[frame], ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    assert!(store.upkeep_fault().is_none());
}

#[test]
fn archiving_and_removing_go_on_beside_appending_and_reading() {
    let folder = Folder::new("retention");
    let store =
        LogStore::builder(&folder.0).segment_bytes(16_384).event_bytes_max(3_000).open().expect("the disk works");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Writer::new();
            for _ in 0..150 {
                let frames: Vec<_> = (0..20).map(|_| writer.frame("common", |event| event)).collect();
                store.append(&frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let mut all = 0;
            while !done.load(Ordering::Acquire) {
                let kept = store.keep(NOW.bytes_max(100_000)).expect("the disk works");
                all += kept.archived_segments + kept.removed_segments;
            }
            assert!(all > 5, "{all}");
        });
        while !done.load(Ordering::Acquire) {
            let mut last = None;
            for event in Query::new().limit(100).stream(&store) {
                match event {
                    Ok(event) => {
                        let at = event.position().get();
                        assert!(last.is_none_or(|last| at == last + 1), "{at} behind {last:?}: a gap is said");
                        last = Some(at);
                    }
                    // They were removed while they were read.
                    Err(ReadError::Removed { from, .. }) => assert_eq!(Some(from.get()), last.map(|last| last + 1)),
                    Err(error) => panic!("{error}"),
                }
            }
            let newest = found(&store, Query::new().newest_first());
            assert!(newest.windows(2).all(|pair| pair[1] + 1 == pair[0]), "without a gap as far as they are kept");
        }
    });
    let (first, last) = store.stats().positions.expect("there are events");
    assert_eq!(found(&store, Query::new()), (first.get()..=last.get()).collect::<Vec<_>>());
    assert_eq!(last.get(), 3_000);
}

#[test]
fn a_full_disk_is_said_and_the_events_stay_as_they_are() {
    let (disk, _) = written();
    let used: u64 = disk.files().iter().map(|(_, bytes)| bytes).sum();
    disk.set_capacity_bytes(used + 100);
    let store = open(&disk);
    assert!(store.keep(NOW).expect_err("there is no room").is_full());
    check(&store);
    let nothing = SimDisk::new();
    assert_eq!(open(&nothing).keep(NOW.remove_after(Duration::ZERO)).expect("the disk works"), Default::default());
}

#[test]
fn what_an_aggregate_is_made_of_stays_until_a_snapshot_has_it_or_it_is_told_to_go() {
    let all = Retention::forever().remove_after(Duration::ZERO);
    for is_told in [false, true] {
        let (disk, _) = written();
        let store = open(&disk);
        store.keep_history("order").expect("the disk works");
        store.close().expect("the disk works");
        // It holds for whoever opens the store, and for this kind only.
        let store = open(&disk);
        assert_eq!(store.due(all).expect("it can be read").removed_segments, 0);
        let held = store.held(all).expect("it can be read");
        let order = Holder::Aggregate { kind: "order".to_owned(), id: "7".to_owned(), version: 1 };
        assert_eq!((held[0].positions.start().get(), &held[0].holders[..]), (1, &[order][..]));
        assert_eq!(held[0].holders[0].to_string(), "order \"7\", which has no snapshot of its version 1");
        assert!(held.len() >= 5 && held[1..].iter().all(|held| held.holders.is_empty()), "{held:?}");
        let done = store.keep(all).expect("the disk works");
        assert_eq!((done.removed_segments, done.held_segments, done.held_at), (0, held.len(), None));
        if is_told {
            let done = store.keep(all.remove_unsnapshotted()).expect("the disk works");
            assert_eq!((done.removed_segments, done.held_segments), (held.len(), 0));
            continue;
        }
        let state = |version| Snapshot::new("order", "7", version, ringmain::Payload::json("{}"));
        store.save_snapshot(&state(5)).expect("it is at this version");
        let done = store.keep(all).expect("the disk works");
        let first = store.first().expect("it can be read").expect("there are some").get();
        assert!(done.removed_segments > 0 && (41..=60).contains(&first), "what is before version 6, at 60: {first}");
        store.save_snapshot(&state(12)).expect("it is at this version");
        let done = store.keep(all).expect("the disk works");
        assert_eq!(done.held_segments, 0, "{done:?}");
    }
}

const DAY_NS: u64 = 24 * 3_600 * 1_000_000_000;

#[test]
fn a_wall_clock_that_is_set_makes_no_event_old_and_keeps_none_for_ever() {
    let disk = SimDisk::new();
    let mut writer = Writer::new();
    let mut some = || -> Vec<_> { (0..4).map(|_| writer.frame("common", |event| event)).collect() };
    let store = open(&disk);
    let mut append = |store: &LogStore| {
        for _ in 0..20 {
            store.append(&some(), ExpectedVersion::Any, Durability::Written).expect("the disk works");
        }
    };
    let month = Retention::forever().remove_after(Duration::from_nanos(30 * DAY_NS));
    append(&store);
    for step in [-3_600_000_000_000, 3_650 * DAY_NS as i64] {
        disk.step_wall_clock(step);
        assert_eq!(store.due(month).expect("it can be read").removed_segments, 0, "a step by {step} ns");
    }
    // Ten years ahead, some are written; then the clock is right again, in this process or the next.
    append(&store);
    disk.step_wall_clock(0);
    append(&store);
    disk.advance(31 * DAY_NS);
    let segments = store.stats().segments;
    assert_eq!(store.due(month).expect("it can be read").removed_segments, segments - 1, "as the time that has passed");
    store.close().expect("the disk works");
    disk.begin_process();
    let store = open(&disk);
    assert_eq!(store.keep(month).expect("it can be read").removed_segments, segments - 1);
}
