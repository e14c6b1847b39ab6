//! A circuit breaker: a consumer that fails again and again is left alone for a while, and then tried carefully.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringmain::testing::Simulation;
use ringmain::{
    BreakerPolicy, BreakerState, Bus, BusBuilder, DeadLetterFilter, DeadReason, DeliveryMode, Mailbox, Notice, Outcome,
    Pattern, Payload, RetryPolicy, Settled, SubscribeError, Subscription, WhileOpen,
};

use super::support::{Log, assert_balanced, assert_books, assert_settled, watched};

const SECOND: Duration = Duration::from_secs(1);

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(64).blocks([(512, 4)]).payload_bytes_max(512)
}

fn publish(bus: &Bus, count: u32) {
    for nth in 0..count {
        bus.publish("a", Payload::plain_text(&nth.to_string())).unwrap();
    }
}

/// One attempt an event, so that each failure is an event's.
fn once() -> RetryPolicy {
    RetryPolicy::default().attempts_max(1).delays(Duration::ZERO, Duration::ZERO)
}

/// A subscription whose consumer works when it is told to: a handler on the worker, or a mailbox that `work` empties.
struct World {
    simulation: Simulation,
    works: Arc<AtomicBool>,
    attempts: Arc<AtomicU32>,
    states: Log<BreakerState>,
    inline: Option<Subscription>,
    inbox: Option<Mailbox<Pattern>>,
}

impl World {
    fn new(policy: BreakerPolicy, is_inline: bool) -> Self {
        let states = Log::new();
        let heard = states.clone();
        let builder = small().observer(move |notice: &Notice<'_>| {
            if let Notice::Breaker { state, .. } = notice {
                heard.add(*state);
            }
        });
        let simulation = Simulation::new(builder, 1).unwrap();
        let (works, attempts) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let wish = simulation.bus().subscribe("a").mode(DeliveryMode::reliable()).retry(once()).breaker(policy);
        let (mut inline, mut inbox) = (None, None);
        if is_inline {
            let (works, attempts) = (Arc::clone(&works), Arc::clone(&attempts));
            let handler = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
                attempts.fetch_add(1, Ordering::Relaxed);
                if works.load(Ordering::Relaxed) { Ok(()) } else { Err("down") }
            };
            inline = Some(wish.handle(handler).unwrap());
        } else {
            inbox = Some(wish.mailbox().unwrap());
        }
        Self { simulation, works, attempts, states, inline, inbox }
    }

    /// Publishes, and lets everything be tried that may. Returns the attempts made.
    fn work(&mut self, count: u32) -> u32 {
        let before = self.attempts.load(Ordering::Relaxed);
        publish(self.simulation.bus(), count);
        self.simulation.run();
        while let Some(Ok(delivery)) = self.inbox.as_mut().map(Mailbox::try_recv) {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            if self.works.load(Ordering::Relaxed) {
                delivery.ack()
            } else {
                delivery.fail("down")
            };
        }
        assert_books(self.simulation.bus());
        self.attempts.load(Ordering::Relaxed) - before
    }

    fn state(&self) -> BreakerState {
        self.simulation.bus().subscriptions()[0].breaker.expect("it has one").state
    }

    fn set_works(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
    }
}

#[test]
fn it_opens_at_failures_in_a_row_holds_events_and_lets_a_probe_decide() {
    for is_inline in [true, false] {
        let mut world = World::new(BreakerPolicy::default(), is_inline);
        assert_eq!(world.work(3), 3);
        world.set_works(false);
        assert_eq!((world.work(10), world.state()), (5, BreakerState::Open), "inline {is_inline}");
        assert_eq!(world.simulation.bus().ledger().subscriptions.queued, 5, "held");
        world.simulation.advance(29 * SECOND);
        assert_eq!(world.work(0), 0);
        world.simulation.advance(2 * SECOND);
        assert_eq!(world.state(), BreakerState::HalfOpen);
        assert_eq!((world.work(0), world.state()), (1, BreakerState::Open), "one probe, and it fails");
        world.set_works(true);
        world.simulation.advance(31 * SECOND);
        assert_eq!((world.work(1), world.state()), (5, BreakerState::Closed), "one goes well, and all the others come");
        let (open, half) = (BreakerState::Open, BreakerState::HalfOpen);
        assert_eq!(world.states.take(), [open, half, open, half, BreakerState::Closed]);
        assert_settled(world.simulation.bus());
        drop(world.inline.take());
    }
}

#[test]
fn it_opens_at_a_share_of_failures_and_not_for_rejected_events() {
    let policy = BreakerPolicy::default().failures_max(1_000);
    // Half of twenty within ten seconds, unless it is told otherwise.
    for (policy, last) in [(policy, 19), (policy.share_max(50, 10, 10 * SECOND), 9)] {
        assert_eq!(opened_at(policy), Some(last));
    }

    let simulation = Simulation::new(small(), 1).unwrap();
    let wish = simulation.bus().subscribe("a").mode(DeliveryMode::reliable()).breaker(BreakerPolicy::default());
    let _made = wish.handle(|_, _| Outcome::Reject("malformed".to_owned()));
    publish(simulation.bus(), 20);
    simulation.run();
    assert_eq!(simulation.bus().subscriptions()[0].breaker.map(|breaker| breaker.state), Some(BreakerState::Closed));
    assert_eq!(simulation.bus().dead_letters().len(), 20);
}

/// Which of 40 attempts, ten a second of which every second one fails, opens it.
fn opened_at(policy: BreakerPolicy) -> Option<u32> {
    let mut world = World::new(policy, false);
    let mut opened = None;
    for nth in 0..40_u32 {
        world.set_works(nth % 2 == 0);
        world.work(1);
        if world.state() == BreakerState::Open {
            opened = Some(nth);
            break;
        }
        world.simulation.advance(SECOND / 10);
    }
    opened
}

#[test]
fn what_comes_while_it_is_open_can_be_given_up() {
    for is_inline in [true, false] {
        let mut world =
            World::new(BreakerPolicy::default().failures_max(2).while_open(WhileOpen::DeadLetter), is_inline);
        world.set_works(false);
        assert_eq!(world.work(6), 2, "inline {is_inline}");
        let letters = world.simulation.bus().dead_letters().list(&DeadLetterFilter::new());
        let reasons: Vec<_> = letters.iter().map(|letter| (letter.reason(), letter.attempts())).collect();
        let (tried, untried) = ((DeadReason::AttemptsExhausted, 1), (DeadReason::BreakerOpen, 0));
        assert_eq!(reasons, [tried, tried, untried, untried, untried, untried]);
        world.set_works(true);
        world.simulation.advance(31 * SECOND);
        assert_eq!((world.work(3), world.state()), (3, BreakerState::Closed));
        assert_settled(world.simulation.bus());
    }
}

#[test]
fn attempts_that_take_too_long_are_failures() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::Reliable { timeout: SECOND }).retry(once());
    let mut inbox = wish.breaker(BreakerPolicy::default().failures_max(3)).mailbox().unwrap();
    publish(bus, 4);
    simulation.run();
    let held: Vec<_> = (0..3).map(|_| inbox.try_recv().unwrap()).collect();
    simulation.advance(2 * SECOND);
    simulation.run();
    assert_eq!(bus.subscriptions()[0].breaker.map(|breaker| breaker.state), Some(BreakerState::Open));
    assert!(inbox.try_recv().is_err(), "the fourth is held");
    drop(held);
    simulation.advance(31 * SECOND);
    simulation.run();
    inbox.try_recv().unwrap().ack();
    assert_eq!(bus.subscriptions()[0].breaker.map(|breaker| breaker.state), Some(BreakerState::Closed));
    assert_settled(bus);
}

#[test]
fn a_handler_on_the_worker_that_takes_too_long_fails_although_it_handles_the_event() {
    const TIMEOUT: Duration = Duration::from_millis(1);
    let bus = small().build().unwrap();
    let wish = bus.subscribe("a").mode(DeliveryMode::Reliable { timeout: TIMEOUT });
    let made = wish.breaker(BreakerPolicy::default().failures_max(2)).handle(|_, _| {
        // A handler has to take its time to be slow.
        let begun = Instant::now();
        while begun.elapsed() < 3 * TIMEOUT {
            std::hint::spin_loop();
        }
    });
    publish(&bus, 2);
    assert_settled(&bus);
    let record = made.unwrap().record();
    assert_eq!((record.ledger.delivered, record.ledger.retried), (2, 0));
    assert_eq!(record.breaker.map(|breaker| breaker.state), Some(BreakerState::Open));
}

#[test]
fn so_many_probes_are_out_and_no_more() {
    let mut world = World::new(BreakerPolicy::default().failures_max(1).probes(3), false);
    world.set_works(false);
    world.work(6);
    world.simulation.advance(31 * SECOND);
    let inbox = world.inbox.as_mut().unwrap();
    let probe = |inbox: &mut Mailbox<Pattern>| inbox.try_recv().ok();
    let mut probes: Vec<_> = std::iter::from_fn(|| probe(inbox)).collect();
    assert_eq!(probes.len(), 3);
    probes.pop().unwrap().release();
    probes.extend(probe(inbox));
    assert_eq!((probes.len(), probe(inbox).is_none()), (3, true), "one that was given back makes way for another");
    for (nth, probe) in probes.into_iter().enumerate() {
        assert_eq!((nth, world.state()), (nth, BreakerState::HalfOpen));
        probe.ack();
    }
    assert_eq!(world.state(), BreakerState::Closed);
    world.set_works(true);
    world.simulation.advance(SECOND);
    assert_eq!(world.work(0), 2, "all but the first, and the three that were probes");
    assert_settled(world.simulation.bus());
}

#[test]
fn probes_that_expire_or_are_not_settled_in_time_leave_it_not_half_open_for_ever() {
    let mut world = World::new(BreakerPolicy::default().failures_max(1), false);
    world.set_works(false);
    world.work(1);
    let bus = world.simulation.bus();
    let mut publisher = bus.publisher().unwrap();
    publisher.event().expires_after(SECOND).publish("a", Payload::raw(b"")).unwrap();
    publish(bus, 2);
    world.simulation.run();
    world.simulation.advance(31 * SECOND);
    let inbox = world.inbox.as_mut().unwrap();
    let probe = inbox.try_recv().unwrap();
    assert_eq!((probe.payload().text(), inbox.len()), (Some("0"), 1), "the probe is the next one that has not expired");
    world.simulation.advance(6 * SECOND);
    world.simulation.run();
    assert_eq!(world.state(), BreakerState::Open, "its timeout was a failure");
    assert_eq!(probe.ack(), Settled::TooLate);
    world.set_works(true);
    world.simulation.advance(31 * SECOND);
    assert_eq!((world.work(0), world.state()), (1, BreakerState::Closed));
    assert_settled(world.simulation.bus());
}

#[test]
fn failures_from_before_the_window_are_forgotten() {
    let policy = BreakerPolicy::default().failures_max(1_000).share_max(50, 10, 10 * SECOND);
    let mut world = World::new(policy, true);
    world.set_works(false);
    for _ in 0..5 {
        assert_eq!((world.work(9), world.state()), (9, BreakerState::Closed), "nine attempts are not enough");
        world.simulation.advance(11 * SECOND);
    }
    assert_eq!((world.work(10), world.state()), (10, BreakerState::Open));
}

#[test]
fn events_that_are_given_up_untried_suspend_nobody() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let policy = BreakerPolicy::default().failures_max(2).while_open(WhileOpen::DeadLetter);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once()).breaker(policy).suspend_after(3);
    let made = wish.handle(|_, _| Err::<(), _>("down")).unwrap();
    publish(bus, 10);
    simulation.run();
    assert_eq!((made.ledger().dead_lettered, made.record().is_paused), (10, false));
    let letters = bus.dead_letters().list(&DeadLetterFilter::new());
    assert!(letters[0].first_attempt().is_some() && letters[9].first_attempt().is_none());
    simulation.advance(31 * SECOND);
    publish(bus, 1);
    simulation.run();
    assert!(made.record().is_paused, "the third in a row that was tried");
    assert_books(bus);
}

#[test]
fn an_async_handler_is_left_alone_too() {
    let simulation = Simulation::new(small(), 1).unwrap();
    let bus = simulation.bus();
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once()).breaker(BreakerPolicy::default());
    let mut running = Box::pin(wish.run(async |_| Err::<(), _>("down")).unwrap());
    publish(bus, 10);
    simulation.run();
    let mut context = Context::from_waker(Waker::noop());
    assert!(running.as_mut().poll(&mut context).is_pending());
    let record = &bus.subscriptions()[0];
    assert_eq!(
        (record.ledger.dead_lettered, record.ledger.queued, record.breaker.map(|breaker| breaker.state)),
        (5, 5, Some(BreakerState::Open))
    );
    assert_books(bus);
}

#[test]
fn a_consumer_that_sleeps_is_woken_when_it_half_opens() {
    watched(|| {
        let bus = small().build().unwrap();
        for threaded in [true, false] {
            let mut calls = 0;
            let policy = BreakerPolicy::default().failures_max(2).open_for(Duration::from_millis(20));
            let retry = RetryPolicy::default().attempts_max(10).delays(Duration::ZERO, Duration::ZERO);
            let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).breaker(policy);
            let handler = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
                calls += 1;
                if calls <= 4 { Err("down") } else { Ok(()) }
            };
            let made = if threaded { wish.handle_on("flaky", handler) } else { wish.handle(handler) };
            publish(&bus, 5);
            assert_settled(&bus);
            let record = made.as_ref().unwrap().record();
            assert_eq!((record.ledger.delivered, record.ledger.retried), (5, 4), "threaded {threaded}");
            assert_eq!(record.breaker.map(|breaker| breaker.state), Some(BreakerState::Closed));
        }
    });
}

#[test]
fn a_shutdown_ends_at_its_deadline_with_what_is_held_in_the_books() {
    for threaded in [false, true] {
        watched(move || {
            let bus = small().build().unwrap();
            let policy = BreakerPolicy::default().failures_max(1).open_for(3_600 * SECOND);
            let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(once()).breaker(policy);
            let attempts = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&attempts);
            let handler = move |_: Payload<'_>, _: &ringmain::Meta<'_>| {
                count.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>("down")
            };
            let made = if threaded { wish.handle_on("flaky", handler) } else { wish.handle(handler) };
            publish(&bus, 1);
            assert_settled(&bus);
            publish(&bus, 4);
            while made.as_ref().unwrap().ledger().queued < 4 {
                std::thread::yield_now();
            }
            let report = bus.shutdown_deadline(Duration::from_millis(20)).unwrap();
            assert!(report.ledger_balanced && report.left_in_lanes == 0, "{report:?}");
            while bus.ledger().subscriptions.open() > 0 {
                std::thread::yield_now();
            }
            assert_books(&bus);
            assert_eq!(bus.ledger().subscriptions.dead_lettered, 5, "threaded {threaded}");
            assert_eq!(attempts.load(Ordering::Relaxed), 1, "threaded {threaded}: it is open: none is made");
        });
    }
}

#[test]
fn a_storm_of_failures_makes_few_attempts() {
    let simulation = Simulation::new(small().max_queue_size(2_000), 1).unwrap();
    let bus = simulation.bus();
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let retry = RetryPolicy::default().attempts_max(100).delays(Duration::from_millis(1), Duration::from_millis(10));
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).breaker(BreakerPolicy::default());
    let _made = wish.handle(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Err::<(), _>("down")
    });
    publish(bus, 1_000);
    for _ in 0..600 {
        simulation.run();
        simulation.advance(SECOND);
    }
    let attempts = attempts.load(Ordering::Relaxed);
    assert!((5..=5 + 600 / 30 + 1).contains(&attempts), "{attempts} attempts in ten minutes");
    assert_books(bus);
}

#[test]
fn breakers_that_cannot_be_are_refused() {
    let bus = small().build().unwrap();
    let wish = |policy| bus.subscribe("a").mode(DeliveryMode::reliable()).breaker(policy).mailbox();
    let policy = BreakerPolicy::default;
    for (policy, named, value) in [
        (policy().failures_max(0), "failures_max of the breaker", 0),
        (policy().share_max(101, 1, SECOND), "percent of the breaker", 101),
        (policy().share_max(50, 0, SECOND), "events_min of the breaker", 0),
        (policy().share_max(50, 1, Duration::ZERO), "window of the breaker in ms", 0),
        (policy().open_for(Duration::ZERO), "open_for of the breaker in ms", 0),
        (policy().probes(0), "probes of the breaker", 0),
    ] {
        match wish(policy).unwrap_err() {
            SubscribeError::Reliability { setting, value: found, .. } => assert_eq!((setting, found), (named, value)),
            other => panic!("{other}"),
        }
    }
    let refused = bus.subscribe("a").breaker(policy()).mailbox().unwrap_err();
    assert_eq!(refused, SubscribeError::NeedsReliable { setting: "breaker" });
    assert_balanced(&bus);
}

#[test]
fn its_record_tells_failures_in_a_row_and_when_the_last_one_was() {
    const START: u64 = 1_800_000_000;
    let mut world = World::new(BreakerPolicy::default().failures_max(3).open_for(10 * SECOND), false);
    world.simulation.step_wall_clock(START * 1_000_000_000);
    let look = |world: &World| {
        let record = world.simulation.bus().subscriptions()[0].breaker.unwrap();
        // In seconds since the start, up to the ticks in which it keeps them.
        let second = |time: SystemTime| (time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64()).round() as u64 - START;
        (record.state, record.failures, record.last_failure.map(second), record.half_opens_at.map(second))
    };
    assert_eq!(look(&world), (BreakerState::Closed, 0, None, None));
    world.set_works(false);
    world.simulation.advance(SECOND);
    world.work(2);
    assert_eq!(look(&world), (BreakerState::Closed, 2, Some(1), None));
    world.simulation.advance(SECOND);
    world.set_works(true);
    world.work(1);
    assert_eq!(look(&world), (BreakerState::Closed, 0, Some(1), None), "one went well");
    world.set_works(false);
    world.simulation.advance(SECOND);
    world.work(4);
    assert_eq!(look(&world), (BreakerState::Open, 3, Some(3), Some(13)));
    world.simulation.advance(11 * SECOND);
    assert_eq!(look(&world), (BreakerState::HalfOpen, 3, Some(3), None));
    world.work(0);
    assert_eq!(look(&world), (BreakerState::Open, 4, Some(14), Some(24)), "the probe failed too");
    world.simulation.advance(11 * SECOND);
    world.set_works(true);
    world.work(1);
    assert_eq!(look(&world), (BreakerState::Closed, 0, Some(14), None));
    assert_settled(world.simulation.bus());
}
