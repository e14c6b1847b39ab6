//! A worker that panics between two steps of its own and goes on, or has panicked too often: publishers, sleepers and who closes the
//! bus do not wait for what it was at.

use std::sync::Arc;

use loom_tests::closing::{Place, bus};
use loom_tests::lanes::{Event, LANE, drain, lanes, pool, read, reader};
use loom_tests::{Bounds, asleep, model};
use ringmain::internals::ring::{Claimant, Gate, Reader, go_on};
use ringmain::internals::sync::admission::{Admission, Left};
use ringmain::internals::sync::alarm::{Alarm, NEVER};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::parker::Parker;
use ringmain::internals::sync::primitive::{AtomicU64, Ordering, thread};
use ringmain::internals::sync::waker::of_this_thread;

/// What a worker shares with whoever waits for it.
struct Shared {
    gate: Gate,
    alarm: Alarm,
    parker: Parker,
}

fn shared() -> Arc<Shared> {
    let barrier = Barrier::fences();
    Arc::new(Shared { gate: Gate::new(1, barrier), alarm: Alarm::new(0, barrier), parker: Parker::new(1, barrier) })
}

impl Shared {
    /// The worker goes on after a panic.
    fn go_on(&self, reader: &mut Reader) {
        go_on(reader, &self.gate, &self.alarm);
    }
}

/// A lane of one slot with one event in it.
fn full_lane() -> (Reader, Claimant) {
    let lanes = lanes(1, 1, 1, u64::MAX, &pool(0));
    let reader = reader(&lanes, 0);
    let mut claimant = Claimant::new(lanes, false);
    claimant.push(LANE, Event::new(1).inline()).expect("the lane is empty");
    (reader, claimant)
}

/// A publisher waits for room that the worker had made when it was struck; `was_told`: it had published its cursor.
fn room(name: &str, was_told: bool, mutants: &[&str]) {
    let bounds = Bounds { preemptions: Some(3), executions_min: 100 };
    // Whether the publisher slept, and whether the worker did.
    let outcomes = [(false, false), (false, true), (true, false), (true, true)];
    model(name, bounds, mutants, &outcomes, move |threads| {
        let ((mut reader, mut claimant), bus) = (full_lane(), shared());
        let of_worker = Arc::clone(&bus);
        let publishing = threads.spawn(move || {
            let waker = of_this_thread();
            let mut slept = false;
            loop {
                bus.gate.wait(0, &waker);
                if claimant.push(LANE, Event::new(2).inline()).is_ok() {
                    bus.gate.leave(0);
                    bus.parker.wake(1);
                    return slept;
                }
                asleep(thread::park);
                slept = true;
            }
        });
        let working = threads.spawn(move || {
            let bus = of_worker;
            bus.parker.enter(0);
            reader.advance(LANE);
            if was_told {
                reader.release();
            }
            // Here it is struck.
            bus.go_on(&mut reader);
            let mut slept = false;
            loop {
                bus.parker.prepare(0);
                if let Some(number) = read(&mut reader) {
                    bus.parker.cancel(0);
                    return (number, slept);
                }
                asleep(|| bus.parker.park(0, None));
                slept = true;
            }
        });
        let slept = publishing.end();
        let (number, worker_slept) = working.end();
        assert_eq!(number, 2);
        (slept, worker_slept)
    });
}

#[test]
fn a_publisher_finds_the_room_that_a_struck_worker_had_made_and_told_nobody_of() {
    room("restart::untold", false, &["restart.release", "restart.gate", "barrier.light"]);
}

#[test]
fn a_publisher_finds_the_room_that_a_struck_worker_had_told_of_and_woken_nobody() {
    room("restart::unwoken", true, &["restart.gate", "barrier.light"]);
}

#[test]
fn a_worker_that_was_struck_before_it_looked_does_not_sleep_through_what_it_was_told() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    // How often it looked after that, and whether it slept.
    let outcomes = [(1, false), (1, true), (2, false), (2, true)];
    model("restart::alarm", bounds, &["restart.alarm"], &outcomes, |threads| {
        let ((mut reader, _claimant), bus) = (full_lane(), shared());
        let due = Arc::new(AtomicU64::new(0));
        let (telling, of_worker) = (Arc::clone(&due), Arc::clone(&bus));
        let teller = threads.spawn(move || {
            for instant in [7, 5] {
                // Relaxed: the alarm must see to it that it is seen.
                telling.fetch_add(instant, Ordering::Relaxed);
                bus.alarm.set(instant, &bus.parker);
            }
        });
        let working = threads.spawn(move || {
            let bus = of_worker;
            bus.parker.enter(0);
            let (mut looks, mut slept) = (0, false);
            loop {
                if bus.alarm.at() != NEVER {
                    bus.alarm.take();
                    looks += 1;
                    if looks == 1 {
                        // Here it is struck: it does not look.
                        bus.go_on(&mut reader);
                        continue;
                    }
                    // Relaxed: as above.
                    if due.load(Ordering::Relaxed) == 12 {
                        return (looks - 1, slept);
                    }
                    continue;
                }
                bus.parker.prepare(0);
                if bus.alarm.at() != NEVER {
                    bus.parker.cancel(0);
                    continue;
                }
                asleep(|| bus.parker.park(0, None));
                slept = true;
            }
        });
        teller.end();
        working.end()
    });
}

#[test]
fn a_worker_that_was_struck_amid_an_end_reads_all_that_was_accepted_and_leaves() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 500 };
    let mutants = ["restart.release", "admission.look", "admission.leave", "admission.raise", "admission.phase"];
    // Accepted of two, and whether the worker left: in three turns, of which it is struck in the first that reads.
    let outcomes = [(0, false), (0, true), (1, false), (1, true), (2, false), (2, true)];
    model("restart::closing", bounds, &mutants, &outcomes, |threads| {
        let ((bus, mut reader), others) = (bus(u64::MAX), shared());
        let place = Arc::new(Place::default());
        let (publisher, closer, worker) = (bus.clone(), bus.clone(), bus.clone());
        let (at, mut claimant) = (Arc::clone(&place), bus.claimant());
        let publishing = threads.spawn(move || {
            [1, 2].into_iter().take_while(|&number| publisher.publish(&at, &mut claimant, number)).count()
        });
        let closing = threads.spawn(move || closer.close(&[place]));
        let working = threads.spawn(move || {
            let mut met = Vec::new();
            if reader.peek(LANE).is_some() {
                met.push(1);
                reader.advance(LANE);
                // Here it is struck: it has told nobody.
                others.go_on(&mut reader);
            }
            let (later, left) = worker.work(&mut reader, 2);
            met.extend(later);
            assert!(!left || worker.lanes.has_passed(0, &worker.lanes.ends()), "it left, and a flush waits for it");
            (reader, met, left)
        });
        let accepted = publishing.end();
        let end = closing.end();
        let (mut reader, met, left) = working.end();
        assert!(!left || end.is_some() && met.len() == accepted, "the worker left with an event unread");
        assert_eq!([met, drain(&mut reader)].concat(), [1, 2][..accepted]);
        (accepted, left)
    });
}

#[test]
fn a_publisher_that_waits_is_refused_by_a_worker_that_has_failed_and_told_which() {
    let bounds = Bounds { preemptions: None, executions_min: 40 };
    let mutants = ["admission.fail", "admission.failure", "admission.raise", "barrier.heavy"];
    // Whether it slept.
    model("restart::failed", bounds, &mutants, &[false, true], |threads| {
        let ((reader, mut claimant), bus) = (full_lane(), shared());
        let admission = Arc::new(Admission::new(Barrier::fences()));
        let failed = Arc::new(Left::default());
        let (looks_at, told, waiting_at) = (Arc::clone(&admission), Arc::clone(&failed), Arc::clone(&bus));
        let publishing = threads.spawn(move || {
            let (place, waker) = (Place::default(), of_this_thread());
            let mut slept = false;
            loop {
                waiting_at.gate.wait(0, &waker);
                let Some(inside) = place.enter(&looks_at) else {
                    waiting_at.gate.leave(0);
                    return (looks_at.failure(&told), slept);
                };
                claimant.push(LANE, Event::new(2).inline()).expect_err("nobody makes room");
                drop(inside);
                asleep(thread::park);
                slept = true;
            }
        });
        let failing = threads.spawn(move || {
            admission.fail(&failed, 3);
            bus.gate.open_all();
            reader
        });
        let (failure, slept) = publishing.end();
        assert_eq!(failure, Some(3), "it takes it for an end in order");
        drop(failing.end());
        slept
    });
}
