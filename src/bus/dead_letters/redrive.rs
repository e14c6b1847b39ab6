//! Many dead letters on their way back to their subscriptions, one after the other, in the background.
//!
//! ```text
//!   redrive_all ──► job: ids of letters ──step, when it is due──► redrive one ──► due again after the pause
//!                    │                                                └── its subscription is busy: once more after the pause
//!                    └── one thread makes the steps of all jobs; in a simulation each turn of a worker does
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

    /// Sends one letter back when its turn has come. False when it has not.
    fn step(&self, shared: &Shared) -> bool {
        let Some((id, is_second)) = self.begin(shared) else { return false };
        // Not under the lock: observers may hear of it.
        let went = shared.redrive(id);
        let mut state = self.state();
        state.is_stepping = false;
        let pause = match went {
            // It is left, as those behind it are.
            Err(RedriveError::ShuttingDown { .. }) => return false,
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
        true
    }

    /// Sends letters back as long as one's turn has come.
    fn step_all(&self, shared: &Shared) {
        while self.step(shared) {}
    }

    /// Makes all steps, each when it is due.
    fn run(&self, shared: &Shared) {
        while !self.is_over(shared) {
            self.step_all(shared);
            let left = self.due_in(shared);
            shared.wait_until(left, || self.is_over(shared));
        }
    }

    /// Time until the next turn.
    fn due_in(&self, shared: &Shared) -> Duration {
        Duration::from_nanos(self.state().due.saturating_sub(shared.engine.directory.clock.now()))
    }
}

impl DeadLetters {
    /// Sends the letters that [`list`](Self::list) would return now back to their subscriptions, one after the other in that order, with
    /// this pause after each: one letter a pause. A letter that finds its subscription busy is tried once more after the pause, of a
    /// millisecond at least.
    ///
    /// It happens on a thread named `redrive`, one for all that are under way, which take turns; in a [simulation](crate::testing) with the
    /// turns of its workers, by its clock. The handle tells how far it is, waits for it or cancels it; dropped, it lets it go on. The end of the bus ends it.
    ///
    /// ```
    /// use ringmain::{Bus, DeadLetterFilter};
    /// use std::time::Duration;
    ///
    /// let bus = Bus::builder().build()?;
    /// // A hundred a second.
    /// let redrive = bus.dead_letters().redrive_all(&DeadLetterFilter::new(), Duration::from_millis(10))?;
    /// let report = redrive.wait();
    /// println!("{} letters went back, {} stay", report.redriven, report.stayed.len());
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`RedriveError::TooMany`] when [`redrives_max`](crate::BusBuilder::redrives_max) of them are under way.
    pub fn redrive_all(&self, filter: &DeadLetterFilter, pause: Duration) -> Result<Redrive, RedriveError> {
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
        let has_thread = !job.is_over(&shared) && shared.begin_redrive(Arc::clone(&job))?;
        Ok(Redrive { shared, job, has_thread })
    }
}

impl Shared {
    /// Has a redrive brought on. False where nobody does it but who waits for it: in a simulation, or for want of a thread.
    fn begin_redrive(self: &Arc<Self>, job: Arc<RedriveJob>) -> Result<bool, RedriveError> {
        let mut control = self.control();
        control.redrives.retain(|job| !job.is_over(self));
        let (under_way, max) = (control.redrives.len(), self.settings.redrives_max);
        if under_way >= max {
            return Err(RedriveError::TooMany { under_way, max });
        }
        control.redrives.push(job);
        // Relaxed: who comes by at this moment finds it the next time.
        self.has_redrives.store(true, Ordering::Relaxed);
        let needs_thread = matches!(self.driver, Driver::Threads) && !control.has_redrive_thread;
        if needs_thread {
            let shared = Arc::clone(self);
            // Under the lock, so that nobody counts on a thread that there will not be.
            if let Ok(thread) = Builder::new().name("redrive".to_owned()).spawn(move || shared.run_redrives()) {
                control.keep_thread(thread);
                control.has_redrive_thread = true;
            }
        }
        Ok(control.has_redrive_thread)
    }

    /// The life of the thread that brings redrives on: until all are over.
    fn run_redrives(&self) {
        loop {
            let jobs = {
                let mut control = self.control();
                // Relaxed: the lock orders it for those who add to the list.
                self.has_redrives.store(false, Ordering::Relaxed);
                control.redrives.retain(|job| !job.is_over(self));
                if control.redrives.is_empty() {
                    control.has_redrive_thread = false;
                    return;
                }
                control.redrives.clone()
            };
            // A letter each: a long one holds the others up by no more. Relaxed: it is looked at until it is seen.
            let is_news = || self.has_redrives.load(Ordering::Relaxed);
            while jobs.iter().filter(|job| job.step(self)).count() > 0 && !is_news() {}
            let next = jobs.iter().filter(|job| !job.is_over(self)).map(|job| job.due_in(self)).min();
            self.wait_until(next.unwrap_or_default(), || is_news() || jobs.iter().all(|job| job.is_over(self)));
        }
    }

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
        jobs.iter().for_each(|job| job.step_all(self));
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
            Driver::Manual(_) => self.job.step_all(&self.shared),
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
