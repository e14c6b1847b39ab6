//! Who reads a store on from where he was: no event is passed over in silence, whatever was removed, lost, or put in its place.

use std::sync::Arc;
use std::time::Duration;

use ringmain::Frame;
use ringmain::internals::store::open_on;
use ringmain::internals::store::sim::SimDisk;
use ringmain::store::{
    DurableSubscription, DurableSubscriptionError, EventStore, ExpectedVersion, LogStore, MemoryStore, Query,
    ReadError, Retention, StateStore,
};

use crate::conformance::Writer;
use crate::log_store::small;
use crate::support::Shareable;

mod crash;
mod diverged;
mod durable;
mod removed;
mod replay;
mod sparse;

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Removes all but the newest segment, as far as nobody is waited for.
const ALL: Retention = Retention::forever().remove_after(Duration::ZERO);

/// Segments of about a dozen events, and little room for state.
fn open(disk: &SimDisk) -> Arc<LogStore> {
    let builder = small().state_batch_bytes_max(64 << 10).snapshot_state_bytes_max(64 << 10);
    Arc::new(open_on(disk.shared(), builder).expect("the disk works"))
}

fn append(store: &dyn EventStore, frames: &[Frame]) {
    for frame in frames {
        store.append(std::slice::from_ref(frame), ExpectedVersion::Any, store.durability()).unwrap();
    }
}

/// A store of so many events.
fn filled(events: usize) -> Arc<LogStore> {
    let store = open(&SimDisk::new());
    append(&*store, &Writer::new().frames("a", events));
    store
}

fn subscribe(store: &Arc<LogStore>, state: Arc<dyn StateStore>) -> DurableSubscription {
    DurableSubscription::builder(store.clone(), state, "billing").open().unwrap()
}

/// The positions of the next events.
fn take(subscription: &mut DurableSubscription, events: usize) -> Vec<u64> {
    (0..events).map(|_| subscription.try_recv().unwrap().unwrap().position().get()).collect()
}

/// First and last position of what was removed.
fn removed(error: &ReadError) -> (u64, u64) {
    let ReadError::Removed { from, first } = error else { panic!("{error}") };
    (from.get(), first.get() - 1)
}
