//! A circuit breaker between whoever asks for attempts and whoever tells what came of them.

use std::sync::Arc;

use loom_tests::watch::Wakes;
use loom_tests::{Bounds, asleep, model};
use ringmain::internals::sync::alarm::{Alarm, NEVER};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::bell::Bell;
use ringmain::internals::sync::breaker::{Breaker, BreakerLimits, BreakerState};
use ringmain::internals::sync::parker::Parker;

const LIMITS: BreakerLimits = BreakerLimits {
    failures_max: 2,
    per_mille_max: 1_000,
    events_min: 1_000,
    window_ns: 1 << 30,
    open_ns: 1 << 20,
    probes: 1,
};
/// When a breaker that opened at the beginning half opens, and later.
const LATER: u64 = 2 << 20;

fn bounds(executions_min: u64) -> Bounds {
    Bounds { preemptions: Some(3), executions_min }
}

/// A breaker that has just opened.
fn open(limits: BreakerLimits) -> Arc<Breaker> {
    let breaker = Breaker::new(limits);
    assert_eq!(breaker.record(0, false), None);
    assert_eq!(breaker.record(0, false), Some(BreakerState::Open));
    Arc::new(breaker)
}

/// Whether it opened by this; nothing else may have come of it.
fn opened(told: Option<BreakerState>) -> bool {
    assert!(told.is_none_or(|state| state == BreakerState::Open), "{told:?}");
    told.is_some()
}

#[test]
fn of_failures_at_one_moment_one_opens_it() {
    // Which of them did.
    model("breaker::open", bounds(1000), &["breaker.exchange"], &[(true, false), (false, true)], |threads| {
        let breaker = Arc::new(Breaker::new(LIMITS));
        assert_eq!(breaker.record(0, false), None);
        let [first, second] = [(); 2].map(|()| {
            let breaker = Arc::clone(&breaker);
            threads.spawn(move || opened(breaker.record(0, false)))
        });
        let (first, second) = (first.end(), second.end());
        assert_eq!(breaker.state(0), BreakerState::Open);
        assert!(first != second, "it opened once, and one of them says so");
        (first, second)
    });
}

#[test]
fn so_many_probes_are_admitted_and_no_more() {
    let mutants = ["breaker.probes", "breaker.admit"];
    // Which of two was admitted.
    model("breaker::probes", bounds(25), &mutants, &[(true, false), (false, true)], |threads| {
        let breaker = open(LIMITS);
        let [first, second] = [(); 2].map(|()| {
            let breaker = Arc::clone(&breaker);
            threads.spawn(move || breaker.admit(LATER))
        });
        let (first, second) = (first.end(), second.end());
        let is_admitted = |told: Result<bool, u64>| match told {
            Ok(is_first) => is_first,
            Err(again) => {
                assert_eq!(again, u64::MAX, "the other one is out");
                false
            }
        };
        assert!(is_admitted(first) != is_admitted(second), "one probe, which half opens it, and no other");
        assert_eq!(breaker.admit(LATER), Err(u64::MAX), "its probe is out");
        (is_admitted(first), is_admitted(second))
    });
}

#[test]
fn one_probe_that_fails_opens_it_whatever_the_other_says() {
    // Whether the failure was told first.
    model("breaker::answers", bounds(800), &["breaker.exchange"], &[true, false], |threads| {
        let breaker = open(BreakerLimits { probes: 2, ..LIMITS });
        assert_eq!((breaker.admit(LATER), breaker.admit(LATER)), (Ok(true), Ok(false)));
        let (well, ill) = (Arc::clone(&breaker), Arc::clone(&breaker));
        let well = threads.spawn(move || {
            assert_eq!(well.record(LATER, true), None, "one that goes well closes nothing");
            well.state(LATER) == BreakerState::Open
        });
        let ill = threads.spawn(move || assert!(opened(ill.record(LATER, false))));
        let was_first = well.end();
        ill.end();
        assert_eq!(breaker.state(LATER), BreakerState::Open);
        assert!(matches!(breaker.admit(LATER + (2 << 20)), Ok(true)), "its probes begin anew");
        was_first
    });
}

#[test]
fn a_probe_that_is_not_made_makes_way_for_another() {
    // Whether the one that asks was admitted a second time: only after the probe was taken back.
    model("breaker::take_back", bounds(25), &["breaker.exchange", "breaker.admit"], &[false, true], |threads| {
        let breaker = open(BreakerLimits { probes: 3, ..LIMITS });
        assert_eq!((breaker.admit(LATER), breaker.admit(LATER)), (Ok(true), Ok(false)));
        let (giver, taker) = (Arc::clone(&breaker), Arc::clone(&breaker));
        let giving = threads.spawn(move || giver.take_back(LATER));
        let asking = threads.spawn(move || (taker.admit(LATER), taker.admit(LATER)));
        giving.end();
        let (first, second) = asking.end();
        assert_eq!(first, Ok(false), "there was room for a third");
        if second.is_err() {
            assert_eq!(breaker.admit(LATER), Ok(false), "what was taken back makes room, however late");
        }
        assert_eq!(breaker.admit(LATER), Err(u64::MAX), "three are out");
        second.is_ok()
    });
}

/// As a worker goes on until its consumer may have the next event, which it then tells it.
fn attend_until_admitted(breaker: &Breaker, bell: &Bell, alarm: &Alarm, parker: &Parker) {
    loop {
        if alarm.at() <= LATER {
            alarm.take();
            if breaker.admits_at(LATER) <= LATER {
                bell.ring();
                return;
            }
            alarm.resume(NEVER);
            continue;
        }
        parker.prepare(0);
        if alarm.at() <= LATER {
            parker.cancel(0);
        } else {
            asleep(|| parker.park(0, None));
        }
    }
}

#[test]
fn a_consumer_that_is_held_is_called_when_the_probe_has_answered() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 500 };
    let mutants = ["barrier.light", "barrier.heavy", "alarm.take", "alarm.wake", "alarm.resume"];
    // When the consumer was admitted: at its first look, at the one after it left its waker, or not before it was called.
    model("breaker::called", bounds, &mutants, &["first look", "second look", "called"], |threads| {
        let barrier = Barrier::fences();
        let (parker, alarm) = (Arc::new(Parker::new(1, barrier)), Arc::new(Alarm::new(0, barrier)));
        let (breaker, bell) = (open(LIMITS), Arc::new(Bell::new(barrier)));
        assert_eq!(breaker.admit(LATER), Ok(true));
        // Something else is due.
        alarm.set(0, &parker);
        let telling = {
            let (breaker, alarm, parker) = (Arc::clone(&breaker), Arc::clone(&alarm), Arc::clone(&parker));
            threads.spawn(move || {
                assert_eq!(breaker.record(LATER, true), Some(BreakerState::Closed));
                alarm.set(0, &parker);
            })
        };
        let working = {
            let (breaker, bell) = (Arc::clone(&breaker), Arc::clone(&bell));
            threads.spawn(move || {
                parker.enter(0);
                attend_until_admitted(&breaker, &bell, &alarm, &parker);
            })
        };
        let consuming = threads.spawn(move || {
            let (wakes, waker) = Wakes::new();
            if breaker.admit(LATER).is_ok() {
                return ("first look", wakes);
            }
            bell.wait(&waker);
            if breaker.admit(LATER).is_ok() { ("second look", wakes) } else { ("called", wakes) }
        });
        telling.end();
        working.end();
        let (admitted, wakes) = consuming.end();
        assert!(admitted != "called" || wakes.count() == 1, "the consumer was left asleep");
        admitted
    });
}
