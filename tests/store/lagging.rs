//! A consumer that lags holds the cursor of a durable publisher back by as much, and not for good; and no retention.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ringmain::internals::store::sim::SimDisk;
use ringmain::store::{Durability, DurablePublisher, MemoryStore, Position, Retention};
use ringmain::{Bus, Mailbox, Notice, Pattern, Payload};

use crate::books::end;
use crate::conformance::Writer;
use crate::log_store::{open, position};

const PATIENCE: Duration = Duration::from_secs(60);
/// Events by which the consumer lags.
const LAG: u64 = 8;

/// Publishes event after event, and takes as many once the consumer lags, until the cursor has come to the fifth. That is never settled
/// altogether, nor is what was there at a look before the next look.
fn lag_until_the_cursor_moves(durable: &DurablePublisher, inbox: &mut Mailbox<Pattern>) {
    let mut writer = Writer::new();
    let mut published = 0;
    while durable.counts().settled_to < Some(position(5)) {
        published += 1;
        assert!(published < 1_000, "{:?}", durable.counts());
        durable.publish(&writer.frame("a", |event| event), Durability::Written).unwrap();
        if published > LAG {
            let event = inbox.recv_deadline(PATIENCE).unwrap();
            assert_eq!(event.meta().position(), Some(published - LAG));
            event.ack();
        }
        assert!(!durable.flush_deadline(Duration::from_millis(200)), "the latest is not settled");
    }
    let settled = durable.counts().settled_to;
    assert!(settled <= position_of(published - LAG), "{settled:?} of {published}");
    for _ in 0..LAG {
        inbox.recv_deadline(PATIENCE).unwrap().ack();
    }
    assert!(durable.flush_deadline(PATIENCE));
    assert_eq!(durable.counts().settled_to, position_of(published));
}

fn position_of(number: u64) -> Option<Position> {
    Some(position(number))
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().pretending(Durability::Written))
}

#[test]
fn what_waits_in_a_mailbox_holds_the_cursor_back_by_as_much() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let durable = bus.durable(store(), Arc::new(MemoryStore::new())).start().unwrap();
    lag_until_the_cursor_moves(&durable, &mut inbox);
    drop((inbox, durable));
    end(&bus);
}

#[test]
fn what_waits_in_a_store_holds_the_cursor_back_by_as_much() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let store = store();
    let journal = bus.journal(store.clone()).start().unwrap();
    let mut inbox = bus.subscribe("a").capacity(2).spill(journal.spill_source()).mailbox().unwrap();
    let durable = bus.durable(store, Arc::new(MemoryStore::new())).start().unwrap();
    lag_until_the_cursor_moves(&durable, &mut inbox);
    drop((inbox, durable));
    journal.close().unwrap();
    end(&bus);
}

#[test]
fn what_a_retention_removes_before_it_was_read_back_is_lost_and_said() {
    const EVENTS: u64 = 5_000;
    let said = Arc::new(AtomicU64::new(0));
    let heard = Arc::clone(&said);
    let observer = move |notice: &Notice<'_>| {
        if let Notice::SpillLost { events, .. } = notice {
            heard.fetch_add(*events, Ordering::Relaxed);
        }
    };
    let bus = Bus::builder().workers(1).observer(observer).build().unwrap();
    let store = Arc::new(open(&SimDisk::new()));
    let journal = bus.journal(store.clone()).start().unwrap();
    let mut inbox = bus.subscribe("a").capacity(2).spill(journal.spill_source()).mailbox().unwrap();
    for _ in 0..EVENTS {
        bus.publish("a", Payload::json("1")).unwrap();
    }
    while journal.counts().written < EVENTS {
        thread::yield_now();
    }
    // More than waits in memory to be taken.
    assert!(store.keep(Retention::forever().remove_after(Duration::ZERO)).unwrap().removed_events > 4_000);
    let (mut received, id) = (0, inbox.id());
    let lost = || bus.subscription(id).unwrap().ledger.dropped.lost;
    while received + lost() < EVENTS {
        match inbox.try_recv() {
            Ok(event) => {
                event.ack();
                received += 1;
            }
            Err(_) => thread::yield_now(),
        }
    }
    let lost = lost();
    assert!(lost > 1_000, "{lost}");
    while said.load(Ordering::Relaxed) < lost {
        thread::yield_now();
    }
    drop(inbox);
    journal.close().unwrap();
    end(&bus);
}
