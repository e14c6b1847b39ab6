//! A handler's call, its end and the end of its time: of the two one comes first, and both sides know which.

use std::sync::Arc;

use loom_tests::{Bounds, model};
use ringmain::internals::sync::alarm::{Alarm, NEVER};
use ringmain::internals::sync::barrier::Barrier;
use ringmain::internals::sync::call_timer::CallTimer;
use ringmain::internals::sync::parker::Parker;

const TICK: u64 = 1 << 16;
const LIMIT: u64 = 4 * TICK;
/// After the end of all calls' times.
const LATE: u64 = 100 * TICK;

fn timer() -> (Arc<CallTimer>, Arc<Alarm>) {
    let barrier = Barrier::fences();
    let alarm = Arc::new(Alarm::new(0, barrier));
    let parker = Arc::new(Parker::new(1, barrier));
    (Arc::new(CallTimer::new(LIMIT, Arc::clone(&alarm), parker)), alarm)
}

#[test]
fn a_call_that_took_too_long_is_told_of_by_its_worker_if_and_only_if_its_consumer_finds_it_so() {
    let bounds = Bounds { preemptions: Some(3), executions_min: 50 };
    let mutants = ["call_timer.begin", "call_timer.attend", "call_timer.once"];
    // Which of two calls in a row were overrun.
    let outcomes = [(false, false), (true, false), (false, true), (true, true)];
    model("call_timer::end", bounds, &mutants, &outcomes, |threads| {
        let (timer, _) = timer();
        let consuming = {
            let timer = Arc::clone(&timer);
            threads.spawn(move || {
                let first = timer.begin(7 << 64 | 1, TICK).end();
                (first, timer.begin(8 << 64 | 2, 2 * TICK).end())
            })
        };
        let working = {
            let timer = Arc::clone(&timer);
            threads.spawn(move || [timer.attend(LATE), timer.attend(LATE)])
        };
        let (first, second) = consuming.end();
        let told: Vec<_> = working.end().into_iter().filter_map(Result::ok).collect();
        let is_told = |event: u128| {
            let calls: Vec<_> = told.iter().filter(|overrun| overrun.event == event).collect();
            assert!(calls.len() <= 1, "once a call");
            calls.first().map(|overrun| overrun.elapsed)
        };
        assert_eq!(is_told(7 << 64 | 1), first.then_some(LATE - TICK));
        assert_eq!(is_told(8 << 64 | 2), second.then_some(LATE - 2 * TICK));
        assert_eq!(told.len(), usize::from(first) + usize::from(second), "an event is shown whole");
        assert_eq!(timer.attend(LATE), Err(NEVER), "both have ended");
        (first, second)
    });
}

#[test]
fn a_worker_does_not_sleep_through_the_end_of_a_call() {
    let bounds = Bounds { preemptions: None, executions_min: 10 };
    let mutants = ["call_timer.alarm", "alarm.take", "barrier.light", "barrier.heavy"];
    // Whether the worker's look met the call.
    model("call_timer::alarm", bounds, &mutants, &[false, true], |threads| {
        let (timer, alarm) = timer();
        // It rings for something else.
        alarm.resume(TICK);
        let consuming = {
            let timer = Arc::clone(&timer);
            threads.spawn(move || {
                let _call = timer.begin(1, 0);
            })
        };
        let working = {
            let (timer, alarm) = (Arc::clone(&timer), Arc::clone(&alarm));
            threads.spawn(move || {
                alarm.take();
                let next = timer.attend(TICK).expect_err("it has time left");
                alarm.resume(next);
                next != NEVER
            })
        };
        consuming.end();
        let is_met = working.end();
        assert!(alarm.at() <= LIMIT, "the worker looks when its time is over");
        is_met
    });
}

#[test]
fn who_extends_a_call_in_time_is_not_overrun_at_its_old_end() {
    let bounds = Bounds { preemptions: None, executions_min: 3 };
    // Whether the extension came in time.
    model("call_timer::extend", bounds, &["call_timer.once"], &[false, true], |threads| {
        let (timer, _) = timer();
        let _call = timer.begin(1, 0);
        let extending = {
            let timer = Arc::clone(&timer);
            threads.spawn(move || timer.extend(0, LATE))
        };
        let working = {
            let timer = Arc::clone(&timer);
            threads.spawn(move || timer.attend(LIMIT))
        };
        let (extended, looked) = (extending.end(), working.end());
        assert_eq!(looked.is_ok(), !extended);
        assert_eq!(timer.is_overrun(), !extended);
        extended
    });
}
