//! A bus has positions of one store, from one durable publisher: nothing comes twice, and a journal leaves out only what its store has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ringmain::store::{Durability, DurableError, JournalError, MemoryStore, Query};
use ringmain::{Bus, Payload};

use crate::books::end;
use crate::conformance::Writer;

const PATIENCE: Duration = Duration::from_secs(60);

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().pretending(Durability::Written))
}

#[test]
fn a_bus_has_one_durable_publisher_so_that_each_event_comes_once() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (events, state) = (store(), store());
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let handler = bus.subscribe("a").handle(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let start = |name: &str| bus.durable(events.clone(), state.clone()).named(name).start();
    let one = start("one").unwrap();
    let refused = start("two").unwrap_err();
    assert!(matches!(&refused, DurableError::Publisher { name } if name == "one"), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "the bus has the durable publisher \"one\" already; use a clone of it, or close it first"
    );
    let another = bus.durable(store(), state.clone()).named("two").start();
    assert!(matches!(another, Err(DurableError::Publisher { .. })), "positions would mean two things");
    for frame in Writer::new().frames("a", 3) {
        one.publish(&frame, Durability::Written).unwrap();
    }
    assert!(one.flush_deadline(PATIENCE));
    assert_eq!(count.load(Ordering::Relaxed), 3);
    // Another bus is another matter, and so is one that is closed.
    let other_bus = Bus::builder().workers(1).build().unwrap();
    drop(other_bus.durable(events.clone(), state.clone()).named("other").start().unwrap());
    one.close().unwrap();
    drop(start("one").unwrap());
    drop(handler.unwrap());
    end(&other_bus);
    end(&bus);
}

#[test]
fn a_journal_beside_a_durable_publisher_is_on_its_store() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (events, others) = (store(), store());
    let durable = || bus.durable(events.clone(), Arc::new(MemoryStore::new())).start();
    let one = durable().unwrap();
    let refused = bus.journal(others.clone()).start().unwrap_err();
    assert!(matches!(&refused, JournalError::OtherStore { publisher } if publisher == "durable"), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        "the durable publisher \"durable\" of this bus has another store; give both the same store, or close it first"
    );
    drop(bus.journal(events.clone()).start().unwrap());
    one.close().unwrap();
    let journal = bus.journal(others.clone()).start().unwrap();
    let refused = durable().unwrap_err();
    assert!(matches!(&refused, DurableError::OtherStore { journal } if journal == "journal"), "{refused:?}");
    bus.publish("a", Payload::plain_text("1")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    assert_eq!(journal.close().unwrap().written, 1);
    assert_eq!(Query::new().stream(&*others).count(), 1);
    drop(durable().unwrap());
    end(&bus);
}

#[test]
fn what_a_subscription_reads_back_is_the_event_that_it_missed_and_none_of_another_store() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let journal = bus.journal(store()).start().unwrap();
    let mut inbox = bus.subscribe("a").capacity(2).spill(journal.spill_source()).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut writer = Writer::new();
    for _ in 0..20 {
        bus.publish("a", Payload::plain_text("kept")).unwrap();
    }
    for position in 1..=20 {
        publisher.frame(&writer.frame("a", |event| event)).at_position(position).publish().unwrap();
    }
    bus.publish("a", Payload::plain_text("last")).unwrap();
    // All are in the mailbox or left to the store.
    while bus.subscription(inbox.id()).unwrap().ledger.open() < 41 {
        thread::yield_now();
    }
    let mut kept = 0;
    loop {
        let event = inbox.recv_deadline(PATIENCE).unwrap();
        let text = event.payload().text().map(str::to_owned);
        assert_eq!(event.meta().position(), None, "{text:?}");
        event.ack();
        match text.as_deref() {
            Some("kept") => kept += 1,
            last => break assert_eq!(last, Some("last")),
        }
    }
    assert_eq!(kept, 20);
    // It is said that the others are not there.
    while bus.ledger().subscriptions.dropped.lost < 20 {
        thread::yield_now();
    }
    drop((inbox, publisher));
    journal.close().unwrap();
    end(&bus);
}
