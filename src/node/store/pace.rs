//! Lines at a rate.

use std::thread;
use std::time::{Duration, Instant};

use super::Failure;

/// So many events a second, counted from the first: a moment that was missed is made up for.
pub(in super::super) struct Pace {
    rate: f64,
    begun: Option<Instant>,
    events: u64,
}

impl Pace {
    pub(in super::super) const fn new(rate: f64) -> Self {
        Self { rate, begun: None, events: 0 }
    }

    /// Waits until the next event is due; before it waits, something is done.
    pub(in super::super) fn next(&mut self, before: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let due = time_of(self.events, self.rate);
        self.events += 1;
        let left = due.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        before()?;
        thread::sleep(left);
        Ok(())
    }
}

/// The time that so many events take.
pub(super) fn time_of(events: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(events as f64 / rate).unwrap_or(Duration::MAX)
}
