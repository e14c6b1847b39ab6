//! The store on disk: conformance over many segments, and what is found after it was opened again, also where its indices are
//! missing, damaged, or of something else.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ringmain::internals::store::open_on;
use ringmain::internals::store::sim::SimDisk;
use ringmain::store::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, LogStore, LogStoreBuilder, OpenError, Page,
    Position, Query, ReadError, Snapshot, SnapshotError, SyncError,
};
use ringmain::{EventId, Frame};

use crate::conformance::{self, Writer};
use crate::folder::Folder;
use crate::support::{FOLDER, Shareable};

mod damage;
mod faults;
mod kill;
mod retention;
mod upkeep;

/// Segments of about a dozen events.
pub(crate) fn small() -> LogStoreBuilder {
    LogStore::builder(FOLDER).segment_bytes(4_096).event_bytes_max(3_000)
}

pub(crate) fn open(disk: &SimDisk) -> LogStore {
    open_on(disk.shared(), small()).expect("the disk works")
}

/// The positions of all events that a query means.
pub(crate) fn found(store: &dyn EventStore, query: Query) -> Vec<u64> {
    query.stream(store).map(|event| event.expect("it can be read").position().get()).collect()
}

pub(crate) fn position(number: u64) -> Position {
    Position::new(number).expect("not 0")
}

/// The log's files of a disk, oldest first, or its indices.
pub(crate) fn files(disk: &SimDisk, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = disk.files().into_iter().map(|(path, _)| path).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files
}

/// A disk with a store of 120 events in many segments, closed: every tenth event is of an aggregate, and every seventh of a
/// correlation, each third of the topic `rare` in the first half only.
fn written() -> (SimDisk, Vec<Frame>) {
    let disk = SimDisk::new();
    let mut writer = Writer::new();
    let mut frames = Vec::new();
    for nth in 1..=120_u64 {
        let topic = if nth.is_multiple_of(3) && nth < 60 { "rare" } else { "common" };
        frames.push(writer.frame(topic, |event| {
            let event = if nth.is_multiple_of(7) { event.correlation(EventId::from_bytes([7; 16])) } else { event };
            match nth.is_multiple_of(10) {
                true => event.aggregate(ringmain::Aggregate { kind: "order", id: "7", version: nth / 10 }),
                false => event,
            }
        }));
    }
    let store = open(&disk);
    for frames in frames.chunks(4) {
        store.append(frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    store.close().expect("the disk works");
    assert!(files(&disk, "log").len() > 5);
    assert_eq!(files(&disk, "idx").len(), files(&disk, "log").len() - 1, "each full segment has an index");
    (disk, frames)
}

/// Everything that `written` is asked for, by each plan and in both orders.
fn check(store: &dyn EventStore) {
    let queries: [(Query, Vec<u64>); 5] = [
        (Query::new(), (1..=120).collect()),
        (Query::new().aggregate("order", "7"), (1..=12).map(|nth| nth * 10).collect()),
        (Query::new().correlation(EventId::from_bytes([7; 16])), (1..=17).map(|nth| nth * 7).collect()),
        (Query::new().pattern(ringmain::Pattern::new("rare").unwrap()), (1..20).map(|nth| nth * 3).collect()),
        (Query::new().aggregate("order", "8"), Vec::new()),
    ];
    for (query, mut expected) in queries {
        for limit in [1, 5, 1_000] {
            let query = query.clone().limit(limit);
            assert_eq!(found(store, query.clone()), expected, "{query:?}");
            expected.reverse();
            assert_eq!(found(store, query.clone().newest_first()), expected, "{query:?}");
            expected.reverse();
        }
        let (from, to) = (31, 77);
        expected.retain(|position| (from..=to).contains(position));
        assert_eq!(
            found(store, query.clone().from_position(position(from)).to_position(position(to)).limit(2)),
            expected
        );
    }
    assert_eq!(store.load("order", "7", 9).unwrap().events.len(), 3);
}

/// A store that is closed and opened again before each reading.
struct Reopening {
    disk: SimDisk,
    builder: LogStoreBuilder,
    store: Mutex<Option<LogStore>>,
    /// Its indices are removed meanwhile.
    forgets: bool,
}

impl Reopening {
    fn new(builder: LogStoreBuilder, forgets: bool) -> Self {
        let disk = SimDisk::new();
        let store = Mutex::new(Some(open_on(disk.shared(), builder.clone()).expect("the disk works")));
        Self { disk, builder, store, forgets }
    }

    fn with<T>(&self, reopen: bool, call: impl FnOnce(&LogStore) -> T) -> T {
        use ringmain::internals::store::Disk;
        let mut store = self.store.lock().unwrap();
        if reopen {
            store.take().expect("it is open").close().expect("the disk works");
            if self.forgets {
                files(&self.disk, "idx").iter().for_each(|path| self.disk.remove(path).expect("the disk works"));
            }
            *store = Some(open_on(self.disk.shared(), self.builder.clone()).expect("the disk works"));
        }
        call(store.as_ref().expect("it is open"))
    }
}

impl EventStore for Reopening {
    fn append(&self, events: &[Frame], expected: ExpectedVersion, word: Durability) -> Result<Appended, AppendError> {
        self.with(false, |store| store.append(events, expected, word))
    }

    fn sync(&self) -> Result<(), SyncError> {
        self.with(false, EventStore::sync)
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        self.with(true, |store| store.query(query))
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.with(false, |store| store.save_snapshot(snapshot))
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        self.with(true, |store| store.load_snapshot(kind, id))
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        self.with(true, LogStore::head)
    }

    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError> {
        self.with(true, |store| store.wait_behind(position, limit))
    }

    fn durability(&self) -> Durability {
        Durability::Durable
    }
}

/// Runs every promise on a real disk, each store in a folder of its own.
fn conform(name: &str, limits: impl Fn(LogStoreBuilder) -> LogStoreBuilder) {
    let folder = Folder::new(name);
    let stores = Cell::new(0);
    conformance::run(&|| {
        stores.set(stores.get() + 1);
        let builder = LogStore::builder(folder.0.join(stores.get().to_string())).event_bytes_max(100_000);
        Box::new(limits(builder.segment_bytes(512 << 10)).open().expect("the disk works"))
    });
}

#[test]
fn the_store_on_disk_is_a_store() {
    conform("conformance", |builder| builder);
}

#[test]
fn a_store_with_hardly_any_memory_is_a_store() {
    conform("little-memory", |builder| builder.versions_max(1).index_bytes_max(0).queue_bytes_max(1));
}

#[test]
fn queries_over_many_segments_find_what_a_filter_by_hand_finds() {
    conformance::queries::find_what_a_filter_by_hand_finds(&|| Box::new(open(&SimDisk::new())));
}

#[test]
fn a_store_that_is_opened_again_finds_the_same() {
    conformance::queries::find_what_a_filter_by_hand_finds(&|| {
        Box::new(Reopening::new(small().index_bytes_max(0), false))
    });
}

#[test]
fn a_store_that_has_lost_its_indices_finds_the_same() {
    conformance::queries::find_what_a_filter_by_hand_finds(&|| Box::new(Reopening::new(small(), true)));
}

#[test]
fn a_missing_index_is_made_again() {
    let (disk, _) = written();
    for path in files(&disk, "idx") {
        let image = disk.without(&path);
        let store = open(&image);
        check(&store);
        store.close().expect("the disk works");
        assert_eq!(files(&image, "idx"), files(&disk, "idx"));
    }
}

#[test]
fn a_damaged_index_is_found_out_and_made_again() {
    let (disk, _) = written();
    let (path, length) =
        disk.files().into_iter().find(|(path, _)| path.extension().is_some_and(|found| found == "idx")).unwrap();
    for byte in 0..length {
        let image = disk.flipped(&path, byte, (byte % 8) as u32);
        let store = open(&image);
        let version = store.append(
            &Writer::new().of_aggregate("order", "7", 13..=13),
            ExpectedVersion::Exact(12),
            Durability::Written,
        );
        assert_eq!(version.expect("the version is known").version(), Some(13), "byte {byte}");
        assert_eq!(found(&store, Query::new().aggregate("order", "7").limit(3)).len(), 13, "byte {byte}");
        let rare = Query::new().pattern(ringmain::Pattern::new("rare").unwrap());
        assert_eq!(found(&store, rare).len(), 19, "byte {byte}");
        store.close().expect("the disk works");
    }
    // Found out, it is whole again when the store is closed.
    let image = disk.flipped(&path, 20, 1);
    let store = open(&image);
    check(&store);
    store.close().expect("the disk works");
    let bytes = |disk: &SimDisk| contents(disk, &path);
    assert_eq!(bytes(&image), bytes(&disk));
}

fn contents(disk: &SimDisk, path: &Path) -> Vec<u8> {
    use ringmain::internals::store::{Access, Disk};
    let file = disk.open(path, Access::Read).expect("it is there");
    let mut bytes = vec![0; file.length().expect("the disk works") as usize];
    assert_eq!(file.read_at(&mut bytes, 0).expect("the disk works"), bytes.len());
    bytes
}

#[test]
fn an_index_that_is_ahead_of_the_log_is_thrown_away() {
    use ringmain::internals::store::{Access, Disk};
    let (disk, frames) = written();
    // Power loss took the last segments; the indices of two of them are still there.
    let logs = files(&disk, "log");
    let kept = logs.len() - 3;
    let image = logs[kept..].iter().fold(disk.clone(), |disk, path| disk.without(path));
    let next: u64 = logs[kept].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let store = open(&image);
    assert_eq!(store.head().unwrap(), Position::new(next - 1));
    assert_eq!(found(&store, Query::new()), (1..next).collect::<Vec<_>>());
    let versions = found(&store, Query::new().aggregate("order", "7"));
    assert_eq!(versions, (1..next).filter(|position| position % 10 == 0).collect::<Vec<_>>());
    assert_eq!(files(&image, "idx").len(), kept - 1, "only full segments have one");
    // What comes in their place is found.
    for frames in frames[next as usize - 1..].chunks(4) {
        store.append(frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    check(&store);
    drop(store);
    check(&open(&image));

    // The index of another segment in the place of its own.
    let [first, second] = [0, 1].map(|nth| files(&disk, "idx")[nth].clone());
    let image = disk.without(&first);
    let file = image.open(&first, Access::Create).expect("it is gone");
    file.write_at(&contents(&disk, &second), 0).expect("the disk works");
    check(&open(&image));
}

#[test]
fn an_index_that_cannot_be_written_is_said_and_made_when_the_store_is_opened_again() {
    let folder = Folder::new("no-index");
    let in_the_way = folder.0.join(format!("{:020}.idx", 1));
    fs::create_dir(&in_the_way).unwrap();
    let builder = LogStore::builder(&folder.0).segment_bytes(4_096).event_bytes_max(3_000);
    let store = builder.clone().open().unwrap();
    let mut writer = Writer::new();
    let frames = writer.of_aggregate("order", "7", 1..=40);
    for (frame, version) in frames.iter().zip(0..) {
        let expected = ExpectedVersion::Exact(version);
        store.append(std::slice::from_ref(frame), expected, Durability::Written).expect("an index is no part of it");
    }
    let faults = loop {
        // A thread of its own writes indices.
        match store.index_faults() {
            faults if faults.is_empty() => thread::yield_now(),
            faults => break faults,
        }
    };
    let [fault] = &faults[..] else { panic!("only the first has something in its way: {faults:?}") };
    assert_eq!((fault.first.get(), &fault.fault.path), (1, &in_the_way));
    let last = fault.last.get();
    assert!((2..40).contains(&last));
    let said = fault.to_string();
    let expected = format!("the index of positions 1 to {last} was not written: cannot ");
    assert!(said.starts_with(&expected) && said.ends_with("; mend that and open the store again"), "{said}");
    let all: Vec<_> = (1..=40).collect();
    assert_eq!(found(&store, Query::new().aggregate("order", "7")), all);
    store.close().expect("what it appended is there");

    fs::remove_dir(&in_the_way).unwrap();
    let store = builder.clone().open().unwrap();
    assert_eq!(found(&store, Query::new().aggregate("order", "7")), all);
    assert!(store.index_faults().is_empty());
    store.close().unwrap();
    assert!(fs::metadata(&in_the_way).unwrap().is_file(), "it is made again");
}

#[test]
fn opening_reads_no_segment_whose_index_is_whole() {
    let (disk, frames) = written();
    let cost = || {
        let before = disk.operations();
        drop(open(&disk));
        (files(&disk, "log").len() as u64, disk.operations() - before)
    };
    let (segments, calls) = cost();
    let store = open(&disk);
    for frames in frames.chunks(4) {
        store.append(frames, ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    store.close().expect("the disk works");
    let (more_segments, more_calls) = cost();
    assert!(more_segments > segments + 5);
    // Each more is opened and measured, and its first and its last bytes are read.
    assert_eq!(more_calls - calls, 4 * (more_segments - segments));
}

#[test]
fn a_conflict_names_both_versions_and_speaks_of_an_event_that_can_be_read() {
    const THREADS: u64 = 4;
    const VERSIONS: u64 = 60;
    let folder = Folder::new("races");
    let store =
        LogStore::builder(&folder.0).segment_bytes(32 << 10).event_bytes_max(4_000).versions_max(2).open().unwrap();
    let wins: u64 = thread::scope(|scope| {
        let racer = |nth: u64| {
            let mut writer = Writer::new();
            let (mut won, mut version) = (0, 0);
            while version < VERSIONS {
                let frames = writer.of_aggregate("order", "7", version + 1..=version + 1);
                let word = if nth.is_multiple_of(2) { Durability::Durable } else { Durability::Written };
                match store.append(&frames, ExpectedVersion::Exact(version), word) {
                    Ok(appended) => {
                        won += 1;
                        version = appended.version().expect("one was expected");
                    }
                    Err(AppendError::Conflict { expected, found, .. }) => {
                        assert!(expected == version && found > version, "{expected} {found}");
                        let page = store.load("order", "7", version).expect("it can be read");
                        let seen = page.events.last().expect("there are events").meta().aggregate().unwrap().version;
                        assert!(seen >= found, "the event of version {found} can be read, up to {seen} is there");
                        version = found;
                    }
                    Err(error) => panic!("{error}"),
                }
                // Others come in between, so that versions are forgotten and looked up again.
                let id = format!("{nth}-{version}");
                store
                    .append(&writer.of_aggregate("cart", &id, 1..=1), ExpectedVersion::New, Durability::Accepted)
                    .unwrap();
            }
            won
        };
        let racers: Vec<_> = (0..THREADS).map(|nth| scope.spawn(move || racer(nth))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(wins, VERSIONS, "each version was won once");
    let kept: Vec<_> = Query::new()
        .aggregate("order", "7")
        .stream(&store)
        .map(|event| event.unwrap().meta().aggregate().unwrap().version)
        .collect();
    assert_eq!(kept, (1..=VERSIONS).collect::<Vec<_>>());
}

#[test]
fn what_the_log_does_not_take_is_refused_with_the_limit() {
    let disk = SimDisk::new();
    let store = open_on(disk.shared(), small().event_bytes_max(500)).unwrap();
    let mut writer = Writer::new();
    let long = writer.frame("a", |event| event.metadata("note", &"x".repeat(600)));
    let refused = store.append(&[long], ExpectedVersion::Any, Durability::Durable).unwrap_err();
    assert!(matches!(refused, AppendError::TooLong { max: 500, limit: "event_bytes_max", .. }), "{refused:?}");
    let many = writer.frames("a", 30);
    let refused = store.append(&many, ExpectedVersion::Any, Durability::Durable).unwrap_err();
    assert!(matches!(refused, AppendError::TooLong { limit: "segment_bytes", .. }), "{refused:?}");
    assert!(refused.to_string().ends_with("split them, or raise segment_bytes"), "{refused}");
    assert_eq!(store.head().unwrap(), None);
    match open_on(disk.shared(), small()) {
        Err(OpenError::Locked { folder }) => assert_eq!(folder, Path::new(FOLDER)),
        other => panic!("{other:?}"),
    }
    let refused = open_on(SimDisk::new().shared(), small().segment_bytes(1)).unwrap_err();
    assert_eq!(refused.to_string(), "segment_bytes is 1; set it from 4096 to 4294967296 to a multiple of 16");
}
