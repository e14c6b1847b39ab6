//! What a mailbox has in a store, against who flushes and who reads it back.

use std::sync::Arc;

use loom_tests::lanes::FIRST;
use loom_tests::{Bounds, model};
use ringmain::internals::sync::backlog::Backlog;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

/// Unbounded: there are few steps.
const BOUNDS: Bounds = Bounds { preemptions: None, executions_min: 5 };

#[test]
fn what_a_flush_does_not_find_elsewhere_is_in_its_cell() {
    let after = FIRST.wrapping_add(1);
    // Whether the flush may go on, and whether nothing is elsewhere. It may before: the first one is behind its end by then.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    let mutants = ["backlog.open", "backlog.passed_open"];
    model("backlog::all", BOUNDS, &mutants, &outcomes, move |threads| {
        let backlog = Arc::new(Backlog::<1>::new());
        let cell = Arc::new(AtomicU64::new(0));
        backlog.add(0, FIRST);
        let (worker, comes) = (Arc::clone(&backlog), Arc::clone(&cell));
        let bringing = threads.spawn(move || {
            // Relaxed: that it is elsewhere no more must make it visible.
            comes.store(1, Ordering::Relaxed);
            worker.remove(0, 1, after);
        });
        let flushing = threads.spawn(move || {
            let has_passed = backlog.has_passed(&[after]);
            // Relaxed (both): as above.
            let is_missed = has_passed && cell.load(Ordering::Relaxed) == 0;
            let is_none = backlog.total() == 0;
            (has_passed, is_none, is_missed || is_none && cell.load(Ordering::Relaxed) == 0)
        });
        bringing.end();
        let (has_passed, is_none, is_missed) = flushing.end();
        assert!(!is_missed, "it is nowhere");
        (has_passed, is_none)
    });
}

#[test]
fn a_flush_does_not_wait_for_what_went_elsewhere_behind_its_end() {
    let after = FIRST.wrapping_add(1);
    let outcomes = [(false, false), (false, true), (true, true)];
    let mutants = ["backlog.first", "backlog.passed_first"];
    model("backlog::first", BOUNDS, &mutants, &outcomes, move |threads| {
        let backlog = Arc::new(Backlog::<1>::new());
        let cell = Arc::new(AtomicU64::new(0));
        backlog.add(0, FIRST);
        // Behind the end, and elsewhere all the time.
        backlog.add(0, after);
        let (worker, comes) = (Arc::clone(&backlog), Arc::clone(&cell));
        let bringing = threads.spawn(move || {
            // Relaxed: that it is elsewhere no more must make it visible.
            comes.store(1, Ordering::Relaxed);
            worker.remove(0, 1, after);
        });
        let flushing = threads.spawn(move || {
            let has_passed = backlog.has_passed(&[after]);
            // Relaxed: as above.
            (has_passed, cell.load(Ordering::Relaxed) == 1)
        });
        bringing.end();
        let (has_passed, is_there) = flushing.end();
        assert!(is_there || !has_passed, "it is nowhere");
        (has_passed, is_there)
    });
}

#[test]
fn who_reads_back_begins_where_the_order_says() {
    let outcomes = [None, Some(7)];
    let mutants = ["backlog.order", "backlog.order_load"];
    model("backlog::order", BOUNDS, &mutants, &outcomes, |threads| {
        let backlog = Arc::new(Backlog::<1>::new());
        let worker = Arc::clone(&backlog);
        let ordering = threads.spawn(move || {
            worker.set_order(0, Some(7));
        });
        let reading = threads.spawn(move || backlog.order(0).from);
        ordering.end();
        let from = reading.end();
        assert!(from.is_none_or(|from| from == 7), "it begins elsewhere");
        from
    });
}
