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
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let stages = || Stages {
            queue: HistogramCells::new(),
            route: HistogramCells::new(),
            handler: HistogramCells::new(),
            total: HistogramCells::new(),
        };
        Self { lanes: std::array::from_fn(|_| stages()), matched_by_name: Counter::default() }
    }

    /// Bytes reserved for cells; pages are touched on first use.
    pub(crate) fn reserved_bytes(&self) -> usize {
        let stages = self.lanes.iter().flat_map(|lane| [&lane.queue, &lane.route, &lane.handler, &lane.total]);
        stages.map(HistogramCells::reserved_bytes).sum()
    }
}
