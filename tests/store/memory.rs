//! The store in memory: conformance, and its bounds.

use ringmain::Payload;
use ringmain::store::{
    AppendError, Durability, EventStore, ExpectedVersion, MemoryStore, Query, Snapshot, SnapshotError,
};

use super::conformance::{self, Writer};

#[test]
fn the_store_in_memory_is_a_store() {
    conformance::run(&|| Box::new(MemoryStore::new()));
}

#[test]
fn a_full_store_refuses_whole_batches_and_says_which_limit() {
    let mut writer = Writer::new();
    let frames = writer.frames("a", 3);
    let store = MemoryStore::new().events_max(4);
    store.append(&frames, ExpectedVersion::Any, Durability::Accepted).unwrap();
    let refused = store.append(&frames[..2], ExpectedVersion::Any, Durability::Accepted).unwrap_err();
    assert!(matches!(refused, AppendError::Full { limit: "events_max", needed: 5, max: 4 }), "{refused:?}");
    assert_eq!(refused.to_string(), "the store is full: 5 would be needed, the limit is 4; raise events_max");
    store.append(&frames[..1], ExpectedVersion::Any, Durability::Accepted).unwrap();
    assert_eq!(Query::new().stream(&store).count(), 4);

    let bytes = frames[0].bytes().len() as u64 + 256;
    let store = MemoryStore::new().bytes_max(2 * bytes);
    store.append(&frames[..2], ExpectedVersion::Any, Durability::Accepted).unwrap();
    let refused = store.append(&frames[..1], ExpectedVersion::Any, Durability::Accepted).unwrap_err();
    assert!(matches!(refused, AppendError::Full { limit: "bytes_max", .. }), "{refused:?}");
}

#[test]
fn snapshots_take_of_the_same_bytes_and_give_back_what_they_replace() {
    let mut writer = Writer::new();
    let frames = writer.of_aggregate("order", "7", 1..=2);
    let bytes: u64 = frames.iter().map(|frame| frame.bytes().len() as u64 + 256).sum();
    let store = MemoryStore::new().bytes_max(bytes + 100);
    store.append(&frames, ExpectedVersion::New, Durability::Accepted).unwrap();
    let of = |version, length| Snapshot::new("order", "7", version, Payload::raw(&vec![1; length]));
    store.save_snapshot(&of(1, 100)).unwrap();
    store.save_snapshot(&of(2, 60)).unwrap();
    let refused = store.save_snapshot(&of(2, 101)).unwrap_err();
    assert!(
        matches!(refused, SnapshotError::Full { limit: "bytes_max", needed, max } if needed == max + 1),
        "{refused:?}"
    );
    let kept = store.load_snapshot("order", "7").unwrap().unwrap();
    assert_eq!(kept.state().bytes().len(), 60, "what was there stays");
}

#[test]
fn a_store_in_memory_never_says_that_it_keeps_more_unless_told_to() {
    let frames = Writer::new().frames("a", 1);
    let store = MemoryStore::new();
    let refused = store.append(&frames, ExpectedVersion::Any, Durability::Durable).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "events were to be durable, this store keeps them accepted at best; ask for less, or use a store on disk"
    );
    assert_eq!(store.head().unwrap(), None);
    let store = store.pretending(Durability::Durable);
    store.append(&frames, ExpectedVersion::Any, Durability::Durable).unwrap();
}
