//! ringmain: an event bus to embed in latency-sensitive processes.

mod event;
mod metrics;
mod routing;
mod sync;

#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod node;
