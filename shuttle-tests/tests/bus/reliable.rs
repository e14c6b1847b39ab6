//! Reliable delivery by a service: words about attempts, instances that end and the end of the bus, against each other.

use std::time::Duration;

use ringmain::{
    Bus, DeadLetterFilter, DeadLetters, Delivery, DeliveryMode, Mailbox, Pattern, Payload, PublishError, Publisher,
    RetryPolicy, Settled,
};
use shuttle_tests::scenario;
use shuttle_tests::stage::{Numbered, TOPIC, beside, bus, end};

use crate::books::assert_settled;

const EVENTS: usize = 3;
const TIMEOUT: Duration = Duration::from_millis(1);
const RELIABLE: DeliveryMode = DeliveryMode::Reliable { timeout: TIMEOUT };

fn at_once() -> RetryPolicy {
    RetryPolicy::default().attempts_max(2).delays(Duration::ZERO, Duration::ZERO)
}

/// Publishes until it is told that the bus shuts down. How many were accepted.
fn publish_all(bus: &Bus, publish: impl Fn(&mut Publisher, Numbered) -> Result<(), PublishError>) -> usize {
    let Ok(mut own) = bus.publisher() else { return 0 };
    let mut is_accepted = |nth| match publish(&mut own, Numbered { publisher: 0, nth }) {
        Ok(()) => true,
        Err(PublishError::ShuttingDown) => false,
        Err(error) => panic!("{error}"),
    };
    (0..EVENTS).take_while(|&nth| is_accepted(nth)).count()
}

/// Takes so many attempts at most, and says `no` to the first ones, and of the others that they went well. The events of which
/// that counted.
fn consume(mut inbox: Mailbox<Pattern>, attempts: usize, no: &[fn(Delivery<Pattern>) -> Settled]) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    for turn in 0..attempts {
        let Ok(delivery) = inbox.recv() else { break };
        let nth = Numbered::read(delivery.payload()).nth;
        match no.get(turn) {
            Some(no) => {
                no(delivery);
            }
            None if delivery.ack() == Settled::Counted => acknowledged.push(nth),
            None => {}
        }
    }
    acknowledged
}

fn letters(letters: &DeadLetters) -> Vec<usize> {
    let held = letters.list(&DeadLetterFilter::new());
    held.iter().map(|letter| Numbered::read(letter.meta().payload()).nth).collect()
}

/// Each event that was accepted was acknowledged once, or is a dead letter once.
fn assert_each_in_one_place(bus: &Bus, accepted: usize, acknowledged: &[usize]) {
    assert_settled(bus);
    let counts = bus.dead_letters().counts();
    assert!(counts.is_balanced() && counts.returning == 0, "{counts:?}");
    let mut places = letters(&bus.dead_letters());
    places.extend(acknowledged);
    places.sort_unstable();
    assert_eq!(places, (0..accepted).collect::<Vec<_>>(), "{acknowledged:?} were acknowledged");
    assert_eq!(bus.metrics().free_blocks, 4, "a block is lost");
}

#[test]
fn an_instance_that_ends_amid_its_events_and_the_end_of_the_bus_leave_each_event_in_one_place() {
    let mutants = ["service.given", "cells.release_block"];
    // Whether the instance that ended gave something back, and whether an event waited at the service.
    let outcomes = [(false, true), (true, false), (true, true)];
    scenario("reliable::service", &mutants, &outcomes, || {
        let bus = bus(1);
        let service = bus.service("brew").capacity(2).open().expect("opened");
        let [first, second] = ["first", "second"].map(|name| {
            let wish = service.instance(name).mode(RELIABLE).retry(at_once()).capacity(1);
            wish.mailbox().expect("made")
        });
        let ending = beside(move || consume(first, 1, &[|delivery| delivery.fail("not yet")]));
        let staying = beside(move || consume(second, usize::MAX, &[]));
        let publishing = bus.clone();
        let publisher = beside(move || {
            publish_all(&publishing, |own, event| {
                let text = event.text();
                own.event().target("brew").publish(TOPIC, Payload::plain_text(&text)).map(drop)
            })
        });
        let accepted = end(publisher);
        let report = bus.shutdown().expect("not on a worker");
        assert!(report.ledger_balanced && report.workers_left && report.left_in_lanes == 0, "{report:?}");
        let mut acknowledged = end(ending);
        acknowledged.extend(end(staying));
        assert_each_in_one_place(&bus, accepted, &acknowledged);
        let books = service.record().ledger;
        (bus.ledger().subscriptions.passed_on > books.passed_on, books.passed_on > 0)
    });
}
