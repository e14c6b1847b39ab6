//! A store that says who reads in it, and lets some of them wait.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use ringmain::Frame;
use ringmain::store::{
    AppendError, Appended, Durability, EventStore, ExpectedVersion, MemoryStore, Page, Position, Query, ReadError,
    Snapshot, SnapshotError, SyncError,
};

/// A store in memory.
#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) store: Arc<MemoryStore>,
    readers: Mutex<Readers>,
    /// Whether the one who reads for all clients has to wait before it begins.
    is_held: Mutex<bool>,
    released: Condvar,
}

/// Those who read for one client.
#[derive(Default)]
struct Readers {
    now: usize,
    most: usize,
}

fn reads_for_all() -> bool {
    thread::current().name() == Some("ringmain-live")
}

impl Watched {
    pub(crate) fn hold(&self) {
        *self.is_held.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.is_held.lock().unwrap() = false;
        self.released.notify_all();
    }

    /// How many read for clients at one time, at most.
    pub(crate) fn most(&self) -> usize {
        self.readers.lock().unwrap().most
    }

    fn count(&self, by: impl FnOnce(&mut Readers)) {
        if !reads_for_all() {
            by(&mut self.readers.lock().unwrap());
        }
    }
}

impl EventStore for Watched {
    fn append(&self, events: &[Frame], expected: ExpectedVersion, word: Durability) -> Result<Appended, AppendError> {
        self.store.append(events, expected, word)
    }

    fn sync(&self) -> Result<(), SyncError> {
        self.store.sync()
    }

    fn query(&self, query: &Query) -> Result<Page, ReadError> {
        self.count(|readers| {
            readers.now += 1;
            readers.most = readers.most.max(readers.now);
        });
        // Others could come in.
        thread::yield_now();
        let page = self.store.query(query);
        self.count(|readers| readers.now -= 1);
        page
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        self.store.save_snapshot(snapshot)
    }

    fn load_snapshot(&self, kind: &str, id: &str) -> Result<Option<Snapshot>, ReadError> {
        self.store.load_snapshot(kind, id)
    }

    fn head(&self) -> Result<Option<Position>, ReadError> {
        if reads_for_all() {
            drop(self.released.wait_while(self.is_held.lock().unwrap(), |is_held| *is_held).unwrap());
        }
        self.store.head()
    }

    fn wait_behind(&self, position: Option<Position>, limit: Duration) -> Result<bool, ReadError> {
        self.store.wait_behind(position, limit)
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }
}
