//! Reliable delivery: an event is tried until it is acknowledged, has had its attempts or is rejected, and is then in exactly
//! one place.

mod due;
mod letters;
mod order;

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    Bus, BusBuilder, DeadLetterFilter, DeadReason, DeliveryMode, Key, Mailbox, Notice, Outcome, Overflow, Pattern,
    Payload, RedriveError, RetryPolicy, Settled, SubscribeError, SubscriptionLedger,
};

use super::support::{Log, assert_balanced, assert_books, assert_settled, watched};

const BODY: Payload<'static> = Payload::plain_text("x");
const MS: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(5);

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(64).blocks([(512, 4)]).payload_bytes_max(512)
}

fn simulation() -> Simulation {
    Simulation::new(small(), 7).unwrap()
}

/// Publishes `count` events, numbered from 0 in their payload.
fn publish(bus: &Bus, count: u32) {
    for nth in 0..count {
        bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
    }
}

/// Attempts without a wait in between, so many of them.
fn at_once(attempts: u8) -> RetryPolicy {
    RetryPolicy::default().attempts_max(attempts).delays(Duration::ZERO, Duration::ZERO)
}

fn reliable_mailbox(bus: &Bus, retry: RetryPolicy) -> Mailbox<Pattern> {
    bus.subscribe("a").named("inbox").mode(DeliveryMode::reliable()).retry(retry).mailbox().unwrap()
}

/// Lets what is due come, and moves time on until nothing waits any more.
fn run_to_the_end(simulation: &Simulation) {
    for _ in 0..1_000 {
        simulation.run();
        if simulation.bus().ledger().subscriptions.waiting == 0 {
            return;
        }
        simulation.advance(10 * MS);
    }
    panic!("events wait for ever: {:#?}", simulation.bus().ledger());
}

fn ledger(bus: &Bus) -> SubscriptionLedger {
    assert_books(bus);
    bus.ledger().subscriptions
}

fn assert_empty(inbox: &mut Mailbox<Pattern>) {
    assert!(inbox.try_recv().is_err(), "nothing is due");
}

#[test]
fn a_failed_event_comes_again_until_it_is_acknowledged() {
    for fail_times in 0..3_u32 {
        let simulation = simulation();
        let (log, mut left) = (Log::new(), fail_times);
        let seen = log.clone();
        let wish = simulation.bus().subscribe("a").mode(DeliveryMode::reliable());
        let _made = wish.handle(move |payload, meta| {
            seen.add((meta.id(), meta.attempt(), payload.text().unwrap().to_owned()));
            if left > 0 {
                left -= 1;
                return Err("not yet");
            }
            Ok(())
        });
        let id = simulation.bus().publish("a", Payload::plain_text("the very bytes")).unwrap();
        run_to_the_end(&simulation);
        let attempts: Vec<_> = log.take();
        let expected: Vec<_> = (1..=fail_times as u8 + 1).map(|nth| (id, nth, "the very bytes".to_owned())).collect();
        assert_eq!(attempts, expected);
        let ledger = ledger(simulation.bus());
        assert_eq!((ledger.delivered, ledger.retried, ledger.failed), (1, u64::from(fail_times), 0));
        assert!(simulation.bus().dead_letters().is_empty());
    }
}

#[test]
fn an_event_that_has_had_its_attempts_is_a_dead_letter_with_its_story() {
    let simulation = simulation();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let retry = RetryPolicy::default().attempts_max(4);
    let wish = simulation.bus().subscribe("a").named("picky").mode(DeliveryMode::reliable()).retry(retry);
    let made = wish.handle(move |_, _| Err::<(), _>(format!("no {}", count.fetch_add(1, Ordering::Relaxed) + 1)));
    let id = simulation.bus().publish("a", Payload::plain_text("body")).unwrap();
    run_to_the_end(&simulation);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    let letters = simulation.bus().dead_letters().list(&DeadLetterFilter::new());
    let [letter] = &letters[..] else { panic!("one letter, not {letters:?}") };
    assert_eq!((letter.reason(), letter.attempts()), (DeadReason::AttemptsExhausted, 4));
    assert_eq!((letter.error(), letter.subscription_name()), (Some("no 4"), "picky"));
    assert_eq!((letter.meta().id(), letter.meta().payload().text()), (id, Some("body")));
    assert_eq!(letter.subscription(), made.unwrap().id());
    assert!(letter.published() <= letter.first_attempt().unwrap() && letter.first_attempt().unwrap() < letter.died());
    let ledger = ledger(simulation.bus());
    assert_eq!((ledger.dead_lettered, ledger.retried, ledger.delivered), (1, 3, 0));
    let metrics = simulation.bus().metrics();
    assert_eq!((metrics.dead_letters.total, metrics.dead_letters.held, metrics.error_rate), (1, 1, 1.0));
}

#[test]
fn each_wait_is_within_the_policy_and_the_same_seed_draws_the_same() {
    let run = |seed| {
        let simulation = Simulation::new(small(), seed).unwrap();
        let retry = RetryPolicy::default().attempts_max(6).delays(100 * MS, 400 * MS);
        let log = Log::new();
        let seen = log.clone();
        let wish = simulation.bus().subscribe("a").mode(DeliveryMode::reliable()).retry(retry);
        let _made = wish.handle(move |_, meta| {
            seen.add(meta.age());
            Err::<(), _>("no")
        });
        publish(simulation.bus(), 1);
        while simulation.bus().dead_letters().is_empty() {
            simulation.run();
            simulation.advance(MS);
        }
        let ages = log.take();
        for (limit, pair) in [100, 200, 400, 400, 400].into_iter().zip(ages.windows(2)) {
            // The clock is moved by milliseconds here.
            assert!(pair[1] - pair[0] <= limit * MS + MS, "{ages:?}");
        }
        assert_books(simulation.bus());
        ages
    };
    let (first, second) = (run(3), run(4));
    assert_eq!(first, run(3));
    assert_ne!(first, second, "no jitter");
}

#[test]
fn outcomes_move_an_event_as_they_say() {
    let simulation = simulation();
    let bus = simulation.bus();
    let (log, outcomes) = (Log::new(), Log::new());
    let (seen, next) = (log.clone(), outcomes.clone());
    let retry = at_once(3).releases_max(2);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry);
    let _made = wish.handle(move |_, meta| {
        seen.add(meta.attempt());
        let mut left: Vec<Outcome> = next.take();
        let outcome = left.remove(0);
        left.into_iter().for_each(|outcome| next.add(outcome));
        outcome
    });
    let reject = || Outcome::Reject("never".to_owned());
    let fail = || Outcome::Failed("no".to_owned());
    // What a handler says in turn, the attempts it sees, and why the event dies, if it does.
    let cases = [
        (vec![Outcome::Ack], vec![1], None),
        (vec![reject()], vec![1], Some((DeadReason::Rejected, 1))),
        (vec![fail(), reject()], vec![1, 2], Some((DeadReason::Rejected, 2))),
        (vec![Outcome::Release, Outcome::Release, Outcome::Ack], vec![1, 1, 1], None),
        (vec![Outcome::Release; 3], vec![1, 1, 1], Some((DeadReason::ReleasesExhausted, 0))),
        (vec![fail(), Outcome::Release, fail(), Outcome::Ack], vec![1, 2, 2, 3], None),
        (vec![fail(), fail(), fail()], vec![1, 2, 3], Some((DeadReason::AttemptsExhausted, 3))),
        (vec![Outcome::RetryAfter(Duration::ZERO); 3], vec![1, 2, 3], Some((DeadReason::AttemptsExhausted, 3))),
    ];
    for (said, attempts, death) in cases {
        said.iter().for_each(|outcome| outcomes.add(outcome.clone()));
        bus.publish("a", BODY).unwrap();
        run_to_the_end(&simulation);
        assert_eq!(log.take(), attempts, "{said:?}");
        let letters = bus.dead_letters().list(&DeadLetterFilter::new());
        assert_eq!(letters.first().map(|letter| (letter.reason(), letter.attempts())), death, "{said:?}");
        bus.dead_letters().purge(&DeadLetterFilter::new());
        ledger(bus);
    }
}

#[test]
fn a_handler_says_when_it_wants_the_event_again() {
    let simulation = simulation();
    let mut inbox = reliable_mailbox(simulation.bus(), RetryPolicy::default());
    publish(simulation.bus(), 1);
    simulation.run();
    inbox.try_recv().unwrap().retry_after(500 * MS);
    assert_eq!(ledger(simulation.bus()).waiting, 1);
    simulation.advance(499 * MS);
    simulation.run();
    assert_empty(&mut inbox);
    simulation.advance(MS);
    simulation.run();
    let again = inbox.try_recv().unwrap();
    assert_eq!(again.meta().attempt(), 2);
    again.ack();
    assert_eq!(ledger(simulation.bus()).delivered, 1);
}

#[test]
fn the_rest_flows_on_while_one_event_waits() {
    let simulation = simulation();
    let mut inbox = reliable_mailbox(simulation.bus(), RetryPolicy::default());
    publish(simulation.bus(), 3);
    simulation.run();
    inbox.try_recv().unwrap().retry_after(MS);
    for text in ["1", "2"] {
        let delivery = inbox.try_recv().unwrap();
        assert_eq!(delivery.payload().text(), Some(text));
        delivery.ack();
    }
    simulation.advance(2 * MS);
    simulation.run();
    assert_eq!(inbox.try_recv().unwrap().payload().text(), Some("0"));
    assert_books(simulation.bus());
}

#[test]
fn who_does_not_settle_in_time_loses_the_event_and_is_heard_no_more() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = reliable_mailbox(bus, at_once(3));
    publish(bus, 1);
    simulation.run();
    let slow = inbox.try_recv().unwrap();
    simulation.advance(TIMEOUT - MS);
    simulation.run();
    assert!(slow.is_current(), "it still has a millisecond");
    simulation.advance(2 * MS);
    simulation.run();
    // One turn takes it away, a later one queues it.
    simulation.advance(MS);
    simulation.run();
    assert!(!slow.is_current());
    let second = inbox.try_recv().unwrap();
    assert_eq!((second.meta().attempt(), slow.meta().attempt()), (2, 1));
    assert_eq!(slow.payload().text(), second.payload().text(), "who is late may still read");
    assert_eq!(slow.ack(), Settled::TooLate);
    assert_eq!(ledger(bus).delivered, 0);
    assert_eq!(second.ack(), Settled::Counted);
    let ledger = ledger(bus);
    assert_eq!((ledger.delivered, ledger.late, ledger.retried), (1, 1, 1));
    assert_settled(bus);
}

#[test]
fn an_event_whose_last_attempt_times_out_is_a_dead_letter_while_its_holder_still_reads() {
    let simulation = simulation();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(at_once(1)).capacity(1);
    let mut inbox = wish.mailbox().unwrap();
    publish(bus, 2);
    simulation.run();
    let held = inbox.try_recv().unwrap();
    simulation.advance(TIMEOUT + MS);
    simulation.run();
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!((letters[0].reason(), letters[0].attempts()), (DeadReason::TimedOut, 1));
    let error = format!("not settled within its `timeout` ({TIMEOUT:?}, unless extended): attempt 1 of 1");
    assert_eq!(letters[0].error(), Some(error.as_str()));
    // The one cell is still being read: the second event waits in its lane.
    simulation.run();
    assert_eq!((bus.ledger().in_lanes, held.payload().text()), (1, Some("0")));
    drop(held);
    simulation.run();
    let second = inbox.try_recv().unwrap();
    assert_eq!(second.payload().text(), Some("1"));
    second.ack();
    let ledger = ledger(bus);
    assert_eq!((ledger.delivered, ledger.dead_lettered, ledger.late), (1, 1, 1));
}

#[test]
fn an_attempt_can_be_given_more_time() {
    let simulation = simulation();
    let mut inbox = reliable_mailbox(simulation.bus(), at_once(2));
    publish(simulation.bus(), 1);
    simulation.run();
    let slow = inbox.try_recv().unwrap();
    for _ in 0..5 {
        simulation.advance(TIMEOUT - MS);
        simulation.run();
        assert!(slow.extend(TIMEOUT), "it is still ours");
    }
    simulation.advance(TIMEOUT + MS);
    simulation.run();
    assert!(!slow.extend(TIMEOUT), "it was taken away");
    assert_eq!(slow.ack(), Settled::TooLate);
    assert_eq!(ledger(simulation.bus()).late, 1);
}

#[test]
fn dropped_without_a_word_is_a_failed_attempt() {
    let simulation = simulation();
    let mut inbox = reliable_mailbox(simulation.bus(), at_once(2));
    publish(simulation.bus(), 1);
    for attempt in [1, 2] {
        run_to_the_end(&simulation);
        assert_eq!(inbox.try_recv().unwrap().meta().attempt(), attempt);
    }
    let letters = simulation.bus().dead_letters().list(&DeadLetterFilter::new());
    assert_eq!(letters[0].error(), Some("it was dropped without a word"));
    assert_eq!(ledger(simulation.bus()).dead_lettered, 1);
}

#[test]
fn an_event_that_expires_while_it_waits_is_dropped_as_expired() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = reliable_mailbox(bus, RetryPolicy::default());
    let mut publisher = bus.publisher().unwrap();
    publisher.event().expires_after(10 * MS).publish("a", BODY).unwrap();
    simulation.run();
    inbox.try_recv().unwrap().retry_after(20 * MS);
    simulation.advance(21 * MS);
    simulation.run();
    assert_empty(&mut inbox);
    let ledger = ledger(bus);
    assert_eq!((ledger.dropped.expired, ledger.waiting), (1, 0));
    assert_settled(bus);
}

#[test]
fn a_panic_is_a_failed_attempt_and_an_unreadable_event_a_dead_letter_at_once() {
    use super::support::{TICK, Tick};
    let simulation = simulation();
    let bus = simulation.bus();
    let mut calls = 0;
    let wish = bus.subscribe(TICK).mode(DeliveryMode::reliable()).retry(at_once(3));
    let _made = wish.handle(move |_, _| {
        calls += 1;
        assert!(calls > 2, "a panic that the test asks for");
    });
    bus.publish(TICK, &Tick { from: 0, nth: 0 }).unwrap();
    run_to_the_end(&simulation);
    assert_eq!((ledger(bus).delivered, ledger(bus).retried), (1, 2));
    bus.publish("clock.tick", Payload::json("[]")).unwrap();
    run_to_the_end(&simulation);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert_eq!((letters[0].reason(), letters[0].attempts()), (DeadReason::Rejected, 1));
    assert_eq!(ledger(bus).dead_lettered, 1);
}

#[test]
fn a_paused_inline_handler_holds_its_events() {
    let simulation = simulation();
    let bus = simulation.bus();
    let log = Log::new();
    let seen = log.clone();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
    let made = wish.handle(move |payload, _| seen.add(payload.text().unwrap().to_owned())).unwrap();
    bus.pause(made.id()).unwrap();
    publish(bus, 3);
    simulation.run();
    assert_eq!((log.len(), ledger(bus).queued), (0, 3));
    bus.resume(made.id()).unwrap();
    simulation.run();
    assert_eq!(log.take(), ["0", "1", "2"]);
    assert_settled(bus);
}

#[test]
fn what_a_subscription_leaves_behind_is_dead_letters() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = reliable_mailbox(bus, RetryPolicy::default());
    publish(bus, 4);
    simulation.run();
    inbox.try_recv().unwrap().retry_after(TIMEOUT);
    let held = inbox.try_recv().unwrap();
    let failing = inbox.try_recv().unwrap();
    drop(inbox);
    let reasons = || -> Vec<_> {
        bus.dead_letters().list(&DeadLetterFilter::new()).iter().map(|letter| letter.reason()).collect()
    };
    assert_eq!(reasons(), [DeadReason::Closed; 2], "one was queued, one waited");
    assert_eq!(failing.fail("nobody would try again"), Settled::Counted);
    assert_eq!(reasons().len(), 3);
    assert_eq!(held.ack(), Settled::Counted);
    let ledger = ledger(bus);
    assert_eq!((ledger.matched, ledger.delivered, ledger.dead_lettered, ledger.open()), (4, 1, 3, 0));
}

#[test]
fn an_inline_subscription_that_ends_leaves_what_waited_behind() {
    let simulation = simulation();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
    let made = wish.handle(|_, _| Outcome::RetryAfter(TIMEOUT)).unwrap();
    publish(bus, 2);
    simulation.run();
    assert_eq!(ledger(bus).waiting, 2);
    made.unsubscribe().unwrap();
    assert_eq!((ledger(bus).waiting, ledger(bus).dead_lettered, bus.dead_letters().len()), (0, 2, 2));
}

#[test]
fn a_shutdown_waits_for_what_comes_again_and_buries_what_does_not_in_time() {
    watched(|| {
        for (delay, delivered) in [(20 * MS, 1), (Duration::from_secs(3_600), 0)] {
            let bus = small().build().unwrap();
            let first = AtomicBool::new(true);
            let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
            let made = wish.handle(move |_, _| {
                if first.swap(false, Ordering::Relaxed) { Outcome::RetryAfter(delay) } else { Outcome::Ack }
            });
            bus.publish("a", BODY).unwrap();
            let report = bus.shutdown_deadline(if delivered == 1 { TIMEOUT * 10 } else { 300 * MS }).unwrap();
            assert_eq!((report.delivered, report.left_in_mailboxes), (delivered, 0), "{report:?}");
            assert!(report.ledger_balanced);
            assert_eq!(bus.dead_letters().len() as u64, 1 - delivered);
            drop(made);
            assert_books(&bus);
        }
    });
}

#[test]
fn a_flush_waits_for_events_that_come_again() {
    watched(|| {
        let bus = small().build().unwrap();
        for threaded in [false, true] {
            let mut calls = 0;
            let handler = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
                calls += 1;
                if calls % 3 == 0 { Ok(()) } else { Err("not yet") }
            };
            let wish = bus.subscribe("a").mode(DeliveryMode::reliable());
            let wish = wish.retry(RetryPolicy::default().delays(MS, MS));
            let made = if threaded { wish.handle_on("retrying", handler) } else { wish.handle(handler) };
            publish(&bus, 1);
            assert_settled(&bus);
            let ledger = made.as_ref().unwrap().record().ledger;
            assert_eq!((ledger.delivered, ledger.retried), (1, 2), "{threaded}");
        }
    });
}

#[test]
fn an_async_handler_that_takes_too_long_is_cancelled() {
    struct Dropped(mpsc::Sender<u8>, u8);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    watched(|| {
        let bus = small().build().unwrap();
        let (told, cancelled) = mpsc::channel();
        let wish = bus.subscribe("a").mode(DeliveryMode::Reliable { timeout: 20 * MS }).retry(at_once(3));
        let running = wish.run(async move |delivery| {
            let attempt = delivery.meta().attempt();
            let _guard = Dropped(told.clone(), attempt);
            if attempt < 3 {
                pending::<()>().await;
            }
        });
        let running = running.unwrap();
        let runner = std::thread::spawn(move || {
            let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
            let mut context = std::task::Context::from_waker(&waker);
            let mut running = Box::pin(running);
            while running.as_mut().poll(&mut context).is_pending() {
                std::thread::park();
            }
        });
        publish(&bus, 1);
        assert_eq!([(); 3].map(|()| cancelled.recv().unwrap()), [1, 2, 3]);
        assert_settled(&bus);
        let ledger = ledger(&bus);
        assert_eq!((ledger.delivered, ledger.retried, ledger.late), (1, 2, 2));
        bus.shutdown().unwrap();
        runner.join().unwrap();
    });
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn settings_that_cannot_be_kept_are_refused() {
    let bus = small().build().unwrap();
    let wish = || bus.subscribe("a").mode(DeliveryMode::reliable());
    let lossy = wish().overflow(Overflow::DropOldest).mailbox().unwrap_err();
    assert_eq!(lossy, SubscribeError::Lossy(Overflow::DropOldest));
    for (refused, setting, value) in [
        (wish().retry(at_once(0)).mailbox(), "attempts_max", 0),
        (wish().retry(at_once(101)).mailbox(), "attempts_max", 101),
        (wish().retry(at_once(3).releases_max(3_901)).mailbox(), "releases_max", 3_901),
        (wish().mode(DeliveryMode::Reliable { timeout: Duration::ZERO }).mailbox(), "timeout in ms", 0),
    ] {
        match refused.unwrap_err() {
            SubscribeError::Reliability { setting: found, value: asked, .. } => {
                assert_eq!((found, asked), (setting, value));
            }
            other => panic!("{other}"),
        }
    }
    assert_balanced(&bus);
}

#[test]
fn best_effort_tries_once_whatever_the_handler_says() {
    let simulation = simulation();
    let bus = simulation.bus();
    let outcomes =
        [Outcome::RetryAfter(MS), Outcome::Release, Outcome::Reject("no".into()), Outcome::Failed("no".into())];
    let mut next = outcomes.clone().into_iter();
    let _made = bus.subscribe("a").handle(move |_, _| next.next().unwrap());
    let mut inbox = bus.subscribe("a").mailbox().unwrap();
    publish(bus, 4);
    simulation.run();
    for outcome in &outcomes {
        assert_eq!(inbox.try_recv().unwrap().settle(outcome), Settled::Counted);
    }
    simulation.advance(TIMEOUT);
    simulation.run();
    let ledger = ledger(bus);
    assert_eq!((ledger.failed, ledger.delivered, ledger.dead_lettered), (8, 0, 0));
}

#[test]
fn observers_hear_of_dead_letters() {
    let log = Log::new();
    let heard = log.clone();
    let builder = small().observer(move |notice: &Notice<'_>| {
        if let Notice::DeadLettered { name, reason, .. } = notice {
            heard.add(((*name).to_owned(), *reason));
        }
    });
    let simulation = Simulation::new(builder, 1).unwrap();
    let wish = simulation.bus().subscribe("a").named("judge").mode(DeliveryMode::reliable());
    let _made = wish.handle(|_, _| Outcome::Reject("never".to_owned()));
    publish(simulation.bus(), 1);
    simulation.run();
    assert_eq!(log.take(), [("judge".to_owned(), DeadReason::Rejected)]);
    assert_books(simulation.bus());
}
