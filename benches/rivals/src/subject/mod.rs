//! The subjects under measurement, one file each, and the traits through which they are driven.
//!
//! # Adding one
//!
//! 1. `src/subject/NAME.rs`: a unit struct that implements [`Subject`]; its publisher implements [`Publisher`].
//! 2. What receives implements either [`Pull`] (there is a method that takes the next event: the harness owns the loop,
//!    the thread and the waiting) or [`Consumer`] itself (the subject calls a handler on threads of its own: it pins
//!    them to [`Plan::seating`], moves the [`Sink`] into the handler and gives it back from [`Consumer::run`]).
//! 3. Declare the module below and add `Entry::of::<module::Name>()` to [`SUBJECTS`].
//!
//! An event travels as a [`Draft`]. Rivals turn it into an [`crate::event::Event`]; a subject with a header of its own
//! fills only the payload ([`Draft::write_payload`]) and hands the payload words to [`Sink::event`]. One that has
//! several forms (one publisher, many publishers) is several subjects in one file.
//!
//! Rivals are what `ratio_to_best_rival` looks among. ringmain is none, and neither is its bare ring, which stands in
//! the table for the limit that everything built on it has.

mod array_queue;
mod bare_ring;
mod bus;
mod channels;
mod disruptor;
mod pull;
mod ringmain;
mod rtrb;
mod thingbuf;
mod tokio_broadcast;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use crate::event::{Draft, Word};
use crate::machine::Seating;
use crate::questions::{self, Job, Outcome, Question};
use crate::sink::Fault;

pub(crate) use pull::{FanOut, Idle, Polled, Pull, one_by_one, until_empty};

/// All that can be measured, in the order of the table's ties.
pub(crate) static SUBJECTS: &[Entry] = &[
    Entry::of::<ringmain::RingmainSingle>(),
    Entry::of::<ringmain::Ringmain>(),
    Entry::of::<ringmain::RingmainFourWorkers>(),
    Entry::of::<bare_ring::BareRingSingle>(),
    Entry::of::<bare_ring::BareRing>(),
    Entry::of::<channels::CrossbeamChannel>(),
    Entry::of::<array_queue::CrossbeamArrayQueue>(),
    Entry::of::<channels::Kanal>(),
    Entry::of::<thingbuf::Thingbuf>(),
    Entry::of::<channels::StdSyncChannel>(),
    Entry::of::<rtrb::Rtrb>(),
    Entry::of::<disruptor::DisruptorSingle>(),
    Entry::of::<disruptor::DisruptorMulti>(),
    Entry::of::<bus::BusBroadcast>(),
    Entry::of::<tokio_broadcast::TokioBroadcast>(),
    Entry::of::<channels::Flume>(),
    Entry::of::<channels::TokioMpsc>(),
];

/// The subject that `ratio_to_crossbeam` compares with, as shipped.
pub(crate) const REFERENCE: &str = "crossbeam-channel";

/// A form of ringmain, and the bare ring under it: what the one lacks to the other is the tax on its features.
pub(crate) const TAXED: [(&str, &str); 2] = [("ringmain-single", "bare-ring-single"), ("ringmain", "bare-ring")];

/// What one subject is and how it is opened.
pub(crate) trait Subject: 'static {
    /// As in the table and for `--subject`.
    const NAME: &'static str;
    /// False for ringmain and its bare ring: `ratio_to_best_rival` looks among rivals only.
    const RIVAL: bool = true;
    /// Whether the form measured admits publishers on several threads. `One` is left out of `throughput-2-1`.
    const PUBLISHERS: Publishers;
    /// The poll loops to measure it with, a row each. One that owns its loop lists the classes it wants to be compared
    /// in, and reads [`Plan::poll`] if it can do both.
    const POLLS: &'static [Poll] = &[Poll::Shipped, Poll::Tuned];
    /// Whether its consumer can sleep until an event comes ([`Wait::Parked`]).
    const PARKS: bool;
    /// Whether each of any number of receivers gets every event of one channel.
    const BROADCASTS: bool = false;
    /// True for a subject that stamps events and records their latencies itself ([`Plan::stamps`]): the harness then
    /// does not do it a second time where it asks for throughput.
    const STAMPS: bool = false;
    /// The publishing end.
    type Publisher<const WORDS: usize>: Publisher;
    /// The receiving end.
    type Consumer<const WORDS: usize>: Consumer;

    /// Whether it has a row under `question`.
    fn takes_part(question: Question) -> bool {
        if question.is_about_subscriptions() { Self::BROADCASTS } else { !question.is_about_ringmain() }
    }

    /// Makes one channel as `plan` says. With several receivers each receives every event: a subject that cannot
    /// broadcast opens a channel a receiver and publishes to each.
    fn open<const WORDS: usize>(plan: &Plan) -> Ends<Self::Publisher<WORDS>, Self::Consumer<WORDS>>;
}

/// Publishes from one thread; is moved there, and dropped there when all is published.
pub(crate) trait Publisher: Send + 'static {
    /// Publishes, or says `false` if there is no room now. Never waits: waiting is the harness's, and so is trying
    /// again with the same draft.
    fn try_publish(&mut self, draft: &Draft) -> bool;
}

/// Receives on one thread that the harness has pinned.
pub(crate) trait Consumer: Send + 'static {
    /// Calls [`Seat::ready`] once nothing published from then on can be missed, then hands each event to `sink` until
    /// [`Sink::done`], then gives the sink back. If [`Seat::ended`] turns true and nothing is left, it gives the sink
    /// back undone: the harness reports the loss.
    ///
    /// A subject with threads of its own blocks here meanwhile.
    fn run<S: Sink>(self, sink: S, seat: &Seat) -> S;

    /// The same for several receivers on one thread, each with a sink of its own. They come back in this order.
    fn run_together<S: Sink>(together: Vec<(Self, S)>, seat: &Seat) -> Vec<S>
    where
        Self: Sized;
}

/// Reads events fully and checks them: the harness's handler.
pub(crate) trait Sink: Send + 'static {
    /// Takes one event by its payload words (see [`crate::event`]).
    fn event<W: Word, const WORDS: usize>(&mut self, payload: &[W; WORDS]);
    /// Takes one event that is not in one piece; the run fails.
    fn torn(&mut self);
    /// True when all events have come.
    fn done(&self) -> bool;
}

/// Both ends of an open channel.
#[derive(Debug)]
pub(crate) struct Ends<P, C> {
    /// As many as [`Seating::publishers`].
    pub(crate) publishers: Vec<P>,
    /// As many as [`Plan::receivers`]: first those of the first consumer thread.
    pub(crate) consumers: Vec<C>,
}

/// How a channel is to be opened.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many of each side, and the cores of their threads.
    pub(crate) seating: Seating,
    /// Receivers on each consumer thread.
    pub(crate) subscriptions: usize,
    /// Slots, the same for all; a power of two.
    pub(crate) capacity: usize,
    /// Which poll loop.
    pub(crate) poll: Poll,
    /// How the consumer waits.
    pub(crate) wait: Wait,
    /// Which events the subject itself should stamp, if it does that; the stamps of [`Draft`] come on top.
    pub(crate) stamps: Stamps,
}

impl Plan {
    /// How many receivers there are, over all consumer threads.
    pub(crate) fn receivers(&self) -> usize {
        self.seating.consumers.len() * self.subscriptions
    }
}

/// One or many publisher threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publishers {
    /// A single-publisher form.
    One,
    /// Any number, though a question may use one.
    Many,
}

/// What the consumer's loop does between polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// Polls again at once.
    Shipped,
    /// After a poll that caught up with the publisher after two or more events, rests first: 50 ns for each, at most 10 µs.
    Tuned,
}

/// How a consumer without events waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Keeps its core (where threads share one, it yields).
    Spinning,
    /// Sleeps, by the subject's own means.
    Parked,
}

/// Which events carry a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamps {
    /// All.
    Each,
    /// One in [`Stamps::SAMPLE`].
    Sampled,
}

impl Stamps {
    /// One in how many when sampled.
    pub(crate) const SAMPLE: u64 = 64;
}

/// The harness's side of one consumer thread.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Which poll loop.
    pub(crate) poll: Poll,
    /// How to wait.
    pub(crate) wait: Wait,
    /// Yield rather than spin, as somebody else needs this core.
    pub(crate) yields: bool,
    ready: Sender<()>,
    ended: Arc<AtomicBool>,
}

impl Seat {
    /// `ready` hears once from [`Seat::ready`]; `ended` is set when every publisher is done.
    pub(crate) fn new(plan: &Plan, ready: Sender<()>, ended: Arc<AtomicBool>) -> Self {
        Self { poll: plan.poll, wait: plan.wait, yields: plan.seating.shares_a_core(), ready, ended }
    }

    /// Tells the harness that nothing published from now on can be missed.
    pub(crate) fn ready(&self) {
        self.ready.send(()).expect("the harness waits for each consumer before it goes on");
    }

    /// True when nothing more will be published.
    pub(crate) fn ended(&self) -> bool {
        // SYNC(run.ended): Acquire. Pairs with the store in `stage`; whoever sees it finds all published events.
        self.ended.load(Ordering::Acquire)
    }
}

/// A subject as the rest of the harness sees it: its facts, and each question run with its own types.
#[derive(Debug)]
pub(crate) struct Entry {
    /// [`Subject::NAME`].
    pub(crate) name: &'static str,
    /// [`Subject::RIVAL`].
    pub(crate) rival: bool,
    /// [`Subject::PUBLISHERS`].
    pub(crate) publishers: Publishers,
    /// [`Subject::POLLS`].
    pub(crate) polls: &'static [Poll],
    /// [`Subject::PARKS`].
    pub(crate) parks: bool,
    /// [`Subject::takes_part`].
    pub(crate) takes_part: fn(Question) -> bool,
    /// Runs one question once.
    pub(crate) run: fn(&Job<'_>) -> Result<Outcome, Fault>,
}

impl Entry {
    const fn of<S: Subject>() -> Self {
        Self {
            name: S::NAME,
            rival: S::RIVAL,
            publishers: S::PUBLISHERS,
            polls: S::POLLS,
            parks: S::PARKS,
            takes_part: S::takes_part,
            run: questions::run::<S>,
        }
    }

    /// The one of that name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        SUBJECTS.iter().find(|entry| entry.name == name)
    }
}
