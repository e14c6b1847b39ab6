//! Many events on the way at once, each of which somebody waits for.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::subject::{Event, Subject};

/// What a run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    /// Of the time from handing in to the answer.
    pub(crate) p99: Duration,
}

impl Sample {
    pub(crate) fn new(events: u64, begun: Instant, mut latencies: Vec<Duration>) -> Self {
        let per_second = events as f64 / begun.elapsed().as_secs_f64();
        latencies.sort_unstable();
        Self { per_second, p99: latencies[(latencies.len() - 1) * 99 / 100] }
    }
}

/// Group commit: whoever waits and finds nobody at it appends for all who wait.
pub(crate) struct Group<'s, S> {
    subject: &'s S,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Event>,
    /// Groups begun, and answered.
    begun: u64,
    answered: u64,
}

impl<'s, S: Subject> Group<'s, S> {
    pub(crate) fn new(subject: &'s S) -> Self {
        Self { subject, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Hands an event in. Returns the group it is in.
    pub(crate) fn submit(&self, event: Event) -> u64 {
        let mut state = self.state.lock().expect("nobody panicked");
        state.waiting.push(event);
        state.begun + 1
    }

    /// Waits for a group.
    pub(crate) fn wait(&self, group: u64) {
        let mut state = self.state.lock().expect("nobody panicked");
        while state.answered < group {
            if state.begun > state.answered {
                state = self.changed.wait(state).expect("nobody panicked");
                continue;
            }
            let events = std::mem::take(&mut state.waiting);
            state.begun += 1;
            drop(state);
            self.subject.append(&events);
            state = self.state.lock().expect("nobody panicked");
            state.answered = state.begun;
            self.changed.notify_all();
        }
    }
}

/// Lets each of so many threads have so many events on the way, and times each from handing in to its answer.
pub(crate) fn fly<P>(
    (threads, window, total): (u32, usize, u64),
    events: &[Event],
    submit: impl Fn(&Event) -> P + Sync,
    wait: impl Fn(P) + Sync,
) -> Sample {
    let all = Mutex::new(Vec::new());
    let each = total.div_ceil(u64::from(threads));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut latencies = Vec::with_capacity(each as usize);
                let mut on_the_way: VecDeque<(Instant, P)> = VecDeque::with_capacity(window);
                let mut land = |(begun, one): (Instant, P)| {
                    wait(one);
                    latencies.push(begun.elapsed());
                };
                for nth in 0..each {
                    if on_the_way.len() == window {
                        land(on_the_way.pop_front().expect("the window is full"));
                    }
                    on_the_way.push_back((Instant::now(), submit(&events[nth as usize % events.len()])));
                }
                on_the_way.drain(..).for_each(&mut land);
                all.lock().expect("nobody panicked").append(&mut latencies);
            });
        }
    });
    Sample::new(each * u64::from(threads), begun, all.into_inner().expect("nobody panicked"))
}
