//! How many events a second go through, publishers never idle, each receiver reading each whole event?

use super::{Job, Outcome, stage};
use crate::event::{Draft, Urgency};
use crate::machine::Seating;
use crate::questions::Better;
use crate::sink::{Fault, Meter};
use crate::subject::{Stamps, Subject};

/// The rate from the end of a warm-up of two laps to the last event, taken by the receivers: from the first of them
/// that was warm to the last that was done. The questions about many subscriptions are asked the other way round: what
/// one delivery takes.
pub(super) fn run<S: Subject, const WORDS: usize>(job: &Job<'_>, seating: Seating) -> Result<Outcome, Fault> {
    let plan = job.plan(seating);
    let count = plan.seating.publishers.len() as u64;
    let each = job.events / count;
    let goal = each * count;
    let warmup = job.warmup(goal);
    let clock = &job.machine.clock;
    let sinks = (0..plan.receivers()).map(|_| Meter::new(clock, warmup, goal)).collect();

    // A subject that measures latency itself is not made to carry a second stamp.
    let mask = match plan.stamps {
        _ if S::STAMPS || job.question.is_about_subscriptions() => u64::MAX,
        Stamps::Each => 0,
        Stamps::Sampled => Stamps::SAMPLE - 1,
    };
    let ticker = clock.clone();
    let publish = move |publisher, mut end, mut patience: stage::Patience| {
        for sequence in 0..each {
            let stamp = if sequence & mask == 0 { ticker.ticks() } else { 0 };
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
    let value = match job.question.better() {
        Better::Higher => events_per_s / 1e6,
        Better::Lower => 1e9 / (events_per_s * plan.receivers() as f64),
    };
    let mut outcome = Outcome::one(job.question, value, None);
    outcome.events_per_s = Some(events_per_s);
    Ok(outcome)
}
