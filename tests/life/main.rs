//! The life of a bus and of all that hangs on it, through the public API only. One binary, so that it links once.

mod config;
mod drops;
mod few_cores;
#[cfg(target_os = "linux")]
#[path = "../support/forbidden.rs"]
mod forbidden;
mod hardened;
mod mailboxes;
mod metrics_and_health;
mod observer;
mod patterns_and_filters;
mod shutdown;
mod subscriptions;
mod support;
mod typed;
