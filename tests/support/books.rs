//! The conservation law, as every test checks it: what was accepted is in exactly one place, and each place counts for itself.
//!
//! A module of each test binary, by path.

#![allow(dead_code, reason = "each binary uses what it needs")]

use std::ops::Deref;
use std::thread;

use ringmain::{Bus, BusState, FlushError, Ledger, Metrics, Subscription};

/// A bus whose books are asked when its test lets go of it.
pub(crate) struct Asked(pub(crate) Bus);

impl Deref for Asked {
    type Target = Bus;

    fn deref(&self) -> &Bus {
        &self.0
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        match self.state() {
            _ if thread::panicking() => {}
            BusState::Running => assert_balanced(self),
            _ => assert_books(self),
        }
    }
}

/// The equations of the ledger, as they stand: exact whenever nothing moves.
#[track_caller]
pub(crate) fn assert_books(bus: &Bus) {
    let ledger = bus.ledger();
    for record in bus.subscriptions() {
        assert!(record.ledger.is_balanced(), "the books of {:?} do not balance: {:#?}", record.name, record.ledger);
    }
    assert!(ledger.is_balanced(), "the books of the bus do not balance: {ledger:#?}");
    assert_eq!(ledger.accepted, ledger.scheduled + ledger.unmatched + ledger.routed, "{ledger:#?}");
    assert_eq!(ledger.routed, ledger.claimed, "{ledger:#?}");
}

/// The books of a subscription whose bus is gone.
#[track_caller]
pub(crate) fn assert_left_balanced(subscription: &Subscription) {
    let ledger = subscription.record().ledger;
    assert!(ledger.is_balanced() && ledger.open() == 0, "{ledger:#?}");
}

/// Brings the bus to rest as far as it goes, and checks its books. Events may still wait in mailboxes.
#[track_caller]
pub(crate) fn assert_balanced(bus: &Bus) {
    match bus.flush() {
        Ok(()) | Err(FlushError::TimedOut { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    assert_books(bus);
}

/// As [`assert_balanced`], and nothing may be left anywhere.
#[track_caller]
pub(crate) fn assert_settled(bus: &Bus) {
    bus.flush().unwrap_or_else(|error| panic!("{error}: {:#?}", bus.ledger()));
    assert_books(bus);
    let ledger = bus.ledger();
    let left = ledger.in_lanes + ledger.subscriptions.open();
    assert_eq!(left, 0, "something is left: {ledger:#?}");
}

/// Shuts the bus down, whatever it leaves in consumers' hands, and checks its books.
#[track_caller]
pub(crate) fn end(bus: &Bus) {
    bus.shutdown().unwrap_or_else(|error| panic!("{error}: {:#?}", bus.ledger()));
    assert_books(bus);
}

/// The books balance, and every term is what the test has counted itself. Returns the figures, which agree.
#[track_caller]
pub(crate) fn assert_counted(bus: &Bus, counted: &Ledger) -> Metrics {
    assert_books(bus);
    let ledger = bus.ledger();
    assert_eq!(ledger, *counted, "the books (left) and the test's own count (right) differ");
    let (metrics, subscriptions) = (bus.metrics(), &ledger.subscriptions);
    assert_eq!(metrics.messages_published, counted.accepted, "{metrics:#?}");
    assert_eq!(metrics.messages_delivered, subscriptions.delivered, "{metrics:#?}");
    assert_eq!(metrics.messages_dropped, subscriptions.dropped.total(), "{metrics:#?}");
    metrics
}
