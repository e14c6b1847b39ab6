//! Where a subscription begins and where it ends.

use std::time::Duration;

use ringmain::{Bus, HandlerId, PatternError, Payload, SubscribeError};

use crate::support::{Seen, assert_books, number, shut_down_clean, simulate};

#[test]
fn later_publishes_are_seen_and_earlier_are_not() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    // Somebody wants the topic from the start, so that the early events take slots.
    let all = Seen::default();
    let _first = bus.subscribe("a.b").on_worker(0).handle({
        let all = all.clone();
        move |payload, _| all.push(number(payload))
    });
    let mut publisher = bus.publisher().unwrap();
    for value in 0..3_u64 {
        publisher.publish("a.b", Payload::raw(&value.to_le_bytes())).unwrap();
    }
    let late: Vec<(Seen<u64>, _)> = (0..2)
        .map(|worker| {
            let seen = Seen::default();
            let handler = seen.clone();
            let made = bus.subscribe("a.*").on_worker(worker).handle(move |payload, _| handler.push(number(payload)));
            (seen, made.unwrap())
        })
        .collect();
    let mut mailbox = bus.subscribe("**").on_worker(0).mailbox().unwrap();
    for value in 3..5_u64 {
        publisher.publish("a.b", Payload::raw(&value.to_le_bytes())).unwrap();
    }
    simulation.run();
    assert_eq!(all.take(), [0, 1, 2, 3, 4]);
    for (seen, _) in &late {
        assert_eq!(seen.take(), [3, 4]);
    }
    assert_eq!(number(mailbox.try_recv().unwrap().payload()), 3);
    assert_eq!(number(mailbox.try_recv().unwrap().payload()), 4);
    assert!(mailbox.try_recv().is_err());
    assert_books(bus);
}

#[test]
fn a_subscription_ends_by_handle_drop_id_and_handler_id() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let seen: Seen<&str> = Seen::default();
    let subscribe = |name: &'static str| {
        let seen = seen.clone();
        bus.subscribe("a.*").named(name).handler_id(name).handle(move |_, _| seen.push(name)).unwrap()
    };
    let (handle, dropped, id, handler) =
        (subscribe("handle"), subscribe("dropped"), subscribe("id"), subscribe("handler"));
    let kept = subscribe("kept");
    let mut publish = |expected: &[&str]| {
        publisher.publish("a.x", Payload::plain_text("x")).unwrap();
        simulation.run();
        let mut names = seen.take();
        names.sort_unstable();
        assert_eq!(names, expected);
    };
    publish(&["dropped", "handle", "handler", "id", "kept"]);
    handle.unsubscribe().unwrap();
    publish(&["dropped", "handler", "id", "kept"]);
    drop(dropped);
    publish(&["handler", "id", "kept"]);
    bus.unsubscribe(id.id()).unwrap();
    publish(&["handler", "kept"]);
    assert_eq!(bus.unsubscribe_handler("a.*", &HandlerId::new("nobody")), Ok(0));
    assert_eq!(bus.unsubscribe_handler("a.x", &HandlerId::new("handler")), Ok(0), "the pattern has to agree");
    assert_eq!(bus.unsubscribe_handler("a.*", &HandlerId::new("handler")), Ok(1));
    publish(&["kept"]);
    assert_eq!(bus.unsubscribe(id.id()), Err(SubscribeError::NotFound(id.id())));
    assert_eq!(bus.subscriptions().len(), 1);
    assert_eq!(bus.subscriptions()[0].id, kept.id());
    drop((id, handler));
    assert_books(bus);
}

#[test]
fn one_call_ends_all_subscriptions_of_a_handler() {
    let simulation = simulate(Bus::builder().workers(2));
    let bus = simulation.bus();
    let made: Vec<_> = (0..5).map(|_| bus.subscribe("a.*").handler_id("audit").handle(|_, _| {}).unwrap()).collect();
    let other = bus.subscribe("a.b").handler_id("audit").handle(|_, _| {}).unwrap();
    assert_eq!(bus.unsubscribe_handler("a.*", &HandlerId::new("audit")), Ok(5));
    assert_eq!(bus.subscriptions().len(), 1);
    drop((made, other));
    assert_eq!(bus.subscriptions().len(), 0);
    assert_books(bus);
}

#[test]
fn an_event_that_nobody_wants_any_more_takes_no_slot() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("a", Payload::raw(b"")).unwrap();
    let subscription = bus.subscribe("a").handle(|_, _| {}).unwrap();
    publisher.publish("a", Payload::raw(b"")).unwrap();
    subscription.unsubscribe().unwrap();
    publisher.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    let ledger = bus.ledger();
    assert_eq!((ledger.accepted, ledger.unmatched, ledger.routed), (3, 2, 1));
    assert_books(bus);
}

#[test]
fn a_forever_subscription_outlives_its_handle_and_ends_by_id() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let seen = Seen::default();
    let id = bus
        .subscribe("a")
        .handle({
            let seen = seen.clone();
            move |_, meta| seen.push(meta.sequence())
        })
        .unwrap()
        .forever();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    assert_eq!(seen.len(), 1);
    bus.unsubscribe(id).unwrap();
    publisher.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    assert_eq!(seen.len(), 1);
    assert_books(bus);
}

#[test]
fn what_cannot_be_subscribed_is_refused_with_the_reason() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let refused = bus.subscribe("a..b").handle(|_, _| {}).unwrap_err();
    assert_eq!(refused, SubscribeError::Pattern(PatternError::EmptySegment { offset: 2 }));
    let refused = bus.subscribe("a").on_worker(16).handle(|_, _| {}).unwrap_err();
    assert_eq!(refused, SubscribeError::NoWorker { worker: 16, workers: bus.metrics().workers.len() });
    let refused = bus.subscribe("a").capacity(0).mailbox().unwrap_err();
    assert!(matches!(refused, SubscribeError::Capacity { capacity: 0, .. }), "{refused}");
    let refused = bus.subscribe("a").capacity(usize::MAX).mailbox().unwrap_err();
    assert!(matches!(refused, SubscribeError::Capacity { capacity: usize::MAX, .. }), "{refused}");
    assert_eq!(bus.subscriptions().len(), 0);
    let ended = bus.subscribe("a").handle(|_, _| {}).unwrap();
    shut_down_clean(&bus);
    assert_eq!(bus.subscribe("a").handle(|_, _| {}).unwrap_err(), SubscribeError::ShuttingDown);
    assert_eq!(bus.subscribe("a").mailbox().unwrap_err(), SubscribeError::ShuttingDown);
    ended.unsubscribe().unwrap();
    assert_books(&bus);
}

#[test]
fn a_subscription_that_outlives_its_bus_says_the_same_times() {
    let simulation = simulate(Bus::builder().workers(1));
    simulation.advance(Duration::from_secs(3_600));
    let made = simulation.bus().subscribe("a").handle(|_, _| ()).unwrap();
    simulation.advance(Duration::from_secs(60));
    simulation.bus().publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    let before = made.record();
    let between = before.last_delivered.unwrap().duration_since(before.created_at).unwrap();
    assert_eq!(between, Duration::from_secs(60));
    assert_books(simulation.bus());
    drop(simulation);
    let after = made.record();
    assert_eq!((after.created_at, after.last_delivered), (before.created_at, before.last_delivered));
}
