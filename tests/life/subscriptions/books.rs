//! What a subscription tells about itself, and what a pause does to its events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmain::{Bus, Context, Filter, Handler, Meta, Outcome, Pattern, Payload, Priority, SubscribeError};

use crate::support::{Seen, assert_books, number, simulate};

/// Refuses odd numbers.
struct Even;

impl Handler<Pattern> for Even {
    fn handle(&mut self, payload: Payload<'_>, meta: &Meta<'_>, context: &Context<'_>) -> Outcome {
        assert_eq!((context.attempt(), context.is_cancelled()), (meta.attempt(), false));
        if number(payload).is_multiple_of(2) { Outcome::Ack } else { Outcome::Failed("odd".to_owned()) }
    }
}

#[test]
fn a_record_tells_who_wants_what_since_when_and_how_it_went() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    simulation.step_wall_clock(1_800_000_000_000_000_000);
    simulation.advance(Duration::from_secs(5));
    let made = bus
        .subscribe("numbers.*")
        .named("evens")
        .on_worker(1)
        .filter(Filter::all().categories(["numbers"]).sources(["service:teller"]).priority_min(Priority::Normal))
        .handler(Even)
        .unwrap();
    let before = made.record();
    assert_eq!(before.id, made.id());
    assert_eq!(before.id.to_string().len(), 36, "a UUID");
    assert_eq!((before.name.as_str(), before.pattern.as_str(), before.worker), ("evens", "numbers.*", 1));
    assert!(before.handler_id.as_str().ends_with("Even"), "{}", before.handler_id);
    let created = UNIX_EPOCH + Duration::from_secs(1_800_000_005);
    assert_eq!((before.created_at, before.last_delivered), (created, None));
    assert_eq!((before.delivery_count, before.error_count, before.is_paused), (0, 0, false));
    assert_eq!(before.filters, "categories numbers; sources service:teller; priorities critical, high, normal");

    let mut publisher = bus.publisher().unwrap();
    publisher.set_source("service:teller").unwrap();
    simulation.advance(Duration::from_secs(1));
    for value in 0..5_u64 {
        publisher.publish("numbers.int", Payload::raw(&value.to_le_bytes())).unwrap();
    }
    publisher.event().source("service:other").publish("numbers.int", Payload::raw(&[0; 8])).unwrap();
    publisher.at(Priority::Low).publish("numbers.int", Payload::raw(&[0; 8])).unwrap();
    simulation.run();
    let after = bus.subscription(made.id()).unwrap();
    assert_eq!((after.delivery_count, after.error_count), (3, 2));
    assert_eq!(after.last_delivered, Some(created + Duration::from_secs(1)));
    assert_eq!((after.ledger.matched, after.ledger.filtered), (5, 1));
    assert_eq!(bus.subscriptions().iter().map(|record| record.id).collect::<Vec<_>>(), [made.id()]);
    assert_eq!((before.delivery_count, before.last_delivered), (0, None), "a record is a copy");
    assert_books(bus);
}

#[test]
fn defaults_of_a_record_are_the_pattern_and_the_type_of_the_handler() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let closure = bus.subscribe("a.**").handle(|_, _| {}).unwrap();
    let mailbox = bus.subscribe("a").mailbox().unwrap();
    let record = closure.record();
    assert_eq!(record.name, "a.**");
    assert!(record.handler_id.as_str().contains("defaults_of_a_record"), "{}", record.handler_id);
    let record = bus.subscription(mailbox.id()).unwrap();
    assert_eq!((record.name.as_str(), record.handler_id.as_str()), ("a", "mailbox"));
    assert_books(bus);
}

#[test]
fn the_record_of_a_mailbox_counts_what_its_consumer_did_and_when() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..4 {
        publisher.publish("a", Payload::raw(b"")).unwrap();
    }
    simulation.run();
    assert_eq!(bus.subscription(mailbox.id()).unwrap().last_delivered, None);
    simulation.advance(Duration::from_secs(3));
    mailbox.try_recv().unwrap().fail("no");
    drop(mailbox.try_recv().unwrap());
    let held = mailbox.try_recv().unwrap();
    let record = bus.subscription(mailbox.id()).unwrap();
    assert_eq!((record.delivery_count, record.error_count), (1, 1));
    assert_eq!((record.ledger.queued, record.ledger.in_flight), (1, 1));
    let handed_over: SystemTime = record.last_delivered.unwrap();
    assert_eq!(handed_over, record.created_at + Duration::from_secs(3));
    drop(held);
    drop(mailbox.try_recv().unwrap());
    assert_eq!(bus.subscription(mailbox.id()).unwrap().delivery_count, 3);
    assert_books(bus);
}

#[test]
fn a_record_can_be_read_after_the_subscription_and_the_bus_are_gone() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let made = bus.subscribe("a").named("late").handle(|_, _| {}).unwrap();
    bus.publisher().unwrap().publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    bus.unsubscribe(made.id()).unwrap();
    assert!(matches!(bus.subscription(made.id()), Err(SubscribeError::NotFound(id)) if id == made.id()));
    assert_books(bus);
    drop(simulation);
    let record = made.record();
    assert_eq!((record.name.as_str(), record.delivery_count), ("late", 1));
}

#[test]
fn a_paused_inline_handler_drops_and_counts_and_a_paused_mailbox_holds() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let seen = Seen::default();
    let inline = bus
        .subscribe("a")
        .handle({
            let seen = seen.clone();
            move |payload, _| seen.push(number(payload))
        })
        .unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let mut publish = |values: std::ops::Range<u64>| {
        for value in values {
            publisher.publish("a", Payload::raw(&value.to_le_bytes())).unwrap();
        }
        simulation.run();
    };
    publish(0..2);
    for id in [inline.id(), mailbox.id()] {
        bus.pause(id).unwrap();
        assert!(bus.subscription(id).unwrap().is_paused);
        bus.pause(id).unwrap();
    }
    publish(2..5);
    assert_eq!(seen.take(), [0, 1]);
    assert_eq!(inline.record().ledger.dropped.paused, 3);
    assert!(mailbox.try_recv().is_err(), "a paused mailbox gives nothing out");
    assert_eq!(mailbox.len(), 5);
    bus.flush().unwrap();
    for id in [inline.id(), mailbox.id()] {
        bus.resume(id).unwrap();
        bus.resume(id).unwrap();
        assert!(!bus.subscription(id).unwrap().is_paused);
    }
    publish(5..7);
    assert_eq!(seen.take(), [5, 6]);
    let held: Vec<_> = std::iter::from_fn(|| mailbox.try_recv().ok()).map(|one| number(one.payload())).collect();
    assert_eq!(held, [0, 1, 2, 3, 4, 5, 6]);
    let gone = inline.id();
    inline.unsubscribe().unwrap();
    assert_eq!(bus.pause(gone), Err(SubscribeError::NotFound(gone)));
    assert_eq!(bus.resume(gone), Err(SubscribeError::NotFound(gone)));
    assert_books(bus);
}
