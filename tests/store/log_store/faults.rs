//! The store while its disk fails, and after power loss: what was acknowledged is there, and nothing else is half there.

use ringmain::internals::store::open_on;
use ringmain::internals::store::sim::{Failure, Kept, Replay, SimDisk};
use ringmain::store::{
    AppendError, Durability, EventStore, ExpectedVersion, LogStore, LogStoreBuilder, OpenError, Query, Snapshot,
    SnapshotError, StateChange, StateError, StateKind, StateStore, StoredEvent,
};
use ringmain::{Frame, Payload};

use super::{files, found, open, small};
use crate::conformance::Writer;
use crate::support::Shareable;

/// What was acknowledged.
#[derive(Debug, Clone, Default)]
struct Told {
    written: u64,
    durable: u64,
    snapshot: u64,
    /// The last event that state was written of, and made durable of.
    state: u64,
    state_durable: u64,
}

const VERSIONS: u64 = 48;
/// So long that the table has several segments, and is compacted.
const STATE_BYTES: usize = 15_000;

/// Small, also for snapshots and state.
fn builder() -> LogStoreBuilder {
    small().snapshot_state_bytes_max(64).state_batch_bytes_max(STATE_BYTES + 100)
}

/// State that speaks of an event.
fn speak_of(store: &LogStore, version: u64, word: Durability) -> Result<(), StateError> {
    let long = version.to_le_bytes().repeat(STATE_BYTES / 8);
    let (kind, value) = (StateKind::CURSOR, version.to_le_bytes());
    let changes = [(b"long", &long[..]), (b"last", &value)].map(|(key, value)| StateChange::Put { kind, key, value });
    store.apply(&changes, word)
}

/// The last event that state speaks of, all of it the same; 0 where there is no state.
fn spoken_of(store: &LogStore, place: &str) -> u64 {
    let page = store.list(StateKind::CURSOR, &[], 10).unwrap_or_else(|error| panic!("{place}: {error}"));
    let Some((_, last)) = page.entries.first() else { return 0 };
    assert_eq!(page.entries.len(), 2, "{place}: changes are made together");
    assert_eq!(*page.entries[1].1, last.repeat(STATE_BYTES / 8), "{place}: changes are made together");
    u64::from_le_bytes((**last).try_into().expect("it is a number"))
}

#[test]
fn a_write_or_sync_that_failed_is_said_by_the_store_to_who_appends_nothing() {
    for of_state in [false, true] {
        let disk = SimDisk::new();
        let store = open_on(disk.shared(), builder()).expect("the disk works");
        let put = StateChange::Put { kind: StateKind::DEAD_LETTER, key: b"key", value: b"letter" };
        store.append(&Writer::new().frames("common", 1), ExpectedVersion::Any, Durability::Written).expect("it works");
        store.apply(&[put], Durability::Written).expect("the disk works");
        assert!(store.fault().is_none());
        // Of the write of state and its sync, the sync.
        disk.fail_at(1 + u64::from(of_state), Failure::Device);
        if of_state {
            assert!(matches!(store.apply(&[put], Durability::Durable), Err(StateError::Disk(_))));
        } else {
            store.sync().expect_err("it has failed");
        }
        assert_eq!(store.fault().map(|fault| fault.operation), Some("sync"), "of state: {of_state}");
        drop(store);
        let store = open_on(disk.shared(), builder()).expect("the disk works again");
        assert!(store.fault().is_none());
    }
}

/// Versions of one aggregate, one by one, over several segments, and state that speaks of them; a snapshot now and then. Ends
/// with the first error, which is said to be one of the disk.
fn work(disk: &SimDisk, frames: &[Frame], mut told: impl FnMut(&Told)) -> Told {
    let mut now = Told::default();
    let store = match open_on(disk.shared(), builder()) {
        Ok(store) => store,
        Err(OpenError::Disk(_)) => return now,
        Err(error) => panic!("{error}"),
    };
    for (version, frame) in (0..).zip(frames) {
        let word = if version % 5 == 4 { Durability::Durable } else { Durability::Written };
        match store.append(std::slice::from_ref(frame), ExpectedVersion::Exact(version), word) {
            Ok(appended) => {
                assert_eq!(appended.positions().start().get(), version + 1);
                now.written = version + 1;
                now.durable = if word == Durability::Durable { version + 1 } else { now.durable };
            }
            Err(AppendError::Disk(_) | AppendError::DiskFull(_)) => return now,
            Err(error) => panic!("{error}"),
        }
        if version % 12 == 11 {
            let snapshot = Snapshot::new("order", "7", version + 1, Payload::json("{}"));
            match store.save_snapshot(&snapshot) {
                Ok(()) => now.snapshot = version + 1,
                Err(SnapshotError::Failed(_)) => return now,
                Err(error) => panic!("{error}"),
            }
        }
        if version % 3 == 2 {
            let word = if version % 2 == 0 { Durability::Durable } else { Durability::Written };
            match speak_of(&store, version + 1, word) {
                Ok(()) => {
                    now.state = version + 1;
                    now.state_durable = if word == Durability::Durable { version + 1 } else { now.state_durable };
                }
                Err(StateError::Disk(_) | StateError::DiskFull(_)) => return now,
                Err(error) => panic!("{error}"),
            }
        }
        told(&now);
    }
    now
}

/// Everything that must be there is, in order, by the log and by the index; what was never appended is not.
fn check(disk: &SimDisk, frames: &[Frame], least: &Told, place: &str) {
    let Told { written: events_min, snapshot: snapshot_min, state: state_min, .. } = *least;
    let store = open_on(disk.shared(), builder()).unwrap_or_else(|error| panic!("{place}: {error}"));
    let events: Vec<_> = Query::new().stream(&store).map(|event| event.expect("it can be read")).collect();
    assert!(events.len() as u64 >= events_min, "{place}: {} of {events_min}", events.len());
    assert!(events.iter().map(StoredEvent::frame).eq(&frames[..events.len()]), "{place}");
    let all: Vec<_> = (1..=events.len() as u64).collect();
    assert_eq!(found(&store, Query::new().aggregate("order", "7").limit(5)), all, "{place}");
    let snapshot = store.load_snapshot("order", "7").expect("it can be read").map_or(0, |kept| kept.version());
    assert!((snapshot_min..=events.len() as u64).contains(&snapshot), "{place}: snapshot {snapshot}");
    let state = spoken_of(&store, place);
    assert!((state_min..=events.len() as u64).contains(&state), "{place}: state {state} of {} events", events.len());
    // It goes on.
    speak_of(&store, events.len() as u64, Durability::Durable).unwrap_or_else(|error| panic!("{place}: {error}"));
    if let Some(frame) = frames.get(events.len()) {
        let expected = ExpectedVersion::Exact(events.len() as u64);
        let again = store.append(std::slice::from_ref(frame), expected, Durability::Durable);
        assert!(again.is_ok(), "{place}: {again:?}");
    }
}

#[test]
fn a_failure_of_any_call_loses_nothing_acknowledged() {
    let frames = Writer::new().of_aggregate("order", "7", 1..=VERSIONS);
    let calls = {
        let disk = SimDisk::new();
        work(&disk, &frames, |_| {});
        disk.operations()
    };
    for failure in [Failure::Device, Failure::Full, Failure::Short] {
        for nth in 1..calls {
            let disk = SimDisk::new();
            disk.fail_at(nth, failure);
            let told = work(&disk, &frames, |_| {});
            // The indexer's thread makes its calls when it comes to it, and one run may end before the call that was to fail.
            disk.fail_at(u64::MAX >> 1, failure);
            check(&disk, &frames, &told, &format!("{failure:?} at call {nth}"));
        }
    }
}

#[test]
fn power_loss_at_any_moment_loses_nothing_durable_and_no_snapshot_or_state_is_ahead_of_its_events() {
    let frames = Writer::new().of_aggregate("order", "7", 1..=VERSIONS);
    let disk = SimDisk::new();
    // How many effects the disk had when something was acknowledged.
    let mut told = vec![(0, Told::default())];
    work(&disk, &frames, |now| told.push((disk.effects(), now.clone())));
    let mut replay = Replay::new(&disk);
    loop {
        let at = replay.at();
        let (_, now) = told.iter().rev().find(|(effects, _)| *effects <= at).expect("the first is 0");
        for kept in [Kept::Nothing, Kept::Killed, Kept::Chance(at as u64)] {
            // What state speaks of is durable before it is written.
            let events_min = now.durable.max(now.state);
            let durable = Told { written: events_min, snapshot: 0, state: now.state_durable, ..now.clone() };
            let least = if kept == Kept::Killed { now } else { &durable };
            check(&replay.image(kept), &frames, least, &format!("{kept:?} at effect {at}"));
        }
        if !replay.step() {
            break;
        }
    }
}

#[test]
fn a_full_disk_is_said_and_the_store_goes_on_when_there_is_room() {
    let disk = SimDisk::new();
    let frames = Writer::new().of_aggregate("order", "7", 1..=VERSIONS);
    let store = open(&disk);
    disk.set_capacity_bytes(9_000);
    let mut version = 0;
    let refused = loop {
        let frame = std::slice::from_ref(&frames[version as usize]);
        match store.append(frame, ExpectedVersion::Exact(version), Durability::Durable) {
            Ok(_) => version += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, AppendError::DiskFull(fault) if fault.is_full()), "{refused:?}");
    assert!(refused.to_string().ends_with("make room and append them again"), "{refused}");
    assert_eq!(found(&store, Query::new().aggregate("order", "7")), (1..=version).collect::<Vec<_>>());
    disk.set_capacity_bytes(1 << 20);
    for frame in &frames[version as usize..] {
        store
            .append(std::slice::from_ref(frame), ExpectedVersion::Exact(version), Durability::Durable)
            .expect("there is room");
        version += 1;
    }
    assert_eq!(found(&store, Query::new()), (1..=VERSIONS).collect::<Vec<_>>());
    store.close().expect("the disk works");
    assert!(!files(&disk, "idx").is_empty());
}
