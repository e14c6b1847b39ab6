//! Event sourcing: aggregates decide, repositories save in one append, relays tell.

#[cfg(target_os = "linux")]
#[path = "../support/alone.rs"]
#[allow(dead_code, reason = "faults need the rest")]
mod alone;
#[cfg(target_os = "linux")]
#[path = "../support/another_clock.rs"]
mod another_clock;
#[path = "../support/books.rs"]
mod books;
mod choreography;
#[cfg(target_os = "linux")]
mod clocks;
mod context;
mod decisions;
#[path = "../support/delegated.rs"]
mod delegated;
#[path = "../support/folder.rs"]
mod folder;
#[path = "../support/killed.rs"]
mod killed;
mod panics;
mod process;
mod projection;
#[cfg(target_os = "linux")]
#[path = "../support/proof.rs"]
mod proof;
mod readers;
mod relay;
mod repository;
mod saga;
mod support;
