//! Who may wait on a bus, and for what: until workers have come so far, or have taken over a table.

use std::sync::PoisonError;
use std::time::Duration;

use crate::delivery::is_calling;
use crate::sync::primitive::{Instant, spin_loop, thread};
use crate::worker::{Turn, as_worker, on_worker_thread};

use super::{Driver, Shared, WorkerStuck};

impl Shared {
    /// Whether the calling thread must not wait for room: a worker would wait for itself, and so would a test that drives
    /// them, and a handler behind a mailbox that is full.
    pub(crate) fn must_not_wait(&self) -> bool {
        matches!(self.driver, Driver::Manual(_)) || self.would_wait_for_itself()
    }

    /// Whether the calling thread would wait for itself: it is a worker, or runs the handler whose own full mailbox is what
    /// holds the lanes up.
    pub(crate) fn would_wait_for_itself(&self) -> bool {
        on_worker_thread() || self.is_held_up_by_this_thread()
    }

    /// Whether the calling thread is in a handler whose own full mailbox is what holds the lanes up.
    fn is_held_up_by_this_thread(&self) -> bool {
        // Under the lock, but only for handlers that found no room.
        is_calling() && self.control().subscriptions().any(|subscription| subscription.is_held_up_by_this_thread())
    }

    /// Whether the calling thread is in a handler behind a mailbox of this bus.
    pub(in crate::bus) fn is_called_by_this_thread(&self) -> bool {
        is_calling() && {
            let control = self.control();
            control.subscriptions().chain(control.ending()).any(|subscription| subscription.calls().is_here())
        }
    }

    /// Runs one turn of `worker` in a bus that is driven by hand; `None` in any other. One that is idle looks around, as it
    /// would before it sleeps.
    pub(crate) fn turn(&self, worker: usize) -> Option<Turn> {
        match &self.driver {
            Driver::Threads => None,
            Driver::Manual(workers) => {
                self.step_redrives();
                self.step_spills();
                let mut workers = workers.lock().unwrap_or_else(PoisonError::into_inner);
                let worker = workers.get_mut(worker)?;
                if self.engine.failed.has(worker.index()) {
                    return Some(Turn::Finished);
                }
                Some(as_worker(|| worker.turn_by_hand()))
            }
        }
    }

    /// Whether a worker that is driven by hand, and whose last turn came to this, would sleep now.
    pub(crate) fn is_idle(&self, worker: usize, turn: Option<Turn>) -> bool {
        let Driver::Manual(workers) = &self.driver else { return true };
        let mut workers = workers.lock().unwrap_or_else(PoisonError::into_inner);
        match turn {
            Some(Turn::Worked { .. }) => false,
            Some(Turn::Idle) => !workers[worker].has_work(),
            Some(Turn::Finished) | None => true,
        }
    }

    /// Runs turns by hand until every worker is idle. Nothing to do where threads run.
    pub(crate) fn drive_until_idle(&self) {
        while (0..self.engine.workers()).any(|worker| !self.is_idle(worker, self.turn(worker))) {}
    }

    /// Waits until `done`, looking ever less often; false after `limit`. Control plane only.
    pub(in crate::bus) fn wait_until(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        let mut looks = 0_u32;
        loop {
            if done() {
                return true;
            }
            if begun.elapsed() >= limit {
                return false;
            }
            match looks {
                0..200 => spin_loop(),
                200..300 => thread::yield_now(),
                _ => thread::park_timeout(Duration::from_micros(u64::from(looks - 299).min(50) * 20)),
            }
            looks = looks.saturating_add(1);
        }
    }

    /// Waits until `worker` has taken over the table of `generation`.
    pub(in crate::bus) fn acknowledged(&self, worker: usize, generation: u64) -> Result<(), WorkerStuck> {
        let table = &self.engine.tables[worker];
        if let Driver::Manual(workers) = &self.driver {
            // A handler that changes subscriptions while a test drives its worker cannot wait for it.
            if let Ok(mut workers) = workers.try_lock() {
                workers[worker].adopt();
            }
        }
        self.engine.parker.wake(1 << worker);
        let done = self
            .wait_until(self.settings.deadline, || table.acknowledged() >= generation || self.engine.has_left(worker));
        if done { Ok(()) } else { Err(WorkerStuck { worker }) }
    }
}
