//! Dead letters: events that a subscription gave up on, kept with all that is known of them until somebody decides.
//!
//! ```text
//!   worker, consumer ──put──► intake ──► store ──► list, peek, purge, redrive, republish       oldest goes when full
//!                        └──► outbox ──► sink, on a thread of its own
//! ```
//!
//! Whoever puts never waits: the intake and the outbox are lock-free and bounded. Whoever looks takes the store's lock, and
//! first moves what waits in the intake to the shelf; whoever puts does it when the intake is full, if nobody looks just then.

mod filter;
mod letter;
mod level;
mod sink;
mod store;
#[cfg(test)]
mod tests;

pub use filter::DeadLetterFilter;
pub use letter::{DeadLetter, DeadReason};
pub use sink::DeadLetterSink;
pub use store::DeadLetterCounts;

pub(crate) use letter::Death;
pub(crate) use store::{DeadLetterLimits, DeadLetterStore, TakenLetter};
