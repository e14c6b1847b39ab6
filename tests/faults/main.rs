//! What goes wrong on purpose: stopped threads, panics in user code, odd payloads, calls from within. One binary, so that
//! it links once.

#[cfg(target_os = "linux")]
#[path = "../support/alone.rs"]
mod alone;
#[cfg(target_os = "linux")]
#[path = "../support/another_clock.rs"]
mod another_clock;
#[cfg(target_os = "linux")]
mod clocks;
mod deciders;
#[cfg(feature = "stall")]
mod forms;
mod observers;
mod panics;
mod payload_kept;
mod payload_paths;
mod payloads;
#[cfg(target_os = "linux")]
mod processes;
#[path = "../support/proof.rs"]
#[allow(dead_code, reason = "not every build has something to say")]
mod proof;
mod reentrancy;
#[cfg(feature = "stall")]
mod stalls;
#[path = "../promises/support.rs"]
#[allow(dead_code, reason = "the promises use the rest")]
mod support;
#[cfg(feature = "stall")]
mod window;
#[cfg(feature = "stall")]
mod worker_restarts;
