//! Where everything fails, or a resource is short: attempts are bounded without a breaker too, and who publishes feels it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ringmain::testing::Simulation;
use ringmain::{
    BreakerPolicy, Bus, BusBuilder, DeliveryMode, FullPolicy, Key, Outcome, OverLimit, Payload, PublishError, Rate,
    RetryPolicy, Subscribe,
};

use super::support::{Log, assert_books, assert_settled};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn small() -> BusBuilder {
    Bus::builder().workers(1).max_queue_size(8).when_full(FullPolicy::REJECT)
}

fn numbered(nth: u64) -> String {
    nth.to_string()
}

#[test]
fn where_everything_fails_and_there_is_no_breaker_attempts_and_turns_are_bounded() {
    const EVENTS: u64 = 200;
    const CELLS: u64 = 16;
    let simulation = Simulation::new(small(), 7).unwrap();
    let bus = simulation.bus();
    let attempts = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&attempts);
    let retry = RetryPolicy::default().attempts_max(3).delays(100 * MS, SECOND);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).capacity(CELLS as usize);
    let failing = wish.handle(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Err::<(), _>("down")
    });
    let failing = failing.unwrap();
    let (mut published, mut turns) = (0, 0);
    while published < EVENTS || failing.ledger().open() > 0 {
        while published < EVENTS && bus.publish("a", Payload::plain_text("x")).is_ok() {
            published += 1;
        }
        // A turn that passes nothing and takes nothing does not count: then its worker sleeps.
        while simulation.turn(0).unwrap() > 0 {
            turns += 1;
        }
        assert!(failing.ledger().waiting <= CELLS, "no more are tried again than the mailbox holds");
        simulation.advance(10 * MS);
    }
    let ledger = failing.ledger();
    assert_eq!((ledger.dead_lettered, ledger.retried), (EVENTS, 2 * EVENTS));
    let attempts = attempts.load(Ordering::Relaxed);
    assert_eq!(attempts, 3 * EVENTS, "as many as the policy gives, and no more");
    assert!(turns <= attempts + EVENTS, "{turns} turns for {attempts} attempts");
    assert_settled(bus);
}

#[test]
fn a_rate_bounds_what_a_failing_resource_sees_in_a_second_retries_among_it() {
    let simulation = Simulation::new(small().max_queue_size(64), 7).unwrap();
    let bus = simulation.bus();
    let attempts = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&attempts);
    let retry = RetryPolicy::default().attempts_max(3).delays(MS, MS);
    let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry);
    let wish = wish.rate_limit(Rate::per_second(10.0), OverLimit::Queue);
    let failing = wish.handle(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Err::<(), _>("down")
    });
    let failing = failing.unwrap();
    for nth in 0..20 {
        bus.publish("a", Payload::plain_text(&numbered(nth))).unwrap();
    }
    let mut hundredths = 0;
    while failing.ledger().dead_lettered < 20 {
        simulation.run();
        let made = attempts.load(Ordering::Relaxed);
        assert!(made * 10 <= hundredths + 10, "{made} attempts after {hundredths} hundredths of a second");
        simulation.advance(10 * MS);
        hundredths += 1;
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 60);
    assert_settled(bus);
}

#[test]
fn a_resource_that_is_short_slows_publishers_down_and_nothing_is_lost() {
    const CELLS: usize = 4;
    let ordered = |wish: Subscribe<_>| wish.ordered_by(Key::Topic);
    let careful = |wish: Subscribe<_>| wish.breaker(BreakerPolicy::default().failures_max(1).open_for(SECOND));
    let forms: [&dyn Fn(Subscribe<_>) -> Subscribe<_>; 2] = [&ordered, &careful];
    for (is_ordered, form) in [true, false].into_iter().zip(forms) {
        let simulation = Simulation::new(small(), 7).unwrap();
        let bus = simulation.bus();
        let (is_short, attempts, handled) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)), Log::new());
        let (short, count, log) = (Arc::clone(&is_short), Arc::clone(&attempts), handled.clone());
        let retry = RetryPolicy::default().attempts_max(100);
        let wish = bus.subscribe("a").mode(DeliveryMode::reliable()).retry(retry).capacity(CELLS);
        let worker = form(wish).handle(move |payload, _| {
            count.fetch_add(1, Ordering::Relaxed);
            if short.load(Ordering::Relaxed) {
                return Outcome::RetryAfter(SECOND);
            }
            log.add(payload.text().unwrap().to_owned());
            Outcome::Ack
        });
        let worker = worker.unwrap();
        let mut accepted = 0;
        for _ in 0..10 {
            while let Ok(_id) = bus.publish("a", Payload::plain_text(&numbered(accepted))) {
                accepted += 1;
                simulation.run();
            }
            let refused = bus.publish("a", Payload::plain_text("no")).unwrap_err();
            assert!(matches!(refused, PublishError::Full { gated_by: Some(0), .. }), "{refused}");
            simulation.advance(SECOND + MS);
            simulation.run();
        }
        assert_eq!(accepted, CELLS as u64 + 8, "its cells and the lane are full, and that is all");
        let made = attempts.load(Ordering::Relaxed);
        assert!((5..=11).contains(&made), "{made} attempts in ten seconds");
        assert_eq!(worker.ledger().dead_lettered, 0);
        assert_books(bus);
        is_short.store(false, Ordering::Relaxed);
        for _ in 0..accepted {
            simulation.advance(SECOND + MS);
            simulation.run();
        }
        let mut handled = handled.take();
        if !is_ordered {
            handled.sort_by_key(|text| text.parse::<u64>().unwrap());
        }
        assert!(handled.iter().cloned().eq((0..accepted).map(numbered)), "{handled:?}");
        assert_settled(bus);
    }
}
