//! Wakers left in a cell, behind a bell and at the gate: who looked too early is woken.
//!
//! A waiter registers and then looks. Either it sees what it waits for, or the waker it left last was woken; a model
//! fails when neither is so. Wake-ups are counted and nobody sleeps, because loom's `unpark` orders too much.

use std::sync::Arc;

use loom_tests::watch::Wakes;
use loom_tests::{Bounds, Join, asleep, model};
use ringmain::internals::ring::Gate;
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::bell::Bell;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering, thread};
use ringmain::internals::sync::waker::{WakerCell, of_this_thread};

/// What a waiter waits for.
fn look(flag: &AtomicU64) -> bool {
    // Relaxed: what is tested must make it visible.
    flag.load(Ordering::Relaxed) != 0
}

fn raise(flag: &AtomicU64) {
    // Relaxed: as in `look`.
    flag.store(1, Ordering::Relaxed);
}

/// How a waiter got on, whose last waker was woken `wakes` times after `register`.
fn told(saw: bool, wakes: &Wakes) -> &'static str {
    match (saw, wakes.count()) {
        (false, 0) => "missed",
        (true, 0) => "saw",
        (false, _) => "woken",
        (true, _) => "both",
    }
}

#[test]
fn a_registration_sees_the_wake_up_or_gets_it() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["waker.wake", "waker.show"];
    model("waker::one_wake", bounds, &mutants, &["saw", "woken", "both"], |threads| {
        let cell = Arc::new(WakerCell::new());
        let flag = Arc::new(AtomicU64::new(0));
        let (wakes, waker) = Wakes::new();
        let (waiting_at, seen) = (Arc::clone(&cell), Arc::clone(&flag));
        let waiting = threads.spawn(move || {
            waiting_at.register(&waker);
            look(&seen)
        });
        let waking = threads.spawn(move || {
            raise(&flag);
            cell.wake();
        });
        waking.end();
        told(waiting.end(), &wakes)
    });
}

#[test]
fn a_registration_misses_neither_of_two_wake_ups() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["waker.met", "waker.busy", "waker.hand"];
    let outcomes = ["saw", "woken", "both"];
    model("waker::two_wakes", bounds, &mutants, &outcomes, |threads| {
        let cell = Arc::new(WakerCell::new());
        let flags = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
        let (waiting_at, seen) = (Arc::clone(&cell), flags.clone());
        let waiting = threads.spawn(move || {
            // As a task does that is polled twice: the second waker takes the first one's place.
            let mut last = None;
            for _ in 0..2 {
                let (wakes, waker) = Wakes::new();
                waiting_at.register(&waker);
                let saw = seen.iter().all(|flag| look(flag));
                last = Some((wakes, saw));
            }
            last.expect("two rounds were run")
        });
        let waking = flags.map(|flag| {
            let cell = Arc::clone(&cell);
            threads.spawn(move || {
                raise(&flag);
                cell.wake();
            })
        });
        for waker in waking {
            waker.end();
        }
        let (wakes, saw) = waiting.end();
        told(saw, &wakes)
    });
}

#[test]
fn a_thread_sleeps_by_its_waker() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["waker.wake", "waker.show"];
    // Whether it slept; a lost wake-up would leave it asleep.
    model("waker::thread", bounds, &mutants, &[false, true], |threads| {
        let cell = Arc::new(WakerCell::new());
        let flag = Arc::new(AtomicU64::new(0));
        let (waiting_at, seen) = (Arc::clone(&cell), Arc::clone(&flag));
        let waiting = threads.spawn(move || {
            let waker = of_this_thread();
            let mut slept = false;
            waiting_at.register(&waker);
            while !look(&seen) {
                asleep(thread::park);
                slept = true;
                waiting_at.register(&waker);
            }
            slept
        });
        let waking = threads.spawn(move || {
            raise(&flag);
            cell.wake();
        });
        waking.end();
        waiting.end()
    });
}

#[test]
fn a_bell_is_heard_or_its_cause_seen() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["barrier.light", "barrier.heavy"];
    model("bell::one_ring", bounds, &mutants, &["saw", "woken", "both"], |threads| {
        let bell = Arc::new(Bell::new(Barrier::fences()));
        let flag = Arc::new(AtomicU64::new(0));
        let (wakes, waker) = Wakes::new();
        let (waiting_at, seen) = (Arc::clone(&bell), Arc::clone(&flag));
        let waiting = threads.spawn(move || {
            waiting_at.wait(&waker);
            look(&seen)
        });
        let ringing = threads.spawn(move || {
            raise(&flag);
            bell.ring();
        });
        ringing.end();
        told(waiting.end(), &wakes)
    });
}

#[test]
fn a_bell_rung_by_two_is_heard_by_who_waits_again() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["barrier.light", "barrier.heavy", "waker.busy"];
    model("bell::two_rings", bounds, &mutants, &["saw", "woken", "both"], |threads| {
        let bell = Arc::new(Bell::new(Barrier::fences()));
        let flags = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
        let (waiting_at, seen) = (Arc::clone(&bell), flags.clone());
        let waiting = threads.spawn(move || {
            let mut last = None;
            for _ in 0..2 {
                let (wakes, waker) = Wakes::new();
                waiting_at.wait(&waker);
                let saw = seen.iter().all(|flag| look(flag));
                last = Some((wakes, saw));
            }
            last.expect("two rounds were run")
        });
        let ringing = flags.map(|flag| {
            let bell = Arc::clone(&bell);
            threads.spawn(move || {
                raise(&flag);
                bell.ring();
            })
        });
        for ringer in ringing {
            ringer.end();
        }
        let (wakes, saw) = waiting.end();
        told(saw, &wakes)
    });
}

#[test]
fn an_open_gate_lets_every_waiting_publisher_on() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["gate.open_all", "barrier.light", "barrier.heavy"];
    let told_both = ["saw", "woken", "both"];
    let outcomes: Vec<_> = told_both.into_iter().flat_map(|one| told_both.map(|other| (one, other))).collect();
    model("gate::two_publishers", bounds, &mutants, &outcomes, |threads| {
        let gate = Arc::new(Gate::new(2, Barrier::fences()));
        let room = Arc::new(AtomicU64::new(0));
        let waiting = [0, 1].map(|publisher| {
            let (gate, room) = (Arc::clone(&gate), Arc::clone(&room));
            threads.spawn(move || {
                let (wakes, waker) = Wakes::new();
                gate.wait(publisher, &waker);
                (look(&room), wakes)
            })
        });
        let opening = threads.spawn(move || {
            raise(&room);
            gate.open();
        });
        opening.end();
        let [one, other] = waiting.map(Join::end).map(|(saw, wakes)| told(saw, &wakes));
        (one, other)
    });
}

#[test]
fn a_publisher_that_left_the_gate_takes_nobodys_wake_up() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 300 };
    let mutants = ["gate.leave"];
    model("gate::leave", bounds, &mutants, &["saw", "woken", "both"], |threads| {
        let gate = Arc::new(Gate::new(2, Barrier::fences()));
        let room = Arc::new(AtomicU64::new(0));
        let (left, for_waiting) = (Arc::clone(&gate), Arc::clone(&gate));
        let leaving = threads.spawn(move || {
            let (_, waker) = Wakes::new();
            left.wait(0, &waker);
            left.leave(0);
        });
        let seen = Arc::clone(&room);
        let waiting = threads.spawn(move || {
            let (wakes, waker) = Wakes::new();
            for_waiting.wait(1, &waker);
            (look(&seen), wakes)
        });
        let opening = threads.spawn(move || {
            raise(&room);
            gate.open();
        });
        leaving.end();
        opening.end();
        let (saw, wakes) = waiting.end();
        told(saw, &wakes)
    });
}
