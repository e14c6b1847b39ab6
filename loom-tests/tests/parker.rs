//! Sleeping workers: a wake-up is never lost. A lost one leaves a thread [`asleep`].
//!
//! `Barrier::fences()` stands for `membarrier` too: there the light side is a compiler fence and the heavy side makes
//! the other threads' processors fence, which loom cannot express.

use std::sync::Arc;

use loom_tests::{Bounds, asleep, model};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::parker::Parker;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

/// What workers look for: a number of events.
fn look(events: &AtomicU64) -> u64 {
    // Relaxed: the parker alone must make it visible.
    events.load(Ordering::Relaxed)
}

fn publish(events: &AtomicU64, parker: &Parker, workers: u64) {
    // Relaxed: as in `look`.
    events.fetch_add(1, Ordering::Relaxed);
    parker.wake(workers);
}

/// Sleeps until there are `wanted` events. Returns how often it slept.
fn wait_for(wanted: u64, events: &AtomicU64, parker: &Parker, worker: usize) -> usize {
    let mut slept = 0;
    while look(events) < wanted {
        parker.prepare(worker);
        if look(events) < wanted {
            asleep(|| parker.park(worker, None));
            slept += 1;
        } else {
            parker.cancel(worker);
        }
    }
    slept
}

#[test]
fn an_event_is_seen_before_the_sleep_or_ends_it() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["barrier.light", "barrier.heavy"];
    // How often the worker slept.
    model("parker::one_waker", bounds, &mutants, &[0, 1], |threads| {
        let parker = Arc::new(Parker::new(1, Barrier::fences()));
        let events = Arc::new(AtomicU64::new(0));
        let (for_worker, seen) = (Arc::clone(&parker), Arc::clone(&events));
        let working = threads.spawn(move || {
            for_worker.enter(0);
            wait_for(1, &seen, &for_worker, 0)
        });
        threads.spawn(move || publish(&events, &parker, 1)).end();
        working.end()
    });
}

#[test]
fn two_wakers_leave_nothing_unseen() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["barrier.light", "barrier.heavy"];
    model("parker::two_wakers", bounds, &mutants, &[0, 1, 2], |threads| {
        let parker = Arc::new(Parker::new(1, Barrier::fences()));
        let events = Arc::new(AtomicU64::new(0));
        let (for_worker, seen) = (Arc::clone(&parker), Arc::clone(&events));
        let working = threads.spawn(move || {
            for_worker.enter(0);
            wait_for(2, &seen, &for_worker, 0)
        });
        let publishing = [(); 2].map(|()| {
            let (parker, events) = (Arc::clone(&parker), Arc::clone(&events));
            threads.spawn(move || publish(&events, &parker, 1))
        });
        for publisher in publishing {
            publisher.end();
        }
        working.end()
    });
}

#[test]
fn a_wake_up_that_met_a_cancelled_sleep_does_not_spoil_the_next() {
    let bounds = Bounds { preemptions: None, executions_min: 100 };
    let mutants = ["barrier.light", "barrier.heavy"];
    // How often the worker slept for the first event, and for the second: the first wake-up may come late and end the
    // second sleep, which then is taken up again.
    let outcomes = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)];
    model("parker::cancelled", bounds, &mutants, &outcomes, |threads| {
        let parker = Arc::new(Parker::new(1, Barrier::fences()));
        let events = Arc::new(AtomicU64::new(0));
        let (for_worker, seen) = (Arc::clone(&parker), Arc::clone(&events));
        let working = threads.spawn(move || {
            for_worker.enter(0);
            let first = wait_for(1, &seen, &for_worker, 0);
            (first, wait_for(2, &seen, &for_worker, 0))
        });
        let publishing = threads.spawn(move || {
            publish(&events, &parker, 1);
            publish(&events, &parker, 1);
        });
        publishing.end();
        working.end()
    });
}

#[test]
fn a_wake_up_reaches_those_it_names_and_nobody_else() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 100 };
    let mutants = ["parker.named"];
    // How often each of two workers slept; the first one's event is published last.
    let outcomes = [(0, 0), (0, 1), (1, 0), (1, 1)];
    model("parker::named_workers", bounds, &mutants, &outcomes, |threads| {
        let parker = Arc::new(Parker::new(2, Barrier::fences()));
        let events = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
        let working = [0, 1].map(|worker| {
            let (parker, events) = (Arc::clone(&parker), Arc::clone(&events[worker]));
            threads.spawn(move || {
                parker.enter(worker);
                wait_for(1, &events, &parker, worker)
            })
        });
        let publishing = threads.spawn(move || {
            publish(&events[1], &parker, 0b10);
            publish(&events[0], &parker, 0b01);
        });
        publishing.end();
        let [first, second] = working.map(loom_tests::Join::end);
        (first, second)
    });
}

#[test]
fn one_wake_up_reaches_all_it_names() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 100 };
    let mutants = ["parker.all"];
    // How often each of two workers slept.
    let outcomes = [(0, 0), (0, 1), (1, 0), (1, 1)];
    model("parker::one_for_two", bounds, &mutants, &outcomes, |threads| {
        let parker = Arc::new(Parker::new(2, Barrier::fences()));
        let events = Arc::new(AtomicU64::new(0));
        let working = [0, 1].map(|worker| {
            let (parker, events) = (Arc::clone(&parker), Arc::clone(&events));
            threads.spawn(move || {
                parker.enter(worker);
                wait_for(1, &events, &parker, worker)
            })
        });
        threads.spawn(move || publish(&events, &parker, 0b11)).end();
        let [first, second] = working.map(loom_tests::Join::end);
        (first, second)
    });
}
