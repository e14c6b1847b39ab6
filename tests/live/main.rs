//! What live streams promise, over real TCP, to a WebSocket client that nobody here wrote.
#![cfg(feature = "daemon")]

#[path = "../support/books.rs"]
mod books;
mod ends;
mod limits;
#[cfg(feature = "prometheus")]
mod metrics;
mod order;
mod reliable;
mod resume;
mod slow;
mod stream;
mod support;
mod watched;
