//! A worker that does not come back from a handler can tell nobody: publishers that it refuses do, other workers that look around, and
//! whoever asks for metrics.

use std::sync::{Arc, TryLockError};
use std::time::Duration;

use crate::delivery::Notice;
use crate::worker::HangWatch;

use super::Shared;

impl Shared {
    /// Looks at all workers, for who asks how the bus is.
    pub(super) fn look_for_hangs(&self) {
        for (worker, under_way) in self.engine.under_way.iter().enumerate() {
            if under_way.is_calling() {
                self.look_for_hang(worker);
            }
        }
    }
}

impl HangWatch for Shared {
    #[cold]
    fn look_for_hang(&self, worker: usize) {
        let engine = &*self.engine;
        let under_way = &engine.under_way[worker];
        let Some(lasting) = under_way.look(|| engine.directory.clock.now()) else { return };
        if engine.hang_look().is_none_or(|least| Duration::from_nanos(lasting.elapsed) < least) {
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
