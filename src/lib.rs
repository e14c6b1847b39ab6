//! ringmain: an event bus to embed in latency-sensitive processes.

mod event;
mod metrics;
mod routing;
mod sync;

pub use routing::{Pattern, PatternError};
