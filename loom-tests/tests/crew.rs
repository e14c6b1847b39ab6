//! Threads that relieve each other at a mailbox: the return of one that hung, against its relief and the end of the
//! subscription.

use std::sync::{Arc, Mutex};

use loom_tests::attempts::{NOW, TICK, handle, mailbox, take};
use loom_tests::watch::{Drops, Watched};
use loom_tests::{Bounds, model};
use ringmain::internals::ring::Overdue;
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::calls::{Calls, State};
use ringmain::internals::sync::crew::{Crew, Hang};
use ringmain::internals::sync::primitive::ArrayQueue;

/// What the threads of a crew hand each other.
type Inbox = ArrayQueue<Watched>;

/// A crew of two, of which the second stands by.
fn crew() -> Arc<Crew> {
    let crew = Crew::new(1);
    crew.stands_by(1);
    Arc::new(crew)
}

/// Takes the mailbox back, if the thread is still on duty when its call ends.
fn come_back(crew: &Crew, inbox: &Inbox, call: u64) -> Option<Watched> {
    crew.end(call).then(|| {
        let mailbox = inbox.pop().expect("who is not relieved finds the mailbox where it was left");
        mailbox.alone();
        mailbox
    })
}

/// Takes the mailbox over, if the thread that stands by has been called.
fn take_over(crew: &Crew, inbox: &Inbox) -> Option<Watched> {
    crew.is_called(1).then(|| {
        let mailbox = inbox.pop().expect("who relieves finds the mailbox where it was left");
        mailbox.alone();
        mailbox
    })
}

/// Worker: the thread on duty has had its event for too long. Whether it is relieved.
fn relieve(crew: &Crew) -> bool {
    crew.suspect(0);
    let (next, hang) = crew.attend(0, 1);
    assert!(next > 1, "somebody stands by");
    hang.is_some_and(|hang| {
        assert_eq!(hang, Hang::Relieved { nth: 1 });
        true
    })
}

#[test]
fn who_returns_and_who_relieves_do_not_both_have_the_mailbox() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 200 };
    let mutants = ["crew.begin", "crew.called", "crew.end", "crew.stand_down"];
    // Whether the thread was relieved, and whether the next one was there at once.
    let outcomes = [(false, false), (true, false), (true, true)];
    model("crew::relief", bounds, &mutants, &outcomes, |threads| {
        let (crew, inbox) = (crew(), Arc::new(Inbox::new(1)));
        let drops = Drops::of(1);
        let mailbox = drops.value(0);
        let on_duty = {
            let (crew, inbox) = (Arc::clone(&crew), Arc::clone(&inbox));
            threads.spawn(move || {
                mailbox.alone();
                inbox.push(mailbox).expect("there is one mailbox");
                let call = crew.begin();
                come_back(&crew, &inbox, call)
            })
        };
        let working = {
            let crew = Arc::clone(&crew);
            threads.spawn(move || relieve(&crew))
        };
        let standing_by = {
            let (crew, inbox) = (Arc::clone(&crew), Arc::clone(&inbox));
            threads.spawn(move || take_over(&crew, &inbox))
        };
        let (back, relieved, over) = (on_duty.end(), working.end(), standing_by.end());
        assert_eq!(back.is_none(), relieved, "one of them is on duty");
        let at_once = over.is_some();
        assert!(!at_once || relieved, "it was not called");
        let over = over.or_else(|| take_over(&crew, &inbox));
        assert_eq!(over.is_some(), relieved);
        // The one that hangs now is the last.
        crew.begin();
        crew.suspect(0);
        let hang = crew.attend(0, 1).1;
        assert_eq!(hang, Some(if relieved { Hang::Spent } else { Hang::Relieved { nth: 1 } }), "one replacement");
        drop((back, over));
        assert!(drops.all_once());
        (relieved, at_once)
    });
}

#[test]
fn an_event_that_a_hung_thread_had_is_settled_once() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 500 };
    // Whether the word of the thread counted, whether it was relieved, and whether the next one met the event.
    let outcomes = [(true, false, false), (false, false, false), (false, true, false), (false, true, true)];
    model("crew::event", bounds, &["attempts.takes", "crew.end"], &outcomes, |threads| {
        let (mut worker, attempts, _lanes) = mailbox(2, 1, false);
        assert!(worker.feed(None));
        let crew = crew();
        let hung = take(&attempts).expect("it is queued");
        let call = crew.begin();
        let on_duty = {
            let crew = Arc::clone(&crew);
            threads.spawn(move || (hung.end(|_| ()), crew.end(call)))
        };
        let working = {
            let crew = Arc::clone(&crew);
            threads.spawn(move || {
                worker.attend_by(NOW + TICK, Overdue::Again(NOW + TICK), |_| panic!("nothing is over"));
                let relieved = worker.attempts.overdue() == 1 && relieve(&crew);
                worker.attend(NOW + TICK);
                (worker, relieved)
            })
        };
        let standing_by = {
            let (crew, attempts) = (Arc::clone(&crew), Arc::clone(&attempts));
            threads.spawn(move || crew.is_called(1).then(|| handle(&attempts)).flatten())
        };
        let (counted, on_duty) = on_duty.end();
        let (mut worker, relieved) = working.end();
        let met = standing_by.end();
        assert!(on_duty != relieved, "one of them is on duty");
        let left = handle(&attempts);
        assert_eq!(met.or(left), (!counted).then_some((1, true)), "it counts once");
        worker.assert_free(1);
        (counted, relieved, met.is_some())
    });
}

#[test]
fn who_is_called_while_the_subscription_ends_does_not_leave() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 100 };
    // Whether the thread was relieved, and what the one that stands by did: it took over, it left, or it waits.
    let outcomes = [(true, "over"), (true, "waits"), (false, "left"), (false, "waits")];
    model("crew::close", bounds, &["crew.leave"], &outcomes, |threads| {
        let (_worker, attempts, _lanes) = mailbox(1, 1, false);
        let (crew, inbox) = (crew(), Arc::new(Inbox::new(1)));
        let drops = Drops::of(1);
        inbox.push(drops.value(0)).expect("there is one mailbox");
        let call = crew.begin();
        let closing = {
            let attempts = Arc::clone(&attempts);
            threads.spawn(move || attempts.custody().close())
        };
        let working = {
            let (crew, attempts) = (Arc::clone(&crew), Arc::clone(&attempts));
            threads.spawn(move || !attempts.custody().is_closed() && relieve(&crew))
        };
        let standing_by = {
            let (crew, inbox) = (Arc::clone(&crew), Arc::clone(&inbox));
            threads.spawn(move || {
                if let Some(mailbox) = take_over(&crew, &inbox) {
                    return ("over", Some(mailbox));
                }
                let leaves = attempts.custody().is_closed() && crew.leaves(1);
                (if leaves { "left" } else { "waits" }, None)
            })
        };
        closing.end();
        let relieved = working.end();
        let (did, mailbox) = standing_by.end();
        match (relieved, did) {
            (true, "waits") => assert!(take_over(&crew, &inbox).is_some(), "it was called"),
            (true, did) => assert_eq!(did, "over", "nobody is at the mailbox"),
            (false, did) => {
                assert!(come_back(&crew, &inbox, call).is_some(), "nobody is at the mailbox");
                assert!(did == "left" || crew.leaves(1), "it has nothing to wait for");
            }
        }
        drop(mailbox);
        (relieved, did)
    });
}

#[test]
fn unsubscribing_waits_for_the_call_of_who_relieves() {
    let bounds = Bounds { preemptions: Some(2), executions_min: 500 };
    let mutants = ["calls.leave", "calls.end", "calls.look", "barrier.light", "barrier.heavy"];
    // Whether the thread was relieved, whether the next one called its handler, and whether unsubscribing came to its end.
    let outcomes = [
        (false, false, false),
        (false, false, true),
        (true, false, false),
        (true, false, true),
        (true, true, false),
        (true, true, true),
    ];
    model("crew::calls", bounds, &mutants, &outcomes, |threads| {
        let (crew, calls) = (crew(), Arc::new(Calls::new()));
        let drops = Drops::of(1);
        // std's lock orders nothing under loom: the calls alone must.
        let handler = Arc::new(Mutex::new(Some(drops.value(0))));
        let on_duty = {
            let (crew, calls) = (Arc::clone(&crew), Arc::clone(&calls));
            threads.spawn(move || {
                let Some(calling) = calls.begin(Barrier::fences()) else { return };
                let call = crew.begin();
                if !crew.end(call) {
                    calling.leave();
                }
            })
        };
        let relieving = {
            let (calls, handler) = (Arc::clone(&calls), Arc::clone(&handler));
            threads.spawn(move || {
                if !relieve(&crew) {
                    return (false, false);
                }
                calls.relieve();
                let Some(_calling) = calls.begin(Barrier::fences()) else { return (true, false) };
                handler.lock().expect("nobody panicked").as_ref().expect("a call after the end").number();
                (true, true)
            })
        };
        let unsubscribing = threads.spawn(move || {
            calls.set_state(State::Closed);
            calls.forbid(Barrier::fences());
            let over = (0..2).any(|_| !calls.is_elsewhere());
            if over {
                drop(handler.lock().expect("nobody panicked").take());
            }
            (over, handler)
        });
        on_duty.end();
        let (relieved, called) = relieving.end();
        let (over, handler) = unsubscribing.end();
        drop(handler);
        assert!(drops.all_once());
        (relieved, called, over)
    });
}
