//! ringmain: an event bus to embed in latency-sensitive processes.

mod clock;
mod delivery;
mod event;
mod metrics;
mod ring;
mod routing;
mod sync;
mod worker;

pub use delivery::*;
pub use event::*;
pub use metrics::LatencySummary;
pub use routing::{Filter, Pattern, PatternError};
