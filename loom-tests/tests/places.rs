//! Places where answers are waited for: the worker that brings them and keeps the time, against who lets go of its place.

use std::sync::{Arc, Mutex};

use loom_tests::watch::{Drops, Wakes, Watched};
use loom_tests::{Bounds, model};
use ringmain::internals::sync::alarm::NEVER;
use ringmain::internals::sync::places::{Places, Seen, Ticket};

const LATE: u64 = 1_000;

fn bounds(executions_min: u64) -> Bounds {
    Bounds { preemptions: None, executions_min }
}

/// One place, which is taken.
fn taken(deadline: u64) -> (Arc<Places<Watched>>, Ticket) {
    let places = Arc::new(Places::new(1));
    let ticket = places.take(deadline).expect("nobody has taken it");
    assert!(places.take(deadline).is_none(), "there is one");
    (places, ticket)
}

fn answer(seen: Option<Seen<Watched>>) -> Option<usize> {
    match seen {
        Some(Seen::Answered(answer)) => Some(answer.number()),
        other => {
            assert!(other.is_none(), "its time is not over: {other:?}");
            None
        }
    }
}

/// Sees to it that the one place is free, and an answer reaches who takes it.
fn assert_free(places: &Places<Watched>, before: Ticket, value: Watched) {
    assert_eq!(places.taken(), 0);
    let ticket = places.take(LATE).expect("it was given back");
    assert_eq!((ticket.place, ticket.generation), (before.place, before.generation + 1));
    assert_eq!(answer(places.look(ticket)), None, "it has an answer of others");
    let number = value.number();
    assert!(places.bring(ticket, value).is_none(), "its place has no room for the answer");
    assert_eq!(answer(places.look(ticket)), Some(number));
    places.give_back(ticket);
}

#[test]
fn an_answer_to_who_lets_go_leaves_nothing_in_its_place() {
    let mutants = ["places.bring", "places.give_back", "places.empty", "places.take_out"];
    // Whether the worker has it back.
    model("places::give_back", bounds(50), &mutants, &[false, true], |threads| {
        let (places, ticket) = taken(LATE);
        let drops = Drops::of(2);
        let (value, next) = (drops.value(0), drops.value(1));
        let asked = Arc::clone(&places);
        let leaving = threads.spawn(move || asked.give_back(ticket));
        let brought = Arc::clone(&places);
        let working = threads.spawn(move || brought.bring(ticket, value).map(|value| value.number()));
        leaving.end();
        let late = working.end();
        assert_free(&places, ticket, next);
        assert!(drops.all_once());
        late.is_some()
    });
}

#[test]
fn a_late_answer_does_not_reach_who_has_the_place_next() {
    let mutants = ["places.late", "places.generation", "places.take_out"];
    // Whether the worker has it back.
    model("places::late", bounds(100), &mutants, &[false, true], |threads| {
        let (places, first) = taken(LATE);
        let drops = Drops::of(2);
        let (value, next) = (drops.value(0), drops.value(1));
        let asked = Arc::clone(&places);
        let asking = threads.spawn(move || {
            asked.give_back(first);
            let second = asked.take(LATE).expect("it was given back");
            assert_eq!(answer(asked.look(second)), None, "the answer to another question");
            second
        });
        let brought = Arc::clone(&places);
        let working = threads.spawn(move || brought.bring(first, value).map(|value| value.number()));
        let (second, late) = (asking.end(), working.end());
        assert_eq!(answer(places.look(second)), None, "the answer to another question");
        assert!(places.bring(second, next).is_none(), "a late answer has its room");
        assert_eq!(answer(places.look(second)), Some(1));
        places.give_back(second);
        drop(places);
        assert!(drops.all_once());
        late.is_some()
    });
}

#[test]
fn a_place_is_in_one_hand_at_a_time() {
    // Who had it: both, one after the other, or one.
    let outcomes = [(true, true), (true, false), (false, true)];
    model("places::hands", bounds(30), &["places.generation"], &outcomes, |threads| {
        let places = Arc::new(Places::<Watched>::new(1));
        // std's lock orders nothing under loom: the places alone must.
        let value = Arc::new(Mutex::new(Drops::of(1).value(0)));
        let [first, second] = [(); 2].map(|()| {
            let (places, value) = (Arc::clone(&places), Arc::clone(&value));
            threads.spawn(move || {
                let ticket = places.take(LATE)?;
                value.lock().expect("nobody panicked").alone();
                assert!(places.look(ticket).is_none(), "it has what another waited for");
                places.give_back(ticket);
                Some(ticket.generation)
            })
        });
        let (first, second) = (first.end(), second.end());
        assert_ne!(first, second, "an answer to one would be taken for one to the other");
        assert_eq!(places.taken(), 0);
        (first.is_some(), second.is_some())
    });
}

#[test]
fn who_has_just_asked_has_its_own_time() {
    // When the worker looks again.
    model("places::deadline", bounds(30), &["places.take", "places.attend"], &[NEVER, LATE], |threads| {
        let (places, first) = taken(1);
        let asked = Arc::clone(&places);
        let asking = threads.spawn(move || {
            asked.give_back(first);
            asked.take(LATE).expect("it was given back")
        });
        let working = {
            let places = Arc::clone(&places);
            threads.spawn(move || places.attend(1))
        };
        let second = asking.end();
        let next = working.end();
        assert_eq!(answer(places.look(second)), None, "its time is not over");
        assert_eq!(places.attend(LATE), NEVER);
        assert!(matches!(places.look(second), Some(Seen::TimedOut)), "its time is over");
        next
    });
}

/// Who waits sees at once what has come, or is woken for it.
fn woken(name: &str, mutant: &str, tell: fn(&Places<Watched>, Ticket), is_it: fn(&Seen<Watched>) -> bool) {
    let mutants = [mutant, "waker.met"];
    // Whether who waits has seen it at its look, after it left its waker.
    model(name, bounds(20), &mutants, &[false, true], move |threads| {
        let (places, ticket) = taken(1);
        let asked = Arc::clone(&places);
        let waiting = threads.spawn(move || {
            let (wakes, waker) = Wakes::new();
            asked.wait(ticket, &waker);
            (asked.look(ticket), wakes)
        });
        let telling = {
            let places = Arc::clone(&places);
            threads.spawn(move || tell(&places, ticket))
        };
        let (seen, wakes) = waiting.end();
        telling.end();
        let at_once = seen.is_some();
        assert!(at_once || wakes.count() >= 1, "it was left asleep");
        let seen = seen.or_else(|| places.look(ticket)).expect("it was woken for something");
        assert!(is_it(&seen), "{seen:?}");
        at_once
    });
}

#[test]
fn who_waits_is_woken_for_its_answer() {
    woken(
        "places::wake",
        "places.wake",
        |places, ticket| assert!(places.bring(ticket, Drops::of(1).value(0)).is_none(), "it waits"),
        |seen| matches!(seen, Seen::Answered(answer) if answer.number() == 0),
    );
}

#[test]
fn who_waits_is_woken_when_its_time_is_over() {
    woken(
        "places::wake_late",
        "places.wake_late",
        |places, _| assert_eq!(places.attend(1), NEVER),
        |seen| matches!(seen, Seen::TimedOut),
    );
}

#[test]
fn who_waits_is_woken_when_nothing_will_come() {
    woken("places::wake_all", "places.wake_all", |places, _| places.close(), |seen| matches!(seen, Seen::Closed));
}
