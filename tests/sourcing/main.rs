//! Event sourcing: aggregates decide, repositories save in one append, relays tell.

#[path = "../support/books.rs"]
mod books;
mod choreography;
mod context;
mod decisions;
mod panics;
mod process;
mod projection;
mod relay;
mod repository;
mod saga;
mod support;
