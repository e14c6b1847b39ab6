//! How long does an event take when there is no queue: at 100,000 a second spinning, at 1,000 a second parked, and what
//! CPU does the latter cost?

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

use super::{Job, Outcome, Question, Sample, stage};
use crate::event::{Draft, SMALL, Urgency};
use crate::machine::cpu_time;
use crate::sink::{Fault, Meter, median_ns};
use crate::subject::Subject;

/// 15,000 events, 10 µs apart, after 1,500 for warming up. Latency counts from when an event was due, so that one that
/// holds up the next is charged for it.
pub(super) fn spinning<S: Subject>(job: &Job<'_>) -> Result<Outcome, Fault> {
    let (warmup, events) = (job.scaled(1_500), job.scaled(16_500));
    let plan = job.plan(job.machine.seat(1, 1));
    let clock = &job.machine.clock;
    let period = clock.ticks_per_ms() / 100.0;
    let ticker = clock.clone();
    let publish = move |publisher, mut end, mut patience: stage::Patience| {
        let start = ticker.ticks();
        for sequence in 0..events {
            let due = start + (sequence as f64 * period) as u64;
            while ticker.ticks() < due {
                hint::spin_loop();
            }
            patience.publish(&mut end, &Draft { publisher, urgency: Urgency::Ordinary, sequence, stamp: due })?;
        }
        Ok(())
    };
    let (meters, _) = stage::play::<S, SMALL, _, _>(&plan, vec![Meter::new(clock, warmup, events)], publish)?;
    let latency = latency_of(meters, events)?.latency;
    Ok(Outcome::one(job.question, median_ns(&latency), Some(latency)))
}

/// 300 events, 1 ms apart, after 30 for warming up. The publisher sleeps in between and wakes late, so latency counts
/// from when it did publish. CPU is that of the whole process: the consumer, the publisher, and the waking of one by
/// the other.
pub(super) fn sleeping<S: Subject>(job: &Job<'_>) -> Result<Outcome, Fault> {
    const PERIOD: Duration = Duration::from_millis(1);
    let (warmup, events) = (job.scaled(30), job.scaled(330));
    let plan = job.plan(job.machine.seat(1, 1));
    let clock = &job.machine.clock;
    let ticker = clock.clone();
    let publish = move |publisher, mut end, mut patience: stage::Patience| {
        let start = Instant::now();
        let mut warm = (cpu_time(), start);
        for sequence in 0..events {
            let due = PERIOD * sequence as u32;
            thread::sleep(due.saturating_sub(start.elapsed()));
            if sequence == warmup {
                warm = (cpu_time(), Instant::now());
            }
            let stamp = ticker.ticks();
            patience.publish(&mut end, &Draft { publisher, urgency: Urgency::Ordinary, sequence, stamp })?;
        }
        // The last event has its whole period too, and the ends are kept until the CPU is read.
        thread::sleep((PERIOD * events as u32).saturating_sub(start.elapsed()));
        let (cpu, at) = warm;
        Ok((cpu_time() - cpu).as_secs_f64() / at.elapsed().as_secs_f64())
    };
    let (meters, used) = stage::play::<S, SMALL, _, _>(&plan, vec![Meter::new(clock, warmup, events)], publish)?;
    let latency = latency_of(meters, events)?.latency;
    let mut outcome = Outcome::one(Question::Paced1k, median_ns(&latency), Some(latency));
    let percent = used.iter().sum::<f64>() * 100.0;
    outcome.samples.push(Sample { question: Question::Paced1kCpu, value: percent, latency: None });
    Ok(outcome)
}

fn latency_of(meters: Vec<Meter>, events: u64) -> Result<Meter, Fault> {
    let meter = meters.into_iter().next().expect("one sink was given, one comes back");
    meter.tally.verify(SMALL, &[events])?;
    Ok(meter)
}
