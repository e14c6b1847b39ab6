//! What stands between a bus and a store, dropped in each state of the bus: nobody hangs, the store is let go of, and the books
//! balance.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use ringmain::internals::store::sim::SimDisk;
use ringmain::store::{Durability, DurableSubscription, EventStore, ExpectedVersion, LogStore, MemoryStore, Query};
use ringmain::{Bus, Payload, Rate, ReplayPolicy};

use crate::books::{assert_settled, end};
use crate::conformance::Writer;
use crate::log_store::{open, position};

const PATIENCE: Duration = Duration::from_secs(60);
const STORED: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// In lanes and mailboxes.
    EventsWait,
    /// As before, and each subscription is paused.
    Paused,
    ShutDown,
}

type Handle = Box<dyn Any>;
type Make = fn(&Bus, &Arc<LogStore>) -> Handle;

const HANDLES: [(&str, Make); 6] = [
    ("journal", |bus, store| Box::new(bus.journal(store.clone()).start().unwrap())),
    ("durable publisher", |bus, store| {
        let durable = bus.durable(store.clone(), Arc::new(MemoryStore::new())).start().unwrap();
        durable.publish(&Writer::new().frame("a", |event| event), Durability::Written).unwrap();
        Box::new(durable)
    }),
    ("replay amid its events, then who takes them", |bus, store| {
        let inbox = bus.subscribe("**").named("replayed").replay(ReplayPolicy::Safe).mailbox().unwrap();
        let replay = bus.replay(store.clone()).rate(Rate::per_second(1.0).burst(5)).start().unwrap();
        Box::new((replay, inbox))
    }),
    ("who takes a replay's events, then the replay", |bus, store| {
        let inbox = bus.subscribe("**").named("replayed").replay(ReplayPolicy::Safe).mailbox().unwrap();
        let replay = bus.replay(store.clone()).rate(Rate::per_second(1.0).burst(5)).start().unwrap();
        Box::new((inbox, replay))
    }),
    ("durable subscription with an event that is not acknowledged", |_, store| {
        let state = Arc::new(MemoryStore::new());
        let mut billing = DurableSubscription::builder(store.clone(), state, "billing").open().unwrap();
        assert_eq!(billing.try_recv().unwrap().unwrap().position(), position(1));
        Box::new(billing)
    }),
    ("store", |_, store| Box::new(store.clone())),
];

fn publish(bus: &Bus) {
    bus.publish("a", Payload::plain_text("x")).unwrap();
}

fn enter(bus: &Bus, state: State) {
    if state == State::Paused {
        bus.subscriptions().iter().for_each(|record| bus.pause(record.id).unwrap());
    }
    match state {
        State::Open => {}
        State::EventsWait | State::Paused => (0..10).for_each(|_| publish(bus)),
        State::ShutDown => drop(bus.shutdown_deadline(PATIENCE).unwrap()),
    }
}

#[test]
fn what_stands_between_bus_and_store_may_be_dropped_in_every_state() {
    for (name, make) in HANDLES {
        for state in [State::Open, State::EventsWait, State::Paused, State::ShutDown] {
            println!("the {name}, dropped in state {state:?}");
            let disk = SimDisk::new();
            let store = Arc::new(open(&disk));
            let frames = Writer::new().frames("a", STORED as usize);
            store.append(&frames, ExpectedVersion::Any, Durability::Written).unwrap();
            let bus = Bus::builder().workers(1).build().unwrap();
            let handle = make(&bus, &store);
            enter(&bus, state);
            drop(handle);
            if state != State::ShutDown {
                publish(&bus);
                bus.flush_deadline(PATIENCE).unwrap();
                assert_settled(&bus);
            }
            end(&bus);
            assert!(bus.subscriptions().is_empty(), "nothing is left of the {name}, dropped in state {state:?}");
            drop((bus, store));
            // Nobody holds it any more, so it can be opened again.
            let found = Query::new().stream(&open(&disk)).filter(|event| event.is_ok()).count() as u64;
            assert!(found >= STORED, "{found}");
        }
    }
}

#[test]
fn a_stream_of_events_may_be_left_half_way_and_holds_up_nobody() {
    for store in [Arc::new(MemoryStore::new()) as Arc<dyn EventStore>, Arc::new(open(&SimDisk::new()))] {
        let mut writer = Writer::new();
        store.append(&writer.frames("a", STORED as usize), ExpectedVersion::Any, store.durability()).unwrap();
        for taken in [0, 1, 7, STORED as usize] {
            let mut stream = Query::new().limit(5).stream(&*store);
            assert_eq!(stream.by_ref().take(taken).filter(|event| event.is_ok()).count(), taken);
            // Half way others append, and it may be forgotten or read on.
            store.append(&writer.frames("a", 1), ExpectedVersion::Any, store.durability()).unwrap();
            if taken == 7 {
                assert!(stream.all(|event| event.is_ok()));
            }
        }
        assert_eq!(Query::new().stream(&*store).count() as u64, STORED + 4);
    }
}
