//! A journal: every event of a bus that matches is appended to a store, by an ordinary subscription with a thread of its own.
//!
//! ```text
//!   lanes ──► mailbox ──► thread: takes what is there ──► append, one batch ──► acknowledges each
//!               │ full                                        │ fails
//!               ▼                                             ▼
//!       the lane waits (Full { gated_by }),        the batch waits and is tried again: the mailbox fills,
//!       or the event is dropped and counted        or events go on in memory up to a bound, then are dropped and counted
//! ```
//!
//! * While the disk keeps up the journal costs the lanes what any mailbox costs; batches grow with the time an append takes.
//! * An event is acknowledged when it is as written or durable as asked, so that [`Bus::flush`] waits for the store.
//! * An event that came out of a store ([`Meta::position`](crate::Meta::position)) is left out. So a bus has one store.
//! * The order in the store is that in which a mailbox gives events out: that of the lane for events of one priority.
//! * An event that the store can never take ([`AppendError::is_refusal`]) is dropped, counted and said; those round it go on.
//! * A subscription that could not keep up reads here what it has missed: [`Journal::spill_source`].
//! * After [`AppendError::Disk`] nobody knows whether the store has the batch. The journal lets go of the store, and looks for the
//!   batch in the one that it is [given then](Journal::resume) before it appends it again.

mod error;
mod keeper;
pub(super) mod shared;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{Bus, Filter, Overflow, Pattern, SpillSource, SubscribeError, SubscriptionId};

use super::positions::{Part, Seated};
use super::spill::JournalSpill;
use super::{BATCH_EVENTS_MAX, Durability, EventStore};
use keeper::Keeper;
use shared::Shared;

pub use error::JournalError;

/// Events that may be kept in memory while the store fails.
const KEEP_MAX: usize = 1 << 24;

/// A journal under way. It keeps every event unless it is told which.
#[must_use = "nothing is kept until `start`"]
pub struct JournalBuilder {
    bus: Bus,
    store: Arc<dyn EventStore>,
    name: String,
    patterns: Vec<Pattern>,
    capacity: usize,
    overflow: Overflow,
    batch_max: usize,
    durability: Durability,
    keep_max: usize,
    retry_every: Duration,
}

impl Bus {
    /// Begins a journal: a subscription that appends events to a store.
    ///
    /// ```
    /// use ringmain::store::{MemoryStore, Durability, EventStore, Query};
    /// use ringmain::{Bus, Pattern, Payload};
    /// use std::sync::Arc;
    ///
    /// let bus = Bus::builder().build()?;
    /// let store = Arc::new(MemoryStore::new());
    /// let journal = bus
    ///     .journal(store.clone())
    ///     .pattern(Pattern::new("orders.**")?)
    ///     .durability(Durability::Accepted)
    ///     .start()?;
    /// bus.publish("orders.placed", Payload::json(r#"{"id": 7}"#))?;
    ///
    /// bus.flush()?; // It is in the store.
    /// assert_eq!(Query::new().stream(&*store).count(), 1);
    /// assert_eq!(journal.close()?.written, 1);
    /// # bus.shutdown()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn journal(&self, store: Arc<dyn EventStore>) -> JournalBuilder {
        JournalBuilder {
            bus: self.clone(),
            store,
            name: "journal".to_owned(),
            patterns: Vec::new(),
            capacity: 8_192,
            overflow: Overflow::Block,
            batch_max: BATCH_EVENTS_MAX,
            durability: Durability::Written,
            keep_max: 0,
            retry_every: Duration::from_secs(1),
        }
    }
}

impl JournalBuilder {
    /// Names its subscription, its thread and what is said of it. Default: `journal`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Keeps events that match. Of several patterns one is enough, and an event that matches more than one is kept once.
    /// Default: every event.
    pub fn pattern(mut self, pattern: Pattern) -> Self {
        self.patterns.push(pattern);
        self
    }

    /// Events its mailbox holds, those being written included, rounded up to a power of two. Default 8,192.
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// What happens to events that come faster than the store takes them, when the mailbox is full. Default: their lane waits, and
    /// publishers at a full lane hear which worker gates it. With another policy events are dropped, and counted by the
    /// subscription.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// Events that one append may have, 1 to 1,024 and at most the capacity. Default 1,024.
    pub fn batch_max(mut self, events: usize) -> Self {
        self.batch_max = events;
        self
    }

    /// How much an event has to survive before it counts as delivered. Default: the end of the process
    /// ([`Durability::Written`]).
    pub fn durability(mut self, word: Durability) -> Self {
        self.durability = word;
        self
    }

    /// Lets events go on while the store fails: so many are kept in memory, up to 16,777,216, and written when it works again;
    /// those beyond are dropped and counted. They count as delivered while they are only in memory; one append has no more of
    /// them either. The bus is degraded ([`Bus::degrade`]) as long as the store fails, and what is published durably is never acknowledged
    /// from memory. Default 0: events wait in the mailbox, and then hold up their lanes.
    pub fn keep_in_memory(mut self, events: usize) -> Self {
        self.keep_max = events;
        self
    }

    /// How long it waits before it tries a store again that has failed; not zero. Default 1 s.
    pub fn retry_every(mut self, time: Duration) -> Self {
        self.retry_every = time;
        self
    }

    /// Subscribes, and begins to keep what is published from now on. It holds the bus until it is closed or dropped.
    ///
    /// # Errors
    /// See [`JournalError`].
    ///
    /// # Cost
    /// A mailbox and a thread. For each event a copy into the mailbox, and one into a frame.
    pub fn start(self) -> Result<Journal, JournalError> {
        let Self { bus, store, name, patterns, capacity, overflow, batch_max, durability, keep_max, retry_every } =
            self;
        let limits =
            [("batch_max", batch_max, 1, BATCH_EVENTS_MAX.min(capacity)), ("keep_in_memory", keep_max, 0, KEEP_MAX)];
        for (setting, value, min, max) in limits {
            if value < min || value > max {
                return Err(JournalError::Setting { setting, value, min, max });
            }
        }
        if retry_every.is_zero() {
            return Err(JournalError::Zero { setting: "retry_every" });
        }
        let kept = store.durability();
        if durability > kept {
            return Err(JournalError::Durability { asked: durability, kept });
        }
        // What is being appended goes on in memory when that fails.
        let batch_max = if keep_max == 0 { batch_max } else { batch_max.min(keep_max) };
        let seated = Seated::take(&bus, Part::Journal, &name, &store)
            .map_err(|by| JournalError::OtherStore { publisher: by.name })?;
        let last = store.head().map_err(JournalError::Read)?;
        let subscribe = match &patterns[..] {
            [] => bus.subscribe("*"),
            [only] => bus.subscribe(only.clone()),
            _ => bus.subscribe("*").filter(Filter::all().patterns(patterns.clone())),
        };
        let subscribe = subscribe.named(&*name).handler_id("journal").capacity(capacity).overflow(overflow);
        let mailbox = subscribe.mailbox().map_err(JournalError::Subscribe)?;
        let id = mailbox.id();
        let shared = Arc::new(Shared::new(store, last));
        let keeper = Keeper::new(bus.clone(), mailbox, name.clone(), Arc::clone(&shared))
            .with_limits(batch_max, keep_max)
            .with_word(durability, retry_every);
        let thread = std::thread::Builder::new().name(format!("ringmain-{name}"));
        let thread = thread.spawn(move || keeper.run()).map_err(|error| JournalError::Thread(error.to_string()))?;
        Ok(Journal { bus, id, patterns, shared, thread: Some(thread), seated })
    }
}

impl fmt::Debug for JournalBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalBuilder")
            .field("name", &self.name)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

/// A journal that runs. Dropped, it ends as by [`close`](Self::close), and nobody hears what was left.
pub struct Journal {
    bus: Bus,
    id: SubscriptionId,
    patterns: Vec<Pattern>,
    shared: Arc<Shared>,
    /// Present until it is closed.
    thread: Option<JoinHandle<()>>,
    seated: Seated,
}

/// Where the events are that came to a journal, and how its store is. Each figure is counted on its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalCounts {
    /// Events that it took from its mailbox.
    pub taken: u64,
    /// In the store, as written or durable as asked.
    pub written: u64,
    /// In hand: being appended, or waiting for the store.
    pub waiting: u64,
    /// Of those that wait, how many were acknowledged and are only in memory.
    pub in_memory: u64,
    /// Dropped, since there was no room in memory for them or the journal was closed before the store worked again.
    pub dropped: u64,
    /// Dropped, since the store can never take them: they are too long, or it says so
    /// ([`AppendError::is_refusal`](super::AppendError::is_refusal)).
    pub refused: u64,
    /// Left out, since they came out of the store.
    pub already_stored: u64,
}

impl JournalCounts {
    /// Whether `taken = written + waiting + dropped + refused + already stored`.
    pub fn is_balanced(&self) -> bool {
        self.taken == self.written + self.waiting + self.dropped + self.refused + self.already_stored
    }
}

/// Whether a journal's store works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalState {
    /// As far as is known.
    Writing,
    /// It did not take the last append, for this reason, and is tried again now and then.
    Retrying(String),
    /// Its disk failed, for this reason. The journal has let go of it: open it again, and give it to [`Journal::resume`].
    Lost(String),
    /// The journal has ended.
    Ended,
}

impl Journal {
    /// Its subscription.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Where its events are.
    pub fn counts(&self) -> JournalCounts {
        self.shared.counts()
    }

    /// Whether its store works.
    pub fn state(&self) -> JournalState {
        self.shared.state()
    }

    /// Goes on with this store: the one whose disk had failed, opened again. Events that it has already are not appended again. A
    /// subscription that reads what it left there lets go of the store a moment after the journal.
    pub fn resume(&self, store: Arc<dyn EventStore>) {
        self.seated.move_to(&store);
        self.shared.resume(store);
    }

    /// For subscriptions that read what they could not take in time where the journal has written it:
    /// [`Subscribe::spill`](crate::Subscribe::spill). From now on each event is written with its place in its lane.
    ///
    /// What the journal has dropped or refused does not come back: it counts as [lost](crate::Dropped::lost). So does what it had not
    /// written when it was closed; and of what came out of the store ([`Meta::position`](crate::Meta::position)) all but the latest
    /// 65,536 events.
    ///
    /// ```
    /// use ringmain::store::{Durability, MemoryStore};
    /// use ringmain::{Bus, Payload};
    /// use std::sync::Arc;
    ///
    /// let bus = Bus::builder().build()?;
    /// let journal = bus.journal(Arc::new(MemoryStore::new())).durability(Durability::Accepted).start()?;
    /// let mut slow = bus.subscribe("orders.*").capacity(8).spill(journal.spill_source()).mailbox()?;
    /// for id in 0..100 {
    ///     bus.publish("orders.placed", Payload::json(&id.to_string()))?;
    /// }
    /// for id in 0..100 {
    ///     assert_eq!(slow.recv()?.payload().text(), Some(&*id.to_string()));
    /// }
    /// # drop(journal);
    /// # bus.shutdown()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spill_source(&self) -> Arc<dyn SpillSource> {
        Arc::new(JournalSpill::new(&self.patterns, &self.shared))
    }

    /// Tries a store that has failed again now.
    pub fn retry(&self) {
        self.shared.retry();
    }

    /// Ends the subscription, writes what it has, and waits until that is done. What is still in the lanes is not its any more:
    /// [flush](Bus::flush) first, or shut the bus down.
    ///
    /// # Errors
    /// [`JournalError::Left`] when the store does not work: what could not be written is lost, and counted.
    /// [`JournalError::OnWorker`] on a worker thread: it ends all the same, and nobody waits for what is left.
    pub fn close(mut self) -> Result<JournalCounts, JournalError> {
        self.end()?;
        let (counts, failure) = (self.shared.counts(), self.shared.failure());
        match failure {
            Some(error) => Err(JournalError::Left { events: counts.dropped, error }),
            None => Ok(counts),
        }
    }

    /// Ends its thread, and waits for that where it can.
    fn end(&mut self) -> Result<(), JournalError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.shared.end();
        let ended = self.bus.unsubscribe(self.id);
        // There is none any more where the bus was shut down.
        if !matches!(ended, Ok(()) | Err(SubscribeError::NotFound(_))) {
            self.shared.leave();
        }
        self.shared.wake();
        // A worker cannot wait for what waits for it.
        if ended == Err(SubscribeError::OnWorker) {
            return Err(JournalError::OnWorker);
        }
        thread.join().map_err(|_| JournalError::Panicked)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Nobody is left to hear how it went.
        drop(self.end());
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("id", &self.id).field("counts", &self.counts()).finish_non_exhaustive()
    }
}
