//! Event sourcing: aggregates decide, repositories save in one append, relays tell.

mod context;
mod decisions;
mod process;
mod projection;
mod relay;
mod repository;
mod saga;
mod support;
