//! A mailbox's events between worker, consumers and control plane: settled, closed, abandoned, and room told of.

use std::sync::Arc;

use loom_tests::lanes::{Event, LANE, feed, lanes, number, pool, reader};
use loom_tests::{Bounds, asleep, model};
use ringmain::internals::ring::{Cells, Claimant, Custody, Feeder, Gate, Lanes, Pages, Reader, Taken};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::bell::Bell;
use ringmain::internals::sync::parker::Parker;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering, thread};
use ringmain::internals::sync::waker::of_this_thread;

/// A worker that has events in a lane and a mailbox to feed.
struct Worker {
    reader: Reader,
    feeder: Feeder,
    parker: Arc<Parker>,
}

/// A worker with `events` events before it and a mailbox of `cells`, whose positions begin just before a wrap.
fn mailbox(events: u8, cells: usize) -> (Worker, Arc<Custody>, Arc<Lanes>) {
    let pool = pool(0);
    let lanes = lanes(4, 4, 1, u64::MAX, &pool);
    let reader = reader(&lanes, 0);
    let mut claimant = Claimant::new(Arc::clone(&lanes), false);
    for number in 1..=events {
        claimant.push(LANE, Event::new(number).inline()).expect("the lane is empty");
    }
    let (feeder, cells) = Cells::new(cells, lanes.body_bytes(), u64::MAX, pool, Pages::Any).expect("a few cells fit");
    let parker = Arc::new(Parker::new(1, Barrier::fences()));
    let gate = Arc::new(Gate::new(1, Barrier::fences()));
    let custody = Arc::new(Custody::new(cells, 0, Arc::clone(&parker), gate));
    (Worker { reader, feeder, parker }, custody, lanes)
}

impl Worker {
    /// Moves the next event into the mailbox. False when that is full, and the event stays where it is.
    fn feed(&mut self) -> bool {
        feed(&mut self.feeder, &mut self.reader)
    }

    /// As `feed`, but sleeps until there is a cell. Returns whether it slept.
    fn feed_or_sleep(&mut self, custody: &Custody) -> bool {
        let mut slept = false;
        loop {
            if self.feed() {
                return slept;
            }
            custody.starve(true);
            self.parker.prepare(0);
            let fed = self.feed();
            if fed {
                self.parker.cancel(0);
            } else {
                asleep(|| self.parker.park(0, None));
                slept = true;
            }
            custody.starve(false);
            if fed {
                return slept;
            }
        }
    }
}

fn number_of(taken: &Taken) -> u8 {
    let (head, rest) = taken.parts();
    number(head, rest)
}

#[test]
fn a_mailbox_is_not_settled_while_a_consumer_holds_an_event() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 200 };
    let mutants = ["custody.settle", "custody.settled"];
    // Whether the consumer met the second event, and whether the mailbox was seen settled.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    model("custody::is_settled", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, custody, _lanes) = mailbox(2, 2);
        assert!(worker.feed());
        let handled = Arc::new(AtomicU64::new(0));
        let feeding = threads.spawn(move || assert!(worker.feed(), "a cell is free"));
        let (consumer, count) = (Arc::clone(&custody), Arc::clone(&handled));
        let consuming = threads.spawn(move || {
            let first = consumer.take(LANE).expect("it was queued before");
            let second = consumer.take(LANE);
            let met = second.is_some();
            if let Some(second) = second {
                consumer.settle(second);
            }
            // Relaxed: that the mailbox is settled must make it visible.
            count.store(1, Ordering::Relaxed);
            consumer.settle(first);
            met
        });
        let flushing = threads.spawn(move || {
            let settled = custody.is_settled();
            // Relaxed: that the mailbox is settled must have made it visible.
            assert!(!settled || handled.load(Ordering::Relaxed) == 1, "the first event is in somebody's hands");
            settled
        });
        feeding.end();
        let met = consuming.end();
        (met, flushing.end())
    });
}

#[test]
fn a_worker_that_waits_for_room_is_told_of_each() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["custody.starved", "barrier.light", "barrier.heavy"];
    // Whether it slept for the third event, and for the fourth.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    model("custody::starved", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, custody, _lanes) = mailbox(4, 2);
        assert!(worker.feed() && worker.feed());
        let consumer = Arc::clone(&custody);
        let working = threads.spawn(move || {
            worker.parker.enter(0);
            (worker.feed_or_sleep(&custody), worker.feed_or_sleep(&custody))
        });
        let consuming = threads.spawn(move || {
            for number in [1, 2] {
                let taken = consumer.take(LANE).expect("it was queued before");
                assert_eq!(number_of(&taken), number);
                consumer.settle(taken);
            }
            consumer
        });
        let custody = consuming.end();
        let slept = working.end();
        let left: Vec<_> = std::iter::from_fn(|| custody.take(LANE)).map(|taken| number_of(&taken)).collect();
        assert_eq!(left, [3, 4]);
        slept
    });
}

#[test]
fn who_finds_a_mailbox_closed_finds_all_that_was_queued() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 20 };
    let mutants = ["custody.close", "custody.is_closed"];
    // Events the consumer met, and whether it met the end.
    let outcomes = [(0, false), (1, false), (2, false), (2, true)];
    model("custody::close", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, custody, _lanes) = mailbox(2, 2);
        let consumer = Arc::clone(&custody);
        let feeding = threads.spawn(move || {
            assert!(worker.feed() && worker.feed(), "there is a cell for each");
            custody.close();
        });
        let consuming = threads.spawn(move || {
            let mut met = Vec::new();
            for _ in 0..3 {
                let closed = consumer.is_closed();
                match consumer.take(LANE) {
                    Some(taken) => {
                        met.push(number_of(&taken));
                        consumer.settle(taken);
                    }
                    None if closed => return (met, true),
                    None => {}
                }
            }
            (met, false)
        });
        feeding.end();
        let (met, ended) = consuming.end();
        assert!(!ended || met == [1, 2], "the end came before {met:?} was all");
        assert_eq!(met, [1, 2][..met.len()]);
        (met.len(), ended)
    });
}

#[test]
fn a_consumer_does_not_sleep_through_the_end_of_its_subscription() {
    let bounds = Bounds { preemptions: None, executions_min: 20 };
    let mutants = ["barrier.light", "barrier.heavy"];
    // Whether it slept.
    model("custody::close_wakes", bounds, &mutants, &[false, true], |threads| {
        let (_worker, custody, _lanes) = mailbox(0, 1);
        let bell = Arc::new(Bell::new(Barrier::fences()));
        let (consumer, waiting_at) = (Arc::clone(&custody), Arc::clone(&bell));
        let consuming = threads.spawn(move || {
            let waker = of_this_thread();
            let mut slept = false;
            loop {
                waiting_at.wait(&waker);
                let closed = consumer.is_closed();
                assert!(consumer.take(LANE).is_none(), "nothing is queued");
                if closed {
                    return slept;
                }
                asleep(thread::park);
                slept = true;
            }
        });
        let closing = threads.spawn(move || {
            custody.close();
            bell.ring();
        });
        closing.end();
        consuming.end()
    });
}

fn discard(custody: &Custody) -> u64 {
    let mut count = 0;
    custody.discard(|| count += 1);
    count
}

#[test]
fn what_a_consumer_leaves_behind_is_discarded_once() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 50 };
    let mutants = ["custody.abandon", "custody.is_abandoned"];
    // Events that were discarded beside a worker that still fed; `None`: the consumer was still there.
    let outcomes = [None, Some(1), Some(2)];
    model("custody::abandon", bounds, &mutants, &outcomes, |threads| {
        let (mut worker, custody, _lanes) = mailbox(3, 4);
        assert!(worker.feed() && worker.feed());
        let feeding = threads.spawn(move || {
            assert!(worker.feed(), "a cell is free");
            worker
        });
        let consumer = Arc::clone(&custody);
        let consuming = threads.spawn(move || {
            // The event in hand outlives the mailbox.
            let taken = consumer.take(LANE).expect("it was queued before");
            consumer.abandon();
            assert_eq!(number_of(&taken), 1);
            consumer.settle(taken);
        });
        let control = Arc::clone(&custody);
        let discarding = threads.spawn(move || {
            control.is_abandoned().then(|| {
                assert_eq!(control.taken(), 1, "the consumer took one more");
                discard(&control)
            })
        });
        let worker = feeding.end();
        consuming.end();
        let discarded = discarding.end();
        assert_eq!(discarded.unwrap_or(0) + discard(&custody), 2);
        assert!(custody.is_settled() && worker.feeder.has_room());
        discarded
    });
}
