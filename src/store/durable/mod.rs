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
//! * The cursor follows when everything up to it is settled: it has gone through lanes and mailboxes, and no consumer has it in hand. What
//!   came to the lanes behind it is not waited for, so a consumer that lags holds it back by as much, and not for good.
//! * Nobody waits for the lanes: a handler may publish durably into its own full lane.

mod checkpoint;
mod commit;
mod deliver;
mod end;
mod error;
mod pending;

use std::fmt;
use std::ops::RangeInclusive;
use std::slice;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::internals::Encode;
use crate::{Bus, BusState, FlushError, Frame, Outgoing, Subject};

use super::cursor::Cursor;
use super::positions::{Part, Seated};
use super::{AppendError, BATCH_EVENTS_MAX, Durability, EventStore, Leased, Position, StateStore};
use checkpoint::Checkpoint;
use commit::{Committer, Job};
use deliver::Deliverer;
use end::Running;

pub use error::DurableError;
pub use pending::DurablePending;

/// What keys of its cursors begin with.
const CURSOR: &[u8] = b"durable";
/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(1 << 30);
/// Publishes that may wait for the committer.
const QUEUE_MAX: usize = 4_096;

/// A durable publisher under way.
#[must_use = "nothing is published until `start`"]
pub struct DurableBuilder {
    bus: Bus,
    store: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    name: String,
    checkpoint_every: Duration,
    close_max: Duration,
    queue_max: usize,
    begin: Option<Option<Position>>,
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
        DurableBuilder {
            bus: self.clone(),
            store,
            state,
            name: "durable".to_owned(),
            checkpoint_every: Duration::from_millis(100),
            close_max: Duration::from_secs(5),
            queue_max: QUEUE_MAX,
            begin: None,
        }
    }
}

impl DurableBuilder {
    /// Names it, its threads and its cursor. Default: `durable`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long its cursor rests before it is kept again; not zero. Default 100 ms.
    pub fn checkpoint_every(mut self, time: Duration) -> Self {
        self.checkpoint_every = time;
        self
    }

    /// How long it goes on delivering when it is closed or dropped. Default 5 s; the next start delivers what is left.
    pub fn close_max(mut self, time: Duration) -> Self {
        self.close_max = time;
        self
    }

    /// Publishes that may wait for the store; whoever publishes more waits, or is told so by [`submit`](DurablePublisher::submit). Not zero.
    /// Default 4,096.
    pub fn queue_max(mut self, events: usize) -> Self {
        self.queue_max = events;
        self
    }

    /// Delivers what is behind this position, `None` being before the first event, whatever was kept. Default: behind its cursor, or with
    /// the first event that there is.
    pub fn begin_behind(mut self, position: Option<Position>) -> Self {
        self.begin = Some(position);
        self
    }

    /// Begins to publish, first what was appended before and may not have been delivered: so subscribe first. A store has one
    /// durable publisher of a name at a time, whichever process it is in; a bus has one, whose clones all may use, and journals beside
    /// it on the same store only ([`DurableError::Publisher`], [`DurableError::OtherStore`]). It holds the bus until it is closed or dropped.
    ///
    /// # Errors
    /// See [`DurableError`]; [`CursorError::Store`](super::CursorError::Store) with [`ReadError::Diverged`](super::ReadError::Diverged) when the
    /// store is not the one that its cursor is of.
    ///
    /// # Cost
    /// Three threads, one publisher of the bus, and a sync: what a process that was killed has left is delivered once it is durable.
    pub fn start(self) -> Result<DurablePublisher, DurableError> {
        let Self { bus, store, state, name, checkpoint_every, close_max, queue_max, begin } = self;
        let settings = [("checkpoint_every", checkpoint_every.is_zero()), ("queue_max", queue_max == 0)];
        if let Some((setting, _)) = settings.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(DurableError::Zero { setting });
        }
        let word = state.state_durability().min(Durability::Written);
        let state = Leased::take(state, &format!("durable publisher {name:?}")).map_err(DurableError::Lease)?;
        let cursor = Cursor::new((Arc::clone(&store), state), CURSOR, &name, word).map_err(DurableError::Cursor)?;
        let seated = Seated::take(&bus, Part::Publisher, &name, &store).map_err(DurableError::in_the_way)?;
        store.sync().map_err(|error| DurableError::Sync(Arc::new(error)))?;
        let head = store.head().map_err(|error| DurableError::Read(Arc::new(error)))?;
        let position = cursor.open(begin).map_err(DurableError::Cursor)?.position();
        let kept = store.durability();
        let publisher = bus.publisher().map_err(DurableError::Publish)?;
        let shared = Arc::new(Shared::new(head, position));
        let (sender, jobs) = mpsc::sync_channel(queue_max);
        let committer = Committer::new(Arc::clone(&store), jobs, Arc::clone(&shared));
        let deliverer = Deliverer::new(bus.clone(), publisher, store, name.clone(), Arc::clone(&shared));
        let checkpoint = Checkpoint::new(bus.clone(), cursor, name.clone(), checkpoint_every, Arc::clone(&shared));
        let spawn = |part: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(format!("ringmain-{name}-{part}")).spawn(run);
            thread.map_err(|error| DurableError::Thread(error.to_string()))
        };
        let mut running = Running {
            bus: bus.clone(),
            name: name.clone(),
            _seated: seated,
            sender,
            shared: Arc::clone(&shared),
            threads: Vec::new(),
            close_max,
        };
        let start = || {
            running.threads.push(spawn("commit", Box::new(move || committer.run()))?);
            running.threads.push(spawn("deliver", Box::new(move || deliverer.run()))?);
            running.threads.push(spawn("cursor", Box::new(move || checkpoint.run()))?);
            Ok(())
        };
        let started = start();
        // As far as it has come when one of them cannot be had, its drop ends it.
        let publisher =
            DurablePublisher(Arc::new(Inner { bus, kept, queue_max, shared, running: Mutex::new(Some(running)) }));
        started.map(|()| publisher)
    }
}

impl fmt::Debug for DurableBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Publishes events from a store, to which it appends them first. Cheap to clone: clones are the same publisher, which any number
/// of threads may use at once. It ends when it is [closed](Self::close), or the last one is dropped: what was acknowledged is brought to the
/// lanes if they have room, as long as [`close_max`](DurableBuilder::close_max) says, and the cursor is kept. What is left then is said by
/// [`Notice::StorageFailed`](crate::Notice::StorageFailed), and delivered after the next start.
#[derive(Clone)]
pub struct DurablePublisher(Arc<Inner>);

struct Inner {
    bus: Bus,
    /// The strongest word of the store.
    kept: Durability,
    queue_max: usize,
    shared: Arc<Shared>,
    /// Present until it ends.
    running: Mutex<Option<Running>>,
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
    /// Positions in the store that cannot be read: they are damaged, or a retention has removed them before.
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
        self.publish_all(slice::from_ref(frame), word).map(|positions| *positions.start())
    }

    /// Publishes frames in one piece, 1 to [`BATCH_EVENTS_MAX`]: all of them or none. Returns their positions, which have no gap between
    /// them, when they are as asked.
    ///
    /// # Errors
    /// See [`DurableError`].
    ///
    /// # Cost
    /// As [`publish`](Self::publish).
    pub fn publish_all(&self, frames: &[Frame], word: Durability) -> Result<RangeInclusive<Position>, DurableError> {
        let (sender, job, pending) = self.job(frames, word)?;
        sender.send(job).map_err(|_| DurableError::Closed)?;
        pending.wait()
    }

    /// Hands frames in, as [`publish_all`](Self::publish_all) does, and returns what says when they are as asked: so one thread or task
    /// has much on the way. What is handed in first is appended first.
    ///
    /// # Errors
    /// See [`DurableError`]; [`Full`](DurableError::Full) where [`publish_all`](Self::publish_all) would wait for room.
    ///
    /// # Cost
    /// Never blocks. Three allocations, and a copy of each frame.
    pub fn submit(&self, frames: &[Frame], word: Durability) -> Result<DurablePending, DurableError> {
        let (sender, job, pending) = self.job(frames, word)?;
        match sender.try_send(job) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => Err(DurableError::Full { waiting: self.0.queue_max }),
            Err(TrySendError::Disconnected(_)) => Err(DurableError::Closed),
        }
    }

    /// What the committer is to do, if these frames can be published, the way to it, and its answer.
    fn job(&self, frames: &[Frame], word: Durability) -> Result<(SyncSender<Job>, Job, DurablePending), DurableError> {
        let kept = self.0.kept;
        if word == Durability::Accepted || word > kept {
            return Err(DurableError::Durability { asked: word, kept });
        }
        if frames.iter().any(|frame| frame.meta().not_before().is_some()) {
            return Err(DurableError::Scheduled);
        }
        let refused = match frames.len() {
            0 => Some(AppendError::Empty),
            events if events > BATCH_EVENTS_MAX => Some(AppendError::TooMany { events, max: BATCH_EVENTS_MAX }),
            _ => None,
        };
        if let Some(refused) = refused {
            return Err(DurableError::Append(Arc::new(refused)));
        }
        if self.0.bus.state() != BusState::Running {
            return Err(DurableError::ShuttingDown);
        }
        let sender = self.0.running().as_ref().map(|running| running.sender.clone()).ok_or(DurableError::Closed)?;
        let (answer, pending) = pending::pending();
        let frames = frames.iter().map(Frame::for_outbox).collect();
        Ok((sender, Job { frames, word, answer }, pending))
    }

    /// How far it has come.
    pub fn counts(&self) -> DurableCounts {
        self.0.shared.inner().counts
    }

    /// Ends it, all clones: what was published before is appended, what was acknowledged is brought to the lanes and settled, and the cursor
    /// is kept, as far as that is done within [`close_max`](DurableBuilder::close_max) and a second.
    ///
    /// # Errors
    /// [`DurableError::Left`] says what is left: the next start delivers it. [`DurableError::Closed`] when it was closed before.
    /// [`DurableError::OnWorker`] on a worker thread; then it goes on.
    pub fn close(&self) -> Result<DurableCounts, DurableError> {
        self.end(None)
    }

    /// As [`close`](Self::close), within `limit` instead of what was set, and a second.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_deadline(&self, limit: Duration) -> Result<DurableCounts, DurableError> {
        self.end(Some(limit))
    }

    fn end(&self, limit: Option<Duration>) -> Result<DurableCounts, DurableError> {
        if self.0.is_on_worker() {
            return Err(DurableError::OnWorker);
        }
        let running = self.0.running().take().ok_or(DurableError::Closed)?;
        let limit = limit.unwrap_or(running.close_max);
        running.end(limit)
    }

    /// Waits until everything that was acknowledged so far has come to the lanes, at most `limit`. Returns whether it has.
    pub fn deliver_deadline(&self, limit: Duration) -> bool {
        let inner = self.0.shared.inner();
        let ready = inner.ready;
        let is_behind = |inner: &Progress| inner.counts.delivered_to < ready;
        let waiting = |inner: &mut Progress| is_behind(inner) && !inner.is_delivered;
        let waited = self.0.shared.changed.wait_timeout_while(inner, limit, waiting);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !is_behind(&inner)
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
    /// It is to end, and to deliver no more from then on.
    ends_at: Option<Instant>,
    /// The committer has ended.
    is_committed: bool,
    /// The reader has ended: nothing more comes to the lanes.
    is_delivered: bool,
    /// The cursor is not kept any more.
    is_over: bool,
}

impl Progress {
    fn is_ending(&self) -> bool {
        self.ends_at.is_some()
    }

    /// Whether nothing more is to be delivered.
    fn is_late(&self) -> bool {
        self.ends_at.is_some_and(|ends_at| Instant::now() >= ends_at)
    }
}

impl Shared {
    fn new(ready: Option<Position>, cursor: Option<Position>) -> Self {
        let counts = DurableCounts { delivered_to: cursor, settled_to: cursor, ..DurableCounts::default() };
        let inner = Mutex::new(Progress {
            ready,
            counts,
            ends_at: None,
            is_committed: false,
            is_delivered: false,
            is_over: false,
        });
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

impl Inner {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        // It is taken or copied from, and nothing of it half.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_on_worker(&self) -> bool {
        self.bus.flush_deadline(Duration::ZERO) == Err(FlushError::OnWorker)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(running) = self.running().take() else { return };
        if !self.is_on_worker() {
            // It says itself what is left.
            let limit = running.close_max;
            drop(running.end(limit));
            return;
        }
        // A worker cannot wait for itself. Where there is no thread for it, its own end by themselves.
        let end = thread::Builder::new().name(format!("ringmain-{}-end", running.name));
        let limit = running.close_max;
        drop(end.spawn(move || drop(running.end(limit))));
    }
}

impl fmt::Debug for DurablePublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurablePublisher").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
