//! The threads around the workers: started by `build`, joined by `shutdown`.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Notice;
use crate::sync::contain::contained;
use crate::sync::primitive::thread::{self, Builder, JoinHandle};
// loom has no constant ones, and its models never come here.
#[cfg(ringmain_shuttle)]
use crate::sync::primitive::thread_local;
use crate::sync::primitive::{AtomicBool, Instant, Ordering, channel};

use super::affinity;
use super::duty::{Turn, Worker};
use super::engine::Engine;
use super::idle::{Idle, IdleStrategy, Rest};

/// The shortest sleep: a timer that is due but finds its lane full, or a slot that is claimed and not yet filled.
const NAP: Duration = Duration::from_micros(100);

/// A worker that never sleeps looks for stalled publishers once in so many idle looks.
const WATCH_LOOKS: u32 = 4_096;

thread_local! {
    static ON_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is a worker of any bus: nothing may wait on it.
pub(crate) fn on_worker_thread() -> bool {
    ON_WORKER.with(Cell::get)
}

/// Marks the calling thread as a worker while `f` runs: used where a test drives the workers itself.
pub(crate) fn as_worker<R>(f: impl FnOnce() -> R) -> R {
    let before = ON_WORKER.with(|on_worker| on_worker.replace(true));
    let result = f();
    ON_WORKER.with(|on_worker| on_worker.set(before));
    result
}

/// The running worker threads of one bus.
#[derive(Debug)]
pub(crate) struct WorkerThreads {
    handles: Vec<JoinHandle<()>>,
    finished: channel::Receiver<usize>,
    /// Workers that have not said yet that they leave.
    running: usize,
}

impl WorkerThreads {
    /// Starts a thread a worker, pinned where `pin` says so and the platform allows.
    ///
    /// # Errors
    /// When the system refuses a thread; those already started run until the engine halts.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        workers: Vec<Worker>,
        name: &str,
        idle: IdleStrategy,
        pin: bool,
    ) -> io::Result<Self> {
        let cores = if pin { affinity::plan(workers.len()) } else { vec![None; workers.len()] };
        // Too few cores, or a system that refuses them, is one fact about the bus, however many workers meet it.
        let is_told = Arc::new(AtomicBool::new(!pin));
        let (leaving, finished) = channel::bounded(workers.len());
        let mut handles = Vec::with_capacity(workers.len());
        for (worker, core) in workers.into_iter().zip(cores) {
            let engine = Arc::clone(engine);
            let leaving = leaving.clone();
            let is_told = Arc::clone(&is_told);
            let thread = Builder::new().name(format!("{name}-{}", worker.index()));
            handles.push(thread.spawn(move || {
                let index = worker.index();
                // Relaxed: who is first tells.
                if !core.is_some_and(affinity::pin) && !is_told.swap(true, Ordering::Relaxed) {
                    engine.notice(&Notice::Unpinned { worker: index });
                }
                run(&engine, worker, idle);
                // The receiver may be gone already, after a drop without shutdown.
                let _ = leaving.send(index);
            })?);
        }
        Ok(Self { running: handles.len(), handles, finished })
    }

    /// Waits until every worker has left, at most `limit`. Returns whether they have.
    pub(crate) fn join(&mut self, limit: Duration) -> bool {
        // A limit beyond what the clock can show is none.
        let end = Instant::now().checked_add(limit);
        while self.running > 0 {
            let left = match end {
                Some(end) => self.finished.recv_deadline(end).is_ok(),
                None => self.finished.recv().is_ok(),
            };
            if !left {
                return false;
            }
            self.running -= 1;
        }
        for handle in self.handles.drain(..) {
            // It contains all panics, its own among them.
            drop(handle.join());
        }
        true
    }
}

/// The shell around a worker: turns until there is no more to come, or it has panicked too often.
fn run(engine: &Engine, mut worker: Worker, strategy: IdleStrategy) {
    let index = worker.index();
    engine.parker.enter(index);
    ON_WORKER.with(|on_worker| on_worker.set(true));
    // All user code is contained where it is called: what comes here is a bug of ours, and no reason to stand still.
    while contained(|| turn_on(engine, &mut worker, strategy)).is_none() && worker.recover() {}
    engine.leave_worker(index);
}

/// Turns until there is no more to come.
fn turn_on(engine: &Engine, worker: &mut Worker, strategy: IdleStrategy) {
    let mut idle = Idle::new(strategy);
    // Events since it last caught up, and their lanes, a bit each.
    let (mut handled, mut lanes) = (0, 0);
    loop {
        match worker.turn() {
            Turn::Finished => return,
            Turn::Worked { events, caught_up } => {
                handled += events;
                lanes |= worker.moved();
                if caught_up {
                    if let Some(pause) = strategy.pause() {
                        worker.coalesce(handled, lanes, pause);
                    }
                    (handled, lanes) = (0, 0);
                }
                idle.worked();
            }
            Turn::Idle => {
                (handled, lanes) = (0, 0);
                let rest = if worker.is_held_back() { idle.hold() } else { idle.rest() };
                match rest {
                    Rest::Again if idle.looks().is_multiple_of(WATCH_LOOKS) => {
                        worker.watch();
                    }
                    Rest::Again => {}
                    Rest::Nap(nap) => {
                        worker.watch();
                        thread::park_timeout(nap);
                    }
                    Rest::Park => {
                        if let Some(slept) = park(engine, worker) {
                            idle.slept(slept);
                        }
                    }
                }
            }
        }
    }
}

/// Sleeps until there is something to do. Returns how long; `None` when there was something at once.
fn park(engine: &Engine, worker: &mut Worker) -> Option<Duration> {
    worker.starve(true);
    let slept = announce_and_sleep(engine, worker);
    worker.starve(false);
    slept
}

fn announce_and_sleep(engine: &Engine, worker: &mut Worker) -> Option<Duration> {
    let index = worker.index();
    engine.parker.prepare(index);
    #[cfg(feature = "stall")]
    super::fault::visit(super::fault::Boundary::Asleep);
    if worker.has_work() {
        engine.parker.cancel(index);
        return None;
    }
    // Looked at after the announcement: what is claimed later wakes this worker, if it concerns it.
    let due = worker.watch();
    let begun = engine.directory.clock.now();
    let limit = due.map(|due| Duration::from_nanos(due.saturating_sub(begun)).max(NAP));
    engine.parker.park(index, limit);
    Some(Duration::from_nanos(engine.directory.clock.now().saturating_sub(begun)))
}
