//! Publishing: encode, look who wants it, claim, copy, commit, wake. One exclusive handle a thread or task.

mod loan;
mod outgoing;
mod refusal;
mod send;
mod wait;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;

use crate::event::{
    Encode, Event, EventId, EventSource, ExtensionBuffer, HEADER_BYTES, Header, IdSource, Payload, Priority, RustType,
    Tag, Topic,
};
use crate::ring::{Block, Claimant, HEAD_BYTES};
use crate::worker::PublisherCounts;

use super::batch::Collected;
use super::{Batch, Shared};

pub use loan::Loan;
pub use outgoing::Outgoing;
pub use refusal::{FullPolicy, PublishError};

pub(super) use refusal::lane_full;
use wait::Waiting;

const _: () = assert!(HEADER_BYTES == HEAD_BYTES, "the event floor and the ring floor agree on the head");

/// Topics a publisher remembers without a look-up.
const CACHE: usize = 64;

/// What an event is published under, with what payload: a [`Topic`] with a reference to its type, or a topic's name
/// with a [`Payload`].
pub trait Subject<P>: Copy {
    #[doc(hidden)]
    fn name(&self) -> &str;

    /// The name for ever, and the Rust type, of a typed topic.
    #[doc(hidden)]
    fn typed(&self) -> Option<(&'static str, RustType)>;
}

impl<E: Event> Subject<&E> for Topic<E> {
    #[inline]
    fn name(&self) -> &str {
        Topic::name(self)
    }

    #[inline]
    fn typed(&self) -> Option<(&'static str, RustType)> {
        Some((Topic::name(self), RustType::of::<E>()))
    }
}

impl<'p> Subject<Payload<'p>> for &str {
    #[inline]
    fn name(&self) -> &str {
        self
    }

    #[inline]
    fn typed(&self) -> Option<(&'static str, RustType)> {
        None
    }
}

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

/// An exclusive handle to publish with: one a thread or task. Its events keep their order within a priority.
///
/// Verbs: `publish` follows the [`FullPolicy`], `try_publish` never waits, `publish_deadline` waits at most so long,
/// `publish_async` waits without blocking the thread.
pub struct Publisher {
    shared: Arc<Shared>,
    place: usize,
    claimant: Claimant,
    ids: IdSource,
    source: String,
    source_id: u32,
    policy: FullPolicy,
    arena: Arena,
    scratch: AlignedVec<16>,
    extension: ExtensionBuffer,
    cache: Box<[Option<Known>; CACHE]>,
    names: AHashMap<Box<str>, u32>,
    /// Typed topics that share a place in the cache with another, by address and length of the name and Rust type.
    typed: AHashMap<(usize, usize, TypeId), u32>,
    sources: AHashMap<Box<str>, u32>,
    prepared: Option<Prepared>,
    /// Events of the batch being collected: a batch that is forgotten loses no block.
    collected: Collected,
    /// Instant of the last stamp, and publishes since.
    stamp: u64,
    unstamped: u32,
    /// Sequences at which the lanes' depth is next looked at for sleeping laggards.
    laggards_at: [u64; 4],
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, PublishError> {
        if shared.engine.phase() != crate::worker::Phase::Running {
            return Err(PublishError::ShuttingDown);
        }
        let max = shared.settings.publishers_max;
        let (place, nth) = shared.control().take_publisher().ok_or(PublishError::NoPublisher { max })?;
        let engine = &shared.engine;
        let mut scratch = AlignedVec::with_capacity(engine.lanes.body_bytes());
        scratch.resize(engine.lanes.body_bytes() - HEAD_BYTES, 0);
        let source = shared.settings.source.clone();
        Ok(Self {
            place,
            claimant: Claimant::new(Arc::clone(&engine.lanes), shared.settings.exclusive),
            ids: shared.settings.id_seed.map_or_else(IdSource::new, |seed| IdSource::seeded(seed.wrapping_add(nth))),
            source_id: engine.directory.intern_source(&source),
            source,
            policy: shared.settings.full_policy,
            arena: Arena::new(),
            scratch,
            extension: ExtensionBuffer::default(),
            cache: Box::new([None; CACHE]),
            names: AHashMap::new(),
            typed: AHashMap::new(),
            sources: AHashMap::new(),
            prepared: None,
            collected: Collected::default(),
            stamp: 0,
            // So that the first event is stamped, whatever the policy.
            unstamped: u32::MAX - 1,
            laggards_at: engine.claimed(),
            shared,
        })
    }

    /// Registers another publisher of the same bus, with this one's source and policy.
    ///
    /// # Errors
    /// When `publishers_max` are alive already, or the bus is shutting down.
    pub fn try_clone(&self) -> Result<Self, PublishError> {
        let mut clone = Self::new(Arc::clone(&self.shared))?;
        clone.policy = self.policy;
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
        self.source_id = self.shared.engine.directory.intern_source(source.as_str());
        source.as_str().clone_into(&mut self.source);
        Ok(self)
    }

    /// What `publish` does at a full lane.
    pub fn set_full_policy(&mut self, policy: FullPolicy) -> &mut Self {
        self.policy = policy;
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
    pub fn event(&mut self) -> Outgoing<'_> {
        self.collected.clear();
        self.begin()
    }

    /// Begins an event that may be one of a batch.
    pub(super) fn begin(&mut self) -> Outgoing<'_> {
        self.extension.clear();
        self.prepared = None;
        let source_id = self.source_id;
        let envelope = Envelope {
            priority: Priority::Normal,
            id: None,
            time: 0,
            deadline: 0,
            due: 0,
            schema: 1,
            attempt: 1,
            source_id,
        };
        if source_id == 0 {
            self.extension.text(Tag::Source, "source", &self.source, EventSource::BYTES_MAX);
        }
        Outgoing { publisher: self, envelope }
    }

    /// Begins an event of this priority.
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
    pub fn publish<S: Subject<P>, P: Encode + Copy>(&mut self, topic: S, payload: P) -> Result<EventId, PublishError> {
        self.event().publish(topic, payload)
    }

    /// Publishes at Normal priority, or fails at once.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn try_publish<S: Subject<P>, P: Encode + Copy>(
        &mut self,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        self.event().try_publish(topic, payload)
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
    /// published nothing.
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
        Batch::new(self, priority)
    }

    /// Lends a block of the pool to write a payload of `bytes` into, so that a large one is not copied. Dropped or
    /// forgotten, nothing is published, and the block goes back to the pool at the latest with this publisher's next event.
    ///
    /// # Errors
    /// When the payload is larger than allowed, or no block is free.
    pub fn loan(&mut self, bytes: usize) -> Result<Loan<'_>, PublishError> {
        self.collected.clear();
        self.prepared = None;
        let max = self.shared.settings.payload_bytes_max;
        let taken = if bytes > max { Err(PublishError::TooLarge { bytes, max }) } else { self.take_block(bytes) };
        let block = self.settle(taken)?;
        let header = blank_header();
        self.prepared = Some(Prepared { header, priority: Priority::Normal, block: Some(block), due: 0 });
        Ok(Loan { publisher: self, bytes })
    }

    fn counts(&self) -> &PublisherCounts {
        &self.shared.engine.publishers[self.place].counts
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
        let counts = self.counts();
        match error {
            PublishError::Full { .. } => counts.full.add(1),
            PublishError::TimedOut { .. } => counts.timed_out.add(1),
            PublishError::PoolExhausted { .. } => counts.pool_exhausted.add(1),
            PublishError::Shed { .. } => counts.shed.add(1),
            PublishError::ShuttingDown => counts.shutting_down.add(1),
            PublishError::ScheduleFull { .. } => counts.schedule_full.add(1),
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

    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn policy(&self) -> FullPolicy {
        self.policy
    }
}

fn blank_header() -> Header {
    Header {
        id: [0; 16],
        time: 0,
        deadline: 0,
        type_id: 0,
        source_id: 0,
        payload_bytes: 0,
        extension_bytes: 0,
        schema: 1,
        priority: Priority::Normal as u8,
        encoding: 0,
        attempt: 1,
        flags: 0,
        check: 0,
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.engine.gate.leave(self.place);
        self.shared.control().give_publisher(self.place);
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("source", &self.source).field("place", &self.place).finish_non_exhaustive()
    }
}
