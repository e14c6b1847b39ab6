//! What a consumer does with events: reads each word, checks that none is missing, doubled or out of order, and takes
//! the times that the question asks for.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

use crate::event::{PUBLISHERS_MAX, Word, expected_checksum, split_tag, tag};
use crate::machine::Clock;
use crate::subject::Sink;

/// Why a run counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Events missing or too many.
    Count { expected: u64, received: u64 },
    /// A gap, a repetition or an overtaking among the events of one publisher.
    Order { publisher: usize, expected: u64, received: u64 },
    /// The payload words add up to something else.
    Checksum { expected: u64, received: u64 },
    /// Header and payload of one event disagree.
    Torn { received: u64 },
    /// A consumer ended early while a publisher was waiting for room.
    ConsumerLeft,
    /// Nothing moved for a long time.
    Stuck { seconds: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { expected, received } => {
                write!(f, "received {received} events, {expected} were published")
            }
            Self::Order { publisher, expected, received } => {
                write!(f, "publisher {publisher}: event {received} came where {expected} was due")
            }
            Self::Checksum { expected, received } => {
                write!(f, "payloads add up to {received:#x}, written were {expected:#x}")
            }
            Self::Torn { received } => write!(f, "an event came torn, after {received} whole ones"),
            Self::ConsumerLeft => f.write_str("a consumer ended before all events had come"),
            Self::Stuck { seconds } => write!(f, "not all events came within {seconds} s; one was lost"),
        }
    }
}

impl Error for Fault {}

/// Counts and checks.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The tag due next, a publisher.
    due: [u64; PUBLISHERS_MAX],
    received: u64,
    checksum: u64,
    fault: Option<Fault>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { due: std::array::from_fn(|publisher| tag(publisher, 0)), received: 0, checksum: 0, fault: None }
    }
}

impl Tally {
    /// Takes one event, every word of it; gives back its stamp.
    #[inline(always)]
    pub(crate) fn take<W: Word, const WORDS: usize>(&mut self, payload: &[W; WORDS]) -> u64 {
        let tag = payload[0].number();
        let sum = payload[2..].iter().fold(0u64, |sum, word| sum.wrapping_add(word.number()));
        self.checksum = self.checksum.wrapping_add(sum);
        self.received += 1;
        let (publisher, _) = split_tag(tag);
        // A publisher beyond the last falls on one whose tag is due there, and so is out of order.
        let due = &mut self.due[publisher % PUBLISHERS_MAX];
        if *due == tag {
            *due += 1;
        } else {
            self.out_of_order(tag);
        }
        payload[1].number()
    }

    #[cold]
    fn out_of_order(&mut self, came: u64) {
        let (publisher, received) = split_tag(came);
        let due = &mut self.due[publisher % PUBLISHERS_MAX];
        let (_, expected) = split_tag(*due);
        *due = tag(publisher % PUBLISHERS_MAX, received + 1);
        self.fault.get_or_insert(Fault::Order { publisher, expected, received });
    }

    /// Takes one event that is not in one piece.
    #[cold]
    pub(crate) fn torn(&mut self) {
        self.fault.get_or_insert(Fault::Torn { received: self.received });
        self.received += 1;
    }

    /// How many came.
    #[inline]
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Everything right? `published` events came from each publisher in turn.
    pub(crate) fn verify(&self, words: usize, published: &[u64]) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let expected = published.iter().sum();
        if self.received != expected {
            return Err(Fault::Count { expected, received: self.received });
        }
        let expected = (0..)
            .zip(published)
            .fold(0u64, |sum, (publisher, events)| sum.wrapping_add(expected_checksum(words, publisher, *events)));
        if self.checksum != expected {
            return Err(Fault::Checksum { expected, received: self.checksum });
        }
        Ok(())
    }
}

/// A histogram of nanoseconds, up to 100 s, to three digits.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are constants that hdrhistogram accepts")
}

/// The median in nanoseconds, between the clock's steps: where these are as coarse as 10 ns, a ratio of two medians
/// would jump. Taken as if what was recorded at one step lay evenly between the middles to its neighbours.
pub(crate) fn median_ns(latency: &Histogram<u64>) -> f64 {
    let half = latency.len() as f64 / 2.0;
    let steps: Vec<_> = latency.iter_recorded().map(|step| step.value_iterated_to() as f64).collect();
    let mut below = 0.0;
    for (index, step) in latency.iter_recorded().enumerate() {
        let count = step.count_at_value() as f64;
        if below + count >= half {
            let at = steps[index];
            let low = index.checked_sub(1).map_or(at, |before| f64::midpoint(steps[before], at));
            let high = steps.get(index + 1).map_or(at, |after| f64::midpoint(at, *after));
            return low + (high - low) * (half - below) / count;
        }
        below += count;
    }
    0.0
}

/// Times a stream: the rate from the end of the warm-up to the last event, and the latency of what is stamped.
#[derive(Debug)]
pub(crate) struct Meter {
    /// What came.
    pub(crate) tally: Tally,
    /// Nanoseconds from stamp to here, warm-up left out.
    pub(crate) latency: Histogram<u64>,
    clock: Clock,
    /// The count at which something happens next: end of warm-up, then the goal.
    mark: u64,
    goal: u64,
    /// Ticks at the end of the warm-up, 0 before.
    pub(crate) started: u64,
    /// Ticks at the goal.
    pub(crate) finished: u64,
}

impl Meter {
    /// Done after `goal` events, of which the first `warmup` (at least 1) are not timed.
    pub(crate) fn new(clock: &Clock, warmup: u64, goal: u64) -> Self {
        Self {
            tally: Tally::default(),
            latency: latencies(),
            clock: clock.clone(),
            mark: warmup.clamp(1, goal - 1),
            goal,
            started: 0,
            finished: 0,
        }
    }

    #[inline(never)]
    fn record(&mut self, stamp: u64) {
        if self.started != 0 {
            self.latency.saturating_record(self.clock.nanos(stamp, self.clock.ticks()));
        }
    }

    #[cold]
    fn reached(&mut self) {
        let now = self.clock.ticks();
        if self.started == 0 {
            self.started = now;
            self.mark = self.goal;
        } else {
            self.finished = now;
        }
    }
}

impl Sink for Meter {
    #[inline]
    fn event<W: Word, const WORDS: usize>(&mut self, payload: &[W; WORDS]) {
        let stamp = self.tally.take(payload);
        if stamp != 0 {
            self.record(stamp);
        }
        if self.tally.received() == self.mark {
            self.reached();
        }
    }

    fn torn(&mut self) {
        self.tally.torn();
    }

    #[inline]
    fn done(&self) -> bool {
        self.finished != 0
    }
}

/// What the publisher of bursts sees of the consumer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Drained {
    finished: AtomicU64,
}

impl Drained {
    /// Ticks at which the last whole burst was through, 0 before the first.
    pub(crate) fn finished(&self) -> u64 {
        // SYNC(burst.drained): Acquire. Pairs with the store in `Drain::event`.
        self.finished.load(Ordering::Acquire)
    }
}

/// Times bursts: tells the publisher when each is through.
#[derive(Debug)]
pub(crate) struct Drain {
    /// What came.
    pub(crate) tally: Tally,
    clock: Clock,
    burst: u64,
    mark: u64,
    goal: u64,
    drained: Arc<Drained>,
}

impl Drain {
    /// `bursts` bursts of `burst` events.
    pub(crate) fn new(clock: &Clock, burst: u64, bursts: u64, drained: Arc<Drained>) -> Self {
        Self { tally: Tally::default(), clock: clock.clone(), burst, mark: burst, goal: burst * bursts, drained }
    }
}

impl Sink for Drain {
    #[inline]
    fn event<W: Word, const WORDS: usize>(&mut self, payload: &[W; WORDS]) {
        self.tally.take(payload);
        if self.tally.received() == self.mark {
            self.mark += self.burst;
            // SYNC(burst.drained): Release. Pairs with the load in `Drained::finished`: the publisher that sees it may
            // start the next burst.
            self.drained.finished.store(self.clock.ticks(), Ordering::Release);
        }
    }

    fn torn(&mut self) {
        self.tally.torn();
    }

    #[inline]
    fn done(&self) -> bool {
        self.tally.received() >= self.goal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Draft, SMALL, Urgency};

    fn feed(sequences: &[u64]) -> Tally {
        let mut tally = Tally::default();
        for &sequence in sequences {
            let mut payload = [0u64; SMALL];
            Draft { publisher: 0, urgency: Urgency::Ordinary, sequence, stamp: 3 }.write_payload(&mut payload);
            assert_eq!(tally.take(&payload), 3);
        }
        tally
    }

    #[test]
    fn a_whole_stream_passes() {
        assert_eq!(feed(&[0, 1, 2, 3]).verify(SMALL, &[4]), Ok(()));
    }

    #[test]
    fn a_lost_a_doubled_and_a_late_event_are_faults() {
        for wrong in [&[0, 2, 3][..], &[0, 1, 1, 2], &[1, 0]] {
            assert!(matches!(feed(wrong).verify(SMALL, &[wrong.len() as u64]), Err(Fault::Order { .. })), "{wrong:?}");
        }
        assert_eq!(feed(&[0, 1]).verify(SMALL, &[3]), Err(Fault::Count { expected: 3, received: 2 }));
    }

    #[test]
    fn an_event_of_an_unknown_publisher_is_a_fault() {
        let mut tally = Tally::default();
        let mut payload = [0u64; SMALL];
        let publisher = PUBLISHERS_MAX as u8;
        Draft { publisher, urgency: Urgency::Ordinary, sequence: 0, stamp: 0 }.write_payload(&mut payload);
        tally.take(&payload);
        let fault = Fault::Order { publisher: PUBLISHERS_MAX, expected: 0, received: 0 };
        assert_eq!(tally.verify(SMALL, &[1]), Err(fault));
    }

    #[test]
    fn the_median_lies_between_the_steps_of_the_clock() {
        let mut latency = latencies();
        assert_eq!(median_ns(&latency), 0.0);
        for (nanos, count) in [(100, 10), (110, 40), (120, 50)] {
            latency.record_n(nanos, count).expect("within bounds");
        }
        assert_eq!(median_ns(&latency), 115.0);
        latency.record_n(120, 40).expect("within bounds");
        assert!((115.0..120.0).contains(&median_ns(&latency)), "{}", median_ns(&latency));
    }

    #[test]
    fn a_changed_word_is_a_fault() {
        let mut tally = feed(&[0, 1]);
        let mut payload = [0u64; SMALL];
        Draft { publisher: 0, urgency: Urgency::Ordinary, sequence: 2, stamp: 0 }.write_payload(&mut payload);
        payload[SMALL - 1] ^= 1;
        tally.take(&payload);
        assert!(matches!(tally.verify(SMALL, &[3]), Err(Fault::Checksum { .. })));
    }
}
