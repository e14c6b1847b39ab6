//! Closing against publishing: who publishes is refused or waited for, and everything accepted is read.

use std::sync::{Arc, Mutex};

use loom_tests::closing::{Place, bus};
use loom_tests::lanes::{Event, LANE, drain, lanes, pool, read, reader};
use loom_tests::watch::Drops;
use loom_tests::{Bounds, asleep, model};
use ringmain::internals::ring::{Claimant, Gate};
use ringmain::internals::sync::admission::{Admission, Left};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::primitive::{ArrayQueue, AtomicU64, Ordering, thread};
use ringmain::internals::sync::waker::of_this_thread;

/// A lock that loom sees.
#[cfg(ringmain_loom)]
use loom::sync::Mutex as Lock;
#[cfg(not(ringmain_loom))]
use std::sync::Mutex as Lock;

/// One publisher, who closes, and the worker that drains.
fn closing(name: &str, first: u64) {
    let bounds = Bounds { preemptions: Some(2), executions_min: 500 };
    let mutants = [
        "barrier.light",
        "barrier.heavy",
        "admission.look",
        "admission.leave",
        "admission.occupied",
        "admission.raise",
        "admission.phase",
    ];
    // Accepted of two, and whether the worker left: in two turns not after two events.
    let outcomes = [(0, false), (0, true), (1, false), (1, true), (2, false)];
    model(name, bounds, &mutants, &outcomes, move |threads| {
        let (bus, mut reader) = bus(first);
        let place = Arc::new(Place::default());
        let (publisher, closer, worker) = (bus.clone(), bus.clone(), bus.clone());
        let (at, mut claimant) = (Arc::clone(&place), bus.claimant());
        let publishing = threads.spawn(move || {
            [1, 2].into_iter().take_while(|&number| publisher.publish(&at, &mut claimant, number)).count()
        });
        let closing = threads.spawn(move || closer.close(&[place]));
        let working = threads.spawn(move || {
            let (met, left) = worker.work(&mut reader, 2);
            (reader, met, left)
        });
        let accepted = publishing.end();
        let end = closing.end();
        let (mut reader, met, left) = working.end();
        assert!(end.is_none_or(|end| end == bus.lanes.claimed(LANE)), "claimed after the bus began to drain");
        assert!(!left || end.is_some(), "the worker left too early");
        assert!(!left || met.len() == accepted, "the worker left with an event unread");
        assert_eq!([met, drain(&mut reader)].concat(), [1, 2][..accepted]);
        (accepted, left)
    });
}

#[test]
fn a_worker_that_leaves_has_read_all_that_was_accepted() {
    closing("admission::close_at_wrap", u64::MAX);
}

#[test]
fn a_worker_that_leaves_has_read_all_beyond_32_bits() {
    closing("admission::close_beyond_u32", u64::from(u32::MAX));
}

#[test]
fn a_close_waits_for_every_publisher_inside() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 500 };
    let mutants = ["barrier.light", "barrier.heavy", "admission.look", "admission.leave", "admission.occupied"];
    // Whether each of two was accepted, and whether the lanes were drained.
    let outcomes: Vec<_> = (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0)).collect();
    model("admission::two_publishers", bounds, &mutants, &outcomes, |threads| {
        let (bus, mut reader) = bus(u64::MAX);
        let places = [(); 2].map(|()| Arc::new(Place::default()));
        let publishing = [1, 2].map(|number| {
            let (bus, place, mut claimant) = (bus.clone(), Arc::clone(&places[number as usize - 1]), bus.claimant());
            threads.spawn(move || bus.publish(&place, &mut claimant, number))
        });
        let closer = bus.clone();
        let draining = threads.spawn(move || {
            let drained = closer.close(&places).map(|_| drain(&mut reader).len());
            (reader, drained)
        });
        let [one, other] = publishing.map(loom_tests::Join::end);
        let (mut reader, drained) = draining.end();
        let accepted = usize::from(one) + usize::from(other);
        let later = drain(&mut reader).len();
        assert_eq!(drained.unwrap_or(0) + later, accepted);
        assert!(drained.is_none() || later == 0, "an event came after the lanes were drained");
        (one, other, drained.is_some())
    });
}

#[test]
fn a_place_that_is_given_back_and_taken_again_is_watched_all_along() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 300 };
    let mutants = ["barrier.light", "barrier.heavy", "admission.leave", "admission.occupied"];
    // Whether the first publisher was accepted, whether the next one was (`None`: it found the place taken), and whether
    // the lanes were drained.
    let next = [None, Some(false), Some(true)];
    let of = |first, drained| next.map(|next| (first, next, drained));
    let mut outcomes = [of(true, false), of(true, true)].concat();
    // Who comes after a publisher that was refused is refused as well.
    outcomes.extend([
        (false, None, false),
        (false, None, true),
        (false, Some(false), false),
        (false, Some(false), true),
    ]);
    model("admission::place_passed_on", bounds, &mutants, &outcomes, |threads| {
        let (bus, mut reader) = bus(u64::MAX);
        let place = Arc::new(Place::default());
        // Stands for the control plane's lock, under which places are given back and taken.
        let given_back = Arc::new(AtomicU64::new(0));
        let (one, at, mut claimant, giving) =
            (bus.clone(), Arc::clone(&place), bus.claimant(), Arc::clone(&given_back));
        let first = threads.spawn(move || {
            let accepted = one.publish(&at, &mut claimant, 1);
            // The model's own lock: it releases what the publisher did.
            giving.store(1, Ordering::Release);
            accepted
        });
        let (other, at) = (bus.clone(), Arc::clone(&place));
        let second = threads.spawn(move || {
            // The model's own lock: it acquires.
            let is_free = given_back.load(Ordering::Acquire) == 1;
            is_free.then(|| other.publish(&at, &mut other.claimant(), 2))
        });
        let closer = bus.clone();
        let draining = threads.spawn(move || {
            let drained = closer.close(&[place]).map(|_| drain(&mut reader).len());
            (reader, drained)
        });
        let (first, second) = (first.end(), second.end());
        let (mut reader, drained) = draining.end();
        let later = drain(&mut reader).len();
        assert_eq!(drained.unwrap_or(0) + later, usize::from(first) + usize::from(second == Some(true)));
        assert!(drained.is_none() || later == 0, "an event came after the lanes were drained");
        (first, second, drained.is_some())
    });
}

#[test]
fn a_publisher_at_a_full_lane_does_not_sleep_through_the_end() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 300 };
    let mutants = ["barrier.heavy", "admission.look"];
    // Whether it slept.
    model("admission::waiting_publisher", bounds, &mutants, &[false, true], |threads| {
        let lanes = lanes(1, 1, 1, u64::MAX, &pool(0));
        let reader = reader(&lanes, 0);
        let mut claimant = Claimant::new(Arc::clone(&lanes), false);
        claimant.push(LANE, Event::new(1).inline()).expect("the lane is empty");
        let admission = Arc::new(Admission::new(Barrier::fences()));
        let gate = Arc::new(Gate::new(1, Barrier::fences()));
        let (waiting_at, looks_at) = (Arc::clone(&gate), Arc::clone(&admission));
        let publishing = threads.spawn(move || {
            let (place, waker) = (Place::default(), of_this_thread());
            let mut slept = false;
            loop {
                waiting_at.wait(0, &waker);
                let Some(inside) = place.enter(&looks_at) else {
                    waiting_at.leave(0);
                    return slept;
                };
                claimant.push(LANE, Event::new(2).inline()).expect_err("nobody makes room");
                drop(inside);
                asleep(thread::park);
                slept = true;
            }
        });
        // A worker that leaves without having read what the publisher waits for.
        let leaving = threads.spawn(move || {
            assert!(reader.peek(LANE).is_some());
            drop(reader);
        });
        let closing = threads.spawn(move || {
            admission.close();
            gate.open_all();
        });
        leaving.end();
        closing.end();
        let slept = publishing.end();
        assert_eq!(lanes.depth(LANE), 1);
        slept
    });
}

/// How a publisher fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fared {
    Accepted,
    Full,
    Refused,
}

/// A publisher that is lent: its place, and what it claims with.
struct Lent {
    number: usize,
    at: Arc<Place>,
    claimant: Claimant,
}

impl Lent {
    fn publish(&mut self, admission: &Admission) -> Fared {
        let Some(inside) = self.at.enter(admission) else { return Fared::Refused };
        if self.claimant.push(LANE, Event::new(2).inline()).is_err() {
            return Fared::Full;
        }
        let accepted = inside.counts();
        // Relaxed: one at a time has the place, and leaving must make it visible.
        accepted.store(accepted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Fared::Accepted
    }
}

#[test]
fn a_place_that_was_lent_is_lent_again_beside_the_gate_and_the_end() {
    use Fared::{Accepted, Full, Refused};
    let bounds = Bounds { preemptions: Some(2), executions_min: 300 };
    let mutants = ["gate.leave", "barrier.heavy", "admission.look"];
    // How the one that does not wait fared, how the one that does, and in which place: its own, or that of the first.
    // In that of the first it finds what the first did: the lane full, or the end.
    let alike = [(Full, Accepted), (Accepted, Refused), (Full, Refused), (Refused, Refused)];
    let outcomes = alike.into_iter().flat_map(|(first, second)| [(first, second, 0), (first, second, 1)]);
    let outcomes: Vec<_> = outcomes.chain([(Accepted, Accepted, 1), (Refused, Accepted, 1)]).collect();
    model("publisher::leave", bounds, &mutants, &outcomes, |threads| {
        // The limit and one publisher more.
        let lanes = lanes(2, 1, 1, u64::MAX, &pool(0));
        let mut reader = reader(&lanes, 0);
        let admission = Arc::new(Admission::new(Barrier::fences()));
        let gate = Arc::new(Gate::new(2, Barrier::fences()));
        let entrances = [(); 2].map(|()| Arc::new(Place::default()));
        let lent = |number: usize| Lent {
            number,
            at: Arc::clone(&entrances[number]),
            claimant: Claimant::new(Arc::clone(&lanes), false),
        };
        let (mut first, mut own) = (lent(0), lent(1));
        first.claimant.push(LANE, Event::new(1).inline()).expect("the lane is empty");
        let spare = Arc::new(ArrayQueue::new(2));
        let (back, waits_at, looks_at) = (Arc::clone(&spare), Arc::clone(&gate), Arc::clone(&admission));
        let trying = threads.spawn(move || {
            waits_at.wait(first.number, &of_this_thread());
            let fared = first.publish(&looks_at);
            waits_at.leave(first.number);
            assert!(back.push(first).is_ok(), "there is a place for each");
            fared
        });
        let (waits_at, looks_at) = (Arc::clone(&gate), Arc::clone(&admission));
        let waiting = threads.spawn(move || {
            let mut lent = spare.pop();
            let lent = lent.as_mut().unwrap_or(&mut own);
            loop {
                waits_at.wait(lent.number, &of_this_thread());
                match lent.publish(&looks_at) {
                    Fared::Full => asleep(thread::park),
                    fared => {
                        waits_at.leave(lent.number);
                        return (fared, lent.number);
                    }
                }
            }
        });
        let ending = threads.spawn(move || {
            assert_eq!(read(&mut reader), Some(1));
            gate.open();
            admission.close();
            gate.open_all();
        });
        let (tried, (waited, place)) = (trying.end(), waiting.end());
        ending.end();
        // Relaxed: all have ended.
        let accepted: u64 = entrances.iter().map(|at| at.counts.load(Ordering::Relaxed)).sum();
        assert_eq!(lanes.claimed(LANE).wrapping_sub(u64::MAX), 1 + accepted, "a place has lost its books");
        assert_eq!(accepted, u64::from(tried == Fared::Accepted) + u64::from(waited == Fared::Accepted));
        (tried, waited, place)
    });
}

#[test]
fn what_a_worker_used_is_out_of_use_when_it_has_left() {
    let bounds = Bounds { preemptions: None, executions_min: 4 };
    // Whether it was seen to have left.
    model("admission::left", bounds, &["admission.left", "admission.has_left"], &[false, true], |threads| {
        let left = Arc::new(Left::default());
        let drops = Drops::of(1);
        // std's lock orders nothing under loom: the departure alone must.
        let table = Arc::new(Mutex::new(Some(drops.value(0))));
        let (leaving, used) = (Arc::clone(&left), Arc::clone(&table));
        let working = threads.spawn(move || {
            used.lock().expect("nobody panicked").as_ref().expect("a worker is here").number();
            leaving.leave(3);
        });
        let freeing = threads.spawn(move || {
            assert!(!left.has(2), "another one is here");
            let has_left = left.has(3);
            if has_left {
                drop(table.lock().expect("nobody panicked").take());
            }
            (has_left, table)
        });
        working.end();
        let (has_left, table) = freeing.end();
        drop(table);
        assert!(drops.all_once());
        has_left
    });
}

#[test]
fn a_publisher_that_was_told_finds_what_was_changed() {
    let bounds = Bounds { preemptions: None, executions_min: 50 };
    // What the publisher has a copy of when both changes may have been made.
    model("admission::told", bounds, &["admission.tell"], &[0, 1, 2], |threads| {
        let place = Arc::new(Place::default());
        let changed = Arc::new(Lock::new(0));
        let (teller, change) = (Arc::clone(&place), Arc::clone(&changed));
        let changing = threads.spawn(move || {
            for number in 1..=2 {
                let mut changed = change.lock().expect("nobody panicked");
                *changed = number;
                teller.tell();
            }
        });
        let (publisher, original) = (Arc::clone(&place), Arc::clone(&changed));
        let look = move |copy: &mut u32| {
            if publisher.is_told() {
                publisher.heed();
                *copy = *original.lock().expect("nobody panicked");
            }
        };
        let publishing = threads.spawn(move || {
            let mut copy = 0;
            look(&mut copy);
            (look, copy)
        });
        changing.end();
        let (look, mut copy) = publishing.end();
        let at_once = copy;
        look(&mut copy);
        assert_eq!(copy, 2, "it was not told of the last change");
        at_once
    });
}
