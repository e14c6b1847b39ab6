//! Publishing: encode, look who wants it, claim, copy, commit, wake. One exclusive handle a thread or task.

mod again;
mod frame;
mod loan;
mod outgoing;
mod permit;
mod plain;
mod refusal;
mod send;
mod stamps;
mod subject;
mod targets;
mod wait;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;

use crate::event::{
    Encode, EventId, EventSource, ExtensionBuffer, HEADER_BYTES, Header, IdSource, Priority, RustType, Tag,
};
use crate::ring::{Block, Claimant, HEAD_BYTES, LANES};
use crate::sync::parker::Parker;
use crate::worker::{Engine, PublisherSlot};

use super::batch::Collected;
use super::{Batch, Shared};

pub(super) use again::{Again, SameTopic};
pub use frame::OutgoingFrame;
pub use loan::Loan;
pub use outgoing::Outgoing;
pub use refusal::{FullPolicy, PublishError};
pub use subject::Subject;

pub(super) use permit::Permit;
use permit::Permits;
use plain::{Detour, Miss};
pub(super) use refusal::{closed, lane_full};
use stamps::Stamps;
use subject::Latest;
use wait::Waiting;

const _: () = assert!(HEADER_BYTES == HEAD_BYTES, "the event floor and the ring floor agree on the head");

/// Topics a publisher remembers without a look-up.
const CACHE: usize = 64;

/// A typed topic as the publisher has met it.
#[derive(Debug, Clone, Copy)]
struct Known {
    name: &'static str,
    rust: RustType,
    type_id: u32,
}

/// An event that is encoded and not yet in a lane.
#[derive(Debug)]
struct Prepared {
    header: Header,
    priority: Priority,
    /// Extension and payload, when they do not fit a slot; otherwise they are in the publisher's scratch.
    block: Option<Block>,
    /// Not before this instant; 0 = now.
    due: u64,
}

/// The fields of an envelope that live in the hot header.
#[derive(Debug, Clone, Copy)]
struct Envelope {
    priority: Priority,
    id: Option<EventId>,
    /// Instant of creation; 0 = now.
    time: u64,
    deadline: u64,
    due: u64,
    schema: u16,
    attempt: u8,
    source_id: u32,
}

impl Envelope {
    /// Of an event that says nothing but its priority.
    #[inline(always)]
    const fn plain(priority: Priority, source_id: u32) -> Self {
        Self { priority, id: None, time: 0, deadline: 0, due: 0, schema: 1, attempt: 1, source_id }
    }

    #[inline(always)]
    fn is_plain(&self, source_id: u32) -> bool {
        let Self { priority: _, id, time, deadline, due, schema, attempt, source_id: own } = self;
        id.is_none() && (*time | *deadline | *due) == 0 && (*schema, *attempt, *own) == (1, 1, source_id)
    }
}

/// An exclusive handle to publish with: one a thread or task. Its events keep their order within a priority.
///
/// Verbs: `publish` follows the [`FullPolicy`], `try_publish` never waits, `publish_deadline` waits at most so long,
/// `publish_async` waits without blocking the thread.
pub struct Publisher {
    // What every publish touches.
    latest: Latest,
    engine: Arc<Engine>,
    parker: Arc<Parker>,
    slot: Arc<PublisherSlot>,
    claimant: Claimant,
    stamps: Stamps,
    source_id: u32,
    policy: FullPolicy,
    /// Low events go the long way: by the policy, or because the bus looks after its memory.
    may_refuse_low: bool,
    payload_bytes_max: usize,
    arena: Arena,
    scratch: AlignedVec<16>,
    // The rest.
    shared: Arc<Shared>,
    place: usize,
    source: String,
    permits: Permits,
    extension: ExtensionBuffer,
    cache: Box<[Option<Known>; CACHE]>,
    names: AHashMap<Box<str>, u32>,
    /// Typed topics that share a place in the cache with another, by address and length of the name and Rust type.
    typed: AHashMap<(usize, usize, TypeId), u32>,
    sources: AHashMap<Box<str>, u32>,
    prepared: Option<Prepared>,
    /// Bytes of a payload that the short way found too long for a slot, for the long way to begin with.
    needs: Option<usize>,
    /// Events of the batch being collected: a batch that is forgotten loses no block.
    collected: Collected,
    /// The gate, a lane, at which its sleeping holders were last woken by a refusal.
    woken_at: [Option<u64>; LANES],
    /// Refusals at a gate at which they were woken before, until it looks for what does not move there.
    refusals_left: u32,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, PublishError> {
        if shared.engine.phase() != crate::worker::Phase::Running {
            return Err(closed(&shared.engine));
        }
        let max = shared.settings.publishers_max;
        let (place, nth) = loop {
            let taken = shared.control().take_publisher();
            match taken {
                Some(taken) => break taken,
                // `Bus::publish` keeps those it has lent out; here one makes room.
                None if shared.spare.pop().is_some() => {}
                None => return Err(PublishError::NoPublisher { max }),
            }
        };
        let engine = Arc::clone(&shared.engine);
        let mut scratch = AlignedVec::with_capacity(engine.lanes.body_bytes());
        scratch.resize(engine.lanes.body_bytes() - HEAD_BYTES, 0);
        let settings = &shared.settings;
        let source = settings.source.clone();
        let permits = Permits::new(Arc::clone(&shared.limits));
        let ids = settings.id_seed.map_or_else(IdSource::new, |seed| IdSource::seeded(seed.wrapping_add(nth)));
        Ok(Self {
            latest: Latest::new(),
            parker: Arc::clone(&engine.parker),
            slot: Arc::clone(&engine.publishers[place]),
            claimant: Claimant::new(Arc::clone(&engine.lanes), settings.exclusive)
                .with_mark(engine.pressure.mark(engine.lanes.limit())),
            stamps: Stamps::new(settings.stamps, ids),
            source_id: engine.directory.intern_source(&source),
            policy: settings.full_policy,
            may_refuse_low: Self::may_refuse_low(settings.full_policy, &engine),
            permits,
            payload_bytes_max: settings.payload_bytes_max,
            arena: Arena::new(),
            scratch,
            place,
            source,
            extension: ExtensionBuffer::default(),
            cache: Box::new([None; CACHE]),
            names: AHashMap::new(),
            typed: AHashMap::new(),
            sources: AHashMap::new(),
            prepared: None,
            needs: None,
            collected: Collected::default(),
            woken_at: [None; LANES],
            refusals_left: plain::LOOK_REFUSALS,
            engine,
            shared,
        })
    }

    /// Registers another publisher of the same bus, with this one's source and policy.
    ///
    /// # Errors
    /// When `publishers_max` are alive already, or the bus is shutting down.
    pub fn try_clone(&self) -> Result<Self, PublishError> {
        let mut clone = Self::new(Arc::clone(&self.shared))?;
        clone.set_full_policy(self.policy);
        clone.source.clone_from(&self.source);
        clone.source_id = self.source_id;
        Ok(clone)
    }

    /// Names who publishes by this handle. Default: `service:` and the name of the bus.
    ///
    /// # Errors
    /// When the source has more than 255 bytes.
    pub fn set_source(&mut self, source: impl Into<EventSource>) -> Result<&mut Self, PublishError> {
        let source = source.into();
        let (bytes, max) = (source.as_str().len(), EventSource::BYTES_MAX);
        if bytes > max {
            return Err(PublishError::SourceTooLong { bytes, max });
        }
        self.source_id = self.engine.directory.intern_source(source.as_str());
        self.latest.forget();
        source.as_str().clone_into(&mut self.source);
        Ok(self)
    }

    /// What `publish` does at a full lane.
    pub fn set_full_policy(&mut self, policy: FullPolicy) -> &mut Self {
        self.policy = policy;
        self.may_refuse_low = Self::may_refuse_low(policy, &self.engine);
        self
    }

    /// Begins an event with more to say than its payload.
    ///
    /// ```
    /// # use ringmain::{Bus, EventId, Payload, Priority};
    /// # let bus = Bus::builder().build()?;
    /// # let mut publisher = bus.publisher()?;
    /// let id = publisher
    ///     .event()
    ///     .priority(Priority::High)
    ///     .correlation(EventId::random())
    ///     .metadata("user", "ada")
    ///     .publish("orders.placed", Payload::json(r#"{"id": 7}"#))?;
    /// # let _ = id;
    /// # bus.shutdown()?;
    /// # Ok::<(), ringmain::Error>(())
    /// ```
    #[inline]
    pub fn event(&mut self) -> Outgoing<'_> {
        self.collected.clear();
        self.begin()
    }

    /// Begins an event that may be one of a batch.
    #[inline]
    pub(super) fn begin(&mut self) -> Outgoing<'_> {
        if !self.extension.is_empty() || self.prepared.is_some() {
            self.tidy_up();
        }
        self.needs = None;
        let envelope = Envelope::plain(Priority::Normal, self.source_id);
        if self.source_id == 0 {
            self.extension.text(Tag::Source, "source", &self.source, EventSource::BYTES_MAX);
        }
        Outgoing { publisher: self, envelope }
    }

    /// Forgets the event before: its envelope, and its block when it was given up.
    #[cold]
    fn tidy_up(&mut self) {
        self.extension.clear();
        self.prepared = None;
    }

    /// Begins an event of this priority.
    #[inline]
    pub fn at(&mut self, priority: Priority) -> Outgoing<'_> {
        self.event().priority(priority)
    }

    /// Publishes at Normal priority; at a full lane it does what the [`FullPolicy`] says. Returns the event's id.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing of a refused event is in the bus.
    ///
    /// # Cost
    /// Lock-free and without allocation once topic and sizes are known. Wakes only sleeping workers that have a
    /// subscription for the topic. An event that nobody subscribed to takes no slot.
    #[inline]
    pub fn publish<S: Subject<P>, P: Encode + Copy>(&mut self, topic: S, payload: P) -> Result<EventId, PublishError> {
        match self.at_once(&topic, &payload, Priority::Normal) {
            Ok(id) => Ok(id),
            Err(miss) => self.publish_after_a_miss(miss, topic, payload),
        }
    }

    #[cold]
    #[inline(never)]
    fn publish_after_a_miss<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        miss: Miss,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        match self.after_a_miss(miss, &topic, &payload, Priority::Normal) {
            Ok(id) => Ok(id),
            Err(detour) => {
                let limit = self.policy.wait_limit();
                self.event().publish_after(detour, limit, topic, payload)
            }
        }
    }

    /// Publishes at Normal priority, or fails at once.
    ///
    /// # Errors
    /// See [`PublishError`].
    ///
    /// # Cost
    /// As [`publish`](Self::publish). Refused for a full lane, the event was not encoded: one that would turn out too large
    /// only then hears `Full` until there is room. One whose length is known, as a [`Payload`](crate::Payload)'s is, hears
    /// `TooLarge` whatever its lane.
    #[inline]
    pub fn try_publish<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        match self.at_once(&topic, &payload, Priority::Normal) {
            Ok(id) => Ok(id),
            Err(miss) => self.try_publish_after_a_miss(miss, topic, payload),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_publish_after_a_miss<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        miss: Miss,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        match self.after_a_miss(miss, &topic, &payload, Priority::Normal) {
            Ok(id) => Ok(id),
            Err(Detour::Full(full)) => Err(self.refuse(Priority::Normal, full, payload)),
            Err(detour) => self.event().publish_after(detour, None, topic, payload),
        }
    }

    /// Publishes at Normal priority, waiting at most `limit`.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_deadline<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        topic: S,
        payload: P,
        limit: Duration,
    ) -> Result<EventId, PublishError> {
        self.event().publish_deadline(topic, payload, limit)
    }

    /// Publishes at Normal priority, awaiting room; on any async runtime. Dropped before it is ready, it has
    /// published nothing. Polled where it would wait for itself, it is [`PublishError::Full`] at once: on a worker, and in the
    /// future of a [`run`](crate::Subscribe::run) handler whose own full mailbox holds the lane up.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_async<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        topic: S,
        payload: P,
    ) -> impl Future<Output = Result<EventId, PublishError>> {
        self.event().publish_async(topic, payload)
    }

    /// Publishes all events of one topic in one piece, or none: see [`Batch`].
    ///
    /// # Errors
    /// See [`PublishError`]; when any event is refused, none is published.
    pub fn publish_batch<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        topic: S,
        payloads: impl IntoIterator<Item = P>,
    ) -> Result<Vec<EventId>, PublishError> {
        let mut batch = self.batch(Priority::Normal);
        for payload in payloads {
            batch.add(topic, payload)?;
        }
        batch.publish()
    }

    /// Begins a batch of events of one priority.
    pub fn batch(&mut self, priority: Priority) -> Batch<'_> {
        self.latest.forget();
        Batch::new(self, priority)
    }

    /// Lends a block of the pool to write a payload of `bytes` into, so that a large one is not copied. Dropped or
    /// forgotten, nothing is published, and the block goes back to the pool at the latest with this publisher's next event.
    ///
    /// # Errors
    /// When the payload is larger than allowed, or no block is free.
    pub fn loan(&mut self, bytes: usize) -> Result<Loan<'_>, PublishError> {
        self.latest.forget();
        self.collected.clear();
        self.prepared = None;
        let max = self.payload_bytes_max;
        let taken = if bytes > max { Err(PublishError::TooLarge { bytes, max }) } else { self.take_block(bytes) };
        let block = self.settle(taken)?;
        self.prepared =
            Some(Prepared { header: Header::BLANK, priority: Priority::Normal, block: Some(block), due: 0 });
        Ok(Loan { publisher: self, bytes })
    }

    /// An id of those that its events get.
    pub(super) fn fresh_id(&mut self) -> EventId {
        self.stamps.fresh_id()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Books a refusal, once a call.
    #[inline]
    pub(super) fn settle<R>(&mut self, result: Result<R, PublishError>) -> Result<R, PublishError> {
        if let Err(error) = &result {
            self.book(error);
        }
        result
    }

    #[cold]
    fn book(&mut self, error: &PublishError) {
        self.prepared = None;
        let counts = &self.slot.counts;
        match error {
            PublishError::Full { .. } => counts.full.add(1),
            PublishError::TimedOut { .. } => counts.timed_out.add(1),
            PublishError::PoolExhausted { .. } => counts.pool_exhausted.add(1),
            PublishError::Shed { .. } => counts.shed.add(1),
            PublishError::ShuttingDown | PublishError::WorkerFailed { .. } => counts.shutting_down.add(1),
            PublishError::ScheduleFull { .. } => counts.schedule_full.add(1),
            PublishError::RateLimited { .. } | PublishError::BatchOverRate { .. } => counts.rate_limited.add(1),
            PublishError::MemoryPressure { .. } => counts.memory_pressure.add(1),
            _ => counts.invalid.add(1),
        }
    }

    pub(super) fn collected(&self) -> &Collected {
        &self.collected
    }

    pub(super) fn collected_mut(&mut self) -> &mut Collected {
        &mut self.collected
    }

    pub(super) fn claimant(&mut self) -> &mut Claimant {
        &mut self.claimant
    }

    pub(super) fn slot(&self) -> &Arc<PublisherSlot> {
        &self.slot
    }

    pub(super) fn policy(&self) -> FullPolicy {
        self.policy
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.engine.gate.leave(self.place);
        self.shared.control().give_publisher(self.place);
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("source", &self.source).field("place", &self.place).finish_non_exhaustive()
    }
}
