//! ringmain: an event bus to embed in latency-sensitive processes.

mod bus;
mod clock;
mod delivery;
mod error;
mod event;
mod metrics;
pub mod prelude;
mod ring;
mod routing;
mod sync;
pub mod testing;
mod worker;

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
