//! The machine under the measurement: its clock, its cores and who is pinned where, and whether they are near or far.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Round trips below this are the near regime, in nanoseconds.
pub(crate) const NEAR_NS_MAX: f64 = 220.0;

/// Which of its two paces the machine showed: the host moves its virtual CPUs, and two cores that shared a cache a
/// moment ago do not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Regime {
    /// A round trip between the two cores under [`NEAR_NS_MAX`].
    Near,
    /// Any longer.
    Far,
}

impl Regime {
    /// In this order results are kept and shown.
    pub(crate) const ALL: [Self; 2] = [Self::Near, Self::Far];

    /// As written in the table and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }
}

/// A tick counter that every core agrees on, about 9 ns a read.
#[derive(Clone, Debug)]
pub(crate) struct Clock(quanta::Clock);

impl Clock {
    /// The first one calibrates itself for up to 0.2 s.
    pub(crate) fn new() -> Self {
        Self(quanta::Clock::new())
    }

    /// Ticks now. Never 0 (0 is "not stamped").
    #[inline]
    pub(crate) fn ticks(&self) -> u64 {
        self.0.raw()
    }

    /// Nanoseconds from one reading to a later one; 0 when the second is earlier.
    #[inline]
    pub(crate) fn nanos(&self, from: u64, to: u64) -> u64 {
        self.0.delta_as_nanos(from, to)
    }

    /// Ticks in a millisecond, for schedules.
    pub(crate) fn ticks_per_ms(&self) -> f64 {
        let ticks = 1u64 << 32;
        ticks as f64 / self.nanos(0, ticks) as f64 * 1e6
    }
}

/// The cores this process may use, and the clock.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: Vec<CoreId>,
    /// For stamps and schedules.
    pub(crate) clock: Clock,
    /// Processor, number of cores, kernel: goes into each JSON line.
    pub(crate) name: String,
}

/// Who sits where in one run.
#[derive(Clone, Debug)]
pub(crate) struct Seating {
    /// One core a publisher thread.
    pub(crate) publishers: Vec<CoreId>,
    /// One core a consumer thread.
    pub(crate) consumers: Vec<CoreId>,
}

impl Seating {
    /// True when two threads of the run have one core: then those who wait yield, as a spinner would only hold up the
    /// one it waits for.
    pub(crate) fn shares_a_core(&self) -> bool {
        let all: Vec<_> = self.publishers.iter().chain(&self.consumers).collect();
        all.iter().enumerate().any(|(index, core)| all[..index].contains(core))
    }
}

impl Machine {
    /// Looks at the machine; `None` if it does not say which cores this process may use.
    pub(crate) fn survey() -> Option<Self> {
        let cores = core_affinity::get_core_ids().filter(|cores| !cores.is_empty())?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown processor", |(_, name)| name.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let plural = if cores.len() == 1 { "" } else { "s" };
        let name = format!("{processor}, {} core{plural}, Linux {}", cores.len(), kernel.trim());
        Some(Self { cores, clock: Clock::new(), name })
    }

    /// How many cores this process may use.
    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Publishers on the first core, consumers on the second; a second thread of either side takes the third core, or
    /// shares with its like where there are only two. A machine with one core seats everybody there.
    pub(crate) fn seat(&self, publishers: usize, consumers: usize) -> Seating {
        let side = |home: usize, count: usize| {
            let home_core = self.cores.get(home).unwrap_or(&self.cores[0]);
            let core = |nth| {
                if nth == 0 { home_core } else { self.cores.get(nth + 1).unwrap_or(home_core) }
            };
            (0..count).map(core).copied().collect()
        };
        Seating { publishers: side(0, publishers), consumers: side(1, consumers) }
    }

    /// Everybody on the first core.
    pub(crate) fn seat_on_one_core(&self) -> Seating {
        Seating { publishers: vec![self.cores[0]], consumers: vec![self.cores[0]] }
    }

    /// Near or far, by the median round trip of 21 batches of 100 over one atomic word. About 1 ms. A machine with one
    /// core is near: it has no way between cores.
    pub(crate) fn regime(&self) -> Regime {
        if self.cores() < 2 || self.round_trip_ns() < NEAR_NS_MAX { Regime::Near } else { Regime::Far }
    }

    /// The median round trip between the publisher's and the consumer's core, in nanoseconds. Needs two cores.
    pub(crate) fn round_trip_ns(&self) -> f64 {
        const BATCHES: u64 = 21;
        const TRIPS: u64 = 100;
        #[repr(align(128))]
        struct Ball(AtomicU64);

        let ball = Arc::new(Ball(AtomicU64::new(0)));
        let seating = self.seat(1, 1);
        let other = {
            let (ball, core) = (Arc::clone(&ball), seating.consumers[0]);
            thread::spawn(move || {
                pin(core);
                for trip in 0..BATCHES * TRIPS {
                    // SYNC(ball.there): Acquire. Pairs with the store of the odd number below.
                    while ball.0.load(Ordering::Acquire) != 2 * trip + 1 {}
                    // SYNC(ball.back): Release. Pairs with the load that waits for the even number below.
                    ball.0.store(2 * trip + 2, Ordering::Release);
                }
            })
        };
        let (clock, core) = (self.clock.clone(), seating.publishers[0]);
        let this = thread::spawn(move || {
            pin(core);
            let mut batches: Vec<u64> = (0..BATCHES)
                .map(|batch| {
                    let start = clock.ticks();
                    for trip in batch * TRIPS..(batch + 1) * TRIPS {
                        // SYNC(ball.there): Release. Pairs with the load that waits for the odd number above.
                        ball.0.store(2 * trip + 1, Ordering::Release);
                        // SYNC(ball.back): Acquire. Pairs with the store of the even number above.
                        while ball.0.load(Ordering::Acquire) != 2 * trip + 2 {}
                    }
                    clock.nanos(start, clock.ticks())
                })
                .collect();
            batches.sort_unstable();
            batches[BATCHES as usize / 2] as f64 / TRIPS as f64
        });
        let round_trip_ns = this.join().expect("the ping-pong has nothing to panic over");
        other.join().expect("the ping-pong has nothing to panic over");
        round_trip_ns
    }
}

/// Pins the calling thread.
///
/// # Panics
///
/// If the system refuses a core it named itself: nothing measured after that would mean anything.
pub(crate) fn pin(core: CoreId) {
    assert!(core_affinity::set_for_current(core), "the system refused to pin a thread to core {}", core.id);
}

/// CPU time that this process has used up to now, to the nanosecond: threads that run now and threads that ended
/// are counted.
pub(crate) fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec.unsigned_abs() as u32)
}

/// How long all processors together were busy, and how long for this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    busy: Duration,
    own: Duration,
    at: Instant,
}

impl Load {
    /// A clock tick of `/proc`, the same on every Linux.
    const TICK: Duration = Duration::from_millis(10);

    /// Up to now; `None` where `/proc` does not tell.
    pub(crate) fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        // user nice system idle iowait irq softirq steal
        let mut fields = stat.lines().next()?.split_whitespace().skip(1).take(8);
        let mut busy = 0;
        for index in 0..8 {
            let ticks: u32 = fields.next()?.parse().ok()?;
            busy += if matches!(index, 3 | 4) { 0 } else { ticks };
        }
        Some(Self { busy: Self::TICK * busy, own: cpu_time(), at: Instant::now() })
    }

    /// Cores that others, the host among them, kept busy since `earlier`, on average.
    pub(crate) fn others_since(&self, earlier: &Self) -> f64 {
        let others = self.busy.saturating_sub(earlier.busy).saturating_sub(self.own.saturating_sub(earlier.own));
        others.as_secs_f64() / self.at.duration_since(earlier.at).as_secs_f64().max(0.01)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine_of(cores: usize) -> Machine {
        let cores = (0..cores).map(|id| CoreId { id }).collect();
        Machine { cores, clock: Clock::new(), name: String::new() }
    }

    #[test]
    fn the_second_thread_of_a_side_shares_only_where_it_must() {
        for (cores, shares) in [(2, true), (3, false), (8, false)] {
            let machine = machine_of(cores);
            assert!(!machine.seat(1, 1).shares_a_core());
            assert_eq!(machine.seat(2, 1).shares_a_core(), shares);
            assert_eq!(machine.seat(1, 2).shares_a_core(), shares);
        }
        assert!(machine_of(4).seat_on_one_core().shares_a_core());
        assert!(machine_of(1).seat(1, 1).shares_a_core());
    }

    #[test]
    fn ticks_of_a_millisecond_are_a_million_nanoseconds() {
        let clock = Clock::new();
        let nanos = clock.nanos(0, clock.ticks_per_ms() as u64);
        assert!((999_990..=1_000_010).contains(&nanos), "{nanos}");
    }

    #[test]
    fn own_work_is_no_load_of_others() {
        let start = Load::now().expect("Linux has /proc");
        let worked = Duration::from_millis(500);
        let later = Load { busy: start.busy + worked, own: start.own + worked, at: start.at + 2 * worked };
        assert_eq!(later.others_since(&start), 0.0);
        let beside = Load { busy: later.busy + worked, ..later };
        assert_eq!(beside.others_since(&start), 0.5);
    }

    #[test]
    fn cpu_time_counts_a_thread_that_runs_now() {
        let running = Arc::new(AtomicU64::new(0));
        let spinner = {
            let running = Arc::clone(&running);
            // Relaxed: nothing but the number itself is passed.
            thread::spawn(move || while running.fetch_add(1, Ordering::Relaxed) < u64::MAX / 2 {})
        };
        let start = cpu_time();
        while cpu_time() - start < Duration::from_millis(5) {
            thread::yield_now();
        }
        assert!(!spinner.is_finished());
        running.store(u64::MAX / 2, Ordering::Relaxed);
        spinner.join().expect("nothing to panic over");
    }
}
