//! Flush against publishing: what was accepted before has been passed by the workers and settled by the consumers.

use std::sync::Arc;

use loom_tests::lanes::{Event, FIRST, LANE, REST_BYTES, feed, lanes, mailbox, pool, reader};
use loom_tests::{Bounds, model};
use ringmain::internals::ring::{Cells, Claimant, Custody, Gate, LANES, Lanes, Pages, Reader};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::parker::Parker;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

/// Handles the next event, if there is one, and lets others know.
fn handle(reader: &mut Reader, handled: &AtomicU64) {
    if reader.peek(LANE).is_some() {
        // Relaxed: a flush must make it visible.
        handled.fetch_add(1, Ordering::Relaxed);
        reader.advance(LANE);
        reader.release();
    }
}

/// Whether worker 0 passes what is accepted by now within a few looks.
fn is_passed(lanes: &Lanes, looks: usize) -> bool {
    let ends = lanes.ends();
    (0..looks).any(|_| lanes.has_passed(0, &ends))
}

/// A publisher that tells somebody else, who flushes.
fn accepted_before(name: &str, more_mutants: &[&str], first: u64) {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = [&["lanes.cursor_store", "lanes.cursor_load"], more_mutants].concat();
    // Whether the flush came to its end; `None`: it had not heard of the event.
    let outcomes = [None, Some(false), Some(true)];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let lanes = lanes(2, 2, 1, first, &pool(0));
        let mut reader = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        let [told, handled] = [0, 1].map(|_| Arc::new(AtomicU64::new(0)));
        let telling = Arc::clone(&told);
        let publishing = threads.spawn(move || {
            claimant.push(LANE, Event::new(1).inline()).expect("the lane is empty");
            // The model's own: it releases what was published before.
            telling.store(1, Ordering::Release);
            claimant.push(LANE, Event::new(2).inline()).expect("there is room for two");
        });
        let (counted, flushed) = (Arc::clone(&handled), Arc::clone(&lanes));
        let flushing = threads.spawn(move || {
            // The model's own: it acquires.
            (told.load(Ordering::Acquire) == 1).then(|| {
                let done = is_passed(&flushed, 2);
                // Relaxed: the flush must have made it visible.
                assert!(!done || counted.load(Ordering::Relaxed) >= 1, "an accepted event was not handled");
                done
            })
        });
        let count = Arc::clone(&handled);
        let working = threads.spawn(move || {
            handle(&mut reader, &count);
            handle(&mut reader, &count);
            reader
        });
        publishing.end();
        let done = flushing.end();
        let mut reader = working.end();
        handle(&mut reader, &handled);
        handle(&mut reader, &handled);
        // Relaxed: all threads have ended.
        assert_eq!(handled.load(Ordering::Relaxed), 2);
        assert!(is_passed(&lanes, 1));
        done
    });
}

#[test]
fn a_flush_ends_after_what_was_accepted_before_it() {
    accepted_before("flush::accepted_before_at_wrap", &["lanes.passed"], u64::MAX);
}

#[test]
fn a_flush_ends_after_what_was_accepted_beyond_32_bits() {
    accepted_before("flush::accepted_before_beyond_u32", &[], u64::from(u32::MAX));
}

#[test]
fn a_flush_ends_after_what_was_queued_in_a_mailbox_whatever_came_later() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["cells.before", "cells.lane_free", "cells.lane_load", "lanes.cursor_store", "lanes.cursor_load"];
    // How far the flush came, and how many events the consumer met. It settles the one that was accepted later first.
    let outcomes = [
        ("not passed", 0),
        ("not passed", 1),
        ("not passed", 2),
        ("not settled", 0),
        ("not settled", 1),
        ("not settled", 2),
        ("settled", 1),
        ("settled", 2),
    ];
    model("flush::mailbox", bounds, &mutants, &outcomes, |threads| {
        let pool = pool(0);
        let lanes = lanes(2, 2, 1, u64::MAX, &pool);
        let mut reader = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        claimant.push(LANE, Event::new(1).inline()).expect("the lane is empty");
        let ends = lanes.ends();
        claimant.push(LANE, Event::new(2).inline()).expect("there is room for two");
        let (mut feeder, cells) = Cells::new(2, lanes.body_bytes(), u64::MAX, pool, Pages::Any).expect("two cells fit");
        let (parker, gate) = (Parker::new(1, Barrier::fences()), Gate::new(1, Barrier::fences()));
        let custody = Arc::new(Custody::new(cells, 0, Arc::new(parker), Arc::new(gate)));
        let handled = Arc::new(AtomicU64::new(0));
        let working = threads.spawn(move || {
            for _ in 0..2 {
                let slot = reader.peek(LANE).expect("it was published before");
                assert!(feeder.push(LANE, reader.sequence(LANE), &slot, REST_BYTES), "a cell is free");
                reader.advance(LANE);
            }
            reader.release();
        });
        let (consumer, count) = (Arc::clone(&custody), Arc::clone(&handled));
        let consuming = threads.spawn(move || {
            let Some(first) = consumer.take(LANE) else { return 0 };
            let later = consumer.take(LANE);
            let met = 1 + usize::from(later.is_some());
            if let Some(later) = later {
                consumer.settle(later);
            }
            // Relaxed: the flush must make it visible.
            count.store(1, Ordering::Relaxed);
            consumer.settle(first);
            met
        });
        let flushing = threads.spawn(move || {
            if !lanes.has_passed(0, &ends) {
                return "not passed";
            }
            if !(0..2).any(|_| custody.has_passed(&ends)) {
                return "not settled";
            }
            // Relaxed: the flush must have made it visible.
            assert_eq!(handled.load(Ordering::Relaxed), 1, "a queued event was not handled");
            "settled"
        });
        working.end();
        let met = consuming.end();
        (flushing.end(), met)
    });
}

#[test]
fn a_flush_that_finds_a_later_event_in_a_cell_finds_the_one_before_handled() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["cells.sequence_load", "cells.sequence_store", "cells.lane_load", "cells.lane_free"];
    // Whether the cell was filled again, and whether the flush found the event over.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    model("flush::refilled", bounds, &mutants, &outcomes, |threads| {
        let (mut feeder, cells, mut reader) = mailbox(1);
        assert!(feed(&mut feeder, &mut reader), "the cell is free");
        let mut ends = [0; LANES];
        ends[LANE] = FIRST.wrapping_add(1);
        let handled = Arc::new(AtomicU64::new(0));
        let (consumer, count) = (Arc::clone(&cells), Arc::clone(&handled));
        let consuming = threads.spawn(move || {
            let taken = consumer.take(LANE).expect("it is queued");
            // Relaxed: the flush must make it visible.
            count.store(1, Ordering::Relaxed);
            drop(taken);
        });
        let working = threads.spawn(move || {
            let fed = feed(&mut feeder, &mut reader);
            (feeder, fed)
        });
        let flushing = threads.spawn(move || {
            let over = !cells.has_before(&ends);
            // Relaxed: the flush must have made it visible.
            assert!(!over || handled.load(Ordering::Relaxed) == 1, "a queued event was not handled");
            over
        });
        consuming.end();
        let (_feeder, fed) = working.end();
        (fed, flushing.end())
    });
}
