//! Event sourcing: aggregates decide, repositories save in one append, relays tell.

mod choreography;
mod context;
mod decisions;
mod process;
mod projection;
mod relay;
mod repository;
mod saga;
mod support;
