//! What the bus saw of itself: counts, latencies and rates, kept without a lock on the data plane.
//!
//! | file | keeps | written by | read by |
//! |---|---|---|---|
//! | `cells` | one count, or one peak | one thread, or any | any, at any time |
//! | `histogram` | latencies in nanoseconds, two digits | one thread, or any | any, at any time |
//! | `summary` | percentiles of histograms, for people | whoever asks | the same |
//! | `recorder` | all histograms and counts of one worker, or of one mailbox | that worker, or the mailbox's consumers | any, at any time |
//! | `rate` | how fast a counter moves | its owner, control plane | its owner |
//!
//! A worker owns its cells and histograms and is their only writer, so a record is a load and a store. Whoever
//! asks adds up all workers' cells: numbers are added on reading, never on writing. Each number only rises
//! (rates apart); numbers read together need not be of one moment, and agree at quiescence.

mod cells;
mod histogram;
mod rate;
mod recorder;
mod summary;
#[cfg(ringmain_shuttle)]
mod unscheduled;

pub(crate) use cells::{Counter, SharedCounter};
pub(crate) use histogram::HistogramCells;
pub(crate) use rate::RateWindow;
pub(crate) use recorder::{MailboxStages, Recorder, Stages};
pub use summary::LatencySummary;
