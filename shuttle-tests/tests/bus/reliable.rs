//! Reliable delivery, also by a service: words about attempts, the end of their time, subscriptions that end, redrive and the end of the
//! bus, against each other.

use std::time::Duration;

use ringmain::testing::ManualClock;
use ringmain::{
    Bus, DeadLetterFilter, DeadLetters, Delivery, DeliveryMode, Mailbox, Pattern, Payload, PublishError, Publisher,
    RetryPolicy, Settled,
};
use shuttle::thread;
use shuttle_tests::scenario;
use shuttle_tests::stage::{Flag, Numbered, TOPIC, beside, bus, end};

use crate::books::assert_settled;

const EVENTS: usize = 3;
/// Attempts that a consumer makes before it ends its subscription.
const ATTEMPTS: usize = 6;
/// So often somebody looks for a dead letter.
const YIELDS: usize = 20;
const TIMEOUT: Duration = Duration::from_millis(1);
const RELIABLE: DeliveryMode = DeliveryMode::Reliable { timeout: TIMEOUT };

fn at_once() -> RetryPolicy {
    RetryPolicy::default().attempts_max(2).delays(Duration::ZERO, Duration::ZERO)
}

/// Publishes until it is told that the bus shuts down. How many were accepted.
fn publish_all(
    bus: &Bus,
    events: usize,
    publish: impl Fn(&mut Publisher, Numbered) -> Result<(), PublishError>,
) -> usize {
    let Ok(mut own) = bus.publisher() else { return 0 };
    let mut is_accepted = |nth| match publish(&mut own, Numbered { publisher: 0, nth }) {
        Ok(()) => true,
        Err(PublishError::ShuttingDown) => false,
        Err(error) => panic!("{error}"),
    };
    (0..events).take_while(|&nth| is_accepted(nth)).count()
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

/// Acknowledges an event. Whether that counted.
fn acknowledge(delivery: Delivery<Pattern>, nth: usize, acknowledged: &mut Vec<usize>) -> bool {
    let is_counted = delivery.ack() == Settled::Counted;
    if is_counted {
        acknowledged.push(nth);
    }
    is_counted
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
            publish_all(&publishing, EVENTS, |own, event| {
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

#[test]
fn attempts_whose_time_is_over_amid_words_redrive_and_both_ends_leave_each_event_in_one_place() {
    let mutants = ["attempts.takes", "attempts.last", "redrive.arrived"];
    // Whether a consumer had an event in hand twice; whether a letter went back; whether events came after the subscription.
    let outcomes = [(false, true, false), (false, true, true), (true, true, false), (true, true, true)];
    scenario("reliable::time", &mutants, &outcomes, || {
        let bus = bus(1);
        let clock = ManualClock::of(&bus);
        let mut inbox = bus.subscribe(TOPIC).mode(RELIABLE).retry(at_once()).mailbox().expect("subscribed");
        let own = clock.clone();
        let consumer = beside(move || {
            let (mut acknowledged, mut kept, mut is_twice) = (Vec::new(), None, false);
            for turn in 0..ATTEMPTS {
                let Ok(delivery) = inbox.recv() else { break };
                let nth = Numbered::read(delivery.payload()).nth;
                if let Some((_, late)) = kept.take_if(|(kept, _)| *kept == nth) {
                    // It was taken away, and is in hand twice. Who had it first has no say, before the other one or after.
                    is_twice = true;
                    let mut both = [delivery, late];
                    both.rotate_left(turn % 2);
                    let counted = both.map(|one| acknowledge(one, nth, &mut acknowledged));
                    assert!(!counted[1 - turn % 2], "whose time was over had a say");
                } else if turn == 0 {
                    delivery.reject("no");
                } else if turn == 1 {
                    // From now on it may be taken away at any moment.
                    own.advance(2 * TIMEOUT);
                    kept = Some((nth, delivery));
                } else {
                    acknowledge(delivery, nth, &mut acknowledged);
                }
            }
            if let Some((nth, late)) = kept {
                acknowledge(late, nth, &mut acknowledged);
            }
            (acknowledged, is_twice)
        });
        let is_over = Flag::default();
        let is_over_now = is_over.clone();
        let ticking = beside(move || {
            // Slowly, so that most attempts have their time; and to the end, for what comes again.
            while is_over_now.get() == 0 {
                clock.advance(TIMEOUT / 16);
                thread::yield_now();
            }
        });
        let redriving = bus.clone();
        let redrive = beside(move || {
            let held = redriving.dead_letters();
            let first = (0..YIELDS).find_map(|_| {
                thread::yield_now();
                held.list(&DeadLetterFilter::new()).first().map(|letter| letter.id())
            });
            first.is_some_and(|id| held.redrive(id).is_ok())
        });
        let publishing = bus.clone();
        let publisher = beside(move || publish_all(&publishing, 3 * EVENTS, |own, event| event.publish(own, TOPIC)));
        let accepted = end(publisher);
        let report = bus.shutdown().expect("not on a worker");
        assert!(report.ledger_balanced && report.workers_left && report.left_in_lanes == 0, "{report:?}");
        let ((acknowledged, is_twice), is_redriven) = (end(consumer), end(redrive));
        is_over.set(1);
        end(ticking);
        let ledger = bus.ledger();
        // The subscription ends when its consumer has had enough: nobody wants what is published after that.
        assert_each_in_one_place(&bus, accepted - ledger.unmatched as usize, &acknowledged);
        (is_twice, is_redriven, ledger.unmatched > 0)
    });
}
