//! Promises of a bus that announces its changes: each change is an event, and single events make no noise.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    BreakerPolicy, BuildFault, Bus, DeliveryMode, FullPolicy, Mailbox, Overflow, Pattern, Payload, Priority,
    RetryPolicy,
};

use crate::support::{assert_books, assert_settled, observed};

const SECOND: Duration = Duration::from_secs(1);

/// Topic, state and name of what was announced.
fn heard(changes: &mut Mailbox<Pattern>) -> Vec<String> {
    std::iter::from_fn(|| changes.try_recv().ok())
        .map(|change| {
            let meta = change.meta();
            assert_eq!(meta.priority(), Priority::High);
            let name = meta.get("name").unwrap_or("-");
            let line = format!("{} {} {name}", meta.topic(), meta.get("state").unwrap());
            change.ack();
            line
        })
        .collect()
}

#[test]
fn breakers_suspensions_full_mailboxes_and_memory_pressure_are_events_for_who_asks_for_them() {
    let builder = Bus::builder().workers(1).max_queue_size(20).memory_pressure(0.5).announce(true);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut changes = bus.subscribe("ringmain.*").mailbox().unwrap();
    let once = RetryPolicy::default().attempts_max(1);
    let policy = BreakerPolicy::default().failures_max(1).open_for(SECOND);
    let flaky = bus.subscribe("a").named("flaky").mode(DeliveryMode::reliable()).retry(once).breaker(policy);
    let mut inbox = flaky.suspend_after(2).mailbox().unwrap();
    let small = bus.subscribe("b").named("small").capacity(1).overflow(Overflow::DropNewest);
    let small = small.mailbox().unwrap();
    let fine = bus.subscribe("c").named("fine").handle(|_, _| Err::<(), _>("of a single event")).unwrap();
    for topic in ["a", "a", "b", "b", "b", "c"] {
        bus.publish(topic, Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!(heard(&mut changes), ["ringmain.subscription overflow small"], "said at the first of a row");
    inbox.try_recv().unwrap().fail("down");
    simulation.run();
    assert_eq!(heard(&mut changes), ["ringmain.breaker open flaky"]);
    simulation.advance(SECOND);
    simulation.run();
    inbox.try_recv().unwrap().fail("down");
    simulation.run();
    let again =
        ["ringmain.breaker half-open flaky", "ringmain.breaker open flaky", "ringmain.subscription suspended flaky"];
    assert_eq!(heard(&mut changes), again);
    for _ in 0..12 {
        bus.publish("c", Payload::raw(b"")).unwrap();
    }
    bus.metrics();
    simulation.run();
    bus.metrics();
    simulation.run();
    assert_eq!(heard(&mut changes), ["ringmain.memory-pressure begins -", "ringmain.memory-pressure ends -"]);
    drop((inbox, small, fine));
    simulation.run();
    let gone = heard(&mut changes);
    assert_eq!(gone, ["ringmain.subscription consumer-gone flaky", "ringmain.subscription consumer-gone small"]);
    assert_settled(bus);
}

#[test]
fn a_breaker_that_closes_and_dead_letters_that_make_way_are_events_too() {
    let simulation = Simulation::new(Bus::builder().workers(1).dead_letters_max(1).announce(true), 1).unwrap();
    let bus = simulation.bus();
    let mut changes = bus.subscribe("ringmain.*").mailbox().unwrap();
    let once = RetryPolicy::default().attempts_max(1);
    let policy = BreakerPolicy::default().failures_max(1).open_for(SECOND);
    let flaky = bus.subscribe("a").named("flaky").mode(DeliveryMode::reliable()).retry(once).breaker(policy);
    let mut inbox = flaky.mailbox().unwrap();
    for _ in 0..3 {
        bus.publish("a", Payload::raw(b"")).unwrap();
    }
    simulation.run();
    inbox.try_recv().unwrap().fail("down");
    simulation.advance(SECOND);
    simulation.run();
    inbox.try_recv().unwrap().ack();
    simulation.run();
    let turns = ["open", "half-open", "closed"].map(|state| format!("ringmain.breaker {state} flaky"));
    assert_eq!(heard(&mut changes), turns);
    inbox.try_recv().unwrap().fail("down again");
    assert_eq!(bus.dead_letters().len(), 1, "the first one made way");
    simulation.run();
    let mut changed = heard(&mut changes);
    changed.sort_unstable();
    assert_eq!(changed, ["ringmain.breaker open flaky", "ringmain.dead-letters overflow -"]);
    drop(inbox);
    simulation.run();
    heard(&mut changes);
    assert_settled(bus);
}

#[test]
fn an_announcement_at_a_full_lane_is_lost_and_counted_and_told_to_observers_all_the_same() {
    let builder = Bus::builder().workers(1).max_queue_size(8).when_full(FullPolicy::REJECT).announce(true);
    let (builder, notices) = observed(builder);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut changes = bus.subscribe("ringmain.*").mailbox().unwrap();
    let _reader = bus.subscribe("b").handle(|_, _| ()).unwrap();
    let policy = BreakerPolicy::default().failures_max(1).open_for(SECOND);
    let flaky = bus.subscribe("a").named("flaky").mode(DeliveryMode::reliable()).breaker(policy);
    let mut inbox = flaky.mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    while publisher.at(Priority::High).publish("b", Payload::raw(b"")).is_ok() {}
    let refused = bus.metrics().refused.full;
    inbox.try_recv().unwrap().fail("down");
    assert_eq!(bus.metrics().refused.full, refused + 1);
    assert!(notices.take().iter().any(|notice| notice.contains("state: Open")));
    simulation.run();
    assert_eq!(heard(&mut changes), [""; 0], "nobody publishes it again");
    simulation.advance(SECOND);
    simulation.run();
    inbox.try_recv().unwrap().ack();
    simulation.run();
    assert_eq!(heard(&mut changes), ["ringmain.breaker half-open flaky", "ringmain.breaker closed flaky"]);
    assert_settled(bus);
}

#[test]
fn what_comes_of_announcing_is_not_announced_in_turn() {
    let builder = Bus::builder().workers(1).max_queue_size(20).memory_pressure(0.5).announce(true);
    let (builder, notices) = observed(builder);
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut changes = bus.subscribe("ringmain.*").mailbox().unwrap();
    let _reader = bus.subscribe("b").handle(|_, _| ()).unwrap();
    let policy = BreakerPolicy::default().failures_max(1);
    let flaky = bus.subscribe("a").named("flaky").mode(DeliveryMode::reliable()).breaker(policy);
    let mut inbox = flaky.mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    // The next one finds memory short: the announcement.
    for _ in 0..10 {
        publisher.at(Priority::High).publish("b", Payload::raw(b"")).unwrap();
    }
    let pressed = |notices: Vec<String>| notices.iter().filter(|notice| notice.starts_with("MemoryPressure")).count();
    assert_eq!(pressed(notices.take()), 0);
    inbox.try_recv().unwrap().fail("down");
    assert_eq!(pressed(notices.take()), 1, "observers hear of it");
    simulation.run();
    bus.metrics();
    simulation.run();
    assert_eq!(heard(&mut changes), ["ringmain.breaker open flaky", "ringmain.memory-pressure ends -"]);
    assert_books(bus);
}

#[test]
fn a_bus_that_is_not_told_to_announces_nothing() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let mut changes = bus.subscribe("ringmain.*").mailbox().unwrap();
    drop(bus.subscribe("a").mailbox().unwrap());
    simulation.run();
    assert_eq!(heard(&mut changes), [""; 0]);
    assert_eq!(bus.ledger().accepted, 0);
    assert_books(simulation.bus());
}

#[test]
fn a_bus_that_ends_while_it_announces_lets_go_of_itself() {
    let bus = Bus::builder().workers(1).announce(true).build().unwrap();
    let mailbox = bus.subscribe("a").mailbox().unwrap();
    drop(bus);
    drop(mailbox);
    let both = Bus::builder().single_publisher().announce(true).build();
    let fault = both.unwrap_err().faults()[0].clone();
    assert!(matches!(fault, BuildFault::Contradiction { second: "announce", .. }), "{fault:?}");
}
