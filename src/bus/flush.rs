//! Waiting until what was accepted is settled.

use std::fmt;
use std::time::Duration;

use crate::delivery::Sink;
use crate::ring::LANES;
use crate::sync::mutant::mutant;
use crate::sync::primitive::Instant;
use crate::worker::on_worker_thread;

use super::{Bus, Driver, FlushError, Shared};

/// Waits until what had been accepted when it was made is settled, whatever comes meanwhile: see [`Bus::begin_flush`].
#[must_use = "nobody waits before `wait`"]
pub struct Flush {
    bus: Bus,
    point: Point,
}

/// What is waited for.
struct Point {
    /// Where the lanes ended.
    ends: [u64; LANES],
    /// Letters that were taken for the sink when everything before that was over.
    died: Option<u64>,
    /// What a paused subscription holds is not waited for.
    leaves_held: bool,
}

impl Bus {
    /// Begins a flush that may be waited for more than once. As each wait is for the same events, it comes to an end also when they
    /// take longer than one wait, and more are published all the time. What a paused subscription holds of them is waited for, too.
    ///
    /// ```
    /// use ringmain::{Bus, Payload};
    /// use std::time::Duration;
    ///
    /// let bus = Bus::builder().build()?;
    /// let mut inbox = bus.subscribe("orders.*").mailbox()?;
    /// bus.publish("orders.placed", Payload::json("7"))?;
    /// let mut first = bus.begin_flush();
    /// bus.publish("orders.placed", Payload::json("8"))?;
    /// assert!(first.wait(Duration::ZERO).is_err());
    /// inbox.recv()?.ack();
    /// first.wait(Duration::from_secs(5))?; // The second event waits still.
    /// # drop(inbox);
    /// # bus.shutdown()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin_flush(&self) -> Flush {
        Flush { bus: self.clone(), point: self.shared().flush_point(false) }
    }
}

impl Flush {
    /// Waits at most `limit` until everything is settled that had been accepted when the flush began: but for what is scheduled.
    ///
    /// # Errors
    /// As [`Bus::flush`].
    pub fn wait(&mut self, limit: Duration) -> Result<(), FlushError> {
        self.bus.shared().flush_to(&mut self.point, limit)
    }
}

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flush").finish_non_exhaustive()
    }
}

impl Shared {
    fn flush_point(&self, leaves_held: bool) -> Point {
        Point { ends: self.engine.lanes.ends(), died: None, leaves_held }
    }

    pub(super) fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        self.flush_to(&mut self.flush_point(true), limit)
    }

    fn flush_to(&self, point: &mut Point, limit: Duration) -> Result<(), FlushError> {
        if on_worker_thread() {
            return Err(FlushError::OnWorker);
        }
        if self.is_called_by_this_thread() {
            return Err(FlushError::InHandler);
        }
        let ends = point.ends;
        self.drive_until_idle();
        let limit = if matches!(self.driver, Driver::Manual(_)) { Duration::ZERO } else { limit };
        let begun = Instant::now();
        // A scheduled event is delivered before worker 0 has moved it from one count to the other.
        let has_failed = || self.engine.failed_worker().is_some();
        let mut done =
            self.wait_until(limit, || has_failed() || self.has_passed(&ends) && !self.engine.timers_inside());
        if done {
            done = self.wait_until(limit.saturating_sub(begun.elapsed()), || {
                if has_failed() {
                    return true;
                }
                self.fold_ended();
                // Anew with each look, and none begins or ends during one, for events go from a service to instances that come
                // meanwhile. What ended first, and services before their instances: nothing goes to what was looked at already.
                let control = self.control();
                control.ending().chain(control.subscriptions()).all(|subscription| match &subscription.sink {
                    Sink::Mailbox(mailbox, _) => {
                        mutant!("flush.owed", mailbox.has_passed(&ends) => true)
                            || point.leaves_held && subscription.is_paused()
                    }
                    Sink::Inline(_) => true,
                })
            });
        }
        let letters = &self.engine.dead_letters;
        if done {
            let died = *point.died.get_or_insert_with(|| letters.for_sink());
            done = self.wait_until(limit.saturating_sub(begun.elapsed()), || letters.has_told_sink(died));
        }
        match self.engine.failed_worker() {
            Some(worker) => Err(FlushError::WorkerFailed { worker }),
            None if done => Ok(()),
            None => Err(self.flush_timed_out(limit)),
        }
    }
}
