//! How fast is a burst of 100,000 events drained by a consumer that was idle?

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Job, Outcome, stage};
use crate::event::{Draft, SMALL, Urgency};
use crate::sink::{Drain, Drained, Fault};
use crate::subject::Subject;

/// Quiet before each burst: the consumer polls in vain.
const QUIET: Duration = Duration::from_micros(100);
/// A burst takes milliseconds; one that takes this long has lost an event.
const STUCK_SECONDS: u64 = 20;

/// The median of five bursts, each from before the first publish to after the last event is read, per event. The
/// channel is as small as ever, so the publisher waits within a burst.
pub(super) fn run<S: Subject>(job: &Job<'_>) -> Result<Outcome, Fault> {
    let (burst, bursts) = (job.scaled(100_000), 5);
    let plan = job.plan(job.machine.seat(1, 1));
    let clock = &job.machine.clock;
    let drained = Arc::new(Drained::default());
    let sink = Drain::new(clock, burst, bursts, Arc::clone(&drained));
    let ticker = clock.clone();
    let publish = move |publisher, mut end, mut patience: stage::Patience| {
        let mut nanos = Vec::new();
        for number in 0..bursts {
            wait_until(&mut patience, |quiet| quiet >= QUIET)?;
            let start = ticker.ticks();
            for sequence in number * burst..(number + 1) * burst {
                patience.publish(&mut end, &Draft { publisher, urgency: Urgency::Ordinary, sequence, stamp: 0 })?;
            }
            wait_until(&mut patience, |_| drained.finished() > start)?;
            nanos.push(ticker.nanos(start, drained.finished()));
        }
        nanos.sort_unstable();
        Ok(nanos[nanos.len() / 2])
    };
    let (drains, nanos) = stage::play::<S, SMALL, _, _>(&plan, vec![sink], publish)?;
    for drain in &drains {
        drain.tally.verify(SMALL, &[burst * bursts])?;
    }
    Ok(Outcome::one(job.question, nanos.iter().sum::<u64>() as f64 / burst as f64, None))
}

fn wait_until(patience: &mut stage::Patience, met: impl Fn(Duration) -> bool) -> Result<(), Fault> {
    let start = Instant::now();
    while !met(start.elapsed()) {
        patience.wait()?;
        if start.elapsed().as_secs() >= STUCK_SECONDS {
            return Err(Fault::Stuck { seconds: STUCK_SECONDS });
        }
    }
    Ok(())
}
