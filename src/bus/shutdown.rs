//! Waiting for the end of the bus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::Sink;
use crate::ring::LANES;
use crate::sync::mutant::mutant;
use crate::sync::primitive::{Instant, thread};
use crate::worker::{Phase, on_worker_thread};

use super::{Bus, Driver, Shared};

/// The life of a bus, as a user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusState {
    /// It accepts and delivers. From `build` on.
    Running,
    /// It delivers what was accepted and accepts nothing more.
    ShuttingDown,
    /// A worker has panicked too often ([`worker_restarts_max`](crate::BusBuilder::worker_restarts_max)) and stands still. The bus
    /// accepts nothing; other workers deliver what was accepted. Shut it down.
    Failed {
        /// Which worker.
        worker: usize,
    },
    /// Its workers have left.
    Stopped,
}

/// What a shutdown came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Events delivered during the life of the bus, over all subscriptions.
    pub delivered: u64,
    /// Events that workers had not passed when the deadline came.
    pub left_in_lanes: u64,
    /// Events still in mailboxes or in consumers' hands. Mailboxes can be emptied after the shutdown.
    pub left_in_mailboxes: u64,
    /// Events that mailboxes left in a store ([`Overflow::Spill`](crate::Overflow::Spill)): they stay there.
    pub left_spilled: u64,
    /// Events that were waiting for their not-before time.
    pub left_scheduled: u64,
    /// Whether all workers left in time. When not, a handler has not returned.
    pub workers_left: bool,
    /// Whether the books balance.
    pub ledger_balanced: bool,
}

impl ShutdownReport {
    /// Whether everything accepted was settled and nothing is left running.
    pub fn is_clean(&self) -> bool {
        self.left_in_lanes + self.left_in_mailboxes + self.left_spilled + self.left_scheduled == 0 && self.workers_left
    }
}

/// Waiting did not come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushError {
    /// Not everything was settled in time.
    TimedOut {
        /// How long it waited.
        after: Duration,
        /// Events not yet passed by all workers.
        in_lanes: u64,
        /// Events in mailboxes and consumers' hands. When there are none, nor in lanes, the sink of dead letters is behind.
        in_mailboxes: u64,
    },
    /// A worker has failed: what it has not passed it never will.
    WorkerFailed {
        /// Which worker.
        worker: usize,
    },
    /// Called on a worker, which would wait for itself.
    OnWorker,
    /// A flush by a handler on a thread of its own (`handle_on`) or in a future (`run`): it would wait for the event in its
    /// own hands.
    InHandler,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after, in_lanes: 0, in_mailboxes: 0 } => {
                write!(f, "after {after:?} the sink of dead letters had not heard of all of them; give it more time")
            }
            Self::TimedOut { after, in_lanes, in_mailboxes } => write!(
                f,
                "after {after:?} {in_lanes} events were still in lanes and {in_mailboxes} in mailboxes; give more time, or look for a slow consumer"
            ),
            Self::WorkerFailed { worker } => {
                write!(f, "worker {worker} has panicked too often and brings no more events; shut the bus down")
            }
            Self::OnWorker => f.write_str("a worker cannot wait for itself; flush and shut down from another thread"),
            Self::InHandler => {
                f.write_str("a handler cannot wait for the event in its own hands; flush from another thread or task")
            }
        }
    }
}

impl std::error::Error for FlushError {}

impl Bus {
    /// Whether it runs, has failed, shuts down or has stopped.
    pub fn state(&self) -> BusState {
        let engine = &self.shared().engine;
        match engine.phase() {
            Phase::Running => BusState::Running,
            Phase::Closing | Phase::Draining | Phase::Halting => {
                engine.failed_worker().map_or(BusState::ShuttingDown, |worker| BusState::Failed { worker })
            }
            Phase::Stopped => BusState::Stopped,
        }
    }
}

impl Shared {
    /// Whether every worker has passed `ends`, a sequence a lane.
    pub(super) fn has_passed(&self, ends: &[u64; LANES]) -> bool {
        // A worker may have gone to sleep in front of a slot that was claimed and not committed yet.
        (0..self.engine.workers()).all(|worker| {
            self.engine.lanes.has_passed(worker, ends) || {
                self.engine.parker.wake(1 << worker);
                false
            }
        })
    }

    /// Waits for handlers on threads of their own that need the workers: when those have left, what fails does not come again, and
    /// nobody says when what is held may be had.
    fn wait_for_handlers(&self, limit: Duration) {
        let ends = self.engine.lanes.ends();
        let subscriptions: Vec<_> = self.control().subscriptions().cloned().collect();
        if matches!(self.driver, Driver::Threads) && subscriptions.iter().any(|one| one.has_thread()) {
            self.wait_until(limit, || {
                self.engine.failed_worker().is_some()
                    || self.has_passed(&ends) && !subscriptions.iter().any(|one| one.is_owed_by_thread())
            });
        }
    }

    pub(super) fn flush_timed_out(&self, after: Duration) -> FlushError {
        let in_lanes = (0..LANES).map(|lane| self.engine.lanes.depth(lane)).sum();
        FlushError::TimedOut { after, in_lanes, in_mailboxes: self.in_mailboxes() }
    }

    /// Events in mailboxes and consumers' hands, but for those that a pause holds.
    fn in_mailboxes(&self) -> u64 {
        let control = self.control();
        let waiting = control.subscriptions().chain(control.ending()).filter(|subscription| {
            matches!(&subscription.sink, Sink::Mailbox(mailbox, _) if !mailbox.is_settled())
                && !subscription.is_paused()
        });
        waiting.map(|subscription| subscription.ledger().open().max(1)).sum()
    }

    pub(super) fn shutdown(&self, limit: Duration) -> Result<super::ShutdownReport, FlushError> {
        if on_worker_thread() {
            return Err(FlushError::OnWorker);
        }
        let begun = Instant::now();
        self.engine.close();
        if std::mem::replace(&mut self.control().is_shutting_down, true) {
            // Somebody else shuts down, or has: their report is everybody's.
            self.wait_until(limit, || self.control().report.is_some());
            let report = self.control().report;
            return report.ok_or_else(|| self.flush_timed_out(limit));
        }
        let left = || limit.saturating_sub(begun.elapsed());
        self.wait_until(left(), || !self.engine.publishers_inside());
        self.wait_for_handlers(left());
        self.engine.set_phase(Phase::Draining);
        self.engine.wake_all();
        let threads = self.control().threads.take();
        let mut workers_left = true;
        match (threads, &self.driver) {
            (Some(mut threads), _) => {
                workers_left = threads.join(left());
                if !workers_left {
                    self.engine.set_phase(Phase::Halting);
                    self.engine.wake_all();
                    workers_left = threads.join(Duration::from_millis(100));
                }
            }
            (None, Driver::Manual(_)) => self.drive_until_idle(),
            (None, Driver::Threads) => {}
        }
        self.engine.set_phase(Phase::Stopped);
        let subscriptions: Vec<_> = self.control().subscriptions().cloned().collect();
        for subscription in &subscriptions {
            if let Sink::Mailbox(mailbox, _) = &subscription.sink {
                mailbox.close();
                if subscription.is_own_consumer {
                    mailbox.discard();
                }
                mailbox.lose_worker();
            }
            if let Some(desk) = &subscription.desk {
                desk.close();
            }
        }
        let mut handlers = std::mem::take(&mut self.control().handler_threads);
        // A handler that shuts its own bus down cannot wait for itself.
        handlers.retain(|handle| !thread::is_current(handle));
        let joined = self.wait_until(left(), || handlers.iter().all(thread::JoinHandle::is_finished));
        for handle in handlers.into_iter().filter(|handle| joined || handle.is_finished()) {
            // Panics of handlers are contained; one of the thread's own has been printed.
            drop(handle.join());
        }
        self.fold_ended();
        // What handlers have brought since the sink's thread has gone is told here.
        self.engine.dead_letters.counts();
        let mut ledger = self.ledger();
        // Consumers may go on pulling, and books read meanwhile may miss an event on its way from count to count.
        self.wait_until(Duration::from_millis(10), || {
            ledger = self.ledger();
            ledger.is_balanced()
        });
        let report = super::ShutdownReport {
            delivered: ledger.subscriptions.delivered,
            left_in_lanes: ledger.in_lanes,
            left_in_mailboxes: ledger.subscriptions.queued
                + mutant!("shutdown.left", ledger.subscriptions.in_flight => 0),
            left_spilled: ledger.subscriptions.spilled,
            left_scheduled: ledger.scheduled,
            workers_left: workers_left && joined,
            ledger_balanced: ledger.is_balanced(),
        };
        self.control().report = Some(report);
        Ok(report)
    }

    /// The last handle is gone: shuts down, on a thread of its own where waiting is impossible.
    pub(super) fn abandon(self: &Arc<Self>) {
        if self.control().report.is_some() {
            self.release_handlers();
            return;
        }
        let shared = Arc::clone(self);
        // A drop has nobody to report to.
        let shut_down = move || {
            // A drop has nobody to report to.
            let _ = shared.shutdown(shared.settings.deadline);
            shared.release_handlers();
        };
        if !on_worker_thread() {
            shut_down();
        } else if thread::Builder::new().spawn(shut_down).is_err() {
            // Without a thread to wait on there is no end in order: workers leave when they have read everything.
            self.engine.close();
            self.engine.set_phase(Phase::Draining);
            self.engine.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_may_take_as_long_as_it_takes() {
        let bus = Bus::builder().workers(1).build().expect("a bus");
        let report = bus.shutdown_deadline(Duration::MAX).expect("not on a worker");
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(bus.state(), BusState::Stopped);
    }
}
