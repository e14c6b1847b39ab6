//! Promises of what is in the lanes when a subscription ends: no event is forgotten.

use std::sync::Arc;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, DeadLetterFilter, DeadReason, DeliveryMode, Filter, Outcome, Payload, Priority, RoutingRule, Subscription,
};

use crate::services::simulation;
use crate::support::*;

/// Publishes four events in each lane, which no worker has seen.
fn publish(bus: &Bus, topic: &str) {
    let mut publisher = bus.publisher().unwrap();
    for priority in Priority::ALL {
        for _ in 0..4 {
            publisher.at(priority).publish(topic, Payload::raw(b"")).unwrap();
        }
    }
}

/// What a bus without subscriptions has in its books of reliable events that died with theirs, of others, and in letters.
fn closed(simulation: &Simulation) -> (u64, u64, usize) {
    simulation.run();
    let bus = simulation.bus();
    let ledger = bus.ledger().subscriptions;
    assert_eq!(ledger.matched, ledger.dead_lettered + ledger.dropped.closed);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert!(letters.iter().all(|letter| letter.reason() == DeadReason::Closed && letter.attempts() == 0));
    (ledger.dead_lettered, ledger.dropped.closed, letters.len())
}

#[test]
fn what_is_in_the_lanes_for_a_subscription_that_ends_is_a_dead_letter_or_counted_as_closed() {
    type Subscribe = fn(&Bus) -> Subscription;
    let inline: Subscribe = |bus| bus.subscribe("work.*").handle(|_, _| ()).unwrap();
    let thread: Subscribe = |bus| bus.subscribe("work.*").handle_on("thread", |_, _| ()).unwrap();
    let reliable: Subscribe =
        |bus| bus.subscribe("work.*").mode(DeliveryMode::reliable()).handle(|_, _| Outcome::Ack).unwrap();
    for (subscribe, dies) in [(inline, 0), (thread, 0), (reliable, 16)] {
        let simulation = simulation();
        let bus = simulation.bus();
        let subscription = subscribe(bus);
        publish(bus, "work.known");
        subscription.unsubscribe().unwrap();
        assert_eq!(closed(&simulation), (dies, 16 - dies, dies as usize));
        publish(bus, "work.known");
        assert_eq!((closed(&simulation).1, bus.ledger().unmatched), (16 - dies, 16));
        assert_settled(bus);
    }
}

#[test]
fn the_events_of_a_consumer_that_vanishes_are_dead_letters_whatever_came_of_its_worker_meanwhile() {
    let simulation = simulation();
    let bus = simulation.bus();
    let [first, second] = ["work.one", "work.*"]
        .map(|pattern| bus.subscribe(pattern).mode(DeliveryMode::reliable()).on_worker(0).mailbox().unwrap());
    publish(bus, "work.one");
    // A type that the worker has not heard of, and two tables that it takes over as one.
    publish(bus, "work.two");
    drop(first);
    drop(second);
    publish(bus, "work.two");
    assert_eq!(closed(&simulation), (48, 0, 48));
    assert_eq!(bus.ledger().unmatched, 16);
    assert_settled(bus);
}

#[test]
fn a_subscription_that_ends_after_its_bus_lets_go_of_the_bus_that_its_handler_owns() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mark = Arc::new(());
    let (own, held) = (bus.clone(), Arc::clone(&mark));
    let handler = bus.subscribe("work.*").handle(move |_, _| drop((own.state(), Arc::clone(&held)))).unwrap();
    bus.shutdown().unwrap();
    drop(handler);
    assert_settled(&bus);
    drop(bus);
    assert_eq!(Arc::strong_count(&mark), 1);
}

#[test]
fn filters_decide_before_a_subscription_that_ends_has_its_events_counted() {
    let simulation = simulation();
    let bus = simulation.bus();
    let filter = Filter::all().priority_min(Priority::High).matching(|meta| meta.sequence() % 2 == 0);
    let inbox = bus.subscribe("work.*").filter(filter).mode(DeliveryMode::reliable()).mailbox().unwrap();
    publish(bus, "work.one");
    drop(inbox);
    assert_eq!(closed(&simulation), (4, 0, 4));
    assert_eq!(bus.ledger().subscriptions.filtered, 4);
    assert_settled(bus);
}

#[test]
fn what_is_in_the_lanes_for_a_service_that_ends_is_a_dead_letter() {
    let simulation = simulation();
    let bus = simulation.bus();
    let service = bus.service("one").open().unwrap();
    let inbox = service.instance("a").mailbox().unwrap();
    bus.rules().add(RoutingRule::new("r").types(["work.*"]).to("one")).unwrap();
    publish(bus, "work.one");
    let mut publisher = bus.publisher().unwrap();
    publisher.event().target("one").publish("other", Payload::raw(b"")).unwrap();
    publisher.event().target("two").publish("work.one", Payload::raw(b"")).unwrap();
    service.end().unwrap();
    drop(inbox);
    assert_eq!(closed(&simulation), (17, 0, 17));
    assert_settled(bus);
}
