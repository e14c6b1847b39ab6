//! Pulling on a thread: without waiting, waiting, with a deadline, as an iterator.

use std::thread;
use std::time::Duration;

use ringmain::{Bus, Payload, Priority, RecvError, TryRecvError};

use crate::support::{Latch, PATIENCE, assert_books, number, shut_down_clean, simulate};

#[test]
fn try_recv_never_waits() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    assert!(matches!(mailbox.try_recv(), Err(TryRecvError::Empty)));
    bus.publish("a", Payload::raw(&1_u64.to_le_bytes())).unwrap();
    assert!(matches!(mailbox.try_recv(), Err(TryRecvError::Empty)), "its worker has not brought it yet");
    simulation.run();
    assert_eq!((mailbox.len(), mailbox.is_empty()), (1, false));
    assert_eq!(number(mailbox.try_recv().unwrap().payload()), 1);
    assert_eq!((mailbox.len(), mailbox.is_empty()), (0, true));
    bus.unsubscribe(mailbox.id()).unwrap();
    assert!(matches!(mailbox.try_recv(), Err(TryRecvError::Closed)));
    assert_books(bus);
}

#[test]
fn more_urgent_events_are_pulled_first_and_one_priority_in_order() {
    let simulation = simulate(Bus::builder().workers(1));
    let bus = simulation.bus();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for nth in 0..3_u64 {
        for (rank, priority) in Priority::ALL.into_iter().rev().enumerate() {
            let value = rank as u64 * 10 + nth;
            publisher.at(priority).publish("a", Payload::raw(&value.to_le_bytes())).unwrap();
        }
    }
    simulation.run();
    assert_eq!(mailbox.len(), 12);
    let pulled: Vec<_> = std::iter::from_fn(|| mailbox.try_recv().ok()).map(|one| number(one.payload())).collect();
    assert_eq!(pulled[..3], [30, 31, 32], "critical first");
    for rank in 0..4 {
        let one: Vec<_> = pulled.iter().copied().filter(|value| value / 10 == rank).collect();
        assert_eq!(one, [rank * 10, rank * 10 + 1, rank * 10 + 2]);
    }
    assert_books(bus);
}

#[test]
fn recv_waits_for_the_event_and_for_the_end() {
    const EVENTS: u64 = 2_000;
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let waiting = Latch::default();
    let consumer = thread::spawn({
        let waiting = waiting.clone();
        move || {
            waiting.open();
            let mut next = 0;
            loop {
                match mailbox.recv() {
                    Ok(delivery) => assert_eq!(number(delivery.payload()), next),
                    Err(error) => return (next, error),
                }
                next += 1;
            }
        }
    });
    waiting.pass();
    let mut publisher = bus.publisher().unwrap();
    for value in 0..EVENTS {
        publisher.publish_deadline("a", Payload::raw(&value.to_le_bytes()), PATIENCE).unwrap();
        if value % 100 == 0 {
            // Everything was pulled, so that the consumer falls asleep now and then.
            bus.flush_deadline(PATIENCE).unwrap();
        }
    }
    bus.flush_deadline(PATIENCE).unwrap();
    shut_down_clean(&bus);
    assert_eq!(consumer.join().unwrap(), (EVENTS, RecvError::Closed));
}

#[test]
fn recv_deadline_gives_up_in_time_and_says_so() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let limit = Duration::from_millis(5);
    let begun = std::time::Instant::now();
    assert_eq!(mailbox.recv_deadline(limit).map(drop), Err(RecvError::TimedOut { after: limit }));
    assert!(begun.elapsed() >= limit);
    assert_eq!(mailbox.recv_deadline(Duration::ZERO).map(drop), Err(RecvError::TimedOut { after: Duration::ZERO }));
    bus.publish("a", Payload::raw(b"")).unwrap();
    mailbox.recv_deadline(PATIENCE).unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    mailbox.recv_deadline(Duration::MAX).unwrap();
    bus.unsubscribe(mailbox.id()).unwrap();
    assert_eq!(mailbox.recv_deadline(PATIENCE).map(drop), Err(RecvError::Closed));
    shut_down_clean(&bus);
}

#[test]
fn the_iterator_ends_with_the_subscription() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    for value in 0..10_u64 {
        publisher.publish("a", Payload::raw(&value.to_le_bytes())).unwrap();
    }
    let first: Vec<_> = mailbox.iter().take(4).map(|one| number(one.payload())).collect();
    assert_eq!(first, [0, 1, 2, 3]);
    shut_down_with_leftovers(&bus, 6);
    let mut rest = Vec::new();
    for delivery in &mut mailbox {
        rest.push(number(delivery.payload()));
    }
    assert_eq!(rest, [4, 5, 6, 7, 8, 9], "what was queued can be pulled after the end");
    assert!(mailbox.iter().next().is_none());
    assert_books(&bus);
}

fn shut_down_with_leftovers(bus: &Bus, expected: u64) {
    let report = bus.shutdown_deadline(PATIENCE).unwrap();
    assert_eq!((report.left_in_mailboxes, report.ledger_balanced), (expected, true), "{report:?}");
}

#[test]
fn a_resumed_mailbox_wakes_its_consumer() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    bus.pause(mailbox.id()).unwrap();
    bus.publish("a", Payload::raw(b"")).unwrap();
    bus.flush_deadline(PATIENCE).unwrap();
    let (id, waiting) = (mailbox.id(), Latch::default());
    let consumer = thread::spawn({
        let waiting = waiting.clone();
        move || {
            waiting.open();
            mailbox.recv_deadline(PATIENCE).map(drop)
        }
    });
    waiting.pass();
    bus.resume(id).unwrap();
    assert_eq!(consumer.join().unwrap(), Ok(()));
    shut_down_clean(&bus);
}
