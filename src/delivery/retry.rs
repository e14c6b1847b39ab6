//! When a failed delivery is tried again: exponential backoff with full jitter, bounded in attempts and in time.

use std::time::Duration;

use crate::chance;
use crate::sync::mutant::mutant;

/// How often a reliable subscription tries an event, and how long it waits in between.
///
/// The nth failure waits a random time up to `first_delay * 2^(n-1)`, at most `delay_max`: full jitter, so that what failed
/// together does not come back together.
///
/// ```
/// use std::time::Duration;
/// use ringmain::RetryPolicy;
///
/// let patient = RetryPolicy::default().attempts_max(10).delays(Duration::from_millis(50), Duration::from_secs(5));
/// assert_eq!(patient.delay_limit(1), Duration::from_millis(50));
/// assert_eq!(patient.delay_limit(4), Duration::from_millis(400));
/// assert_eq!(patient.delay_limit(60), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    pub(crate) attempts_max: u8,
    pub(crate) releases_max: u16,
    first_delay: Duration,
    delay_max: Duration,
}

impl Default for RetryPolicy {
    /// Three attempts, waiting up to 100 ms and then up to 200 ms; no delay is longer than 30 s. A hundred releases.
    fn default() -> Self {
        Self {
            attempts_max: 3,
            releases_max: 100,
            first_delay: Duration::from_millis(100),
            delay_max: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// Attempts an event gets, the first among them, 1 to 100. Default 3. Releases do not count.
    pub fn attempts_max(mut self, attempts: u8) -> Self {
        self.attempts_max = attempts;
        self
    }

    /// How often an event may be given back without an attempt ([`Outcome::Release`](crate::Outcome::Release)), at most
    /// 3,900. Default 100; one more makes it a dead letter.
    pub fn releases_max(mut self, releases: u16) -> Self {
        self.releases_max = releases;
        self
    }

    /// Attempts an event gets.
    pub fn attempts(&self) -> u8 {
        self.attempts_max
    }

    /// How often an event may be given back.
    pub fn releases(&self) -> u16 {
        self.releases_max
    }

    /// The longest wait after the first failure.
    pub fn first_delay(&self) -> Duration {
        self.first_delay
    }

    /// The longest wait after any.
    pub fn longest_delay(&self) -> Duration {
        self.delay_max
    }

    /// The longest wait after the first failure, and after any: the first is no longer than the second, and that no longer than 10
    /// days, or the subscription is [refused](crate::SubscribeError::Delays). Defaults 100 ms and 30 s.
    pub fn delays(mut self, first: Duration, max: Duration) -> Self {
        (self.first_delay, self.delay_max) = (first, max);
        self
    }

    /// The longest wait after the first failure, and after any.
    pub(crate) fn longest(&self) -> (Duration, Duration) {
        (self.first_delay, self.delay_max)
    }

    /// The longest wait after `attempts` failed attempts.
    pub fn delay_limit(&self, attempts: u8) -> Duration {
        let doublings = u32::from(attempts.saturating_sub(1));
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first_delay.saturating_mul(factor).min(self.delay_max)
    }

    /// Whether an event that has had so many attempts gets no more.
    pub(crate) fn is_spent(&self, attempts: u8) -> bool {
        mutant!("retry.spent", attempts >= self.attempts_max => attempts > self.attempts_max)
    }

    /// How long to wait after `attempts` failed attempts, in nanoseconds; drawn from `seed`.
    pub(crate) fn delay_ns(&self, attempts: u8, seed: u64) -> u64 {
        let (mut seed, limit) = (seed, u64::try_from(self.delay_limit(attempts).as_nanos()).unwrap_or(u64::MAX));
        chance::choice(chance::next(&mut seed), u128::from(limit) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_limit() {
        let policy = RetryPolicy::default();
        let limits: Vec<_> = (1..=11).map(|attempts| policy.delay_limit(attempts).as_millis()).collect();
        assert_eq!(limits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        let endless = RetryPolicy::default().delays(Duration::from_secs(1), Duration::MAX);
        assert!(endless.delay_limit(255) >= Duration::from_secs(u64::from(u32::MAX)));
    }

    #[test]
    fn jitter_spreads_over_all_of_the_delay_and_never_beyond() {
        let policy = RetryPolicy::default();
        let limit = 100_000_000_u64;
        let mut tenths = [0_u32; 10];
        for seed in 0..10_000 {
            let delay = policy.delay_ns(1, seed);
            assert!(delay <= limit);
            tenths[(delay * 10 / (limit + 1)) as usize] += 1;
        }
        assert!(tenths.iter().all(|&count| (850..1_150).contains(&count)), "{tenths:?}");
        assert_eq!(RetryPolicy::default().delays(Duration::ZERO, Duration::ZERO).delay_ns(3, 1), 0);
    }
}
