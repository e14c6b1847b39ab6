//! What one worker measures, and what a mailbox does: latencies by lane and stage.

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
    /// Events whose payload was too long for the conditions of rules.
    pub(crate) conditions_unread: Counter,
    /// Times that the worker stopped for the throttle.
    pub(crate) throttled: Counter,
    /// Times that it went on after a panic of its own.
    pub(crate) restarts: Counter,
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
        let [matched_by_name, conditions_unread, throttled, restarts] = std::array::from_fn(|_| Counter::default());
        Some(Self { lanes, matched_by_name, conditions_unread, throttled, restarts })
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

/// What a mailbox measures, in nanoseconds, a histogram a lane.
#[derive(Debug)]
pub(crate) struct MailboxStages {
    /// Publish to hand-over. The consumer alone writes it.
    pub(crate) total: [HistogramCells; 4],
    /// The first attempt's beginning to the acknowledgement, under reliable delivery. Whoever acknowledges writes it.
    pub(crate) ack: Option<[HistogramCells; 4]>,
}

impl MailboxStages {
    /// `None` when the system has not so much memory.
    pub(crate) fn try_new(is_reliable: bool) -> Option<Self> {
        let ack = if is_reliable { Some(HistogramCells::try_new_lanes()?) } else { None };
        Some(Self { total: HistogramCells::try_new_lanes()?, ack })
    }

    /// Bytes reserved for cells.
    pub(crate) const fn bytes_for(is_reliable: bool) -> usize {
        let stages = if is_reliable { 2 } else { 1 };
        stages * 4 * HistogramCells::BYTES
    }

    /// Counts all that `other` has counted so far as well. Call it from one thread only, where nobody records.
    pub(crate) fn absorb(&self, other: &Self) {
        let both = |mine: &[HistogramCells; 4], others: &[HistogramCells; 4]| {
            mine.iter().zip(others).for_each(|(mine, other)| mine.absorb(other));
        };
        both(&self.total, &other.total);
        if let (Some(mine), Some(others)) = (&self.ack, &other.ack) {
            both(mine, others);
        }
    }

    /// What has been counted so far, in memory of its own. Control plane only.
    pub(crate) fn copy(&self) -> Self {
        let copy = |lanes: &[HistogramCells; 4]| lanes.each_ref().map(HistogramCells::copy);
        Self { total: copy(&self.total), ack: self.ack.as_ref().map(copy) }
    }
}
