//! Events queued for a consumer whose circuit breaker is open, which the worker puts off and brings on to another mailbox, against
//! that consumer, late words, the end of the mailbox, and who reads the books.

use std::sync::Arc;

use loom_tests::attempts::{LATE, NOW, TICK, Worker, handle, mailbox, mailbox_at, number_of, take};
use loom_tests::lanes::LANE;
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Attempts, Returned};
use ringmain::internals::sync::alarm::NEVER;
use ringmain::internals::sync::breaker::{Breaker, BreakerLimits};
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

/// When the breaker of the mailbox half opens, and the worker has what it put off come again.
const HALF_OPEN: u64 = NOW + 2 * TICK;

fn bounds(preemptions: Option<usize>, executions_min: u64) -> Bounds {
    Bounds { preemptions, executions_min }
}

/// A breaker that has just opened.
fn open() -> Arc<Breaker> {
    let breaker = Breaker::new(BreakerLimits {
        failures_max: 1,
        per_mille_max: 1_000,
        events_min: 1_000,
        window_ns: 1 << 30,
        open_ns: HALF_OPEN - NOW,
        probes: 1,
    });
    assert!(breaker.record(NOW, false).is_some());
    Arc::new(breaker)
}

/// The mailbox of another instance, of one cell, with nothing in it.
fn other() -> (Worker, Arc<Attempts>) {
    let (worker, attempts, _lanes) = mailbox(1, 1, false);
    (worker, attempts)
}

/// Which events are queued there, and may be tried for the first time.
fn fresh(attempts: &Arc<Attempts>) -> Vec<u8> {
    let next = || {
        let attempt = take(attempts)?;
        assert_eq!((attempt.takes(), attempt.failures(), attempt.began()), (1, 0, NOW), "nobody has tried it");
        let number = number_of(&attempt);
        assert!(attempt.end(|_| ()));
        Some(number)
    };
    std::iter::from_fn(next).collect()
}

/// The worker still finds the breaker open, and its consumer finds it half open. Sequences start at `first`.
fn probe(name: &str, first: u64, mutants: &[&str]) {
    // What was tried here, and what went on.
    let outcomes = [(1, Some(2)), (2, Some(1)), (1, None)];
    model(name, bounds(Some(2), 300), mutants, &outcomes, move |threads| {
        let (mut worker, attempts, _lanes) = mailbox_at(first, 4, 2, false);
        assert!(worker.feed(None) && worker.feed(None));
        let (mut other, there) = other();
        let breaker = open();
        let (consumer, probing) = (Arc::clone(&attempts), Arc::clone(&breaker));
        let consuming = threads.spawn(move || {
            assert_eq!(probing.admit(HALF_OPEN), Ok(true));
            let (number, counted) = handle(&consumer).expect("one is put off, and another is queued");
            assert!(counted, "what is in hand is put off by nobody");
            probing.record(HALF_OPEN, true);
            number
        });
        let working = threads.spawn(move || {
            let until = breaker.admits_at(NOW);
            if until > NOW && until != NEVER {
                let (put_off, went_on) = worker.bring(&mut other, (NOW, until), true, || ());
                assert_eq!(put_off.is_some(), went_on, "what is put off goes on");
            }
            worker
        });
        let tried = consuming.end();
        let mut worker = working.end();
        let here = fresh(&attempts);
        let there = fresh(&there);
        let mut all = [vec![tried], here, there.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, [1, 2], "each is tried once");
        worker.assert_free(2);
        (tried, there.first().copied())
    });
}

#[test]
fn of_a_probe_and_the_worker_one_gets_an_event() {
    probe("stranded::probe", u64::MAX, &["cells.head", "cells.wrap"]);
}

#[test]
fn of_a_probe_and_the_worker_one_gets_an_event_beyond_32_bits() {
    probe("stranded::probe_u32", u64::from(u32::MAX), &["cells.head"]);
}

#[test]
fn what_goes_on_brings_its_first_attempt_with_it() {
    // Whether it went on while its first consumer gave it back, and whether the second met it then.
    let outcomes = [(false, false), (true, false), (true, true)];
    model("stranded::first_attempt", bounds(Some(3), 300), &["attempts.go_on"], &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(3, 1, false);
        // Another event's first attempt, in the same cell.
        assert!(worker.feed(None));
        assert_eq!(handle(&attempts), Some((1, true)));
        assert!(worker.feed(None));
        let (mut other, there) = other();
        let consumer = Arc::clone(&attempts);
        let returning = threads.spawn(move || {
            let attempt = consumer.take(LANE, NOW + 7, LATE).expect("nobody else takes it");
            assert_eq!(attempt.again(NOW + 7, LATE, true), Returned::Waiting);
        });
        let working = threads.spawn(move || {
            let Some(waits) = worker.attempts.waiting_from(0) else { return (worker, other, false) };
            let went_on = other.bring_waiting(waits, || ());
            assert!(went_on, "nobody else ends it");
            (worker, other, true)
        });
        let meet = |there: &Arc<Attempts>| {
            let attempt = take(there)?;
            assert_eq!((number_of(&attempt), attempt.failures(), attempt.began()), (2, 1, NOW + 7));
            assert_eq!(attempt.takes(), 2, "as if it had failed here");
            assert!(attempt.end(|_| ()));
            Some(())
        };
        let second = Arc::clone(&there);
        let consuming = threads.spawn(move || meet(&second).is_some());
        returning.end();
        let (mut worker, mut other, went_on) = working.end();
        let met = consuming.end();
        if !went_on {
            let waits = worker.attempts.waiting_from(0).expect("it was given back");
            assert!(other.bring_waiting(waits, || ()));
        }
        assert_eq!(meet(&there).is_some(), !met, "it is tried once");
        worker.assert_free(1);
        other.assert_free(1);
        (went_on, met)
    });
}

#[test]
fn what_nobody_takes_comes_back_as_if_it_had_not_been_put_off() {
    let mutants = ["attempts.put_off", "attempts.takes", "attempts.last"];
    // Whether the worker put it off, and whether the second consumer met it.
    let outcomes = [(true, false), (true, true), (false, true)];
    model("stranded::comes_back", bounds(Some(2), 300), &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(3, 1, false);
        let (mut other, _) = other();
        assert!(worker.feed(None));
        let late = take(&attempts).expect("it is queued");
        worker.attend(NOW + TICK);
        worker.attend(NOW + TICK);
        worker.alarm.take();
        let holding = threads.spawn(move || {
            assert_eq!(number_of(&late), 1);
            assert!(!late.end(|_| panic!("it was taken away")));
        });
        let consumer = Arc::clone(&attempts);
        let meet = |attempts: &Arc<Attempts>| {
            let attempt = attempts.take(LANE, HALF_OPEN, LATE)?;
            assert_eq!((number_of(&attempt), attempt.takes(), attempt.failures()), (1, 2, 1));
            assert!(attempt.end(|_| ()), "nobody takes it away");
            Some(())
        };
        let consuming = threads.spawn(move || meet(&consumer).is_some());
        let working = threads.spawn(move || {
            let (put_off, went_on) = worker.bring(&mut other, (NOW + TICK, HALF_OPEN), false, || ());
            assert!(!went_on && put_off.is_none_or(|met| met == Returned::Waiting));
            assert_eq!(put_off.is_some(), worker.alarm.at() <= HALF_OPEN, "it is looked at again");
            worker.attend(HALF_OPEN);
            (worker, put_off.is_some())
        });
        holding.end();
        let met = consuming.end();
        let (mut worker, put_off) = working.end();
        assert_eq!(meet(&attempts).is_some(), !met, "it is tried once");
        worker.assert_free(1);
        (put_off, met)
    });
}

#[test]
fn what_is_put_off_while_its_mailbox_ends_goes_on_or_is_given_up() {
    let mutants = ["attempts.end_waiting", "attempts.hold_waiting", "attempts.last"];
    // Which event went on, and how many its consumer gave up.
    let outcomes = [(Some(1), 0), (Some(1), 1), (Some(2), 0), (Some(2), 1), (None, 2)];
    model("stranded::ended", bounds(Some(2), 500), &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(4, 2, false);
        assert!(worker.feed(None) && worker.feed(None));
        let (mut other, there) = other();
        let first = attempts.take(LANE, NOW, LATE).expect("it is queued");
        let consumer = Arc::clone(&attempts);
        let returning = threads.spawn(move || {
            let mut given_up = Vec::new();
            if first.again(NOW, LATE, false) == Returned::Closed {
                consumer.discard_returned(|attempt| given_up.push(number_of(attempt)));
            }
            given_up
        });
        let control = Arc::clone(&attempts);
        let closing = threads.spawn(move || {
            control.custody().close();
            control.custody().abandon();
        });
        let working = threads.spawn(move || {
            let (put_off, went_on) = worker.bring(&mut other, (NOW, HALF_OPEN), true, || ());
            assert!(put_off.is_some_and(|met| met != Returned::Late), "nobody else takes from the queue");
            (worker, went_on)
        });
        let given_up = returning.end();
        closing.end();
        let (mut worker, went_on) = working.end();
        // The worker has a table without the mailbox now, and nobody waits any more.
        let mut left = Vec::new();
        attempts.discard_waiting(|attempt| left.push(number_of(attempt)));
        let there: Vec<_> = std::iter::from_fn(|| handle(&there)).map(|(number, _)| number).collect();
        assert_eq!(there.len(), usize::from(went_on));
        let mut all = [given_up.clone(), left, there.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, [1, 2], "each is booked once");
        worker.assert_free(2);
        (there.first().copied(), given_up.len())
    });
}

#[test]
fn what_goes_on_is_in_one_of_the_books() {
    let mutants = ["transit.count", "transit.end", "custody.settle", "custody.settled", "cells.lane_over"];
    // Whether the books of its first mailbox, and a flush, had it over.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    model("stranded::books", bounds(Some(3), 200), &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(1, 1, false);
        assert!(worker.feed(None));
        let (mut other, there) = other();
        let booked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&booked);
        let working = threads.spawn(move || {
            // Relaxed: who finds the event gone must find this with it.
            worker.bring(&mut other, (NOW, HALF_OPEN), true, || count.store(1, Ordering::Relaxed))
        });
        let reading = threads.spawn(move || {
            // Relaxed: what was read before must have made it visible.
            let is_there = || booked.load(Ordering::Relaxed) == 1 && there.open().queued == 1;
            let open = attempts.open();
            let none = open.queued + open.in_hand + open.waiting == 0;
            assert!(!none || is_there(), "an event is in no book");
            let is_over = attempts.custody().cells().is_over();
            assert!(!is_over || is_there(), "it was over here before it was there");
            (none, is_over)
        });
        assert_eq!(working.end(), (Some(Returned::Waiting), true));
        reading.end()
    });
}

#[test]
fn a_worker_hears_of_room_for_what_it_has_put_off() {
    let mutants = ["attempts.room", "barrier.light", "barrier.heavy"];
    // Whether it slept.
    model("stranded::room", bounds(None, 50), &mutants, &[false, true], |threads| {
        let (mut worker, _attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let (mut other, there) = other();
        assert!(other.feed(None));
        let held = there.take(LANE, NOW, LATE).expect("it is queued");
        let ending = threads.spawn(move || assert!(held.end(|_| ())));
        let working = threads.spawn(move || {
            other.parker.enter(0);
            let slept = other.wait_for_room();
            assert!(worker.bring(&mut other, (NOW, HALF_OPEN), true, || ()).1, "it has room");
            (worker, slept)
        });
        ending.end();
        let (mut worker, slept) = working.end();
        assert_eq!(fresh(&there), [1]);
        worker.assert_free(1);
        slept
    });
}
