//! Full mailboxes: who waits, who makes way, and who is not concerned.

use ringmain::testing::Simulation;
use ringmain::{
    Bus, Filter, FullPolicy, Mailbox, Notice, Overflow, Pattern, Payload, Priority, PublishError, Subscribe,
};

use crate::support::{Seen, assert_books, number, simulate};

fn publish(simulation: &Simulation, priority: Priority, values: std::ops::Range<u64>) {
    let mut publisher = simulation.bus().publisher().unwrap();
    for value in values {
        publisher.at(priority).publish("a", Payload::raw(&value.to_le_bytes())).unwrap();
        simulation.run();
    }
}

fn pull(mailbox: &mut Mailbox<Pattern>) -> Vec<u64> {
    std::iter::from_fn(|| mailbox.try_recv().ok()).map(|one| number(one.payload())).collect()
}

#[test]
fn a_mailbox_that_blocks_holds_its_lane_and_loses_nothing() {
    let simulation = simulate(Bus::builder().workers(1).max_queue_size(8).batch_max(8).when_full(FullPolicy::REJECT));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").capacity(4).mailbox().unwrap();
    publish(&simulation, Priority::Normal, 0..12);
    assert_eq!(mailbox.len(), 4);
    let refused = bus.publish("a", Payload::raw(b"")).unwrap_err();
    assert!(matches!(refused, PublishError::Full { depth: 8, limit: 8, gated_by: Some(0), .. }), "{refused:?}");
    assert_eq!(bus.ledger().in_lanes, 8);
    // Other lanes go on as soon as there is a cell.
    assert_eq!(number(mailbox.try_recv().unwrap().payload()), 0);
    publish(&simulation, Priority::Critical, 100..101);
    assert_eq!(number(mailbox.try_recv().unwrap().payload()), 100);
    let mut rest = Vec::new();
    while rest.len() < 11 {
        rest.extend(pull(&mut mailbox));
        simulation.run();
    }
    assert_eq!(rest, (1..12).collect::<Vec<_>>());
    assert_books(bus);
}

#[test]
fn drop_newest_keeps_what_is_queued() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").capacity(4).overflow(Overflow::DropNewest).mailbox().unwrap();
    publish(&simulation, Priority::Normal, 0..10);
    publish(&simulation, Priority::Critical, 10..11);
    assert_eq!(bus.subscription(mailbox.id()).unwrap().ledger.dropped.overflow, 7);
    assert_eq!(pull(&mut mailbox), [0, 1, 2, 3]);
    assert_books(bus);
}

#[test]
fn drop_oldest_lets_the_oldest_of_the_least_urgent_make_way() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").capacity(4).overflow(Overflow::DropOldest).mailbox().unwrap();
    publish(&simulation, Priority::Normal, 0..10);
    publish(&simulation, Priority::Critical, 10..12);
    assert_eq!(pull(&mut mailbox), [10, 11, 8, 9]);
    publish(&simulation, Priority::Critical, 0..4);
    publish(&simulation, Priority::Low, 4..6);
    assert_eq!(pull(&mut mailbox), [0, 1, 2, 3], "nothing queued is less urgent than a low event");
    assert_eq!(bus.subscription(mailbox.id()).unwrap().ledger.dropped.overflow, 8 + 2);
    assert_books(bus);
}

#[test]
fn an_event_in_a_consumers_hands_takes_a_place_until_it_is_settled() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").capacity(2).overflow(Overflow::DropOldest).mailbox().unwrap();
    publish(&simulation, Priority::Normal, 0..2);
    let held = [mailbox.try_recv().unwrap(), mailbox.try_recv().unwrap()];
    publish(&simulation, Priority::Normal, 2..4);
    assert_eq!(mailbox.len(), 0);
    let ledger = bus.subscription(mailbox.id()).unwrap().ledger;
    assert_eq!((ledger.in_flight, ledger.dropped.overflow), (2, 2));
    assert_eq!(held.each_ref().map(|one| number(one.payload())), [0, 1], "what is held does not change");
    drop(held);
    publish(&simulation, Priority::Normal, 4..5);
    assert_eq!(pull(&mut mailbox), [4]);
    assert_books(bus);
}

#[test]
fn an_overflow_is_observed() {
    let seen = Seen::default();
    let simulation = simulate(Bus::builder().workers(1).observer({
        let seen = seen.clone();
        move |notice: &Notice<'_>| {
            if let Notice::MailboxOverflow { subscription, name } = notice {
                seen.push((*subscription, name.to_string()));
            }
        }
    }));
    let bus = simulation.bus();
    let mailbox = bus.subscribe("a").named("tiny").capacity(1).overflow(Overflow::DropNewest).mailbox().unwrap();
    publish(&simulation, Priority::Normal, 0..1);
    assert_eq!(seen.len(), 0);
    publish(&simulation, Priority::Normal, 1..5);
    assert_eq!(seen.take(), [(mailbox.id(), "tiny".to_owned())], "once for a row of drops");
    assert_books(bus);
}

/// A full mailbox that `narrow` makes picky holds up nothing that it would not take.
fn holds_up_only_what_it_wants(
    narrow: impl FnOnce(Subscribe<Pattern>) -> Subscribe<Pattern>,
    wanted: (Priority, &str, &str),
    unwanted: (Priority, &str, &str),
) {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut full = narrow(bus.subscribe("**").named("full")).capacity(1).mailbox().unwrap();
    let other = bus.subscribe("**").handle(|_, _| {}).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for (priority, topic, source) in [wanted, unwanted, unwanted] {
        publisher.at(priority).source(source).publish(topic, Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!((full.len(), other.record().delivery_count), (1, 3));
    for (priority, topic, source) in [wanted, wanted] {
        publisher.at(priority).source(source).publish(topic, Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!(other.record().delivery_count, 3, "what it wants waits for it");
    for _ in 0..3 {
        drop(full.try_recv().unwrap());
        simulation.run();
    }
    assert_eq!((full.len(), other.record().delivery_count), (0, 5));
    assert_books(bus);
}

#[test]
fn a_full_mailbox_holds_up_only_the_priorities_it_wants() {
    let narrow = |it: Subscribe<Pattern>| it.filter(Filter::all().priority_min(Priority::High));
    holds_up_only_what_it_wants(narrow, (Priority::High, "a", "x"), (Priority::Low, "a", "x"));
}

#[test]
fn a_full_mailbox_holds_up_only_the_sources_it_wants() {
    let narrow = |it: Subscribe<Pattern>| it.filter(Filter::all().sources(["x"]));
    holds_up_only_what_it_wants(narrow, (Priority::Normal, "a", "x"), (Priority::Normal, "a", "y"));
}

#[test]
fn a_full_mailbox_holds_up_only_what_its_predicate_wants() {
    let narrow = |it: Subscribe<Pattern>| it.filter(Filter::all().matching(|meta| meta.source() == "x"));
    holds_up_only_what_it_wants(narrow, (Priority::Normal, "a", "x"), (Priority::Normal, "a", "y"));
}

#[test]
fn a_full_mailbox_holds_up_only_the_types_it_wants_beyond_types_max_too() {
    let simulation = simulate(Bus::builder().workers(1).types_max(1));
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("first", Payload::raw(b"")).unwrap();
    let full = bus.subscribe("wanted").capacity(1).mailbox().unwrap();
    let other = bus.subscribe("**").handle(|_, _| {}).unwrap();
    for topic in ["wanted", "unwanted", "unwanted"] {
        publisher.publish(topic, Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!((full.len(), other.record().delivery_count), (1, 3));
    drop(full);
    assert_books(bus);
}
