//! 10,000 events a second for as long as one likes, and 100,000 at once: nothing is lost, and memory stays small.
//!
//! Runs 5 seconds; `RINGMAIN_SUSTAINED_SECONDS=60` makes it the full minute. [`soak`] goes on for hours.

#[path = "../support/books.rs"]
mod books;
mod counting;
mod plot;
mod soak;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringmain::{Bus, Payload};

use crate::books::assert_settled;

const EVENTS_PER_MS: u64 = 10;
const SECONDS_DEFAULT: u64 = 5;
const RSS_BYTES_MAX: u64 = 100_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// The memory of this process, as the kernel counts it. The tests share it, and run one at a time for that.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn number_from_env(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A bus with a handler and a consumer that both see every number once and in order, and what they saw.
struct Watched {
    bus: Bus,
    inline: Arc<Mutex<u64>>,
    consumer: std::thread::JoinHandle<u64>,
}

fn number(payload: Payload<'_>) -> u64 {
    u64::from_le_bytes(payload.bytes().try_into().unwrap())
}

impl Watched {
    fn start() -> Self {
        let bus = Bus::builder().workers(2).build().unwrap();
        let inline = Arc::new(Mutex::new(0));
        let made = bus.subscribe("load.*").handle({
            let next = Arc::clone(&inline);
            move |payload, _| {
                let mut next = next.lock().unwrap();
                assert_eq!(number(payload), *next);
                *next += 1;
            }
        });
        made.unwrap().forever();
        let mut mailbox = bus.subscribe("load.event").mailbox().unwrap();
        let consumer = std::thread::spawn(move || {
            let mut next = 0;
            for delivery in &mut mailbox {
                assert_eq!(number(delivery.payload()), next);
                next += 1;
            }
            next
        });
        Self { bus, inline, consumer }
    }

    /// Finds that `events` were published, and none of them is lost.
    fn finish(self, events: u64) {
        let rss = resident_bytes();
        self.bus.flush_deadline(PATIENCE).unwrap();
        let report = self.bus.shutdown_deadline(PATIENCE).unwrap();
        assert!(report.is_clean(), "{report:#?}");
        assert_settled(&self.bus);
        let ledger = self.bus.ledger();
        assert_eq!((ledger.accepted, ledger.unmatched), (events, 0));
        assert_eq!((ledger.subscriptions.delivered, ledger.subscriptions.failed), (2 * events, 0));
        assert_eq!(*self.inline.lock().unwrap(), events);
        assert_eq!(self.consumer.join().unwrap(), events);
        assert!(rss < RSS_BYTES_MAX, "{rss} bytes resident");
        let latency = self.bus.metrics().delivery_latency.total;
        println!("{events} events, {:.1} MB resident, delivery {latency}", rss as f64 / 1e6);
    }
}

#[test]
fn ten_thousand_events_a_second_are_sustained() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seconds = number_from_env("RINGMAIN_SUSTAINED_SECONDS").unwrap_or(SECONDS_DEFAULT);
    let watched = Watched::start();
    let mut publisher = watched.bus.publisher().unwrap();
    let begun = Instant::now();
    let mut published = 0_u64;
    for burst in 0..seconds * 1_000 {
        // Paced by the clock: a burst that came late does not put off those behind it.
        let due = begun + Duration::from_millis(burst);
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        for _ in 0..EVENTS_PER_MS {
            publisher.publish("load.event", Payload::raw(&published.to_le_bytes())).unwrap();
            published += 1;
        }
    }
    let took = begun.elapsed();
    assert_eq!(published, seconds * 10_000);
    assert!(took < Duration::from_secs(seconds) + Duration::from_secs(1), "{took:?}: the pace was not kept");
    watched.finish(published);
}

#[test]
fn a_burst_of_a_hundred_thousand_loses_nothing() {
    const BURST: u64 = 100_000;
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let watched = Watched::start();
    let mut publisher = watched.bus.publisher().unwrap();
    let begun = Instant::now();
    for value in 0..BURST {
        publisher.publish_deadline("load.event", Payload::raw(&value.to_le_bytes()), PATIENCE).unwrap();
    }
    println!("{BURST} events published in {:?}", begun.elapsed());
    watched.finish(BURST);
}
