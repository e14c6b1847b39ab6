//! What cannot be kept is refused with its value, its limit and what to do; and errors say what comes next.

use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, DedupWindow, DeliveryMode, Outcome, OverLimit, Overflow, Payload, Rate, RecvError, RetryPolicy,
    SubscribeError, TryRecvError,
};

use super::support::{assert_balanced, assert_books};

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

#[test]
fn delays_that_contradict_each_other_or_cannot_be_waited_for_are_refused() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let refused = |first, max| {
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(RetryPolicy::default().delays(first, max));
        wish.handle(|_, _| ()).map(drop)
    };
    let limit = 10 * DAY;
    let (first, max) = (60_000 * MS, MS);
    let error = refused(first, max).unwrap_err();
    assert_eq!(error, SubscribeError::Delays { first, max, limit });
    let text = error.to_string();
    assert!(text.contains("60s") && text.contains("1ms") && text.contains("RetryPolicy::delays(first, max)"), "{text}");

    let error = refused(MS, limit + MS).unwrap_err();
    assert_eq!(error, SubscribeError::Delays { first: MS, max: limit + MS, limit });
    let text = error.to_string();
    assert!(text.contains("864000.001s") && text.contains("864000s at most"), "{text}");
    for (first, max) in [(Duration::ZERO, Duration::ZERO), (MS, MS), (limit, limit)] {
        assert_eq!(refused(first, max), Ok(()));
    }
    let service = bus.service("billing").retry(RetryPolicy::default().delays(DAY, MS)).open();
    assert_eq!(service.map(drop).unwrap_err(), SubscribeError::Delays { first: DAY, max: MS, limit });
    assert_balanced(&bus);
}

#[test]
fn a_dedup_window_of_no_time_is_refused() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let wish = |time| bus.subscribe("a").dedup(DedupWindow::default().time(time)).handle(|_, _| ()).map(drop);
    let error = wish(Duration::ZERO).unwrap_err();
    assert_eq!(error, SubscribeError::WindowTime);
    assert!(error.to_string().contains("DedupWindow::time"), "{error}");
    assert_eq!(wish(Duration::from_nanos(1)), Ok(()));
    assert_balanced(&bus);
}

#[test]
fn a_wait_of_more_than_ten_days_is_cut_to_them() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").mode(DeliveryMode::reliable()).mailbox().unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    simulation.run();
    inbox.try_recv().unwrap().retry_after(30 * DAY);
    let mut days = 0;
    while inbox.is_empty() {
        simulation.advance(DAY);
        simulation.run();
        days += 1;
        assert!(days <= 11);
    }
    assert_eq!(days, 10);
    assert_books(bus);
}

#[test]
fn errors_of_subscriptions_and_mailboxes_say_what_to_do_next() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let id = bus.subscribe("a").handle(|_, _| ()).unwrap().id();
    let error = bus.unsubscribe(id).unwrap_err();
    assert_eq!(error, SubscribeError::NotFound(id));
    assert!(error.to_string().contains("Bus::subscriptions"), "{error}");

    // Two that say nothing is there: one has nothing, the other has had its rate.
    let mut inbox = bus.subscribe("a").rate_limit(Rate::per_second(0.001), OverLimit::Queue).mailbox().unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    inbox.recv().unwrap().ack();
    let (empty, late) = (inbox.try_recv().unwrap_err(), inbox.recv_deadline(MS).unwrap_err());
    assert_eq!((empty, late), (TryRecvError::Empty, RecvError::TimedOut { after: MS }));
    assert!(late.to_string().contains("1ms"), "{late}");
    for text in [empty.to_string(), late.to_string()] {
        assert!(["empty", "none came"].iter().any(|why| text.contains(why)), "{text}");
        assert!(["paused", "breaker", "rate", "Bus::explain", "wait"].iter().all(|word| text.contains(word)), "{text}");
    }
    drop(inbox);
    bus.shutdown().unwrap();
    let error = bus.subscribe("a").handle(|_, _| ()).unwrap_err();
    assert_eq!(error, SubscribeError::ShuttingDown);
    assert!(error.to_string().contains("subscribe before that"), "{error}");
    assert_books(&bus);
}

#[test]
fn a_dedup_window_remembers_an_event_whatever_becomes_of_it_by_best_effort() {
    let simulation = Simulation::new(Bus::builder().workers(1), 1).unwrap();
    let bus = simulation.bus();
    let wish = |mode| bus.subscribe("a").mode(mode).dedup(DedupWindow::default()).capacity(1);
    let mut full = wish(DeliveryMode::BestEffort).overflow(Overflow::DropNewest).mailbox().unwrap();
    let failing = wish(DeliveryMode::BestEffort).handle(|_, _| Outcome::Failed("no".to_owned())).unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.publish("a", Payload::plain_text("first")).unwrap();
    let id = publisher.publish("a", Payload::plain_text("second")).unwrap();
    simulation.run();
    assert_eq!(full.try_recv().unwrap().payload().text(), Some("first"));
    publisher.event().id(id).publish("a", Payload::plain_text("second")).unwrap();
    simulation.run();
    let dropped = bus.subscription(full.id()).unwrap().ledger.dropped;
    assert_eq!((dropped.overflow, dropped.duplicate, full.len()), (1, 1, 0));
    let failed = failing.record().ledger;
    assert_eq!((failed.failed, failed.dropped.duplicate), (2, 1));
    publisher.publish("a", Payload::plain_text("second, as a new event")).unwrap();
    simulation.run();
    assert_eq!(full.try_recv().unwrap().payload().text(), Some("second, as a new event"));
    assert_books(bus);
}
