//! What the promises share: the books at the end of every test, a watchdog, and a typed event.

use std::panic::resume_unwind;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmain::{BusBuilder, Meta, Notice, Priority, Topic};
use rkyv::{Archive, Serialize};

#[path = "../support/books.rs"]
mod books;
pub(crate) use books::*;

/// A test that takes longer hangs. Far beyond what hand-overs take where other programs keep all cores busy.
const WATCHDOG: Duration = Duration::from_secs(240);

/// The nth event of publisher `from`.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub(crate) struct Tick {
    pub(crate) from: u32,
    pub(crate) nth: u32,
}

pub(crate) const TICK: Topic<Tick> = Topic::new("clock.tick");

/// Runs a test that uses threads, and fails it when it hangs.
pub(crate) fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let body = std::thread::spawn(move || {
        test();
        // The receiver is gone only when the watchdog has given up on this test.
        let _ = done.send(());
    });
    match finished.recv_timeout(WATCHDOG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs: nothing came of it in {WATCHDOG:?}"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            body.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    }
}

/// A place where handlers leave what they saw.
#[derive(Debug)]
pub(crate) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Log<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn add(&self, item: T) {
        self.0.lock().unwrap().push(item);
    }

    /// Everything so far, which the log then forgets.
    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// One event as a handler saw it: priority, sequence, publisher and number.
pub(crate) type Seen = (Priority, u64, u32, u32);

pub(crate) fn seen(tick: &ArchivedTick, meta: &Meta<'_>) -> Seen {
    (meta.priority(), meta.sequence(), tick.from.to_native(), tick.nth.to_native())
}

/// A builder whose observer leaves the names of notices, and the log they go to.
pub(crate) fn observed(builder: BusBuilder) -> (BusBuilder, Log<String>) {
    let notices = Log::new();
    let log = notices.clone();
    (builder.observer(move |notice: &Notice<'_>| log.add(format!("{notice:?}"))), notices)
}

/// Draws from a seed: any seed gives a full-period sequence.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn priority(&mut self) -> Priority {
        Priority::ALL[self.below(4) as usize]
    }
}
