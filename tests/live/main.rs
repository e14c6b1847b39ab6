//! What live streams promise, over real TCP, to a WebSocket client that nobody here wrote.
#![cfg(feature = "daemon")]

mod ends;
mod limits;
mod order;
mod reliable;
mod resume;
mod slow;
mod stream;
mod support;
