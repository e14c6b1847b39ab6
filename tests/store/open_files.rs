//! However many segments a store has, it keeps few files open.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringmain::store::{
    Durability, EventStore, ExpectedVersion, LogStore, LogStoreBuilder, Query, ReadError, Retention,
};
use ringmain::{Aggregate, Frame};

use crate::conformance::Writer;
use crate::folder::Folder;
use crate::log_store::found;

const CHILD_FOLDER: &str = "RINGMAIN_FEW_FILES_FOLDER";
const SEGMENTS: usize = 500;

fn builder(folder: &Path) -> LogStoreBuilder {
    LogStore::builder(folder).segment_bytes(4_096).event_bytes_max(3_000).retention(Retention::forever())
}

/// Open files of this process.
fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux has it").count()
}

/// What is done with 64 files: everything that opens some.
fn work(folder: &Path) {
    let mut writer = Writer::new();
    let mut frames = |events: u64, first: u64| -> Vec<Frame> {
        let of = |version| Aggregate { kind: "order", id: "7", version };
        (first..first + events)
            .map(|version| {
                writer.frame("orders.placed", |event| event.aggregate(of(version)).metadata("m", &"x".repeat(700)))
            })
            .collect()
    };
    let store = builder(folder).open().expect("there are files enough");
    let mut version = 0;
    while store.stats().segments < SEGMENTS {
        let expected = if version == 0 { ExpectedVersion::New } else { ExpectedVersion::Exact(version) };
        store.append(&frames(4, version + 1), expected, Durability::Written).expect("there are files enough");
        version += 4;
    }
    store.close().expect("there are files enough");
    let store = builder(folder).open().expect("there are files enough");
    let all: Vec<u64> = (1..=version).collect();
    for _ in 0..2 {
        assert_eq!(found(&store, Query::new()), all);
        assert_eq!(found(&store, Query::new().newest_first()).len(), all.len());
        let of_one = Query::new().aggregate("order", "7");
        assert_eq!(found(&store, of_one), all, "one record of each segment, by its index");
        assert!(open_files() < 56, "{} are open", open_files());
        let kept = store.keep(Retention::forever().archive_after(Duration::ZERO)).expect("there are files enough");
        assert!([SEGMENTS - 1, 0].contains(&kept.archived_segments), "{kept:?}");
    }
    assert_eq!(store.index_faults().len(), 0);
    store.close().expect("there are files enough");
}

#[test]
fn five_hundred_segments_are_written_read_and_archived_with_64_open_files() {
    if let Some(folder) = env::var_os(CHILD_FOLDER) {
        return work(Path::new(&folder));
    }
    let folder = Folder::new("few-files");
    let this = "open_files::five_hundred_segments_are_written_read_and_archived_with_64_open_files";
    let shell = "ulimit -n 64 && exec \"$0\" --exact \"$1\" --nocapture --test-threads=1";
    let program = env::current_exe().expect("the test is a program");
    let run = Command::new("sh").arg("-c").arg(shell).arg(program).arg(this).env(CHILD_FOLDER, &folder.0).output();
    let run = run.expect("a shell runs");
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

#[test]
fn what_was_read_and_then_removed_takes_no_room_on_the_disk() {
    let folder = Folder::new("few-files-removed");
    let store = builder(&folder.0).open().expect("the disk works");
    let mut writer = Writer::new();
    for _ in 0..60 {
        let frame = writer.frame("common", |event| event.metadata("m", &"x".repeat(300)));
        store.append(&[frame], ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    // Readers rest in the oldest segment: from one event on, and at one whose place was looked up.
    store.query(&Query::new().limit(2)).expect("it can be read");
    store.load("order", "7", 0).expect("it can be read");
    store.keep(Retention::forever().remove_after(Duration::ZERO)).expect("the disk works");
    let is_removed = |entry: &fs::DirEntry| {
        let to = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        to.starts_with(&folder.0.display().to_string()) && to.ends_with("(deleted)")
    };
    let open = fs::read_dir("/proc/self/fd").expect("Linux has it").filter_map(Result::ok);
    assert_eq!(open.filter(is_removed).count(), 0);
}

#[test]
fn a_reader_goes_on_in_a_file_that_was_archived_or_removed_meanwhile() {
    let folder = Folder::new("few-files-reader");
    let store = builder(&folder.0).open_files_max(1).open().expect("the disk works");
    let mut writer = Writer::new();
    for _ in 0..120 {
        let frame = writer.frame("common", |event| event.metadata("m", &"x".repeat(300)));
        store.append(&[frame], ExpectedVersion::Any, Durability::Written).expect("the disk works");
    }
    let mut events = Query::new().limit(7).stream(&store);
    let first = events.next().expect("there is one").expect("it can be read").position().get();
    store.keep(Retention::forever().archive_after(Duration::ZERO)).expect("the disk works");
    let rest: Vec<u64> = events.map(|event| event.expect("it can be read").position().get()).collect();
    assert_eq!((first, rest), (1, (2..=120).collect()));
    let mut events = Query::new().limit(7).stream(&store);
    events.next();
    store.keep(Retention::forever().remove_after(Duration::ZERO)).expect("the disk works");
    // Six more of its page, then it hears of what is gone, and reads on behind it.
    let first = loop {
        match events.next().expect("it does not end before what is gone") {
            Ok(event) => assert!(event.position().get() <= 7),
            Err(ReadError::Removed { first, .. }) => break first,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(found(&store, Query::new().from_position(first)), (first.get()..=120).collect::<Vec<_>>());
    assert!(LogStore::builder(&folder.0).open_files_max(0).open().is_err(), "it is in use, and 0 is refused");
}
