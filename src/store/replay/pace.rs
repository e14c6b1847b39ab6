//! When the next event of a replay is due.

use std::time::Duration;

use crate::Rate;

/// What it makes up for in seconds, as when it was woken late. What holds it up for longer moves all that comes behind.
const LATE_MAX: f64 = 0.01;

/// A rate being kept. Instants are seconds since it began.
pub(super) struct Pace {
    interval: f64,
    /// How far `due` may lie ahead of an event that goes.
    ahead_max: f64,
    /// When the next event would go if all went at the mean.
    due: f64,
}

impl Pace {
    pub(super) fn new(rate: &Rate) -> Self {
        let interval = rate.events_per_second().recip();
        Self { interval, ahead_max: interval * f64::from(rate.burst_max().saturating_sub(1)), due: 0.0 }
    }

    /// How long the next event has to wait.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        let left = self.due - self.ahead_max - now.as_secs_f64();
        Duration::try_from_secs_f64(left.max(0.0)).unwrap_or(Duration::MAX)
    }

    /// The next event goes.
    pub(super) fn go(&mut self, now: Duration) {
        self.due = self.due.max(now.as_secs_f64() - LATE_MAX) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events that go at once.
    fn at_once(pace: &mut Pace, now: Duration) -> u32 {
        let mut events = 0;
        while pace.wait(now).is_zero() {
            pace.go(now);
            events += 1;
        }
        events
    }

    #[test]
    fn what_a_stall_has_held_up_does_not_come_at_once() {
        let mut pace = Pace::new(&Rate::per_second(1_000.5).burst(5));
        assert_eq!(at_once(&mut pace, Duration::ZERO), 5);
        assert_eq!(pace.wait(Duration::ZERO).as_micros(), 999);
        // Ten milliseconds are made up for, and not ten seconds.
        assert_eq!(at_once(&mut pace, Duration::from_secs(10)), 15);
        assert_eq!(at_once(&mut pace, Duration::from_secs(11)), 15);
    }

    #[test]
    fn who_is_woken_late_keeps_the_mean() {
        let mut pace = Pace::new(&Rate::per_second(10_000.0));
        let (mut now, mut events) = (Duration::ZERO, 0);
        while now < Duration::from_secs(1) {
            events += at_once(&mut pace, now);
            now += pace.wait(now) + Duration::from_micros(70);
        }
        assert!((9_990..=10_001).contains(&events), "{events}");
    }
}
