//! Subscriptions for which next to nothing is meant.

use std::sync::atomic::{AtomicU64, Ordering};

use ringmain::Pattern;
use ringmain::store::Durability;

use super::*;
use crate::moody::{Moody, Reply};

fn orders() -> Query {
    Query::new().pattern(Pattern::new("orders.*").unwrap())
}

#[test]
fn a_call_reads_one_page_however_fast_others_append_what_is_not_meant() {
    let frame = Writer::new().frame("other", |event| event);
    let queries = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&queries);
    let store = Moody::new(|_, _| Reply::Take).reading(move |store, _, page| {
        counted.fetch_add(1, Ordering::Relaxed);
        append(store, std::slice::from_ref(&frame));
        Ok(page)
    });
    append(&store, &Writer::new().frames("other", 3));
    let builder = DurableSubscription::builder(Arc::new(store), Arc::new(MemoryStore::new()), "billing");
    let mut billing = builder.query(orders()).open().unwrap();
    for call in 1..=5 {
        let before = queries.load(Ordering::Relaxed);
        assert!(billing.try_recv().unwrap().is_none());
        assert_eq!(queries.load(Ordering::Relaxed) - before, 1);
        assert!(billing.looked_at().unwrap().get() >= call + 2, "it remembers how far it looked");
    }
}

#[test]
fn what_was_passed_without_an_event_is_kept() {
    let store = Arc::new(MemoryStore::new());
    let frames = Writer::new().frames("other", 12_000);
    for frames in frames.chunks(1_000) {
        store.append(frames, ExpectedVersion::Any, Durability::Accepted).unwrap();
    }
    let open = || DurableSubscription::builder(store.clone(), store.clone(), "billing").query(orders()).open().unwrap();
    let mut billing = open();
    while billing.acknowledged().is_none() {
        assert!(billing.try_recv().unwrap().is_none());
    }
    drop(billing);
    let mut billing = open();
    assert_eq!(billing.acknowledged().unwrap().get(), 12_000);
    append(&*store, &Writer::new().frames("orders.placed", 1));
    let placed = billing.recv_deadline(PATIENCE).unwrap();
    assert_eq!(placed.position().get(), 12_001);
    billing.ack(placed.position()).unwrap();
}
