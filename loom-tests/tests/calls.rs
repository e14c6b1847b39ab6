//! Unsubscribing against a consumer's calls of the handler: when it is over, no call begins and none goes on.

use std::sync::{Arc, Mutex};

use loom_tests::watch::{Drops, Watched};
use loom_tests::{Bounds, model};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::calls::{Calls, State, is_calling};

/// A handler, until its subscription has ended. std's lock orders nothing under loom: the calls alone must.
type Handler = Arc<Mutex<Option<Watched>>>;

/// Calls the handler, if that is still allowed.
fn call(calls: &Calls, handler: &Handler) -> bool {
    let Some(_calling) = calls.begin(Barrier::fences()) else { return false };
    assert!(is_calling() && calls.is_here());
    handler.lock().expect("nobody panicked").as_ref().expect("a call after the end").number();
    true
}

/// Ends the subscription. Returns whether it is over within a few looks.
fn unsubscribe(calls: &Calls) -> bool {
    calls.set_state(State::Closed);
    calls.forbid(Barrier::fences());
    (0..2).any(|_| !calls.is_elsewhere())
}

fn subscription() -> (Arc<Calls>, Handler, Drops) {
    let drops = Drops::of(1);
    (Arc::new(Calls::new()), Arc::new(Mutex::new(Some(drops.value(0)))), drops)
}

#[test]
fn no_call_begins_after_unsubscribing() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["barrier.light", "barrier.heavy", "calls.end", "calls.look"];
    // Calls of two, and whether unsubscribing came to its end, and the handler was dropped.
    let outcomes = [(0, true), (1, false), (1, true), (2, false), (2, true), (0, false)];
    model("calls::unsubscribe", bounds, &mutants, &outcomes, |threads| {
        let (calls, handler, drops) = subscription();
        let (consumer, called) = (Arc::clone(&calls), Arc::clone(&handler));
        let consuming = threads.spawn(move || (0..2).take_while(|_| call(&consumer, &called)).count());
        let unsubscribing = threads.spawn(move || {
            let over = unsubscribe(&calls);
            if over {
                drop(handler.lock().expect("nobody panicked").take());
            }
            (over, handler)
        });
        let count = consuming.end();
        let (over, handler) = unsubscribing.end();
        assert_eq!(drops.of_value(0), usize::from(over));
        drop(handler);
        assert!(drops.all_once());
        (count, over)
    });
}

#[test]
fn a_handler_that_unsubscribes_itself_does_not_wait_for_itself() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["calls.own", "calls.outer", "calls.end", "calls.look"];
    // Whether the first call came about, and whether somebody else, who unsubscribes too, met the end of it.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    model("calls::unsubscribes_itself", bounds, &mutants, &outcomes, |threads| {
        let (calls, handler, drops) = subscription();
        let (consumer, called) = (Arc::clone(&calls), Arc::clone(&handler));
        let consuming = threads.spawn(move || {
            let inner = Calls::new();
            let has_called = consumer.begin(Barrier::fences()).is_some_and(|_calling| {
                // A call in the call, of another subscription's handler.
                drop(inner.begin(Barrier::fences()));
                assert!(unsubscribe(&consumer), "it waits for itself");
                called.lock().expect("nobody panicked").as_ref().expect("a call after the end").number();
                true
            });
            assert!(!is_calling());
            assert!(!call(&consumer, &called), "a call after the end");
            has_called
        });
        let unsubscribing = threads.spawn(move || {
            let over = unsubscribe(&calls);
            if over {
                drop(handler.lock().expect("nobody panicked").take());
            }
            (over, handler)
        });
        let has_called = consuming.end();
        let (over, handler) = unsubscribing.end();
        drop(handler);
        assert!(drops.all_once());
        (has_called, over)
    });
}

#[test]
fn a_subscription_that_has_ended_is_not_resumed() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 10 };
    let mutants = ["calls.closed"];
    // Calls beside a pause, a resumption and the end.
    model("calls::resume", bounds, &mutants, &[false, true], |threads| {
        let (calls, handler, drops) = subscription();
        let pausing = Arc::clone(&calls);
        let resuming = threads.spawn(move || {
            pausing.set_state(State::Paused);
            pausing.set_state(State::Active);
        });
        let ending = Arc::clone(&calls);
        let closing = threads.spawn(move || ending.set_state(State::Closed));
        let (consumer, called) = (Arc::clone(&calls), Arc::clone(&handler));
        let consuming = threads.spawn(move || call(&consumer, &called));
        resuming.end();
        closing.end();
        let has_called = consuming.end();
        assert_eq!(calls.state(), State::Closed);
        drop(handler);
        assert!(drops.all_once());
        has_called
    });
}
