//! Two publishers, two workers, and no access that races: the run that sanitizers watch.
//!
//! `RINGMAIN_STRESS_EVENTS=10000000` makes it longer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::{Bus, FullPolicy, Overflow, Payload, Priority, Topic};
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
