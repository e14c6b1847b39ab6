//! Event sourcing: aggregates decide, repositories save in one append, relays tell.

#[path = "../support/books.rs"]
mod books;
mod choreography;
mod context;
mod decisions;
#[path = "../support/folder.rs"]
mod folder;
#[path = "../support/killed.rs"]
mod killed;
mod panics;
mod process;
mod projection;
mod readers;
mod relay;
mod repository;
mod saga;
mod support;
