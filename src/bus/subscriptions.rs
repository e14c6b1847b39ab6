//! The subscriptions of a bus: to look at, to pause, to end.

use crate::delivery::{HandlerId, Role, State, SubscriptionId, SubscriptionRecord};

use super::Bus;
use super::subscribe_error::SubscribeError;

impl Bus {
    /// All subscriptions, oldest first.
    pub fn subscriptions(&self) -> Vec<SubscriptionRecord> {
        let clock = &self.shared().engine.directory.clock;
        self.shared().control().subscriptions().map(|subscription| subscription.record(clock)).collect()
    }

    /// One subscription.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn subscription(&self, id: SubscriptionId) -> Result<SubscriptionRecord, SubscribeError> {
        let clock = &self.shared().engine.directory.clock;
        let control = self.shared().control();
        control.find(id).map(|found| found.record(clock)).ok_or(SubscribeError::NotFound(id))
    }

    /// Ends a subscription. When it returns, no call of its handler can begin any more.
    ///
    /// # Errors
    /// When there is none of this id, on a worker thread, or when the worker does not answer in time.
    pub fn unsubscribe(&self, id: SubscriptionId) -> Result<(), SubscribeError> {
        if crate::worker::on_worker_thread() {
            return Err(SubscribeError::OnWorker);
        }
        self.shared().remove(id, true)?.map(drop).ok_or(SubscribeError::NotFound(id))
    }

    /// Ends all subscriptions of this pattern and handler id. Returns how many.
    ///
    /// # Errors
    /// On a worker thread, or when a worker does not answer in time.
    pub fn unsubscribe_handler(&self, pattern: &str, handler: &HandlerId) -> Result<usize, SubscribeError> {
        if crate::worker::on_worker_thread() {
            return Err(SubscribeError::OnWorker);
        }
        let ids: Vec<_> = {
            let control = self.shared().control();
            let found = control
                .subscriptions()
                .filter(|subscription| subscription.pattern.as_str() == pattern && subscription.handler_id == *handler);
            found.map(|subscription| subscription.id).collect()
        };
        ids.iter().try_for_each(|&id| self.unsubscribe(id))?;
        Ok(ids.len())
    }

    /// Stops a subscription for now: a mailbox holds what comes, an inline handler drops and counts it.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn pause(&self, id: SubscriptionId) -> Result<(), SubscribeError> {
        self.set_state(id, State::Paused)
    }

    /// Lets a paused subscription go on.
    ///
    /// # Errors
    /// When there is none of this id.
    pub fn resume(&self, id: SubscriptionId) -> Result<(), SubscribeError> {
        self.set_state(id, State::Active)
    }

    fn set_state(&self, id: SubscriptionId, state: State) -> Result<(), SubscribeError> {
        let found = self.shared().control().find(id).cloned().ok_or(SubscribeError::NotFound(id))?;
        found.set_state(state);
        if found.is_own_consumer || matches!(found.role, Role::Instance(_)) {
            // Its worker takes up what was held, at the service of an instance, too.
            self.shared().engine.alarms[found.worker].set(0, &self.shared().engine.parker);
        }
        Ok(())
    }
}
