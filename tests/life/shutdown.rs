//! The end of a bus: nothing accepted is lost, nobody waits for ever, and the report says what was left.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ringmain::{Bus, BusState, Flush, FlushError, FullPolicy, Payload, Priority, PublishError, ShutdownReport};

use crate::support::{
    Latch, PATIENCE, Seen, assert_books, assert_left_balanced, number, shut_down_clean, simulate, until,
};

const NOTHING: Payload<'static> = Payload::raw(b"");

/// Holds up worker 0 in a handler until the latch opens. Returns when it is inside.
fn hang(bus: &Bus) -> Latch {
    let (inside, release) = (Latch::default(), Latch::default());
    let handler = (inside.clone(), release.clone());
    let made = bus.subscribe("hang").named("hanging").on_worker(0).handle(move |_, _| {
        handler.0.open();
        handler.1.pass();
    });
    made.unwrap().forever();
    bus.publish("hang", NOTHING).unwrap();
    inside.pass();
    release
}

#[test]
fn a_bus_runs_shuts_down_and_stops() {
    let bus = Bus::builder().workers(1).build().unwrap();
    assert_eq!(bus.state(), BusState::Running);
    let release = hang(&bus);
    let stopping = thread::spawn({
        let bus = bus.clone();
        move || bus.shutdown_deadline(PATIENCE)
    });
    until("the shutdown", || bus.state() == BusState::ShuttingDown);
    release.open();
    assert!(stopping.join().unwrap().unwrap().is_clean());
    assert_eq!(bus.state(), BusState::Stopped);
    assert!(format!("{bus:?}").contains("Stopped"));
    assert_books(&bus);
}

#[test]
fn a_flush_that_has_begun_waits_for_nothing_that_comes_later() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    let wait = |flush: &mut Flush| flush.wait(Duration::ZERO);
    bus.publish("a", NOTHING).unwrap();
    let mut first = bus.begin_flush();
    bus.publish("a", NOTHING).unwrap();
    let mut both = bus.begin_flush();
    assert!(matches!(wait(&mut first), Err(FlushError::TimedOut { .. })));
    inbox.try_recv().unwrap().ack();
    let second = inbox.try_recv().unwrap();
    bus.publish("a", NOTHING).unwrap();
    assert_eq!(wait(&mut first), Ok(()));
    assert!(wait(&mut both).is_err(), "somebody has the second in hand");
    second.ack();
    assert_eq!((wait(&mut both), wait(&mut first)), (Ok(()), Ok(())));
    // What a paused subscription holds is waited for, unlike by `flush`.
    bus.pause(inbox.id()).unwrap();
    let mut third = bus.begin_flush();
    assert!(wait(&mut third).is_err() && bus.flush().is_ok());
    bus.resume(inbox.id()).unwrap();
    inbox.try_recv().unwrap().ack();
    assert_eq!(wait(&mut third), Ok(()));
    assert_books(bus);
}

#[test]
fn publishers_are_refused_at_once_and_those_that_wait_are_woken() {
    let bus = Bus::builder().workers(1).max_queue_size(4).batch_max(4).build().unwrap();
    let release = hang(&bus);
    let mut early = bus.publisher().unwrap();
    early.set_full_policy(FullPolicy::REJECT);
    while early.publish("hang", NOTHING).is_ok() {}
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let mut publisher = bus.publisher().unwrap();
            thread::spawn(move || publisher.publish_deadline("hang", NOTHING, PATIENCE))
        })
        .collect();
    let stopping = thread::spawn({
        let bus = bus.clone();
        move || bus.shutdown_deadline(PATIENCE)
    });
    for waiting in waiting {
        // They come back while the worker still hangs.
        assert_eq!(waiting.join().unwrap(), Err(PublishError::ShuttingDown));
    }
    until("the shutdown", || bus.state() == BusState::ShuttingDown);
    assert_eq!(early.publish("hang", NOTHING), Err(PublishError::ShuttingDown));
    assert_eq!(early.try_publish("nobody", NOTHING), Err(PublishError::ShuttingDown));
    assert_eq!(early.publish_batch("hang", [NOTHING]), Err(PublishError::ShuttingDown));
    assert_eq!(early.try_clone().map(drop), Err(PublishError::ShuttingDown));
    assert_eq!(bus.publisher().map(drop), Err(PublishError::ShuttingDown));
    assert_eq!(bus.publish("hang", NOTHING), Err(PublishError::ShuttingDown));
    assert!(bus.metrics().refused.shutting_down >= 6);
    release.open();
    let report = stopping.join().unwrap().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.delivered, 4, "the one that hung and those behind it");
    assert_books(&bus);
}

#[test]
fn what_was_accepted_is_delivered_by_priority() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let seen = Seen::default();
    let made = bus.subscribe("a").handle({
        let seen = seen.clone();
        move |_, meta| seen.push(meta.priority())
    });
    let mut publisher = bus.publisher().unwrap();
    for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Critical, Priority::Low] {
        publisher.at(priority).publish("a", NOTHING).unwrap();
    }
    let report = bus.shutdown().unwrap();
    assert_eq!(seen.take(), [Priority::Critical, Priority::High, Priority::Normal, Priority::Low, Priority::Low]);
    assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
    assert_eq!(report.delivered, 5);
    drop(made.unwrap());
    assert_books(bus);
}

#[test]
fn handlers_see_that_the_bus_shuts_down() {
    struct Asks(Seen<bool>);
    impl ringmain::Handler<ringmain::Pattern> for Asks {
        fn handle(
            &mut self,
            _: Payload<'_>,
            _: &ringmain::Meta<'_>,
            context: &ringmain::Context<'_>,
        ) -> ringmain::Outcome {
            self.0.push(context.is_cancelled());
            ringmain::Outcome::Ack
        }
    }
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let seen = Seen::default();
    let made = bus.subscribe("a").handler(Asks(seen.clone())).unwrap();
    bus.publish("a", NOTHING).unwrap();
    simulation.run();
    bus.publish("a", NOTHING).unwrap();
    bus.shutdown().unwrap();
    assert_eq!(seen.take(), [false, true]);
    drop(made);
    assert_books(bus);
}

#[test]
fn shutdown_waits_for_handlers_on_their_own_threads() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (seen, release) = (Seen::default(), Latch::default());
    let made = bus.subscribe("a").handle_on("slow", {
        let (seen, release) = (seen.clone(), release.clone());
        move |payload, _| {
            release.pass();
            seen.push(number(payload));
        }
    });
    for value in 0..20_u64 {
        bus.publish("a", Payload::raw(&value.to_le_bytes())).unwrap();
    }
    let stopping = thread::spawn({
        let bus = bus.clone();
        move || bus.shutdown_deadline(PATIENCE)
    });
    until("the shutdown", || bus.state() != BusState::Running);
    release.open();
    let report = stopping.join().unwrap().unwrap();
    assert!(report.is_clean() && report.ledger_balanced, "{report:?}");
    assert_eq!(seen.take(), (0..20).collect::<Vec<_>>());
    drop(made.unwrap());
    assert_books(&bus);
}

#[test]
fn shutdown_is_idempotent_and_concurrent_calls_agree() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let made = bus.subscribe("a").handle(|_, _| {}).unwrap();
    for _ in 0..100 {
        bus.publish("a", NOTHING).unwrap();
    }
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let bus = bus.clone();
            thread::spawn(move || bus.shutdown_deadline(PATIENCE).unwrap())
        })
        .collect();
    let reports: Vec<ShutdownReport> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert!(reports[0].is_clean() && reports[0].delivered == 100, "{reports:?}");
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:?}");
    assert_eq!(bus.shutdown(), Ok(reports[0]));
    assert_eq!(bus.shutdown_deadline(Duration::ZERO), Ok(reports[0]));
    bus.flush().unwrap();
    drop(made);
    assert_books(&bus);
}

#[test]
fn a_hasty_second_call_does_not_cut_the_first_one_short() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let made = bus.subscribe("a").on_worker(0).handle(|_, _| {}).unwrap();
    let release = hang(&bus);
    for _ in 0..1_000 {
        bus.publish("a", NOTHING).unwrap();
    }
    let patient = thread::spawn({
        let bus = bus.clone();
        move || bus.shutdown_deadline(PATIENCE)
    });
    until("the shutdown", || bus.state() == BusState::ShuttingDown);
    let hasty = bus.shutdown_deadline(Duration::from_millis(1));
    assert!(matches!(hasty, Err(FlushError::TimedOut { .. })), "{hasty:?}");
    assert_eq!(bus.state(), BusState::ShuttingDown);
    release.open();
    let report = patient.join().unwrap().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.delivered, 1_001);
    drop(made);
    assert_books(&bus);
}

#[test]
fn a_handler_that_hangs_is_left_behind_at_the_deadline() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let release = hang(&bus);
    for _ in 0..10 {
        bus.publish("hang", NOTHING).unwrap();
    }
    let limit = Duration::from_millis(20);
    let refused = bus.flush_deadline(limit).unwrap_err();
    let FlushError::TimedOut { after, in_lanes, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(after, limit);
    assert!(in_lanes >= 10, "{in_lanes}");
    let report = bus.shutdown_deadline(limit).unwrap();
    assert!(!report.workers_left && !report.is_clean(), "{report:?}");
    assert!(report.left_in_lanes >= 10, "{report:?}");
    assert_eq!(bus.state(), BusState::Stopped);
    release.open();
    // It ends the turn it is in, and leaves.
    until("the end of the turn", || {
        let ledger = bus.ledger();
        ledger.subscriptions.delivered > 0 && ledger.subscriptions.delivered + ledger.in_lanes == 11
    });
    assert_books(&bus);
}

#[test]
fn a_handler_thread_that_hangs_is_left_behind_too() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let (inside, release) = (Latch::default(), Latch::default());
    let made = bus.subscribe("a").handle_on("hanging", {
        let (inside, release) = (inside.clone(), release.clone());
        move |_, _| {
            inside.open();
            release.pass();
        }
    });
    made.unwrap().forever();
    for _ in 0..3 {
        bus.publish("a", NOTHING).unwrap();
    }
    inside.pass();
    let report = bus.shutdown_deadline(Duration::from_millis(20)).unwrap();
    assert_eq!((report.workers_left, report.left_in_mailboxes, report.left_in_lanes), (false, 3, 0), "{report:?}");
    assert_books(&bus);
    release.open();
    until("the rest", || bus.ledger().subscriptions.delivered == 3);
    assert_books(&bus);
}

#[test]
fn a_full_mailbox_that_nobody_pulls_does_not_keep_the_bus_alive() {
    // The workers without events leave first.
    let bus = Bus::builder().workers(3).build().unwrap();
    let mailbox = bus.subscribe("a").capacity(2).mailbox().unwrap();
    for _ in 0..10 {
        bus.publish("a", NOTHING).unwrap();
    }
    until("a full mailbox", || mailbox.len() == 2);
    let report = bus.shutdown_deadline(Duration::from_millis(50)).unwrap();
    assert_eq!((report.left_in_mailboxes, report.left_in_lanes, report.workers_left), (2, 8, true), "{report:?}");
    assert!(report.ledger_balanced, "{:#?}", bus.ledger());
    assert_books(&bus);
}

#[test]
fn scheduled_events_are_reported() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let made = bus.subscribe("a").handle(|_, _| {}).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for _ in 0..3 {
        publisher.event().not_before(Duration::from_secs(3_600)).publish("a", NOTHING).unwrap();
    }
    publisher.publish("a", NOTHING).unwrap();
    bus.flush().unwrap();
    let report = bus.shutdown().unwrap();
    assert_eq!((report.left_scheduled, report.delivered, report.is_clean()), (3, 1, false), "{report:?}");
    assert!(report.ledger_balanced);
    drop(made);
    assert_books(&bus);
}

#[test]
fn a_bus_dropped_without_shutdown_delivers_what_it_accepted() {
    let seen = Seen::default();
    let bus = Bus::builder().workers(2).build().unwrap();
    let made = bus.subscribe("a").handle({
        let seen = seen.clone();
        move |payload, _| seen.push(number(payload))
    });
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for value in 0..100_u64 {
        publisher.publish("a", Payload::raw(&value.to_le_bytes())).unwrap();
    }
    let clone = bus.clone();
    drop(bus);
    publisher.publish("a", Payload::raw(&100_u64.to_le_bytes())).unwrap();
    drop(clone);
    assert_eq!(seen.take(), (0..=100).collect::<Vec<_>>());
    assert_eq!(publisher.publish("a", NOTHING), Err(PublishError::ShuttingDown));
    assert_eq!(mailbox.iter().map(|one| number(one.payload())).collect::<Vec<_>>(), (0..=100).collect::<Vec<_>>());
    let made = made.unwrap();
    assert_left_balanced(&made);
    made.unsubscribe().unwrap();
}

#[test]
fn a_bus_dropped_on_a_worker_shuts_down_all_the_same() {
    let bus = Bus::builder().workers(2).build().unwrap();
    let last: Arc<Mutex<Option<Bus>>> = Arc::default();
    let (ready, gone) = (Latch::default(), Latch::default());
    let made = bus.subscribe("last").on_worker(0).handle({
        let (last, ready, gone) = (Arc::clone(&last), ready.clone(), gone.clone());
        move |_, _| {
            ready.pass();
            drop(last.lock().unwrap().take());
            gone.open();
        }
    });
    let seen = Seen::default();
    let own = bus.subscribe("*").on_worker(1).handle_on("own", {
        let seen = seen.clone();
        move |_, meta| seen.push(meta.topic().to_owned())
    });
    let mut mailbox = bus.subscribe("*").on_worker(1).mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for topic in ["last", "x", "y"] {
        publisher.publish(topic, NOTHING).unwrap();
    }
    *last.lock().unwrap() = Some(bus);
    ready.open();
    gone.pass();
    until("the refusal", || publisher.publish("z", NOTHING) == Err(PublishError::ShuttingDown));
    let pulled: Vec<_> = mailbox.iter().map(|one| one.meta().topic().to_owned()).collect();
    assert_eq!(pulled[..3], ["last", "x", "y"]);
    assert!(pulled[3..].iter().all(|topic| topic == "z"));
    until("the handler's thread", || seen.len() == pulled.len());
    for subscription in [made, own].map(Result::unwrap) {
        until("the last word", || subscription.record().ledger.open() == 0);
        assert_left_balanced(&subscription);
        subscription.unsubscribe().unwrap();
    }
}

#[test]
fn what_was_accepted_while_the_bus_shut_down_is_delivered_or_counted() {
    const PUBLISHERS: usize = 4;
    for round in 0..150 {
        let bus = Bus::builder().workers(2).pin(false).max_queue_size(256).batch_max(256).blocks([(1 << 20, 1)]);
        let bus = bus.build().unwrap();
        let made = bus.subscribe("a").handle(|_, _| {}).unwrap();
        let mut mailbox = bus.subscribe("a").capacity(64).mailbox().unwrap();
        let consumer = thread::spawn(move || mailbox.iter().count() as u64);
        let ready = Latch::default();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|nth| {
                let (mut publisher, ready) = (bus.publisher().unwrap(), ready.clone());
                thread::spawn(move || {
                    ready.pass();
                    let mut accepted = 0;
                    loop {
                        let published = if nth == 0 {
                            publisher.publish_batch("a", [NOTHING; 3]).map(|ids| ids.len() as u64)
                        } else {
                            publisher.publish("a", NOTHING).map(|_| 1)
                        };
                        match published {
                            Ok(count) => accepted += count,
                            Err(PublishError::ShuttingDown) => return accepted,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        ready.open();
        while bus.ledger().accepted < round {
            thread::yield_now();
        }
        let report = bus.shutdown_deadline(PATIENCE).unwrap();
        let accepted: u64 = publishers.into_iter().map(|publisher| publisher.join().unwrap()).sum();
        let pulled = consumer.join().unwrap();
        assert!(report.workers_left && report.left_in_lanes == 0 && report.ledger_balanced, "{report:?}");
        let ledger = bus.ledger();
        assert_eq!((ledger.accepted, ledger.routed), (accepted, accepted));
        assert_eq!((made.record().delivery_count, pulled), (accepted, accepted), "{report:#?} {ledger:#?}");
        assert_books(&bus);
    }
}

#[test]
fn an_empty_bus_stops_at_once() {
    let bus = Bus::builder().workers(3).build().unwrap();
    shut_down_clean(&bus);
    assert_eq!(bus.shutdown().unwrap().delivered, 0);
}
