//! Attempts at events: whose word counts, when an event comes back, who frees its cell, and that none is left behind.

use std::sync::Arc;

use loom_tests::lanes::{Event, LANE, REST_BYTES, lanes, number, pool, reader};
use loom_tests::{Bounds, asleep, model};
use ringmain::internals::ring::{
    Attempt, AttemptWords, Attempts, Cells, Claimant, Custody, Feeder, Gate, Keyed, Lanes, Overdue, Pages, Reader,
    Returned, Returns,
};
use ringmain::internals::sync::alarm::Alarm;
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::parker::Parker;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering};

/// What due times are counted in.
const TICK: u64 = 1 << 16;
/// Models begin where the wheel of due times is about to begin anew.
const NOW: u64 = ((1 << 35) - 1) * TICK;
/// Later than any instant that a model comes to.
const LATE: u64 = NOW + 1_000 * TICK;

/// Two keys whose events stand in different lines.
const KEY: Option<u64> = Some(0);
const OTHER: Option<u64> = Some(1);

/// A worker that has events in a lane and a mailbox to feed.
struct Worker {
    reader: Reader,
    feeder: Feeder,
    keyed: Option<Keyed>,
    attempts: Arc<Attempts>,
    alarm: Arc<Alarm>,
    parker: Arc<Parker>,
}

/// A worker with `events` events before it and a mailbox of `cells`, which keeps the order of keys where `is_keyed`.
fn mailbox(events: u8, cells: usize, is_keyed: bool) -> (Worker, Arc<Attempts>, Arc<Lanes>) {
    let pool = pool(0);
    let lanes = lanes(8, 8, 1, u64::MAX, &pool);
    let reader = reader(&lanes, 0);
    let mut claimant = Claimant::new(Arc::clone(&lanes), false);
    for number in 1..=events {
        claimant.push(LANE, Event::new(number).inline()).expect("the lane is empty");
    }
    let barrier = Barrier::fences();
    let words = AttemptWords::new(cells).expect("a few words fit");
    let keyed = is_keyed.then(|| Keyed::new(cells).expect("a few words fit"));
    let (feeder, cells) = Cells::new(cells, lanes.body_bytes(), u64::MAX, pool, Pages::Any).expect("a few cells fit");
    let parker = Arc::new(Parker::new(1, barrier));
    let gate = Arc::new(Gate::new(1, barrier));
    let alarm = Arc::new(Alarm::new(0, barrier));
    let custody = Arc::new(Custody::new(cells, 0, Arc::clone(&parker), gate));
    let attempts = Arc::new(Attempts::new(words, custody, Arc::clone(&alarm), Arc::clone(&parker), barrier, is_keyed));
    (Worker { reader, feeder, keyed, attempts: Arc::clone(&attempts), alarm, parker }, attempts, lanes)
}

impl Worker {
    /// Moves the next event into the mailbox. False when that is full, and the event stays where it is.
    fn feed(&mut self, key: Option<u64>) -> bool {
        let slot = self.reader.peek(LANE).expect("the events were published before");
        let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
        let fed = self.attempts.push(&mut returns, LANE, self.reader.sequence(LANE), &slot, REST_BYTES, key);
        if fed {
            self.reader.advance(LANE);
        }
        fed
    }

    /// Looks after what is due `now`; what was in hand for too long is `overdue`. Returns when to look again.
    fn attend_by(&mut self, now: u64, overdue: Overdue, book: impl FnMut(&Attempt)) -> u64 {
        let mut returns = Returns { feeder: &mut self.feeder, keyed: self.keyed.as_mut() };
        self.attempts.attend(&mut returns, now, |_, _| overdue, book)
    }

    /// As `attend_by`, where what was in hand for too long comes again at once.
    fn attend(&mut self, now: u64) -> u64 {
        self.attend_by(now, Overdue::Again(now), |_| panic!("nothing is over"))
    }

    /// As a worker goes on until it is `done`: looks after what is due when its alarm says so, and sleeps. Returns whether
    /// it slept.
    fn attend_until(&mut self, now: u64, done: impl Fn(&Self) -> bool) -> bool {
        let mut slept = false;
        while !done(self) {
            if self.alarm.at() <= now {
                self.alarm.take();
                let next = self.attend(now);
                self.alarm.resume(next);
                continue;
            }
            self.parker.prepare(0);
            if self.alarm.at() <= now {
                self.parker.cancel(0);
                continue;
            }
            asleep(|| self.parker.park(0, None));
            slept = true;
        }
        slept
    }

    /// As `attend_until` something is queued.
    fn attend_or_sleep(&mut self, now: u64) -> bool {
        self.attend_until(now, |worker| worker.queued() > 0)
    }

    /// Fills the cell, and sleeps until it is free. Returns whether it slept.
    fn feed_or_sleep(&mut self) -> bool {
        let mut slept = false;
        while !self.feed(None) {
            self.attempts.custody().starve(true);
            self.parker.prepare(0);
            if self.feeder.has_room() {
                self.parker.cancel(0);
            } else {
                asleep(|| self.parker.park(0, None));
                slept = true;
            }
            self.attempts.custody().starve(false);
        }
        slept
    }

    fn queued(&self) -> u64 {
        self.attempts.custody().queued()
    }

    /// How many of `cells` and one more it can fill again, when the events in the mailbox are over.
    fn assert_free(&mut self, cells: usize) {
        let custody = self.attempts.custody();
        assert!(custody.cells().is_over() && custody.is_settled(), "an event is in somebody's hands");
        assert_eq!(self.attempts.waiting(), 0);
        for _ in 0..cells {
            assert!(self.feeder.has_room() && self.feed(None), "a cell was lost");
        }
        assert!(!self.feeder.has_room(), "a cell is free and in use");
    }
}

fn take(attempts: &Arc<Attempts>) -> Option<Attempt> {
    attempts.take(LANE, NOW, NOW + TICK)
}

fn number_of(attempt: &Attempt) -> u8 {
    let (head, rest) = attempt.event().parts();
    number(head, rest)
}

/// Takes an event, reads and acknowledges it. Whether there was one, and whether the word counted.
fn handle(attempts: &Arc<Attempts>) -> Option<(u8, bool)> {
    let attempt = attempts.take(LANE, NOW, LATE)?;
    let number = number_of(&attempt);
    Some((number, attempt.end(|_| ())))
}

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
            let fed = worker.feeder.has_room() && worker.feed(None);
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
        let (mut worker, attempts, _lanes) = mailbox(3, 2, false);
        assert!(worker.feed(None));
        let consumer = Arc::clone(&attempts);
        let holding = threads.spawn(move || {
            let attempt = consumer.take(LANE, NOW + 7, NOW + 8).expect("it is queued");
            assert_eq!(number_of(&attempt), 1);
            let mut booked = false;
            (attempt.end(|_| booked = true), booked)
        });
        let working = threads.spawn(move || {
            let mut booked = 0;
            // One look may come before the event is taken, and one after.
            for _ in 0..2 {
                worker.attend_by(NOW + TICK, Overdue::Over, |attempt| {
                    assert_eq!((number_of(attempt), attempt.failures(), attempt.began()), (1, 1, NOW + 7));
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
            let fed = worker.feeder.has_room() && worker.feed(None);
            (worker, fed)
        });
        leaving.end();
        ending.end();
        let (mut worker, fed) = working.end();
        if fed {
            assert!(!worker.feeder.has_room(), "a cell is free and in use");
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
    let mutants = ["alarm.take", "alarm.resume", "barrier.light", "barrier.heavy", "attempts.attend"];
    // Whether the worker slept.
    model("attempts::again", bounds, &mutants, &[false, true], |threads| {
        let (mut worker, attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let attempt = attempts.take(LANE, NOW, LATE).expect("it is queued");
        // Some other event is due.
        worker.alarm.set(NOW, &worker.parker);
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

#[test]
fn the_next_of_a_key_comes_when_the_first_is_over_and_no_sooner() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["alarm.take", "barrier.light", "barrier.heavy", "attempts.attend", "attempts.refill"];
    // Whether the cell of the first was filled again before the worker looked, and whether it slept.
    let outcomes = [(false, false), (false, true), (true, false)];
    model("attempts::line", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(5, 2, true);
        assert!(worker.feed(KEY) && worker.feed(KEY));
        let first = attempts.take(LANE, NOW, LATE).expect("it is queued");
        assert_eq!((worker.queued(), attempts.waiting()), (0, 1), "the second is held back");
        // Something else is due.
        worker.alarm.set(NOW, &worker.parker);
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let ending = threads.spawn(move || {
            // Relaxed: that the next one comes must make it visible.
            count.store(1, Ordering::Relaxed);
            assert!(first.end(|_| ()));
        });
        let working = threads.spawn(move || {
            worker.parker.enter(0);
            let refilled = worker.feeder.has_room() && worker.feed(OTHER);
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
    join("attempts::join_timed_out", &["attempts.met"], &outcomes, NOW + TICK);
}

#[test]
fn the_next_of_a_key_is_not_left_behind_one_that_is_over() {
    join("attempts::join_over", &["barrier.light", "barrier.heavy"], &[(false, true), (true, true)], NOW);
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
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    let mutants = ["attempts.let_through", "attempts.discarded", "attempts.hold_back", "attempts.untaken"];
    // What was discarded.
    let outcomes = [vec![], vec![3], vec![4], vec![3, 4]];
    model("attempts::discard_line", bounds, &mutants, &outcomes, |threads| {
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
    model("attempts::closed_line", bounds, &mutants, &[false, true], |threads| {
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
            let fed = worker.feeder.has_room() && worker.feed(KEY);
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
        let consuming = threads.spawn(move || {
            assert_eq!(attempt.again(NOW, NOW, true), Returned::Waiting);
            let again = consumer.take(LANE, NOW, LATE);
            let met = again.is_some();
            if let Some(again) = again {
                // Relaxed: the flush must make it visible.
                assert!(again.end(|_| count.store(1, Ordering::Relaxed)));
            }
            met
        });
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
    let mutants = ["attempts.waiting", "attempts.waits_no_more", "custody.open", "custody.settle", "custody.settled"];
    // Whether the consumer met the event again, and whether the books had it over.
    let outcomes = [(false, false), (true, false), (true, true)];
    model("attempts::books", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let attempt = attempts.take(LANE, NOW, LATE).expect("it is queued");
        let handled = Arc::new(AtomicU64::new(0));
        let (consumer, count) = (Arc::clone(&attempts), Arc::clone(&handled));
        let consuming = threads.spawn(move || {
            assert_eq!(attempt.again(NOW, NOW, true), Returned::Waiting);
            let again = consumer.take(LANE, NOW, LATE);
            let met = again.is_some();
            if let Some(again) = again {
                // Relaxed: the books must make it visible.
                assert!(again.end(|_| count.store(1, Ordering::Relaxed)));
            }
            met
        });
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
