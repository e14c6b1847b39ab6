//! The machine under the measurement: its name, its cores, who sits where, and the CPU time that threads have used.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

/// The bus is called so, and its only worker `bench-0`.
pub(super) const BUS_NAME: &str = "bench";
const WORKER_NAME: &str = "bench-0";

/// What the figures hold for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// As `/proc/cpuinfo` names it.
    pub(super) processor: String,
    /// Operating system and, on Linux, the kernel's release.
    pub(super) system: String,
    /// Cores this process may use: by affinity and by quota, whichever is less; at least 1.
    pub(super) cores: usize,
    /// Who is pinned where; `None` with one core, or where the system pins no threads.
    pub(super) seats: Option<Seats>,
}

/// A core each for the two threads of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seats {
    /// The worker's: the first allowed core, where a bus pins its first worker.
    pub(super) worker: CoreId,
    /// The publisher's: the last allowed core.
    pub(super) publisher: CoreId,
}

impl Machine {
    /// Looks at the machine. Call it on a thread that is not pinned.
    pub(super) fn survey() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        let parallel = thread::available_parallelism().map_or(1, usize::from);
        let cores = if ids.is_empty() { parallel } else { parallel.min(ids.len()) };
        let seats = match ids[..] {
            [worker, .., publisher] if cores >= 2 => Some(Seats { worker, publisher }),
            _ => None,
        };
        Self {
            processor: model.map_or("unknown processor", |(_, model)| model.trim()).to_owned(),
            system: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
            cores,
            seats: seats.filter(|seats| can_pin(seats.publisher)),
        }
    }

    /// Whether worker and publisher have one core between them.
    pub(super) fn is_single(&self) -> bool {
        self.cores < 2
    }
}

/// Tries on a thread that ends with the trial: a pinned thread hands its pinning on to those it starts.
fn can_pin(core: CoreId) -> bool {
    thread::spawn(move || core_affinity::set_for_current(core)).join().unwrap_or(false)
}

/// CPU time used up to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTime {
    /// By the worker.
    pub(super) worker: Duration,
    /// By all threads that live.
    pub(super) process: Duration,
}

impl CpuTime {
    /// Reads the scheduler's books, to the nanosecond for threads that sleep and to its last tick for those that run.
    /// `None` where the system keeps none.
    pub(super) fn now() -> Option<Self> {
        let mut time = Self { worker: Duration::ZERO, process: Duration::ZERO };
        for task in fs::read_dir("/proc/self/task").ok()? {
            let task = task.ok()?.path();
            // A thread may end between the two looks.
            let Ok(books) = fs::read_to_string(task.join("schedstat")) else { continue };
            let used = Duration::from_nanos(books.split_whitespace().next()?.parse().ok()?);
            time.process += used;
            if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == WORKER_NAME) {
                time.worker += used;
            }
        }
        (!time.process.is_zero()).then_some(time)
    }

    /// Shares of one core since `earlier`, in percent: the worker's and the whole process's.
    pub(super) fn percent_since(self, earlier: Self, elapsed: Duration) -> (f64, f64) {
        let percent = |now: Duration, then: Duration| {
            100.0 * now.saturating_sub(then).as_secs_f64() / elapsed.as_secs_f64().max(1e-9)
        };
        (percent(self.worker, earlier.worker), percent(self.process, earlier.process))
    }
}

/// What all cores together and this process did up to now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    busy: Duration,
    own: Duration,
    at: Instant,
}

impl Load {
    /// The unit of the system's books, the same on every Linux.
    const TICK: Duration = Duration::from_millis(10);

    /// Reads the books; `None` where there are none.
    pub(super) fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        // user nice system idle iowait irq softirq steal
        let all = ticks(stat.lines().next()?.split_whitespace().skip(1).take(8))?;
        let busy: u64 =
            all.iter().enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| ticks).sum();
        // Behind the name, which may hold anything, user and system time are the 12th and 13th.
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let own: u64 = ticks(stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2))?.iter().sum();
        let time = |ticks: u64| Self::TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        Some(Self { busy: time(busy), own: time(own), at: Instant::now() })
    }

    /// How many cores others, the host among them, kept busy since `earlier`, on average.
    pub(super) fn others_since(self, earlier: Self) -> f64 {
        let others = self.busy.saturating_sub(earlier.busy).saturating_sub(self.own.saturating_sub(earlier.own));
        others.as_secs_f64() / self.at.duration_since(earlier.at).as_secs_f64().max(0.01)
    }
}

fn ticks<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Vec<u64>> {
    fields.map(|field| field.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_and_publisher_sit_on_two_cores_or_nowhere() {
        let machine = Machine::survey();
        assert!(machine.cores >= 1 && !machine.processor.is_empty() && !machine.system.is_empty());
        assert!(machine.seats.is_none_or(|seats| seats.worker != seats.publisher && !machine.is_single()));
    }

    #[test]
    fn shares_of_a_core_are_in_percent_and_never_negative() {
        let ms = Duration::from_millis;
        let (then, now) = (CpuTime { worker: ms(10), process: ms(30) }, CpuTime { worker: ms(20), process: ms(60) });
        assert_eq!(now.percent_since(then, ms(100)), (10.0, 30.0));
        assert_eq!(then.percent_since(now, ms(100)), (0.0, 0.0));
    }

    #[test]
    fn what_this_process_did_is_not_counted_as_others() {
        let (s, begun) = (Duration::from_secs, Instant::now());
        let earlier = Load { busy: s(100), own: s(7), at: begun };
        let now = Load { busy: s(118), own: s(15), at: begun + s(10) };
        assert_eq!(now.others_since(earlier), 1.0);
        let alone = Load { busy: s(107), own: s(15), at: begun + s(10) };
        assert_eq!(alone.others_since(earlier), 0.0, "books of ticks may owe some");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_keeps_books_of_the_load() {
        let load = Load::now().expect("proc is mounted");
        assert!(load.own <= load.busy, "{load:?}");
    }
}
