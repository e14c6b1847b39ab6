//! Mailboxes: receive beside publish, the drop of the mailbox, the end of the bus.

use ringmain::{Overflow, PublishError};
use shuttle_tests::scenario;
use shuttle_tests::stage::{Numbered, TOPIC, beside, bus, end, until_closed};

use crate::books::{assert_books, assert_settled};

const EVENTS: usize = 5;

#[test]
fn a_consumer_gets_all_events_in_order_until_the_shutdown_and_is_then_told() {
    let mutants = ["cells.release_block", "cells.retain"];
    // Events received, and accepted.
    scenario("mailboxes::shutdown", &mutants, &[0, EVENTS], || {
        let bus = bus(1);
        let mut inbox = bus.subscribe(TOPIC).mailbox().expect("subscribed");
        let consumer = beside(move || until_closed(&mut inbox));
        let publishing = bus.clone();
        let publisher = beside(move || {
            let Ok(mut own) = publishing.publisher() else { return 0 };
            let mut publish = |nth| match (Numbered { publisher: 0, nth }).publish(&mut own, TOPIC) {
                Ok(()) => true,
                Err(PublishError::ShuttingDown) => false,
                Err(error) => panic!("{error}"),
            };
            (0..EVENTS).take_while(|&nth| publish(nth)).count()
        });
        let flushing = bus.clone();
        let flusher = beside(move || flushing.flush().expect("there is a consumer"));
        end(flusher);
        let report = bus.shutdown().expect("not on a worker");
        let (accepted, got) = (end(publisher), end(consumer));
        assert!(report.ledger_balanced && report.workers_left && report.left_in_lanes == 0, "{report:?}");
        assert_eq!(report.delivered + report.left_in_mailboxes, accepted as u64, "{report:?}");
        assert_eq!(got, (0..accepted).collect::<Vec<_>>());
        assert_settled(&bus);
        assert_eq!(bus.metrics().free_blocks, 4, "a block is lost");
        got.len()
    });
}

#[test]
fn a_consumer_that_goes_away_amid_its_events_holds_nobody_up() {
    let mutants = ["cells.release_block"];
    // How events were lost: in the mailbox, or not at all.
    scenario("mailboxes::dropped", &mutants, &[false, true], || {
        let bus = bus(1);
        let mut inbox = bus.subscribe(TOPIC).mailbox().expect("subscribed");
        let consumer = beside(move || {
            // Two events, of which the second is in hand when the mailbox goes.
            let first = inbox.recv().map(|delivery| Numbered::read(delivery.payload()).nth);
            let second = inbox.recv().expect("more were published");
            drop(inbox);
            [first.expect("more were published"), Numbered::read(second.payload()).nth]
        });
        let mut own = bus.publisher().expect("a place");
        for nth in 0..EVENTS {
            // The mailbox is full after two, the lane after four more: this waits for the consumer or its end.
            Numbered { publisher: 0, nth }.publish(&mut own, TOPIC).expect("there will be room");
        }
        assert_eq!(end(consumer), [0, 1]);
        drop(own);
        assert_settled(&bus);
        let report = bus.shutdown().expect("not on a worker");
        assert!(report.is_clean() && report.delivered == 2, "{report:?}");
        assert_eq!(bus.metrics().free_blocks, 4, "a block is lost");
        bus.ledger().subscriptions.dropped.closed > 0
    });
}

#[test]
fn a_mailbox_that_drops_the_oldest_while_it_is_read_counts_each_event_once() {
    let mutants = ["cells.retain", "cells.release_block"];
    // Events dropped.
    scenario("mailboxes::oldest", &mutants, &[0, 1, 2], || {
        let bus = bus(1);
        let mut inbox = bus.subscribe(TOPIC).overflow(Overflow::DropOldest).mailbox().expect("subscribed");
        let consumer = beside(move || {
            let mut got = Vec::new();
            while let Ok(delivery) = inbox.recv() {
                got.push(Numbered::read(delivery.payload()).nth);
            }
            got
        });
        let mut own = bus.publisher().expect("a place");
        for nth in 0..EVENTS {
            Numbered { publisher: 0, nth }.publish(&mut own, TOPIC).expect("there will be room");
        }
        drop(own);
        assert!(bus.shutdown().expect("not on a worker").workers_left);
        let got = end(consumer);
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
        assert_books(&bus);
        let ledger = bus.ledger().subscriptions;
        assert_eq!(ledger.delivered, got.len() as u64, "{ledger:?}");
        assert_eq!(ledger.dropped.overflow, (EVENTS - got.len()) as u64, "{ledger:?}");
        assert_eq!(bus.metrics().free_blocks, 4, "a block is lost");
        EVENTS - got.len()
    });
}
