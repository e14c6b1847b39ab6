//! Durable publishing: an event is appended first, and delivered from its place in the log.
//!
//! ```text
//!   any thread ──► committer: all that waits is one append ──► as written or durable as asked ──► publish_durable returns
//!                                                                  │
//!                         cursor ◄── settled ◄── lanes ◄── reader of the log, behind what was acknowledged
//!                           │
//!                           └──► after a restart: what is marked and behind the cursor is delivered again
//! ```
//!
//! * There is one order: that of the log. What was not appended is never delivered, what was is delivered at least once.
//! * The committer appends one group after the other, at the strongest word that anybody in it asked for. So no event comes to the
//!   lanes before its word is met, nor before those at lower positions.
//! * The cursor follows when everything up to it is settled: it has gone through lanes and mailboxes, and no consumer has it in hand.
//! * Nobody waits for the lanes: a handler may publish durably into its own full lane.

mod commit;
mod deliver;
mod error;

use std::fmt;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::internals::Encode;
use crate::{Bus, BusState, Frame, Outgoing, Subject};

use super::cursor::Cursor;
use super::{Durability, EventStore, Position, StateStore};
use commit::{Committer, Job};
use deliver::{Checkpoint, Deliverer};

pub use error::DurableError;

/// What keys of its cursors begin with.
const CURSOR: &[u8] = b"durable";
/// Events that may wait for the committer; whoever publishes more waits.
const QUEUE_MAX: usize = 4_096;

/// A durable publisher under way.
#[must_use = "nothing is published until `start`"]
pub struct DurableBuilder {
    bus: Bus,
    store: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    name: String,
    checkpoint_every: Duration,
}

impl Bus {
    /// Begins a durable publisher: what it publishes is kept in `store` first, and delivered from there. Its cursor is kept in
    /// `state`; lost, everything is delivered again.
    ///
    /// ```
    /// use ringmain::store::{Durability, LogStore, MemoryStore};
    /// use ringmain::{Bus, Payload};
    /// use std::sync::Arc;
    /// # let folder = std::env::temp_dir().join(format!("ringmain-durable-doc-{}", std::process::id()));
    ///
    /// let bus = Bus::builder().build()?;
    /// let mut inbox = bus.subscribe("orders.*").mailbox()?;
    /// let (store, state) = (Arc::new(LogStore::open(&folder)?), Arc::new(MemoryStore::new()));
    /// let durable = bus.durable(store, state).start()?;
    ///
    /// let mut publisher = bus.publisher()?;
    /// let payload = Payload::json(r#"{"id": 7}"#);
    /// let position = publisher.event().publish_durable(&durable, Durability::Durable, "orders.placed", payload)?;
    /// // It survives the loss of power from here on.
    /// assert_eq!(inbox.recv()?.meta().position(), Some(position.get()));
    /// # drop(durable);
    /// # bus.shutdown()?;
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn durable(&self, store: Arc<dyn EventStore>, state: Arc<dyn StateStore>) -> DurableBuilder {
        let checkpoint_every = Duration::from_millis(100);
        DurableBuilder { bus: self.clone(), store, state, name: "durable".to_owned(), checkpoint_every }
    }
}

impl DurableBuilder {
    /// Names it, its threads and its cursor. Default: `durable`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long its cursor rests before it is kept again. Default 100 ms.
    pub fn checkpoint_every(mut self, time: Duration) -> Self {
        self.checkpoint_every = time;
        self
    }

    /// Begins to publish, first what was appended before and may not have been delivered: so subscribe first. A store has one
    /// durable publisher at a time. It holds the bus until it is closed or dropped.
    ///
    /// # Errors
    /// See [`DurableError`].
    ///
    /// # Cost
    /// Three threads, and one publisher of the bus.
    pub fn start(self) -> Result<DurablePublisher, DurableError> {
        let Self { bus, store, state, name, checkpoint_every } = self;
        let word = state.state_durability().min(Durability::Written);
        let cursor = Cursor::new(state, CURSOR, &name, word).map_err(DurableError::Cursor)?;
        let head = store.head().map_err(|error| DurableError::Read(Arc::new(error)))?;
        let position = cursor.within(head).map_err(DurableError::Cursor)?;
        let kept = store.durability();
        let publisher = bus.publisher().map_err(DurableError::Publish)?;
        let shared = Arc::new(Shared::new(head, position));
        let (sender, jobs) = mpsc::sync_channel(QUEUE_MAX);
        let committer = Committer::new(Arc::clone(&store), jobs, Arc::clone(&shared));
        let deliverer = Deliverer::new(bus.clone(), publisher, store, name.clone(), Arc::clone(&shared));
        let checkpoint = Checkpoint::new(bus.clone(), cursor, name.clone(), checkpoint_every, Arc::clone(&shared));
        let spawn = |part: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(format!("ringmain-{name}-{part}")).spawn(run);
            thread.map_err(|error| DurableError::Thread(error.to_string()))
        };
        // As far as it has come when one of them cannot be had, its drop ends it.
        let mut inner = Inner { bus, kept, sender: Some(sender), shared, threads: Vec::new() };
        inner.threads.push(spawn("commit", Box::new(move || committer.run()))?);
        inner.threads.push(spawn("deliver", Box::new(move || deliverer.run()))?);
        inner.threads.push(spawn("cursor", Box::new(move || checkpoint.run()))?);
        Ok(DurablePublisher(Arc::new(inner)))
    }
}

impl fmt::Debug for DurableBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Publishes events from a store, to which it appends them first. Cheap to clone: clones are the same publisher, which any number
/// of threads may use at once. It ends when the last one is dropped: what was acknowledged is brought to the lanes if they have
/// room, and the cursor is kept.
#[derive(Clone)]
pub struct DurablePublisher(Arc<Inner>);

struct Inner {
    bus: Bus,
    /// The strongest word of the store.
    kept: Durability,
    /// Present until it ends.
    sender: Option<SyncSender<Job>>,
    shared: Arc<Shared>,
    /// In the order in which they end.
    threads: Vec<JoinHandle<()>>,
}

/// How far a durable publisher has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DurableCounts {
    /// Events that were appended and acknowledged.
    pub appended: u64,
    /// Appends that it took for them: less where many published at once.
    pub appends: u64,
    /// Events that were published from the store, those of an earlier run included.
    pub delivered: u64,
    /// Events whose deadline had passed before.
    pub expired: u64,
    /// Events that this bus cannot take, each told by [`Notice::Undeliverable`](crate::Notice::Undeliverable).
    pub undeliverable: u64,
    /// Positions in the store that cannot be read.
    pub unreadable: u64,
    /// The last position that was looked at to be published.
    pub delivered_to: Option<Position>,
    /// The cursor as it is kept: what is behind it is delivered again after a restart.
    pub settled_to: Option<Position>,
}

impl DurablePublisher {
    /// Publishes a frame: returns its position when it is as asked.
    ///
    /// # Errors
    /// See [`DurableError`].
    ///
    /// # Cost
    /// Blocks for the append, which it shares with all that are published meanwhile; not for the lanes.
    pub fn publish(&self, frame: &Frame, word: Durability) -> Result<Position, DurableError> {
        let kept = self.0.kept;
        if word == Durability::Accepted || word > kept {
            return Err(DurableError::Durability { asked: word, kept });
        }
        if frame.meta().not_before().is_some() {
            return Err(DurableError::Scheduled);
        }
        if self.0.bus.state() != BusState::Running {
            return Err(DurableError::ShuttingDown);
        }
        let (told, heard) = mpsc::sync_channel(1);
        let sender = self.0.sender.as_ref().expect("it is there until the last clone is dropped");
        sender.send(Job { frame: frame.for_outbox(), word, told }).map_err(|_| DurableError::Closed)?;
        heard.recv().unwrap_or(Err(DurableError::Closed))
    }

    /// How far it has come.
    pub fn counts(&self) -> DurableCounts {
        self.0.shared.inner().counts
    }

    /// Waits until everything that was acknowledged so far is settled and the cursor is kept, at most `limit`. Returns whether it
    /// is.
    pub fn flush_deadline(&self, limit: Duration) -> bool {
        let inner = self.0.shared.inner();
        let ready = inner.ready;
        let waited = self.0.shared.changed.wait_timeout_while(inner, limit, |inner| inner.counts.settled_to < ready);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.counts.settled_to >= ready
    }
}

impl Outgoing<'_> {
    /// Publishes the event from a store: appends it there, and returns its position when it is as asked, written or durable. It is
    /// delivered from there.
    ///
    /// # Errors
    /// See [`DurableError`].
    ///
    /// # Cost
    /// As [`DurablePublisher::publish`], and as [`to_frame`](Outgoing::to_frame).
    pub fn publish_durable<S: Subject<P>, P: Encode + Copy>(
        self,
        by: &DurablePublisher,
        word: Durability,
        topic: S,
        payload: P,
    ) -> Result<Position, DurableError> {
        let frame = self.to_frame(topic, payload).map_err(DurableError::Publish)?;
        by.publish(&frame, word)
    }
}

/// What its threads share.
struct Shared {
    inner: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    /// The last position up to which the word of every event is met.
    ready: Option<Position>,
    counts: DurableCounts,
    is_ending: bool,
    /// The reader has ended: nothing more comes to the lanes.
    is_delivered: bool,
}

impl Shared {
    fn new(ready: Option<Position>, cursor: Option<Position>) -> Self {
        let counts = DurableCounts { delivered_to: cursor, settled_to: cursor, ..DurableCounts::default() };
        let inner = Mutex::new(Progress { ready, counts, is_ending: false, is_delivered: false });
        Self { inner, changed: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Progress> {
        // Changed by steps that do not panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells all who wait for it.
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.inner());
        self.changed.notify_all();
    }

    /// Waits while nothing is to be done, at most `limit`.
    fn wait_while(&self, limit: Duration, is_idle: impl Fn(&Progress) -> bool) -> MutexGuard<'_, Progress> {
        let waited = self.changed.wait_timeout_while(self.inner(), limit, |inner| is_idle(inner));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.sender.take());
        let mut threads = std::mem::take(&mut self.threads).into_iter();
        // A panic of a store has been printed, and everybody who waited was told.
        if let Some(committer) = threads.next() {
            drop(committer.join());
        }
        self.shared.change(|inner| inner.is_ending = true);
        threads.for_each(|thread| drop(thread.join()));
    }
}

impl fmt::Debug for DurablePublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurablePublisher").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
