//! Flushing with events in mailboxes: it waits for those that were accepted before, in whatever order they are settled.

use std::thread;
use std::time::Duration;

use ringmain::{Bus, FlushError, Payload, Priority};

use crate::support::{PATIENCE, shut_down_clean};

const NOTHING: Payload<'static> = Payload::raw(b"");

#[test]
fn flush_waits_for_the_event_in_hand_although_later_ones_are_settled() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    bus.publish("a", NOTHING).unwrap();
    let held = mailbox.recv().unwrap();
    let flushing = bus.clone();
    let flush = thread::spawn(move || flushing.flush_deadline(Duration::from_millis(300)));
    while !flush.is_finished() {
        bus.publish("a", NOTHING).unwrap();
        drop(mailbox.recv().unwrap());
    }
    assert!(matches!(flush.join().unwrap(), Err(FlushError::TimedOut { .. })));
    drop(held);
    bus.flush().unwrap();
    shut_down_clean(&bus);
}

#[test]
fn flush_waits_for_the_event_that_more_urgent_ones_overtake_in_its_mailbox() {
    let bus = Bus::builder().workers(1).build().unwrap();
    let mut mailbox = bus.subscribe("a").mailbox().unwrap();
    let mut publisher = bus.publisher().unwrap();
    publisher.at(Priority::Low).publish("a", NOTHING).unwrap();
    while mailbox.is_empty() {
        thread::yield_now();
    }
    let flushing = bus.clone();
    let flush = thread::spawn(move || flushing.flush_deadline(PATIENCE));
    let mut low = 0;
    while !flush.is_finished() {
        publisher.at(Priority::Critical).publish("a", NOTHING).unwrap();
        // Low has its turn only after a burst of Critical, so another one has to be there to be taken.
        while mailbox.len() < 2 && low == 0 {
            thread::yield_now();
        }
        low += usize::from(mailbox.recv().unwrap().meta().priority() == Priority::Low);
    }
    flush.join().unwrap().unwrap();
    assert_eq!(low, 1, "it was accepted before the flush");
    drop(mailbox);
    shut_down_clean(&bus);
}
