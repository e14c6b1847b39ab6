//! How fast a counter moves: per second now, and over the last minute.
//!
//! The owner shows the window the counter's total whenever it has occasion to. What was counted between two
//! samples is spread evenly over the time between them, into buckets of one second each:
//!
//! ```text
//!  samples        x              x   x                            x
//!  seconds   |         |         |         |         |         |         |
//!  buckets        [ a  ][    b   ][   c    ][   d    ][   e    ][f]
//! ```
//!
//! Sparse samples thus cost sharpness, not counts. The window reads no clock: time is a parameter, in
//! nanoseconds of any monotonic clock.

#![forbid(unsafe_code)]

const SECOND_NS: u64 = 1_000_000_000;
const BUCKETS: u64 = 60;

/// The last 60 seconds of a counter, for the control plane: it is written and read by one thread at a time.
#[derive(Debug)]
pub(crate) struct RateWindow {
    /// What was counted in each second, at the second's number modulo 60. Only those of the 60 seconds that
    /// end with the newest sample's mean anything.
    buckets: [u64; BUCKETS as usize],
    span: Option<Span>,
}

/// The time that samples cover.
#[derive(Debug, Clone, Copy)]
struct Span {
    first_ns: u64,
    last_ns: u64,
    last_total: u64,
}

impl RateWindow {
    /// A window that knows nothing; the first sample tells it where the counter starts.
    pub(crate) fn new() -> Self {
        Self { buckets: [0; BUCKETS as usize], span: None }
    }

    /// Takes the counter's `total` at `now_ns`.
    ///
    /// Samples may arrive out of order, as they do from threads that read clock and counter before they take
    /// the lock: a late one counts at the newest sample's time, a lower total than known counts nothing.
    pub(crate) fn sample(&mut self, now_ns: u64, total: u64) {
        let Some(span) = self.span else {
            self.span = Some(Span { first_ns: now_ns, last_ns: now_ns, last_total: total });
            return;
        };
        let counted = total.saturating_sub(span.last_total);
        let now_ns = now_ns.max(span.last_ns);
        self.forget_before(now_ns, span.last_ns);
        self.spread(counted, span.last_ns, now_ns);
        self.span = Some(Span { last_ns: now_ns, last_total: span.last_total + counted, ..span });
    }

    /// Events a second over the last second that was complete at `now_ns`; where samples do not cover all of
    /// it, over what they cover since it began, and 0 if that is nothing. Sample first for a fresh answer.
    pub(crate) fn per_second_now(&self, now_ns: u64) -> f64 {
        let Some(span) = self.span else { return 0.0 };
        let this_second = now_ns.max(span.last_ns) / SECOND_NS;
        let last_second = this_second.saturating_sub(1);
        let covered = span.first_ns <= last_second * SECOND_NS && span.last_ns >= this_second * SECOND_NS;
        let until = if covered { last_second } else { this_second };
        self.per_second(span, last_second, until)
    }

    /// Events a second over the 59 seconds complete at `now_ns` and the one begun, as far as samples cover
    /// them; 0 if they cover nothing. Sample first for a fresh answer.
    pub(crate) fn per_second_last_minute(&self, now_ns: u64) -> f64 {
        let Some(span) = self.span else { return 0.0 };
        let this_second = now_ns.max(span.last_ns) / SECOND_NS;
        self.per_second(span, first_of_minute(this_second), this_second)
    }

    /// The rate from the start of one second to the end of another, over the time of it that samples cover.
    fn per_second(&self, span: Span, from_second: u64, until_second: u64) -> f64 {
        let from_ns = span.first_ns.max(from_second * SECOND_NS);
        let until_ns = span.last_ns.min(until_second.saturating_add(1).saturating_mul(SECOND_NS));
        if until_ns <= from_ns {
            return 0.0;
        }
        let newest = span.last_ns / SECOND_NS;
        let counted: u64 = (from_second.max(first_of_minute(newest))..=until_second.min(newest))
            .map(|second| self.buckets[bucket_of(second)])
            .sum();
        counted as f64 * SECOND_NS as f64 / (until_ns - from_ns) as f64
    }

    /// Empties the buckets of the seconds that begin after the last sample's, up to the one of `now_ns`.
    fn forget_before(&mut self, now_ns: u64, last_ns: u64) {
        let newest = now_ns / SECOND_NS;
        let oldest = (last_ns / SECOND_NS + 1).max(first_of_minute(newest));
        for second in oldest..=newest {
            self.buckets[bucket_of(second)] = 0;
        }
    }

    /// Spreads a count evenly from `last_ns` to `now_ns`; what falls before the window is dropped.
    fn spread(&mut self, counted: u64, last_ns: u64, now_ns: u64) {
        let newest = now_ns / SECOND_NS;
        if now_ns == last_ns {
            self.buckets[bucket_of(newest)] += counted;
            return;
        }
        // Differences of one rounded running share, so that the parts add up to the whole.
        let share_until = |at_ns: u64| -> u64 {
            let share = u128::from(counted) * u128::from(at_ns - last_ns) / u128::from(now_ns - last_ns);
            u64::try_from(share).expect("a share is at most the whole, which is a u64")
        };
        for second in (last_ns / SECOND_NS).max(first_of_minute(newest))..=newest {
            let from_ns = last_ns.max(second * SECOND_NS);
            let until_ns = now_ns.min(second.saturating_add(1).saturating_mul(SECOND_NS));
            self.buckets[bucket_of(second)] += share_until(until_ns) - share_until(from_ns);
        }
    }
}

/// The oldest of the 60 seconds that end with this one.
const fn first_of_minute(second: u64) -> u64 {
    second.saturating_sub(BUCKETS - 1)
}

const fn bucket_of(second: u64) -> usize {
    (second % BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS_NS: u64 = 1_000_000;

    /// Samples as (milliseconds, total).
    fn sampled(samples: &[(u64, u64)]) -> RateWindow {
        let mut window = RateWindow::new();
        for &(at_ms, total) in samples {
            window.sample(at_ms * MS_NS, total);
        }
        window
    }

    #[test]
    fn no_sample_and_one_sample_tell_no_rate() {
        for window in [sampled(&[]), sampled(&[(5_000, 1_000_000)])] {
            for now_ns in [0, 5 * SECOND_NS, u64::MAX] {
                assert_eq!(window.per_second_now(now_ns), 0.0);
                assert_eq!(window.per_second_last_minute(now_ns), 0.0);
            }
        }
    }

    #[test]
    fn total_before_the_first_sample_is_not_counted() {
        let window = sampled(&[(1_000, 9_000_000), (2_000, 9_000_010)]);
        assert_eq!(window.per_second_now(2 * SECOND_NS), 10.0);
    }

    #[test]
    fn less_than_a_second_is_told_over_the_span_sampled() {
        let window = sampled(&[(10_300, 0), (10_800, 50)]);
        assert_eq!(window.per_second_now(10_800 * MS_NS), 100.0);
        assert_eq!(window.per_second_last_minute(10_800 * MS_NS), 100.0);
        let first_second_of_the_clock = sampled(&[(200, 0), (400, 50)]);
        assert_eq!(first_second_of_the_clock.per_second_now(400 * MS_NS), 250.0);
    }

    #[test]
    fn now_is_the_last_complete_second_and_not_the_one_begun() {
        let window = sampled(&[(10_000, 0), (11_000, 100), (12_000, 900), (12_500, 5_000)]);
        assert_eq!(window.per_second_now(12_500 * MS_NS), 800.0);
        assert_eq!(window.per_second_last_minute(12_500 * MS_NS), 2_000.0);
    }

    #[test]
    fn sparse_samples_are_spread_evenly_over_their_gap() {
        let window = sampled(&[(10_000, 0), (40_000, 3_000)]);
        assert_eq!(window.per_second_now(40_000 * MS_NS), 100.0);
        assert_eq!(window.per_second_last_minute(40_000 * MS_NS), 100.0);
        // Six minutes apart: only the last of them stays, at the same rate.
        let window = sampled(&[(10_000, 0), (370_000, 36_000)]);
        assert_eq!(window.per_second_last_minute(370_000 * MS_NS), 100.0);
    }

    #[test]
    fn a_burst_leaves_now_after_a_second_and_the_minute_after_sixty() {
        let mut window = sampled(&[(0, 0), (1_000, 600)]);
        let mut rates = Vec::new();
        for second in 1..=61 {
            window.sample(second * SECOND_NS, 600);
            rates.push((window.per_second_now(second * SECOND_NS), window.per_second_last_minute(second * SECOND_NS)));
        }
        assert_eq!(rates[0], (600.0, 600.0));
        assert_eq!(rates[1], (0.0, 300.0));
        assert_eq!(rates[58], (0.0, 600.0 / 59.0));
        assert_eq!(rates[59], (0.0, 0.0));
    }

    #[test]
    fn a_stale_window_tells_of_what_it_covers_and_then_nothing() {
        let window = sampled(&[(10_000, 0), (12_500, 250)]);
        // The second 12 .. 13 was sampled by half.
        assert_eq!(window.per_second_now(13_900 * MS_NS), 100.0);
        assert_eq!(window.per_second_now(14_000 * MS_NS), 0.0);
        assert_eq!(window.per_second_last_minute(60_000 * MS_NS), 100.0);
        assert_eq!(window.per_second_last_minute(72_000 * MS_NS), 0.0);
    }

    #[test]
    fn late_and_lower_samples_neither_panic_nor_count_twice() {
        let mut window = sampled(&[(10_000, 100), (11_000, 200), (10_500, 150), (10_900, 230)]);
        window.sample(12_000 * MS_NS, 190);
        // 100 before the eleventh second; 30 came late and count at its start.
        assert_eq!(window.per_second_last_minute(12_000 * MS_NS), 65.0);
        assert_eq!(window.per_second_now(12_000 * MS_NS), 30.0);
        assert_eq!(window.per_second_now(0), 30.0, "an older clock reads the same");
    }

    #[test]
    fn ends_of_the_clock_and_of_the_count_are_ordinary() {
        let mut window = RateWindow::new();
        window.sample(0, 0);
        window.sample(u64::MAX, u64::MAX);
        let exact = u64::MAX as f64 / (u64::MAX as f64 / SECOND_NS as f64);
        assert!((window.per_second_last_minute(u64::MAX) / exact - 1.0).abs() < 1e-6);
        assert!((window.per_second_now(u64::MAX) / exact - 1.0).abs() < 1e-6);
    }

    /// The total at a time between samples, on the straight line through its neighbours.
    fn total_at(samples: &[(u64, u64)], at_ns: u64) -> f64 {
        let (&(first_ns, first), &(last_ns, last)) = (&samples[0], &samples[samples.len() - 1]);
        if at_ns <= first_ns {
            return first as f64;
        }
        if at_ns >= last_ns {
            return last as f64;
        }
        let after = samples.partition_point(|&(sample_ns, _)| sample_ns <= at_ns);
        let ((left_ns, left), (right_ns, right)) = (samples[after - 1], samples[after]);
        let share = (at_ns - left_ns) as f64 / (right_ns - left_ns) as f64;
        left as f64 + (right - left) as f64 * share
    }

    proptest! {
        /// Rates are slopes of the line through the samples, within one event lost or won to rounding at
        /// either end of the time asked about.
        #[test]
        fn rates_are_those_of_the_line_through_the_samples(
            start_ns in 0..100 * SECOND_NS,
            steps in prop::collection::vec((1..20 * SECOND_NS, 0..1_000_000_u64), 1..80),
            step_shift in 0..16_u32,
            wait_ns in 0..90 * SECOND_NS,
        ) {
            let mut samples = vec![(start_ns, 7)];
            for (gap_ns, counted) in steps {
                let (at_ns, total) = samples[samples.len() - 1];
                samples.push((at_ns + (gap_ns >> step_shift).max(1), total + counted));
            }
            let mut window = RateWindow::new();
            for &(at_ns, total) in &samples {
                window.sample(at_ns, total);
            }
            let last_ns = samples[samples.len() - 1].0;
            let now_ns = last_ns + wait_ns;
            let second = now_ns / SECOND_NS;

            let line = |from_ns: u64, until_ns: u64| {
                let (from_ns, until_ns) = (from_ns.max(start_ns), until_ns.min(last_ns));
                let seconds = until_ns.saturating_sub(from_ns) as f64 / SECOND_NS as f64;
                (until_ns > from_ns).then(|| {
                    let counted = total_at(&samples, until_ns) - total_at(&samples, from_ns);
                    (counted / seconds, 2.0 / seconds)
                })
            };
            let minute = line(second.saturating_sub(59) * SECOND_NS, now_ns);
            let last_second = second.saturating_sub(1) * SECOND_NS;
            let whole = start_ns <= last_second && last_ns >= second * SECOND_NS;
            let now = line(last_second, if whole { last_second + SECOND_NS } else { now_ns });
            for (told, line) in [
                (window.per_second_last_minute(now_ns), minute),
                (window.per_second_now(now_ns), now),
            ] {
                let (slope, rounding) = line.unwrap_or((0.0, 0.0));
                prop_assert!(
                    (told - slope).abs() <= rounding + slope * 1e-9,
                    "{} told, {} true", told, slope
                );
            }
        }

        #[test]
        fn no_event_is_lost_or_invented_within_a_minute(
            steps in prop::collection::vec((0..SECOND_NS, 0..u64::MAX / 64), 1..59),
        ) {
            let mut window = RateWindow::new();
            let (mut at_ns, mut total) = (0, 0);
            window.sample(at_ns, total);
            for (gap_ns, counted) in steps {
                at_ns += gap_ns;
                total += counted;
                window.sample(at_ns, total);
            }
            prop_assert_eq!(window.buckets.iter().sum::<u64>(), total);
        }
    }
}
