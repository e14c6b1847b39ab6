//! How long does a Critical event wait while the channel is full of Normal and Low ones?

use hdrhistogram::Histogram;

use super::{Job, Outcome, Question, Sample, stage};
use crate::event::{Draft, SMALL, Urgency, Word};
use crate::machine::Clock;
use crate::sink::{Fault, Meter, latencies};
use crate::subject::{Sink, Subject};

/// Events of the flood between two Critical ones, one half Normal and one Low.
const FLOOD_EACH: u64 = 64;
/// What the handler takes for each event: more than any subject takes to publish one, so that the channel is full.
const HANDLER_NS: f64 = 500.0;

/// A handler with something to do.
#[derive(Debug)]
struct Busy {
    /// Its latencies end where the handler begins: they are the wait in the queue.
    meter: Meter,
    /// What each call of the handler took, in nanoseconds.
    dispatches: Histogram<u64>,
    clock: Clock,
    ticks: u64,
}

impl Sink for Busy {
    #[inline]
    fn event<W: Word, const WORDS: usize>(&mut self, payload: &[W; WORDS]) {
        let start = self.clock.ticks();
        self.meter.event(payload);
        loop {
            let now = self.clock.ticks();
            if now >= start + self.ticks {
                self.dispatches.saturating_record(self.clock.nanos(start, now));
                return;
            }
        }
    }

    fn torn(&mut self) {
        self.meter.torn();
    }

    #[inline]
    fn done(&self) -> bool {
        self.meter.done()
    }
}

/// One thread publishes 160,000 events as fast as they are taken, Normal and Low by turns, and a Critical one after each
/// 64. Only those are stamped, after two laps for warming up, when the publisher first tries: being refused for want of
/// room counts. A channel without priorities carries all kinds, as it does for its users.
pub(super) fn run<S: Subject>(job: &Job<'_>) -> Result<Outcome, Fault> {
    let criticals = job.scaled(160_000) / FLOOD_EACH;
    let flood = criticals * FLOOD_EACH;
    let goal = criticals + flood;
    let warmup = job.warmup(flood);
    let plan = job.plan(job.machine.seat(1, 1));
    let clock = job.machine.clock.clone();
    let ticks = (HANDLER_NS / 1e6 * clock.ticks_per_ms()) as u64;
    let meter = Meter::new(&clock, 1, goal);
    let sink = Busy { meter, dispatches: latencies(), clock: clock.clone(), ticks };
    let publish = move |_, mut end, mut patience: stage::Patience| {
        // Each kind counts its own sequence, as a publisher of its own would: one may overtake the other.
        for nth in 0..flood {
            let (publisher, urgency) = if nth % 2 == 0 { (0, Urgency::Ordinary) } else { (1, Urgency::Low) };
            patience.publish(&mut end, &Draft { publisher, urgency, sequence: nth / 2, stamp: 0 })?;
            if nth % FLOOD_EACH == FLOOD_EACH - 1 {
                // Counted here, as a Critical event may be read before others that are a whole warm-up older.
                let stamp = if nth < warmup { 0 } else { clock.ticks() };
                let (urgency, sequence) = (Urgency::Critical, nth / FLOOD_EACH);
                patience.publish(&mut end, &Draft { publisher: 2, urgency, sequence, stamp })?;
            }
        }
        Ok(())
    };
    let (sinks, _) = stage::play::<S, SMALL, _, _>(&plan, vec![sink], publish)?;
    let Busy { meter, dispatches, .. } = sinks.into_iter().next().expect("one sink was given, one comes back");
    meter.tally.verify(SMALL, &[flood / 2, flood / 2, criticals])?;
    let p99 = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64;
    let mut outcome = Outcome::one(Question::CriticalFlood, p99(&meter.latency), Some(meter.latency));
    let (question, value) = (Question::CriticalFloodDispatch, p99(&dispatches));
    outcome.samples.push(Sample { question, value, latency: Some(dispatches) });
    Ok(outcome)
}
