//! What a caller waits on for its batch: a thread blocks, a future is woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::error::CommitError;
use super::gate::Placed;

/// Where a batch lies, or why it lies nowhere.
pub(super) type Outcome = Result<Placed, CommitError>;

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
    is_waited_for: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is on its way: block with [`wait`](Self::wait), or await it. Dropped, it goes on all the same.
#[derive(Debug)]
pub struct Pending(Arc<Shared>);

/// The other end: whoever commits tells the outcome. Dropped without one, it tells that the log was closed.
#[derive(Debug)]
pub(super) struct Ticket(Option<Arc<Shared>>);

/// Both ends.
pub(super) fn pair() -> (Ticket, Pending) {
    let shared = Arc::new(Shared::default());
    (Ticket(Some(Arc::clone(&shared))), Pending(shared))
}

impl Ticket {
    pub(super) fn tell(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(shared) = self.0.take() else { return };
        let (waker, is_waited_for) = {
            let mut state = shared.state();
            state.outcome = Some(outcome);
            (state.waker.take(), state.is_waited_for)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if is_waited_for {
            shared.done.notify_one();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(Err(CommitError::Closed));
    }
}

impl Pending {
    /// Whether the outcome is known.
    pub fn is_done(&self) -> bool {
        self.0.state().outcome.is_some()
    }

    /// Blocks until the batch is as it was asked to be.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn wait(self) -> Result<Placed, CommitError> {
        let mut state = self.0.state();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return outcome;
            }
            state.is_waited_for = true;
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Pending {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.state();
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
