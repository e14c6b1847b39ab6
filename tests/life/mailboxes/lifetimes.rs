//! What outlives what, and what may move between threads.

use std::thread;

use ringmain::{
    Batch, Bus, BusBuilder, Delivery, Error, EventId, Filter, Health, Ledger, Loan, Mailbox, Meta, Metrics, Overflow,
    Pattern, Payload, Publisher, RecvError, ShutdownReport, Subscribe, Subscription, SubscriptionRecord, Topic,
    TryRecvError,
};

use crate::support::{PATIENCE, assert_books, number, shut_down_clean, simulate};

#[test]
fn a_delivery_may_be_settled_on_another_thread() {
    const EVENTS: u64 = 500;
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").capacity(8).mailbox().unwrap();
    let id = mailbox.id();
    let (hand, hands) = std::sync::mpsc::sync_channel::<Delivery<Pattern>>(4);
    let settler = thread::spawn(move || {
        let mut sum = 0;
        for delivery in hands {
            sum += number(delivery.payload());
            if number(delivery.payload()).is_multiple_of(5) {
                delivery.fail("a fifth");
            }
        }
        sum
    });
    let puller = thread::spawn(move || {
        while let Ok(delivery) = mailbox.recv() {
            hand.send(delivery).unwrap();
        }
    });
    let mut publisher = bus.publisher().unwrap();
    for value in 0..EVENTS {
        publisher.publish_deadline("a", Payload::raw(&value.to_le_bytes()), PATIENCE).unwrap();
    }
    bus.flush_deadline(PATIENCE).unwrap();
    let record = bus.subscription(id).unwrap();
    assert_eq!((record.delivery_count, record.error_count), (EVENTS / 5 * 4, EVENTS / 5));
    shut_down_clean(&bus);
    puller.join().unwrap();
    assert_eq!(settler.join().unwrap(), EVENTS * (EVENTS - 1) / 2);
}

#[test]
fn a_delivery_settled_while_its_thread_panics_counts_as_failed() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    let delivery = mailbox.try_recv().unwrap();
    let panicked = thread::spawn(move || {
        let _held = delivery;
        panic!("the consumer's own");
    });
    assert!(panicked.join().is_err());
    let record = bus.subscription(mailbox.id()).unwrap();
    assert_eq!((record.delivery_count, record.error_count), (0, 1));
    assert_books(bus);
}

#[test]
fn a_delivery_outlives_its_subscription() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let big = "x".repeat(100_000);
    let free = bus.metrics().free_blocks;
    for text in [big.as_str(), "queued"] {
        publisher.publish("a", Payload::plain_text(text)).unwrap();
    }
    simulation.run();
    let held = mailbox.try_recv().unwrap();
    bus.unsubscribe(mailbox.id()).unwrap();
    drop(mailbox);
    for _ in 0..200 {
        publisher.publish("a", Payload::plain_text("others")).unwrap();
    }
    simulation.run();
    let ledger = bus.ledger();
    assert_eq!((ledger.subscriptions.in_flight, ledger.subscriptions.dropped.closed), (1, 1));
    assert_books(bus);
    assert_eq!(held.payload().text(), Some(big.as_str()));
    assert_eq!(held.meta().topic(), "a");
    drop(held);
    assert_eq!(bus.ledger().subscriptions.delivered, 1);
    assert_eq!(bus.metrics().free_blocks, free, "its block went back");
    assert_books(bus);
}

#[test]
fn a_delivery_outlives_the_bus() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    let big = "x".repeat(100_000);
    publisher.publish("a", Payload::plain_text(&big)).unwrap();
    publisher.publish("a", Payload::plain_text("small")).unwrap();
    let held = [mailbox.recv().unwrap(), mailbox.recv().unwrap()];
    let report = bus.shutdown().unwrap();
    assert_eq!((report.left_in_mailboxes, report.is_clean(), report.ledger_balanced), (2, false, true));
    assert_books(&bus);
    drop((bus, publisher, mailbox));
    assert_eq!(held[0].payload().text(), Some(big.as_str()));
    assert_eq!((held[1].payload().text(), held[1].meta().topic()), (Some("small"), "a"));
}

#[test]
fn a_mailbox_can_be_drained_after_shutdown_and_is_then_closed() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut paused = bus.subscribe("a").mailbox().unwrap();
    bus.pause(paused.id()).unwrap();
    for value in 0..5_u64 {
        bus.publish("a", Payload::raw(&value.to_le_bytes())).unwrap();
    }
    let report = bus.shutdown().unwrap();
    assert_eq!((report.left_in_mailboxes, report.workers_left, report.ledger_balanced), (10, true, true));
    for one in [&mut mailbox, &mut paused] {
        for value in 0..5 {
            assert_eq!(number(one.recv().unwrap().payload()), value);
        }
        assert!(matches!(one.try_recv(), Err(TryRecvError::Closed)));
        assert!(matches!(one.recv(), Err(RecvError::Closed)));
        assert!(matches!(one.recv_deadline(PATIENCE), Err(RecvError::Closed)));
    }
    assert_eq!(bus.ledger().subscriptions.delivered, 10);
    assert_books(&bus);
}

#[test]
fn a_dropped_mailbox_ends_its_subscription_and_counts_what_it_held() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..3 {
        publisher.publish("a", Payload::raw(b"")).unwrap();
    }
    crate::support::until("the events", || mailbox.len() == 3);
    drop(mailbox);
    assert_eq!(bus.subscriptions().len(), 0);
    publisher.publish("a", Payload::raw(b"")).unwrap();
    bus.flush().unwrap();
    let ledger = bus.ledger();
    assert_eq!((ledger.subscriptions.dropped.closed, ledger.unmatched), (3, 1));
    assert_eq!(bus.metrics().consumers_gone, 1);
    shut_down_clean(&bus);
}

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn future_is_send(_: &impl Send) {}

#[test]
fn handles_move_between_threads_as_their_documentation_says() {
    is_send::<Bus>();
    is_sync::<Bus>();
    is_send::<BusBuilder>();
    is_sync::<BusBuilder>();
    is_send::<Publisher>();
    is_send::<Batch<'_>>();
    is_send::<Loan<'_>>();
    is_send::<Subscribe<Pattern>>();
    is_send::<Subscription>();
    is_sync::<Subscription>();
    is_send::<Mailbox<Pattern>>();
    is_send::<Mailbox<Topic<String>>>();
    is_send::<Delivery<Pattern>>();
    is_sync::<Delivery<Pattern>>();
    is_send::<Delivery<Topic<String>>>();
    is_send::<Meta<'_>>();
    is_sync::<Meta<'_>>();
    is_send::<Payload<'_>>();
    is_send::<Filter>();
    is_sync::<Filter>();
    is_send::<(EventId, Error, Health, Ledger, Metrics, Overflow, ShutdownReport, SubscriptionRecord)>();
    is_sync::<(EventId, Error, Health, Ledger, Metrics, Overflow, ShutdownReport, SubscriptionRecord)>();
}

#[test]
fn futures_move_between_threads() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    const TEXT: Topic<String> = Topic::new("text");
    let text = String::new();
    future_is_send(&mailbox.recv_async());
    future_is_send(&publisher.publish_async("a", Payload::raw(b"")));
    future_is_send(&publisher.publish_async(TEXT, &text));
    let holding = bus.subscribe("a").run(async |delivery| {
        let payload = delivery.payload();
        tokio::task::yield_now().await;
        payload.text().map(drop).ok_or("no text")
    });
    future_is_send(&holding.unwrap());
    let holding = bus.subscribe(TEXT).run(async |delivery| {
        let text = delivery.event();
        tokio::task::yield_now().await;
        text.map(drop)
    });
    future_is_send(&holding.unwrap());
    assert_books(bus);
}
