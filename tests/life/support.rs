//! What the tests share: latches, collectors, and the look into the books that ends every test.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ringmain::testing::Simulation;
use ringmain::{Bus, BusBuilder, Notice, Observer, Payload};

#[path = "../support/books.rs"]
mod books;
pub(crate) use books::{assert_books, assert_left_balanced};

/// Longer than anything here takes on a busy machine. Nothing waits for it unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Shuts down, and finds everything settled and the books balanced.
#[track_caller]
pub(crate) fn shut_down_clean(bus: &Bus) {
    let report = bus.shutdown_deadline(PATIENCE).unwrap();
    assert!(report.is_clean() && report.ledger_balanced, "{report:#?} {:#?}", bus.ledger());
    assert_books(bus);
}

pub(crate) fn simulate(builder: BusBuilder) -> Simulation {
    Simulation::new(builder, 7).unwrap()
}

/// A door that opens once.
#[derive(Clone, Default)]
pub(crate) struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open.
    #[track_caller]
    pub(crate) fn pass(&self) {
        let (open, bell) = &*self.0;
        let (_open, timeout) = bell.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap();
        assert!(!timeout.timed_out(), "the latch was never opened");
    }
}

/// Values that handlers leave and tests read.
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Seen<T> {
    pub(crate) fn push(&self, value: T) {
        self.0.lock().unwrap().push(value);
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Notices as text: they borrow, and so cannot be kept.
#[derive(Clone, Default)]
pub(crate) struct Notices(pub(crate) Seen<String>);

impl Observer for Notices {
    fn notice(&self, notice: &Notice<'_>) {
        self.0.push(format!("{notice:?}"));
    }
}

impl Notices {
    /// How many of this kind came.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.0.0.lock().unwrap().iter().filter(|notice| notice.starts_with(kind)).count()
    }
}

/// A number as a payload.
pub(crate) fn number(payload: Payload<'_>) -> u64 {
    u64::from_le_bytes(payload.bytes().try_into().unwrap())
}

/// Looks again and again, for what no call waits for.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}
