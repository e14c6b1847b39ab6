//! A worker that does not come back from a handler can tell nobody: publishers that it refuses do.

use std::sync::{Arc, TryLockError};
use std::time::Duration;

use crate::delivery::Notice;
use crate::sync::primitive::Ordering;

use super::Shared;

impl Shared {
    /// The caller was refused because `worker` is behind, and has not moved since it was woken: tells, once a call, of the handler that it
    /// has been calling for longer than that may take. What others hold up is left to the next refusal.
    #[cold]
    pub(super) fn tell_of_hang(&self, worker: usize) {
        let engine = &*self.engine;
        let under_way = &engine.under_way[worker];
        let Some(lasting) = under_way.look(|| engine.directory.clock.now()) else { return };
        // Relaxed: a number.
        if lasting.elapsed < engine.call_max_least_ns.load(Ordering::Relaxed) {
            return;
        }
        let control = match self.control.try_lock() {
            Ok(control) => control,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let mut all = control.subscriptions().chain(control.ending());
        let found = all.find(|subscription| subscription.number() == lasting.whom).map(Arc::clone);
        drop(all);
        drop(control);
        let Some(subscription) = found else { return };
        if lasting.elapsed < subscription.call_max_ns {
            under_way.wait_for(lasting, subscription.call_max_ns);
        } else if under_way.is_mine_to_tell(lasting) {
            engine.notice(&Notice::WorkerHung {
                worker,
                subscription: subscription.id,
                name: &subscription.name,
                after: Duration::from_nanos(lasting.elapsed),
            });
        }
    }
}
