//! Durable subscriptions: each event comes at least once, in order, from where the last process was.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringmain::store::{
    CursorError, Durability, DurableSubscription, DurableSubscriptionError, EventStore, ExpectedVersion, MemoryStore,
    Position, Query, StoredEvent,
};
use ringmain::{Bus, Frame, Pattern, Payload};

use ringmain::internals::store::sim::SimDisk;

use crate::books::assert_settled;
use crate::conformance::Writer;
use crate::log_store::{files, open, position};

const PATIENCE: Duration = Duration::from_secs(60);

fn append(store: &dyn EventStore, frames: &[Frame]) {
    for frame in frames {
        store.append(std::slice::from_ref(frame), ExpectedVersion::Any, store.durability()).unwrap();
    }
}

fn all(subscription: &mut DurableSubscription) -> Vec<StoredEvent> {
    std::iter::from_fn(|| subscription.try_recv().unwrap()).collect()
}

fn positions(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position().get()).collect()
}

#[test]
fn what_was_not_acknowledged_comes_again_after_a_restart_and_what_was_does_not() {
    let disk = SimDisk::new();
    let state = Arc::new(MemoryStore::new());
    let subscribe = || DurableSubscription::builder(Arc::new(open(&disk)), state.clone(), "billing").open().unwrap();
    append(&open(&disk), &Writer::new().frames("a", 20));
    {
        let mut first = subscribe();
        let events = all(&mut first);
        assert_eq!(positions(&events), (1..=20).collect::<Vec<_>>());
        first.ack(position(7)).unwrap();
        first.ack(position(3)).unwrap();
        assert_eq!(first.acknowledged(), Some(position(7)), "an older word changes nothing");
        first.rewind();
        assert_eq!(first.try_recv().unwrap().unwrap().position(), position(8));
    }
    {
        let mut second = subscribe();
        let events = all(&mut second);
        assert_eq!(positions(&events), (8..=20).collect::<Vec<_>>());
        second.ack(position(20)).unwrap();
    }
    append(&open(&disk), &Writer::new().frames("a", 1));
    let mut third = subscribe();
    assert_eq!(positions(&all(&mut third)), [21]);
    let store = Arc::new(MemoryStore::new());
    let mut other = DurableSubscription::builder(store, state, "another").open().unwrap();
    assert!(other.try_recv().unwrap().is_none());
    assert_eq!(other.acknowledged(), None, "each name has its own cursor");
}

#[test]
fn who_waits_is_woken_by_the_append() {
    for store in [Arc::new(MemoryStore::new()) as Arc<dyn EventStore>, Arc::new(open(&SimDisk::new()))] {
        let state = Arc::new(MemoryStore::new());
        let mut subscription = DurableSubscription::builder(store.clone(), state, "billing").open().unwrap();
        let after = Duration::from_millis(1);
        let timed_out = subscription.recv_deadline(after).unwrap_err();
        assert!(
            matches!(timed_out, DurableSubscriptionError::TimedOut { after: said } if said == after),
            "{timed_out}"
        );
        thread::scope(|scope| {
            let pulled = scope.spawn(move || {
                let next = |_| subscription.recv_deadline(PATIENCE).unwrap().position().get();
                (0..100).map(next).collect::<Vec<_>>()
            });
            append(&*store, &Writer::new().frames("a", 100));
            assert_eq!(pulled.join().unwrap(), (1..=100).collect::<Vec<_>>());
        });
    }
}

#[test]
fn what_a_journal_keeps_comes_to_who_subscribed_to_it_also_later() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = Arc::new(open(&SimDisk::new()));
    let state = Arc::new(MemoryStore::new());
    let journal = bus.journal(store.clone()).start().unwrap();
    let orders = Query::new().pattern(Pattern::new("orders.*").unwrap()).newest_first().limit(3);
    let builder = DurableSubscription::builder(store.clone(), state, "billing").query(orders);
    let mut billing = builder.open().unwrap();
    for number in 0..30 {
        let topic = if number % 3 == 0 { "orders.placed" } else { "carts.left" };
        bus.publish(topic, Payload::plain_text(&number.to_string())).unwrap();
    }
    for number in (0..30).step_by(3) {
        let event = billing.recv_deadline(PATIENCE).unwrap();
        assert_eq!(event.payload().text(), Some(&*number.to_string()), "oldest first, whatever the query said");
    }
    bus.flush_deadline(PATIENCE).unwrap();
    assert!(billing.try_recv().unwrap().is_none());
    billing.ack(position(28)).unwrap();
    assert_eq!(
        billing.acknowledged(),
        Some(position(30)),
        "what is behind the last event and not meant is through as well"
    );
    drop(journal);
    assert_settled(&bus);
    bus.shutdown().unwrap();
}

#[test]
fn what_is_wrong_with_a_word_is_said() {
    let store = Arc::new(MemoryStore::new());
    append(&*store, &Writer::new().frames("a", 5));
    let subscribe = |name: &str| DurableSubscription::builder(store.clone(), store.clone(), name).open();
    let mut subscription = subscribe("billing").unwrap();
    subscription.try_recv().unwrap();
    let refused = subscription.ack(position(2)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "position 2 was acknowledged, and events were given out up to 1; acknowledge what was handled"
    );
    let nameless = subscribe("").unwrap_err();
    assert!(
        matches!(&nameless, DurableSubscriptionError::Cursor(CursorError::Name { bytes: 0, max: 255 })),
        "{nameless}"
    );
    drop(subscription);
    let builder = DurableSubscription::builder(store.clone(), store.clone(), "billing").durability(Durability::Durable);
    let mut subscription = builder.open().unwrap();
    subscription.try_recv().unwrap();
    let refused = subscription.ack(position(1)).unwrap_err();
    assert!(matches!(&refused, DurableSubscriptionError::Cursor(CursorError::Keep(_))), "{refused}");
    assert_eq!(subscription.acknowledged(), None);
}

#[test]
fn what_is_damaged_is_said_once_and_what_is_behind_it_comes() {
    let disk = SimDisk::new();
    append(&open(&disk), &Writer::new().frames("a", 60));
    let first = files(&disk, "log")[0].clone();
    let damaged = disk.flipped(&first, 1_000, 3);
    let state = Arc::new(MemoryStore::new());
    let mut subscription = DurableSubscription::builder(Arc::new(open(&damaged)), state, "billing").open().unwrap();
    let (mut found, mut said) = (Vec::new(), 0);
    loop {
        match subscription.try_recv() {
            Ok(Some(event)) => found.push(event.position()),
            Ok(None) => break,
            Err(error) => {
                assert!(matches!(error, DurableSubscriptionError::Read(_)), "{error}");
                said += 1;
            }
        }
    }
    assert_eq!((said, found.len()), (1, 59));
    assert_eq!(found.last().copied().map(Position::get), Some(60));
}
