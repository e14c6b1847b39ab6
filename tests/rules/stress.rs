//! Two publishers, two workers, and no access that races: the run that sanitizers watch.
//!
//! `RINGMAIN_STRESS_EVENTS=10000000` makes it longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ringmain::{
    Bus, DeadLetterFilter, Delivery, DeliveryMode, FullPolicy, Key, Outcome, Overflow, Payload, Priority, RetryPolicy,
    Settled, Topic,
};
use rkyv::{Archive, Serialize};

use crate::books::assert_settled;

const PUBLISHERS: u64 = 2;
// Miri looks at each step, and takes its time.
const EVENTS_DEFAULT: u64 = if cfg!(miri) { 30 } else { 20_000 };
/// Every so manieth event does not fit a slot and travels in a block.
const LONG_EVERY: u64 = 61;
const LONG_BYTES: usize = 300;
const BATCH_EVERY: u64 = 97;
const BATCH: u64 = 5;
/// Longer than a sanitizer takes for anything here.
const PATIENCE: Duration = Duration::from_secs(600);

/// The nth event of a publisher, with what it must read as wherever it is read.
#[derive(Clone, Copy, Archive, Serialize)]
struct Tick {
    from: u64,
    nth: u64,
    check: u64,
}

const TICK: Topic<Tick> = Topic::new("stress.tick");

impl Tick {
    fn new(from: u64, nth: u64) -> Self {
        Self { from, nth, check: checked(from, nth) }
    }
}

fn checked(from: u64, nth: u64) -> u64 {
    (from << 56 | nth).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn events() -> u64 {
    std::env::var("RINGMAIN_STRESS_EVENTS").map_or(EVENTS_DEFAULT, |text| text.parse().expect("a number of events"))
}

/// What each publisher's next event must be: nothing is lost, comes twice or out of order.
#[derive(Default)]
struct Expected([u64; PUBLISHERS as usize]);

impl Expected {
    fn meet(&mut self, from: u64, nth: u64) {
        let next = &mut self.0[from as usize];
        assert_eq!(*next, nth, "of publisher {from}");
        *next += 1;
    }
}

fn publish(bus: &Bus, from: u64, events: u64) {
    let mut publisher = bus.publisher().unwrap();
    let mut nth = 0;
    while nth < events {
        if nth % BATCH_EVERY == 0 && nth + BATCH <= events {
            let mut batch = publisher.batch(Priority::Normal);
            for nth in nth..nth + BATCH {
                batch.add(TICK, &Tick::new(from, nth)).unwrap();
            }
            batch.publish().unwrap();
            nth += BATCH;
        } else if nth % LONG_EVERY == 0 {
            let envelope = publisher.at(Priority::Normal).metadata("pad", &"p".repeat(LONG_BYTES));
            envelope.publish(TICK, &Tick::new(from, nth)).unwrap();
            nth += 1;
        } else {
            publisher.publish(TICK, &Tick::new(from, nth)).unwrap();
            nth += 1;
        }
        if nth % 1_009 == 0 {
            publisher.at(Priority::Critical).publish("stress.aside", Payload::raw(&nth.to_le_bytes())).unwrap();
        }
    }
}

#[test]
fn publishers_and_workers_race_without_harm() {
    let events = events();
    let builder = Bus::builder().workers(2).max_queue_size(64).batch_max(8).publishers_max(4);
    let builder = builder.blocks([(1_024, 8)]).payload_bytes_max(512).pin(false);
    let bus = builder.when_full(FullPolicy::wait(PATIENCE)).build().unwrap();

    // One on each worker sees all, in the order of each publisher.
    let seen: Vec<_> = (0..2).map(|_| Arc::new(Mutex::new(Expected::default()))).collect();
    for (worker, expected) in seen.iter().enumerate() {
        let expected = Arc::clone(expected);
        let subscribe = bus.subscribe(TICK).on_worker(worker);
        let handler = move |tick: &ArchivedTick, _: &ringmain::Meta<'_>| {
            let (from, nth) = (tick.from.to_native(), tick.nth.to_native());
            assert_eq!(tick.check.to_native(), checked(from, nth));
            expected.lock().unwrap().meet(from, nth);
        };
        subscribe.handle(handler).unwrap().forever();
    }
    // A consumer on a thread of its own waits for all, another drops what it cannot keep, a third comes and goes.
    let mut patient = bus.subscribe("stress.tick").capacity(16).mailbox().unwrap();
    let mut hasty = bus.subscribe("**").capacity(4).overflow(Overflow::DropOldest).mailbox().unwrap();
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|from| {
                scope.spawn({
                    let bus = &bus;
                    move || publish(bus, from, events)
                })
            })
            .collect();
        let patient = scope.spawn(move || patient.iter().count());
        let hasty = scope.spawn(move || hasty.iter().count());
        let visitor = scope.spawn(|| {
            let rounds = events / 1_000 + 2;
            for _ in 0..rounds {
                let mut visit = bus.subscribe(TICK).capacity(2).overflow(Overflow::DropNewest).mailbox().unwrap();
                let _ = visit.try_recv();
            }
        });
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        visitor.join().unwrap();
        let report = bus.shutdown_deadline(PATIENCE).unwrap();
        // Consumers may still be pulling what their mailboxes hold; the books are looked into when they are done.
        assert!(report.workers_left && report.left_in_lanes == 0, "{report:#?}");
        assert_eq!(patient.join().unwrap() as u64, PUBLISHERS * events);
        assert!(hasty.join().unwrap() > 0);
    });
    for expected in seen {
        assert_eq!(expected.lock().unwrap().0, [events; PUBLISHERS as usize]);
    }
    assert_settled(&bus);
}

/// What a settler makes of a delivery, by chance.
fn settle(delivery: Delivery<Topic<Tick>>, chance: u64, acknowledged: &AtomicU64) {
    let check = || {
        let tick = delivery.event().unwrap();
        assert_eq!(tick.check.to_native(), checked(tick.from.to_native(), tick.nth.to_native()));
    };
    check();
    let settled = match chance % 8 {
        0 => delivery.fail("by chance"),
        1 => return drop(delivery),
        2 => {
            // Until its time is over, or somebody else was given it: it can be read all the same.
            while delivery.is_current() {
                std::thread::yield_now();
            }
            check();
            delivery.ack()
        }
        3 => {
            delivery.extend(Duration::from_millis(2));
            delivery.release()
        }
        4 => delivery.retry_after(Duration::from_micros(chance % 500)),
        _ => delivery.ack(),
    };
    if chance % 8 == 2 {
        assert_eq!(settled, Settled::TooLate);
    } else if chance % 8 > 4 && settled == Settled::Counted {
        // Relaxed: read after its thread was joined.
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn attempts_and_their_timeouts_race_without_harm() {
    let events = events() / 10;
    let builder = Bus::builder().workers(2).max_queue_size(64).publishers_max(4).blocks([(1_024, 32)]);
    let builder = builder.payload_bytes_max(512).pin(false).dead_letters_max(1 << 20);
    let bus = builder.when_full(FullPolicy::wait(PATIENCE)).build().unwrap();
    let retry =
        RetryPolicy::default().attempts_max(20).releases_max(3_900).delays(Duration::ZERO, Duration::from_millis(1));

    // Inline on worker 0: in order, whatever fails.
    let seen = Arc::new(Mutex::new(Expected::default()));
    let (expected, mut calls) = (Arc::clone(&seen), 0_u64);
    let wish = bus.subscribe(TICK).on_worker(0).mode(DeliveryMode::reliable()).ordered_by(Key::Subscription);
    let wish = wish.retry(retry.attempts_max(100)).capacity(16);
    let handler = move |tick: &ArchivedTick, _: &ringmain::Meta<'_>| {
        calls += 1;
        if calls % 5 == 0 {
            return Outcome::RetryAfter(Duration::ZERO);
        }
        expected.lock().unwrap().meet(tick.from.to_native(), tick.nth.to_native());
        Outcome::Ack
    };
    wish.handle(handler).unwrap().forever();

    // On worker 1: taken by one thread, settled by two others, most of them in time.
    let timeout = Duration::from_millis(3);
    let wish = bus.subscribe(TICK).on_worker(1).named("taken").mode(DeliveryMode::Reliable { timeout });
    let mut inbox = wish.retry(retry).capacity(16).mailbox().unwrap();
    let id = inbox.id();
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (bus, acknowledged) = (&bus, &acknowledged);
        let publishers: Vec<_> = (0..PUBLISHERS).map(|from| scope.spawn(move || publish(bus, from, events))).collect();
        let (give, take) = mpsc::channel::<Delivery<Topic<Tick>>>();
        let take = Arc::new(Mutex::new(take));
        let settlers: Vec<_> = (0..2_u64)
            .map(|nth| {
                let take = Arc::clone(&take);
                scope.spawn(move || {
                    for round in 0_u64.. {
                        let Ok(delivery) = take.lock().unwrap().recv() else { return };
                        settle(delivery, checked(nth, round) >> 7, acknowledged);
                    }
                })
            })
            .collect();
        let taker = scope.spawn(move || inbox.iter().for_each(|delivery| give.send(delivery).unwrap()));
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        bus.flush_deadline(PATIENCE).unwrap();
        let report = bus.shutdown_deadline(PATIENCE).unwrap();
        assert!(report.is_clean(), "{report:#?}");
        taker.join().unwrap();
        settlers.into_iter().for_each(|settler| settler.join().unwrap());
    });
    assert_eq!(seen.lock().unwrap().0, [events; PUBLISHERS as usize]);
    let letters = bus.dead_letters().list(&DeadLetterFilter::new().subscription(id)).len() as u64;
    assert_eq!(acknowledged.into_inner() + letters, PUBLISHERS * events);
    assert_settled(&bus);
}
