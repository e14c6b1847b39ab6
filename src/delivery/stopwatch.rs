//! Times the handlers of measured events: the end of one is the beginning of the next, so each costs one clock read.

use crate::clock::Clock;
use crate::event::{FLAG_STAMPED, Header};
use crate::metrics::Stages;

/// One in so many measured events also has its routing time measured, which costs one more clock read.
const ROUTE_SAMPLE: u32 = 64;

/// A turn of long handlers ends after so much time, so that others see the slots it has passed.
const TURN_NS: u64 = 1_000_000;

/// A worker's stopwatch.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    /// End of what came just before; 0 = not known.
    begun: u64,
    /// When the event in hand was published; 0 = its time is not this bus's.
    published: u64,
    /// The first end known since the turn began; 0 = none.
    turn: u64,
    samples: u32,
}

impl Stopwatch {
    /// Another turn begins: time has passed since the last handler.
    #[inline(always)]
    pub(crate) fn begin_turn(&mut self) {
        self.begun = 0;
        self.turn = 0;
    }

    /// An event that is not measured: when the next one begins is not known.
    #[inline(always)]
    pub(crate) fn skip(&mut self) {
        self.begun = 0;
    }

    /// A measured event is about to meet its first subscription.
    pub(crate) fn begin(&mut self, clock: &Clock, stages: &Stages, header: &Header) {
        if self.begun == 0 {
            self.begun = clock.now();
        }
        self.published = if header.has(FLAG_STAMPED) { header.time } else { 0 };
        if self.published != 0 {
            stages.queue.record(self.begun.saturating_sub(self.published));
        }
        self.samples = self.samples.wrapping_add(1);
        if self.samples.is_multiple_of(ROUTE_SAMPLE) {
            let now = clock.now();
            stages.route.record(now.saturating_sub(self.begun));
            self.begun = now;
        }
    }

    /// Its handler has returned: when, and how long that took.
    pub(crate) fn end(&mut self, clock: &Clock, stages: &Stages) -> (u64, u64) {
        let now = clock.now();
        let elapsed = now.saturating_sub(self.begun);
        stages.handler.record(elapsed);
        if self.published != 0 {
            stages.total.record(now.saturating_sub(self.published));
        }
        self.pass(now);
        (now, elapsed)
    }

    /// What came before has ended at the instant `now`: what it took is not the next handler's time.
    pub(crate) fn pass(&mut self, now: u64) {
        if self.turn == 0 {
            self.turn = now;
        }
        self.begun = now;
    }

    /// Whether the turn is long already, as far as its measured handlers show.
    #[inline(always)]
    pub(crate) fn is_turn_long(&self) -> bool {
        self.begun.saturating_sub(self.turn) > TURN_NS
    }
}
