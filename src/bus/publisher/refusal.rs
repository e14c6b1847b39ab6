//! What a publish does at a full lane, and why an event was not accepted.

use std::fmt;
use std::time::Duration;

use crate::event::{EnvelopeError, Priority, TopicError, TypeConflict};
use crate::ring::{Claimant, LaneFull};
use crate::worker::Engine;

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
    ///
    /// A handler never waits for itself: on a worker, and in a handler of its own thread or task whose full mailbox is what
    /// holds the lane up, it is [`PublishError::Full`] at once.
    pub const fn wait(limit: Duration) -> Self {
        Self { wait: Some(limit), shed_low_above_percent: None }
    }

    /// In addition drops Low events, with [`PublishError::Shed`], while their lane is filled above `percent` of its
    /// limit, so that what is more urgent finds workers free.
    #[must_use]
    pub const fn shed_low_above(self, percent: u8) -> Self {
        Self { shed_low_above_percent: Some(percent), ..self }
    }

    #[inline]
    pub(in crate::bus) fn wait_limit(self) -> Option<Duration> {
        self.wait
    }

    /// Whether an event of this priority may be shed.
    #[inline(always)]
    pub(in crate::bus) fn may_shed(self, priority: Priority) -> bool {
        priority == Priority::Low && self.shed_low_above_percent.is_some()
    }

    /// The refusal of a Low event whose lane, with room for `limit`, is filled above the watermark.
    #[inline]
    pub(in crate::bus) fn sheds(self, priority: Priority, claimant: &mut Claimant, limit: u64) -> Option<PublishError> {
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
    /// A rate limit is spent.
    RateLimited {
        /// Its place in the list of [`Bus::rate_limits`](crate::Bus::rate_limits), from 0.
        limit: usize,
        /// When the event, or all events of the batch that are under the limit, may pass, if no others come first.
        retry_after: Duration,
        /// Whether a publish waits for it, as its [`FullPolicy`] or deadline says; it has done so, then.
        queues: bool,
    },
    /// A batch has more events under one rate limit than that ever lets pass at once.
    BatchOverRate {
        /// The limit's place in the list of [`Bus::rate_limits`](crate::Bus::rate_limits), from 0.
        limit: usize,
        /// Events of the batch that are under it.
        events: usize,
        /// The most at once: its burst.
        burst: u32,
    },
    /// A Low event, refused because the reserved memory is nearly full: see
    /// [`BusBuilder::memory_pressure`](crate::BusBuilder::memory_pressure).
    MemoryPressure {
        /// How full the fullest part is, in percent.
        fill_percent: u8,
        /// From where on Low events are refused, in percent.
        share_percent: u8,
    },
    /// The bus is shutting down or has stopped.
    ShuttingDown,
    /// A worker has panicked too often, and would never bring the event to its subscriptions: the bus accepts nothing any more. See
    /// [`worker_restarts_max`](crate::BusBuilder::worker_restarts_max).
    WorkerFailed {
        /// Which worker.
        worker: usize,
    },
    /// The deadline of a frame that is published again has passed.
    Expired {
        /// How long ago.
        ago: Duration,
    },
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
    /// The event fits no slot, and the pool has no blocks of that size at all.
    NoBlock {
        /// Bytes needed, for envelope and payload.
        bytes: usize,
        /// The size of the largest blocks; 0 without any.
        max: usize,
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
                | Self::RateLimited { .. }
                | Self::MemoryPressure { .. }
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
            Self::RateLimited { limit, retry_after, queues: _ } => {
                write!(f, "rate limit {limit} is spent; try again in {retry_after:?}, or raise its rate or burst")
            }
            Self::BatchOverRate { limit, events, burst } => write!(
                f,
                "a batch with {events} events under rate limit {limit}, which lets {burst} pass at once; split it, or raise the burst"
            ),
            Self::MemoryPressure { fill_percent, share_percent } => write!(
                f,
                "a low event was refused: the reserved memory is {fill_percent} % full, the limit for low is {share_percent} %; try later, or raise the priority"
            ),
            Self::ShuttingDown => f.write_str("the bus is shutting down and accepts no more events"),
            Self::WorkerFailed { worker } => write!(
                f,
                "worker {worker} has panicked too often, and the bus accepts no more events; shut it down and build another one"
            ),
            Self::Expired { ago } => {
                write!(
                    f,
                    "the frame's deadline passed {ago:?} ago, so it would never be delivered; publish it as a new event"
                )
            }
            Self::TooLarge { bytes, max } => {
                write!(f, "payload is {bytes} bytes, the limit is {max}; raise payload_bytes_max")
            }
            Self::PoolExhausted { bytes } => write!(
                f,
                "no free block for a payload of {bytes} bytes; wait, give more with BusBuilder::blocks, or raise slot_bytes"
            ),
            Self::NoBlock { bytes, max } => write!(
                f,
                "the event needs a block of {bytes} bytes and the largest have {max}; give larger ones with BusBuilder::blocks, or raise slot_bytes"
            ),
            Self::ScheduleFull { max: 0 } => {
                f.write_str("this bus takes no scheduled events: it has a single publisher, or scheduled_max is 0")
            }
            Self::ScheduleFull { max } => {
                write!(f, "{max} events wait for their time already; raise scheduled_max")
            }
            Self::Encode => f.write_str("the payload could not be serialised; look at its Serialize"),
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

/// Why a bus that does not run any more accepts nothing.
#[cold]
pub(in crate::bus) fn closed(engine: &Engine) -> PublishError {
    engine.failure().map_or(PublishError::ShuttingDown, |worker| PublishError::WorkerFailed { worker })
}

pub(in crate::bus) fn lane_full(priority: Priority, full: LaneFull) -> PublishError {
    PublishError::Full { priority, depth: full.depth, limit: full.limit, gated_by: full.gated_by }
}

pub(super) fn waits(error: &PublishError) -> bool {
    matches!(
        error,
        PublishError::Full { .. } | PublishError::PoolExhausted { .. } | PublishError::RateLimited { queues: true, .. }
    )
}

pub(super) fn timed_out(error: PublishError, after: Duration) -> PublishError {
    match error {
        PublishError::Full { priority, gated_by, .. } => PublishError::TimedOut { priority, after, gated_by },
        other => other,
    }
}
