//! Lines of keys: the next event of a key comes when the one before is over, or is discarded with its mailbox.

use std::sync::Arc;

use loom_tests::attempts::{KEY, LATE, NOW, OTHER, TICK, handle, mailbox, number_of, take};
use loom_tests::lanes::LANE;
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Attempts, Overdue, Returned};
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

#[test]
fn the_next_of_a_key_comes_when_the_first_is_over_and_no_sooner() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["alarm.take", "barrier.light", "barrier.heavy", "attempts.attend", "attempts.refill"];
    // Whether the cell of the first was filled again before the worker looked, and whether it slept.
    let outcomes = [(false, false), (false, true), (true, false)];
    model("lines::next", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(5, 2, true);
        assert!(worker.feed(KEY) && worker.feed(KEY));
        let first = attempts.take(LANE, NOW, NOW).expect("it is queued");
        assert_eq!((worker.queued(), attempts.waiting()), (0, 1), "the second is held back");
        // The worker is about to look.
        assert!(first.extend(NOW, LATE));
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let ending = threads.spawn(move || {
            // Relaxed: that the next one comes must make it visible.
            count.store(1, Ordering::Relaxed);
            assert!(first.end(|_| ()));
        });
        let working = threads.spawn(move || {
            worker.parker.enter(0);
            let refilled = worker.feed(OTHER);
            let slept = worker.attend_or_sleep(NOW);
            // Relaxed: the event must have made it visible.
            assert_eq!(handled.load(Ordering::Relaxed), 1, "the second came before the first was over");
            assert_eq!(handle(&worker.attempts), Some((2, true)));
            (worker, refilled, slept)
        });
        ending.end();
        let (mut worker, refilled, slept) = working.end();
        if refilled {
            assert_eq!(handle(&attempts), Some((3, true)), "another key waits for nobody");
        }
        worker.assert_free(2);
        (refilled, slept)
    });
}

/// The second of a key comes when the first is about to be over, and the worker has just looked after what is due at
/// `looked`. Outcomes are whether the second was held back, and whether the first counted.
fn join(name: &str, mutants: &[&str], outcomes: &[(bool, bool)], looked: u64) {
    let bounds = Bounds { preemptions: Some(4), executions_min: 500 };
    model(name, bounds, mutants, outcomes, move |threads| {
        let (mut worker, attempts, _lanes) = mailbox(4, 2, true);
        assert!(worker.feed(KEY));
        let first = take(&attempts).expect("it is queued");
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let ending = threads.spawn(move || {
            // Relaxed: that the next one comes must make it visible.
            count.store(1, Ordering::Relaxed);
            first.end(|_| ())
        });
        let working = threads.spawn(move || {
            worker.parker.enter(0);
            let mut timed_out = 0;
            worker.attend_by(looked, Overdue::Over, |_| timed_out += 1);
            assert!(worker.feed(KEY), "there is a second cell");
            let held_back = worker.queued() == 0;
            worker.attend_or_sleep(NOW);
            // Relaxed: the event must have made it visible.
            let is_seen = handled.load(Ordering::Relaxed) == 1;
            assert_eq!(handle(&worker.attempts), Some((2, true)));
            (worker, held_back, timed_out, is_seen)
        });
        let counted = ending.end();
        let (mut worker, held_back, timed_out, is_seen) = working.end();
        assert_eq!(timed_out, u64::from(!counted), "the first ended once");
        assert!(!counted || is_seen, "the second came before the first was over");
        worker.assert_free(2);
        (held_back, counted)
    });
}

#[test]
fn the_next_of_a_key_is_not_left_behind_one_that_timed_out() {
    let outcomes = [(false, false), (false, true), (true, false)];
    join("lines::join_timed_out", &["attempts.met"], &outcomes, NOW + TICK);
}

#[test]
fn the_next_of_a_key_is_not_left_behind_one_that_is_over() {
    join("lines::join_over", &["barrier.light", "barrier.heavy"], &[(false, true), (true, true)], NOW);
}

/// Ends what waits in a closed mailbox. Which events, in the order of their cells.
fn discard_waiting(attempts: &Arc<Attempts>) -> Vec<u8> {
    let mut discarded = Vec::new();
    attempts.discard_waiting(|attempt| {
        assert_eq!(attempt.began(), 0, "nobody has taken it");
        discarded.push(number_of(attempt));
    });
    discarded
}

#[test]
fn what_is_held_back_is_let_through_or_discarded() {
    let bounds = Bounds { preemptions: Some(5), executions_min: 50 };
    let mutants = ["attempts.let_through", "attempts.discarded", "attempts.hold_back", "attempts.untaken"];
    // What was discarded.
    let outcomes = [vec![], vec![3], vec![4], vec![3, 4]];
    model("lines::discard", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(8, 4, true);
        // The second of the key is in a cell that was used before.
        assert!(worker.feed(None) && worker.feed(KEY));
        assert_eq!(handle(&attempts), Some((1, true)));
        assert!(worker.feed(KEY));
        // The first is over, and its cell not free.
        let late = take(&attempts).expect("it is queued");
        worker.attend(NOW + TICK);
        worker.attend(NOW + TICK);
        assert_eq!(handle(&attempts), Some((2, true)));
        let working = threads.spawn(move || {
            assert!(worker.feed(KEY), "a cell is free");
            worker.attend(NOW);
            worker
        });
        let control = Arc::clone(&attempts);
        let closing = threads.spawn(move || {
            control.custody().close();
            discard_waiting(&control)
        });
        let mut worker = working.end();
        let discarded = closing.end();
        let handled: Vec<_> = std::iter::from_fn(|| handle(&attempts)).collect();
        let handled = handled.into_iter().map(|(number, counted)| (counted, number));
        // As when the worker has left.
        let left = discard_waiting(&attempts).into_iter().chain(discarded.clone()).map(|number| (true, number));
        let mut all: Vec<_> = handled.chain(left).collect();
        all.sort_unstable();
        assert_eq!(all, [(true, 3), (true, 4)], "each once");
        drop(late);
        worker.assert_free(4);
        discarded
    });
}

#[test]
fn what_a_closed_mailbox_discards_does_not_break_a_line() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["attempts.line"];
    // Whether the worker found a cell for its last event.
    model("lines::closed", bounds, &mutants, &[false, true], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(5, 4, true);
        assert!(worker.feed(KEY) && worker.feed(KEY) && worker.feed(None) && worker.feed(None));
        let first = attempts.take(LANE, NOW, LATE).expect("it is queued");
        let third = attempts.take(LANE, NOW, LATE).expect("it is queued");
        assert_eq!((number_of(&first), number_of(&third)), (1, 3));
        attempts.custody().close();
        let consumer = Arc::clone(&attempts);
        let returning = threads.spawn(move || {
            assert_eq!(third.again(NOW, NOW, false), Returned::Closed);
            let mut discarded = Vec::new();
            consumer.discard_returned(|attempt| discarded.push(number_of(attempt)));
            discarded
        });
        let working = threads.spawn(move || {
            let fed = worker.feed(KEY);
            assert_eq!(worker.queued(), 1, "one of the key came before the first was over");
            (worker, fed)
        });
        let discarded = returning.end();
        let (_worker, fed) = working.end();
        assert!(first.end(|_| ()));
        assert_eq!(handle(&attempts), Some((4, true)));
        let mut all = [discarded, discard_waiting(&attempts)].concat();
        all.sort_unstable();
        assert_eq!(all, [2, 3, 5][..2 + usize::from(fed)], "each once");
        assert!(attempts.custody().cells().is_over() && attempts.waiting() == 0);
        fed
    });
}
