//! Event sourcing: aggregates decide, repositories save in one append, relays tell.

mod choreography;
mod context;
mod decisions;
#[path = "../support/folder.rs"]
mod folder;
#[path = "../support/killed.rs"]
mod killed;
mod process;
mod projection;
mod relay;
mod repository;
mod saga;
mod support;
