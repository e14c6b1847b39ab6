//! The consumer loop of every subject that is asked for its events.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

use super::{Consumer, Ends, Plan, Poll, Publisher, Seat, Sink, Wait};
use crate::event::{Draft, Event};

/// What an event of a flow adds to the rest that the tuned loop takes when it has caught up, and the longest rest: as
/// ringmain's workers have them.
const REST_PER_EVENT: Duration = Duration::from_nanos(50);
const REST_MAX: Duration = Duration::from_micros(10);
/// Spins between two looks at the time.
const REST_SPINS: u32 = 4;
/// Empty polls before a thread that shares its core yields.
const YIELD_POLLS: u32 = 32;
/// Events taken by [`until_empty`] before the loop looks up.
const POLL_EVENTS_MAX: usize = 64;

/// What a poll found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Polled {
    /// Events handed to the sink.
    pub(crate) taken: usize,
    /// True if there was nothing more to see.
    pub(crate) caught_up: bool,
}

/// A receiving end with a method that takes the next event. Whoever has this is a [`Consumer`].
pub(crate) trait Pull: Send + 'static {
    /// Hands what is there to the sink, without waiting.
    fn poll<S: Sink>(&mut self, sink: &mut S) -> Polled;

    /// Sleeps until an event comes and hands it to the sink; `false` when all publishers are gone and nothing is left.
    /// Only subjects that park are asked.
    fn park<S: Sink>(&mut self, _sink: &mut S) -> bool {
        false
    }
}

impl<P: Pull> Consumer for P {
    fn run<S: Sink>(mut self, mut sink: S, seat: &Seat) -> S {
        seat.ready();
        match seat.wait {
            Wait::Spinning => spin(&mut self, &mut sink, seat),
            Wait::Parked => while !sink.done() && self.park(&mut sink) {},
        }
        sink
    }

    fn run_together<S: Sink>(mut together: Vec<(Self, S)>, seat: &Seat) -> Vec<S> {
        assert!(seat.wait == Wait::Spinning, "nobody sleeps at many channels at once");
        seat.ready();
        spin_together(&mut together, seat);
        together.into_iter().map(|(_, sink)| sink).collect()
    }
}

fn spin<P: Pull, S: Sink>(receiver: &mut P, sink: &mut S, seat: &Seat) {
    let mut rhythm = Rhythm::new(seat);
    while !sink.done() {
        // Asked before the poll: what was published before the end is then seen by the poll.
        let ended = seat.ended();
        if rhythm.after(receiver.poll(sink)) && ended {
            return;
        }
    }
}

/// One turn is a poll of each receiver.
fn spin_together<P: Pull, S: Sink>(together: &mut [(P, S)], seat: &Seat) {
    let mut rhythm = Rhythm::new(seat);
    while !together.iter().all(|(_, sink)| sink.done()) {
        let ended = seat.ended();
        let mut all = Polled { taken: 0, caught_up: true };
        for (receiver, sink) in &mut *together {
            let polled = receiver.poll(sink);
            all.taken += polled.taken;
            all.caught_up &= polled.caught_up;
        }
        if rhythm.after(all) && ended {
            return;
        }
    }
}

/// What a spinning consumer does between polls.
struct Rhythm {
    tuned: bool,
    idle: Idle,
    /// Events since it last caught up.
    handled: usize,
}

impl Rhythm {
    fn new(seat: &Seat) -> Self {
        Self { tuned: seat.poll == Poll::Tuned, idle: Idle::new(seat.yields), handled: 0 }
    }

    /// True after a poll that found nothing.
    #[inline]
    fn after(&mut self, polled: Polled) -> bool {
        self.handled += polled.taken;
        if polled.taken > 0 {
            self.idle.reset();
        } else {
            self.idle.wait();
        }
        if polled.caught_up {
            if self.tuned && self.handled >= 2 {
                let rest = REST_MAX.min(REST_PER_EVENT.saturating_mul(self.handled as u32));
                let begun = Instant::now();
                while begun.elapsed() < rest {
                    for _ in 0..REST_SPINS {
                        hint::spin_loop();
                    }
                }
            }
            self.handled = 0;
        }
        polled.taken == 0
    }
}

/// How a thread that spins passes the time: alone on its core it does nothing, else it yields after a while.
#[derive(Debug)]
pub(crate) struct Idle {
    yields: bool,
    turns: u32,
}

impl Idle {
    /// `yields` where the core is shared.
    pub(crate) fn new(yields: bool) -> Self {
        Self { yields, turns: 0 }
    }

    /// Starts over, after success.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.turns = 0;
    }

    /// One turn in vain.
    #[inline]
    pub(crate) fn wait(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        if self.yields && self.turns >= YIELD_POLLS {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
}

/// [`Pull::poll`] by calls that each hand one event to the sink, or say that there is none.
#[inline]
pub(crate) fn until_empty<S: Sink>(sink: &mut S, mut next: impl FnMut(&mut S) -> bool) -> Polled {
    for taken in 0..POLL_EVENTS_MAX {
        if !next(sink) {
            return Polled { taken, caught_up: true };
        }
    }
    Polled { taken: POLL_EVENTS_MAX, caught_up: false }
}

/// [`Pull::poll`] for a channel whose receive method gives one event by value.
#[inline]
pub(crate) fn one_by_one<const WORDS: usize>(
    sink: &mut impl Sink,
    mut next: impl FnMut() -> Option<Event<WORDS>>,
) -> Polled {
    until_empty(sink, |sink| next().map(|event| event.deliver(sink)).is_some())
}

/// A publisher for subjects that cannot broadcast: one channel a receiver, each event published to all of them.
#[derive(Debug)]
pub(crate) struct FanOut<P> {
    channels: Vec<P>,
    /// How many of the channels already have the event that was refused by the next.
    reached: usize,
}

impl<P> FanOut<P> {
    /// A channel a receiver, each made with the plan's capacity, and as many publishers as planned.
    pub(crate) fn open<C>(plan: &Plan, make: impl Fn(usize) -> (P, C)) -> Ends<Self, C>
    where
        P: Clone,
    {
        let mut ends = Self::open_single(plan, make);
        while ends.publishers.len() < plan.seating.publishers.len() {
            let channels = ends.publishers[0].channels.clone();
            ends.publishers.push(Self { channels, reached: 0 });
        }
        ends
    }

    /// The same for one publisher, whose ends need not be `Clone`.
    pub(crate) fn open_single<C>(plan: &Plan, make: impl Fn(usize) -> (P, C)) -> Ends<Self, C> {
        let (channels, consumers) = (0..plan.receivers()).map(|_| make(plan.capacity)).unzip();
        Ends { publishers: vec![Self { channels, reached: 0 }], consumers }
    }
}

impl<P: Publisher> Publisher for FanOut<P> {
    #[inline(always)]
    fn try_publish(&mut self, draft: &Draft) -> bool {
        while let Some(channel) = self.channels.get_mut(self.reached) {
            if !channel.try_publish(draft) {
                return false;
            }
            self.reached += 1;
        }
        self.reached = 0;
        true
    }
}
