//! A bus at about half of its peak for as long as one likes: memory, file descriptors, latency and rate over time.
//!
//! `ci/soak --hours 2` is the usual way to run it. Samples go to a file as JSON lines, and to a plot at the end. It fails
//! when an event is lost, when a thread that publishes, handles or consumes asks for memory once it is warm, when
//! descriptors grow, or when resident memory grows by more than 1 MiB an hour; in runs of an hour and more also when the
//! p99 drifts by a tenth, which shorter ones cannot tell from noise.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmain::{Bus, Overflow, Payload, Priority, Publisher};

use crate::books::assert_books;
use crate::{ONE_AT_A_TIME, PATIENCE, number_from_env, resident_bytes};
use crate::{counting, plot};

const SECONDS_DEFAULT: u64 = 3;
/// More would not show in a plot.
const SAMPLES_MAX: u64 = 720;
const PEAK_FOR: Duration = Duration::from_millis(500);
/// What resident memory may grow by in an hour.
const SLOPE_BYTES_AN_HOUR_MAX: f64 = 1_048_576.0;
/// What it may grow by in a run of less than an hour: an allocator keeps some pages more or less.
const NOISE_BYTES: f64 = 2.0 * 1_048_576.0;
/// What the median p99 of the last quarter may be of that of the first, in a run of an hour and more.
const P99_DRIFT_MAX: f64 = 1.1;
/// One event in so many does not fit its slot, and one is scheduled.
const LARGE_ONE_IN: u64 = 64;
const SCHEDULED_ONE_IN: u64 = 4_096;

/// The bus at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) descriptors: u64,
    /// How often the threads that publish, handle and consume have asked for memory.
    pub(crate) asked: u64,
    pub(crate) events: u64,
    pub(crate) rate: f64,
    /// Publish to the end of delivery, since the last sample.
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
}

impl Sample {
    fn json(&self) -> String {
        let Self { seconds, resident_bytes, descriptors, asked, events, rate, p50_ns, p99_ns } = self;
        format!(
            "{{\"seconds\":{seconds:.3},\"resident_bytes\":{resident_bytes},\"descriptors\":{descriptors},\
             \"asked\":{asked},\"events\":{events},\"rate\":{rate:.0},\"p50_ns\":{p50_ns},\"p99_ns\":{p99_ns}}}"
        )
    }
}

fn descriptors() -> u64 {
    fs::read_dir("/proc/self/fd").expect("a process can see its descriptors").count() as u64
}

/// Publishes the event after `nth`: most of them small, some in a block, some for later.
fn publish(publisher: &mut Publisher, nth: u64, large: &[u8]) {
    let priority = Priority::ALL[(nth % 4) as usize];
    let small = nth.to_le_bytes();
    let payload = Payload::raw(if nth.is_multiple_of(LARGE_ONE_IN) { large } else { &small });
    let mut event = publisher.at(priority);
    if nth % SCHEDULED_ONE_IN == 1 {
        event = event.not_before(Duration::from_millis(nth % 50));
    }
    event.publish_deadline("soak.event", payload, PATIENCE).expect("there is room within a minute");
}

/// Publishes at `rate` events a second (0: as fast as it goes) until it is told to stop. Returns how many.
fn pace(publisher: &mut Publisher, rate: f64, stop: &AtomicBool, published: &AtomicU64) -> u64 {
    let large = vec![7_u8; 2_000];
    counting::count_here();
    let begun = Instant::now();
    let mut nth = 0;
    // Relaxed (both): a flag and a figure; what they are about is joined.
    while !stop.load(Ordering::Relaxed) {
        let due = if rate == 0.0 { nth + 64 } else { (begun.elapsed().as_secs_f64() * rate) as u64 };
        while nth < due {
            publish(publisher, nth, &large);
            nth += 1;
            if nth.is_multiple_of(64) {
                published.store(nth, Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        if rate != 0.0 {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    published.store(nth, Ordering::Relaxed);
    nth
}

/// A thread that waits for the first time makes what it is woken by, and keeps it.
fn wait_once(bus: &Bus) {
    let mut empty = bus.subscribe("nothing").mailbox().expect("a mailbox");
    empty.recv_deadline(Duration::ZERO).expect_err("nobody publishes that");
}

/// Two inline handlers, a mailbox with a consumer and one that nobody reads: the last drops what it has no room for.
struct Load {
    bus: Bus,
    consumer: thread::JoinHandle<u64>,
    unread: ringmain::Mailbox<ringmain::Pattern>,
}

impl Load {
    fn start() -> Self {
        let bus = Bus::builder().workers(2).prefault(true).build().expect("a bus");
        for worker in 0..2 {
            let made = bus.subscribe("soak.*").on_worker(worker).handle(|_, _| counting::count_here());
            made.expect("a subscription").forever();
        }
        let mut mailbox = bus.subscribe("soak.event").mailbox().expect("a mailbox");
        let of_consumer = bus.clone();
        let consumer = thread::spawn(move || {
            wait_once(&of_consumer);
            drop(of_consumer);
            counting::count_here();
            mailbox.iter().count() as u64
        });
        let unread = bus.subscribe("soak.event").capacity(16).overflow(Overflow::DropOldest).mailbox();
        let unread = unread.expect("a mailbox");
        // Nobody waits for what a pause holds.
        bus.pause(unread.id()).expect("it has just been made");
        Self { bus, consumer, unread }
    }

    /// Publishes for `time`, and samples meanwhile. Returns the events.
    fn run(&self, rate: f64, time: Duration, every: Duration, mut sample: impl FnMut(f64, u64)) -> u64 {
        let mut publisher = self.bus.publisher().expect("a publisher");
        let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (bus, begun) = (&self.bus, Instant::now());
        thread::scope(|scope| {
            let pacer = scope.spawn(|| {
                wait_once(bus);
                pace(&mut publisher, rate, &stop, &published)
            });
            let mut due = every;
            while begun.elapsed() < time {
                let next = due.min(time);
                while let Some(left) = next.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
                    thread::park_timeout(left);
                }
                sample(begun.elapsed().as_secs_f64(), published.load(Ordering::Relaxed));
                // What comes and goes must leave nothing behind.
                let passing = self.bus.subscribe("soak.event").handle(|_, _| {});
                passing.expect("a subscription").unsubscribe().expect("workers answer");
                due += every;
            }
            stop.store(true, Ordering::Relaxed);
            pacer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Finds every event accounted for, by each subscription.
    fn finish(self, events: u64) {
        drop(self.unread);
        self.bus.flush_deadline(PATIENCE).expect("all is settled");
        let report = self.bus.shutdown_deadline(PATIENCE).expect("not on a worker");
        assert!(report.workers_left, "{report:#?}");
        assert_books(&self.bus);
        let ledger = self.bus.ledger();
        assert_eq!((ledger.accepted, ledger.unmatched, ledger.subscriptions.failed), (events, 0, 0), "{ledger:#?}");
        let pulled = self.consumer.join().expect("the consumer ends with the bus");
        assert_eq!(pulled + ledger.scheduled, events, "the consumer gets every event once: {ledger:#?}");
    }
}

/// Bytes a second that resident memory grows by: the straight line nearest to the samples.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let (time, bytes) = (mean(|one| one.seconds), mean(|one| one.resident_bytes as f64));
    let (mut above, mut below) = (0.0, 0.0);
    for one in samples {
        above += (one.seconds - time) * (one.resident_bytes as f64 - bytes);
        below += (one.seconds - time).powi(2);
    }
    if below == 0.0 { 0.0 } else { above / below }
}

/// The median p99 of some samples.
fn p99_of(samples: &[Sample]) -> f64 {
    let mut all: Vec<_> = samples.iter().map(|one| one.p99_ns).collect();
    all.sort_unstable();
    all[all.len() / 2] as f64
}

fn all_latencies(bus: &Bus) -> Histogram<u64> {
    let mut all = bus.latency_histogram(Priority::Critical);
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        all.add(bus.latency_histogram(priority)).expect("all have the same bounds");
    }
    all
}

#[test]
fn half_of_the_peak_leaves_memory_and_descriptors_as_they_are() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seconds = number_from_env("RINGMAIN_SOAK_SECONDS").unwrap_or(SECONDS_DEFAULT);
    let time = Duration::from_secs(seconds);
    let every = Duration::from_millis((seconds * 1_000 / SAMPLES_MAX).max(200));
    let files = std::env::var("RINGMAIN_SOAK_FILES")
        .map_or_else(|_| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("soak"), PathBuf::from);
    let load = Load::start();
    let warm = load.run(0.0, PEAK_FOR, PEAK_FOR, |_, _| {});
    // The samples are to show what half of the peak does, not what the peak has left behind.
    load.bus.flush_deadline(PATIENCE).expect("all but what is paused is settled");
    let peak = warm as f64 / PEAK_FOR.as_secs_f64();
    let mut lines = fs::File::create(files.with_extension("jsonl")).expect("the file can be written");
    let mut samples: Vec<Sample> = Vec::with_capacity(SAMPLES_MAX as usize * 2);
    let mut before = all_latencies(&load.bus);
    let events = load.run(peak / 2.0, time, every, |at, events| {
        let latencies = all_latencies(&load.bus);
        let mut since = latencies.clone();
        since.subtract(&before).expect("counts only rise");
        before = latencies;
        let (last, begun) = samples.last().map_or((0, 0.0), |last| (last.events, last.seconds));
        let sample = Sample {
            seconds: at,
            resident_bytes: resident_bytes(),
            descriptors: descriptors(),
            asked: counting::asked(),
            events,
            rate: (events - last) as f64 / (at - begun),
            p50_ns: since.value_at_quantile(0.5),
            p99_ns: since.value_at_quantile(0.99),
        };
        writeln!(lines, "{}", sample.json()).expect("the file can be written");
        samples.push(sample);
    });
    load.finish(warm + events);
    fs::write(files.with_extension("svg"), plot::svg(&samples, peak)).expect("the file can be written");

    // What is allocated once is there after a fifth of the time.
    let steady = &samples[samples.len() / 5..];
    let (first, last) = (steady.first().expect("there are samples"), steady.last().expect("there are samples"));
    let hours = (last.seconds - first.seconds) / 3_600.0;
    let slope_an_hour = slope(steady) * 3_600.0;
    println!(
        "soak: {events} events in {seconds} s, {:.0} a second where the peak was {peak:.0}; resident {:.1} MB, {:+.3} MiB an \
         hour; {} descriptors; asked for memory {} times; p99 {} ns, at first {} ns; {} and .svg",
        events as f64 / seconds as f64,
        last.resident_bytes as f64 / 1e6,
        slope_an_hour / 1_048_576.0,
        last.descriptors,
        last.asked - first.asked,
        last.p99_ns,
        first.p99_ns,
        files.with_extension("jsonl").display(),
    );
    let is_long = time >= Duration::from_secs(3_600);
    let noise = if is_long { 0.0 } else { NOISE_BYTES };
    assert!(
        slope_an_hour * hours < SLOPE_BYTES_AN_HOUR_MAX * hours + noise,
        "resident memory grows by {slope_an_hour:.0} bytes an hour"
    );
    assert_eq!(last.asked, first.asked, "events cost memory");
    let quarter = (steady.len() / 4).max(1);
    let drift = p99_of(&steady[steady.len() - quarter..]) / p99_of(&steady[..quarter]);
    assert!(!is_long || drift < P99_DRIFT_MAX, "the p99 of the last quarter is {drift:.3} of that of the first");
    assert!(last.descriptors <= first.descriptors, "{} descriptors became {}", first.descriptors, last.descriptors);
}
