//! An event bus to embed in latency-sensitive processes: pinned workers, one lock-free lane a priority, events read in
//! place.
//!
//! **Set up** with [`Bus::builder`]; every setting has a default and a limit.
//! **Publish** through a [`Publisher`], one a thread or task: typed events under a [`Topic`], dynamic ones under a name with a
//! [`Payload`].
//! **Receive** through [`Bus::subscribe`]: a closure or [`Handler`] on the worker, one on a thread of its own, or a
//! [`Mailbox`] to pull from, blocking or async.
//! **Shut down** with [`Bus::shutdown`], which delivers what was accepted and says what was left.
//!
//! ```
//! use ringmain::{Bus, Priority, Topic};
//! use rkyv::{Archive, Serialize};
//!
//! #[derive(Archive, Serialize)]
//! struct OrderPlaced { id: u64, cents: u64 }
//!
//! const ORDER_PLACED: Topic<OrderPlaced> = Topic::new("orders.placed");
//!
//! let bus = Bus::builder().workers(2).build()?;
//! let _revenue = bus
//!     .subscribe(ORDER_PLACED)
//!     .named("revenue")
//!     .handle(|order, meta| println!("{} {}: {}", meta.sequence(), order.id, order.cents))?;
//!
//! let mut publisher = bus.publisher()?;
//! publisher.publish(ORDER_PLACED, &OrderPlaced { id: 7, cents: 1_999 })?;
//! publisher.at(Priority::Critical).publish(ORDER_PLACED, &OrderPlaced { id: 8, cents: 50 })?;
//!
//! let report = bus.shutdown()?;
//! assert!(report.is_clean());
//! # Ok::<(), ringmain::Error>(())
//! ```
//!
//! [`guide`] has the long prose: a tour of the source, what is promised, the memory model, operations, a glossary.
//!
//! # Features
//!
//! `json` and `protobuf` add codecs for typed events, `daemon` the command `ringmain`, `store` and `sourcing` the modules of
//! those names: events that outlive their process, and things that are made of them. Without features only what the bus itself needs is pulled in.

mod bus;
mod chance;
mod clock;
mod delivery;
mod error;
mod event;
pub mod guide;
mod metrics;
pub mod prelude;
#[allow(missing_docs, reason = "private floor, reached through `internals` only")]
mod ring;
mod routing;
#[cfg(feature = "sourcing")]
pub mod sourcing;
#[cfg(feature = "store")]
pub mod store;
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
    /// Panics of workers, on demand.
    #[cfg(feature = "stall")]
    pub mod worker {
        pub use crate::worker::fault;
    }
    /// The log of the durable store.
    #[cfg(feature = "store")]
    pub mod store {
        pub use crate::store::log::*;
        pub use crate::store::log_store::open_on;
        /// Backups on any disk.
        pub mod backup {
            pub use crate::store::backup::open_on;
        }
        /// The table of what cannot be rebuilt from the events.
        pub mod table {
            pub use crate::store::table::*;
        }
    }
    pub use crate::event::{Check, Destination, Encode, Encoder, FrameError, KnownAs, Meanwhile, read_frame};
}

#[cfg(feature = "json")]
pub use bus::Json;
#[cfg(feature = "protobuf")]
pub use bus::Protobuf;
pub use bus::{
    Answer, Batch, BuildError, BuildFault, Bus, BusBuilder, BusState, DeadLetters, Degraded, EventBusConfig,
    EventRouter, EventSerializer, Explanation, Flush, FlushError, FullPolicy, Health, InstanceRecord, IntoInterest,
    LaneMetrics, Loan, Memory, Metrics, Outgoing, OutgoingFrame, Path, PublishError, Publisher, RateLimit,
    RateLimitError, RateLimitStatus, Redrive, RedriveError, RedriveReport, Refused, RepublishError, RequestError,
    Requester, Rules, RulesError, SerializeError, Service, ServiceBuilder, ServiceError, ServiceRecord, ShutdownReport,
    StageLatency, Subject, Subscribe, SubscribeError, Subscription, Verdict, create_event_bus,
    create_event_bus_with_config,
};
pub use delivery::{
    Balance, Balancer, BreakerPolicy, BreakerRecord, BreakerState, Context, DeadLetter, DeadLetterCounts,
    DeadLetterFilter, DeadLetterSink, DeadReason, DedupWindow, Delivery, DeliveryMode, Dropped, Handler, HandlerId,
    InstanceView, Interest, Iter, Key, Ledger, Mailbox, Notice, Observer, Outcome, OverLimit, Overflow, Picker, Rate,
    RateError, RecvError, ReplayPolicy, RetryPolicy, ServiceHealth, Settled, SpillError, SpillPage, SpillReader,
    SpillSource, SpilledEvent, SubscriptionId, SubscriptionLedger, SubscriptionRecord, TryRecvError, WhileOpen,
};
pub use error::Error;
pub use event::{
    Aggregate, Category, DecodeError, Encoding, EnvelopeError, Event, EventId, EventSource, Frame, FrameError,
    FrameRef, Meta, ParseEventIdError, ParsePriorityError, Payload, Priority, ServiceTarget, Topic, TopicError,
    TypeConflict,
};
pub use metrics::LatencySummary;
pub use ring::HugePages;
pub use routing::{
    Condition, ConditionParts, Filter, OnField, Operand, Pattern, PatternError, RoutingRule, RuleChange, RuleError,
    RuleFilter, RuleReason, RuleSet, RuleVerdict,
};
pub use worker::{IdleStrategy, ParseIdleStrategyError, StampPolicy};

#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod node;
#[cfg(feature = "daemon")]
pub use node::config::{Change as ConfigChange, Config as NodeConfig, ConfigError};
#[cfg(feature = "daemon")]
pub use node::core::{Node, NodeBuilder, NodeError, NodeState, RunningNode, StopReport};

/// The README's code, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the compiler refuses, and a twin of each that it takes.
#[cfg(doctest)]
#[doc = include_str!("../tests/rules/refused.md")]
struct CompilerRefuses;

/// As [`CompilerRefuses`], of what is made of stored events.
#[cfg(all(doctest, feature = "sourcing"))]
#[doc = include_str!("../tests/rules/refused_sourcing.md")]
struct CompilerRefusesOfSourcing;
