//! Where dead letters are kept: bounded, counted, and never waited for by those who bring one.

use std::fmt;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

use crate::delivery::{Notice, Observer};
use crate::event::Directory;
use crate::metrics::SharedCounter;
use crate::sync::barrier::Barrier;
use crate::sync::contain::contained;
use crate::sync::primitive::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

use super::intake::Intake;
use super::level::Level;
use super::shelf::Shelf;
use super::sink::Outbox;
use super::taken::End;
use super::{DeadLetter, DeadLetterCounts, DeadLetterFilter, DeadLetterLimits, DeadLetterSink, Death, TakenLetter};

/// Letters that one put sorts in when it is time: more than it brings, and so few that nobody notices.
pub(super) const RELIEF: usize = 4;

/// The dead letters of one bus.
pub(crate) struct DeadLetterStore {
    limits: DeadLetterLimits,
    pub(super) intake: Intake,
    shelf: Mutex<Shelf>,
    /// Letters so far, and so the id of the last one.
    total: AtomicU64,
    held: Level,
    bytes: Level,
    /// Letters on their way back to their subscriptions, and their bytes.
    returning: Level,
    returning_bytes: Level,
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
            intake: Intake::new(),
            shelf: Mutex::default(),
            total: AtomicU64::new(0),
            held: Level::default(),
            bytes: Level::default(),
            returning: Level::default(),
            returning_bytes: Level::default(),
            discarded: SharedCounter::default(),
            expired: SharedCounter::default(),
            redriven: SharedCounter::default(),
            purged: SharedCounter::default(),
            overflowing: AtomicBool::new(false),
            outbox: sink.map(|sink| Outbox::new(sink, &limits, barrier)),
            observers,
            directory,
        }
    }

    /// Takes over an event that is given up, and tells observers. Returns the letter's id.
    ///
    /// # Cost
    /// Never waits for a lock. An event that dies is copied: an allocation each for its bytes, the letter, and the texts with it;
    /// about a tenth of a microsecond for a short one. While 128 letters or an eighth of the bytes allowed wait in the intake, each
    /// put also sorts four letters into the store, if nobody looks at it just then: under a microsecond, and the oldest letters go for
    /// which there is no room then. Observers are called on this thread.
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

    /// Whether an event may die that could as well live on: the sink has room for its letter. A few threads that ask at once may all be
    /// told so of the last place, and have it.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.as_ref().is_none_or(|outbox| outbox.has_room(|notice| self.notice(notice)))
    }

    fn take_in(&self, letter: Arc<DeadLetter>) {
        self.held.raise(1);
        self.bytes.raise(letter.bytes() as u64);
        self.intake.push(letter);
        self.relieve(RELIEF);
        // So many came while somebody looks that no letter from before will have room.
        if self.intake.trim(&self.limits, |oldest| self.discard(oldest)) {
            self.overflowed();
        }
    }

    /// Sorts some of the intake in when it is time, unless somebody has the store: they do it when they leave.
    fn relieve(&self, at_most: usize) {
        if !self.intake.is_due(&self.limits) {
            return;
        }
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

    /// Brings the shelf up to date, works on it, and lets others know what came of it. No user code runs under the lock.
    pub(super) fn on_shelf<R>(&self, work: impl FnOnce(&mut Shelf) -> R) -> R {
        let result = self.on_shelf_quietly(work);
        if let Some(outbox) = &self.outbox {
            outbox.tell(|notice| self.notice(notice));
        }
        result
    }

    /// As `on_shelf`. The sink is told of nothing.
    fn on_shelf_quietly<R>(&self, work: impl FnOnce(&mut Shelf) -> R) -> R {
        let mut shelf = self.lock();
        let overflowed = self.sort_in(&mut shelf, usize::MAX);
        let result = work(&mut shelf);
        drop(shelf);
        if overflowed {
            self.overflowed();
        }
        self.relieve(usize::MAX);
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
            if !shelf.oldest().is_some_and(|oldest| self.is_expired(oldest, now)) {
                break;
            }
            if let Some(oldest) = shelf.remove_oldest() {
                self.expire(&oldest);
            }
        }
        // Not those that come meanwhile: somebody would have to stay for ever.
        for _ in 0..at_most.min(self.intake.len()) {
            let Some(letter) = self.intake.pop() else { break };
            if self.is_expired(&letter, now) {
                self.expire(&letter);
                continue;
            }
            if !shelf.could_hold(&letter, &self.limits) {
                // No other letter would make room enough by going.
                self.discard(&letter);
                overflowed = true;
                continue;
            }
            shelf.insert(letter);
            overflowed |= self.make_room(shelf);
        }
        overflowed
    }

    /// Lets the oldest go as long as there are more than may be kept. Returns whether one went.
    fn make_room(&self, shelf: &mut Shelf) -> bool {
        let mut overflowed = false;
        while shelf.is_beyond(&self.limits) {
            let Some(oldest) = shelf.remove_oldest() else { break };
            self.discard(&oldest);
            overflowed = true;
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

    /// As `counts`, for those who only watch: the sink is told of nothing.
    pub(crate) fn watch(&self) -> DeadLetterCounts {
        self.on_shelf_quietly(|_| ());
        self.tally()
    }

    /// Bytes of the letters that are held or on their way back, and of the queue they come by.
    pub(crate) fn held_bytes(&self) -> usize {
        (self.bytes.get() + self.returning_bytes.get()) as usize + self.intake.own_bytes()
    }

    /// The counts as they stand, what waits in the intake among what is held. Takes no lock.
    pub(super) fn tally(&self) -> DeadLetterCounts {
        let (unheard, unheard_stored) = self.outbox.as_ref().map_or((0, 0), Outbox::unheard);
        DeadLetterCounts {
            // Relaxed: the figure announces nothing but itself.
            total: self.total.load(Ordering::Relaxed),
            held: self.held.get(),
            returning: self.returning.get(),
            bytes: self.bytes.get(),
            discarded: self.discarded.get(),
            expired: self.expired.get(),
            redriven: self.redriven.get(),
            purged: self.purged.get(),
            waiting: self.outbox.as_ref().map_or(0, Outbox::waiting),
            unheard,
            unheard_stored,
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
        let letter = self.on_shelf(|shelf| shelf.take(id))?;
        Some(TakenLetter::new(Arc::clone(self), letter))
    }

    /// The end of a taking.
    pub(super) fn give_back(&self, letter: &Arc<DeadLetter>, end: End) {
        let mut shelf = self.lock();
        shelf.end_taking(letter);
        if end == End::Stays {
            shelf.insert(Arc::clone(letter));
        } else {
            if end == End::Sent {
                self.redriven.add(1);
            } else {
                self.returning.raise(1);
                self.returning_bytes.raise(letter.bytes() as u64);
            }
            self.let_go(letter);
            self.made_room();
        }
        drop(shelf);
        self.relieve(usize::MAX);
    }

    /// A letter on its way back has arrived. Takes no lock.
    pub(super) fn arrived(&self, letter: &DeadLetter) {
        self.redriven.add(1);
        self.returning.lower(1);
        self.returning_bytes.lower(letter.bytes() as u64);
    }

    /// A letter on its way back could not arrive. Where there is no room any more the oldest goes.
    pub(super) fn came_back(&self, letter: &Arc<DeadLetter>) {
        let mut shelf = self.lock();
        self.held.raise(1);
        self.bytes.raise(letter.bytes() as u64);
        self.returning.lower(1);
        self.returning_bytes.lower(letter.bytes() as u64);
        shelf.insert(Arc::clone(letter));
        let overflowed = self.make_room(&mut shelf);
        drop(shelf);
        if overflowed {
            self.overflowed();
        }
        self.relieve(usize::MAX);
    }

    /// Whether a sink wants a thread to hear of letters on; the thread then calls [`tell_sink`](Self::tell_sink).
    pub(crate) fn wants_thread(&self) -> bool {
        self.outbox.as_ref().inspect(|outbox| outbox.hand_to_thread()).is_some()
    }

    /// Tells the sink of each letter, until the store is closed.
    pub(crate) fn tell_sink(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.run(|notice| self.notice(notice));
        }
    }

    /// Letters of which a sink is to hear, or has: of all that died before, if the caller has seen them settled.
    pub(crate) fn for_sink(&self) -> u64 {
        self.outbox.as_ref().map_or(0, Outbox::taken)
    }

    /// Whether the sink, if there is one, has heard of so many letters. Tells it where no thread does.
    pub(crate) fn has_told_sink(&self, letters: u64) -> bool {
        self.outbox.as_ref().is_none_or(|outbox| outbox.has_told(letters, |notice| self.notice(notice)))
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
