//! Rate limits: so many events a second, and so many at once.

use std::fmt;

use crate::sync::limiter::Limiter;

/// Rates there may be, in events a second.
const PER_SECOND_MIN: f64 = 1e-5;
const PER_SECOND_MAX: f64 = 1e7;
const BURST_MAX: u32 = 1_000_000;
/// The longest time in which a burst may refill: ten years.
const REFILL_SECONDS_MAX: u64 = 10 * 365 * 24 * 3_600;

/// A rate: a mean of so many events a second, in bursts of at most so many.
///
/// What was not used for a while may be made up for by a burst, and no further: in any stretch of time at most its share at
/// the mean passes, and one burst.
///
/// ```
/// use ringmain::Rate;
/// let rate = Rate::per_second(1_000.0).burst(50);
/// assert_eq!(rate.to_string(), "1000 a second in bursts of 50");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    per_second: f64,
    burst: u32,
}

impl Rate {
    /// So many events a second, 0.00001 (about one a day) to 10,000,000; one at a time.
    pub fn per_second(events: f64) -> Self {
        Self { per_second: events, burst: 1 }
    }

    /// So many may come at once after a pause, 1 to 1,000,000, as many as come at the mean in ten years. Default 1.
    pub fn burst(mut self, events: u32) -> Self {
        self.burst = events;
        self
    }

    /// The mean, in events a second.
    pub fn events_per_second(&self) -> f64 {
        self.per_second
    }

    /// Whether it can be kept.
    ///
    /// # Errors
    /// See [`RateError`].
    pub fn check(&self) -> Result<(), RateError> {
        self.limiter().map(drop)
    }

    /// The most that may come at once.
    pub fn burst_max(&self) -> u32 {
        self.burst
    }

    /// What keeps it.
    pub(crate) fn limiter(&self) -> Result<Limiter, RateError> {
        let Self { per_second, burst } = *self;
        // A number that is none is in no range.
        if !(PER_SECOND_MIN..=PER_SECOND_MAX).contains(&per_second) {
            return Err(RateError::PerSecond { per_second, min: PER_SECOND_MIN, max: PER_SECOND_MAX });
        }
        if !(1..=BURST_MAX).contains(&burst) {
            return Err(RateError::Burst { burst, min: 1, max: BURST_MAX });
        }
        let seconds = (f64::from(burst) / per_second).round() as u64;
        if seconds > REFILL_SECONDS_MAX {
            return Err(RateError::Refill { seconds, max: REFILL_SECONDS_MAX });
        }
        Ok(Limiter::new(per_second, burst))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} a second in bursts of {}", self.per_second, self.burst)
    }
}

/// What becomes of an event that comes over the rate of its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverLimit {
    /// It waits in the mailbox until the rate allows: so many attempts are made and no more, those that try again among them.
    Queue,
    /// It is dropped and counted when it comes ([`Dropped::rate_limited`](crate::Dropped::rate_limited)); under reliable delivery
    /// it is a dead letter ([`DeadReason::RateLimited`](crate::DeadReason::RateLimited)). Other attempts at an event that came in
    /// time are not counted.
    Reject,
}

/// A rate that cannot be kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RateError {
    /// Too few events a second, too many, or a number that is none.
    PerSecond {
        /// What was asked for.
        per_second: f64,
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// No burst at all, or too large a one.
    Burst {
        /// What was asked for.
        burst: u32,
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// So large a burst at so low a rate that it refills too slowly.
    Refill {
        /// Seconds in which the burst refills.
        seconds: u64,
        /// The most.
        max: u64,
    },
}

impl RateError {
    /// What it is and of which value, bit by bit: so that also a value that is no number is equal to itself.
    fn told_apart_by(&self) -> (u8, u64) {
        match self {
            Self::PerSecond { per_second, .. } => (0, per_second.to_bits()),
            Self::Burst { burst, .. } => (1, u64::from(*burst)),
            Self::Refill { seconds, .. } => (2, *seconds),
        }
    }
}

impl PartialEq for RateError {
    fn eq(&self, other: &Self) -> bool {
        self.told_apart_by() == other.told_apart_by()
    }
}

impl Eq for RateError {}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond { per_second, min, max } => {
                write!(f, "a rate of {per_second} events a second; it is from {min} to {max}")
            }
            Self::Burst { burst, min, max } => write!(f, "a rate in bursts of {burst}; they are from {min} to {max}"),
            Self::Refill { seconds, max } => write!(
                f,
                "a burst that refills in {seconds} s, which may take {max} s at most; lower burst, or raise the rate"
            ),
        }
    }
}

impl std::error::Error for RateError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_that_cannot_be_kept_are_refused_with_value_and_limits() {
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9e-6, 10_000_001.0] {
            let refused = Rate::per_second(per_second).limiter().expect_err("refused");
            assert_eq!(refused, RateError::PerSecond { per_second, min: PER_SECOND_MIN, max: PER_SECOND_MAX });
            assert_eq!(
                refused.to_string(),
                format!("a rate of {per_second} events a second; it is from 0.00001 to 10000000")
            );
        }
        for burst in [0, 1_000_001] {
            let refused = Rate::per_second(1.0).burst(burst).limiter().expect_err("refused");
            assert_eq!(refused, RateError::Burst { burst, min: 1, max: BURST_MAX });
            assert_eq!(refused.to_string(), format!("a rate in bursts of {burst}; they are from 1 to 1000000"));
        }
        let refused = Rate::per_second(1e-5).burst(10_000).limiter().expect_err("refused");
        assert_eq!(refused, RateError::Refill { seconds: 1_000_000_000, max: REFILL_SECONDS_MAX });
        for rate in [Rate::per_second(1e-5), Rate::per_second(1e7).burst(BURST_MAX), Rate::per_second(0.1).burst(1_000)]
        {
            assert!(rate.limiter().is_ok(), "{rate}");
        }
    }
}
