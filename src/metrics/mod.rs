//! What the bus saw of itself: counts, latencies and rates, kept without a lock on the data plane.
//!
//! | file | keeps | written by | read by |
//! |---|---|---|---|
//! | `cells` | one count, or one peak | one thread, or any | any, at any time |
//! | `histogram` | latencies in nanoseconds, two digits | one thread | any, at any time |
//! | `summary` | percentiles of histograms, for people | whoever asks | the same |
//! | `rate` | how fast a counter moves | its owner, control plane | its owner |
//!
//! A worker owns its cells and histograms and is their only writer, so a record is a load and a store. Whoever
//! asks adds up all workers' cells: numbers are added on reading, never on writing. Each number only rises
//! (rates apart); numbers read together need not be of one moment, and agree at quiescence.

#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the floors that record into these come later")
)]
#![expect(
    unused_imports,
    reason = "the floors that record into these come later"
)]

mod cells;
mod histogram;
mod rate;
mod summary;

pub(crate) use cells::{Counter, Peak, SharedCounter};
pub(crate) use histogram::HistogramCells;
pub(crate) use rate::RateWindow;
pub use summary::LatencySummary;
