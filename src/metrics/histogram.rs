//! A latency histogram that one thread records into, or any, and any thread reads, without a lock between them.
//!
//! The layout is the one of HDR histograms with two significant digits. Values below 256 ns have a cell
//! each; above, every doubling is split into 128 cells, so a cell is never wider than 1/128 (0.8 %) of the
//! values in it:
//!
//! ```text
//!  value ns   0 ...... 255 | 256 .... 511 | 512 ... 1023 | ...   | 2^41 .. 2^42 - 1
//!  cell      [0]      [255] [256]    [383] [384]    [511]  ...    [4480]     [4607]
//!  width      1 ns           2 ns           4 ns           ...    2^34 ns
//! ```
//!
//! The cells hold the same counts as an `hdrhistogram::Histogram` over the same bounds would, so a snapshot
//! answers every question exactly as if the values had been recorded there.

use hdrhistogram::Histogram;

#[cfg(not(ringmain_shuttle))]
use super::cells::Counter;
use super::cells::Peak;
/// A latency decides nothing, and a scheduler that could switch at each of these cells would do little else.
#[cfg(ringmain_shuttle)]
use super::unscheduled::Counter;

/// The largest value told apart from larger ones: 2^42 - 1 ns, about 73 minutes.
pub(crate) const VALUE_NS_MAX: u64 = (1 << 42) - 1;

/// Two decimal digits need single-unit resolution up to 200, which rounds up to 256 cells.
const SIGNIFICANT_DIGITS: u8 = 2;
const SUB_BUCKETS: usize = 256;
const HALF: usize = SUB_BUCKETS / 2;
const CELLS: usize = index_of(VALUE_NS_MAX) + 1;
const TOP: usize = CELLS - 1;

/// Counts of latencies in nanoseconds, written by one thread, or by any with `record_shared`.
///
/// A value above [`VALUE_NS_MAX`] counts as that. The exact sum and the exact maximum are kept beside the cells, inside the struct: keep the histograms of different writers on
/// different cache lines.
///
/// Readers see every cell only rise, but not all cells at one moment: a snapshot taken while the writer
/// works may miss a record that began before it. At quiescence everything agrees.
pub(crate) struct HistogramCells {
    cells: Box<[Counter; CELLS]>,
    /// Of the values as counted (clamped), modulo 2^64.
    sum_ns: Counter,
    /// Of the values as given (not clamped).
    max_ns: Peak,
}

impl std::fmt::Debug for HistogramCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HistogramCells").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl HistogramCells {
    /// Reserves the cells (36,864 bytes) and asks the allocator for them at zero. Control plane only.
    ///
    /// Whether cells never recorded into take up resident pages is the allocator's doing: one that clears
    /// memory by writing to it, as glibc's does with what it carves from a heap it already has, makes nearly
    /// all of them resident here.
    ///
    /// `None` when the system has not so much memory.
    pub(crate) fn try_new() -> Option<Self> {
        Some(Self { cells: zeroed_cells()?, sum_ns: Counter::default(), max_ns: Peak::default() })
    }

    /// One a lane. `None` when the system has not so much memory.
    pub(crate) fn try_new_lanes() -> Option<[Self; 4]> {
        Some([Self::try_new()?, Self::try_new()?, Self::try_new()?, Self::try_new()?])
    }

    /// As [`try_new`](Self::try_new), for who cannot go on without.
    pub(crate) fn new() -> Self {
        Self::try_new().unwrap_or_else(|| std::alloc::handle_alloc_error(std::alloc::Layout::new::<[Counter; CELLS]>()))
    }

    /// A histogram of what has been counted here so far. Control plane only.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        copy.absorb(self);
        copy
    }

    /// Counts one value. Call it from the writing thread only; a second writer would lose counts.
    ///
    /// # Cost
    ///
    /// About a nanosecond: three loads, two or three stores. No lock, no allocation, no wake-up. The first
    /// value in each 4 KiB of cells may take a page fault.
    #[inline]
    pub(crate) fn record(&self, value_ns: u64) {
        let mut index = index_of(value_ns);
        let mut counted_ns = value_ns;
        // Clamping the index, not the value, is what shows the compiler that it is in range.
        if index > TOP {
            index = TOP;
            counted_ns = VALUE_NS_MAX;
        }
        self.cells[index].add(1);
        self.sum_ns.add(counted_ns);
        self.max_ns.raise(value_ns);
    }

    /// Counts one value, from any thread, where no thread calls [`record`](Self::record).
    ///
    /// # Cost
    ///
    /// Three atomic additions. No lock, no allocation, no wake-up.
    pub(crate) fn record_shared(&self, value_ns: u64) {
        self.cells[index_of(value_ns).min(TOP)].add_shared(1);
        self.sum_ns.add_shared(value_ns.min(VALUE_NS_MAX));
        self.max_ns.raise_shared(value_ns);
    }

    /// Counts all that `other` has counted so far, as if it had been recorded here. Call it from the writing thread only.
    pub(crate) fn absorb(&self, other: &Self) {
        for (index, count) in other.nonzero() {
            self.cells[index].add(count);
        }
        self.sum_ns.add(other.sum_ns.get());
        self.max_ns.raise(other.max_ns.get());
    }

    /// Makes all pages resident, near the core that the calling thread is on. Before the first value.
    pub(crate) fn touch(&self) {
        for page in self.cells.chunks(4096 / size_of::<Counter>()) {
            page[0].add(std::hint::black_box(0));
        }
    }

    /// How many values were recorded; reads every cell.
    pub(crate) fn count(&self) -> u64 {
        self.cells.iter().map(Counter::get).sum()
    }

    /// The exact sum of all values in nanoseconds, clamped ones as [`VALUE_NS_MAX`]; reads every cell.
    ///
    /// The writer keeps it modulo 2^64, which a full lane of 10,000 waiting events would wrap in 21 days
    /// (a second adds as many seconds as events wait). The cells give the sum within 1/256, enough to tell
    /// how often it wrapped, up to 2^70 ns.
    pub(crate) fn sum_ns(&self) -> u128 {
        let estimate: u128 = self
            .nonzero()
            .map(|(index, count)| {
                let middle = low_ns(index) + width_ns(index) / 2;
                u128::from(middle) * u128::from(count)
            })
            .sum();
        // The number nearest to the estimate that is the kept one modulo 2^64.
        let kept = self.sum_ns.get();
        let off = kept.wrapping_sub(estimate as u64) as i64;
        estimate.checked_add_signed(i128::from(off)).unwrap_or(u128::from(kept))
    }

    /// The exact highest value recorded, in nanoseconds, not clamped; 0 before the first.
    pub(crate) fn max_ns(&self) -> u64 {
        self.max_ns.get()
    }

    /// An empty histogram of the same bounds, for [`merge_into`](Self::merge_into).
    pub(crate) fn empty_snapshot() -> Histogram<u64> {
        Histogram::new_with_bounds(1, VALUE_NS_MAX, SIGNIFICANT_DIGITS)
            .expect("1 .. 2^42 ns at two digits are bounds a histogram can have")
    }

    /// What has been counted so far, as a histogram of its own.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Histogram<u64> {
        let mut histogram = Self::empty_snapshot();
        self.merge_into(&mut histogram);
        histogram
    }

    /// Adds what has been counted so far to `histogram`, such as another worker's snapshot. Values beyond
    /// the bounds of `histogram` count as its highest.
    pub(crate) fn merge_into(&self, histogram: &mut Histogram<u64>) {
        for (index, count) in self.nonzero() {
            histogram.saturating_record_n(low_ns(index), count);
        }
    }

    /// Bytes of memory reserved for the cells, resident or not.
    pub(crate) const BYTES: usize = size_of::<[Counter; CELLS]>();

    /// Looks no further than the highest value counted so far.
    fn nonzero(&self) -> impl Iterator<Item = (usize, u64)> {
        let highest = index_of(self.max_ns.get()).min(TOP);
        self.cells[..=highest].iter().map(Counter::get).enumerate().filter(|&(_, count)| count != 0)
    }
}

/// The cell of a value; past `TOP` for values above `VALUE_NS_MAX`.
#[inline]
const fn index_of(value_ns: u64) -> usize {
    let doublings = (SUB_BUCKETS as u64 - 1).leading_zeros() - (value_ns | (SUB_BUCKETS as u64 - 1)).leading_zeros();
    doublings as usize * HALF + (value_ns >> doublings) as usize
}

/// How often 256 doubles up to the values of a cell.
const fn doublings_of(index: usize) -> usize {
    (index / HALF).saturating_sub(1)
}

/// The lowest value that falls into a cell.
const fn low_ns(index: usize) -> u64 {
    let doublings = doublings_of(index);
    ((index - doublings * HALF) as u64) << doublings
}

/// How many values fall into a cell.
const fn width_ns(index: usize) -> u64 {
    1 << doublings_of(index)
}

/// Leaves the zeroing to the allocator, in every build; a loop of `Counter::default()` may write each cell.
#[cfg(not(ringmain_loom))]
fn zeroed_cells() -> Option<Box<[Counter; CELLS]>> {
    let layout = std::alloc::Layout::new::<[Counter; CELLS]>();
    // SAFETY: the layout's size is not zero; nobody else can know of memory not yet allocated.
    let memory = unsafe { std::alloc::alloc_zeroed(layout) };
    if memory.is_null() {
        return None;
    }
    // SAFETY: the memory comes from the global allocator with this very type's layout and belongs to nobody
    // else. All bytes are zero, which is a valid `Counter`: a transparent wrapper of an atomic integer, which
    // has the bit validity of the integer.
    Some(unsafe { Box::from_raw(memory.cast()) })
}

/// Loom's atomics are no plain integers: each one is made, on the heap because its stacks are small.
#[cfg(ringmain_loom)]
fn zeroed_cells() -> Option<Box<[Counter; CELLS]>> {
    let cells: Box<[Counter]> = (0..CELLS).map(|_| Counter::default()).collect();
    cells.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// Values of every magnitude, the clamped ones among them.
    fn any_value_ns() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift)
    }

    fn recorded(values: &[u64]) -> HistogramCells {
        let cells = HistogramCells::new();
        for &value in values {
            cells.record(value);
        }
        cells
    }

    fn oracle(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, VALUE_NS_MAX, 2).unwrap();
        for &value in values {
            histogram.record(value.min(VALUE_NS_MAX)).unwrap();
        }
        histogram
    }

    proptest! {
        /// Exactly: not within a cell's width, but to the nanosecond.
        #[test]
        #[cfg_attr(miri, ignore = "a minute a case, and nothing but sums")]
        fn snapshot_answers_exactly_as_a_histogram_fed_the_same_values(
            values in prop::collection::vec(any_value_ns(), 0..300),
            quantile in 0.0..=1.0_f64,
        ) {
            let snapshot = recorded(&values).snapshot();
            let oracle = oracle(&values);
            for q in [0.0, 0.5, 0.95, 0.99, 0.999, 1.0, quantile] {
                prop_assert_eq!(snapshot.value_at_quantile(q), oracle.value_at_quantile(q));
            }
            prop_assert_eq!(snapshot.mean().to_bits(), oracle.mean().to_bits());
            // Every cell, the count, the lowest and the highest.
            prop_assert_eq!(snapshot, oracle);
        }

        #[test]
        #[cfg_attr(miri, ignore = "a minute a case, and nothing but sums")]
        fn merged_cells_answer_as_one_histogram_fed_by_both_writers(
            one in prop::collection::vec(any_value_ns(), 0..100),
            other in prop::collection::vec(any_value_ns(), 0..100),
        ) {
            let mut merged = recorded(&one).snapshot();
            recorded(&other).merge_into(&mut merged);
            prop_assert_eq!(merged, oracle(&[one, other].concat()));
        }

        #[test]
        fn count_sum_and_max_are_exact(
            values in prop::collection::vec(any_value_ns(), 0..300),
        ) {
            let cells = recorded(&values);
            let sum: u128 = values.iter().map(|&value| u128::from(value.min(VALUE_NS_MAX))).sum();
            prop_assert_eq!(cells.count(), values.len() as u64);
            prop_assert_eq!(cells.sum_ns(), sum);
            prop_assert_eq!(cells.max_ns(), values.iter().copied().max().unwrap_or(0));
        }

        #[test]
        fn sum_stays_exact_when_the_kept_one_has_wrapped(
            counts in prop::collection::vec((0..=VALUE_NS_MAX, 1..1_u64 << 24), 1..16),
        ) {
            let cells = HistogramCells::new();
            let mut sum = 0_u128;
            for (value, count) in counts {
                // What `record` does, `count` times.
                cells.cells[index_of(value)].add(count);
                cells.max_ns.raise(value);
                cells.sum_ns.add(value.wrapping_mul(count));
                sum += u128::from(value) * u128::from(count);
            }
            prop_assert_eq!(cells.sum_ns(), sum);
        }

        #[test]
        fn a_larger_value_never_falls_into_a_lower_cell(a in any_value_ns(), b in any_value_ns()) {
            prop_assert!(index_of(a.min(b)) <= index_of(a.max(b)));
        }

        #[test]
        fn a_value_lies_within_the_range_of_its_cell(value in 0..=VALUE_NS_MAX, shift in 0..42_u32) {
            let value = value >> shift;
            let index = index_of(value);
            prop_assert!(index <= TOP);
            prop_assert!(low_ns(index) <= value);
            prop_assert!(value - low_ns(index) < width_ns(index));
            // Two digits: a cell is narrower than a hundredth of what is in it.
            prop_assert!(width_ns(index) == 1 || width_ns(index) * 100 < value);
        }
    }

    #[test]
    fn cells_follow_one_another_without_gap_or_overlap() {
        assert_eq!(CELLS, 4_608);
        assert_eq!(low_ns(0), 0);
        for index in 0..CELLS {
            let last = low_ns(index) + width_ns(index) - 1;
            assert_eq!(index_of(low_ns(index)), index);
            assert_eq!(index_of(last), index);
            assert_eq!(index_of(last + 1), index + 1);
        }
        assert_eq!(low_ns(TOP) + width_ns(TOP) - 1, VALUE_NS_MAX);
    }

    #[test]
    fn values_beyond_the_top_count_as_the_top() {
        let cells = recorded(&[VALUE_NS_MAX, VALUE_NS_MAX + 1, u64::MAX]);
        assert_eq!(cells.count(), 3);
        assert_eq!(cells.cells[TOP].get(), 3);
        assert_eq!(cells.max_ns(), u64::MAX);
        assert_eq!(cells.sum_ns(), 3 * u128::from(VALUE_NS_MAX));
    }

    #[test]
    fn merging_into_narrower_bounds_counts_as_their_highest() {
        let mut narrow = Histogram::<u64>::new_with_bounds(1, 1_000, 2).unwrap();
        recorded(&[10, 1_000_000]).merge_into(&mut narrow);
        assert_eq!(narrow.len(), 2);
        assert!(narrow.equivalent(narrow.max(), 1_000));
    }

    #[test]
    #[cfg_attr(miri, ignore = "half a minute, and nothing but sums")]
    fn an_absorbed_histogram_counts_as_if_its_values_had_been_recorded_here() {
        let (one, other) = (recorded(&[5, 1_000, VALUE_NS_MAX + 9]), recorded(&[5, 70_000, 80_000]));
        one.absorb(&other);
        let both = recorded(&[5, 1_000, VALUE_NS_MAX + 9, 5, 70_000, 80_000]);
        assert_eq!(one.snapshot(), both.snapshot());
        assert_eq!((one.sum_ns(), one.max_ns()), (both.sum_ns(), both.max_ns()));
        assert_eq!((other.count(), other.copy().snapshot()), (3, other.snapshot()));
    }

    #[test]
    fn touched_pages_count_nothing() {
        let cells = HistogramCells::new();
        cells.touch();
        assert_eq!((cells.count(), cells.max_ns()), (0, 0));
    }

    #[test]
    fn counts_read_while_written_only_rise() {
        // Miri looks at each step, and takes its time.
        const RECORDS: u64 = if cfg!(miri) { 20 } else { 200_000 };
        let cells = HistogramCells::new();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                for i in 0..RECORDS {
                    cells.record(i * 7_919 % 3_000_000);
                }
            });
            start.wait();
            let (mut count, mut max_ns) = (0, 0);
            while count < RECORDS {
                let (count_before, max_before) = (count, max_ns);
                count = cells.count();
                max_ns = cells.max_ns();
                assert!(count >= count_before, "{count} after {count_before}");
                assert!(max_ns >= max_before, "{max_ns} after {max_before}");
                assert!(count <= RECORDS);
            }
        });
        assert_eq!(cells.snapshot().len(), RECORDS);
    }

    #[test]
    fn a_histogram_in_recycled_memory_begins_at_zero() {
        // The allocator hands the memory of the one just dropped to the next. Miri knows memory that nobody has written.
        let (rounds, step) = if cfg!(miri) { (1, 64) } else { (8, 1) };
        for _ in 0..rounds {
            let cells = HistogramCells::new();
            assert_eq!(HistogramCells::BYTES, 36_864);
            assert!(cells.cells.iter().all(|cell| cell.get() == 0));
            for index in (0..CELLS).step_by(step) {
                cells.record(low_ns(index));
            }
            assert!(cells.cells.iter().step_by(step).all(|cell| cell.get() == 1));
        }
    }
}
