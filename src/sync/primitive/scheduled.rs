//! What ringmain asks of threads and time and shuttle does not have: whether a thread has finished, a wait that ends by
//! itself, a channel with one, and a clock that is the same in every run of a schedule.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::mpsc;
use shuttle::thread;

/// As `std::thread::Builder`.
#[derive(Debug, Default)]
pub struct Builder(thread::Builder);

/// As `std::thread::JoinHandle`.
#[derive(Debug)]
pub struct JoinHandle<T> {
    thread: thread::JoinHandle<T>,
    finished: Arc<AtomicBool>,
}

impl Builder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    pub fn spawn<T: Send + 'static>(self, part: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
        let finished = Arc::new(AtomicBool::new(false));
        let finishing = Arc::clone(&finished);
        let thread = self.0.spawn(move || {
            let result = part();
            // Relaxed: all of shuttle's atomics are sequentially consistent, whatever one asks for.
            finishing.store(true, Ordering::Relaxed);
            result
        })?;
        Ok(JoinHandle { thread, finished })
    }
}

impl<T> JoinHandle<T> {
    pub fn is_finished(&self) -> bool {
        // Relaxed: as in `spawn`.
        self.finished.load(Ordering::Relaxed)
    }

    pub fn join(self) -> std::thread::Result<T> {
        self.thread.join()
    }

    pub(super) fn is_current(&self) -> bool {
        self.thread.thread().id() == thread::current().id()
    }
}

/// shuttle has no clock: a bounded sleep may end at any time, so it is over when the others had their turn.
pub fn park_timeout(_limit: Duration) {
    thread::yield_now();
}

/// A time that moves on by a microsecond with every look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

const LOOK: Duration = Duration::from_micros(1);

// std's: all threads of a schedule run on one thread of the system, and share it.
std::thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

impl Instant {
    pub fn now() -> Self {
        let now = NOW.get() + LOOK;
        NOW.set(now);
        Self(now)
    }

    pub fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    pub fn checked_add(&self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }
}

/// A channel of at most `max` values.
pub fn bounded<T>(max: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::sync_channel(max);
    (sender, Receiver(receiver))
}

pub use mpsc::SyncSender as Sender;

/// As flume's.
#[derive(Debug)]
pub struct Receiver<T>(mpsc::Receiver<T>);

impl<T> Receiver<T> {
    pub fn recv(&self) -> Result<T, mpsc::RecvError> {
        self.0.recv()
    }

    pub fn recv_deadline(&self, end: Instant) -> Result<T, mpsc::TryRecvError> {
        loop {
            match self.0.try_recv() {
                Err(mpsc::TryRecvError::Empty) if Instant::now() < end => thread::yield_now(),
                result => return result,
            }
        }
    }
}
