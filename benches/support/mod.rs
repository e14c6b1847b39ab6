//! What the benchmarks share: where threads run, the events they send, and the count that shows none is lost.

#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::Criterion;
use crossbeam::utils::CachePadded;
use ringmain::{Bus, BusBuilder, IdleStrategy, Publisher, Topic};
use rkyv::{Archive, Serialize};

/// Bytes of a slot in front of the payload.
const HEAD_BYTES: usize = 64;
/// A count that stays behind for so long will not be reached any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Looks at a count before the thread lets others run: some tens of microseconds.
const SPINS: u32 = 20_000;

/// An event whose payload is `N` times 8 bytes.
#[derive(Archive, Serialize)]
pub(crate) struct Words<const N: usize> {
    pub(crate) words: [u64; N],
}

pub(crate) const SMALL: Topic<Words<8>> = Topic::new("bench.small");
pub(crate) const LARGE: Topic<Words<128>> = Topic::new("bench.large");

impl<const N: usize> Words<N> {
    pub(crate) const fn new(word: u64) -> Self {
        Self { words: [word; N] }
    }
}

impl<const N: usize> ArchivedWords<N> {
    /// Reads all of the payload, as a handler would.
    #[inline]
    pub(crate) fn sum(&self) -> u64 {
        self.words.iter().fold(0, |sum: u64, word| sum.wrapping_add(word.to_native()))
    }
}

/// The slot that a payload of so many bytes fits exactly.
pub(crate) const fn slot_bytes(payload_bytes: usize) -> usize {
    (HEAD_BYTES + payload_bytes).next_multiple_of(64)
}

fn cores() -> Vec<core_affinity::CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// How many threads publish, and how many workers deliver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) publishers: usize,
    pub(crate) workers: usize,
}

impl Setup {
    pub(crate) const ONE_TO_ONE: Self = Self { publishers: 1, workers: 1 };

    /// Whether there is a core for each thread.
    fn fits(self) -> bool {
        self.publishers + self.workers <= cores().len()
    }

    /// Spinning takes a core; where threads share one, spinners would only stand in each other's way.
    pub(crate) fn idle(self) -> IdleStrategy {
        if self.fits() { IdleStrategy::BusySpin } else { IdleStrategy::Yield }
    }

    pub(crate) fn builder(self) -> BusBuilder {
        Bus::builder().name("bench").workers(self.workers).pin(self.fits()).idle(self.idle())
    }

    /// Workers have the first cores, publishers the last.
    fn pin_publisher(self, nth: usize) {
        if self.fits() {
            let core = cores().into_iter().rev().nth(nth).expect("there is a core for each thread");
            assert!(core_affinity::set_for_current(core), "an allowed core can be pinned to");
        }
    }
}

/// Says where the figures come from.
pub(crate) fn announce(setups: &[Setup]) {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    eprintln!("machine: {model}, {} cores for this process", cores().len());
    if setups.is_empty() {
        eprintln!("one thread, not pinned; no worker idles");
    }
    for setup in setups {
        let pinned = if setup.fits() { "each thread pinned to a core" } else { "more threads than cores: not pinned" };
        let Setup { publishers, workers } = setup;
        eprintln!("{publishers} publishing, workers {workers}: {pinned}, idle strategy {}", setup.idle());
    }
}

/// So many samples, and so long, that all benchmarks together take minutes.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
        .configure_from_args()
}

/// Deliveries of one subscription. One thread adds, any may look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<CachePadded<AtomicU64>>);

impl Count {
    #[inline]
    pub(crate) fn add_one(&self) {
        // Relaxed: a plain count with one writer; nobody reads anything else by it.
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // Relaxed: as in `add_one`.
        self.0.load(Ordering::Relaxed)
    }

    /// Waits, spinning, until `expected` events have come.
    ///
    /// # Panics
    /// When they do not come, or more come than were sent.
    #[inline]
    pub(crate) fn wait(&self, expected: u64) {
        let mut looks = 0;
        while self.get() < expected {
            looks += 1;
            std::hint::spin_loop();
            if looks == SPINS {
                self.wait_long(expected);
            }
        }
        assert_eq!(self.get(), expected, "more events were delivered than published");
    }

    #[cold]
    fn wait_long(&self, expected: u64) {
        let begun = Instant::now();
        while self.get() < expected {
            assert!(begun.elapsed() < PATIENCE, "{} of {expected} events were delivered; some are lost", self.get());
            std::thread::yield_now();
        }
    }
}

/// Subscribes an inline handler that reads all of each payload. Returns the count of its calls.
pub(crate) fn read_inline<const N: usize>(bus: &Bus, topic: Topic<Words<N>>, worker: usize) -> Count {
    let count = Count::default();
    let counted = count.clone();
    let handled = bus.subscribe(topic).on_worker(worker).handle(move |event, _| {
        black_box(event.sum());
        counted.add_one();
    });
    handled.expect("the bus runs and knows the topic").forever();
    count
}

/// Runs `work` with each publisher, each on a thread of its own that is pinned as `setup` says, all starting together.
/// Returns the longest of their times.
pub(crate) fn race(
    setup: Setup,
    publishers: &mut [Publisher],
    work: impl Fn(usize, &mut Publisher) + Sync,
) -> Duration {
    let start = Barrier::new(publishers.len());
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let run = |(nth, publisher)| {
            scope.spawn(move || {
                setup.pin_publisher(nth);
                start.wait();
                let begun = Instant::now();
                work(nth, publisher);
                begun.elapsed()
            })
        };
        let threads: Vec<_> = publishers.iter_mut().enumerate().map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("publishing goes well")).max().unwrap_or_default()
    })
}

/// Runs `work` on a publishing thread and returns what it measured.
pub(crate) fn on_publisher_thread<R: Send>(setup: Setup, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setup.pin_publisher(0);
            work()
        });
        thread.join().expect("publishing goes well")
    })
}

/// Ends a bus.
///
/// # Panics
/// When an event is left over, or the books do not balance.
pub(crate) fn finish(bus: &Bus) {
    let report = bus.shutdown().expect("no benchmark runs on a worker");
    assert!(report.is_clean() && report.ledger_balanced, "events are lost or left over: {report:?}");
}
