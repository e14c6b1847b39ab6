//! A rate limit: a consumer gets so many events and no more, and the others wait for their time or are turned away.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use ringmain::testing::Simulation;
use ringmain::{
    BreakerPolicy, BreakerState, Bus, BusBuilder, DeadLetterFilter, DeadReason, DedupWindow, DeliveryMode, EventId,
    Mailbox, OverLimit, Overflow, Pattern, Payload, Rate, RateError, RetryPolicy, Subscribe, SubscribeError,
    Subscription, SubscriptionLedger,
};

use super::support::{Log, assert_books, assert_settled, watched};

const SECOND: Duration = Duration::from_secs(1);

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(512).mailbox_capacity(512).blocks([(512, 4)]).payload_bytes_max(512)
}

fn simulation() -> Simulation {
    Simulation::new(small(), 1).unwrap()
}

fn publish(bus: &Bus, count: u32) {
    for nth in 0..count {
        bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
    }
}

fn ledger(bus: &Bus) -> SubscriptionLedger {
    assert_books(bus);
    bus.ledger().subscriptions
}

/// How events are consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Inline,
    Mailbox,
    Run,
}

const FORMS: [Form; 3] = [Form::Inline, Form::Mailbox, Form::Run];

/// A consumer that takes whatever it can get.
enum Consumer {
    Inline { _subscription: Subscription },
    Mailbox(Mailbox<Pattern>),
    Run(Pin<Box<dyn Future<Output = ()>>>),
}

impl Consumer {
    fn new(form: Form, wish: Subscribe<Pattern>) -> Self {
        match form {
            Form::Inline => Self::Inline { _subscription: wish.handle(|_, _| ()).unwrap() },
            Form::Mailbox => Self::Mailbox(wish.mailbox().unwrap()),
            Form::Run => Self::Run(Box::pin(wish.run(async |_| ()).unwrap())),
        }
    }

    fn work(&mut self, simulation: &Simulation) {
        simulation.run();
        match self {
            Self::Inline { .. } => {}
            Self::Mailbox(inbox) => {
                while let Ok(delivery) = inbox.try_recv() {
                    delivery.ack();
                }
            }
            Self::Run(future) => {
                let mut context = Context::from_waker(Waker::noop());
                assert!(future.as_mut().poll(&mut context).is_pending(), "its subscription has not ended");
            }
        }
    }
}

/// What may come by the definition of a rate: counted from any event on, no more than the share of the time since, and a burst.
struct Definition {
    interval: u64,
    burst: u64,
    came: Vec<u64>,
}

impl Definition {
    fn pass(&mut self, now: u64) -> bool {
        let count = self.came.len() as u64;
        let may = (0..count).zip(&self.came).all(|(nth, &at)| {
            let since = count - nth;
            since < self.burst || now - at >= (since + 1 - self.burst) * self.interval
        });
        if may {
            self.came.push(now);
        }
        may
    }
}

fn modes() -> impl Strategy<Value = DeliveryMode> {
    prop_oneof![Just(DeliveryMode::BestEffort), Just(DeliveryMode::reliable())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whoever_consumes_gets_what_the_rate_allows_and_when_it_does(
        form in proptest::sample::select(&FORMS[..]),
        mode in modes(),
        over in prop_oneof![Just(OverLimit::Queue), Just(OverLimit::Reject)],
        interval_ms in proptest::sample::select(&[1_u64, 10, 100, 500][..]),
        burst in 1..6_u32,
        steps in proptest::collection::vec((0..6_u32, 0..30_u64), 1..40),
    ) {
        let simulation = simulation();
        let bus = simulation.bus();
        let rate = Rate::per_second(1_000.0 / interval_ms as f64).burst(burst);
        let mut consumer = Consumer::new(form, bus.subscribe("a").mode(mode).rate_limit(rate, over));
        let mut definition = Definition { interval: interval_ms * 10, burst: u64::from(burst), came: Vec::new() };
        // Tenths of milliseconds.
        let (mut now, mut waiting, mut rejected) = (0, 0, 0);
        for (count, tenths) in steps {
            publish(bus, count);
            match over {
                OverLimit::Reject => rejected += (0..count).filter(|_| !definition.pass(now)).count() as u64,
                _ => {
                    waiting += u64::from(count);
                    while waiting > 0 && definition.pass(now) {
                        waiting -= 1;
                    }
                }
            }
            consumer.work(&simulation);
            let found = ledger(bus);
            prop_assert_eq!((found.delivered, found.queued), (definition.came.len() as u64, waiting));
            prop_assert_eq!(found.dropped.rate_limited + found.dead_lettered, rejected);
            let time = tenths * interval_ms;
            now += time;
            simulation.advance(Duration::from_micros(100 * time));
            // What came due in between comes late, and so does all that follows it.
            while waiting > 0 && definition.pass(now) {
                waiting -= 1;
            }
            consumer.work(&simulation);
            prop_assert_eq!(ledger(bus).queued, waiting);
        }
        if mode != DeliveryMode::BestEffort {
            prop_assert_eq!(ledger(bus).dropped.rate_limited, 0, "under reliable delivery nothing is dropped");
            let letters = bus.dead_letters().list(&DeadLetterFilter::new());
            prop_assert!(letters.iter().all(|letter| letter.reason() == DeadReason::RateLimited && letter.attempts() == 0));
        }
    }
}

#[test]
fn a_consumer_that_sleeps_is_woken_when_its_rate_allows() {
    watched(|| {
        let bus = small().build().unwrap();
        let wish = || bus.subscribe("a").rate_limit(Rate::per_second(500.0), OverLimit::Queue);
        let _inline = wish().handle(|_, _| ()).unwrap();
        let _threaded = wish().handle_on("limited", |_, _| ()).unwrap();
        let _reliable = wish().mode(DeliveryMode::reliable()).handle_on("limited too", |_, _| ()).unwrap();
        let mut inbox = wish().mailbox().unwrap();
        publish(&bus, 10);
        for _ in 0..10 {
            inbox.recv().unwrap().ack();
        }
        assert_settled(&bus);
        assert_eq!(bus.ledger().subscriptions.delivered, 40);
    });
}

#[test]
fn every_attempt_counts_for_a_rate_that_queues_and_only_the_first_for_one_that_rejects() {
    for (over, expected) in [(OverLimit::Queue, [1, 2, 3, 4]), (OverLimit::Reject, [3, 3, 3, 3])] {
        let simulation = simulation();
        let bus = simulation.bus();
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let retry = RetryPolicy::default().attempts_max(3).delays(Duration::ZERO, Duration::ZERO);
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry);
        let _made = wish.rate_limit(Rate::per_second(1.0), over).handle(move |_, meta| {
            count.fetch_add(1, Ordering::Relaxed);
            if meta.attempt() < 3 { Err("not yet") } else { Ok(()) }
        });
        publish(bus, 2);
        for expected in expected {
            simulation.run();
            assert_eq!(calls.load(Ordering::Relaxed), expected, "{over:?}");
            simulation.advance(SECOND);
        }
        for _ in 0..2 {
            simulation.run();
            simulation.advance(SECOND);
        }
        let ledger = ledger(bus);
        let (delivered, dead) = if over == OverLimit::Queue { (2, 0) } else { (1, 1) };
        assert_eq!((ledger.delivered, ledger.dead_lettered), (delivered, dead));
        assert_settled(bus);
    }
}

#[test]
fn duplicates_and_events_that_expire_while_they_wait_use_nothing_of_the_rate_up() {
    for form in FORMS {
        let simulation = simulation();
        let bus = simulation.bus();
        let wish = bus.subscribe("a").dedup(DedupWindow::default());
        let mut consumer = Consumer::new(form, wish.rate_limit(Rate::per_second(1.0), OverLimit::Queue));
        let mut publisher = bus.publisher().unwrap();
        let id = EventId::random();
        for _ in 0..3 {
            publisher.event().id(id).publish("a", Payload::raw(b"")).unwrap();
        }
        for _ in 0..3 {
            publisher.event().expires_after(SECOND / 2).publish("a", Payload::raw(b"")).unwrap();
        }
        publish(bus, 1);
        consumer.work(&simulation);
        let first = ledger(bus);
        assert_eq!((first.delivered, first.queued, first.dropped.duplicate), (1, 4, 2), "{form:?}");
        simulation.advance(SECOND);
        consumer.work(&simulation);
        let second = ledger(bus);
        assert_eq!((second.delivered, second.queued, second.dropped.expired), (2, 0, 3), "{form:?}");
    }
}

#[test]
fn what_waits_for_its_rate_fills_the_mailbox_and_its_policy_holds() {
    for (policy, overflow) in [(Overflow::Block, 0), (Overflow::DropNewest, 6), (Overflow::DropOldest, 6)] {
        let simulation = simulation();
        let bus = simulation.bus();
        let log = Log::new();
        let seen = log.clone();
        let wish = bus.subscribe("a").capacity(4).overflow(policy).rate_limit(Rate::per_second(1.0), OverLimit::Queue);
        let _made = wish.handle(move |payload, _| seen.add(payload.text().unwrap().to_owned()));
        publish(bus, 1);
        simulation.run();
        publish(bus, 10);
        for _ in 0..12 {
            simulation.run();
            simulation.advance(SECOND);
        }
        let ledger = ledger(bus);
        assert_eq!((ledger.delivered, ledger.dropped.overflow), (11 - overflow, overflow), "{policy:?}");
        let last = if policy == Overflow::DropNewest { "3" } else { "9" };
        assert_eq!(log.take().last().unwrap(), last);
        assert_settled(bus);
    }
}

#[test]
fn a_latest_only_reader_samples_at_its_rate_and_always_gets_the_newest() {
    let simulation = simulation();
    let bus = simulation.bus();
    let wish = || bus.subscribe("a").mode(DeliveryMode::LatestOnly);
    let mut inbox = wish().rate_limit(Rate::per_second(1.0), OverLimit::Queue).mailbox().unwrap();
    let mut got = Vec::new();
    for _ in 0..3 {
        publish(bus, 10);
        simulation.run();
        let delivery = inbox.try_recv().unwrap();
        got.push((delivery.payload().text().unwrap().to_owned(), delivery.skipped()));
        drop(delivery);
        publish(bus, 5);
        simulation.run();
        assert!(inbox.try_recv().is_err(), "one a second");
        simulation.advance(SECOND);
    }
    assert_eq!(got, [("9".to_owned(), 9), ("9".to_owned(), 14), ("9".to_owned(), 14)]);
    assert_eq!(inbox.try_recv().unwrap().payload().text(), Some("4"));
    assert_settled(bus);
    let refused = wish().rate_limit(Rate::per_second(1.0), OverLimit::Reject).mailbox().unwrap_err();
    assert_eq!(refused, SubscribeError::NewestRejected);
    assert!(refused.to_string().contains("OverLimit::Queue"));
}

#[test]
fn events_that_a_breaker_or_a_pause_keeps_back_use_nothing_of_the_rate_up() {
    let simulation = simulation();
    let bus = simulation.bus();
    let policy = BreakerPolicy::default().failures_max(1).open_for(10 * SECOND);
    let retry = RetryPolicy::default().attempts_max(1);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).breaker(policy);
    let mut inbox = wish.rate_limit(Rate::per_second(0.1).burst(2), OverLimit::Reject).mailbox().unwrap();
    publish(bus, 1);
    simulation.run();
    inbox.try_recv().unwrap().fail("down");
    assert_eq!(bus.subscriptions()[0].breaker.map(|breaker| breaker.state), Some(BreakerState::Open));
    publish(bus, 3);
    simulation.run();
    let ledger = ledger(bus);
    assert_eq!((ledger.queued, ledger.dead_lettered), (3, 1), "all are held, the breaker being asked first");
    simulation.advance(11 * SECOND);
    publish(bus, 3);
    simulation.run();
    assert_eq!((bus.ledger().subscriptions.queued, bus.ledger().subscriptions.dead_lettered), (5, 2), "two of three");

    let inline = bus.subscribe("b").rate_limit(Rate::per_second(1.0), OverLimit::Reject).handle(|_, _| ()).unwrap();
    bus.pause(inline.id()).unwrap();
    for _ in 0..2 {
        bus.publish("b", Payload::raw(b"")).unwrap();
        simulation.run();
        bus.resume(inline.id()).unwrap();
    }
    let found = inline.record().ledger;
    assert_eq!((found.dropped.paused, found.delivered, found.dropped.rate_limited), (1, 1, 0));
    assert_books(bus);
}

#[test]
fn a_probe_waits_for_its_rate_and_is_not_lost_meanwhile() {
    let simulation = simulation();
    let bus = simulation.bus();
    let policy = BreakerPolicy::default().failures_max(1).open_for(SECOND);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(RetryPolicy::default().attempts_max(1));
    let mut inbox = wish.breaker(policy).rate_limit(Rate::per_second(0.1), OverLimit::Queue).mailbox().unwrap();
    publish(bus, 3);
    simulation.run();
    inbox.try_recv().unwrap().fail("down");
    simulation.advance(5 * SECOND);
    for _ in 0..3 {
        simulation.run();
        assert!(inbox.try_recv().is_err(), "its rate allows it after ten seconds");
        assert_eq!(bus.subscriptions()[0].breaker.map(|breaker| breaker.state), Some(BreakerState::HalfOpen));
    }
    simulation.advance(5 * SECOND);
    inbox.try_recv().unwrap().ack();
    assert_eq!(bus.subscriptions()[0].breaker.map(|breaker| breaker.state), Some(BreakerState::Closed));
    assert_eq!(inbox.len(), 1);
    assert_books(bus);
}

#[test]
fn what_is_held_when_its_subscription_or_its_bus_ends_is_in_the_books() {
    for (mode, form) in
        FORMS.into_iter().flat_map(|form| [(DeliveryMode::BestEffort, form), (DeliveryMode::reliable(), form)])
    {
        for shuts_down in [false, true] {
            let simulation = simulation();
            let bus = simulation.bus();
            let wish = bus.subscribe("a").mode(mode).rate_limit(Rate::per_second(1.0), OverLimit::Queue);
            let mut consumer = Consumer::new(form, wish);
            publish(bus, 5);
            consumer.work(&simulation);
            if shuts_down {
                bus.shutdown().unwrap();
            }
            drop(consumer);
            let found = ledger(bus);
            let ended = found.dropped.closed + found.dead_lettered;
            assert_eq!((found.delivered, ended, found.open()), (1, 4, 0), "{mode:?} {form:?} {shuts_down}");
        }
    }
}

#[test]
fn a_shutdown_does_not_hurry_a_handler_on_a_thread_beyond_its_rate() {
    for mode in [DeliveryMode::BestEffort, DeliveryMode::reliable()] {
        watched(move || {
            let bus = small().build().unwrap();
            let wish = bus.subscribe("a").mode(mode).rate_limit(Rate::per_second(50.0), OverLimit::Queue);
            let _made = wish.handle_on("limited", |_, _| ()).unwrap();
            let begun = Instant::now();
            publish(&bus, 6);
            let report = bus.shutdown_deadline(Duration::from_secs(120)).unwrap();
            assert!(report.is_clean() && report.delivered == 6, "{report:?}");
            assert!(begun.elapsed() >= Duration::from_millis(100), "{mode:?}: six events in {:?}", begun.elapsed());
            assert_books(&bus);
        });
    }
}

#[test]
fn a_closed_mailbox_gives_out_what_it_holds() {
    let simulation = simulation();
    let bus = simulation.bus();
    let mut inbox = bus.subscribe("a").rate_limit(Rate::per_second(1.0), OverLimit::Queue).mailbox().unwrap();
    publish(bus, 5);
    simulation.run();
    bus.shutdown().unwrap();
    assert_eq!(std::iter::from_fn(|| inbox.try_recv().ok()).count(), 5, "nobody would tell it to go on");
    assert_settled(bus);
}

#[test]
fn rates_that_cannot_be_kept_are_refused() {
    let simulation = simulation();
    let bus = simulation.bus();
    let refused = |rate| match bus.subscribe("a").rate_limit(rate, OverLimit::Queue).handle(|_, _| ()) {
        Err(SubscribeError::Rate(error)) => error,
        other => panic!("{rate}: {other:?}"),
    };
    for per_second in [0.0, -3.0, f64::NAN, f64::INFINITY, 1e8] {
        let found = refused(Rate::per_second(per_second));
        assert!(
            matches!(found, RateError::PerSecond { per_second: named, .. } if named.to_bits() == per_second.to_bits())
        );
        assert_eq!(
            found.to_string(),
            format!("a rate of {per_second} events a second; it is from 0.00001 to 10000000")
        );
    }
    assert_eq!(refused(Rate::per_second(1.0).burst(0)), RateError::Burst { burst: 0, min: 1, max: 1_000_000 });
    assert!(bus.subscriptions().is_empty());
    assert_books(bus);
}
