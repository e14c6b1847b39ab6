//! Mailboxes: every way to pull, every way to be full, and deliveries that outlive everything.

mod asynchronous;
mod flushed;
mod full;
mod lifetimes;
mod pulling;
