//! One slice of a measurement: a bus is built, asked one question, and shut down with its books closed.
//!
//! ```text
//! main thread           publisher's thread, on the last core        worker, on the first core
//! build, subscribe ───► warm up, flush, publish until time is up ──► handler
//! shut down, count ◄─── latencies, CPU, rate
//! ```
//!
//! Everything goes through the public API, as in a program that embeds the bus.

use std::hint::{black_box, spin_loop};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rkyv::{Archive, Serialize};

use super::machine::{BUS_NAME, CpuTime, Machine};
use super::questions::{Pace, Question, SAMPLE};
use super::round_trip;
use crate::{Bus, BusBuilder, Error, IdleStrategy, Priority, Publisher, StampPolicy, Topic};

/// Events before the figures count, if a tenth of the time has fewer.
const WARM_UP_EVENTS: u64 = 5;
/// Events that a figure has at least, however short the time.
const EVENTS_MIN: u64 = 20;
/// Events between two looks at the clock where they are not timed one by one.
const CHUNK_EVENTS: u64 = 256;

/// The longest call of `publish` told apart from longer ones: a minute.
const CALL_NS_MAX: u64 = 60_000_000_000;

/// A payload of 64 bytes.
#[derive(Archive, Serialize)]
pub(super) struct Tick {
    words: [u64; 8],
}

/// Under which it is published.
pub(super) const TICK: Topic<Tick> = Topic::new("bench.tick");

impl Tick {
    pub(super) const fn new(word: u64) -> Self {
        Self { words: [word; 8] }
    }
}

impl ArchivedTick {
    /// Reads all of it, as a handler would.
    #[inline]
    pub(super) fn sum(&self) -> u64 {
        self.words.iter().fold(0, |sum, word| sum.wrapping_add(word.to_native()))
    }
}

/// What one slice found.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// The answer: nanoseconds (a median), or events a second.
    pub(super) value: f64,
    /// Where latency was asked for: of each event, from publish to the end of the handler.
    pub(super) paced: Option<Paced>,
    /// Events that were accepted.
    pub(super) published: u64,
    /// Events that were delivered.
    pub(super) delivered: u64,
}

/// What events one at a time show.
#[derive(Debug, Clone)]
pub(super) struct Paced {
    /// From publish to the end of the handler, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    /// The median of how long the call of `publish` takes, in nanoseconds.
    pub(super) publish_ns: f64,
    /// Of the worker and of the whole process, in percent of a core; `None` where the system does not say.
    pub(super) cpu_percent: Option<(f64, f64)>,
}

/// Asks `question` until `until`, and a little longer where that leaves too few events.
///
/// # Errors
/// Those of the bus.
pub(super) fn measure(question: Question, machine: &Machine, until: Instant) -> Result<Sample, Error> {
    match question {
        Question::LineRoundTrip => Ok(round_trip::line(machine, until)),
        Question::EventRoundTrip => round_trip::event(machine, until),
        Question::Latency { idle, pace } => paced(machine, machine.seats.is_some(), idle, pace, until),
        Question::Unpinned => paced(machine, false, IdleStrategy::default(), Pace::Brisk, until),
        Question::Throughput { single, sampled } => throughput(machine, single, sampled, until),
    }
}

/// A bus with one worker; all that is not under question is as by default.
pub(super) fn builder(pinned: bool) -> BusBuilder {
    Bus::builder().name(BUS_NAME).workers(1).pin(pinned)
}

/// Runs `work` on the publisher's thread, on the publisher's core if `pinned`.
pub(super) fn on_publisher_thread<R: Send>(machine: &Machine, pinned: bool, work: impl FnOnce() -> R + Send) -> R {
    let seat = machine.seats.filter(|_| pinned).map(|seats| seats.publisher);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            // The survey has tried it, and a figure of an unpinned thread is a figure too.
            let _ = seat.is_none_or(core_affinity::set_for_current);
            work()
        });
        publishing.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Shuts the bus down and enters its books.
pub(super) fn close(bus: &Bus, sample: Sample) -> Result<Sample, Error> {
    let delivered = bus.shutdown()?.delivered;
    Ok(Sample { published: bus.ledger().accepted, delivered, ..sample })
}

fn paced(machine: &Machine, pinned: bool, idle: IdleStrategy, pace: Pace, until: Instant) -> Result<Sample, Error> {
    let bus = builder(pinned).idle(idle).build()?;
    let subscription = bus.subscribe(TICK).handle(|tick, _| read(tick))?;
    let mut publisher = bus.publisher()?;
    let paced = on_publisher_thread(machine, pinned, || {
        let mut pacer = Pacer::new(pace, machine);
        pacer.publish(&mut publisher, WARM_UP_EVENTS, warm(until))?;
        bus.flush()?;
        let warm = bus.latency_histogram(Priority::Normal);
        let (begun, cpu) = (Instant::now(), CpuTime::now());
        let calls = pacer.publish(&mut publisher, EVENTS_MIN, until)?;
        bus.flush()?;
        let cpu_percent = cpu.zip(CpuTime::now()).map(|(cpu, now)| now.percent_since(cpu, begun.elapsed()));
        let mut latency = bus.latency_histogram(Priority::Normal);
        latency.subtract(&warm).expect("a bus takes no latency back, and both histograms have its bounds");
        Ok::<_, Error>(Paced { latency, publish_ns: calls.value_at_quantile(0.5) as f64, cpu_percent })
    })?;
    drop((publisher, subscription));
    let value = paced.latency.value_at_quantile(0.5) as f64;
    close(&bus, Sample { value, paced: Some(paced), ..Sample::default() })
}

/// The handler.
#[inline]
fn read(tick: &ArchivedTick) {
    black_box(tick.sum());
}

/// Publishes at even distances. An event that comes late does not hurry the next, as that would queue behind it.
struct Pacer {
    pace: Pace,
    /// Whether the worker needs the core on which the publisher waits.
    shares_core: bool,
    due: Instant,
}

impl Pacer {
    fn new(pace: Pace, machine: &Machine) -> Self {
        Self { pace, shares_core: machine.is_single(), due: Instant::now() }
    }

    /// Publishes until `until` and at least `events_min` events; how long each call took, in nanoseconds.
    fn publish(&mut self, publisher: &mut Publisher, events_min: u64, until: Instant) -> Result<Histogram<u64>, Error> {
        let mut calls = Histogram::new_with_bounds(1, CALL_NS_MAX, 2).expect("bounds that a histogram can have");
        while calls.len() < events_min || Instant::now() < until {
            self.wait();
            let tick = Tick::new(calls.len());
            let begun = Instant::now();
            publisher.publish(TICK, &tick)?;
            calls.saturating_record(begun.elapsed().as_nanos() as u64);
        }
        Ok(calls)
    }

    fn wait(&mut self) {
        match self.pace {
            Pace::Calm => thread::sleep(self.due.saturating_duration_since(Instant::now())),
            Pace::Brisk => {
                while Instant::now() < self.due {
                    if self.shares_core { thread::yield_now() } else { spin_loop() }
                }
            }
        }
        let (now, next) = (Instant::now(), self.due + self.pace.period());
        self.due = if next > now { next } else { now + self.pace.period() };
    }
}

fn throughput(machine: &Machine, single: bool, sampled: bool, until: Instant) -> Result<Sample, Error> {
    let pinned = machine.seats.is_some();
    let stamps = if sampled { StampPolicy::OneIn(SAMPLE) } else { StampPolicy::Every };
    let builder = builder(pinned).stamps(stamps);
    let bus = if single { builder.single_publisher() } else { builder }.build()?;
    let subscription = bus.subscribe(TICK).handle(|tick, _| read(tick))?;
    let mut publisher = bus.publisher()?;
    let value = on_publisher_thread(machine, pinned, || {
        let mut flood = |until: Instant| {
            let mut events = 0;
            while events == 0 || Instant::now() < until {
                for word in events..events + CHUNK_EVENTS {
                    publisher.publish(TICK, &Tick::new(word))?;
                }
                events += CHUNK_EVENTS;
            }
            bus.flush()?;
            Ok::<_, Error>(events)
        };
        flood(warm(until))?;
        let begun = Instant::now();
        let events = flood(until)?;
        Ok::<_, Error>(events as f64 / begun.elapsed().as_secs_f64())
    })?;
    drop((publisher, subscription));
    close(&bus, Sample { value, ..Sample::default() })
}

/// The end of the warm-up: a tenth of the time.
fn warm(until: Instant) -> Instant {
    let now = Instant::now();
    now + until.saturating_duration_since(now).min(Duration::from_secs(60)) / 10
}
