//! A worker that ends an event which waits for its time, against the end of its mailbox, late words, and who reads the books.

use std::sync::Arc;

use loom_tests::attempts::{LATE, NOW, TICK, Worker, mailbox, number_of, take};
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Attempts, Overdue, Returned};
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

fn bounds(executions_min: u64) -> Bounds {
    Bounds { preemptions: None, executions_min }
}

/// A mailbox of one cell, whose event the worker has given back, to come again late.
fn waiting(events: u8) -> (Worker, Arc<Attempts>) {
    let (mut worker, attempts, _lanes) = mailbox(events, 1, false);
    assert!(worker.feed(None));
    let attempt = take(&attempts).expect("it is queued");
    assert_eq!(attempt.again(NOW, LATE, false), Returned::Waiting);
    (worker, attempts)
}

/// Worker: ends what waits, if it still does; `booked` hears of it first. Whether it did.
fn end_waiting(attempts: &Arc<Attempts>, booked: impl FnOnce()) -> bool {
    let Some(waits) = attempts.waiting_from(0) else { return false };
    assert_eq!(number_of(&waits), 1);
    let mut told = false;
    let ended = waits.end_waiting(|waits| {
        assert_eq!(number_of(waits), 1);
        told = true;
        booked();
    });
    assert_eq!(ended, told, "it is booked by who ends it");
    ended
}

/// Ends the mailbox. How many events it has booked.
fn close(attempts: &Arc<Attempts>) -> usize {
    let mut booked = 0;
    attempts.custody().close();
    attempts.discard_waiting(|attempt| {
        assert_eq!(number_of(attempt), 1);
        booked += 1;
    });
    booked
}

#[test]
fn what_waits_is_ended_by_the_worker_or_with_its_mailbox() {
    let mutants = ["attempts.end_waiting", "attempts.hold_waiting", "attempts.last"];
    // Whether the worker ended it.
    model("waiting::close", bounds(100), &mutants, &[false, true], |threads| {
        let (mut worker, attempts) = waiting(2);
        let working = threads.spawn(move || {
            let ended = end_waiting(&worker.attempts, || ());
            // Whoever ended it, its cell may be free.
            let fed = worker.feed(None);
            (worker, ended, fed)
        });
        let closing = {
            let attempts = Arc::clone(&attempts);
            threads.spawn(move || close(&attempts))
        };
        let (mut worker, ended, fed) = working.end();
        assert_eq!(usize::from(ended) + closing.end(), 1, "it is booked once");
        if fed {
            assert!(take(&attempts).expect("it is queued").end(|_| ()));
        } else {
            worker.assert_free(1);
        }
        ended
    });
}

#[test]
fn a_worker_that_only_looks_at_what_waits_leaves_it_as_it_was() {
    // Whether the worker came to look.
    model("waiting::look", bounds(30), &["attempts.hold_waiting", "attempts.last"], &[false, true], |threads| {
        let (worker, attempts) = waiting(2);
        let looking = threads.spawn(move || {
            let waits = worker.attempts.waiting_from(0).map(|waits| number_of(&waits));
            (worker, waits.is_some())
        });
        let closing = {
            let attempts = Arc::clone(&attempts);
            threads.spawn(move || close(&attempts))
        };
        let (mut worker, looked) = looking.end();
        assert_eq!(closing.end(), 1, "it is booked once");
        worker.assert_free(1);
        looked
    });
}

#[test]
fn late_words_change_nothing_about_what_waits_and_is_ended() {
    let mutants = ["attempts.last", "attempts.leave"];
    // Whether the worker could fill the cell again at once.
    model("waiting::late", bounds(50), &mutants, &[false, true], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(3, 1, false);
        assert!(worker.feed(None));
        let late = take(&attempts).expect("it is queued");
        worker.attend_by(NOW + TICK, Overdue::Again(LATE), |_| panic!("nothing is over"));
        let holding = threads.spawn(move || {
            assert_eq!(number_of(&late), 1);
            assert!(!late.is_current() && !late.extend(NOW, LATE), "it was taken away");
            assert!(!late.end(|_| panic!("it was taken away")));
        });
        let working = threads.spawn(move || {
            assert!(end_waiting(&worker.attempts, || ()), "nobody else gives it up");
            let fed = worker.feed(None);
            (worker, fed)
        });
        holding.end();
        let (mut worker, fed) = working.end();
        if fed {
            assert!(!worker.feed(None), "a cell is free and in use");
            let next = take(&attempts).expect("it is queued");
            assert_eq!((number_of(&next), next.takes()), (2, 1));
            assert!(next.end(|_| ()));
        }
        worker.assert_free(1);
        fed
    });
}

#[test]
fn what_waited_and_was_ended_is_booked_before_it_is_over() {
    let mutants = ["transit.count", "transit.end", "cells.lane_over"];
    // Whether the books, and a flush, had it over.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    model("waiting::books", bounds(30), &mutants, &outcomes, |threads| {
        let (worker, attempts) = waiting(1);
        let booked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&booked);
        // Relaxed: who finds the event over must find this with it.
        let working = threads.spawn(move || end_waiting(&worker.attempts, || count.store(1, Ordering::Relaxed)));
        let reading = threads.spawn(move || {
            // Relaxed: what was read before must have made it visible.
            let is_booked = || booked.load(Ordering::Relaxed) == 1;
            let open = attempts.open();
            let none = open.queued + open.in_hand + open.waiting == 0;
            assert!(!none || is_booked(), "an event is in no book");
            let is_over = attempts.custody().cells().is_over();
            assert!(!is_over || is_booked(), "it was over before it was booked");
            (none, is_over)
        });
        assert!(working.end());
        reading.end()
    });
}
