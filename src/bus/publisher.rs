//! Publishing: encode, look who wants it, claim, copy, commit, wake. One exclusive handle a thread or task.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use ahash::AHashMap;
use crossbeam::utils::Backoff;
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;

use crate::event::{
    Aggregate, Encode, EncodeFault, EnvelopeError, Event, EventId, EventSource, ExtensionBuffer, FLAG_STAMPED,
    HEADER_BYTES, Header, IdSource, Meta, Payload, Priority, RustType, ServiceTarget, Tag, Topic, TopicError,
    TypeConflict, check_name,
};
use crate::ring::{Block, Claimant, Frame, HEAD_BYTES, LaneFull, Rest};
use crate::sync::primitive::thread;
use crate::sync::waker::of_this_thread;
use crate::worker::{PublisherCounts, Scheduled, StampPolicy};

use super::batch::Collected;
use super::{Batch, Explanation, Shared};

const _: () = assert!(HEADER_BYTES == HEAD_BYTES, "the event floor and the ring floor agree on the head");

/// Topics a publisher remembers without a look-up.
const CACHE: usize = 64;

/// What a publish does when its lane, or the pool for large payloads, is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FullPolicy {
    wait: Option<Duration>,
    shed_low_above_percent: Option<u8>,
}

impl FullPolicy {
    /// Refuses at once, with [`PublishError::Full`].
    pub const REJECT: Self = Self { wait: None, shed_low_above_percent: None };

    /// Waits for room, at most `limit`, then fails with [`PublishError::TimedOut`]. The default, with 5 s.
    pub const fn wait(limit: Duration) -> Self {
        Self { wait: Some(limit), shed_low_above_percent: None }
    }

    /// In addition drops Low events, with [`PublishError::Shed`], while their lane is filled above `percent` of its
    /// limit, so that what is more urgent finds workers free.
    #[must_use]
    pub const fn shed_low_above(self, percent: u8) -> Self {
        Self { shed_low_above_percent: Some(percent), ..self }
    }

    pub(super) fn wait_limit(self) -> Option<Duration> {
        self.wait
    }

    /// The refusal of a Low event whose lane, with room for `limit`, is filled above the watermark.
    #[inline]
    pub(super) fn sheds(self, priority: Priority, claimant: &mut Claimant, limit: u64) -> Option<PublishError> {
        let (Priority::Low, Some(percent)) = (priority, self.shed_low_above_percent) else { return None };
        let watermark = limit * u64::from(percent) / 100;
        let depth = claimant.depth_if_above(priority.lane(), watermark);
        (depth > watermark).then_some(PublishError::Shed { depth, watermark })
    }
}

/// Why an event was not accepted. Nothing of it is in the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The lane is full.
    Full {
        /// Whose lane.
        priority: Priority,
        /// Events in it.
        depth: u64,
        /// The limit, `max_queue_size`.
        limit: u64,
        /// The worker that is furthest behind.
        gated_by: Option<usize>,
    },
    /// The lane stayed full for as long as the publisher was willing to wait.
    TimedOut {
        /// Whose lane.
        priority: Priority,
        /// How long it waited.
        after: Duration,
        /// The worker that was furthest behind.
        gated_by: Option<usize>,
    },
    /// A Low event, dropped because its lane is filled above the watermark.
    Shed {
        /// Events in the lane.
        depth: u64,
        /// The watermark, in events.
        watermark: u64,
    },
    /// The bus is shutting down or has stopped.
    ShuttingDown,
    /// The payload is longer than allowed.
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit, `payload_bytes_max`.
        max: usize,
    },
    /// No block of the pool is free for a payload that does not fit a slot.
    PoolExhausted {
        /// Bytes needed.
        bytes: usize,
    },
    /// Too many events wait for their not-before time.
    ScheduleFull {
        /// The limit, `scheduled_max`.
        max: u64,
    },
    /// The payload's own `Serialize` failed.
    Encode,
    /// The topic name breaks the rules.
    Topic(TopicError),
    /// The topic carries another Rust type.
    TypeConflict(TypeConflict),
    /// A field of the envelope breaks a limit.
    Envelope(EnvelopeError),
    /// All publishers the bus may have are taken.
    NoPublisher {
        /// The limit, `publishers_max`.
        max: usize,
    },
    /// A batch is longer than allowed.
    BatchTooLong {
        /// Its events.
        events: usize,
        /// The limit, `batch_max`.
        max: usize,
    },
    /// The events of a batch have different priorities.
    MixedPriority {
        /// The batch's.
        batch: Priority,
        /// The event's.
        event: Priority,
    },
    /// An event of a batch has a not-before time: a batch is accepted in one piece, now.
    ScheduledInBatch,
    /// A source is longer than allowed.
    SourceTooLong {
        /// Its bytes.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl PublishError {
    /// Whether trying again later can help.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::TimedOut { .. }
                | Self::Shed { .. }
                | Self::PoolExhausted { .. }
                | Self::ScheduleFull { .. }
        )
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { priority, depth, limit, gated_by: Some(worker) } => write!(
                f,
                "the {priority} lane holds {depth} events, the limit is {limit}, and worker {worker} is furthest behind; wait, or raise max_queue_size"
            ),
            Self::Full { priority, depth, limit, gated_by: None } => {
                write!(
                    f,
                    "the {priority} lane holds {depth} events, the limit is {limit}; wait, or raise max_queue_size"
                )
            }
            Self::TimedOut { priority, after, gated_by } => {
                write!(f, "the {priority} lane stayed full for {after:?}")?;
                if let Some(worker) = gated_by {
                    write!(f, "; look at the handlers of worker {worker}")?;
                }
                Ok(())
            }
            Self::Shed { depth, watermark } => write!(
                f,
                "a low event was shed: its lane holds {depth} events, the watermark is {watermark}; try later, or raise the priority"
            ),
            Self::ShuttingDown => f.write_str("the bus is shutting down and accepts no more events"),
            Self::TooLarge { bytes, max } => {
                write!(f, "payload is {bytes} bytes, the limit is {max}; raise payload_bytes_max")
            }
            Self::PoolExhausted { bytes } => write!(
                f,
                "no free block for a payload of {bytes} bytes; wait, give more with BusBuilder::blocks, or raise slot_bytes"
            ),
            Self::ScheduleFull { max: 0 } => {
                f.write_str("this bus takes no scheduled events: it has a single publisher, or scheduled_max is 0")
            }
            Self::ScheduleFull { max } => {
                write!(f, "{max} events wait for their time already; raise scheduled_max")
            }
            Self::Encode => f.write_str("the payload could not be serialised"),
            Self::Topic(error) => error.fmt(f),
            Self::TypeConflict(error) => error.fmt(f),
            Self::Envelope(error) => error.fmt(f),
            Self::NoPublisher { max } => {
                write!(f, "all {max} publishers are taken; drop one, or raise publishers_max (at most 63)")
            }
            Self::BatchTooLong { events, max } => {
                write!(f, "a batch of {events} events, the limit is {max}; split it, or raise batch_max")
            }
            Self::MixedPriority { batch, event } => {
                write!(f, "a {event} event in a {batch} batch; a batch has one priority")
            }
            Self::ScheduledInBatch => f.write_str("an event of a batch has a not-before time; publish it by itself"),
            Self::SourceTooLong { bytes, max } => write!(f, "the source has {bytes} bytes, the limit is {max}"),
        }
    }
}

impl std::error::Error for PublishError {}

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
        let place = shared.control().take_publisher().ok_or(PublishError::NoPublisher { max })?;
        let engine = &shared.engine;
        let mut scratch = AlignedVec::with_capacity(engine.lanes.body_bytes());
        scratch.resize(engine.lanes.body_bytes() - HEAD_BYTES, 0);
        let source = shared.settings.source.clone();
        Ok(Self {
            place,
            claimant: Claimant::new(Arc::clone(&engine.lanes), shared.settings.exclusive),
            ids: shared
                .settings
                .id_seed
                .map_or_else(IdSource::new, |seed| IdSource::seeded(seed.wrapping_add(place as u64))),
            source_id: engine.directory.intern_source(&source),
            source,
            policy: shared.settings.full_policy,
            arena: Arena::new(),
            scratch,
            extension: ExtensionBuffer::default(),
            cache: Box::new([None; CACHE]),
            names: AHashMap::new(),
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

    /// The id of a topic: from the cache, or by the directory.
    #[inline]
    fn resolve<P, S: Subject<P>>(&mut self, topic: &S) -> Result<u32, PublishError> {
        match topic.typed() {
            Some((name, rust)) => {
                let entry = ((name.as_ptr() as usize / 4) ^ name.len()) % CACHE;
                if let Some(known) = self.cache[entry]
                    && std::ptr::eq(known.name, name)
                    && known.rust.id == rust.id
                {
                    return Ok(known.type_id);
                }
                let type_id = self.shared.type_id(name);
                self.shared.engine.directory.bind(type_id, name, rust).map_err(PublishError::TypeConflict)?;
                if type_id != 0 {
                    self.cache[entry] = Some(Known { name, rust, type_id });
                }
                Ok(type_id)
            }
            None => {
                let name = topic.name();
                if let Some(&type_id) = self.names.get(name) {
                    return Ok(type_id);
                }
                check_name(name).map_err(PublishError::Topic)?;
                let type_id = self.shared.type_id(name);
                if type_id != 0 {
                    self.names.insert(name.into(), type_id);
                }
                Ok(type_id)
            }
        }
    }

    fn take_block(&self, bytes: usize) -> Result<Block, PublishError> {
        let engine = &self.shared.engine;
        engine.pool.take(bytes).ok_or_else(|| {
            // Sleeping laggards may hold blocks that they have no use for.
            engine.parker.wake(engine.lanes.active());
            PublishError::PoolExhausted { bytes }
        })
    }

    /// Copies the envelope's fields to the front of the scratch, where they fit. Returns their length.
    #[cold]
    fn place_extension(&mut self, type_id: u32, name: &str) -> Result<usize, PublishError> {
        if type_id == 0 {
            self.extension.text(Tag::TypeName, "topic", name, crate::event::NAME_BYTES_MAX);
        }
        let extension = self.extension.finish().map_err(PublishError::Envelope)?;
        if let Some(place) = self.scratch.get_mut(..extension.len()) {
            place.copy_from_slice(extension);
        }
        Ok(extension.len())
    }

    /// Encodes an event into a block.
    #[cold]
    fn encode_large<P: Encode>(
        &mut self,
        payload: &P,
        extension_bytes: usize,
        bytes: usize,
    ) -> Result<(usize, Block), PublishError> {
        let max = self.shared.settings.payload_bytes_max;
        if bytes > max {
            return Err(PublishError::TooLarge { bytes, max });
        }
        let mut block = self.take_block(extension_bytes + bytes)?;
        let (front, room) = block.bytes_mut().split_at_mut(extension_bytes);
        if extension_bytes > 0 {
            front.copy_from_slice(self.extension.finish().map_err(PublishError::Envelope)?);
        }
        match payload.encode(room, &mut self.arena) {
            Ok(bytes) if bytes <= max => Ok((bytes, block)),
            Ok(bytes) | Err(EncodeFault::Needs(bytes)) => Err(PublishError::TooLarge { bytes, max }),
            Err(EncodeFault::Refused) => Err(PublishError::Encode),
        }
    }

    /// Encodes an event: a short one into the scratch, a long one into a block. Nothing is claimed, so user code may
    /// fail or panic here.
    #[inline]
    fn encode<S: Subject<P>, P: Encode>(
        &mut self,
        topic: &S,
        payload: &P,
        envelope: &Envelope,
    ) -> Result<(Header, Option<Block>), PublishError> {
        let type_id = self.resolve(topic)?;
        let extension_bytes =
            if type_id != 0 && self.extension.is_empty() { 0 } else { self.place_extension(type_id, topic.name())? };
        let room = self.scratch.get_mut(extension_bytes..).unwrap_or(&mut []);
        let (bytes, block) = match payload.encode(room, &mut self.arena) {
            // The fields alone may be too long for a slot, and the payload empty.
            Ok(bytes) if extension_bytes > self.scratch.len() => {
                let (bytes, block) = self.encode_large(payload, extension_bytes, bytes)?;
                (bytes, Some(block))
            }
            Ok(bytes) if bytes <= self.shared.settings.payload_bytes_max => (bytes, None),
            Ok(bytes) => {
                return Err(PublishError::TooLarge { bytes, max: self.shared.settings.payload_bytes_max });
            }
            Err(EncodeFault::Needs(bytes)) => {
                let (bytes, block) = self.encode_large(payload, extension_bytes, bytes)?;
                (bytes, Some(block))
            }
            Err(EncodeFault::Refused) => return Err(PublishError::Encode),
        };
        let mut header = self.header(envelope, type_id, extension_bytes);
        header.payload_bytes = bytes as u32;
        header.encoding = payload.encoding() as u8;
        header.flags |= payload.flags();
        Ok((header, block))
    }

    #[inline]
    fn header(&mut self, envelope: &Envelope, type_id: u32, extension_bytes: usize) -> Header {
        let stamped = match self.shared.settings.stamps {
            StampPolicy::Every => true,
            StampPolicy::OneIn(every) => {
                self.unstamped += 1;
                self.unstamped >= every || self.finds_a_sleeper(type_id, envelope.priority)
            }
        };
        if stamped {
            self.take_stamp();
        }
        let id = envelope.id.unwrap_or_else(|| self.ids.next());
        let foreign_time = envelope.time != 0;
        Header {
            type_id,
            id: *id.as_bytes(),
            time: if foreign_time { envelope.time } else { self.stamp },
            deadline: envelope.deadline,
            source_id: envelope.source_id,
            extension_bytes: extension_bytes as u16,
            schema: envelope.schema,
            priority: envelope.priority as u8,
            attempt: envelope.attempt,
            // An event that came with its own time, or waits on purpose, says nothing about this bus's latency.
            flags: if stamped && !foreign_time && envelope.due == 0 { FLAG_STAMPED } else { 0 },
            ..blank_header()
        }
    }

    #[inline]
    fn finds_a_sleeper(&self, type_id: u32, priority: Priority) -> bool {
        let engine = &self.shared.engine;
        engine.parker.any_parked(engine.wants.workers(type_id, priority.lane()))
    }

    #[inline]
    fn take_stamp(&mut self) {
        let clock = &self.shared.engine.directory.clock;
        self.unstamped = 0;
        self.stamp = clock.now();
        self.ids.at(clock.unix_ns(self.stamp));
    }

    /// Tries once more to bring the event that is encoded already into its lane.
    #[cold]
    fn attempt(&mut self) -> Result<EventId, PublishError> {
        let Some(mut prepared) = self.prepared.take() else { return Err(PublishError::Encode) };
        let result = if prepared.due != 0 {
            self.schedule(&mut prepared)
        } else {
            self.send(&prepared.header, prepared.priority, prepared.block.as_ref())
        };
        if matches!(&result, Err(error) if waits(error)) {
            self.prepared = Some(prepared);
        }
        result
    }

    /// Brings an encoded event into its lane, from the scratch or a block.
    #[inline]
    fn send(&mut self, header: &Header, priority: Priority, block: Option<&Block>) -> Result<EventId, PublishError> {
        if !self.shared.engine.enter(self.place) {
            return Err(PublishError::ShuttingDown);
        }
        let result = self.send_inside(header, priority, block);
        self.shared.engine.leave(self.place);
        result
    }

    #[inline]
    fn send_inside(
        &mut self,
        header: &Header,
        priority: Priority,
        block: Option<&Block>,
    ) -> Result<EventId, PublishError> {
        let engine = &*self.shared.engine;
        let counts = &engine.publishers[self.place].counts;
        let lane = priority.lane();
        let workers = engine.wants.workers(header.type_id, lane);
        if workers == 0 {
            counts.unmatched.add(1);
            counts.accepted.add(1);
            return Ok(header.event_id());
        }
        if let Some(shed) = self.policy.sheds(priority, &mut self.claimant, engine.lanes.limit()) {
            return Err(shed);
        }
        let rest = match block {
            Some(block) => Rest::Block(block, workers),
            None => Rest::Inline(&self.scratch[..header.rest_bytes()]),
        };
        match self.claimant.push(lane, Frame { head: header.as_bytes(), rest }) {
            Ok(sequence) => {
                counts.routed.add(1);
                counts.accepted.add(1);
                engine.parker.wake(workers);
                self.wake_laggards(lane, sequence);
                Ok(header.event_id())
            }
            Err(full) => {
                engine.parker.wake(engine.lanes.active());
                Err(lane_full(priority, full))
            }
        }
    }

    /// Wakes workers that sleep although their lane fills up: they have no target for what comes, but hold its slots.
    #[inline]
    pub(super) fn wake_laggards(&mut self, lane: usize, sequence: u64) {
        if (sequence.wrapping_sub(self.laggards_at[lane]) as i64) < 0 {
            return;
        }
        let engine = &self.shared.engine;
        let limit = engine.lanes.limit();
        self.laggards_at[lane] = sequence.wrapping_add(limit / 8 + 1);
        if self.claimant.depth_if_above(lane, limit / 2) > limit / 2 {
            engine.parker.wake(engine.lanes.active());
        }
    }

    /// Hands an encoded event to the timers.
    fn schedule(&mut self, prepared: &mut Prepared) -> Result<EventId, PublishError> {
        let bytes = prepared.header.rest_bytes();
        let rest = match prepared.block.take() {
            Some(block) => block,
            None => {
                let mut block = self.take_block(bytes)?;
                block.bytes_mut()[..bytes].copy_from_slice(&self.scratch[..bytes]);
                block
            }
        };
        let engine = &*self.shared.engine;
        if !engine.enter(self.place) {
            return Err(PublishError::ShuttingDown);
        }
        let put = engine.schedule.put(Scheduled { due: prepared.due, header: prepared.header, rest });
        if put.is_ok() {
            self.counts().accepted.add(1);
            engine.parker.wake(1);
        }
        engine.leave(self.place);
        match put {
            Ok(()) => Ok(prepared.header.event_id()),
            Err(_) => Err(PublishError::ScheduleFull { max: engine.schedule.max() }),
        }
    }

    /// One try of an event that may have been encoded already.
    #[inline]
    fn once<S: Subject<P>, P: Encode>(
        &mut self,
        topic: &S,
        payload: &P,
        envelope: &Envelope,
    ) -> Result<EventId, PublishError> {
        if self.prepared.is_some() {
            return self.attempt();
        }
        let (header, block) = self.encode(topic, payload, envelope)?;
        if block.is_none() && envelope.due == 0 {
            let result = self.send(&header, envelope.priority, None);
            if matches!(&result, Err(error) if waits(error)) {
                self.prepared = Some(Prepared { header, priority: envelope.priority, block, due: 0 });
            }
            return result;
        }
        self.prepared = Some(Prepared { header, priority: envelope.priority, block, due: envelope.due });
        self.attempt()
    }

    /// Tries until there is room, at most `limit`. On a worker it does not wait.
    pub(super) fn keep_trying<R>(
        &mut self,
        limit: Duration,
        mut once: impl FnMut(&mut Self) -> Result<R, PublishError>,
    ) -> Result<R, PublishError> {
        match once(self) {
            Err(error) if waits(&error) && !self.shared.must_not_wait() => {}
            result => return result,
        }
        // Room often comes within microseconds, and a sleep costs more: look a few times first, ever less often.
        let backoff = Backoff::new();
        while !backoff.is_completed() {
            backoff.snooze();
            match once(self) {
                Err(error) if waits(&error) => {}
                result => return result,
            }
        }
        let clock = self.shared.engine.directory.clock.clone();
        let begun = clock.now();
        let waker = of_this_thread();
        let gate = Arc::clone(&self.shared.engine.gate);
        loop {
            gate.wait(self.place, &waker);
            let result = once(self);
            let waited = Duration::from_nanos(clock.now().saturating_sub(begun));
            match result {
                Err(error) if waits(&error) => match limit.checked_sub(waited).filter(|left| !left.is_zero()) {
                    Some(left) => thread::park_timeout(left),
                    None => {
                        gate.leave(self.place);
                        return Err(timed_out(error, limit));
                    }
                },
                result => {
                    gate.leave(self.place);
                    return result;
                }
            }
        }
    }

    pub(super) fn poll_trying<R>(
        &mut self,
        context: &mut task::Context<'_>,
        mut once: impl FnMut(&mut Self) -> Result<R, PublishError>,
    ) -> Poll<Result<R, PublishError>> {
        for registered in [false, true] {
            match once(self) {
                Err(error) if waits(&error) && !registered => {
                    self.shared.engine.gate.wait(self.place, context.waker());
                }
                Err(error) if waits(&error) => return Poll::Pending,
                result => return Poll::Ready(result),
            }
        }
        Poll::Pending
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

pub(super) fn lane_full(priority: Priority, full: LaneFull) -> PublishError {
    PublishError::Full { priority, depth: full.depth, limit: full.limit, gated_by: full.gated_by }
}

fn waits(error: &PublishError) -> bool {
    matches!(error, PublishError::Full { .. } | PublishError::PoolExhausted { .. })
}

fn timed_out(error: PublishError, after: Duration) -> PublishError {
    match error {
        PublishError::Full { priority, gated_by, .. } => PublishError::TimedOut { priority, after, gated_by },
        other => other,
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

/// An event under way to be published: its envelope. End it with one of the publishing verbs.
#[must_use = "nothing is published until one of the publishing verbs is called"]
pub struct Outgoing<'p> {
    publisher: &'p mut Publisher,
    envelope: Envelope,
}

impl<'p> Outgoing<'p> {
    /// How urgent it is. Default Normal.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.envelope.priority = priority;
        self
    }

    /// An id from outside. Default: a new version 7 UUID.
    pub fn id(mut self, id: EventId) -> Self {
        self.envelope.id = Some(id);
        self
    }

    /// The text of an id from outside that is no UUID: the event gets [`EventId::from_foreign`] of it, and the text
    /// travels along.
    pub fn foreign_id(mut self, source: &str, id: &str) -> Self {
        self.publisher.extension.text(Tag::OriginalId, "id", id, 1024);
        self.envelope.id = Some(EventId::from_foreign(source, id));
        self
    }

    /// When it was created, in nanoseconds of Unix time, for an event from outside. Default: now. It is shown by the
    /// wall clock, so a step of that clock while the event is under way moves it as well.
    pub fn created_at_unix_ns(mut self, unix_ns: u64) -> Self {
        self.envelope.time = self.publisher.shared.engine.directory.clock.instant_of(unix_ns);
        self
    }

    /// Who published, when it is not this publisher's source.
    pub fn source(mut self, source: &str) -> Self {
        let (bytes, max) = (source.len(), EventSource::BYTES_MAX);
        if bytes > max {
            // Not interned: the directory keeps what it knows for ever.
            self.publisher.extension.reject(EnvelopeError::Field { field: "source", bytes, max });
            return self;
        }
        let known = self.publisher.sources.get(source).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.publisher.shared.engine.directory.intern_source(source);
            if id != 0 {
                self.publisher.sources.insert(source.into(), id);
            }
            id
        });
        if id == 0 {
            self.publisher.extension.text(Tag::Source, "source", source, max);
        }
        self.envelope.source_id = id;
        self
    }

    /// What it belongs to: the same id on all events of one story.
    pub fn correlation(self, id: EventId) -> Self {
        self.publisher.extension.id(Tag::Correlation, id);
        self
    }

    /// The event that caused it.
    pub fn causation(self, id: EventId) -> Self {
        self.publisher.extension.id(Tag::Causation, id);
        self
    }

    /// The aggregate that changed.
    pub fn aggregate(self, aggregate: Aggregate<'_>) -> Self {
        self.publisher.extension.aggregate(aggregate);
        self
    }

    /// Nobody wants it later than this long from now: it is then counted as expired instead of delivered.
    pub fn expires_after(mut self, time: Duration) -> Self {
        self.envelope.deadline = self.publisher.shared.engine.directory.clock.after(time);
        self
    }

    /// It is due this long from now, and waits with the timers until then (at most `scheduled_max` events do).
    pub fn not_before(mut self, time: Duration) -> Self {
        let due = self.publisher.shared.engine.directory.clock.after(time);
        self.publisher.extension.instant(Tag::NotBefore, due);
        self.envelope.due = due;
        self
    }

    /// Which attempt at delivery this is, for an event that comes again. Default 1.
    pub fn attempt(mut self, attempt: u8) -> Self {
        self.envelope.attempt = attempt;
        self
    }

    /// The version of the payload's schema. Default 1.
    pub fn schema_version(mut self, version: u16) -> Self {
        self.envelope.schema = version;
        self
    }

    /// The version of the payload's schema as a text, such as `2.1.0-beta`.
    pub fn schema_text(self, version: &str) -> Self {
        self.publisher.extension.text(Tag::SchemaText, "schema version", version, 255);
        self
    }

    /// A service it is meant for; may be given up to 16 times.
    pub fn target<'t>(self, service: impl Into<ServiceTarget<'t>>) -> Self {
        self.publisher.extension.target(service.into());
        self
    }

    /// The W3C `traceparent` it travels with.
    pub fn trace_parent(self, traceparent: &str) -> Self {
        self.publisher.extension.text(Tag::TraceParent, "traceparent", traceparent, 255);
        self
    }

    /// A free entry; up to 32.
    pub fn metadata(self, key: &str, value: &str) -> Self {
        self.publisher.extension.metadata(key, value);
        self
    }

    /// What each subscription would do with this event, and why; nothing is published. Predicates are asked, on this
    /// thread.
    ///
    /// # Errors
    /// When the event is invalid.
    pub fn explain<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
    ) -> Result<Vec<Explanation>, PublishError> {
        self.checked();
        let (header, mut block) = self.publisher.encode(&topic, &payload, &self.envelope)?;
        let publisher = self.publisher;
        let rest = match &mut block {
            Some(block) => block.bytes(),
            None => &publisher.scratch[..],
        };
        let shared = &publisher.shared;
        let meta = Meta::new(&header, rest, 0, &shared.engine.directory).map_err(|_| PublishError::Encode)?;
        Ok(shared.explain(topic.name(), meta.source(), self.envelope.priority, Some(&meta)))
    }

    fn checked(&mut self) {
        let Envelope { deadline, due, .. } = self.envelope;
        if deadline != 0 && deadline < due {
            self.publisher.extension.reject(EnvelopeError::DeadlineBeforeDue);
        }
    }

    /// Publishes; at a full lane it does what the [`FullPolicy`] says.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing of a refused event is in the bus.
    pub fn publish<S: Subject<P>, P: Encode + Copy>(self, topic: S, payload: P) -> Result<EventId, PublishError> {
        match self.publisher.policy.wait {
            Some(limit) => self.publish_deadline(topic, payload, limit),
            None => self.try_publish(topic, payload),
        }
    }

    /// Publishes, or fails at once.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn try_publish<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        self.checked();
        let result = self.publisher.once(&topic, &payload, &self.envelope);
        self.publisher.settle(result)
    }

    /// Publishes, waiting at most `limit`. On a worker thread it does not wait: the lane would wait for itself.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_deadline<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
        limit: Duration,
    ) -> Result<EventId, PublishError> {
        self.checked();
        let envelope = self.envelope;
        let result = self.publisher.keep_trying(limit, |publisher| publisher.once(&topic, &payload, &envelope));
        self.publisher.settle(result)
    }

    /// Publishes, awaiting room; on any async runtime. Dropped before it is ready, it has published nothing.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish_async<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: S,
        payload: P,
    ) -> Result<EventId, PublishError> {
        self.checked();
        let envelope = self.envelope;
        let waiting = Waiting(self.publisher);
        let result =
            poll_fn(|context| waiting.0.poll_trying(context, |publisher| publisher.once(&topic, &payload, &envelope)))
                .await;
        waiting.0.settle(result)
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("priority", &self.envelope.priority).finish_non_exhaustive()
    }
}

/// A publisher that awaits room; dropped, it leaves the gate and gives its block back.
pub(super) struct Waiting<'p>(pub(super) &'p mut Publisher);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.prepared = None;
        self.0.shared.engine.gate.leave(self.0.place);
    }
}

/// A block of the pool on loan, to write a payload into in place.
#[must_use = "nothing is published until `publish` is called"]
pub struct Loan<'p> {
    publisher: &'p mut Publisher,
    bytes: usize,
}

impl Loan<'_> {
    /// The payload. It holds what the block held before.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let block = self.publisher.prepared.as_mut().and_then(|prepared| prepared.block.as_mut());
        block.map_or(&mut [], |block| &mut block.bytes_mut()[..self.bytes])
    }

    /// Publishes what was written, as raw bytes. Follows the [`FullPolicy`].
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(self, priority: Priority, topic: &str) -> Result<EventId, PublishError> {
        let publisher = self.publisher;
        let block = publisher.prepared.take().and_then(|prepared| prepared.block);
        let envelope = {
            let outgoing = publisher.at(priority);
            outgoing.envelope
        };
        let type_id = match publisher.resolve::<Payload<'_>, _>(&topic) {
            Ok(type_id) if type_id == 0 || envelope.source_id == 0 => {
                // Names without a number have to travel in front of the payload: the block cannot be used as it is.
                let copy = block.map(|mut block| block.bytes()[..self.bytes].to_vec()).unwrap_or_default();
                return publisher.at(priority).publish(topic, Payload::raw(&copy));
            }
            Ok(type_id) => type_id,
            Err(error) => return publisher.settle(Err(error)),
        };
        let mut header = publisher.header(&envelope, type_id, 0);
        header.payload_bytes = self.bytes as u32;
        publisher.prepared = Some(Prepared { header, priority, block, due: 0 });
        let result = match publisher.policy.wait {
            Some(limit) => publisher.keep_trying(limit, Publisher::attempt),
            None => publisher.attempt(),
        };
        publisher.settle(result)
    }
}

impl fmt::Debug for Loan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Outgoing<'_> {
    /// Encodes the event and adds it to the publisher's batch, without publishing.
    pub(super) fn into_batch<S: Subject<P>, P: Encode + Copy>(
        mut self,
        topic: &S,
        payload: &P,
    ) -> Result<EventId, PublishError> {
        self.checked();
        let publisher = self.publisher;
        let encoded = match self.envelope.due {
            0 => publisher.encode(topic, payload, &self.envelope),
            _ => Err(PublishError::ScheduledInBatch),
        };
        let (header, block) = publisher.settle(encoded)?;
        let bytes = if block.is_some() { 0 } else { header.rest_bytes() };
        Ok(publisher.collected.add(header, block, &publisher.scratch[..bytes]))
    }

    pub(super) fn has_priority(&self) -> Priority {
        self.envelope.priority
    }
}
