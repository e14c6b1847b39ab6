//! How long does a Critical event take while the channel is full of Low ones?

use super::{CAPACITY, Job, Outcome, stage};
use crate::event::{Draft, SMALL, Urgency};
use crate::machine::Clock;
use crate::sink::{Fault, Meter};
use crate::subject::{Sink, Subject};

/// Low events between two Critical ones.
const LOW_EACH: u64 = 64;
/// What the handler takes for each event: more than any subject takes to publish one, so that the channel is full.
const HANDLER_NS: f64 = 500.0;

/// A handler with something to do.
#[derive(Debug)]
struct Busy {
    meter: Meter,
    clock: Clock,
    ticks: u64,
}

impl Sink for Busy {
    #[inline]
    fn event(&mut self, payload: impl Iterator<Item = u64>) {
        let until = self.clock.ticks() + self.ticks;
        self.meter.event(payload);
        while self.clock.ticks() < until {}
    }

    fn torn(&mut self) {
        self.meter.torn();
    }

    #[inline]
    fn done(&self) -> bool {
        self.meter.done()
    }
}

/// One thread publishes 160,000 Low events as fast as they are taken, and a Critical one after each 64. Only those are
/// stamped, after two laps for warming up, when the publisher first tries: being refused for want of room counts. A
/// channel without priorities carries both kinds, as it does for its users.
pub(super) fn run<S: Subject>(job: &Job<'_>) -> Result<Outcome, Fault> {
    let criticals = job.scaled(160_000) / LOW_EACH;
    let lows = criticals * LOW_EACH;
    let goal = criticals + lows;
    let warmup = (2 * CAPACITY as u64).min(lows / 4);
    let plan = job.plan(job.machine.seat(1, 1));
    let clock = job.machine.clock.clone();
    let ticks = (HANDLER_NS / 1e6 * clock.ticks_per_ms()) as u64;
    let sink = Busy { meter: Meter::new(&clock, 1, goal), clock: clock.clone(), ticks };
    let publish = move |_, mut end, mut patience: stage::Patience| {
        // Each kind counts its own sequence, as a publisher of its own would: one may overtake the other.
        for low in 0..lows {
            let urgency = Urgency::Low;
            patience.publish(&mut end, &Draft { publisher: 0, urgency, sequence: low, stamp: 0 })?;
            if low % LOW_EACH == LOW_EACH - 1 {
                // Counted here, as a Critical event may be read before Low ones that are a whole warm-up older.
                let stamp = if low < warmup { 0 } else { clock.ticks() };
                let (urgency, sequence) = (Urgency::Critical, low / LOW_EACH);
                patience.publish(&mut end, &Draft { publisher: 1, urgency, sequence, stamp })?;
            }
        }
        Ok(())
    };
    let (sinks, _) = stage::play::<S, SMALL, _, _>(&plan, vec![sink], publish)?;
    let busy = sinks.into_iter().next().expect("one sink was given, one comes back");
    busy.meter.tally.verify(SMALL, &[lows, criticals])?;
    let latency = busy.meter.latency;
    Ok(Outcome::one(job.question, latency.value_at_quantile(0.99) as f64, Some(latency)))
}
