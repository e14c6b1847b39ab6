//! The only door to time: monotonic nanoseconds for waits and latencies, wall-clock time for display.
//!
//! Every instant inside ringmain is a `u64` of nanoseconds since the clock was made; 0 means "none". A step of the
//! wall clock changes what is displayed and nothing else.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU64, Ordering};

/// A source of time. Cheap to clone; clones agree.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    source: Source,
    /// Unix nanoseconds at instant 0.
    origin: Arc<AtomicU64>,
    /// The latest that this ever was.
    latest_origin: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
enum Source {
    /// The processor's time-stamp counter, calibrated once a process; the system clock where it is not invariant.
    Counter {
        clock: quanta::Clock,
        start: u64,
        /// Nanoseconds in 2^40 of the counter's ticks.
        scale: u64,
    },
    /// Moved by hand, in tests.
    Manual(Arc<AtomicU64>),
}

/// Ticks are scaled by a fraction of this power of two: exact to 10^-11 of the time, and one multiplication.
const SCALE_SHIFT: u32 = 40;

#[inline]
fn scaled(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> SCALE_SHIFT) as u64
}

/// Nanoseconds of Unix time, by the system's wall clock.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Clock {
    /// The end of all time, 292 years on. Greater instants stand for times before the clock was made.
    const END: u64 = i64::MAX as u64;

    pub(crate) fn system() -> Self {
        if cfg!(ringmain_shuttle) {
            // A schedule that is run again must come to the same end, so it has no time.
            return Self::manual();
        }
        let clock = quanta::Clock::new();
        let start = clock.raw();
        let scale = clock.delta_as_nanos(0, 1 << SCALE_SHIFT);
        Self::with_origin(Source::Counter { clock, start, scale }, unix_now())
    }

    /// A clock that stands still at 1 ns until it is advanced; instant 0 is 2026-01-01T00:00:00Z.
    pub(crate) fn manual() -> Self {
        const NEW_YEAR_2026: u64 = 1_767_225_600_000_000_000;
        Self::standing(NEW_YEAR_2026)
    }

    /// A clock that stands still, whose instants are nanoseconds of Unix time.
    pub(crate) fn of_unix_time() -> Self {
        Self::standing(0)
    }

    fn standing(origin: u64) -> Self {
        Self::with_origin(Source::Manual(Arc::new(AtomicU64::new(1))), origin)
    }

    fn with_origin(source: Source, origin: u64) -> Self {
        let [origin, latest_origin] = [origin; 2].map(|origin| Arc::new(AtomicU64::new(origin)));
        Self { source, origin, latest_origin }
    }

    /// Nanoseconds since the clock was made, never 0. Monotonic on one thread, and across threads as far as the
    /// processor's counters agree. About 9 ns.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match &self.source {
            Source::Counter { clock, start, scale } => {
                // Counters of two cores may differ by a little, and the clock have been made on the other one.
                let ticks = clock.raw().saturating_sub(*start);
                scaled(ticks, *scale) + 1
            }
            // Relaxed: a test advances it on the thread that reads it, or does not care which of two instants it sees.
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// The instant `time` from now; [`END`](Self::END) when there is no such instant.
    pub(crate) fn after(&self, time: Duration) -> u64 {
        Self::later(self.now(), u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant so many nanoseconds behind another; [`END`](Self::END) when there is no such instant.
    pub(crate) fn later(instant: u64, ns: u64) -> u64 {
        instant.saturating_add(ns).min(Self::END)
    }

    /// Moves a manual clock; a no-op for the system's.
    pub(crate) fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.source {
            // Relaxed: see `now`.
            now.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// Sets the wall clock of a manual clock to `unix_ns` at this instant, as an administrator would step it.
    pub(crate) fn step_wall(&self, unix_ns: u64) {
        if matches!(self.source, Source::Manual(_)) {
            self.set_origin(unix_ns.saturating_sub(self.now()));
        }
    }

    /// Follows the system's wall clock again after it was slewed or stepped. Workers call it now and then.
    pub(crate) fn follow_wall(&self) {
        if matches!(self.source, Source::Counter { .. }) {
            self.set_origin(unix_now().saturating_sub(self.now()));
        }
    }

    fn set_origin(&self, origin: u64) {
        // Relaxed (both): display only, and ids, which announce nothing.
        self.origin.store(origin, Ordering::Relaxed);
        let latest = &self.latest_origin;
        mutant!("id.back", latest.fetch_max(origin, Ordering::Relaxed) => latest.swap(origin, Ordering::Relaxed));
    }

    /// The instant of the call, and nanoseconds that count up from the Unix time there: they follow a wall clock that is set forwards, and
    /// not one that is set back.
    #[inline]
    pub(crate) fn now_and_rising_ns(&self) -> (u64, u64) {
        let now = self.now();
        // Relaxed: announces nothing. No sum of an age and a date of ours wraps.
        (now, self.latest_origin.load(Ordering::Relaxed).wrapping_add(now))
    }

    /// The instant of the call, and its Unix nanoseconds.
    #[inline]
    pub(crate) fn now_and_unix_ns(&self) -> (u64, u64) {
        let now = self.now();
        // Relaxed: display only. No sum of an age and a date of ours wraps.
        (now, self.origin.load(Ordering::Relaxed).wrapping_add(now))
    }

    /// Unix nanoseconds of an instant, as the wall clock stands now.
    #[inline]
    pub(crate) fn unix_ns(&self, instant: u64) -> u64 {
        // Relaxed: display only.
        self.origin.load(Ordering::Relaxed).saturating_add_signed(instant as i64)
    }

    /// The instant of a Unix time, never 0. One before the clock was made is negative in two's complement; only what
    /// comes from outside has such a time, and only [`unix_ns`](Self::unix_ns) and [`since`](Self::since) read it.
    pub(crate) fn instant_of(&self, unix_ns: u64) -> u64 {
        // Relaxed: display only.
        unix_ns.wrapping_sub(self.origin.load(Ordering::Relaxed)).max(1)
    }

    /// Time since an instant; zero for one to come.
    pub(crate) fn since(&self, instant: u64) -> Duration {
        let elapsed = self.now().wrapping_sub(instant) as i64;
        Duration::from_nanos(elapsed.max(0) as u64)
    }

    /// Wall-clock time of an instant.
    pub(crate) fn system_time(&self, instant: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.unix_ns(instant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_counts_as_its_source_does() {
        let Source::Counter { clock, scale, .. } = Clock::system().source else { panic!("the system's clock counts") };
        for ticks in [0, 1, 1_000, 1 << 32, 1 << 40, 1 << 55] {
            let (ours, exact) = (scaled(ticks, scale), clock.delta_as_nanos(0, ticks));
            assert!(ours.abs_diff(exact) <= 1 + exact / 10_000_000_000, "{ticks}: {ours} for {exact}");
        }
    }

    #[test]
    fn a_time_before_the_clock_was_made_reads_back_and_is_past() {
        let clock = Clock::manual();
        clock.advance(Duration::from_secs(1));
        let now = clock.unix_ns(clock.now());
        const YEAR: u64 = 365 * 24 * 3600 * 1_000_000_000;
        for age in [0, 1, 999_999_999, 1_000_000_002, YEAR, 50 * YEAR] {
            let instant = clock.instant_of(now - age);
            assert_eq!((clock.unix_ns(instant), clock.since(instant)), (now - age, Duration::from_nanos(age)));
        }
        assert_eq!(clock.since(clock.instant_of(now + YEAR)), Duration::ZERO);
        assert_ne!(clock.instant_of(clock.unix_ns(0)), 0, "0 is no instant");
    }
}
