//! Why a subscription cannot be made or ended, and what to do about it.

use std::fmt;
use std::time::Duration;

use crate::delivery::{Overflow, RateError, SubscriptionId};
use crate::event::TypeConflict;
use crate::routing::PatternError;

use super::control::WorkerStuck;
use super::service_error::ServiceError;

/// Why a subscription was not made or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The pattern breaks the rules.
    Pattern(PatternError),
    /// The topic carries another Rust type.
    TypeConflict(TypeConflict),
    /// Called on a worker, which cannot wait for itself. Do it from another thread.
    OnWorker,
    /// The worker did not take the change over in time: a handler on it has not returned.
    WorkerStuck {
        /// Which.
        worker: usize,
    },
    /// There is no such worker.
    NoWorker {
        /// The worker asked for.
        worker: usize,
        /// How many there are, from 0.
        workers: usize,
    },
    /// There is a subscription of this id.
    IdTaken {
        /// The id.
        id: SubscriptionId,
    },
    /// The mailbox is larger than allowed, or has no room at all.
    Capacity {
        /// The capacity asked for.
        capacity: usize,
        /// The limit.
        max: usize,
    },
    /// The system has no memory for such a mailbox.
    Memory {
        /// Events it was to hold, rounded up.
        capacity: usize,
        /// Bytes it would take.
        bytes: u64,
    },
    /// A setting of reliable delivery is out of bounds.
    Reliability {
        /// Which.
        setting: &'static str,
        /// What was asked for.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A handler may have an event for less, or for longer, than can be kept.
    HandlerTimeout {
        /// What was asked for.
        timeout: Duration,
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// Reliable delivery with a mailbox that drops queued events when it is full.
    Lossy(Overflow),
    /// [`Overflow::Spill`] without a store: [`Subscribe::spill`](crate::Subscribe::spill) names one.
    NoSpillSource,
    /// What is to keep the events that a full mailbox leaves to it does not keep all of this pattern.
    NotCovered {
        /// The pattern.
        pattern: String,
    },
    /// A setting under which what comes back from a store could not be told from what does not.
    SpillWith {
        /// Which.
        setting: &'static str,
    },
    /// A dedup window that remembers nothing, more than allowed, or more than the system has memory for.
    Window {
        /// Events it was to remember.
        keys: usize,
        /// The limit.
        max: usize,
        /// Bytes they would take; 0 when their number alone is refused.
        bytes: u64,
    },
    /// A dedup window of no time, which remembers nothing.
    WindowTime,
    /// Retry delays of which the first is longer than the longest, or that are longer than an event may wait.
    Delays {
        /// The longest after the first failure, as asked for.
        first: Duration,
        /// The longest after any, as asked for.
        max: Duration,
        /// The limit.
        limit: Duration,
    },
    /// A setting that only reliable delivery has a use for: best effort tries each event once, and so keeps order anyway.
    NeedsReliable {
        /// Which.
        setting: &'static str,
    },
    /// A rate limit that cannot be kept.
    Rate(RateError),
    /// Latest-only delivery with a rate limit that rejects: what it rejects may be the newest event, which is the one to deliver.
    NewestRejected,
    /// Latest-only delivery to an inline handler, which is never behind: nothing would ever be superseded.
    NeverBehind,
    /// Keys are asked for that only latest-only delivery by key has a use for.
    NotByKey,
    /// Of so many keys, or of none, events cannot wait.
    KeysMax {
        /// What was asked for.
        keys_max: usize,
        /// The limit.
        max: usize,
    },
    /// A thread is to be replaced when its handler hangs, without reliable delivery: then the event is in that handler's hands for good.
    Untimed,
    /// More threads to replace a hanging one than allowed.
    ReplacementsMax {
        /// What was asked for.
        replacements_max: u32,
        /// The limit.
        max: u32,
    },
    /// A requester for so many requests, or for none.
    PendingMax {
        /// What was asked for.
        pending_max: usize,
        /// The limit.
        max: usize,
    },
    /// A requester or responder has to publish, and all publishers the bus may have are taken.
    NoPublisher {
        /// The limit, `publishers_max`.
        max: usize,
    },
    /// A filter names a source that no publisher can have.
    SourceTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It was to be a service, or an instance of one, that there cannot be.
    Service(ServiceError),
    /// The bus is shutting down or has stopped.
    ShuttingDown,
    /// No subscription has this id.
    NotFound(SubscriptionId),
    /// The system refused a thread for the handler.
    Thread(String),
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(error) => error.fmt(f),
            Self::TypeConflict(error) => error.fmt(f),
            Self::OnWorker => f.write_str("subscriptions cannot be changed on a worker thread; do it from another"),
            Self::WorkerStuck { worker } => write!(
                f,
                "worker {worker} did not take the change over in time; a handler on it has not returned: keep inline handlers short, or use handle_on"
            ),
            Self::NoWorker { worker, workers } => write!(f, "no worker {worker}; the bus has {workers}, from 0"),
            Self::Capacity { capacity, max } => {
                write!(f, "a mailbox of {capacity} events; it holds from 1 to {max}")
            }
            Self::IdTaken { id } => write!(f, "there is a subscription {id}; end it first, or let the bus choose an id"),
            Self::Memory { capacity, bytes } => write!(
                f,
                "a mailbox of {capacity} events takes {bytes} bytes, more than the system gives; lower its capacity or keys_max, or slot_bytes of the bus"
            ),
            Self::Reliability { setting, value, min, max } => {
                write!(f, "reliable delivery with {setting} = {value}; it is from {min} to {max}")
            }
            Self::HandlerTimeout { timeout, min, max } => {
                write!(f, "a handler_timeout of {timeout:?}; it is from {min:?} to {max:?}")
            }
            Self::Lossy(overflow) => write!(
                f,
                "reliable delivery to a mailbox that drops queued events when it is full ({overflow:?}); let it block, or take DropNewest: what finds no room is a dead letter then"
            ),
            Self::NoSpillSource => f.write_str(
                "Overflow::Spill needs to know where the events are: name a journal with Subscribe::spill(journal.spill_source())",
            ),
            Self::NotCovered { pattern } => write!(
                f,
                "the journal to spill to does not keep all events of {pattern:?}; start it with this pattern, or a wider one"
            ),
            Self::SpillWith { setting } => write!(
                f,
                "a mailbox that spills cannot have {setting}: what comes back could not be told from what does not; leave one of them out"
            ),
            Self::Window { keys, max, bytes: 0 } => {
                write!(f, "a dedup window of {keys} events; it remembers from 1 to {max}")
            }
            Self::Window { keys, bytes, .. } => write!(
                f,
                "a dedup window of {keys} events takes {bytes} bytes, more than the system gives; lower its keys_max"
            ),
            Self::WindowTime => f.write_str(
                "a dedup window of no time remembers nothing; give it a time (DedupWindow::time), or leave dedup out",
            ),
            Self::Delays { first, max, limit } if first > max => write!(
                f,
                "retry delays of up to {first:?} after the first failure and {max:?} after any; in RetryPolicy::delays(first, max) max is at least first, and at most {limit:?}"
            ),
            Self::Delays { max, limit, .. } => {
                write!(f, "retry delays of up to {max:?}; an event waits {limit:?} at most: lower them in RetryPolicy::delays")
            }
            Self::NeedsReliable { setting } => {
                write!(f, "{setting} needs reliable delivery: add .mode(DeliveryMode::reliable()), or leave it out")
            }
            Self::Rate(error) => error.fmt(f),
            Self::NewestRejected => f.write_str(
                "latest-only delivery with a rate limit that rejects, and so might reject the newest event; take OverLimit::Queue, under which only the newest waits",
            ),
            Self::NeverBehind => f.write_str(
                "latest-only delivery needs a mailbox: an inline handler is never behind; use handle_on, mailbox or run, or deliver by best effort",
            ),
            Self::NotByKey => {
                f.write_str("latest_by and keys_max need DeliveryMode::LatestOnly, and keys_max needs latest_by")
            }
            Self::KeysMax { keys_max, max } => {
                write!(f, "latest-only delivery with keys_max = {keys_max}; it is from 1 to {max}")
            }
            Self::Untimed => f.write_str(
                "handle_on_each needs DeliveryMode::Reliable, which takes an event away from a handler that hangs and tries it again; else use handle_on",
            ),
            Self::ReplacementsMax { replacements_max, max } => {
                write!(f, "replacements_max = {replacements_max}; it is from 0 to {max}")
            }
            Self::PendingMax { pending_max, max } => {
                write!(f, "a requester with pending_max = {pending_max}; it is from 1 to {max}")
            }
            Self::NoPublisher { max } => {
                write!(f, "all {max} publishers are taken; drop one, or raise publishers_max (at most 63)")
            }
            Self::SourceTooLong { bytes, max } => {
                write!(f, "a filter names a source of {bytes} bytes; sources have at most {max}")
            }
            Self::Service(error) => error.fmt(f),
            Self::ShuttingDown => f.write_str(
                "the bus is shutting down, and its subscriptions stay as they are; subscribe before that, or build another bus",
            ),
            Self::NotFound(id) => write!(
                f,
                "no subscription {id}: it has ended, or belongs to another bus; Bus::subscriptions lists those that there are"
            ),
            Self::Thread(error) => write!(f, "no thread for the handler: {error}"),
        }
    }
}

impl std::error::Error for SubscribeError {}

impl From<WorkerStuck> for SubscribeError {
    fn from(stuck: WorkerStuck) -> Self {
        Self::WorkerStuck { worker: stuck.worker }
    }
}
