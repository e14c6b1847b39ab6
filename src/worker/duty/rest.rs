//! When a worker leaves the lanes alone for a moment, so that a flow fills them undisturbed.

use std::time::{Duration, Instant};

use crate::ring::LANES;
use crate::worker::Phase;

use super::Worker;

/// What one event of a flow adds to the time that a worker coalesces: a few times what it takes to hand it over, or else
/// batches would not grow.
const COALESCE_NS: u64 = 50;
/// Nanoseconds an event, from one catching up to the next, up to which a flow is dense: slower ones do not wait for lines.
pub(super) const DENSE_NS: u64 = 200;

impl Worker {
    /// Leaves the lanes alone for a while after a flow of `events` that ended with the last one there was.
    ///
    /// Who reads each slot as soon as it is written pulls the lines out of the publisher's hands, and both wait for lines
    /// instead of working: the flow is several times slower. Left alone, the publisher fills a batch; in a flow fast
    /// enough to gain by it the batches grow, each while the worker rests from the one before. Nobody rests after single
    /// events, slow ones or Critical ones, and a more urgent event, a newer table or the end of the bus ends the rest.
    ///
    /// `lanes` are the flow's, a bit each; `pause` is what to do between two looks at the time and at more urgent lanes.
    pub(crate) fn coalesce(&mut self, events: usize, lanes: u8, pause: fn()) {
        // What single events took counts too: a worker at the publisher's heels meets few others.
        self.flow = if lanes & 1 == 0 { self.flow + events } else { 0 };
        let rest = self.rest_after(events, lanes);
        if rest.is_zero() {
            return;
        }
        // Real time, whatever the clock of the bus shows.
        let begun = Instant::now();
        let is_dense = is_dense(self.flow, begun.saturating_duration_since(self.caught_up));
        let mut now = begun;
        while is_dense && now.saturating_duration_since(begun) < rest && !self.is_called() {
            pause();
            now = Instant::now();
        }
        (self.caught_up, self.flow) = (now, 0);
    }

    /// How long to rest at most after a dense flow of `events`; zero: not at all.
    pub(super) fn rest_after(&self, events: usize, lanes: u8) -> Duration {
        if events < 2 || lanes & 1 != 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((events as u64).saturating_mul(COALESCE_NS).min(self.engine.coalesce_max_ns))
    }

    /// Whether something does not wait for the end of a rest.
    pub(super) fn is_called(&self) -> bool {
        let urgent = (1_u8 << self.moved.trailing_zeros().min(LANES as u32)) - 1;
        self.reader.has_any(urgent) || self.exchange.is_stale(&self.table) || self.engine.phase() > Phase::Running
    }
}

/// Whether a flow of `events` in this time gains by a rest.
pub(super) fn is_dense(events: usize, took: Duration) -> bool {
    took <= Duration::from_nanos((events as u64).saturating_mul(DENSE_NS))
}
