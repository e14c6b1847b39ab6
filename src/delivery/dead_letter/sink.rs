//! Who else is told of each dead letter: a store, an alert. And the queue in front of it, so that nobody waits for it.

use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::Duration;

use crossbeam::queue::SegQueue;

use crate::metrics::SharedCounter;
use crate::sync::barrier::Barrier;
use crate::sync::bell::Bell;
use crate::sync::contain::contained;
use crate::sync::primitive::{AtomicBool, Instant, Mutex, MutexGuard, Ordering, thread};
use crate::sync::waker::of_this_thread;

use super::super::{Notice, Outcome};
use super::level::Level;
use super::{DeadLetter, DeadLetterLimits};

/// How long a sink rests that did not take a letter and does not say how long.
const AGAIN: Duration = Duration::from_millis(100);
/// The name under which observers hear of it.
const NAME: &str = "dead letters";

/// Is told of each dead letter, soon after it died, one at a time, whether or not the bus keeps it.
///
/// What it answers is what becomes of the letter. A closure answers anything that turns into an [`Outcome`]: `()` is an acknowledgement,
/// an `Err` a failure.
///
/// | answer | the letter |
/// |---|---|
/// | [`Ack`](Outcome::Ack), or a panic, which is swallowed | is done with |
/// | [`Failed`](Outcome::Failed), [`Release`](Outcome::Release) | stays first of those that wait, and the sink is told of it again after 100 ms |
/// | [`RetryAfter`](Outcome::RetryAfter) | the same, after this time |
/// | [`Reject`](Outcome::Reject) | is never told of again, and counted as [`unheard`](crate::DeadLetterCounts::unheard) |
///
/// Observers hear of the first letter of a row that was not taken ([`Notice::StorageFailed`]), of the first that is taken again
/// ([`Notice::StorageReturned`]), and of each that was rejected ([`Notice::StorageDropped`]).
///
/// Called on a thread of its own, named after the bus and `-letters`, never on a worker: it may be slow. When
/// [`dead_letter_sink_max`](crate::BusBuilder::dead_letter_sink_max) letters wait for it, or as many bytes as the bus keeps of them, no
/// event is given up that need not be: it stays with its subscription, which is handed it again each 100 ms, without that being counted as
/// an attempt, and gives it up when there is room. What cannot stay has as much room again: what its mailbox has no room for, what an
/// open circuit breaker does not let through, what a subscription leaves behind that ends. Beyond that it does not hear of a letter, which
/// [`DeadLetterCounts::unheard`](crate::DeadLetterCounts::unheard) counts. [`Bus::flush`](crate::Bus::flush) and
/// [`Bus::shutdown`](crate::Bus::shutdown) wait for it, within their deadlines: after a flush it has heard of all that died before.
///
/// What dies after the shutdown, or in a [`Simulation`](crate::testing::Simulation), it hears of on the thread that flushes, or
/// looks at [`Bus::dead_letters`](crate::Bus::dead_letters) next; so it does of what it has not taken before the shutdown, where its
/// thread tries once more and then leaves it [waiting](crate::DeadLetterCounts::waiting).
///
/// ```
/// use std::sync::Arc;
/// use ringmain::{Bus, DeadLetter};
/// let bus = Bus::builder()
///     .dead_letter_sink(|letter: &Arc<DeadLetter>| eprintln!("{letter:?}"))
///     .build()?;
/// # bus.shutdown()?;
/// # Ok::<(), ringmain::Error>(())
/// ```
pub trait DeadLetterSink: Send + Sync {
    /// An event has died. Says what is to become of its letter.
    fn dead_letter(&self, letter: &Arc<DeadLetter>) -> Outcome;
}

impl<F, O> DeadLetterSink for F
where
    F: Fn(&Arc<DeadLetter>) -> O + Send + Sync,
    O: Into<Outcome>,
{
    fn dead_letter(&self, letter: &Arc<DeadLetter>) -> Outcome {
        self(letter).into()
    }
}

/// The letters that a sink is still to be told of.
pub(super) struct Outbox {
    /// Present until it is dropped.
    sink: Option<Arc<dyn DeadLetterSink>>,
    queue: SegQueue<Arc<DeadLetter>>,
    /// How many are in it, or about to be, the one that was not taken among them.
    letters: Level,
    letters_max: u64,
    bytes: Level,
    bytes_max: u64,
    unheard: SharedCounter,
    /// Of those, how many came out of a store.
    unheard_stored: SharedCounter,
    /// Letters that were taken, ever.
    taken: SharedCounter,
    told: Mutex<Told>,
    /// Somebody tells, the thread made for it all its life.
    telling: AtomicBool,
    closed: AtomicBool,
    teller: Bell,
}

/// How far the sink has heard.
#[derive(Default)]
struct Told {
    letters: u64,
    /// The thread on which it is called.
    on: Option<ThreadId>,
    /// It did not take this one: the next to be told of.
    refused: Option<Arc<DeadLetter>>,
    /// Since when it has taken none.
    failing: Option<Instant>,
}

impl Outbox {
    pub(super) fn new(sink: Arc<dyn DeadLetterSink>, limits: &DeadLetterLimits, barrier: Barrier) -> Self {
        Self {
            sink: Some(sink),
            queue: SegQueue::new(),
            letters: Level::default(),
            letters_max: limits.waiting as u64,
            bytes: Level::default(),
            bytes_max: limits.bytes as u64,
            unheard: SharedCounter::default(),
            unheard_stored: SharedCounter::default(),
            taken: SharedCounter::default(),
            told: Mutex::new(Told::default()),
            telling: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            teller: Bell::new(barrier),
        }
    }

    /// Whether an event may die that could as well live on.
    pub(super) fn has_room(&self, notice: impl Fn(&Notice<'_>)) -> bool {
        let has_room = || self.letters.get() < self.letters_max && self.bytes.get() < self.bytes_max;
        has_room() || {
            // Where no thread does.
            self.tell(notice);
            has_room()
        }
    }

    /// Never waits. A letter beyond twice the limits is counted only; one that finds the outbox empty is always taken.
    pub(super) fn put(&self, letter: &Arc<DeadLetter>) {
        let bytes = letter.bytes() as u64;
        let (letters, waiting) = (self.letters.get(), self.bytes.get());
        if letters >= 2 * self.letters_max
            || (letters > 0 && waiting.saturating_add(bytes) > self.bytes_max.saturating_mul(2))
        {
            self.leave_out(letter);
            return;
        }
        self.letters.raise(1);
        self.bytes.raise(bytes);
        self.queue.push(Arc::clone(letter));
        self.taken.add(1);
        self.teller.ring();
    }

    /// The sink does not hear of this one.
    fn leave_out(&self, letter: &DeadLetter) {
        self.unheard.add(1);
        self.unheard_stored.add(u64::from(letter.meta().position().is_some()));
    }

    /// Letters that it took of all that died before, if the caller has seen them settled: for [`has_told`](Self::has_told).
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Whether the sink has heard of so many letters; the sink itself cannot wait for that.
    pub(super) fn has_told(&self, letters: u64, notice: impl Fn(&Notice<'_>)) -> bool {
        self.tell(notice);
        let told = self.told();
        told.letters >= letters || told.on == Some(std::thread::current().id())
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.letters.get()
    }

    /// Letters that the sink does not hear of, and how many of them came out of a store.
    pub(super) fn unheard(&self) -> (u64, u64) {
        (self.unheard.get(), self.unheard_stored.get())
    }

    /// Tells the sink what waits, unless somebody else does: also when the sink itself asks.
    pub(super) fn tell(&self, notice: impl Fn(&Notice<'_>)) {
        // Relaxed: it only keeps a second teller out; letters travel through the queue, and one that was not taken under the lock.
        if !self.telling.swap(true, Ordering::Relaxed) {
            self.empty(notice);
            // Relaxed: see above.
            self.telling.store(false, Ordering::Relaxed);
        }
    }

    /// Tells of letter after letter, until none waits or one is not taken; then how long the sink is to rest.
    fn empty(&self, notice: impl Fn(&Notice<'_>)) -> Option<Duration> {
        let sink = self.sink.as_ref()?;
        self.told().on = Some(std::thread::current().id());
        let mut rest = None;
        while rest.is_none()
            && let Some(letter) = self.take()
        {
            // The panic hook has told of it.
            let outcome = contained(|| sink.dead_letter(&letter)).unwrap_or(Outcome::Ack);
            rest = match outcome {
                Outcome::Ack | Outcome::Reject(_) => None,
                Outcome::RetryAfter(time) => Some(time),
                Outcome::Failed(_) | Outcome::Release => Some(AGAIN),
            };
            if rest.is_some() {
                self.keep(letter, outcome.reason(), &notice);
            } else {
                self.settle(&letter, &outcome, &notice);
            }
        }
        self.told().on = None;
        rest
    }

    /// The sink is told of the letter again.
    fn keep(&self, letter: Arc<DeadLetter>, error: &str, notice: impl Fn(&Notice<'_>)) {
        self.letters.raise(1);
        self.bytes.raise(letter.bytes() as u64);
        let mut told = self.told();
        told.refused = Some(letter);
        let is_first = told.failing.is_none();
        told.failing.get_or_insert_with(Instant::now);
        drop(told);
        if is_first {
            notice(&Notice::StorageFailed { name: NAME, error, waiting: self.letters.get() });
        }
    }

    /// The sink has heard of the letter, or never will.
    fn settle(&self, letter: &DeadLetter, outcome: &Outcome, notice: impl Fn(&Notice<'_>)) {
        let is_rejected = matches!(outcome, Outcome::Reject(_));
        if is_rejected {
            self.leave_out(letter);
            let event = letter.meta().id();
            notice(&Notice::StorageDropped { name: NAME, event, reason: outcome.reason() });
        }
        let mut told = self.told();
        told.letters += 1;
        let failing = told.failing.take_if(|_| !is_rejected);
        drop(told);
        if let Some(since) = failing {
            let (after, dropped) = (since.elapsed(), self.unheard.get());
            notice(&Notice::StorageReturned { name: NAME, after, dropped });
        }
    }

    fn take(&self) -> Option<Arc<DeadLetter>> {
        let refused = self.told().refused.take();
        let letter = refused.or_else(|| self.queue.pop())?;
        self.letters.lower(1);
        self.bytes.lower(letter.bytes() as u64);
        Some(letter)
    }

    /// From now on a thread tells, which is about to be made.
    pub(super) fn hand_to_thread(&self) {
        // Relaxed: see `tell`.
        self.telling.store(true, Ordering::Relaxed);
    }

    /// The life of that thread: until the outbox is closed and empty.
    pub(super) fn run(&self, notice: impl Fn(&Notice<'_>)) {
        let waker = of_this_thread();
        loop {
            // Relaxed: the bell orders it for a teller that waits.
            let closed = self.closed.load(Ordering::Relaxed);
            let rest = self.empty(&notice);
            if closed {
                break;
            }
            if let Some(time) = rest {
                self.rest(&waker, time);
                continue;
            }
            self.teller.wait(&waker);
            // Relaxed: the bell orders it after the waker was left.
            if self.queue.is_empty() && !self.closed.load(Ordering::Relaxed) {
                thread::park();
            }
        }
        // Relaxed: see `tell`.
        self.telling.store(false, Ordering::Relaxed);
    }

    /// Waits so long, or until the outbox is closed, however many letters come meanwhile.
    fn rest(&self, waker: &Waker, time: Duration) {
        let begun = Instant::now();
        loop {
            self.teller.wait(waker);
            let left = time.saturating_sub(begun.elapsed());
            // Relaxed: the bell orders it after the waker was left.
            if left.is_zero() || self.closed.load(Ordering::Relaxed) {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Sends the thread away, once it has told what waits.
    pub(super) fn close(&self) {
        // Relaxed: the bell orders it for a teller that waits.
        self.closed.store(true, Ordering::Relaxed);
        self.teller.ring();
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let sink = self.sink.take();
        // Whoever drops it last is not hurt by the sink's own drop.
        let _ = contained(|| drop(sink));
    }
}
