//! Dead letters that outlive their process: the queue that a bus tells of each, kept as state of a store.
//!
//! ```text
//!   bus ──► sink ──► DeadLetterQueue ──► StateStore:  id ──► the story of its end, and the event's frame
//!                      │  ▲
//!            redrive ──┘  └── list, get, purge          also in the next process
//! ```

mod error;
mod record;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{DeadLetter, DeadLetterSink, EventId, Publisher};

use super::Durability;
use super::state::{STATE_PAGE_MAX, StateChange, StateError, StateKind, StateStore};

pub use error::DeadLetterQueueError;
pub use record::StoredLetter;

/// Dead letters in a store, oldest first: the [`DeadLetterSink`] of a bus, or of several. One at a time in a store; cheap to
/// clone: one is the bus's, another is who looks at it.
///
/// A letter is in the queue until it is redriven or purged here, or has to make room. What the bus itself keeps
/// ([`Bus::dead_letters`](crate::Bus::dead_letters)) is another matter: have it keep none, or you meet letters twice.
///
/// ```
/// use std::sync::Arc;
/// use ringmain::store::{DeadLetterQueue, MemoryStore};
/// use ringmain::{Bus, DeliveryMode, Outcome, Payload};
///
/// let queue = DeadLetterQueue::open(Arc::new(MemoryStore::new()))?;
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
/// A letter is one change of state, made on the bus's thread for it; its id is kept in memory, and nothing else.
#[derive(Clone)]
pub struct DeadLetterQueue(Arc<Queue>);

struct Queue {
    state: Arc<dyn StateStore>,
    letters_max: usize,
    durability: Durability,
    kept: Mutex<Kept>,
    /// Held while letters are sent or purged.
    leaving: Mutex<()>,
}

#[derive(Default)]
struct Kept {
    /// Ids of letters, and how many parts each has beside its first.
    letters: BTreeMap<u64, u16>,
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
    /// The store did not take them: see [`DeadLetterQueue::last_error`].
    pub lost: u64,
}

impl DeadLetterQueue {
    /// Letters it keeps unless told otherwise: 100,000.
    pub const LETTERS_MAX: usize = 100_000;

    /// The queue in a store: [`open_with`](Self::open_with) the default limit, letters *written*.
    ///
    /// # Errors
    /// As `open_with`.
    pub fn open(state: Arc<dyn StateStore>) -> Result<Self, DeadLetterQueueError> {
        let durability = state.state_durability().min(Durability::Written);
        Self::open_with(state, Self::LETTERS_MAX, durability)
    }

    /// The queue in a store, of at most so many letters, 1 at least: when there are more the oldest goes. Each is kept as durably as asked; what is written survives the end of the process, also by `kill -9`.
    ///
    /// # Errors
    /// When a letter cannot be read, one that is too many cannot be removed, or the store does not keep that word.
    ///
    /// # Cost
    /// Reads all letters.
    pub fn open_with(
        state: Arc<dyn StateStore>,
        letters_max: usize,
        durability: Durability,
    ) -> Result<Self, DeadLetterQueueError> {
        let kept = state.state_durability();
        if durability > kept {
            return Err(DeadLetterQueueError::Change(StateError::Durability { asked: durability, kept }));
        }
        let (mut letters, mut from) = (BTreeMap::new(), Some(Box::default()));
        while let Some(at) = from {
            let page = state.list(StateKind::DEAD_LETTER, &at, STATE_PAGE_MAX).map_err(DeadLetterQueueError::Read)?;
            for (key, value) in &page.entries {
                let (id, parts) = record::known(key, value)?;
                letters.insert(id, parts);
            }
            from = page.next;
        }
        let last = letters.last_key_value().map_or(0, |(id, _)| *id);
        let kept = Mutex::new(Kept { letters, last, ..Kept::default() });
        let letters_max = letters_max.max(1);
        let queue = Queue { state, letters_max, durability, kept, leaving: Mutex::default() };
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
        record::read(&*self.0.state, id)
    }

    /// Removes letters. Returns how many of them there were.
    ///
    /// # Errors
    /// When the store does not remove one; those before it are gone.
    pub fn purge(&self, ids: &[u64]) -> Result<usize, DeadLetterQueueError> {
        let _leaving = self.0.leaving();
        let mut purged = 0;
        for id in ids {
            if self.0.remove(*id)? {
                self.0.kept().counts.purged += 1;
                purged += 1;
            }
        }
        Ok(purged)
    }

    /// Publishes a letter as the same event, with the same id, to all who subscribe to its topic now; then it is gone. Its
    /// subscription may have ended with its process, so nobody else can be left out: who has handled the event already
    /// knows it by its id, or by a `dedup` window. Dies the process between the two, it is there again.
    ///
    /// # Errors
    /// [`DeadLetterQueueError::NotFound`]; [`Publish`](DeadLetterQueueError::Publish) when the event is refused, as one is whose
    /// deadline has passed: the letter stays.
    pub fn redrive(&self, id: u64, publisher: &mut Publisher) -> Result<EventId, DeadLetterQueueError> {
        let _leaving = self.0.leaving();
        let letter = self.get(id)?.ok_or(DeadLetterQueueError::NotFound { id })?;
        let published = publisher.publish_frame(letter.frame());
        let event = published.map_err(|error| DeadLetterQueueError::Publish { id, error })?;
        if self.0.remove(id)? {
            self.0.kept().counts.redriven += 1;
        }
        Ok(event)
    }

    /// Where letters went.
    pub fn counts(&self) -> DeadLetterQueueCounts {
        let kept = self.0.kept();
        DeadLetterQueueCounts { held: kept.letters.len(), ..kept.counts }
    }

    /// Why the last letter was lost that was.
    pub fn last_error(&self) -> Option<Arc<StateError>> {
        self.0.kept().error.clone()
    }
}

impl DeadLetterSink for DeadLetterQueue {
    fn dead_letter(&self, letter: &Arc<DeadLetter>) {
        self.0.take_in(letter);
    }
}

impl Queue {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, ()> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a letter, and lets the oldest go for it.
    fn take_in(&self, letter: &DeadLetter) {
        let (id, oldest) = {
            let mut kept = self.kept();
            kept.last += 1;
            let oldest = kept.letters.first_key_value().map(|(id, parts)| (*id, *parts));
            (kept.last, oldest.filter(|_| kept.letters.len() >= self.letters_max))
        };
        let written = record::write(letter);
        let parts = (written.len() - 1) as u16;
        let gone = oldest.map_or_else(Vec::new, |(id, parts)| record::keys(id, parts));
        let keys = record::keys(id, parts);
        let mut changes: Vec<_> = gone.iter().map(|(kind, key)| StateChange::Remove { kind: *kind, key }).collect();
        let puts = keys.iter().zip(&written);
        changes.extend(puts.map(|((kind, key), value)| StateChange::Put { kind: *kind, key, value }));
        let applied = self.state.apply(&changes, self.durability);
        let mut kept = self.kept();
        match applied {
            Ok(()) => {
                kept.letters.insert(id, parts);
                if let Some((id, _)) = oldest {
                    kept.counts.discarded += u64::from(kept.letters.remove(&id).is_some());
                }
            }
            Err(error) => {
                kept.counts.lost += 1;
                kept.error = Some(Arc::new(error));
            }
        }
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
        let Some(parts) = self.kept().letters.get(&id).copied() else { return Ok(false) };
        let keys = record::keys(id, parts);
        let changes: Vec<_> = keys.iter().map(|(kind, key)| StateChange::Remove { kind: *kind, key }).collect();
        self.state.apply(&changes, self.durability).map_err(DeadLetterQueueError::Change)?;
        Ok(self.kept().letters.remove(&id).is_some())
    }
}

impl fmt::Debug for DeadLetterQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterQueue").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
