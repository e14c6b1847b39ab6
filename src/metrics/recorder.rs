//! What one worker measures: latencies by lane and stage.

use super::{Counter, HistogramCells};

/// Latencies of one lane, each in nanoseconds.
#[derive(Debug)]
pub(crate) struct Stages {
    /// Publish to the worker's look at the event.
    pub(crate) queue: HistogramCells,
    /// The look to the first handler or mailbox.
    pub(crate) route: HistogramCells,
    /// One handler call.
    pub(crate) handler: HistogramCells,
    /// Publish to the end of a handler call.
    pub(crate) total: HistogramCells,
}

/// The measurements of one worker. It alone writes them.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) lanes: [Stages; 4],
    /// Events of types beyond `types_max`, matched by name.
    pub(crate) matched_by_name: Counter,
    /// Times that the worker stopped for the throttle.
    pub(crate) throttled: Counter,
}

impl Recorder {
    /// Bytes reserved for cells; pages are touched on first use.
    pub(crate) const BYTES: usize = 16 * HistogramCells::BYTES;

    /// `None` when the system has not so much memory.
    pub(crate) fn try_new() -> Option<Self> {
        let stages = || {
            Some(Stages {
                queue: HistogramCells::try_new()?,
                route: HistogramCells::try_new()?,
                handler: HistogramCells::try_new()?,
                total: HistogramCells::try_new()?,
            })
        };
        let lanes = [stages()?, stages()?, stages()?, stages()?];
        Some(Self { lanes, matched_by_name: Counter::default(), throttled: Counter::default() })
    }

    /// Makes all pages resident, near the core that the calling thread is on. Before the first record.
    pub(crate) fn touch(&self) {
        for lane in &self.lanes {
            for histogram in [&lane.queue, &lane.route, &lane.handler, &lane.total] {
                histogram.touch();
            }
        }
    }
}
