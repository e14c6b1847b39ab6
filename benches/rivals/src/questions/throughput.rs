//! How many events a second go through, publishers never idle, the consumer reading each whole event?

use super::{Job, Outcome, stage};
use crate::event::{Draft, Urgency};
use crate::machine::Seating;
use crate::questions::CAPACITY;
use crate::sink::{Fault, Meter};
use crate::subject::{Stamps, Subject};

/// The rate from the end of a warm-up of two laps to the last event, taken by the consumers: from the first of them
/// that was warm to the last that was done.
pub(super) fn run<S: Subject, const WORDS: usize>(job: &Job<'_>, seating: Seating) -> Result<Outcome, Fault> {
    let plan = job.plan(seating);
    let count = plan.seating.publishers.len() as u64;
    let each = job.events / count;
    let goal = each * count;
    let warmup = (2 * CAPACITY as u64).min(goal / 4);
    let clock = &job.machine.clock;
    let sinks = plan.seating.consumers.iter().map(|_| Meter::new(clock, warmup, goal)).collect();

    let (stamps, ticker) = (plan.stamps, clock.clone());
    let publish = move |publisher, mut end, mut patience: stage::Patience| {
        for sequence in 0..each {
            let stamped = stamps == Stamps::Each || sequence.is_multiple_of(Stamps::SAMPLE);
            let stamp = if stamped { ticker.ticks() } else { 0 };
            patience.publish(&mut end, &Draft { publisher, urgency: Urgency::Ordinary, sequence, stamp })?;
        }
        Ok(())
    };
    let (meters, _) = stage::play::<S, WORDS, _, _>(&plan, sinks, publish)?;

    for meter in &meters {
        meter.tally.verify(WORDS, &vec![each; count as usize])?;
    }
    let started = meters.iter().map(|meter| meter.started).min().unwrap_or(0);
    let finished = meters.iter().map(|meter| meter.finished).max().unwrap_or(0);
    let events_per_s = (goal - warmup) as f64 / clock.nanos(started, finished).max(1) as f64 * 1e9;
    let mut outcome = Outcome::one(job.question, events_per_s / 1e6, None);
    outcome.events_per_s = Some(events_per_s);
    Ok(outcome)
}
