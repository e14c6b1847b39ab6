//! The store is the outbox: what was appended is published in its order, at least once.

use std::sync::Arc;
use std::time::Duration;

use ringmain::sourcing::{Relay, RelayError, Repository};
use ringmain::store::{Bookmark, Durability, EventStore, ExpectedVersion, Page, Position, Query, ReadError, Upcasters};
use ringmain::testing::Simulation;
use ringmain::{Bus, Frame, FullPolicy, Payload, PublishError};

use super::context::{CREATED, Context, create, rename};
use super::support::{Ground, Store, on_every_store};
use crate::books::assert_books;
use crate::delegated::delegated;

on_every_store! {
    a_relay_and_a_stream_go_on_behind_an_empty_page,
    a_journal_of_the_same_store_does_not_keep_what_a_relay_publishes,
    what_was_saved_is_published_in_order_and_goes_on_where_it_was,
    a_refused_event_is_the_next_to_be_published_and_an_expired_one_is_left_out,
    older_events_are_published_in_the_current_version_and_unknown_ones_stop_the_relay,
}

fn a_journal_of_the_same_store_does_not_keep_what_a_relay_publishes(ground: &Ground) {
    let store = ground.store();
    let bus = Bus::builder().workers(1).build().unwrap();
    let journal = bus.journal(store.clone()).durability(store.durability().min(Durability::Written)).start().unwrap();
    bus.publish("a", Payload::plain_text("kept once")).unwrap();
    bus.flush().unwrap();
    let mut relay = Relay::new(store.clone(), bus.publisher().unwrap(), Bookmark::START);
    for published in [1, 0] {
        assert_eq!(relay.step().unwrap().published, published);
        bus.flush().unwrap();
    }
    assert_eq!(store.head().unwrap(), Some(Position::FIRST));
    assert_books(&bus);
    assert_eq!(journal.close().unwrap().already_stored, 1);
    drop(relay);
    bus.shutdown().unwrap();
}

fn what_was_saved_is_published_in_order_and_goes_on_where_it_was(ground: &Ground) {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let mut created = bus.subscribe(CREATED).mailbox().unwrap();
    let mut all = bus.subscribe("context.*").mailbox().unwrap();
    let store: Arc<dyn EventStore> = ground.store();
    let mut contexts = Repository::<Context>::new(Arc::clone(&store), bus.publisher().unwrap());
    contexts.execute("7", &create("plans")).unwrap();
    contexts.execute("7", &rename("dreams", 5)).unwrap();
    simulation.run();
    assert!(all.try_recv().is_err(), "saving tells nobody");

    let mut relay = Relay::new(Arc::clone(&store), bus.publisher().unwrap(), Bookmark::START);
    let relayed = relay.step().unwrap();
    assert_eq!((relayed.published, relayed.expired, relayed.has_more), (2, 0, false));
    simulation.run();
    assert_eq!(created.try_recv().unwrap().event().unwrap().name, "plans");
    for version in [1, 2] {
        assert_eq!(all.try_recv().unwrap().meta().aggregate().unwrap().version, version);
    }
    assert_eq!(relay.step().unwrap().published, 0);

    contexts.execute("7", &rename("deeds", 6)).unwrap();
    let mut another = Relay::new(store, bus.publisher().unwrap(), relay.bookmark());
    assert_eq!(another.step().unwrap().published, 1);
    assert_eq!(another.bookmark().position(), Position::new(3));
    assert_books(bus);
}

fn a_refused_event_is_the_next_to_be_published_and_an_expired_one_is_left_out(ground: &Ground) {
    let builder = Bus::builder().workers(1).max_queue_size(2).when_full(FullPolicy::REJECT);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let store = ground.store();
    let mut frames: Vec<_> = (0..3).map(|_| publisher.event().to_frame("a", Payload::json("1")).unwrap()).collect();
    let expiring = publisher.event().expires_after(Duration::from_secs(1));
    frames.insert(1, expiring.to_frame("a", Payload::json("2")).unwrap());
    store.append(&frames, ExpectedVersion::Any, Durability::Accepted).unwrap();
    simulation.advance(Duration::from_secs(2));

    let mut relay = Relay::new(store, publisher, Bookmark::START);
    let refused = relay.step().unwrap_err();
    let RelayError::Publish { position, error: PublishError::Full { .. } } = &refused else { panic!("{refused:?}") };
    assert_eq!(position.get(), 4);
    assert_eq!(relay.bookmark().position(), Position::new(3), "the first and the third; the second has expired");
    simulation.run();
    let relayed = relay.step().unwrap();
    assert_eq!((relayed.published, relayed.expired), (1, 0));
    simulation.run();
    for frame in [&frames[0], &frames[2], &frames[3]] {
        assert_eq!(inbox.try_recv().unwrap().meta().id(), frame.meta().id());
    }
    assert_books(bus);
}

/// A store whose first event has gone: it answers with an empty page, and where to go on.
struct WithoutTheFirst(Arc<dyn Store>);

impl EventStore for WithoutTheFirst {
    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        match query.positions() {
            Some((Position::FIRST, _)) => Ok(Page { events: Vec::new(), next: Some(Position::FIRST) }),
            _ => self.0.query(query),
        }
    }

    delegated!(0: append, sync, save_snapshot, load_snapshot, keep_history, head, wait_behind, durability);
}

fn a_relay_and_a_stream_go_on_behind_an_empty_page(ground: &Ground) {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    let frames: Vec<_> = (0..2).map(|_| publisher.event().to_frame("a", Payload::json("1")).unwrap()).collect();
    let store = Arc::new(WithoutTheFirst(ground.store()));
    store.append(&frames, ExpectedVersion::Any, Durability::Accepted).unwrap();
    let read: Vec<_> = Query::new().stream(&*store).map(|event| event.unwrap().position().get()).collect();
    assert_eq!(read, [2]);

    let mut relay = Relay::new(store, publisher, Bookmark::START);
    let relayed = relay.step().unwrap();
    assert_eq!((relayed.published, relayed.has_more, relay.bookmark().position()), (0, true, Some(Position::FIRST)));
    let relayed = relay.step().unwrap();
    assert_eq!((relayed.published, relayed.has_more, relay.bookmark().position()), (1, false, Position::new(2)));
    assert_books(simulation.bus());
}

fn older_events_are_published_in_the_current_version_and_unknown_ones_stop_the_relay(ground: &Ground) {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let mut inbox = simulation.bus().subscribe("a").mailbox().unwrap();
    let mut publisher = simulation.bus().publisher().unwrap();
    let mut of_version = |version| {
        let event = publisher.event().schema_version(version);
        event.to_frame("a", Payload::plain_text("1")).unwrap()
    };
    let frames = [of_version(1), of_version(3)];
    let store = ground.store();
    store.append(&frames, ExpectedVersion::Any, Durability::Accepted).unwrap();
    let two = |old: &Frame| Ok(old.with_payload(2, Payload::plain_text("2"))?);
    let upcasters = Arc::new(Upcasters::builder().step("a", 1, two).build().unwrap());
    let mut relay = Relay::new(store, publisher, Bookmark::START).upcasters(upcasters);
    let refused = relay.step().unwrap_err();
    assert!(matches!(&refused, RelayError::Upcast { position, .. } if position.get() == 2), "{refused:?}");
    assert_eq!(relay.bookmark().position(), Position::new(1));
    simulation.run();
    let event = inbox.try_recv().unwrap();
    assert_eq!((event.payload().text(), event.meta().schema_version()), (Some("2"), 2));
    assert!(inbox.try_recv().is_err());
    assert_books(simulation.bus());
}
