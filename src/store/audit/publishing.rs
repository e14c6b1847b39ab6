//! Who publishes what: a subscription that writes a record of each event, or of how many there were.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{
    Bus, Delivery, EventId, Mailbox, Meta, Notice, Overflow, Pattern, RecvError, SubscribeError, SubscriptionId,
};

use super::{AuditAct, AuditError, AuditTrail, Entry};

/// Events that may wait for their records.
const WAITING_MAX: usize = 8_192;
/// Events whose records are written at once.
const BATCH: usize = 256;
/// Sources and topics that are counted apart; for one more all counts are written first.
const COUNTED_MAX: usize = 1_024;
/// The longest time between two records of a count.
const EVERY_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a store that failed is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// How much of publishing is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditGranularity {
    /// A record of each event, at the time of its publication, caused by it.
    Each,
    /// A record of how many events of a topic a source has published, so often.
    Counted {
        /// How often, once a day at least. A process that is killed has not recorded what it counted since the last time.
        every: Duration,
    },
}

/// Records who publishes, until it is dropped: what it has heard of is recorded then, if the store takes it.
///
/// The actor is the source of the event, the action `event.published`, the object `topic` and its name.
///
/// Publishing never waits for its records. While the store fails, 8,192 events wait; of those that come then there is no record, which is
/// counted, told by [`Notice::StorageDropped`], and recorded as `events.unrecorded` when the store works again.
#[must_use = "nothing more is recorded when it is dropped"]
pub struct AuditPublishing {
    bus: Bus,
    id: SubscriptionId,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What became of the events that were to be recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditPublishingCounts {
    /// Events that there is a record of, their own or one that counts them.
    pub recorded: u64,
    /// Events that there is no record of: the store failed for too long.
    pub unrecorded: u64,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    ending: Condvar,
}

#[derive(Default)]
struct Inner {
    counts: AuditPublishingCounts,
    /// Events that the mailbox had no room for, as far as they are counted.
    dropped: u64,
    is_ending: bool,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Numbers and a flag, each whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the events that the mailbox had no room for since this was asked.
    fn count_dropped(&self, bus: &Bus, id: SubscriptionId) -> u64 {
        let Ok(record) = bus.subscription(id) else { return 0 };
        let mut inner = self.inner();
        let events = record.ledger.dropped.total().saturating_sub(inner.dropped);
        inner.dropped += events;
        inner.counts.unrecorded += events;
        events
    }
}

impl AuditTrail {
    /// Records who publishes events whose topic matches a pattern, those that come from now on.
    ///
    /// ```
    /// use ringmain::store::{AuditGranularity, AuditQuery, AuditTrail, MemoryStore};
    /// use ringmain::{Bus, Pattern, Payload};
    /// use std::sync::Arc;
    ///
    /// let bus = Bus::builder().build()?;
    /// let store = Arc::new(MemoryStore::new());
    /// let trail = AuditTrail::over(&bus, store.clone())?;
    /// let payments = trail.publishing(Pattern::new("payments.**")?, AuditGranularity::Each)?;
    /// bus.publisher()?.event().source("desk 7").publish("payments.made", Payload::json("{}"))?;
    /// bus.flush()?; // Of each event, this waits for its record.
    ///
    /// let record = AuditQuery::new().actor("desk 7").stream(&*store).next().unwrap()?;
    /// assert_eq!((record.action(), record.object()), ("event.published".into(), "topic payments.made".into()));
    /// # drop((payments, trail));
    /// # bus.shutdown()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the bus has no room for the subscription, or the system none for its thread.
    ///
    /// # Cost
    /// A mailbox and a thread; of [`Each`](AuditGranularity::Each) an append for up to 256 events of a topic.
    pub fn publishing(&self, pattern: Pattern, granularity: AuditGranularity) -> Result<AuditPublishing, AuditError> {
        let bus = self.0.bus.clone();
        let name = format!("audit {}", pattern.as_str());
        let wish = bus.subscribe(pattern).named(name.as_str()).capacity(WAITING_MAX).overflow(Overflow::DropNewest);
        let mailbox = wish.mailbox().map_err(AuditError::Subscribe)?;
        let (id, shared) = (mailbox.id(), Arc::<Shared>::default());
        let recorder = Recorder {
            trail: self.clone(),
            id,
            name: name.clone(),
            granularity,
            shared: Arc::clone(&shared),
            counted: BTreeMap::new(),
            flush_at: Instant::now(),
            failing: None,
            look_at: Instant::now(),
        };
        let thread = thread::Builder::new().name(format!("ringmain-{name}")).spawn(move || recorder.run(mailbox));
        let thread = thread.map_err(|error| AuditError::Thread(error.to_string()))?;
        Ok(AuditPublishing { bus, id, shared, thread: Some(thread) })
    }
}

impl AuditPublishing {
    /// What became of the events.
    pub fn counts(&self) -> AuditPublishingCounts {
        self.shared.inner().counts
    }

    /// Ends it, as its drop does: records what it has heard of, if the store takes it. Returns what became of the events.
    pub fn end(mut self) -> AuditPublishingCounts {
        self.stop();
        self.counts()
    }

    fn stop(&mut self) {
        self.shared.count_dropped(&self.bus, self.id);
        self.shared.inner().is_ending = true;
        self.shared.ending.notify_all();
        match self.bus.unsubscribe(self.id) {
            Err(SubscribeError::OnWorker) => {}
            _ => {
                // Its panic has been printed.
                if let Some(thread) = self.thread.take() {
                    drop(thread.join());
                }
            }
        }
    }
}

impl Drop for AuditPublishing {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for AuditPublishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditPublishing").field("id", &self.id).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

/// How many events of a topic a source has published.
struct Counted {
    events: u64,
    last: EventId,
}

/// The thread.
struct Recorder {
    trail: AuditTrail,
    id: SubscriptionId,
    name: String,
    granularity: AuditGranularity,
    shared: Arc<Shared>,
    /// By topic and source.
    counted: BTreeMap<(String, String), Counted>,
    flush_at: Instant,
    /// Since when the store fails.
    failing: Option<Instant>,
    /// When to look for events that the mailbox had no room for.
    look_at: Instant,
}

/// A record of its own that waits for the store.
#[derive(Debug, Clone)]
struct Waiting {
    act: AuditAct,
    actor: String,
    event: EventId,
    created_unix_ns: Option<u64>,
    events: u64,
}

impl Waiting {
    fn entry(&self) -> Entry<'_> {
        let Self { act, actor, event, created_unix_ns, events: _ } = self;
        Entry { act, actor, cause: Some(*event), created_unix_ns: *created_unix_ns }
    }
}

/// What is recorded of an event that was published: its topic, source, id, time, priority and length.
#[derive(Debug, Clone)]
pub struct AuditedEvent(Waiting);

impl AuditedEvent {
    /// Of this event.
    pub fn of(meta: &Meta<'_>) -> Self {
        let (id, bytes) = (meta.id(), meta.payload().bytes().len());
        Self(Waiting {
            act: published(meta.topic()).after(format!("{id}, {} priority, {bytes} bytes", meta.priority())),
            actor: meta.source().to_owned(),
            event: id,
            created_unix_ns: Some(meta.unix_ns()),
            events: 1,
        })
    }
}

impl AuditTrail {
    /// Records that events were published, one record each and those of a topic in one append: for whoever takes events and settles them
    /// when there is a record of them. [`publishing`](Self::publishing) does both.
    ///
    /// # Errors
    /// See [`AuditError`]; of some topics there may be records then.
    pub fn record_published(&self, events: impl IntoIterator<Item = AuditedEvent>) -> Result<(), AuditError> {
        let mut waiting: Vec<_> = events.into_iter().map(|event| event.0).collect();
        waiting.sort_by(|one, other| one.act.object().cmp(other.act.object()));
        for of_object in waiting.chunk_by(|one, other| one.act.object() == other.act.object()) {
            self.0.append(&of_object.iter().map(Waiting::entry).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

impl Recorder {
    fn run(mut self, mut mailbox: Mailbox<Pattern>) {
        loop {
            let limit = match self.granularity {
                AuditGranularity::Counted { .. } if !self.counted.is_empty() => {
                    self.flush_at.saturating_duration_since(Instant::now())
                }
                _ => AGAIN,
            };
            let is_over = match mailbox.recv_deadline(limit) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(std::iter::from_fn(|| mailbox.try_recv().ok()).take(BATCH - 1));
                    self.take(batch);
                    false
                }
                Err(RecvError::TimedOut { .. }) => false,
                Err(_) => true,
            };
            if is_over || Instant::now() >= self.flush_at {
                self.flush();
            }
            if is_over || Instant::now() >= self.look_at {
                self.look_at = Instant::now() + AGAIN;
                self.tell_dropped();
            }
            if is_over {
                return;
            }
        }
    }

    fn take(&mut self, batch: Vec<Delivery<Pattern>>) {
        match self.granularity {
            AuditGranularity::Each => {
                self.write(batch.iter().map(|delivery| AuditedEvent::of(&delivery.meta()).0).collect());
                // Whoever flushes the bus waits for the records.
                for delivery in batch {
                    delivery.ack();
                }
            }
            AuditGranularity::Counted { every } => {
                for delivery in batch {
                    let meta = delivery.meta();
                    if self.counted.is_empty() {
                        self.flush_at = Instant::now() + every.min(EVERY_MAX);
                    }
                    let (key, last) = ((meta.topic().to_owned(), meta.source().to_owned()), meta.id());
                    let counted = self.counted.entry(key).or_insert(Counted { events: 0, last });
                    counted.events += 1;
                    counted.last = last;
                    delivery.ack();
                    if self.counted.len() > COUNTED_MAX {
                        self.flush();
                    }
                }
            }
        }
    }

    /// Writes what was counted.
    fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.counted).into_iter().map(|((topic, source), counted)| Waiting {
            act: published(&topic).after(format!("{} events, the last of them {}", counted.events, counted.last)),
            actor: source,
            event: counted.last,
            created_unix_ns: None,
            events: counted.events,
        });
        let waiting: Vec<_> = waiting.collect();
        self.write(waiting);
    }

    /// Writes records, those of an object in one piece; tries again until the store takes them, or this ends.
    fn write(&mut self, mut waiting: Vec<Waiting>) {
        waiting.sort_by(|one, other| one.act.object().cmp(other.act.object()));
        for of_object in waiting.chunk_by(|one, other| one.act.object() == other.act.object()) {
            let entries: Vec<_> = of_object.iter().map(Waiting::entry).collect();
            let events = of_object.iter().map(|one| one.events).sum();
            if self.keep(&entries, events).is_continue() {
                self.shared.inner().counts.recorded += events;
            }
        }
    }

    /// Breaks when it gives up.
    fn keep(&mut self, entries: &[Entry<'_>], events: u64) -> ControlFlow<()> {
        loop {
            let error = match self.trail.0.append(entries) {
                Ok(_) => {
                    self.recover();
                    return ControlFlow::Continue(());
                }
                Err(error) => error,
            };
            // No attempt helps what can be no record.
            let is_hopeless = matches!(error, AuditError::Record(_));
            let reason = error.to_string();
            if !is_hopeless && self.failing.is_none() {
                self.failing = Some(Instant::now());
                let notice = Notice::StorageFailed { name: &self.name, error: &reason, waiting: events };
                self.trail.0.bus.notify(&notice);
            }
            if is_hopeless || self.is_ending_after(AGAIN) {
                self.shared.inner().counts.unrecorded += events;
                if let Some(event) = entries.first().and_then(|entry| entry.cause) {
                    self.trail.0.tell(&self.name, event, &reason);
                }
                return ControlFlow::Break(());
            }
        }
    }

    fn is_ending_after(&self, limit: Duration) -> bool {
        let inner = self.shared.inner();
        let waited = self.shared.ending.wait_timeout_while(inner, limit, |inner| !inner.is_ending);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_ending
    }

    fn recover(&mut self) {
        if let Some(since) = self.failing.take() {
            let dropped = self.shared.inner().counts.unrecorded;
            let notice = Notice::StorageReturned { name: &self.name, after: since.elapsed(), dropped };
            self.trail.0.bus.notify(&notice);
        }
    }

    /// Records how many events the mailbox had no room for.
    fn tell_dropped(&mut self) {
        let events = self.shared.count_dropped(&self.trail.0.bus, self.id);
        if events == 0 {
            return;
        }
        let act = AuditAct::new("events.unrecorded", self.name.as_str()).after(format!("{events} events"));
        let entry = Entry { act: &act, actor: "ringmain", cause: None, created_unix_ns: None };
        // What is not said here is counted all the same.
        let _ = self.keep(&[entry], 0);
    }
}

fn published(topic: &str) -> AuditAct {
    AuditAct::new("event.published", format!("topic {topic}"))
}
