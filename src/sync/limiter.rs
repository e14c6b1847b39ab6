//! A rate limit in one word: events that may come at a mean rate, in bursts, from any number of threads.
//!
//! ```text
//!      now          due: when the next event would come if all came at the mean
//!   ────┼────────────┼────►      every event that passes moves it on by one interval
//!       │◄─ ahead ──►│           and may pass while this is at most what a burst allows
//! ```
//!
//! Nothing rides on the word but itself: every access is Relaxed, and of two who would pass at once one exchange wins.

use super::mutant::mutant;
use super::primitive::{AtomicU64, Ordering};

/// Instants are kept in sixteenths of a nanosecond, so that an interval is true to a thousandth also at millions of events a
/// second; they end after 36 years.
const TICKS_PER_NS: u64 = 16;

/// One rate being kept. Instants are nanoseconds of the bus clock.
#[derive(Debug)]
pub struct Limiter {
    due: AtomicU64,
    interval: u64,
    /// How far `due` may lie ahead of an event that passes.
    ahead_max: u64,
}

impl Limiter {
    /// Lets `per_second` events pass a second, and at most `burst` at once. Both are more than 0.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let interval = (1e9 * TICKS_PER_NS as f64 / per_second).round().max(1.0) as u64;
        let ahead_max = interval.saturating_mul(u64::from(mutant!("rate.burst", burst.saturating_sub(1) => burst)));
        Self { due: AtomicU64::new(0), interval, ahead_max }
    }

    /// Lets one event pass now, or says from which instant on one may.
    #[inline]
    pub fn pass(&self, now: u64) -> Result<(), u64> {
        let now = now.saturating_mul(TICKS_PER_NS);
        // Relaxed: see the head of this file; so is all below.
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let from = due.saturating_sub(self.ahead_max);
            if now < from {
                return Err(from.div_ceil(TICKS_PER_NS));
            }
            let next = due.max(now).saturating_add(self.interval);
            // Relaxed (both): see above.
            let moved = self.due.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed);
            match mutant!("limiter.exchange", moved => Ok(due)) {
                Ok(_) => return Ok(()),
                Err(seen) => due = seen,
            }
        }
    }

    /// Lets as many of `max` events pass now as may, and says how many: at least one, or from which instant on one may.
    pub fn pass_some(&self, now: u64, max: u32) -> Result<u32, u64> {
        let ticks = now.saturating_mul(TICKS_PER_NS);
        // Relaxed: see the head of this file; so is all below.
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let Some(room) = self.ahead_max.checked_sub(due.saturating_sub(ticks)) else {
                return Err((due - self.ahead_max).div_ceil(TICKS_PER_NS));
            };
            let some = (room / self.interval).saturating_add(1).min(u64::from(max));
            let next = due.max(ticks).saturating_add(some * self.interval);
            // Relaxed (both): see above.
            match self.due.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(some as u32),
                Err(seen) => due = seen,
            }
        }
    }

    /// Events that passed at `taken` were none after all. What time has refilled since then is not given back once more, so
    /// that never more pass than by the rate.
    pub fn give_back(&self, events: u32, taken: u64, now: u64) {
        let refilled = now.saturating_sub(taken).saturating_mul(TICKS_PER_NS);
        let back = (u64::from(events) * self.interval).saturating_sub(refilled);
        // Relaxed: see the head of this file.
        self.due.fetch_sub(back, Ordering::Relaxed);
    }

    /// The instant from which an event may pass: `now` when one may at once. Lets none pass.
    #[inline]
    pub fn passes_at(&self, now: u64) -> u64 {
        self.all_pass_at(now, 1)
    }

    /// The instant from which so many events, at least one and no more than a burst, may pass together. Lets none pass.
    pub fn all_pass_at(&self, now: u64, events: u32) -> u64 {
        // Relaxed: see the head of this file.
        let due = self.due.load(Ordering::Relaxed);
        let last = due.saturating_add(u64::from(events - 1).saturating_mul(self.interval));
        last.saturating_sub(self.ahead_max).div_ceil(TICKS_PER_NS).max(now)
    }
}

#[cfg(all(test, not(any(ringmain_loom, ringmain_shuttle))))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by a bucket: `burst` tokens, refilled at the mean and never beyond; an event takes one. In ticks, exactly.
    struct Bucket {
        interval: u128,
        burst: u128,
        /// In parts of a token, of which `interval` make one.
        tokens: u128,
        at: u128,
    }

    impl Bucket {
        fn pass(&mut self, now: u64) -> bool {
            let now = u128::from(now) * u128::from(TICKS_PER_NS);
            self.tokens = (self.tokens + (now - self.at)).min(self.burst * self.interval);
            self.at = now;
            let passes = self.tokens >= self.interval;
            if passes {
                self.tokens -= self.interval;
            }
            passes
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_mean() {
        let limiter = Limiter::new(10.0, 3);
        assert!((0..3).all(|_| limiter.pass(1_000).is_ok()));
        assert_eq!((limiter.pass(1_000), limiter.passes_at(1_000)), (Err(100_001_000), 100_001_000));
        assert_eq!((limiter.pass(100_001_000), limiter.passes_at(100_001_000)), (Ok(()), 200_001_000));
        assert_eq!(limiter.passes_at(1 << 40), 1 << 40);
    }

    #[test]
    fn millions_a_second_are_kept_to_a_thousandth() {
        // Miri looks at each step, and takes its time.
        const TIME_NS: u64 = if cfg!(miri) { 50_000 } else { 100_000_000 };
        // A burst, for the events come every 10 ns and the mean is 142.86.
        let limiter = Limiter::new(7e6, 2);
        let passed = (0..TIME_NS).step_by(10).filter(|&now| limiter.pass(now).is_ok()).count() as u64;
        let mean = TIME_NS * 7 / 1_000;
        assert!((mean - mean / 1_000..=mean + mean / 1_000 + 2).contains(&passed), "{passed} in {TIME_NS} ns");
    }

    #[test]
    fn the_slowest_rate_with_the_largest_burst_lets_just_that_burst_pass() {
        const BURST: u32 = if cfg!(miri) { 200 } else { 1_000_000 };
        let limiter = Limiter::new(1e-2, BURST);
        assert_eq!((0..2 * BURST).filter(|_| limiter.pass(5).is_ok()).count(), BURST as usize);
    }

    proptest! {
        #[test]
        fn a_bucket_of_tokens_lets_the_same_events_pass(
            per_second in 1e-3..1e7_f64, burst in 1..20_u32, gaps in proptest::collection::vec((0..3_u32, 0.0..1.0_f64), 1..300),
        ) {
            let limiter = Limiter::new(per_second, burst);
            let (interval, burst) = (u128::from(limiter.interval), u128::from(burst));
            let mut bucket = Bucket { interval, burst, tokens: burst * interval, at: 0 };
            let mut now = 0;
            for (scale, part) in gaps {
                // From bursts to pauses that refill some.
                now += (part * 1e9 / per_second * [0.0, 1.5, 9.0][scale as usize]) as u64;
                let from = limiter.passes_at(now);
                let passed = limiter.pass(now);
                prop_assert_eq!(passed.is_ok(), bucket.pass(now));
                prop_assert_eq!(passed, if from == now { Ok(()) } else { Err(from) });
                if let Err(from) = passed {
                    prop_assert!(limiter.pass(from - 1).is_err(), "not before it said");
                }
            }
        }

        #[test]
        fn some_events_at_once_pass_as_they_would_one_by_one(
            per_second in 1e-3..1e7_f64, burst in 1..20_u32, asked in proptest::collection::vec((0..3_u32, 0.0..1.0_f64, 1..30_u32), 1..100),
        ) {
            let (limiter, single) = (Limiter::new(per_second, burst), Limiter::new(per_second, burst));
            let mut now = 0;
            for (scale, part, max) in asked {
                now += (part * 1e9 / per_second * [0.0, 1.5, 9.0][scale as usize]) as u64;
                let all_at = limiter.all_pass_at(now, max.min(burst));
                let singly = (0..max).take_while(|_| single.pass(now).is_ok()).count() as u32;
                match limiter.pass_some(now, max) {
                    Ok(some) => prop_assert_eq!(some, singly),
                    Err(from) => prop_assert_eq!((singly, single.passes_at(now)), (0, from)),
                }
                prop_assert_eq!(all_at == now, singly >= max.min(burst), "{} of {}", singly, max);
            }
        }

        /// What is taken and given back leaves nothing behind at once, and never lets more pass later.
        #[test]
        fn what_is_given_back_was_never_taken_or_has_been_refilled(
            per_second in 1.0..1e6_f64, burst in 1..20_u32, before in 0..20_u32, asked in 1..20_u32, pauses in (0.0..30.0_f64, 0.0..30.0_f64), between in 0..20_u32,
        ) {
            let (limiter, without) = (Limiter::new(per_second, burst), Limiter::new(per_second, burst));
            let after = |part: f64| (part * 1e9 / per_second) as u64;
            let taken = after(pauses.0);
            for limiter in [&limiter, &without] {
                (0..before).for_each(|_| {
                    let _ = limiter.pass(taken);
                });
            }
            let Ok(some) = limiter.pass_some(taken, asked) else { return Ok(()) };
            let now = taken + after(pauses.1);
            let passed = (0..between).filter(|_| limiter.pass(now).is_ok()).count();
            let others = (0..passed).filter(|_| without.pass(now).is_ok()).count();
            prop_assert_eq!(passed, others, "who has taken some keeps others back, and lets none pass");
            limiter.give_back(some, taken, now);
            prop_assert!(limiter.passes_at(now) >= without.passes_at(now));
            if now == taken {
                prop_assert_eq!(limiter.all_pass_at(now, burst), without.all_pass_at(now, burst));
            }
        }
    }
}
