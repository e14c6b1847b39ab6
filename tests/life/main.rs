//! The life of a bus and of all that hangs on it, through the public API only. One binary, so that it links once.

mod mailboxes;
mod patterns_and_filters;
mod subscriptions;
mod support;
mod typed;
