//! Every handle is dropped in every state, by several threads at once: the bus ends, once, and nobody hangs.

use std::sync::Arc;

use ringmain::{BusState, PublishError, RecvError};
use shuttle_tests::scenario;
use shuttle_tests::stage::{Numbered, Seen, TOPIC, beside, bus, end, until_closed};

#[test]
fn the_last_handle_that_is_dropped_ends_the_bus_whoever_holds_it() {
    // Whether the publisher was refused, and events that the mailbox got.
    let outcomes = [(false, 3), (true, 0), (true, 1)];
    scenario("ends::drop", &["admission.look"], &outcomes, || {
        let bus = bus(2);
        let seen = Seen::default();
        let noting = seen.clone();
        let watched = Arc::new(());
        let owned = Arc::clone(&watched);
        let handler = bus.subscribe(TOPIC).on_worker(0).handle(move |payload, _| {
            let _kept = &owned;
            noting.note(payload);
        });
        let handler = handler.expect("subscribed");
        let mut inbox = bus.subscribe(TOPIC).on_worker(1).mailbox().expect("subscribed");
        let mut own = bus.publisher().expect("a place");
        let publisher = beside(move || {
            for nth in 0..3 {
                match (Numbered { publisher: 0, nth }).publish(&mut own, TOPIC) {
                    Ok(()) => {}
                    Err(error) => {
                        assert_eq!(error, PublishError::ShuttingDown);
                        return nth;
                    }
                }
            }
            3
        });
        let consumer = beside(move || until_closed(&mut inbox));
        let ending = beside(move || drop(handler));
        let clone = bus.clone();
        let dropping = beside(move || {
            assert_ne!(clone.state(), BusState::Stopped, "it has a handle");
            drop(clone);
        });
        drop(bus);
        let accepted = end(publisher);
        let got = end(consumer);
        end(dropping);
        end(ending);
        assert_eq!(got, (0..accepted).collect::<Vec<_>>(), "the mailbox had a consumer to the end");
        let handled = seen.of(0);
        assert_eq!(handled, (0..handled.len()).collect::<Vec<_>>());
        assert!(handled.len() <= accepted);
        assert_eq!(Arc::strong_count(&watched), 1, "the handler is gone");
        (accepted < 3, got.len())
    });
}

#[test]
fn a_handler_that_holds_the_last_handle_lets_the_bus_end() {
    // Events handled.
    scenario("ends::on_worker", &["slot.ready"], &[1, 2], || {
        let bus = bus(2);
        let seen = Seen::default();
        let noting = seen.clone();
        let mut held = Some(bus.clone());
        let handler = bus.subscribe(TOPIC).on_worker(1).handle(move |payload, _| {
            noting.note(payload);
            // The worker cannot wait for itself, so another thread does.
            drop(held.take());
        });
        handler.expect("subscribed").forever();
        let mut inbox = bus.subscribe(TOPIC).on_worker(0).mailbox().expect("subscribed");
        let mut own = bus.publisher().expect("a place");
        Numbered { publisher: 0, nth: 0 }.publish(&mut own, TOPIC).expect("there is room");
        drop(bus);
        let second = Numbered { publisher: 0, nth: 1 }.publish(&mut own, TOPIC);
        let accepted = 1 + usize::from(second.is_ok());
        for nth in 0..accepted {
            assert_eq!(Numbered::read(inbox.recv().expect("it was accepted").payload()).nth, nth);
        }
        assert_eq!(inbox.recv().err(), Some(RecvError::Closed), "the bus ends");
        assert_eq!(seen.of(0), (0..accepted).collect::<Vec<_>>());
        accepted
    });
}
