//! Who decides, when a batch's turn has come, whether it is appended: for what only the order of the log can decide.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::batch::Batch;

/// Where a batch lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// Positions of its records.
    pub positions: Range<u64>,
    /// The first position of the segment they are in.
    pub segment: u64,
    /// The offset of the first in the segment; [`Batch::offsets`] has the others.
    pub offset: u64,
}

/// Decides on one batch of a [`Committer`](super::Committer). Its methods are called one batch after the other, in the order
/// of the log, by whoever writes for all: they must be short.
///
/// ```text
///   admit ──► staged ──► written       in the log, and nobody was told yet
///     │          └─────► lost          the write failed
///     └─► refused, or not laid out: nothing more is called
/// ```
pub trait Gate: fmt::Debug + Send {
    /// Whether the batch may be appended behind all that was staged so far. Its writer hears of a refusal after that is
    /// written; if the write fails, of that instead.
    ///
    /// # Errors
    /// Why it may not.
    fn admit(&mut self) -> Result<(), Arc<dyn Error + Send + Sync>>;

    /// It will be written with the next write.
    fn staged(&mut self);

    /// It is in the log, and can be read.
    fn written(&mut self, batch: &Batch, placed: &Placed);

    /// It was staged, and the write failed: it counts as not appended until the log is opened again.
    fn lost(&mut self);
}
