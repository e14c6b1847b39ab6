//! Waiting for room, on a thread or in a future.

use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use crossbeam::utils::Backoff;

use crate::sync::primitive::thread;
use crate::sync::waker::of_this_thread;

use super::refusal::{timed_out, waits};
use super::{PublishError, Publisher};

impl Publisher {
    /// Tries until there is room, at most `limit`. Where that would be a wait for the calling thread itself it does not
    /// wait.
    pub(in crate::bus) fn keep_trying<R>(
        &mut self,
        limit: Duration,
        mut once: impl FnMut(&mut Self) -> Result<R, PublishError>,
    ) -> Result<R, PublishError> {
        match once(self) {
            Err(error) if waits(&error) && !self.shared.must_not_wait() => {}
            result => return result,
        }
        // Room often comes within microseconds, and a sleep costs more: look a few times first, ever less often.
        let backoff = Backoff::new();
        while !backoff.is_completed() {
            backoff.snooze();
            match once(self) {
                Err(error) if waits(&error) => {}
                result => return result,
            }
        }
        let clock = self.engine.directory.clock.clone();
        let begun = clock.now();
        let waker = of_this_thread();
        let gate = Arc::clone(&self.engine.gate);
        loop {
            gate.wait(self.place, &waker);
            let result = once(self);
            let waited = Duration::from_nanos(clock.now().saturating_sub(begun));
            match result {
                // The worker may have filled the mailbox of this very handler meanwhile; then it opened the gate last.
                Err(error) if waits(&error) && !self.shared.must_not_wait() => {
                    if let PublishError::Full { priority, .. } = &error {
                        self.look_for_hang(priority.lane());
                    }
                    match limit.checked_sub(waited).filter(|left| !left.is_zero()) {
                        Some(left) => {
                            let next_look = opens_by_itself(&error).or(self.engine.hang_look());
                            thread::park_timeout(next_look.map_or(left, |look| left.min(look)));
                        }
                        None => {
                            gate.leave(self.place);
                            return Err(timed_out(error, limit));
                        }
                    }
                }
                result => {
                    gate.leave(self.place);
                    return result;
                }
            }
        }
    }

    /// Tries, and leaves the waker while there is no room. Where that would be a wait for the task itself it is not one.
    pub(super) fn poll_trying<R>(
        &mut self,
        context: &mut task::Context<'_>,
        mut once: impl FnMut(&mut Self) -> Result<R, PublishError>,
    ) -> Poll<Result<R, PublishError>> {
        for registered in [false, true] {
            match once(self) {
                // Asked anew after the waker was left: whoever fills the handler's own mailbox opens the gate after that.
                Err(error) if waits(&error) && !self.shared.would_wait_for_itself() => {
                    if registered {
                        if let PublishError::Full { priority, .. } = &error {
                            self.look_for_hang(priority.lane());
                        }
                        if let Some(opens) = opens_by_itself(&error) {
                            // Worker 0 opens the gate then, and whoever is still to wait sets its alarm anew.
                            let engine = &self.engine;
                            engine.alarms[0].set(engine.directory.clock.after(opens), &engine.parker);
                        }
                        return Poll::Pending;
                    }
                    self.engine.gate.wait(self.place, context.waker());
                }
                result => return Poll::Ready(result),
            }
        }
        Poll::Pending
    }
}

/// After which time there may be room although nobody makes any.
fn opens_by_itself(error: &PublishError) -> Option<Duration> {
    match error {
        PublishError::RateLimited { retry_after, .. } => Some(*retry_after),
        _ => None,
    }
}

/// A publisher that awaits room; dropped, it leaves the gate and gives its block back.
pub(super) struct Waiting<'p>(pub(super) &'p mut Publisher);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.prepared = None;
        self.0.engine.gate.leave(self.0.place);
    }
}
