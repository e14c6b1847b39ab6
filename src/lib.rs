//! ringmain: an event bus to embed in latency-sensitive processes.

mod clock;
mod event;
mod metrics;
mod routing;
mod ring;
mod sync;

pub use metrics::LatencySummary;
