//! What a person wants to know of a latency histogram: seven numbers, and a line to print.

#![forbid(unsafe_code)]

use std::fmt;

use hdrhistogram::Histogram;

use super::histogram::HistogramCells;

/// The latencies of one stage or subscription, in nanoseconds.
///
/// A percentile is the upper end of the histogram cell that holds it: at most 0.8 % above the true value,
/// never below it and never above the maximum. All are zero while nothing was recorded.
///
/// Prints as one line in human units:
///
/// ```text
/// 1024 recorded: p50 340 ns, p95 1.2 µs, p99 3.4 µs, p99.9 18.0 µs, max 3.4 ms, mean 512 ns
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct LatencySummary {
    /// How many latencies were recorded.
    pub count: u64,
    /// Half of them were at most this.
    pub p50_ns: u64,
    /// 95 in 100 were at most this.
    pub p95_ns: u64,
    /// 99 in 100 were at most this.
    pub p99_ns: u64,
    /// 999 in 1,000 were at most this.
    pub p999_ns: u64,
    /// None was longer.
    pub max_ns: u64,
    /// Their sum divided by their count.
    pub mean_ns: f64,
}

impl LatencySummary {
    /// Summarises any histogram of nanoseconds; its maximum and mean have the histogram's own resolution.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p95_ns: histogram.value_at_quantile(0.95),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
            mean_ns: histogram.mean(),
        }
    }

    /// Summarises what several writers recorded, with their exact maximum and mean. The mean counts values
    /// above the histogram's range as its highest; the maximum is what was recorded.
    ///
    /// Taken while a writer works, it may miss its newest records in one number and not in another.
    pub(crate) fn of_cells<'a>(writers: impl IntoIterator<Item = &'a HistogramCells>) -> Self {
        let mut histogram = HistogramCells::empty_snapshot();
        let mut sum_ns = 0_u128;
        let mut max_ns = 0;
        for cells in writers {
            cells.merge_into(&mut histogram);
            sum_ns += cells.sum_ns();
            max_ns = max_ns.max(cells.max_ns());
        }
        if histogram.is_empty() {
            return Self::default();
        }
        let coarse = Self::of(&histogram);
        // A record under way may have reached its cell and not yet the exact maximum.
        let max_ns = max_ns.max(histogram.lowest_equivalent(coarse.max_ns));
        Self {
            count: coarse.count,
            p50_ns: coarse.p50_ns.min(max_ns),
            p95_ns: coarse.p95_ns.min(max_ns),
            p99_ns: coarse.p99_ns.min(max_ns),
            p999_ns: coarse.p999_ns.min(max_ns),
            max_ns,
            mean_ns: sum_ns as f64 / coarse.count as f64,
        }
    }
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("nothing recorded");
        }
        write!(
            f,
            "{} recorded: p50 {}, p95 {}, p99 {}, p99.9 {}, max {}, mean {}",
            self.count,
            Human(self.p50_ns),
            Human(self.p95_ns),
            Human(self.p99_ns),
            Human(self.p999_ns),
            Human(self.max_ns),
            Human(self.mean_ns.round() as u64),
        )
    }
}

/// Nanoseconds in the largest unit that leaves a whole one; a tenth of it is shown, rounded half up.
struct Human(u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        if ns < 1_000 {
            return write!(f, "{ns} ns");
        }
        // Rounding comes before the choice of the unit, so that 999,950 ns are 1.0 ms and not 1000.0 µs.
        for (unit_ns, unit) in [(1_000, "µs"), (1_000_000, "ms")] {
            let tenths = tenths_of(ns, unit_ns);
            if tenths < 10_000 {
                return write!(f, "{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
        let tenths = tenths_of(ns, 1_000_000_000);
        write!(f, "{}.{} s", tenths / 10, tenths % 10)
    }
}

/// Rounded half up.
const fn tenths_of(ns: u64, unit_ns: u64) -> u64 {
    let tenth_ns = unit_ns / 10;
    ns / tenth_ns + (ns % tenth_ns >= tenth_ns / 2) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::histogram::VALUE_NS_MAX;

    fn recorded(values: &[u64]) -> HistogramCells {
        let cells = HistogramCells::new();
        for &value in values {
            cells.record(value);
        }
        cells
    }

    #[test]
    fn nanoseconds_print_in_the_unit_that_fits() {
        for (ns, printed) in [
            (0, "0 ns"),
            (340, "340 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (1_249, "1.2 µs"),
            (1_250, "1.3 µs"),
            (999_949, "999.9 µs"),
            (999_950, "1.0 ms"),
            (3_400_000, "3.4 ms"),
            (999_950_000, "1.0 s"),
            (90_000_000_000, "90.0 s"),
            (u64::MAX, "18446744073.7 s"),
        ] {
            assert_eq!(Human(ns).to_string(), printed);
        }
    }

    #[test]
    fn summary_prints_as_one_line() {
        let mut values = vec![340; 900];
        values.extend([1_200; 99]);
        values.push(3_400_000);
        assert_eq!(
            LatencySummary::of_cells([&recorded(&values)]).to_string(),
            "1000 recorded: p50 341 ns, p95 1.2 µs, p99 1.2 µs, p99.9 1.2 µs, max 3.4 ms, mean 3.8 µs"
        );
    }

    #[test]
    fn nothing_recorded_is_all_zero_and_says_so() {
        let nothing = LatencySummary::of_cells([&HistogramCells::new()]);
        assert_eq!(nothing, LatencySummary::default());
        assert_eq!(nothing, LatencySummary::of(&HistogramCells::empty_snapshot()));
        assert_eq!(nothing.to_string(), "nothing recorded");
    }

    #[test]
    fn clamped_latency_keeps_its_true_maximum() {
        let summary = LatencySummary::of_cells([&recorded(&[1, u64::MAX])]);
        assert_eq!(summary.max_ns, u64::MAX);
        assert_eq!(summary.p999_ns, VALUE_NS_MAX);
        assert_eq!(summary.mean_ns, (VALUE_NS_MAX + 1) as f64 / 2.0);
    }

    #[test]
    fn percentiles_never_exceed_the_exact_maximum() {
        // The cell of 1,000 ns reaches up to 1,003.
        let summary = LatencySummary::of_cells([&recorded(&[1_000])]);
        let LatencySummary { p50_ns, p95_ns, p99_ns, p999_ns, max_ns, .. } = summary;
        assert_eq!([p50_ns, p95_ns, p99_ns, p999_ns, max_ns], [1_000; 5]);
    }

    /// The value that so many in 1,000 of the sorted values are not above.
    fn true_quantile(sorted: &[u64], per_mille: usize) -> u64 {
        sorted[(sorted.len() * per_mille).div_ceil(1_000).max(1) - 1]
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "a minute a case, and nothing but sums")]
        fn writers_are_summarised_together_as_the_sorted_values_say(
            one in prop::collection::vec(0..10_000_000_000_u64, 1..200),
            other in prop::collection::vec(0..5_000_u64, 0..200),
        ) {
            let summary = LatencySummary::of_cells([&recorded(&one), &recorded(&other)]);
            let mut sorted = [one, other].concat();
            sorted.sort_unstable();
            let sum: u64 = sorted.iter().sum();
            prop_assert_eq!(summary.count, sorted.len() as u64);
            prop_assert_eq!(summary.max_ns, sorted[sorted.len() - 1]);
            prop_assert_eq!(summary.mean_ns, sum as f64 / sorted.len() as f64);
            for (told, per_mille) in [
                (summary.p50_ns, 500),
                (summary.p95_ns, 950),
                (summary.p99_ns, 990),
                (summary.p999_ns, 999),
            ] {
                let truth = true_quantile(&sorted, per_mille);
                prop_assert!(told >= truth && told <= summary.max_ns);
                prop_assert!(told - truth <= truth / 128, "{} for {}", told, truth);
            }
        }

        #[test]
        #[cfg_attr(miri, ignore = "a minute a case, and nothing but sums")]
        fn any_histogram_is_summarised_in_its_own_words(
            values in prop::collection::vec(0..1_000_000_u64, 1..200),
        ) {
            let mut histogram = Histogram::<u64>::new(3).unwrap();
            for &value in &values {
                histogram.record(value).unwrap();
            }
            let summary = LatencySummary::of(&histogram);
            prop_assert_eq!(summary.count, values.len() as u64);
            prop_assert_eq!(summary.p50_ns, histogram.value_at_percentile(50.0));
            prop_assert_eq!(summary.p95_ns, histogram.value_at_percentile(95.0));
            prop_assert_eq!(summary.p99_ns, histogram.value_at_percentile(99.0));
            prop_assert_eq!(summary.p999_ns, histogram.value_at_percentile(99.9));
            prop_assert_eq!(summary.max_ns, histogram.max());
            prop_assert_eq!(summary.mean_ns, histogram.mean());
        }
    }
}
