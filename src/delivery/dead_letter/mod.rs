//! Dead letters: events that a subscription gave up on, kept with all that is known of them until somebody decides.
//!
//! ```text
//!   worker, consumer ──put──► intake ──► store ──► list, peek, purge, redrive, republish       oldest goes when full
//!                        └──► outbox ──► sink, on a thread of its own
//! ```
//!
//! Whoever puts never waits: the intake and the outbox are lock-free. Whoever looks takes the store's lock, and first moves what
//! waits in the intake to the shelf; whoever puts moves a few once many wait, if nobody looks just then. However long somebody
//! looks, nothing goes before more letters have come meanwhile than may be kept. A letter that is redriven leaves the store, and
//! comes back to it when its subscription has ended before it had a cell in its mailbox.

mod counts;
mod filter;
mod intake;
mod letter;
mod level;
mod shelf;
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
pub(crate) use taken::{ReturningLetter, TakenLetter};
