//! From one core to another and back: a cache line by itself, and an event with its answer.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;
use crossbeam::utils::CachePadded;

use super::machine::Machine;
use super::measure::{Sample, TICK, Tick, builder, close, on_publisher_thread};
use crate::{Error, IdleStrategy, RecvError, Topic, TryRecvError};

/// Round trips that are timed together, so that reading the clock does not count.
const TRIPS: u64 = 100;
/// Times that a figure has at least, however short the time to measure.
const TIMES_MIN: usize = 5;
/// An answer takes microseconds; one that takes so long is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// Looks between two looks at the clock, while an answer is waited for.
const LOOKS: u32 = 1 << 16;

const ANSWER: Topic<Tick> = Topic::new("bench.answer");

/// Passes a counter between the two cores until `until`. Needs two cores.
pub(super) fn line(machine: &Machine, until: Instant) -> Sample {
    /// Where the other thread ends.
    const STOP: u64 = u64::MAX;
    // Its loads acquire, its stores release.
    let ball = Arc::new(CachePadded::new(AtomicCell::new(0_u64)));
    let other = {
        let (ball, seats) = (Arc::clone(&ball), machine.seats);
        thread::spawn(move || {
            // As on the publisher's thread.
            let _ = seats.is_none_or(|seats| core_affinity::set_for_current(seats.worker));
            let mut seen = 0;
            loop {
                match ball.load() {
                    STOP => return,
                    odd if odd != seen && odd % 2 == 1 => {
                        seen = odd;
                        ball.store(odd + 1);
                    }
                    _ => {}
                }
            }
        })
    };
    let value = on_publisher_thread(machine, true, || {
        let mut trips = 0;
        let value = median_trip(until, || {
            ball.store(2 * trips + 1);
            trips += 1;
            while ball.load() != 2 * trips {}
            Ok::<_, Error>(())
        });
        ball.store(STOP);
        value
    });
    other.join().expect("there is nothing in it to panic");
    Sample { value: value.expect("a line always comes back"), ..Sample::default() }
}

/// Publishes an event, whose handler publishes an answer, which comes into a mailbox of the first publisher; one at a
/// time until `until`, both sides spinning. Needs two cores.
pub(super) fn event(machine: &Machine, until: Instant) -> Result<Sample, Error> {
    let pinned = machine.seats.is_some();
    let bus = builder(pinned).idle(IdleStrategy::BusySpin).build()?;
    let mut answers = bus.subscribe(ANSWER).capacity(8).mailbox()?;
    let mut answering = bus.publisher()?;
    let subscription = bus.subscribe(TICK).handle(move |tick, _| {
        answering.try_publish(ANSWER, &Tick::new(tick.sum())).map(drop).map_err(|error| error.to_string())
    })?;
    let mut publisher = bus.publisher()?;
    let value = on_publisher_thread(machine, pinned, || {
        median_trip(until, || {
            publisher.publish(TICK, &Tick::new(1))?;
            let (mut looks, begun) = (0_u32, Instant::now());
            loop {
                match answers.try_recv() {
                    Ok(_) => return Ok::<_, Error>(()),
                    Err(TryRecvError::Closed) => return Err(RecvError::Closed.into()),
                    Err(TryRecvError::Empty) => {}
                }
                looks = looks.wrapping_add(1);
                if looks.is_multiple_of(LOOKS) && begun.elapsed() > PATIENCE {
                    return Err(RecvError::TimedOut { after: PATIENCE }.into());
                }
            }
        })
    })?;
    drop((publisher, subscription));
    let sample = close(&bus, Sample { value, ..Sample::default() })?;
    drop(answers);
    Ok(sample)
}

/// The median of the times of [`TRIPS`] trips, in nanoseconds a trip.
fn median_trip<E>(until: Instant, mut trip: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut times = Vec::new();
    while times.len() < TIMES_MIN || Instant::now() < until {
        let begun = Instant::now();
        for _ in 0..TRIPS {
            trip()?;
        }
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_nanos() as f64 / TRIPS as f64)
}
