//! The answer of the committer to one event, for a thread or a task that waits for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::super::Position;
use super::DurableError;

/// An event that was handed in by [`DurablePublisher::submit`](super::DurablePublisher::submit), and is not acknowledged yet. Wait for
/// it, or await it. Let go of, the event is published all the same, and nobody hears of it.
#[must_use = "the event is not acknowledged before this says so"]
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
    outcome: Option<Result<Position, DurableError>>,
    /// Of the task that asked last.
    waker: Option<Waker>,
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
    pub(super) fn tell(self, outcome: Result<Position, DurableError>) {
        self.set(outcome);
    }

    fn set(&self, outcome: Result<Position, DurableError>) {
        let mut state = self.0.state();
        if state.outcome.is_some() {
            return;
        }
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        self.0.answered.notify_one();
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
    /// Blocks until the event is as asked, and returns its position.
    ///
    /// # Errors
    /// See [`DurableError`].
    pub fn wait(self) -> Result<Position, DurableError> {
        let waited = self.0.answered.wait_while(self.0.state(), |state| state.outcome.is_none());
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        state.outcome.clone().expect("it waited for that")
    }
}

impl Future for DurablePending {
    type Output = Result<Position, DurableError>;

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
