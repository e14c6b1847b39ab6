//! Where dead letters are kept: bounded, counted, and never waited for by those who bring one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::delivery::{Notice, Observer};
use crate::event::Directory;
use crate::metrics::SharedCounter;
use crate::sync::barrier::Barrier;
use crate::sync::contain::contained;
use crate::sync::primitive::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

use super::level::Level;
use super::sink::Outbox;
use super::{DeadLetter, DeadLetterCounts, DeadLetterFilter, DeadLetterLimits, DeadLetterSink, Death, TakenLetter};

/// Letters that may wait in the intake.
pub(super) const INTAKE_MAX: usize = 256;
/// Of the bytes allowed, the share that may wait in the intake besides: one in so many.
const INTAKE_SHARE: u64 = 8;
/// Letters that one put sorts in when the intake is half full: more than it brings, and so few that nobody notices.
pub(super) const RELIEF: usize = 4;
/// Times that whoever leaves the store sorts in what others bring meanwhile.
const RELIEF_ROUNDS_MAX: usize = 2;

/// What the lock guards.
#[derive(Debug, Default)]
struct Shelf {
    letters: BTreeMap<u64, Arc<DeadLetter>>,
    /// Bytes of `letters`.
    bytes: usize,
    /// Letters that somebody sends again just now: they keep their room until it is known whether they come back.
    in_hand: usize,
    in_hand_bytes: usize,
}

impl Shelf {
    fn insert(&mut self, letter: Arc<DeadLetter>) {
        self.bytes += letter.bytes();
        self.letters.insert(letter.id(), letter);
    }

    fn remove(&mut self, id: u64) -> Option<Arc<DeadLetter>> {
        let letter = self.letters.remove(&id)?;
        self.bytes -= letter.bytes();
        Some(letter)
    }

    fn remove_oldest(&mut self) -> Option<Arc<DeadLetter>> {
        let (_, oldest) = self.letters.pop_first()?;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }

    fn is_beyond(&self, limits: &DeadLetterLimits) -> bool {
        self.letters.len() + self.in_hand > limits.events || self.bytes + self.in_hand_bytes > limits.bytes
    }
}

/// The dead letters of one bus.
pub(crate) struct DeadLetterStore {
    limits: DeadLetterLimits,
    intake: ArrayQueue<Arc<DeadLetter>>,
    intake_bytes: Level,
    shelf: Mutex<Shelf>,
    /// Letters so far, and so the id of the last one.
    total: AtomicU64,
    held: Level,
    bytes: Level,
    discarded: SharedCounter,
    expired: SharedCounter,
    redriven: SharedCounter,
    purged: SharedCounter,
    /// Letters went for want of room, and none for any other reason since.
    overflowing: AtomicBool,
    outbox: Option<Outbox>,
    observers: Vec<Arc<dyn Observer>>,
    directory: Arc<Directory>,
}

impl DeadLetterStore {
    pub(crate) fn new(
        limits: DeadLetterLimits,
        directory: Arc<Directory>,
        observers: Vec<Arc<dyn Observer>>,
        sink: Option<Arc<dyn DeadLetterSink>>,
        barrier: Barrier,
    ) -> Self {
        Self {
            limits,
            intake: ArrayQueue::new(INTAKE_MAX),
            intake_bytes: Level::default(),
            shelf: Mutex::default(),
            total: AtomicU64::new(0),
            held: Level::default(),
            bytes: Level::default(),
            discarded: SharedCounter::default(),
            expired: SharedCounter::default(),
            redriven: SharedCounter::default(),
            purged: SharedCounter::default(),
            overflowing: AtomicBool::new(false),
            outbox: sink.map(|sink| Outbox::new(sink, limits.bytes, barrier)),
            observers,
            directory,
        }
    }

    /// Takes over an event that is given up, and tells observers. Returns the letter's id.
    ///
    /// # Cost
    /// Never waits for a lock. An event that dies is copied: an allocation each for its bytes, the letter, and the texts with it;
    /// about a tenth of a microsecond for a short one. While the intake is half full, each put also sorts four letters into
    /// the store, if nobody looks at it just then: under a microsecond. Observers are called on this thread.
    pub(crate) fn put(&self, death: &Death<'_>) -> u64 {
        // Relaxed: the number announces nothing but itself.
        let id = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        let is_kept = self.limits.events > 0 && DeadLetter::bytes_of(death) <= self.limits.bytes;
        if is_kept || self.outbox.is_some() {
            let now = self.directory.clock.now();
            let letter = Arc::new(DeadLetter::new(id, death, now, Arc::clone(&self.directory)));
            if is_kept {
                self.take_in(Arc::clone(&letter));
            }
            // After that: the sink finds the letter where it looks for it.
            if let Some(outbox) = &self.outbox {
                outbox.put(&letter);
            }
        }
        if !is_kept {
            self.discarded.add(1);
            if self.limits.events > 0 {
                self.overflowed();
            }
        }
        self.notice(&Notice::DeadLettered {
            letter: id,
            subscription: death.subscription,
            name: death.name,
            event: death.meta.id(),
            topic: death.meta.topic(),
            reason: death.reason,
            attempts: death.attempts,
            error: death.error,
        });
        id
    }

    fn take_in(&self, letter: Arc<DeadLetter>) {
        let bytes = letter.bytes() as u64;
        self.held.raise(1);
        self.bytes.raise(bytes);
        self.intake_bytes.raise(bytes);
        if let Err(letter) = self.intake.push(letter) {
            self.relieve(1);
            // Still full when somebody looks at the store meanwhile: as everywhere, the oldest goes.
            if let Some(oldest) = self.intake.force_push(letter) {
                self.intake_bytes.lower(oldest.bytes() as u64);
                self.discard(&oldest);
                self.overflowed();
            }
        }
        self.relieve(1);
    }

    /// Sorts some of the intake in while it is half full, unless somebody has the store: they do it when they leave.
    fn relieve(&self, rounds: usize) {
        for _ in 0..rounds {
            // All of it where letters are large: what may wait is bounded in bytes as well.
            let at_most = if self.intake_bytes.get() > self.limits.bytes as u64 / INTAKE_SHARE {
                INTAKE_MAX
            } else if self.intake.len() >= INTAKE_MAX / 2 {
                RELIEF
            } else {
                return;
            };
            let mut shelf = match self.shelf.try_lock() {
                Ok(shelf) => shelf,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let overflowed = self.sort_in(&mut shelf, at_most);
            drop(shelf);
            if overflowed {
                self.overflowed();
            }
        }
    }

    /// Brings the shelf up to date, works on it, and lets others know what came of it. No user code runs under the lock.
    fn on_shelf<R>(&self, work: impl FnOnce(&mut Shelf) -> R) -> R {
        let mut shelf = self.lock();
        let overflowed = self.sort_in(&mut shelf, usize::MAX);
        let result = work(&mut shelf);
        drop(shelf);
        if overflowed {
            self.overflowed();
        }
        self.relieve(RELIEF_ROUNDS_MAX);
        if let Some(outbox) = &self.outbox {
            outbox.tell();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what has expired, and moves the intake to the shelf: at most so many letters each. Returns whether a letter went
    /// for want of room.
    fn sort_in(&self, shelf: &mut Shelf, at_most: usize) -> bool {
        let now = self.directory.clock.now();
        let mut overflowed = false;
        for _ in 0..at_most.min(shelf.letters.len()) {
            if !shelf.letters.first_key_value().is_some_and(|(_, oldest)| self.is_expired(oldest, now)) {
                break;
            }
            if let Some(oldest) = shelf.remove_oldest() {
                self.expire(&oldest);
            }
        }
        // Not those that come meanwhile: somebody would have to stay for ever.
        for _ in 0..at_most.min(self.intake.len()) {
            let Some(letter) = self.intake.pop() else { break };
            self.intake_bytes.lower(letter.bytes() as u64);
            if self.is_expired(&letter, now) {
                self.expire(&letter);
                continue;
            }
            let in_hand_bytes = shelf.in_hand_bytes + letter.bytes();
            if shelf.in_hand >= self.limits.events || in_hand_bytes > self.limits.bytes {
                // No other letter would make room enough by going.
                self.discard(&letter);
                overflowed = true;
                continue;
            }
            shelf.insert(letter);
            while shelf.is_beyond(&self.limits) {
                let Some(oldest) = shelf.remove_oldest() else { break };
                self.discard(&oldest);
                overflowed = true;
            }
        }
        overflowed
    }

    fn is_expired(&self, letter: &DeadLetter, now: u64) -> bool {
        let age = Duration::from_nanos(now.saturating_sub(letter.died_at()));
        self.limits.expiry.is_some_and(|expiry| age >= expiry)
    }

    fn expire(&self, letter: &DeadLetter) {
        self.expired.add(1);
        self.let_go(letter);
        self.made_room();
    }

    fn discard(&self, letter: &DeadLetter) {
        self.discarded.add(1);
        self.let_go(letter);
    }

    fn let_go(&self, letter: &DeadLetter) {
        self.held.lower(1);
        self.bytes.lower(letter.bytes() as u64);
    }

    fn made_room(&self) {
        // Relaxed: it decides only whether the next overflow is told of.
        self.overflowing.store(false, Ordering::Relaxed);
    }

    /// Tells of an overflow, the first of a row.
    #[cold]
    fn overflowed(&self) {
        // Relaxed: see `made_room`.
        if !self.overflowing.swap(true, Ordering::Relaxed) {
            let (held, discarded) = (self.held.get(), self.discarded.get());
            self.notice(&Notice::DeadLettersOverflow { held, discarded });
        }
    }

    /// Tells all observers. A panic of theirs goes no further.
    pub(crate) fn notice(&self, notice: &Notice<'_>) {
        for observer in &self.observers {
            let _ = contained(|| observer.notice(notice));
        }
    }

    pub(crate) fn counts(&self) -> DeadLetterCounts {
        self.on_shelf(|_| ());
        self.tally()
    }

    /// Bytes of the letters that are held, and of the queue they come by.
    pub(crate) fn held_bytes(&self) -> usize {
        // A place has a stamp beside the letter.
        self.bytes.get() as usize + INTAKE_MAX * size_of::<(usize, Arc<DeadLetter>)>()
    }

    /// The counts as they stand, what waits in the intake among what is held. Takes no lock.
    pub(crate) fn tally(&self) -> DeadLetterCounts {
        DeadLetterCounts {
            // Relaxed: the figure announces nothing but itself.
            total: self.total.load(Ordering::Relaxed),
            held: self.held.get(),
            bytes: self.bytes.get(),
            discarded: self.discarded.get(),
            expired: self.expired.get(),
            redriven: self.redriven.get(),
            purged: self.purged.get(),
            unheard: self.outbox.as_ref().map_or(0, Outbox::unheard),
        }
    }

    pub(crate) fn list(&self, filter: &DeadLetterFilter) -> Vec<Arc<DeadLetter>> {
        self.on_shelf(|shelf| filter.select(&shelf.letters))
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<DeadLetter>> {
        self.on_shelf(|shelf| shelf.letters.get(&id).cloned())
    }

    pub(crate) fn purge(&self, filter: &DeadLetterFilter) -> usize {
        self.on_shelf(|shelf| {
            let purged = filter.select(&shelf.letters);
            for letter in &purged {
                shelf.remove(letter.id());
                self.let_go(letter);
            }
            if !purged.is_empty() {
                self.purged.add(purged.len() as u64);
                self.made_room();
            }
            purged.len()
        })
    }

    /// Takes a letter out, to send it again. Nobody else finds it meanwhile; its room is kept, and it counts as held.
    pub(crate) fn take(self: &Arc<Self>, id: u64) -> Option<TakenLetter> {
        let letter = self.on_shelf(|shelf| {
            let letter = shelf.remove(id)?;
            shelf.in_hand += 1;
            shelf.in_hand_bytes += letter.bytes();
            Some(letter)
        })?;
        Some(TakenLetter::new(Arc::clone(self), letter))
    }

    /// The end of a taking.
    pub(super) fn give_back(&self, letter: &Arc<DeadLetter>, is_sent: bool) {
        let mut shelf = self.lock();
        shelf.in_hand -= 1;
        shelf.in_hand_bytes -= letter.bytes();
        if is_sent {
            self.redriven.add(1);
            self.let_go(letter);
            self.made_room();
        } else {
            shelf.insert(Arc::clone(letter));
        }
        drop(shelf);
        self.relieve(RELIEF_ROUNDS_MAX);
    }

    /// Whether a sink wants a thread to hear of letters on; the thread then calls [`tell_sink`](Self::tell_sink).
    pub(crate) fn wants_thread(&self) -> bool {
        self.outbox.as_ref().inspect(|outbox| outbox.hand_to_thread()).is_some()
    }

    /// Tells the sink of each letter, until the store is closed.
    pub(crate) fn tell_sink(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.run();
        }
    }

    /// Sends the sink's thread away, once it has told what waits. What dies later is told by those who look.
    pub(crate) fn close(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.close();
        }
    }
}

impl Drop for DeadLetterStore {
    fn drop(&mut self) {
        for observer in self.observers.drain(..) {
            // Whoever drops the store last is not hurt by an observer's drop.
            let _ = contained(|| drop(observer));
        }
    }
}

impl fmt::Debug for DeadLetterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterStore")
            .field("limits", &self.limits)
            .field("held", &self.held.get())
            .finish_non_exhaustive()
    }
}
