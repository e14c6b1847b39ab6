//! The handle of a subscription with a handler: it ends the subscription.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::clock::Clock;
use crate::delivery::{SubscriptionId, SubscriptionLedger, SubscriptionRecord, SubscriptionState};

use super::{Shared, SubscribeError};

/// A subscription with a handler. Dropped, it unsubscribes; [`forever`](Self::forever) keeps it.
#[must_use = "a subscription ends when it is dropped; call `forever` to keep it"]
pub struct Subscription {
    shared: Weak<Shared>,
    /// Present until it is given up.
    state: Option<Arc<SubscriptionState>>,
    /// The bus's, which outlives it here.
    clock: Clock,
}

impl Subscription {
    pub(super) fn new(shared: &Arc<Shared>, state: Arc<SubscriptionState>) -> Self {
        Self { shared: Arc::downgrade(shared), state: Some(state), clock: shared.engine.directory.clock.clone() }
    }

    fn state(&self) -> &Arc<SubscriptionState> {
        self.state.as_ref().expect("a subscription has its state until it is given up")
    }

    /// Its id.
    pub fn id(&self) -> SubscriptionId {
        self.state().id
    }

    /// The subscription as it stands; after the bus is gone, as it ended.
    pub fn record(&self) -> SubscriptionRecord {
        self.state().record(&self.clock)
    }

    /// Its books: where its events are, each term counted on its own; exact when nothing moves.
    pub fn ledger(&self) -> SubscriptionLedger {
        self.state().ledger()
    }

    /// Keeps the subscription for the life of the bus; it can still be ended by its id.
    pub fn forever(mut self) -> SubscriptionId {
        let id = self.id();
        self.state = None;
        id
    }

    /// Ends the subscription. When it returns, no call of its handler can begin any more.
    ///
    /// # Errors
    /// On a worker thread, where it ends all the same but cannot be waited for; or when the worker does not answer in time.
    pub fn unsubscribe(mut self) -> Result<(), SubscribeError> {
        let Some(state) = self.state.take() else { return Ok(()) };
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };
        let on_worker = crate::worker::on_worker_thread();
        shared.remove(state.id, !on_worker)?;
        if on_worker { Err(SubscribeError::OnWorker) } else { Ok(()) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        if let Some(shared) = self.shared.upgrade() {
            // Nobody is left to be told about a stuck worker; the subscription is over all the same.
            drop(shared.remove(state.id, !crate::worker::on_worker_thread()));
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("state", &self.state).finish_non_exhaustive()
    }
}
