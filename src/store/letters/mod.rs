//! Dead letters that outlive their process: the queue that a bus tells of each, kept as state of a store.
//!
//! ```text
//!   bus ──► sink ──► DeadLetterQueue ──► StateStore:  name, id ──► the story of its end, and the event's frame
//!                      │  ▲
//!            redrive ──┘  └── list, get, purge          also in the next process
//!               └── publish, as the caller says; only when that has answered, the letter goes
//! ```

mod error;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{DeadLetter, DeadLetterSink, Frame, Outcome};

use super::Durability;
use super::guard::guarded;
use super::name::Name;
use super::state::{StateChange, StateError, StateKind, StateStore};

pub use error::DeadLetterQueueError;
pub(super) use record::NewLetter;
pub use record::StoredLetter;

/// Dead letters in a store, oldest first: the [`DeadLetterSink`] of a bus, or of several, and of
/// [reliable subscriptions](super::ReliableSubscription). A name has one at a time; cheap to clone: one is the bus's, another is who looks
/// at it.
///
/// A letter is in the queue until it was redriven or is purged here, or has to make room. What the bus itself keeps
/// ([`Bus::dead_letters`](crate::Bus::dead_letters)) is another matter: have it keep none, or you meet letters twice.
///
/// ```
/// use std::sync::Arc;
/// use ringmain::store::{DeadLetterQueue, MemoryStore};
/// use ringmain::{Bus, DeliveryMode, Outcome, Payload};
///
/// let queue = DeadLetterQueue::open("letters", Arc::new(MemoryStore::new()))?;
/// let bus = Bus::builder().dead_letters_max(0).dead_letter_sink(queue.clone()).build()?;
/// let wish = bus.subscribe("orders.*").named("bank").mode(DeliveryMode::reliable());
/// let subscription = wish.handle(|_, _| Outcome::Reject("no such account".to_owned()))?;
/// bus.publish("orders.placed", Payload::json("{}"))?;
/// bus.shutdown()?; // The queue has heard of all then.
///
/// let letter = queue.list(None, 10)?.remove(0);
/// assert_eq!((letter.frame().meta().topic(), letter.error()), ("orders.placed", Some("no such account")));
/// assert_eq!(queue.purge(&[letter.id()])?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
/// A letter is one change of state, made on the bus's thread for it; its id is kept in memory, and nothing else. One that the store does
/// not take waits there, and is tried again each 100 ms: see [`DeadLetterSink`].
#[derive(Clone)]
pub struct DeadLetterQueue(Arc<Queue>);

struct Queue {
    name: Name,
    letters_max: usize,
    durability: Durability,
    kept: Mutex<Kept>,
    /// Held while the store is changed, and while nothing else is called: so what is known is what is in the store.
    changing: Mutex<()>,
}

#[derive(Default)]
struct Kept {
    /// Ids of letters, and how many parts each has beside its first.
    letters: BTreeMap<u64, u16>,
    /// Those that somebody is publishing.
    leaving: BTreeSet<u64>,
    /// The last id that was given.
    last: u64,
    counts: DeadLetterQueueCounts,
    error: Option<Arc<StateError>>,
}

/// Where the letters of a queue went since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterQueueCounts {
    /// There now, those of earlier processes among them.
    pub held: usize,
    /// Sent again.
    pub redriven: u64,
    /// Removed by hand.
    pub purged: u64,
    /// Gone to make room for others: the oldest.
    pub discarded: u64,
    /// Times that the store did not take one, which then waits in memory and is tried again: see [`DeadLetterQueue::last_error`].
    pub refused: u64,
    /// The store can never take them ([`StateError::is_refusal`](super::StateError::is_refusal)). What a durable publisher brought, its
    /// next start brings again.
    pub lost: u64,
}

impl DeadLetterQueue {
    /// Letters it keeps unless told otherwise: 100,000.
    pub const LETTERS_MAX: usize = 100_000;

    /// The queue of this name, up to 255 bytes, in a store: [`open_with`](Self::open_with) the default limit, letters *written*.
    ///
    /// # Errors
    /// As `open_with`.
    pub fn open(name: &str, state: Arc<dyn StateStore>) -> Result<Self, DeadLetterQueueError> {
        let durability = state.state_durability().min(Durability::Written);
        Self::open_with(name, state, Self::LETTERS_MAX, durability)
    }

    /// The queue of this name in a store, of at most so many letters, 1 at least: when there are more the oldest goes. Each is kept
    /// as durably as asked; what is written survives the end of the process, also by `kill -9`.
    ///
    /// # Errors
    /// When the queue is open already, a letter cannot be read, one that is too many cannot be removed, or the store does not keep that
    /// word.
    ///
    /// # Cost
    /// Reads all letters.
    pub fn open_with(
        name: &str,
        state: Arc<dyn StateStore>,
        letters_max: usize,
        durability: Durability,
    ) -> Result<Self, DeadLetterQueueError> {
        let kept = state.state_durability();
        if durability > kept {
            return Err(DeadLetterQueueError::Change(StateError::Durability { asked: durability, kept }));
        }
        let name = Name::claim(name, StateKind::DEAD_LETTER, state).map_err(DeadLetterQueueError::Name)?;
        let mut letters = BTreeMap::new();
        name.each(|key, value| {
            let (id, parts) = record::known(key, value)?;
            letters.insert(id, parts);
            Ok::<_, DeadLetterQueueError>(())
        })?;
        let newest = letters.last_key_value().map_or(0, |(id, _)| *id);
        let last = name.number()?.max(newest);
        let kept = Mutex::new(Kept { letters, last, ..Kept::default() });
        let letters_max = letters_max.max(1);
        let queue = Queue { name, letters_max, durability, kept, changing: Mutex::default() };
        queue.trim()?;
        Ok(Self(Arc::new(queue)))
    }

    /// Letters behind the one with an id, from the oldest on with `None`, at most so many.
    ///
    /// # Errors
    /// When a letter cannot be read.
    pub fn list(&self, after: Option<u64>, limit: usize) -> Result<Vec<StoredLetter>, DeadLetterQueueError> {
        let first = after.map_or(0, |id| id.saturating_add(1));
        let ids: Vec<_> = self.0.kept().letters.range(first..).take(limit).map(|(id, _)| *id).collect();
        // One that has left meanwhile is left out.
        ids.into_iter().filter_map(|id| self.get(id).transpose()).collect()
    }

    /// One letter; `None` when there is none of this id.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, id: u64) -> Result<Option<StoredLetter>, DeadLetterQueueError> {
        record::read(&self.0.name, id)
    }

    /// Removes letters. Returns how many of them there were. One that is being redriven goes, too, and may be published all the same.
    ///
    /// # Errors
    /// When the store does not remove one; those before it are gone.
    pub fn purge(&self, ids: &[u64]) -> Result<usize, DeadLetterQueueError> {
        let mut purged = 0;
        for id in ids {
            if self.0.remove(*id)? {
                self.0.kept().counts.purged += 1;
                purged += 1;
            }
        }
        Ok(purged)
    }

    /// Has a letter published as the same event, with the same id, and removes it when `publish` has answered; returns the
    /// answer. It is published at least once: dies the process before the letter is removed, it is there again.
    ///
    /// So `publish` returns when the event needs the letter no more. A [`DurablePublisher`](super::DurablePublisher) has it in its store then,
    /// from which it is delivered also by the next process:
    ///
    /// ```
    /// # use ringmain::store::*;
    /// # fn redrive(queue: &DeadLetterQueue, durable: &DurablePublisher, id: u64) -> Result<(), DeadLetterQueueError> {
    /// let position = queue.redrive(id, |letter| durable.publish(letter.frame(), Durability::Written))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A [`Publisher`](crate::Publisher) only brings it to a lane, which dies with the process. Wait until it was handled:
    ///
    /// ```
    /// # use ringmain::store::*;
    /// # fn redrive(queue: &DeadLetterQueue, bus: &ringmain::Bus, id: u64) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut publisher = bus.publisher()?;
    /// queue.redrive(id, |letter| {
    ///     publisher.publish_frame(letter.frame())?;
    ///     bus.flush()?;
    ///     Ok::<_, ringmain::Error>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The event goes to all who subscribe to its topic. The subscription that gave it up may have ended with its process, so nobody else can
    /// be left out: who has handled the event knows it by its id, or by a [`HandledWindow`](super::HandledWindow).
    ///
    /// # Errors
    /// [`DeadLetterQueueError::NotFound`]; [`UnderWay`](DeadLetterQueueError::UnderWay) when somebody is publishing it;
    /// [`Publish`](DeadLetterQueueError::Publish) with what `publish` says, as of an event whose deadline has passed: the letter
    /// stays.
    ///
    /// # Cost
    /// No lock is held while `publish` runs: it may use the queue, and take its time.
    pub fn redrive<T, E: Into<Box<dyn Error + Send + Sync>>>(
        &self,
        id: u64,
        publish: impl FnOnce(&StoredLetter) -> Result<T, E>,
    ) -> Result<T, DeadLetterQueueError> {
        let _leaving = self.0.leave(id)?;
        let letter = self.get(id)?.ok_or(DeadLetterQueueError::NotFound { id })?;
        let published = publish(&letter);
        let answer = published.map_err(|error| DeadLetterQueueError::Publish { id, error: error.into() })?;
        if self.0.remove(id)? {
            self.0.kept().counts.redriven += 1;
        }
        Ok(answer)
    }

    /// Where letters went.
    pub fn counts(&self) -> DeadLetterQueueCounts {
        let kept = self.0.kept();
        DeadLetterQueueCounts { held: kept.letters.len(), ..kept.counts }
    }

    /// Why the store did not take a letter, the last time that it did not.
    pub fn last_error(&self) -> Option<Arc<StateError>> {
        self.0.kept().error.clone()
    }

    /// Whether its letters are in this store.
    pub(super) fn is_in(&self, state: &Arc<dyn StateStore>) -> bool {
        self.0.name.is_in(state)
    }

    /// Keeps a letter in one piece with another change. Returns its id.
    pub(super) fn keep(&self, letter: &NewLetter<'_>, other: StateChange<'_>) -> Result<u64, StateError> {
        self.0.keep(letter, Some(other))
    }
}

impl DeadLetterSink for DeadLetterQueue {
    fn dead_letter(&self, letter: &Arc<DeadLetter>) -> Outcome {
        let frame = Frame::of(&letter.meta());
        let keep = || self.0.keep(&NewLetter::of(letter, &frame), None);
        let Err(error) = guarded(keep, StateError::Failed) else { return Outcome::Ack };
        let (is_refusal, reason) = (error.is_refusal(), error.to_string());
        let mut kept = self.0.kept();
        kept.error = Some(Arc::new(error));
        if is_refusal {
            kept.counts.lost += 1;
            Outcome::Reject(reason)
        } else {
            kept.counts.refused += 1;
            Outcome::Failed(reason)
        }
    }
}

impl Queue {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, changes: &[StateChange<'_>]) -> Result<(), StateError> {
        self.name.state().apply(changes, self.durability)
    }

    /// Takes a letter for its caller alone to publish.
    fn leave(&self, id: u64) -> Result<Leaving<'_>, DeadLetterQueueError> {
        let mut kept = self.kept();
        if !kept.letters.contains_key(&id) {
            return Err(DeadLetterQueueError::NotFound { id });
        }
        if !kept.leaving.insert(id) {
            return Err(DeadLetterQueueError::UnderWay { id });
        }
        Ok(Leaving { queue: self, id })
    }

    /// Keeps a letter, and lets the oldest go for it.
    fn keep(&self, letter: &NewLetter<'_>, other: Option<StateChange<'_>>) -> Result<u64, StateError> {
        let _changing = self.changing();
        let (id, oldest) = {
            let kept = self.kept();
            let oldest = kept.letters.first_key_value().map(|(id, parts)| (*id, *parts));
            // One that fails has its id again: if it is in the store after all, it is there once.
            (kept.last + 1, oldest.filter(|_| kept.letters.len() >= self.letters_max))
        };
        let written = record::write(letter);
        let parts = (written.len() - 1) as u16;
        let gone = oldest.map_or_else(Vec::new, |(id, parts)| record::keys(&self.name, id, parts));
        let keys = record::keys(&self.name, id, parts);
        let mut changes: Vec<_> = gone.iter().map(|(kind, key)| StateChange::Remove { kind: *kind, key }).collect();
        let puts = keys.iter().zip(&written);
        changes.extend(puts.map(|((kind, key), value)| StateChange::Put { kind: *kind, key, value }));
        changes.extend(other);
        self.apply(&changes)?;
        let mut kept = self.kept();
        kept.last = id;
        kept.letters.insert(id, parts);
        if let Some((id, _)) = oldest {
            kept.letters.remove(&id);
            kept.counts.discarded += 1;
        }
        Ok(id)
    }

    /// Lets the oldest go as long as there are too many.
    fn trim(&self) -> Result<(), DeadLetterQueueError> {
        let oldest = || {
            let kept = self.kept();
            let oldest = kept.letters.first_key_value().map(|(id, _)| *id);
            oldest.filter(|_| kept.letters.len() > self.letters_max)
        };
        while let Some(id) = oldest() {
            let was_there = self.remove(id)?;
            self.kept().counts.discarded += u64::from(was_there);
        }
        Ok(())
    }

    /// Says whether it was there.
    fn remove(&self, id: u64) -> Result<bool, DeadLetterQueueError> {
        let _changing = self.changing();
        let (parts, last) = {
            let kept = self.kept();
            let Some(parts) = kept.letters.get(&id) else { return Ok(false) };
            let is_newest = kept.letters.last_key_value().is_some_and(|(newest, _)| *newest == id);
            // With the newest goes what told the next process where to count on.
            (*parts, is_newest.then_some(kept.last.to_le_bytes()))
        };
        let keys = record::keys(&self.name, id, parts);
        let mut changes: Vec<_> = keys.iter().map(|(kind, key)| StateChange::Remove { kind: *kind, key }).collect();
        let key = self.name.number_key();
        changes.extend(last.as_ref().map(|last| StateChange::Put { kind: StateKind::NUMBER, key: &key, value: last }));
        self.apply(&changes).map_err(DeadLetterQueueError::Change)?;
        Ok(self.kept().letters.remove(&id).is_some())
    }
}

/// A letter that somebody is publishing, until it is dropped.
struct Leaving<'a> {
    queue: &'a Queue,
    id: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.queue.kept().leaving.remove(&self.id);
    }
}

impl fmt::Debug for DeadLetterQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterQueue").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
