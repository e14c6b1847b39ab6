//! ringmain: an event bus to embed in latency-sensitive processes.

mod bus;
mod clock;
mod delivery;
mod error;
mod event;
mod metrics;
pub mod prelude;
#[allow(missing_docs, reason = "private floor, reached through `internals` only")]
mod ring;
mod routing;
#[allow(missing_docs, reason = "private floor, reached through `internals` only")]
mod sync;
pub mod testing;
mod worker;

/// The inside, for this repository's models, fuzz targets and benchmarks. No promise covers it.
#[doc(hidden)]
pub mod internals {
    /// Lanes, cells, blocks.
    pub mod ring {
        pub use crate::ring::*;
    }
    /// Parker, bell, waker, snapshot, barrier and the primitives they stand on.
    pub mod sync {
        pub use crate::sync::*;
    }
    pub use crate::event::{Check, Destination, Encode, Encoder, FrameError, read_frame};
}

pub use bus::{
    Batch, BuildError, BuildFault, Bus, BusBuilder, BusState, EventBusConfig, Explanation, FlushError, FullPolicy,
    Health, IntoInterest, LaneMetrics, Loan, Metrics, Outgoing, PublishError, Publisher, Refused, ShutdownReport,
    StageLatency, Subject, Subscribe, SubscribeError, Subscription, Verdict, create_event_bus,
    create_event_bus_with_config,
};
pub use delivery::{
    Context, Delivery, Dropped, Handler, HandlerId, Interest, Iter, Ledger, Mailbox, Notice, Observer, Outcome,
    Overflow, RecvError, SubscriptionId, SubscriptionLedger, SubscriptionRecord, TryRecvError,
};
pub use error::Error;
pub use event::{
    Aggregate, DecodeError, Encoding, EnvelopeError, Event, EventId, EventSource, FrameError, Meta, ParseEventIdError,
    ParsePriorityError, Payload, Priority, Topic, TopicError, TypeConflict,
};
pub use metrics::LatencySummary;
pub use routing::{Filter, Pattern, PatternError};
pub use worker::{IdleStrategy, ParseIdleStrategyError, StampPolicy};

#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod node;
