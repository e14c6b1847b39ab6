//! Reliable delivery where it meets the end of things: shutdown, pauses, consumers that are late, panics in what a user gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, BusState, DeadLetterFilter, DeadReason, DeliveryMode, Key, Notice, Outcome, OverLimit, Overflow,
    Payload, Priority, PublishError, Rate, RetryPolicy, Settled, TryRecvError,
};

use super::support::{Log, assert_books, assert_settled, watched};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(16).blocks([(512, 4)]).payload_bytes_max(512)
}

fn publish(bus: &Bus, count: u32) {
    for nth in 0..count {
        bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
    }
}

fn at_once(attempts: u8) -> RetryPolicy {
    RetryPolicy::default().attempts_max(attempts).delays(Duration::ZERO, Duration::ZERO)
}

#[test]
fn a_key_function_that_panics_loses_no_event() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let log = Log::new();
    let seen = log.clone();
    let key = Key::by(|meta| if meta.source() == "bad" { panic!("a panic that the test asks for") } else { Some(1) });
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).ordered_by(key);
    let _made = wish.handle(move |_, meta| seen.add(meta.source().to_owned())).unwrap();
    let mut publisher = bus.publisher().unwrap();
    for source in ["good", "bad", "good"] {
        publisher.event().source(source).publish("a", Payload::plain_text("x")).unwrap();
    }
    for _ in 0..3 {
        simulation.run();
        simulation.advance(MS);
    }
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.delivered, ledger.failed, ledger.dead_lettered), (3, 0, 0));
    assert_eq!(log.len(), 3);
    assert_settled(bus);
}

#[test]
fn a_paused_subscription_with_ordered_events_does_not_hold_a_shutdown_up() {
    watched(|| {
        let bus = small().build().unwrap();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).ordered_by(Key::Topic);
        let made = wish.handle(|_, _| ()).unwrap();
        bus.pause(made.id()).unwrap();
        publish(&bus, 3);
        let begun = Instant::now();
        let report = bus.shutdown_deadline(LONG).unwrap();
        assert!(begun.elapsed() < LONG / 2, "it waited for what a pause holds: {report:?}");
        assert!(report.workers_left && report.ledger_balanced, "{report:?}");
        assert_eq!(bus.dead_letters().len(), 3);
        assert_books(&bus);
    });
}

#[test]
fn a_shutdown_waits_for_what_a_handler_on_a_thread_tries_again() {
    watched(|| {
        let bus = small().build().unwrap();
        let (told, begun) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let retry = RetryPolicy::default().attempts_max(100).delays(MS, MS);
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry);
        let _made = wish.handle_on("retrying", move |_, meta| {
            if meta.attempt() == 1 {
                told.send(()).unwrap();
                gone.recv().unwrap();
            }
            if meta.attempt() < 60 { Err("not yet") } else { Ok(()) }
        });
        publish(&bus, 1);
        begun.recv().unwrap();
        let shutting = {
            let bus = bus.clone();
            std::thread::spawn(move || bus.shutdown_deadline(LONG).unwrap())
        };
        while bus.state() == BusState::Running {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        let report = shutting.join().unwrap();
        let letters = bus.dead_letters().list(&DeadLetterFilter::new());
        assert_eq!((report.delivered, letters.len()), (1, 0), "{letters:#?}");
        assert_books(&bus);
    });
}

#[test]
fn a_handler_that_shuts_its_bus_down_does_not_wait_for_itself() {
    watched(|| {
        let bus = small().build().unwrap();
        let (told, reports) = mpsc::channel();
        let shared = bus.clone();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
        let _made = wish.handle_on("ending", move |_, _| {
            let begun = Instant::now();
            let report = shared.shutdown_deadline(LONG).unwrap();
            told.send((report, begun.elapsed())).unwrap();
        });
        publish(&bus, 1);
        let (report, took) = reports.recv().unwrap();
        assert!(took < LONG / 2 && report.workers_left, "{report:?} after {took:?}");
        while bus.ledger().subscriptions.delivered == 0 {
            std::thread::yield_now();
        }
        assert_books(&bus);
    });
}

#[test]
fn a_letter_of_an_event_nobody_tried_tells_of_no_attempt() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).ordered_by(Key::Topic).capacity(2);
    let mut inbox = wish.mailbox().unwrap();
    // So that each cell has had an attempt.
    for _ in 0..4 {
        publish(bus, 1);
        simulation.advance(MS);
        simulation.run();
        inbox.try_recv().unwrap().ack();
    }
    publish(bus, 2);
    simulation.advance(1_000 * MS);
    simulation.run();
    drop(inbox);
    simulation.run();
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!(letters.len(), 2);
    for letter in letters {
        assert_eq!((letter.reason(), letter.attempts(), letter.first_attempt()), (DeadReason::Closed, 0, None));
    }
    assert_books(bus);
}

#[test]
fn a_run_of_a_simulation_lets_through_what_an_event_that_timed_out_held_back() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::Reliable { timeout: MS }).ordered_by(Key::Topic).retry(at_once(1));
    let mut inbox = wish.mailbox().unwrap();
    publish(bus, 2);
    simulation.run();
    let first = inbox.try_recv().unwrap();
    assert!(inbox.try_recv().is_err(), "the second waits for the first");
    simulation.advance(LONG);
    simulation.run();
    assert_eq!(bus.dead_letters().counts().held, 1);
    assert_eq!(inbox.try_recv().unwrap().payload().text(), Some("1"));
    drop(first);
    assert_books(bus);
}

#[test]
fn a_late_handler_that_publishes_into_the_lane_it_holds_up_is_refused() {
    watched(|| {
        let bus = small().build().unwrap();
        let (said, refused) = mpsc::channel();
        let shared = bus.clone();
        let first = AtomicBool::new(true);
        let wish = bus.subscribe("a").mode(DeliveryMode::Reliable { timeout: MS }).retry(at_once(1)).capacity(1);
        let _made = wish.handle_on("late", move |_, _| {
            if !first.swap(false, Ordering::Relaxed) {
                return;
            }
            // Its event is dead, and its cell still read.
            while shared.dead_letters().is_empty() {
                std::thread::yield_now();
            }
            let mut publisher = shared.publisher().unwrap();
            loop {
                match publisher.event().publish("a", Payload::plain_text("more")) {
                    Ok(_) => {}
                    Err(error) => {
                        said.send(error).unwrap();
                        return;
                    }
                }
            }
        });
        publish(&bus, 1);
        let error = refused.recv_timeout(Duration::from_secs(30)).expect("it waits for itself");
        assert!(matches!(error, PublishError::Full { .. }), "{error:?}");
        bus.shutdown_deadline(LONG).unwrap();
        assert_books(&bus);
    });
}

#[test]
fn a_letter_whose_event_has_expired_stays() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1));
    let _made = wish.handle(|_, _| Outcome::Reject("no".to_owned())).unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.event().expires_after(10 * MS).publish("a", Payload::plain_text("x")).unwrap();
    simulation.run();
    let letters = bus.dead_letters();
    let id = letters.list(&DeadLetterFilter::new())[0].id();
    simulation.advance(20 * MS);
    let went = letters.redrive(id);
    simulation.run();
    let ledger = bus.ledger().subscriptions;
    assert_eq!((ledger.dropped.expired, letters.len()), (0, 1), "{went:?}");
    assert_books(bus);
}

#[test]
fn a_flush_waits_for_letters_on_their_way_back() {
    watched(|| {
        let bus = small().build().unwrap();
        let fails = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&fails);
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1));
        let _made = wish.handle(move |_, _| if still.load(Ordering::Relaxed) { Err("no") } else { Ok(()) }).unwrap();
        for round in 1..=200 {
            fails.store(true, Ordering::Relaxed);
            publish(&bus, 1);
            bus.flush().unwrap();
            fails.store(false, Ordering::Relaxed);
            let report = bus.dead_letters().redrive_all(&DeadLetterFilter::new(), Duration::ZERO).unwrap().wait();
            assert_eq!(report.redriven, 1);
            bus.flush().unwrap();
            assert_eq!(bus.ledger().subscriptions.delivered, round, "the letter was still on its way");
        }
        assert_settled(&bus);
    });
}

#[test]
fn a_handler_may_pause_or_end_its_own_subscription() {
    watched(|| {
        for threaded in [false, true] {
            for ends in [false, true] {
                let bus = small().build().unwrap();
                let (give, own) = mpsc::channel::<ringmain::SubscriptionId>();
                let shared = bus.clone();
                let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(3));
                let handler = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
                    let id = own.recv().unwrap();
                    // On a worker it is refused, where nothing could wait for it.
                    let _ = if ends { shared.unsubscribe(id) } else { shared.pause(id) };
                    Err::<(), _>("and then it fails")
                };
                let made = if threaded { wish.handle_on("own", handler) } else { wish.handle(handler) };
                let made = made.unwrap();
                (0..9).for_each(|_| give.send(made.id()).unwrap());
                publish(&bus, 3);
                bus.flush().unwrap();
                let report = bus.shutdown_deadline(LONG).unwrap();
                assert!(report.ledger_balanced && report.workers_left, "{threaded} {ends} {report:?}");
                drop(made);
                assert_books(&bus);
                // The handler may have ended its subscription before the others were published.
                let (unmatched, ledger) = (bus.ledger().unmatched, bus.ledger().subscriptions);
                assert_eq!(
                    unmatched + ledger.dead_lettered + ledger.dropped.closed + ledger.open(),
                    3,
                    "{threaded} {ends} {ledger:#?}"
                );
                assert_eq!(ledger.open(), 0, "{threaded} {ends} {ledger:#?}");
            }
        }
    });
}

#[test]
fn deliveries_outlive_their_bus() {
    watched(|| {
        let bus = small().build().unwrap();
        let letters = bus.dead_letters();
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(3));
        let mut inbox = wish.mailbox().unwrap();
        publish(&bus, 5);
        let held: Vec<_> = (0..4).map(|_| inbox.recv().unwrap()).collect();
        drop(bus);
        let last = inbox.recv().unwrap();
        drop(inbox);
        let mut held = held.into_iter();
        assert_eq!(held.next().unwrap().fail("too bad"), Settled::Counted);
        assert_eq!(held.next().unwrap().ack(), Settled::Counted);
        assert_eq!(held.next().unwrap().release(), Settled::Counted);
        drop(held);
        assert_eq!(last.payload().text(), Some("4"));
        assert_eq!(last.reject("never"), Settled::Counted);
        let reasons: Vec<_> = letters
            .list(&DeadLetterFilter::new())
            .iter()
            .map(|letter| (letter.reason(), letter.error().map(str::to_owned)))
            .collect();
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(
            reasons,
            [
                (DeadReason::Closed, said("too bad")),
                (DeadReason::Closed, None),
                (DeadReason::Closed, said("it was dropped without a word")),
                (DeadReason::Rejected, said("never")),
            ]
        );
    });
}

#[test]
fn observers_may_panic_and_may_redrive() {
    let place: Arc<Mutex<Option<ringmain::DeadLetters>>> = Arc::default();
    let letters = Arc::clone(&place);
    let builder = small().observer(move |notice: &Notice<'_>| {
        if let Notice::DeadLettered { letter, .. } = notice {
            if *letter < 4 {
                let letters = letters.lock().unwrap().clone();
                letters.unwrap().redrive(*letter).unwrap();
            }
            panic!("a panic that the test asks for");
        }
    });
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    *place.lock().unwrap() = Some(bus.dead_letters());
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1));
    let _made = wish.handle(|_, _| Err::<(), _>("no")).unwrap();
    publish(bus, 1);
    for _ in 0..10 {
        simulation.run();
        simulation.advance(MS);
    }
    let counts = bus.dead_letters().counts();
    assert_eq!((counts.total, counts.redriven, counts.held), (4, 3, 1));
    assert_settled(bus);
    // A bus that its own observer holds would never end.
    *place.lock().unwrap() = None;
}

#[test]
fn a_future_that_is_dropped_amid_its_handler_leaves_its_event_among_the_dead_letters() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(3));
    let mut running = Box::pin(wish.run(async |_| std::future::pending::<()>().await).unwrap());
    publish(bus, 2);
    simulation.run();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(running.as_mut().poll(&mut context).is_pending());
    assert_eq!(bus.ledger().subscriptions.in_flight, 1);
    drop(running);
    simulation.run();
    assert_settled(bus);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!((letters.len(), bus.ledger().subscriptions.dead_lettered), (2, 2), "{letters:#?}");
    assert!(letters.iter().all(|letter| letter.reason() == DeadReason::Closed));
}

#[test]
fn what_a_pause_has_held_does_not_keep_urgent_events_waiting() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let log = Log::new();
    let (held, urgent) = (log.clone(), log.clone());
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).capacity(8_192);
    let made = wish.handle(move |_, _| held.add("held")).unwrap();
    let _urgent = bus.subscribe("b").handle(move |_, _| urgent.add("urgent")).unwrap();
    bus.pause(made.id()).unwrap();
    for _ in 0..500 {
        publish(bus, 16);
        simulation.run();
    }
    bus.resume(made.id()).unwrap();
    publish(bus, 4);
    bus.publisher().unwrap().at(Priority::Critical).publish("b", Payload::plain_text("x")).unwrap();
    simulation.run();
    let seen = log.take();
    let before = seen.iter().position(|what| *what == "urgent").unwrap();
    assert!(before < 1_000, "{before} of {} came first", seen.len());
    assert_settled(bus);
}

#[test]
fn a_subscription_that_has_ended_is_not_suspended_and_a_flush_waits_for_what_is_in_hands() {
    let (suspended, told) = (Arc::new(AtomicBool::new(false)), Log::new());
    let (seen, letters) = (Arc::clone(&suspended), told.clone());
    let builder = small().observer(move |notice: &Notice<'_>| match notice {
        // Relaxed: all happens on one thread.
        Notice::Suspended { .. } => seen.store(true, Ordering::Relaxed),
        Notice::DeadLettered { reason, .. } => letters.add(*reason),
        _ => {}
    });
    let simulation = Simulation::new(builder, 1).unwrap();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").mode(DeliveryMode::reliable()).suspend_after(1).mailbox().unwrap();
    publish(bus, 2);
    simulation.run();
    let (first, second) = (inbox.try_recv().unwrap(), inbox.try_recv().unwrap());
    drop(inbox);
    assert_eq!(first.reject("no"), Settled::Counted);
    assert_eq!(told.take(), [DeadReason::Rejected]);
    assert!(!suspended.load(Ordering::Relaxed), "nobody could resume it");
    assert!(bus.flush().is_err(), "one is still in somebody's hands");
    assert_eq!(second.ack(), Settled::Counted);
    assert_settled(bus);
}

#[test]
fn letters_of_events_that_nobody_tried_suspend_no_subscription() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let wish = || bus.subscribe("a").mode(DeliveryMode::reliable()).suspend_after(2);
    let mut full = wish().capacity(1).overflow(Overflow::DropNewest).mailbox().unwrap();
    let mut rated = wish().rate_limit(Rate::per_second(0.001), OverLimit::Reject).mailbox().unwrap();
    publish(bus, 4);
    simulation.run();
    let reasons = |id| {
        let letters = bus.dead_letters().list(&DeadLetterFilter::new().subscription(id));
        letters.iter().map(|letter| letter.reason()).collect::<Vec<_>>()
    };
    assert_eq!(reasons(full.id()), [DeadReason::MailboxFull; 3]);
    assert_eq!(reasons(rated.id()), [DeadReason::RateLimited; 3]);
    for inbox in [&mut full, &mut rated] {
        assert_eq!(inbox.try_recv().unwrap().reject("no"), Settled::Counted, "it is not suspended");
    }
    // The first letter of an event that was tried, and now the second.
    publish(bus, 1);
    simulation.run();
    full.try_recv().unwrap().reject("no");
    publish(bus, 1);
    simulation.run();
    assert!(matches!(full.try_recv(), Err(TryRecvError::Empty)), "it is suspended");
    bus.resume(full.id()).unwrap();
    full.try_recv().unwrap().ack();
    assert_settled(bus);
}
