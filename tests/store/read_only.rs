//! A real disk that cannot be written to: what is there can be read, and each refusal says why.

use std::error::Error;
use std::io::ErrorKind;

use ringmain::Payload;
use ringmain::store::{
    AppendError, Durability, EventStore, ExpectedVersion, Fault, LogStore, OpenError, Query, Snapshot, StateChange,
    StateError, StateKind, StateStore,
};

use crate::conformance::Writer;
use crate::log_store::found;
use crate::tmpfs::Tmpfs;

fn is_read_only(fault: &Fault) -> bool {
    fault.source.kind() == ErrorKind::ReadOnlyFilesystem
}

#[test]
fn a_store_that_cannot_be_written_to_is_opened_and_read_and_says_so_to_who_appends() {
    let Some(tmpfs) = Tmpfs::mount("read-only") else { return };
    let folder = tmpfs.path().join("store");
    // Files of state that a small file system has room for.
    let small = || LogStore::builder(&folder).segment_bytes(8_192).event_bytes_max(4_000);
    let builder = || small().state_batch_bytes_max(1_000).snapshot_state_bytes_max(1_000);
    let mut writer = Writer::new();
    let (kind, key, value) = (StateKind::own(1), b"key", b"value");
    let put = [StateChange::Put { kind, key, value }];

    tmpfs.remount("ro");
    let refused = builder().open().unwrap_err();
    assert!(matches!(&refused, OpenError::Disk(fault) if is_read_only(fault)), "there is no store yet: {refused}");
    tmpfs.remount("rw");
    let store = builder().open().unwrap();
    for _ in 0..20 {
        store.append(&writer.of_aggregate("order", "7", 1..=4), ExpectedVersion::Any, Durability::Written).unwrap();
    }
    store.apply(&put, Durability::Written).unwrap();
    // As a process that was killed leaves it.
    drop(store);

    tmpfs.remount("ro");
    let store = builder().open().unwrap();
    assert!(store.recovered().damages.is_empty() && store.recovered().cut_bytes == 0, "{:?}", store.recovered());
    assert_eq!(found(&store, Query::new()), (1..=80).collect::<Vec<_>>());
    assert_eq!(store.load("order", "7", 0).unwrap().events.len(), 80);
    assert_eq!(&*store.get(kind, key).unwrap().unwrap(), value);
    for _ in 0..2 {
        let refused = store.append(&writer.frames("a", 1), ExpectedVersion::Any, Durability::Written).unwrap_err();
        assert!(matches!(&refused, AppendError::Disk(fault) if is_read_only(fault)), "{refused}");
        let refused = store.apply(&put, Durability::Written).unwrap_err();
        assert!(matches!(&refused, StateError::Disk(fault) if is_read_only(fault)), "{refused}");
    }
    let refused = store.save_snapshot(&Snapshot::new("order", "7", 4, Payload::json("{}"))).unwrap_err();
    assert!(refused.source().is_some_and(|source| source.to_string().contains("os error")), "{refused}");
    assert_eq!(found(&store, Query::new()).len(), 80, "it is read all the same");
    drop(store);

    tmpfs.remount("rw");
    let store = builder().open().unwrap();
    store.append(&writer.frames("a", 1), ExpectedVersion::Any, Durability::Durable).unwrap();
    store.apply(&put, Durability::Durable).unwrap();
    assert_eq!(found(&store, Query::new()), (1..=81).collect::<Vec<_>>());
    store.close().unwrap();
}
