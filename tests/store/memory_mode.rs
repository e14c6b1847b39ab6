//! A real disk that is full: where it was asked for, events go on in memory, which everybody can see; what is durable does not.

use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::store::{Durability, JournalState, LogStore, MemoryStore, Query};
use ringmain::{Bus, Health, Notice, Payload};

use crate::books::assert_settled;
use crate::tmpfs::Tmpfs;

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events that may be in memory.
const KEPT: u64 = 500;

fn store(folder: &Path) -> LogStore {
    let builder = LogStore::builder(folder.join("store")).segment_bytes(32 << 10).event_bytes_max(4_000);
    builder.open().expect("it can be opened")
}

#[test]
fn on_a_full_disk_events_go_on_in_memory_and_are_written_in_order_when_there_is_room() {
    let Some(tmpfs) = Tmpfs::mount("full") else { return };
    let (told, heard) = mpsc::channel();
    let told = Mutex::new(told);
    let bus = Bus::builder().workers(1).observer(move |notice: &Notice<'_>| {
        let text = match notice {
            Notice::StorageFailed { error, .. } => format!("failed: {error}"),
            Notice::StorageReturned { dropped, .. } => format!("returned, {dropped} dropped"),
            Notice::StorageDropped { .. } => "dropped".to_owned(),
            _ => return,
        };
        // The test may have heard enough.
        let _ = told.lock().unwrap().send(text);
    });
    let bus = bus.build().unwrap();
    let ballast = tmpfs.path().join("ballast");
    let kept = Arc::new(store(tmpfs.path()));
    let durable = bus.durable(kept.clone(), Arc::new(MemoryStore::new())).start().unwrap();
    let journal = bus.journal(kept.clone()).pattern("a".parse().unwrap()).batch_max(16);
    let journal = journal.keep_in_memory(KEPT as usize).retry_every(PATIENCE).start().unwrap();
    std::fs::write(&ballast, vec![0; 700 << 10]).unwrap();

    let mut publisher = bus.publisher().unwrap();
    let mut published = 0;
    let mut publish = |events: u64| {
        for _ in 0..events {
            publisher.publish("a", Payload::plain_text(&format!("{published:0100}"))).unwrap();
            published += 1;
        }
        bus.flush_deadline(PATIENCE).expect("nobody waits for the store");
        published
    };
    while matches!(journal.state(), JournalState::Writing) {
        publish(20);
    }
    let failed = heard.recv_timeout(PATIENCE).unwrap();
    assert!(failed.starts_with("failed: "), "{failed}");
    assert_eq!((bus.metrics().degraded, bus.metrics().health()), (1, Health::Degraded));

    // Its word is kept by the disk, or not given.
    let mut event = bus.publisher().unwrap();
    let refused = event.event().publish_durable(&durable, Durability::Written, "b", Payload::plain_text("b"));
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(durable.counts().delivered, 0);

    publish(KEPT + 200);
    let counts = journal.counts();
    assert_eq!((counts.in_memory, counts.waiting), (KEPT, KEPT), "{counts:?}");
    assert!(counts.dropped >= 200 && counts.is_balanced(), "{counts:?}");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "dropped");

    std::fs::remove_file(&ballast).unwrap();
    journal.retry();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), format!("returned, {} dropped", counts.dropped));
    let published = publish(30);
    assert_eq!(bus.metrics().degraded, 0);
    event.event().publish_durable(&durable, Durability::Durable, "b", Payload::plain_text("b")).unwrap();
    drop(durable);
    let counts = journal.close().unwrap();
    assert_eq!(counts.written + counts.dropped, published, "{counts:?}");
    assert_settled(&bus);
    bus.shutdown().unwrap();

    drop(kept);
    let kept = store(tmpfs.path());
    let events = Query::new().pattern("a".parse().unwrap()).stream(&kept);
    let numbers: Vec<u64> = events.map(|event| event.unwrap().payload().text().unwrap().parse().unwrap()).collect();
    let (first, last) = (published - 30 - counts.dropped, published - 30);
    assert_eq!(numbers, (0..first).chain(last..published).collect::<Vec<_>>(), "in order, but for what was dropped");
    drop(kept);
}
