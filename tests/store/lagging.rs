//! A consumer that lags holds the cursor of a durable publisher back by as much, and not for good.

use std::sync::Arc;
use std::time::Duration;

use ringmain::store::{Durability, DurablePublisher, MemoryStore};
use ringmain::{Bus, Mailbox, Pattern};

use crate::books::end;
use crate::conformance::Writer;
use crate::log_store::position;

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

fn position_of(number: u64) -> Option<ringmain::store::Position> {
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
