//! The store in memory: conformance, and its bounds.

use ringmain::Payload;
use ringmain::store::{
    AppendError, Durability, EventStore, ExpectedVersion, MemoryStore, Query, ReadError, Snapshot, SnapshotError,
};

use super::conformance::{self, Writer};
use super::log_store::{found, position};

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
fn an_evicting_store_takes_new_events_for_the_oldest_and_says_to_readers_what_is_gone() {
    let mut writer = Writer::new();
    let store = MemoryStore::new().events_max(10).evicting();
    let mut append = |events| store.append(&writer.frames("a", events), ExpectedVersion::Any, Durability::Accepted);
    for _ in 0..4 {
        append(4).unwrap();
    }
    assert!(matches!(append(11), Err(AppendError::Full { .. })), "what has no room in an empty store evicts nothing");
    assert_eq!((store.evicted(), store.head().unwrap()), (6, Some(position(16))));
    assert_eq!(store.first().unwrap(), Some(position(7)));
    for query in [Query::new(), Query::new().pattern("a".parse().unwrap())] {
        assert_eq!(found(&store, query.clone()), (7..=16).collect::<Vec<_>>());
        assert_eq!(found(&store, query.clone().newest_first().limit(3)), (7..=16).rev().collect::<Vec<_>>());
        let refused = store.query(&query.clone().behind(position(2))).unwrap_err();
        assert!(
            matches!(refused, ReadError::Removed { from, first } if (from.get(), first.get()) == (3, 7)),
            "{refused}"
        );
        assert_eq!(found(&store, query.behind(position(8))), (9..=16).collect::<Vec<_>>());
    }
    let mut events = Query::new().limit(2).stream(&store);
    assert_eq!(events.next().unwrap().unwrap().position(), position(7));
    append(10).unwrap();
    let left: Vec<_> =
        events.map(|event| event.map(|event| event.position().get()).map_err(|error| error.behind())).collect();
    assert_eq!(left[..2], [Ok(8), Err(Some(position(16)))], "a page that was read stands, then it is said");
    assert_eq!(store.evicted(), 16);
}

#[test]
fn an_evicting_store_keeps_what_aggregates_are_loaded_from_until_a_snapshot_has_it() {
    let mut writer = Writer::new();
    let store = MemoryStore::new().events_max(4).evicting();
    store.keep_history("order").unwrap();
    let order = writer.of_aggregate("order", "7", 1..=2);
    let other = writer.of_aggregate("cart", "7", 1..=2);
    store.append(&other, ExpectedVersion::New, Durability::Accepted).unwrap();
    store.append(&order, ExpectedVersion::New, Durability::Accepted).unwrap();
    let more = writer.frames("a", 2);
    store.append(&more, ExpectedVersion::Any, Durability::Accepted).unwrap();
    assert_eq!(store.load("cart", "7", 0).unwrap().events.len(), 0, "nobody said that it is loaded");
    let refused = store.append(&more, ExpectedVersion::Any, Durability::Accepted).unwrap_err();
    assert!(matches!(refused, AppendError::Full { limit: "events_max", needed: 6, max: 4 }), "{refused:?}");
    assert_eq!(store.load("order", "7", 0).unwrap().events.len(), 2);
    store.save_snapshot(&Snapshot::new("order", "7", 2, Payload::json("{}"))).unwrap();
    store.append(&more, ExpectedVersion::Any, Durability::Accepted).unwrap();
    assert_eq!((store.evicted(), store.load("order", "7", 0).unwrap().events.len()), (4, 0));
    let next = writer.of_aggregate("order", "7", 3..=3);
    store.append(&next, ExpectedVersion::Exact(2), Durability::Accepted).unwrap();
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
