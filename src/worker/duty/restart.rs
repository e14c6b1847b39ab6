//! A worker whose own loop panics, outside of all user code, which is a bug of ours, goes on where it was.
//!
//! ```text
//!   lane   … passed ▸│ e │ f  g  h
//!                      ├ subscriptions 0..n   had it ▸│ and the rest get it now
//!                      └ services 0..m        had it ▸│
//! ```
//!
//! Its cursors are its own and stay as they are, so no event is skipped. How far the event at the head of a lane had been given
//! out is written down on the way; who had it does not get it again, and only whom the worker was at may.

use crate::delivery::Notice;
use crate::ring::{LANES, go_on};
use crate::sync::contain::contained;

use super::{Turn, Worker};

/// Restarts are counted within this time.
const WINDOW_NS: u64 = 60_000_000_000;

/// How far the event at the head of a lane has been given out. One word, so that writing it costs one store.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Given {
    /// Subscriptions that are done with.
    pub(super) targets: u32,
    /// Services that are done with.
    pub(super) services: u16,
    lane: u16,
}

impl Given {
    /// To nobody: there is no such event.
    pub(super) const NONE: Self = Self { targets: 0, services: 0, lane: LANES as u16 };

    /// The next event of `lane`, to nobody so far.
    #[inline(always)]
    pub(super) fn begins(lane: usize) -> Self {
        Self { targets: 0, services: 0, lane: lane as u16 }
    }

    fn lane(self) -> Option<usize> {
        Some(usize::from(self.lane)).filter(|&lane| lane < LANES)
    }
}

/// How often a worker has gone on after a panic.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    in_window: u32,
    since: u64,
}

impl Restarts {
    /// Whether another one, at the instant `now`, is within `max` a window; which one it is there.
    fn begin(&mut self, now: u64, max: u32) -> Result<u32, u32> {
        if self.in_window == 0 || now.saturating_sub(self.since) >= WINDOW_NS {
            (self.in_window, self.since) = (0, now);
        }
        if self.in_window >= max {
            return Err(self.in_window);
        }
        self.in_window += 1;
        Ok(self.in_window)
    }
}

impl Worker {
    /// The worker has panicked. Makes it ready to go on, or says that it has failed: then it must not turn again.
    #[cold]
    pub(in crate::worker) fn recover(&mut self) -> bool {
        loop {
            let engine = &*self.engine;
            let (worker, max) = (self.index, engine.worker_restarts_max);
            match self.restarts.begin(engine.directory.clock.now(), max) {
                Ok(nth) => {
                    self.recorder.restarts.add(1);
                    engine.notice(&Notice::WorkerRestarted { worker, nth, max });
                }
                Err(restarts) => {
                    self.under_way.rest();
                    engine.fail_worker(worker);
                    engine.notice(&Notice::WorkerFailed { worker, restarts });
                    return false;
                }
            }
            // What made it panic may do so again.
            if contained(|| self.take_up()).is_some() {
                return true;
            }
        }
    }

    /// Brings what the panic left half done to its end.
    fn take_up(&mut self) {
        #[cfg(feature = "stall")]
        crate::worker::fault::visit(crate::worker::fault::Boundary::Again);
        self.under_way.rest();
        // It may have been about to sleep: room in a mailbox would go on to wake it.
        self.engine.parker.cancel(self.index);
        self.starve(false);
        if let Some(lane) = self.given.lane() {
            // It had room for all who have not had it, or nobody would have got it.
            let _ = self.pass(lane, true);
            self.step_over(lane);
        }
        go_on(&mut self.reader, &self.engine.gate, &self.alarm);
    }

    /// A turn, with a look around when there was nothing to do, as often as it takes until one does not panic. For a worker that
    /// is driven by hand.
    pub(crate) fn turn_by_hand(&mut self) -> Turn {
        let mut struck = false;
        loop {
            let turn = contained(|| {
                let turn = self.turn();
                if turn == Turn::Idle {
                    self.watch();
                }
                turn
            });
            match turn {
                // What it did before the panic may concern the other workers.
                Some(Turn::Idle) if struck => return Turn::Worked { events: 0, caught_up: true },
                Some(turn) => return turn,
                None if self.recover() => struck = true,
                None => {
                    self.engine.leave_worker(self.index);
                    return Turn::Finished;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_counted_by_the_minute() {
        let mut restarts = Restarts::default();
        assert_eq!([0, 5, 9].map(|now| restarts.begin(now, 2)), [Ok(1), Ok(2), Err(2)]);
        assert_eq!(restarts.begin(WINDOW_NS, 2), Ok(1), "a minute later");
        assert_eq!(Restarts::default().begin(7, 0), Err(0), "none at all");
    }
}
