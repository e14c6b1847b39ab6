//! Attempts at events: whose word counts, when an event comes back, who frees its cell, and that none is left behind.

use std::sync::Arc;

use loom_tests::attempts::{LATE, NOW, TICK, handle, mailbox, number_of, take};
use loom_tests::lanes::LANE;
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Attempt, Attempts, Overdue, Returned};
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

#[test]
fn an_acknowledgement_counts_or_the_event_comes_again() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 500 };
    let mutants = ["attempts.last", "attempts.leave", "attempts.takes"];
    // Whether the first word counted, what the second consumer met, and whether the worker could fill the cell again.
    let outcomes = [
        (true, None, false),
        (true, None, true),
        (true, Some(2), true),
        (false, None, false),
        (false, Some(1), false),
        (false, Some(1), true),
    ];
    model("attempts::timeout", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(3, 1, false);
        assert!(worker.feed(None));
        let first = take(&attempts).expect("it is queued");
        let holding = threads.spawn(move || {
            // Whether its time is over or not.
            assert_eq!(number_of(&first), 1);
            first.end(|first| assert_eq!(number_of(first), 1))
        });
        let consumer = Arc::clone(&attempts);
        let consuming = threads.spawn(move || handle(&consumer));
        let working = threads.spawn(move || {
            // Takes the event away, and queues it.
            worker.attend(NOW + TICK);
            worker.attend(NOW + TICK);
            let fed = worker.feed(None);
            (worker, fed)
        });
        let counted = holding.end();
        let met = consuming.end();
        let (mut worker, fed) = working.end();
        assert!(met.is_none_or(|(_, counted)| counted), "the second attempt was in time");
        let left: Vec<_> = std::iter::from_fn(|| handle(&attempts)).collect();
        let all: Vec<_> = [(1, counted)].into_iter().chain(met).chain(left).filter(|(_, counted)| *counted).collect();
        let all: Vec<_> = all.into_iter().map(|(number, _)| number).collect();
        assert_eq!(all, [1, 2][..1 + usize::from(fed)], "each counts once");
        if !fed {
            assert!(worker.feed(None));
            handle(&attempts);
        }
        worker.assert_free(1);
        (counted, met.map(|(number, _)| number), fed)
    });
}

#[test]
fn of_an_acknowledgement_and_the_last_timeout_one_is_booked() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["attempts.last", "attempts.began", "attempts.attend"];
    // Whether the word counted.
    model("attempts::last_timeout", bounds, &mutants, &[false, true], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(4, 2, false);
        // The worker is to look for the sake of one that is over.
        assert!(worker.feed(None) && take(&attempts).is_some_and(|early| early.end(|_| ())));
        assert!(worker.feed(None));
        let consumer = Arc::clone(&attempts);
        let holding = threads.spawn(move || {
            let attempt = consumer.take(LANE, NOW + 7, NOW + 8).expect("it is queued");
            assert_eq!(number_of(&attempt), 2);
            let mut booked = false;
            (attempt.end(|_| booked = true), booked)
        });
        let working = threads.spawn(move || {
            let mut booked = 0;
            // One look may come before the event is taken, and one after.
            for _ in 0..2 {
                worker.attend_by(NOW + TICK, Overdue::Over, |attempt| {
                    assert_eq!((number_of(attempt), attempt.failures(), attempt.began()), (2, 1, NOW + 7));
                    booked += 1;
                });
            }
            (worker, booked)
        });
        let (counted, told) = holding.end();
        let (mut worker, booked) = working.end();
        assert_eq!(counted, told);
        assert_eq!(booked, usize::from(!counted), "one of them books it");
        worker.assert_free(2);
        counted
    });
}

#[test]
fn a_late_holder_and_the_next_attempt_free_the_cell_once() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["attempts.last", "attempts.leave"];
    // Whether the worker could fill the cell again meanwhile.
    model("attempts::late_drop", bounds, &mutants, &[false, true], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(3, 1, false);
        assert!(worker.feed(None));
        let late = take(&attempts).expect("it is queued");
        worker.attend(NOW + TICK);
        worker.attend(NOW + TICK);
        let current = attempts.take(LANE, NOW + TICK, LATE).expect("it has come again");
        assert!(!late.is_current() && current.is_current());
        let leaving = threads.spawn(move || {
            assert_eq!(number_of(&late), 1);
            drop(late);
        });
        let ending = threads.spawn(move || {
            assert_eq!((number_of(&current), current.failures()), (1, 1));
            assert!(current.end(|_| ()), "nobody took it away");
        });
        let working = threads.spawn(move || {
            let fed = worker.feed(None);
            (worker, fed)
        });
        leaving.end();
        ending.end();
        let (mut worker, fed) = working.end();
        if fed {
            assert!(!worker.feed(None), "a cell is free and in use");
            assert_eq!(handle(&attempts), Some((2, true)));
        }
        worker.assert_free(1);
        fed
    });
}

#[test]
fn a_worker_in_want_of_a_cell_hears_when_the_last_holder_leaves() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["attempts.room", "barrier.light", "barrier.heavy"];
    // Whether it slept.
    model("attempts::starved", bounds, &mutants, &[false, true], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(3, 1, false);
        assert!(worker.feed(None));
        let late = take(&attempts).expect("it is queued");
        worker.attend(NOW + TICK);
        worker.attend(NOW + TICK);
        let current = attempts.take(LANE, NOW + TICK, LATE).expect("it has come again");
        let leaving = threads.spawn(move || drop(late));
        let ending = threads.spawn(move || assert!(current.end(|_| ()), "nobody took it away"));
        let working = threads.spawn(move || {
            worker.parker.enter(0);
            let slept = worker.feed_or_sleep();
            (worker, slept)
        });
        leaving.end();
        ending.end();
        let (mut worker, slept) = working.end();
        assert_eq!(handle(&attempts), Some((2, true)));
        worker.assert_free(1);
        slept
    });
}

#[test]
fn an_attempt_that_was_extended_counts_until_its_new_end() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["attempts.extend", "attempts.takes", "attempts.wheel"];
    // Whether the attempt was extended, and whether the second consumer met the event.
    let outcomes = [(true, false), (false, false), (false, true)];
    model("attempts::extend", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(3, 2, false);
        assert!(worker.feed(None));
        let first = take(&attempts).expect("it is queued");
        let holding = threads.spawn(move || {
            let extended = first.extend(NOW, NOW + 2 * TICK);
            assert_eq!(first.end(|_| ()), extended, "its time is as long as it was told");
            extended
        });
        let consumer = Arc::clone(&attempts);
        let consuming = threads.spawn(move || handle(&consumer));
        let working = threads.spawn(move || {
            for _ in 0..2 {
                assert!(worker.attend(NOW + TICK) > NOW + TICK, "what is due is behind it");
            }
            worker
        });
        let extended = holding.end();
        let met = consuming.end();
        let mut worker = working.end();
        let left = handle(&attempts);
        assert_eq!(met.or(left), (!extended).then_some((1, true)), "it counts once");
        worker.assert_free(2);
        (extended, met.is_some())
    });
}

#[test]
fn a_worker_does_not_sleep_through_what_is_to_come_again() {
    let bounds = Bounds { preemptions: None, executions_min: 100 };
    let mutants = [
        "alarm.take",
        "alarm.resume",
        "barrier.light",
        "barrier.heavy",
        "attempts.attend",
        "attempts.due",
        "attempts.due_taken",
    ];
    // Whether the worker slept.
    model("attempts::again", bounds, &mutants, &[false, true], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let attempt = attempts.take(LANE, NOW, NOW).expect("it is queued");
        // The worker is about to look.
        assert!(attempt.extend(NOW, LATE));
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let returning = threads.spawn(move || {
            // Relaxed: that the event comes again must make it visible.
            count.store(1, Ordering::Relaxed);
            assert_eq!(attempt.again(NOW, NOW, true), Returned::Waiting);
        });
        let working = threads.spawn(move || {
            worker.parker.enter(0);
            let slept = worker.attend_or_sleep(NOW);
            // Relaxed: the event must have made it visible.
            assert_eq!(handled.load(Ordering::Relaxed), 1, "the second attempt knows nothing of the first");
            (worker, slept)
        });
        returning.end();
        let (mut worker, slept) = working.end();
        assert_eq!(handle(&attempts), Some((1, true)));
        worker.assert_free(1);
        slept
    });
}

/// A consumer that has the event from when `take` says, and drops it without a word: it comes again.
fn timed_out(name: &str, mutant: &str, take: impl Fn(&Arc<Attempts>) -> Attempt + Copy + Send + Sync + 'static) {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = [mutant, "barrier.light", "barrier.heavy"];
    // Whether the worker slept.
    model(name, bounds, &mutants, &[false, true], move |threads| {
        let (mut worker, attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let consumer = Arc::clone(&attempts);
        let taking = threads.spawn(move || drop(take(&consumer)));
        let working = threads.spawn(move || {
            worker.parker.enter(0);
            let slept = worker.attend_until(NOW, |worker| worker.attempts.overdue() == 1);
            (worker, slept)
        });
        taking.end();
        let (mut worker, slept) = working.end();
        worker.attend(NOW);
        assert_eq!(handle(&attempts), Some((1, true)));
        worker.assert_free(1);
        slept
    });
}

#[test]
fn a_worker_does_not_sleep_through_the_end_of_an_attempt() {
    timed_out("attempts::end", "attempts.timeout", |attempts| attempts.take(LANE, NOW, NOW).expect("it is queued"));
}

#[test]
fn a_worker_does_not_sleep_through_an_end_that_was_moved_forward() {
    timed_out("attempts::shorten", "attempts.shorten", |attempts| {
        let attempt = attempts.take(LANE, NOW, LATE).expect("it is queued");
        assert!(attempt.extend(NOW, NOW));
        attempt
    });
}

#[test]
fn what_is_given_back_while_its_mailbox_closes_is_discarded_once() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["attempts.closed", "attempts.discard", "barrier.light", "barrier.heavy", "attempts.exchange"];
    // Who discarded it.
    model("attempts::close", bounds, &mutants, &["closer", "consumer"], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let attempt = attempts.take(LANE, NOW, LATE).expect("it is queued");
        let handled = Arc::new(AtomicU64::new(0));
        let discard = |attempt: &Attempt, handled: &AtomicU64| {
            assert_eq!((number_of(attempt), attempt.failures()), (1, 1));
            // Relaxed: the event must have made it visible.
            assert_eq!(handled.load(Ordering::Relaxed), 1, "who discards it knows nothing of its attempt");
        };
        let (consumer, count) = (Arc::clone(&attempts), Arc::clone(&handled));
        let returning = threads.spawn(move || {
            // Relaxed: the event must make it visible.
            count.store(1, Ordering::Relaxed);
            let mut discarded = 0;
            if attempt.again(NOW, NOW, true) == Returned::Closed {
                consumer.discard_returned(|attempt| {
                    discard(attempt, &count);
                    discarded += 1;
                });
            }
            discarded
        });
        let control = Arc::clone(&attempts);
        let closing = threads.spawn(move || {
            let mut discarded = 0;
            control.custody().close();
            control.discard_waiting(|attempt| {
                discard(attempt, &handled);
                discarded += 1;
            });
            discarded
        });
        let by_consumer = returning.end();
        let by_closer = closing.end();
        assert_eq!(by_consumer + by_closer, 1, "it was left waiting, or booked twice");
        worker.assert_free(1);
        if by_closer == 1 { "closer" } else { "consumer" }
    });
}

/// Gives the event back, and ends it if it has come again by then: `handled` is 1 before it is over. Whether it had come.
fn fail_and_end(attempt: Attempt, attempts: &Arc<Attempts>, handled: &AtomicU64) -> bool {
    assert_eq!(attempt.again(NOW, NOW, true), Returned::Waiting);
    let Some(again) = attempts.take(LANE, NOW, LATE) else { return false };
    // Relaxed: who finds the event over must find this with it.
    assert!(again.end(|_| handled.store(1, Ordering::Relaxed)));
    true
}

#[test]
fn a_flush_ends_after_what_comes_again() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["cells.lane_free", "cells.lane_over"];
    // Whether the consumer met the event again, and whether the flush came to its end.
    let outcomes = [(false, false), (true, false), (true, true)];
    model("attempts::flush", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let attempt = attempts.take(LANE, NOW, LATE).expect("it is queued");
        let ends = lanes.ends();
        let handled = Arc::new(AtomicU64::new(0));
        let (consumer, count) = (Arc::clone(&attempts), Arc::clone(&handled));
        let consuming = threads.spawn(move || fail_and_end(attempt, &consumer, &count));
        let working = threads.spawn(move || {
            worker.attend(NOW);
            worker
        });
        let flushed = Arc::clone(&attempts);
        let flushing = threads.spawn(move || {
            let cells = flushed.custody().cells();
            // Relaxed: the flush must have made it visible.
            let is_handled = || handled.load(Ordering::Relaxed) == 1;
            let is_over = cells.is_over();
            assert!(!is_over || is_handled(), "all was over before the event was handled");
            assert!(cells.has_before(&ends) || is_handled(), "the event was over before it was handled");
            is_over
        });
        let met = consuming.end();
        let over = flushing.end();
        let mut worker = working.end();
        if !met {
            worker.attend(NOW);
            assert_eq!(handle(&attempts), Some((1, true)));
        }
        worker.assert_free(1);
        (met, over)
    });
}

#[test]
fn the_books_never_miss_an_event_on_its_way() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 500 };
    let mutants = ["transit.count", "transit.end", "custody.open", "custody.settle", "custody.settled"];
    // Whether the consumer met the event again, and whether the books had it over.
    let outcomes = [(false, false), (true, false), (true, true)];
    model("attempts::books", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let attempt = attempts.take(LANE, NOW, LATE).expect("it is queued");
        let handled = Arc::new(AtomicU64::new(0));
        let (consumer, count) = (Arc::clone(&attempts), Arc::clone(&handled));
        let consuming = threads.spawn(move || fail_and_end(attempt, &consumer, &count));
        let working = threads.spawn(move || {
            worker.attend(NOW);
            worker
        });
        let control = Arc::clone(&attempts);
        let reading = threads.spawn(move || {
            let open = control.open();
            // Relaxed: the books must have made it visible.
            let over = handled.load(Ordering::Relaxed);
            assert!(open.queued + open.in_hand + open.waiting + over >= 1, "an event is in no book: {open:?}");
            open.queued + open.in_hand + open.waiting == 0
        });
        let met = consuming.end();
        let over = reading.end();
        let mut worker = working.end();
        if !met {
            worker.attend(NOW);
            assert_eq!(handle(&attempts), Some((1, true)));
        }
        worker.assert_free(1);
        (met, over)
    });
}
