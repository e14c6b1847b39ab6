//! What the store's own thread does beside appending: it is in nobody's way, and when it dies that is said.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use ringmain::internals::store::sim::SimDisk;
use ringmain::internals::store::{Access, Boot, Disk, DiskFile, FolderLock, open_on};
use ringmain::store::{
    Durability, EventStore, ExpectedVersion, LogStore, Query, Retention, StateChange, StateKind, StateStore,
};
use ringmain::{Bus, Payload};

use super::{files, found, open, small};
use crate::books::assert_settled;
use crate::conformance::Writer;
use crate::folder::Folder;
use crate::support::Shareable;

const NOW: Retention = Retention::forever().archive_after(Duration::ZERO);

/// A disk on which making a file of a kind is something else.
#[derive(Debug)]
struct Odd {
    disk: SimDisk,
    extension: &'static str,
    how: How,
}

#[derive(Debug)]
enum How {
    Panics,
    /// Says that it begins, then waits.
    Waits(Barrier, Barrier, AtomicBool),
}

impl Disk for Odd {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk.create_folder(folder)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        if access == Access::Create && path.extension().is_some_and(|extension| extension == self.extension) {
            match &self.how {
                How::Panics => panic!("no file is made"),
                How::Waits(begun, go_on, once) => {
                    if !once.swap(true, Ordering::AcqRel) {
                        begun.wait();
                        go_on.wait();
                    }
                }
            }
        }
        self.disk.open(path, access)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }
    fn lock(&self, folder: &Path) -> io::Result<Box<dyn FolderLock>> {
        self.disk.lock(folder)
    }
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        self.disk.free_bytes(folder)
    }
    fn boot(&self) -> Option<Boot> {
        self.disk.boot()
    }
    fn unix_now_ns(&self) -> u64 {
        self.disk.unix_now_ns()
    }
    fn steady_now_ns(&self) -> u64 {
        self.disk.steady_now_ns()
    }
}

#[test]
fn a_panic_of_the_index_thread_is_said_by_the_next_append_and_loses_nothing() {
    let disk = SimDisk::new();
    let odd = Odd { disk: disk.clone(), extension: "idx", how: How::Panics };
    let store = open_on(Arc::new(odd), small()).expect("the disk works");
    let mut writer = Writer::new();
    let mut appended = 0;
    let said = loop {
        let frame = writer.frame("common", |event| event.metadata("m", &"x".repeat(500)));
        match store.append(&[frame], ExpectedVersion::Any, Durability::Written) {
            Ok(_) => appended += 1,
            Err(error) => break error.to_string(),
        }
        assert!(appended < 100_000, "it is never said");
    };
    assert!(said.contains("no file is made") && said.contains("open the store again"), "{said}");
    assert_eq!(found(&store, Query::new()).len(), appended, "what is there is found");
    let closed = store.close().expect_err("it is said here too").to_string();
    assert!(closed.contains("panicked"), "{closed}");
    let store = open(&disk);
    assert_eq!(found(&store, Query::new()), (1..=appended as u64).collect::<Vec<_>>());
    let frame = writer.frame("common", |event| event);
    store.append(&[frame], ExpectedVersion::Any, Durability::Durable).expect("it goes on");
}

#[test]
fn appends_and_the_end_go_before_upkeep() {
    let disk = SimDisk::new();
    let mut writer = Writer::new();
    let mut frames = |count: usize| -> Vec<_> { (0..count).map(|_| writer.frame("common", |event| event)).collect() };
    let store = open_on(disk.shared(), small().retention(Retention::forever())).expect("the disk works");
    while store.stats().segments < 20 {
        store.append(&frames(4), ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    store.close().expect("the disk works");
    let how = How::Waits(Barrier::new(2), Barrier::new(2), AtomicBool::new(false));
    let odd = Arc::new(Odd { disk: disk.clone(), extension: "logz", how });
    let store = open_on(Arc::clone(&odd) as Arc<dyn Disk>, small().retention(NOW)).expect("the disk works");
    let How::Waits(begun, go_on, _) = &odd.how else { unreachable!("it was made so") };
    begun.wait();
    // The first of many segments is being archived, and does not come to an end: appending does not wait for it.
    let before = store.stats().segments;
    while store.stats().segments < before + 3 {
        store.append(&frames(4), ExpectedVersion::Any, Durability::Durable).expect("the disk works");
    }
    assert_eq!(files(&disk, "logz").len(), 0);
    // Nor does the end wait for more than the segment that is being archived.
    let closing = thread::spawn(move || store.close());
    go_on.wait();
    closing.join().expect("it does not panic").expect("the disk works");
    let archived = files(&disk, "logz").len();
    assert!(archived < 20, "{archived} of {before} were archived before the end");
    let indices = files(&disk, "idx").len();
    assert_eq!(indices, before + 2, "each full segment has its index");
}

#[test]
fn figures_wait_for_no_disk_that_hangs() {
    let how = How::Waits(Barrier::new(2), Barrier::new(2), AtomicBool::new(false));
    let odd = Arc::new(Odd { disk: SimDisk::new(), extension: "log", how });
    let store = open_on(Arc::clone(&odd) as Arc<dyn Disk>, small()).expect("the disk works");
    let How::Waits(begun, go_on, _) = &odd.how else { unreachable!("it was made so") };
    let put = StateChange::Put { kind: StateKind::DEAD_LETTER, key: b"key", value: b"letter" };
    thread::scope(|scope| {
        let changing = scope.spawn(|| store.apply(&[put], Durability::Written));
        // The first file of state is being made, and that does not come to an end.
        begun.wait();
        assert!(!store.stats().has_state_reserve);
        go_on.wait();
        changing.join().expect("it does not panic").expect("the disk works");
    });
    assert!(store.stats().has_state_reserve);
}

#[test]
fn retention_and_archiving_go_on_while_a_bus_publishes_and_its_journal_keeps_all() {
    const EVENTS: u64 = 6_000;
    let folder = Folder::new("retention-publishing");
    let builder = LogStore::builder(&folder.0).segment_bytes(16_384).event_bytes_max(3_000);
    let store = Arc::new(builder.retention(NOW.bytes_max(400_000)).open().expect("the disk works"));
    let bus = Bus::builder().workers(1).pin(false).build().expect("the defaults are valid");
    let journal = bus.journal(store.clone()).start().expect("it runs");
    for event in 0..EVENTS {
        bus.publish("orders.placed", Payload::json(&format!(r#"{{"n":{event}}}"#))).expect("there is room");
        if event % 1_000 == 0 {
            let positions = found(&*store, Query::new());
            assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
        }
    }
    assert_settled(&bus);
    journal.close().expect("the disk works");
    bus.shutdown().expect("it runs");
    assert!(store.upkeep_fault().is_none(), "{:?}", store.upkeep_fault());
    let kept = store.keep(NOW.bytes_max(400_000)).expect("the disk works");
    let (first, last) = store.stats().positions.expect("there are events");
    assert_eq!(last.get(), EVENTS, "every event was kept once: {kept:?}");
    assert!(first.get() > 1 && store.stats().event_bytes < 450_000, "the oldest are gone: {:?}", store.stats());
    assert_eq!(found(&*store, Query::new()), (first.get()..=EVENTS).collect::<Vec<_>>());
    let compressed = fs_count(&folder.0, "logz");
    assert!(compressed > 5, "the others are compressed: {compressed}");
}

fn fs_count(folder: &Path, extension: &str) -> usize {
    let entries = std::fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("listed").path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).count()
}

#[test]
fn what_is_due_is_what_is_done() {
    let (disk, _) = super::written();
    let store = open(&disk);
    for retention in [Retention::forever(), NOW, NOW.bytes_max(20_000), NOW] {
        let due = store.due(retention).expect("the disk works");
        let mut told = 0;
        let done = store.keep_telling(retention, |_| told += 1).expect("the disk works");
        assert_eq!((due.archived_segments, due.removed_segments), (done.archived_segments, done.removed_segments));
        assert_eq!((due.removed_events, told), (done.removed_events, done.archived_segments));
        assert!(due.archived_bytes >= done.archived_bytes);
    }
}

#[test]
fn a_folder_is_a_store_by_what_is_in_it_and_not_by_a_name() {
    let folder = Folder::new("is-in");
    assert!(!LogStore::is_in(&folder.0));
    std::fs::create_dir(folder.0.join("table")).expect("it can be made");
    assert!(LogStore::is_in(&folder.0), "as a store is that was never written to");
    std::fs::write(folder.0.join("notes.txt"), "").expect("it can be written");
    assert!(!LogStore::is_in(&folder.0), "somebody's folder");
    std::fs::write(folder.0.join("table/chair.txt"), "").expect("it can be written");
    assert!(!LogStore::is_in(&folder.0), "somebody's furniture");
    let store = LogStore::open(&folder.0).expect("the disk works");
    let frame = Writer::new().frame("common", |event| event);
    store.append(&[frame], ExpectedVersion::Any, Durability::Durable).expect("the disk works");
    store.close().expect("the disk works");
    assert!(LogStore::is_in(&folder.0), "it has events");
}
