//! What a store lends is not allocated.

use std::ops::ControlFlow;

use ringmain::store::{Durability, EventStore, ExpectedVersion, LogStore, Query};
use ringmain::{Bus, Frame, Payload};

use crate::folder::Folder;
use crate::{alone, asked};

#[test]
fn reading_ten_times_as_many_events_allocates_no_more() {
    alone("reading::reading_ten_times_as_many_events_allocates_no_more", || {
        let folder = Folder::new("allocations-reading");
        let bus = Bus::builder().workers(1).build().unwrap();
        let mut publisher = bus.publisher().unwrap();
        let store = LogStore::open(&folder.0).unwrap();
        for _ in 0..10 {
            let mut frame = || publisher.event().to_frame("orders.placed", Payload::json(r#"{"id": 7}"#)).unwrap();
            let frames: Vec<Frame> = (0..1_000).map(|_| frame()).collect();
            store.append(&frames, ExpectedVersion::Any, Durability::Written).unwrap();
        }
        bus.shutdown().unwrap();
        let reading = |events: usize| {
            let (before, mut read, mut bytes) = (asked(), 0, 0);
            let next = store.visit(&Query::new().limit(events), &mut |event| {
                read += 1;
                bytes += event.meta().topic().len() + event.payload().bytes().len();
                ControlFlow::Continue(())
            });
            next.unwrap();
            assert_eq!((read, bytes), (events, events * 22));
            asked() - before
        };
        // The first makes the buffer; other threads of the store may ask for memory meanwhile, and are done some time.
        let fewest = |events| (0..100).map(|_| reading(events)).min().unwrap();
        assert_eq!(fewest(10_000), fewest(1_000));
        let copied = asked();
        store.query(&Query::new().limit(1_000)).unwrap();
        assert!(asked() - copied >= 1_000, "it counts what is copied");
    });
}
