//! Dead letters: events that a subscription gave up on, kept with all that is known of them until somebody decides.
//!
//! ```text
//!   worker, consumer ──put──► intake ──► store ──► list, peek, purge, redrive, republish       oldest goes when full
//!                        └──► outbox ──► sink, on a thread of its own
//! ```
//!
//! Whoever puts never waits: the intake and the outbox are lock-free and bounded. Whoever looks takes the store's lock, and
//! first moves what waits in the intake to the shelf; whoever puts does it when the intake is full, if nobody looks just then.

mod counts;
mod filter;
mod letter;
mod level;
mod sink;
mod store;
mod taken;
#[cfg(test)]
mod tests;

pub use counts::DeadLetterCounts;
pub use filter::DeadLetterFilter;
pub use letter::{DeadLetter, DeadReason};
pub use sink::DeadLetterSink;

pub(crate) use counts::DeadLetterLimits;
pub(crate) use letter::Death;
pub(crate) use store::DeadLetterStore;
pub(crate) use taken::TakenLetter;
