//! The answer of the committer to one publish, for a thread or a task that waits for it.

use std::fmt;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::super::Position;
use super::DurableError;

/// Where the events are, at positions without a gap, or why they are not.
type Outcome = Result<RangeInclusive<Position>, DurableError>;

/// Events that were handed in by [`DurablePublisher::submit`](super::DurablePublisher::submit), and are not acknowledged yet. Wait for
/// them, or await them. Let go of, they are published all the same, and nobody hears of it.
#[must_use = "the events are not acknowledged before this says so"]
pub struct DurablePending(Arc<Place>);

/// The committer's side. Let go of without an answer, it says that the publisher is closed.
pub(super) struct Answer(Arc<Place>);

#[derive(Default)]
struct Place {
    state: Mutex<State>,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    /// Of the task that asked last.
    waker: Option<Waker>,
    /// A thread waits. Most answers are there before anybody does, and waking nobody is a system call as well.
    is_waited_for: bool,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one store.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn pending() -> (Answer, DurablePending) {
    let place = Arc::new(Place::default());
    (Answer(Arc::clone(&place)), DurablePending(place))
}

impl Answer {
    pub(super) fn tell(self, outcome: Outcome) {
        self.set(outcome);
    }

    fn set(&self, outcome: Outcome) {
        let mut state = self.0.state();
        if state.outcome.is_some() {
            return;
        }
        state.outcome = Some(outcome);
        let (waker, is_waited_for) = (state.waker.take(), state.is_waited_for);
        drop(state);
        if is_waited_for {
            self.0.answered.notify_one();
        }
        // It is somebody else's code: nothing is held meanwhile.
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.set(Err(DurableError::Closed));
    }
}

impl DurablePending {
    /// Blocks until the events are as asked, and returns their positions, which have no gap between them.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn wait(self) -> Result<RangeInclusive<Position>, DurableError> {
        let mut state = self.0.state();
        state.is_waited_for = true;
        let waited = self.0.answered.wait_while(state, |state| state.outcome.is_none());
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        state.outcome.clone().expect("it waited for that")
    }
}

impl Future for DurablePending {
    type Output = Result<RangeInclusive<Position>, DurableError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl fmt::Debug for DurablePending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurablePending").field("outcome", &self.0.state().outcome).finish()
    }
}
