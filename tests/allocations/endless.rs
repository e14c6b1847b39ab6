//! What goes on for ever takes no more memory: subscriptions that come and go, and one of a hundred that is too slow.
//!
//! `RINGMAIN_CHURN` says how many subscriptions come and go (default 1,000).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringmain::{Bus, DeliveryMode, FullPolicy, Overflow, Payload, RetryPolicy};

use crate::books::assert_settled;
use crate::proof::say;
use crate::{alone, asked, live};

const PATIENCE: Duration = Duration::from_secs(60);
/// What threads that begin and end may take for a while.
const NOISE_BYTES: u64 = 64 << 10;

/// A subscription of each kind comes, is delivered an event, and goes.
fn visit(bus: &Bus, nth: u64) {
    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    let wish =
        bus.subscribe("a").on_worker((nth % 2) as usize).named(if nth.is_multiple_of(4) { "visitor" } else { "" });
    let count = move || {
        // Relaxed: read after a flush.
        counted.fetch_add(1, Ordering::Relaxed);
    };
    match nth % 4 {
        0 | 1 => {
            let handler = wish.handle(move |_, _| count()).unwrap();
            bus.publish("a", Payload::raw(b"x")).unwrap();
            bus.flush_deadline(PATIENCE).unwrap();
            handler.unsubscribe().unwrap();
        }
        2 => {
            let mut inbox = wish.capacity(4).mailbox().unwrap();
            bus.publish("a", Payload::raw(b"x")).unwrap();
            inbox.recv_deadline(PATIENCE).unwrap().ack();
            count();
        }
        _ => {
            let handler = wish.mode(DeliveryMode::reliable()).capacity(4).handle(move |_, _| count()).unwrap();
            bus.publish("a", Payload::raw(b"x")).unwrap();
            bus.flush_deadline(PATIENCE).unwrap();
            drop(handler);
        }
    }
    assert_eq!(seen.load(Ordering::Relaxed), 1, "visitor {nth}");
}

#[test]
fn subscriptions_that_come_and_go_leave_no_memory() {
    alone("endless::subscriptions_that_come_and_go_leave_no_memory", || {
        let visits = std::env::var("RINGMAIN_CHURN").map_or(1_000, |text| text.parse().expect("a number"));
        let bus = Bus::builder().workers(2).max_queue_size(64).build().unwrap();
        (0..200).for_each(|nth| visit(&bus, nth));
        let before = live();
        (0..visits).for_each(|nth| visit(&bus, nth));
        let grown = live().saturating_sub(before);
        assert!(grown < NOISE_BYTES, "{visits} subscriptions have left {grown} bytes");
        assert!(bus.subscriptions().is_empty());
        bus.shutdown_deadline(PATIENCE).unwrap();
        assert_settled(&bus);
        say(&format!("churn: {visits} subscriptions came and went, {grown} bytes grown"));
    });
}

/// How the slow one is subscribed, and what it may take at most.
const SLOW: [(DeliveryMode, Overflow, u64); 4] = [
    (DeliveryMode::BestEffort, Overflow::DropNewest, NOISE_BYTES),
    (DeliveryMode::BestEffort, Overflow::DropOldest, NOISE_BYTES),
    (DeliveryMode::LatestOnly, Overflow::DropNewest, NOISE_BYTES),
    // What finds no room is a dead letter.
    (DeliveryMode::Reliable { timeout: PATIENCE }, Overflow::DropNewest, NOISE_BYTES + LETTERS_BYTES_MAX as u64),
];
const LETTERS_BYTES_MAX: usize = 1 << 20;

#[test]
fn one_slow_of_a_hundred_takes_no_more_than_its_mailbox_and_the_others_get_all() {
    const EVENTS: u64 = 50_000;
    alone("endless::one_slow_of_a_hundred_takes_no_more_than_its_mailbox_and_the_others_get_all", || {
        for (mode, overflow, bytes_max) in SLOW {
            let builder = Bus::builder().workers(2).max_queue_size(1_024).when_full(FullPolicy::wait(PATIENCE));
            let bus = builder.dead_letter_bytes_max(LETTERS_BYTES_MAX).build().unwrap();
            let others: Vec<_> =
                (0..99).map(|nth| bus.subscribe("a").on_worker(nth % 2).handle(|_, _| ()).unwrap()).collect();
            let wish = bus.subscribe("a").mode(mode).overflow(overflow).on_worker(0);
            let wish = if mode == DeliveryMode::LatestOnly { wish } else { wish.capacity(64) };
            let wish = if overflow == Overflow::DropNewest && mode != DeliveryMode::BestEffort {
                wish.retry(RetryPolicy::default().attempts_max(1))
            } else {
                wish
            };
            let slow = wish.mailbox().unwrap();
            let mut publisher = bus.publisher().unwrap();
            let mut publish = |events: u64| {
                for nth in 0..events {
                    publisher.publish("a", Payload::raw(&nth.to_le_bytes())).unwrap();
                }
                // The slow one takes none: a flush would wait for it.
                while others.iter().any(|one| one.record().ledger.matched < bus.ledger().accepted) {
                    std::thread::yield_now();
                }
            };
            publish(2_000);
            let (bytes, times) = (live(), asked());
            publish(EVENTS);
            let grown = live().saturating_sub(bytes);
            println!("{mode:?}, {overflow:?}: {grown} bytes, {} allocations", asked() - times);
            assert!(grown < bytes_max, "{mode:?}, {overflow:?}: {grown} bytes for one that is slow");
            for one in &others {
                assert_eq!(one.record().delivery_count, EVENTS + 2_000, "{mode:?}, {overflow:?}");
            }
            drop(slow);
            assert_settled(&bus);
            bus.shutdown_deadline(PATIENCE).unwrap();
        }
    });
}
