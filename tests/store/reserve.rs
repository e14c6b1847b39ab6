//! A real disk that is full to the last byte: no event is taken any more, and what the bus needs to go on is: cursors, dead letters,
//! timers, states.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ringmain::store::{
    AppendError, AuditTrail, AuditedError, DeadLetterQueue, Durability, DurableSubscription, EventStore,
    ExpectedVersion, LogStore, Schedule, StateChange, StateError, StateKind, StateStore,
};
use ringmain::{Bus, DeliveryMode, Outcome, Payload, RoutingRule};

use crate::alone::alone;
use crate::books::assert_settled;
use crate::conformance::Writer;
use crate::tmpfs::Tmpfs;

const FULL: &str = "reserve::on_a_full_disk_cursors_letters_timers_and_states_go_on_and_are_there_afterwards";
/// Events that are there to be read.
const EVENTS: u64 = 100;
/// How often everything is changed while the disk is full: some megabytes, in files of some 100 KiB on a disk of one.
const ROUNDS: u64 = 20;

/// A store whose files a small file system has room for. Events have one file: the disk is never so empty again that there is another.
fn open(folder: &Path, has_reserve: bool) -> Arc<LogStore> {
    let builder = LogStore::builder(folder.join("store")).segment_bytes(256 << 10).event_bytes_max(4_000);
    let builder = builder.state_batch_bytes_max(1_000).snapshot_state_bytes_max(1_000).state_reserve(has_reserve);
    Arc::new(builder.open().expect("it can be opened"))
}

/// Appends until the disk is full. Returns how many were.
fn append_all(store: &LogStore, writer: &mut Writer) -> u64 {
    let mut appended = 0;
    loop {
        match store.append(&writer.frames("a", 1), ExpectedVersion::Any, Durability::Written) {
            Ok(_) => appended += 1,
            Err(AppendError::DiskFull(_)) => return appended,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Changes one state until it is refused, `changes` times at most. Returns how often it was changed.
fn change(store: &LogStore, changes: u64) -> (u64, Option<StateError>) {
    for number in 0..changes {
        let value = [number.to_le_bytes().as_slice(), &[7; 392]].concat();
        let put = StateChange::Put { kind: StateKind::own(1), key: b"saga", value: &value };
        if let Err(error) = store.apply(&[put], Durability::Written) {
            return (number, Some(error));
        }
    }
    (changes, None)
}

/// Alone: a file that is removed gives its room back when nobody has it open, and a process that another test forks does for a moment.
#[test]
fn on_a_full_disk_cursors_letters_timers_and_states_go_on_and_are_there_afterwards() {
    alone(FULL, go_on);
}

fn go_on() {
    let Some(tmpfs) = Tmpfs::mount("reserve") else { return };
    let mut writer = Writer::new();
    let mut events = EVENTS;
    let last = {
        let store = open(tmpfs.path(), true);
        store.append(&writer.frames("a", EVENTS as usize), ExpectedVersion::Any, Durability::Written).unwrap();
        assert!(!store.stats().has_state_reserve, "nothing was kept yet");
        let queue = DeadLetterQueue::open("letters", store.clone()).unwrap();
        let schedule = Schedule::open("later", store.clone()).unwrap();
        let mut cursor = DurableSubscription::builder(store.clone(), store.clone(), "billing").open().unwrap();
        let bus = Bus::builder().workers(1).dead_letters_max(0).dead_letter_sink(queue.clone()).build().unwrap();
        let trail = AuditTrail::over(&bus, store.clone()).unwrap();
        let wish = bus.subscribe("b").named("bank").mode(DeliveryMode::reliable());
        let bank = wish.handle(|_, _| Outcome::Reject("no such account".to_owned())).unwrap();
        let mut publisher = bus.publisher().unwrap();
        assert!(store.stats().has_state_reserve);

        tmpfs.fill("ballast");
        events += append_all(&store, &mut writer);
        let due = SystemTime::now();
        for round in 0..ROUNDS {
            // Compaction sets it aside again while changes go on; what room there is beside it others take.
            let mut until = 0;
            while !store.stats().has_state_reserve {
                until += change(&store, 1).0;
                assert!((1..200).contains(&until), "round {round}");
            }
            tmpfs.fill("ballast");
            assert_eq!(change(&store, 300).0, 300, "round {round}");
            while let Some(event) = cursor.try_recv().unwrap() {
                cursor.ack(event.position()).unwrap();
                if event.position().get() % 10 == 0 {
                    break;
                }
            }
            for _ in 0..5 {
                publisher.publish("b", Payload::json("7")).unwrap();
            }
            bus.flush().unwrap();
            // The queue has heard of them.
            bus.dead_letters().counts();
            for letter in queue.list(None, 4).unwrap() {
                queue.redrive(letter.id(), |_| Ok::<_, ringmain::Error>(())).unwrap();
            }
            let frame = publisher.event().to_frame("later", Payload::plain_text("ring")).unwrap();
            schedule.add(due, &frame).unwrap();
            schedule.publish_due(due, |_| Ok::<_, ringmain::Error>(())).unwrap();
        }
        // What would be done without its record is not.
        let refused = trail.by("ada").add_rule(RoutingRule::new("a").to("bank")).unwrap_err();
        assert!(matches!(refused, AuditedError::NotRecorded(_)), "{refused:?}");
        assert!(bus.rules().list().is_empty());

        let counts = queue.counts();
        assert_eq!((counts.held as u64, counts.redriven, counts.lost), (ROUNDS, 4 * ROUNDS, 0), "{counts:?}");
        drop((bank, publisher, trail));
        assert_settled(&bus);
        bus.shutdown().unwrap();
        cursor.acknowledged().expect("it has read")
    };
    // The next process finds the disk as full as it was.
    let store = open(tmpfs.path(), true);
    assert!(store.recovered().damages.is_empty() && store.state_damages().is_empty());
    assert_eq!(store.stats().events, events);
    let mut cursor = DurableSubscription::builder(store.clone(), store.clone(), "billing").open().unwrap();
    assert_eq!(cursor.acknowledged(), Some(last));
    cursor.ack(last).unwrap();
    assert_eq!(DeadLetterQueue::open("letters", store.clone()).unwrap().counts().held as u64, ROUNDS);
    assert_eq!(change(&store, 3_000).0, 3_000);
    fs::remove_file(tmpfs.path().join("ballast")).unwrap();
    store.append(&writer.frames("a", 1), ExpectedVersion::Any, Durability::Durable).unwrap();
    assert_eq!(store.stats().events, events + 1);
}

#[test]
fn without_a_reserve_a_full_disk_refuses_state_with_a_typed_error_and_loses_none() {
    let Some(tmpfs) = Tmpfs::mount("no-reserve") else { return };
    let mut writer = Writer::new();
    let store = open(tmpfs.path(), false);
    assert_eq!(change(&store, 10).0, 10);
    let ballast = tmpfs.fill("ballast");
    append_all(&store, &mut writer);
    // What a file of state gives back when it was compacted is taken at once by others.
    let (changed, refused) = loop {
        let (changed, refused) = change(&store, 50);
        tmpfs.fill("ballast");
        if refused.is_some() {
            break (changed, refused);
        }
    };
    assert!(matches!(refused, Some(StateError::DiskFull(_))), "{refused:?}");
    assert!(!store.stats().has_state_reserve);
    let kept = store.get(StateKind::own(1), b"saga").unwrap().unwrap();
    let number = if changed == 0 { 49 } else { changed - 1 };
    assert_eq!(kept[..8], number.to_le_bytes(), "the last that was acknowledged");
    fs::remove_file(ballast).unwrap();
    assert_eq!(change(&store, 500).0, 500, "without opening it again");
}

#[test]
fn the_reserve_is_kept_by_the_next_process_and_made_as_long_as_its_files() {
    let folder = crate::folder::Folder::new("reserve-kept");
    let reserve = folder.0.join("store/table/reserve");
    let length = || fs::metadata(&reserve).map(|file| file.len()).ok();
    let store = open(&folder.0, true);
    assert_eq!(length(), None, "opening changes nothing");
    change(&store, 1);
    let files = length().expect("it is there");
    drop(store);
    fs::write(&reserve, vec![0; 7]).unwrap();
    let store = open(&folder.0, true);
    change(&store, 1);
    assert_eq!((length(), store.stats().has_state_reserve), (Some(files), true));
    drop(store);
    let larger =
        LogStore::builder(folder.0.join("store")).state_batch_bytes_max(200_000).snapshot_state_bytes_max(1_000);
    let larger = larger.open().unwrap();
    change(&larger, 1);
    assert!(length() > Some(files), "{:?}", length());
    drop(larger);
    drop(open(&folder.0, false));
    assert_eq!(length(), None, "who wants none has none");
}

#[test]
fn where_the_file_system_sets_nothing_aside_a_file_that_is_only_as_long_is_no_reserve() {
    let Some(ramfs) = Tmpfs::of("ramfs", "reserve-sparse") else { return };
    let reserve = ramfs.path().join("store/table/reserve");
    fs::create_dir_all(reserve.parent().expect("it is in a folder")).unwrap();
    fs::File::create(&reserve).unwrap().set_len(1 << 20).unwrap();
    let store = open(ramfs.path(), true);
    assert_eq!(change(&store, 10).0, 10);
    assert!(!store.stats().has_state_reserve && !reserve.exists());
}
