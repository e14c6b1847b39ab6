//! Structures and sleepers together: nobody sleeps in front of an event, a free cell or a free slot.

use std::sync::Arc;

use loom_tests::lanes::{Event, FIRST, LANE, feed, lanes, mailbox, number, pool, read, reader};
use loom_tests::{Bounds, Join, asleep, model};
use ringmain::internals::ring::{Cells, Claimant, Gate, Lanes, Reader};
use ringmain::internals::sync::alarm::{Alarm, NEVER};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::bell::Bell;
use ringmain::internals::sync::parker::Parker;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering, thread};
use ringmain::internals::sync::waker::of_this_thread;

const MUTANTS: [&str; 2] = ["barrier.light", "barrier.heavy"];

/// Tries, announces the sleep, tries once more and sleeps, until a try brings something. Returns it and whether the
/// worker slept.
fn try_or_park<T>(parker: &Parker, mut attempt: impl FnMut() -> Option<T>) -> (T, bool) {
    let mut slept = false;
    loop {
        if let Some(brought) = attempt() {
            return (brought, slept);
        }
        parker.prepare(0);
        if let Some(brought) = attempt() {
            parker.cancel(0);
            return (brought, slept);
        }
        asleep(|| parker.park(0, None));
        slept = true;
    }
}

/// A lane of one slot, and a publisher for it.
fn lane() -> (Arc<Lanes>, Claimant, Reader) {
    let lanes = lanes(1, 1, 1, FIRST, &pool(0));
    let reader = reader(&lanes, 0);
    let claimant = Claimant::new(Arc::clone(&lanes), false);
    (lanes, claimant, reader)
}

#[test]
fn a_worker_does_not_sleep_in_front_of_an_event() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    // Whether it slept.
    model("sleep::worker", bounds, &MUTANTS, &[false, true], |threads| {
        let (_lanes, mut claimant, mut reader) = lane();
        let parker = Arc::new(Parker::new(1, Barrier::fences()));
        let for_worker = Arc::clone(&parker);
        let working = threads.spawn(move || {
            for_worker.enter(0);
            try_or_park(&for_worker, || read(&mut reader))
        });
        let publishing = threads.spawn(move || {
            claimant.push(LANE, Event::new(7).inline()).expect("the lane is empty");
            parker.wake(1);
        });
        publishing.end();
        let (number, slept) = working.end();
        assert_eq!(number, 7);
        slept
    });
}

#[test]
fn a_publisher_at_a_full_lane_does_not_sleep_beside_a_free_slot() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    // Not `barrier.heavy`: a publisher that finds the lane full has fenced to look at the cursors, before it was refused.
    let mutants = ["barrier.light"];
    // Whether it slept.
    model("sleep::publisher", bounds, &mutants, &[false, true], |threads| {
        let (_lanes, mut claimant, mut reader) = lane();
        claimant.push(LANE, Event::new(1).inline()).expect("the lane is empty");
        let gate = Arc::new(Gate::new(1, Barrier::fences()));
        let waiting_at = Arc::clone(&gate);
        let publishing = threads.spawn(move || {
            let waker = of_this_thread();
            let mut slept = false;
            loop {
                waiting_at.wait(0, &waker);
                if claimant.push(LANE, Event::new(2).inline()).is_ok() {
                    waiting_at.leave(0);
                    return slept;
                }
                asleep(thread::park);
                slept = true;
            }
        });
        let reading = threads.spawn(move || {
            let first = read(&mut reader);
            gate.open();
            (reader, first)
        });
        let (mut reader, first) = reading.end();
        let slept = publishing.end();
        assert_eq!((first, read(&mut reader)), (Some(1), Some(2)));
        slept
    });
}

/// Takes the next event and frees its cell.
fn take(cells: &Arc<Cells>) -> Option<u8> {
    let taken = cells.take(LANE)?;
    let (head, rest) = taken.parts();
    Some(number(head, rest))
}

#[test]
fn a_consumer_does_not_sleep_in_front_of_a_queued_event() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    // Whether it slept.
    model("sleep::consumer", bounds, &MUTANTS, &[false, true], |threads| {
        let (mut feeder, cells, mut reader) = mailbox(1);
        let bell = Arc::new(Bell::new(Barrier::fences()));
        let waiting_at = Arc::clone(&bell);
        let consuming = threads.spawn(move || {
            let waker = of_this_thread();
            let mut slept = false;
            loop {
                waiting_at.wait(&waker);
                if let Some(number) = take(&cells) {
                    return (number, slept);
                }
                asleep(thread::park);
                slept = true;
            }
        });
        let feeding = threads.spawn(move || {
            assert!(feed(&mut feeder, &mut reader), "the cell is free");
            bell.ring();
        });
        feeding.end();
        let (number, slept) = consuming.end();
        assert_eq!(number, 1);
        slept
    });
}

#[test]
fn a_worker_in_want_of_a_cell_does_not_sleep_beside_a_free_one() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    // Whether it slept.
    model("sleep::starved_worker", bounds, &MUTANTS, &[false, true], |threads| {
        let (mut feeder, cells, mut reader) = mailbox(1);
        assert!(feed(&mut feeder, &mut reader), "the cell is free");
        let parker = Arc::new(Parker::new(1, Barrier::fences()));
        let for_worker = Arc::clone(&parker);
        let working = threads.spawn(move || {
            for_worker.enter(0);
            try_or_park(&for_worker, || feed(&mut feeder, &mut reader).then_some(())).1
        });
        let consumer = Arc::clone(&cells);
        let consuming = threads.spawn(move || {
            let number = take(&consumer);
            parker.wake(1);
            number
        });
        assert_eq!(consuming.end(), Some(1));
        let slept = working.end();
        assert_eq!(take(&cells), Some(2));
        slept
    });
}

#[test]
fn a_worker_does_not_sleep_through_an_instant_that_it_was_told() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["alarm.take", "alarm.resume", "alarm.wake", "barrier.light", "barrier.heavy"];
    // Whether it slept.
    model("sleep::alarm", bounds, &mutants, &[false, true], |threads| {
        let parker = Arc::new(Parker::new(1, Barrier::fences()));
        let alarm = Arc::new(Alarm::new(0, Barrier::fences()));
        // When something is due, 0 for nothing.
        let due = Arc::new([0, 1].map(|_| AtomicU64::new(0)));
        // The later one is heard of as the earlier one is, or on its own.
        let telling = [7, 5].map(|instant| {
            let (parker, alarm, due) = (Arc::clone(&parker), Arc::clone(&alarm), Arc::clone(&due));
            threads.spawn(move || {
                // Relaxed: the alarm must see to it that it is seen.
                due[usize::from(instant == 7)].store(instant, Ordering::Relaxed);
                alarm.set(instant, &parker);
            })
        });
        let for_worker = Arc::clone(&alarm);
        let working = threads.spawn(move || {
            parker.enter(0);
            let mut slept = false;
            // An instant a round: the clock moves on to what the alarm is set to.
            loop {
                let at = for_worker.at();
                if at != NEVER {
                    for_worker.take();
                    // Relaxed: as above.
                    let known = due.each_ref().map(|due| due.load(Ordering::Relaxed));
                    if known == [5, 7] {
                        return slept;
                    }
                    let next = known.into_iter().filter(|&due| due > at).min().unwrap_or(NEVER);
                    for_worker.resume(next);
                    continue;
                }
                parker.prepare(0);
                if for_worker.at() != NEVER {
                    parker.cancel(0);
                    continue;
                }
                asleep(|| parker.park(0, None));
                slept = true;
            }
        });
        telling.into_iter().for_each(Join::end);
        working.end()
    });
}
