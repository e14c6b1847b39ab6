//! Many dead letters on their way back to their subscriptions, one after the other, in the background.
//!
//! ```text
//!   redrive_all ──► job: ids of letters ──step, when it is due──► redrive one ──► due again after the pause
//!                    │                                                └── its subscription is busy: once more after the pause
//!                    └── a thread of its own makes the steps; in a simulation each turn of a worker does
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::delivery::DeadLetterFilter;
use crate::sync::primitive::thread::Builder;
use crate::sync::primitive::{Mutex, MutexGuard, Ordering};
use crate::worker::{Phase, on_worker_thread};

use super::super::{Driver, Shared};
use super::{DeadLetters, RedriveError};

/// A letter whose subscription is busy waits so long at least.
const BUSY: Duration = Duration::from_millis(1);

/// What came of sending many dead letters back, so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveReport {
    /// Letters that went back.
    pub redriven: usize,
    /// Letters that stay, each with the reason.
    pub stayed: Vec<RedriveError>,
    /// Letters that have not had their turn; when it is over, because it was cancelled or the bus shuts down.
    pub left: usize,
}

/// Where a redrive stands.
#[derive(Debug)]
struct State {
    /// Letters whose turn is to come.
    left: VecDeque<u64>,
    /// The first of them found its subscription busy, and has its second turn.
    is_second: bool,
    /// The instant of the next turn.
    due: u64,
    report: RedriveReport,
    is_cancelled: bool,
    /// Somebody makes a step.
    is_stepping: bool,
}

/// A redrive under way, which whoever has the time takes a step further.
#[derive(Debug)]
pub(in crate::bus) struct RedriveJob {
    pause: Duration,
    state: Mutex<State>,
}

impl RedriveJob {
    /// User code never runs under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, shared: &Shared) -> bool {
        let state = self.state();
        !state.is_stepping && (state.is_cancelled || state.left.is_empty() || shared.engine.phase() != Phase::Running)
    }

    /// The letter whose turn it is, and whether that is its second.
    fn begin(&self, shared: &Shared) -> Option<(u64, bool)> {
        let over = self.is_over(shared);
        let mut state = self.state();
        if over || state.is_stepping || shared.engine.directory.clock.now() < state.due {
            return None;
        }
        let id = state.left.front().copied()?;
        state.is_stepping = true;
        Some((id, state.is_second))
    }

    /// Sends letters back as long as one's turn has come.
    fn step(&self, shared: &Shared) {
        while let Some((id, is_second)) = self.begin(shared) {
            // Not under the lock: observers may hear of it.
            let went = shared.redrive(id);
            let mut state = self.state();
            state.is_stepping = false;
            let pause = match went {
                Err(RedriveError::Busy { .. }) if !is_second => {
                    state.is_second = true;
                    self.pause.max(BUSY)
                }
                went => {
                    state.is_second = false;
                    state.left.pop_front();
                    match went {
                        Ok(()) => state.report.redriven += 1,
                        Err(error) => state.report.stayed.push(error),
                    }
                    if went.is_ok() { self.pause } else { Duration::ZERO }
                }
            };
            state.due = shared.engine.directory.clock.after(pause);
        }
    }

    /// Makes all steps, each when it is due.
    fn run(&self, shared: &Shared) {
        while !self.is_over(shared) {
            self.step(shared);
            let due = self.state().due;
            let left = due.saturating_sub(shared.engine.directory.clock.now());
            shared.wait_until(Duration::from_nanos(left), || self.is_over(shared));
        }
    }
}

impl DeadLetters {
    /// Sends the letters that [`list`](Self::list) would return now back to their subscriptions, one after the other in that order, with
    /// this pause after each: one letter a pause. A letter that finds its subscription busy is tried once more after the pause, of a
    /// millisecond at least.
    ///
    /// It happens on a thread of its own, named `redrive`; in a [simulation](crate::testing) with the turns of its workers, by
    /// its clock. The handle tells how far it is, waits for it or cancels it; dropped, it lets it go on. The end of the bus ends it.
    ///
    /// ```
    /// use ringmain::{Bus, DeadLetterFilter};
    /// use std::time::Duration;
    ///
    /// let bus = Bus::builder().build()?;
    /// // A hundred a second.
    /// let redrive = bus.dead_letters().redrive_all(&DeadLetterFilter::new(), Duration::from_millis(10));
    /// let report = redrive.wait();
    /// println!("{} letters went back, {} stay", report.redriven, report.stayed.len());
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    pub fn redrive_all(&self, filter: &DeadLetterFilter, pause: Duration) -> Redrive {
        let shared = Arc::clone(&self.shared);
        let state = State {
            left: self.list(filter).iter().map(|letter| letter.id()).collect(),
            is_second: false,
            due: 0,
            report: RedriveReport::default(),
            is_cancelled: false,
            is_stepping: false,
        };
        let job = Arc::new(RedriveJob { pause, state: Mutex::new(state) });
        let has_thread = match shared.driver {
            Driver::Manual(_) => {
                let mut control = shared.control();
                control.redrives.push(Arc::clone(&job));
                // Relaxed: a turn that comes by at this moment finds it the next time.
                shared.has_redrives.store(true, Ordering::Relaxed);
                false
            }
            Driver::Threads if job.is_over(&shared) => false,
            Driver::Threads => {
                let (shared, job) = (Arc::clone(&self.shared), Arc::clone(&job));
                let spawned = Builder::new().name("redrive".to_owned()).spawn(move || job.run(&shared));
                spawned.map(|thread| self.shared.keep_thread(thread)).is_ok()
            }
        };
        Redrive { shared, job, has_thread }
    }
}

impl Shared {
    /// Takes redrives a step further, in a bus that is driven by hand.
    pub(in crate::bus) fn step_redrives(&self) {
        // Relaxed: a simulation is driven by one thread.
        if !self.has_redrives.load(Ordering::Relaxed) {
            return;
        }
        let jobs = {
            let mut control = self.control();
            control.redrives.retain(|job| !job.is_over(self));
            // Relaxed: as above.
            self.has_redrives.store(!control.redrives.is_empty(), Ordering::Relaxed);
            control.redrives.clone()
        };
        jobs.iter().for_each(|job| job.step(self));
    }
}

/// Dead letters on their way back: see [`DeadLetters::redrive_all`]. Dropped, it lets them go on.
pub struct Redrive {
    shared: Arc<Shared>,
    job: Arc<RedriveJob>,
    has_thread: bool,
}

impl Redrive {
    /// What came of it so far.
    pub fn report(&self) -> RedriveReport {
        let state = self.job.state();
        RedriveReport { left: state.left.len(), ..state.report.clone() }
    }

    /// Whether no letter will have its turn any more.
    pub fn is_over(&self) -> bool {
        self.job.is_over(&self.shared)
    }

    /// Lets the letters that have not had their turn stay. One that is just having it may still go back.
    pub fn cancel(&self) {
        self.job.state().is_cancelled = true;
    }

    /// Blocks the calling thread until it is over. Where the system had no thread for it, this one does the work.
    ///
    /// In a simulation nothing waits: what is due now is done. On a worker it does not wait either, for letters may be on their way
    /// to that worker.
    pub fn wait(&self) -> RedriveReport {
        match self.shared.driver {
            Driver::Manual(_) => self.job.step(&self.shared),
            Driver::Threads if on_worker_thread() => {}
            Driver::Threads if self.has_thread => {
                self.shared.wait_until(Duration::MAX, || self.is_over());
            }
            Driver::Threads => self.job.run(&self.shared),
        }
        self.report()
    }
}

impl fmt::Debug for Redrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive").field("report", &self.report()).finish_non_exhaustive()
    }
}
