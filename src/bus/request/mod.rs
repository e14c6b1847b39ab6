//! Request and reply: a question published on one topic, and the answer to that very question on another.
//!
//! ```text
//!   requester ── query, id = place + generation ──► lane ──► responder
//!       ▲                                                        │
//!       └── its place ◄── desk on the worker ◄── lane ◄── answer, correlation = that id
//! ```
//!
//! A requester has `pending_max` places, made when it is: a request takes one, and whoever lets go of the request frees it. The
//! number of the place and how often it was taken are part of the query's id, so an answer finds its place without a look-up,
//! and one that comes too late finds that the place has gone on. Time is kept by the bus's clock: by the alarm of the worker that
//! brings the answers, for there is no thread a request.

mod error;
mod pending;
mod requester;
mod respond;

pub use error::RequestError;
pub use requester::{Answer, Requester};
