//! Events in a row for one inline handler: the common case, in one virtual call and one net under panics for all.
//!
//! ```text
//!   worker ──► Dispatch::run ──► next ──► closure ──► settle ──┐     as long as the next event of the lane is of the
//!                                  ▲──────────────────────────┘     same type, plain, and nothing more urgent came
//! ```
//!
//! Whatever is unusual ends the run *before* its event, and the worker takes that one the long way.

use crate::event::{Directory, FLAG_MEASURED, FLAG_REPLAY, FLAG_TARGETED, Header, Meta};
use crate::metrics::Stages;
use crate::ring::Reader;
use crate::sync::snapshot::Watch;

use super::{Scene, State, Stopwatch, SubscriptionState};

/// A run under way. The event that `next` shows is at the head of its lane until it is settled.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) reader: &'a mut Reader,
    pub(crate) lane: usize,
    /// Lanes that end the run when they get an event, a bit each.
    pub(crate) urgent: u8,
    pub(crate) type_id: u32,
    /// The most events to serve.
    pub(crate) max: u32,
    /// Events served.
    pub(crate) served: u32,
    pub(crate) subscription: &'a SubscriptionState,
    pub(crate) directory: &'a Directory,
    /// A newer table, or the end of the bus.
    pub(crate) interrupt: Watch<'a>,
    pub(crate) stages: &'a Stages,
    pub(crate) stopwatch: &'a mut Stopwatch,
    /// Nanoseconds of one handler call after which there is something to tell of it.
    pub(crate) slow_ns: u64,
    /// The bus was shutting down when the turn began.
    pub(crate) closing: bool,
    /// The event in hand is measured, and its time not booked yet.
    pub(crate) measured: bool,
    /// How long the handler of the event in hand took; of an earlier one that was not long.
    pub(crate) elapsed: Option<u64>,
}

impl<'a> Run<'a> {
    /// What the handler may know of its calls.
    #[inline(always)]
    pub(crate) fn scene(&self) -> Scene<'a> {
        Scene { subscription: &self.subscription.id, cancelled: self.closing }
    }

    /// The next event, unless the run ends here.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Meta<'_>> {
        let is_over =
            self.served == self.max || self.interrupt.is_stale() || self.subscription.state() != State::Active;
        if is_over || self.reader.has_any(self.urgent) {
            return None;
        }
        let slot = self.reader.peek(self.lane)?;
        let header = Header::of_words(slot.head);
        if header.type_id != self.type_id || header.deadline != 0 {
            return None;
        }
        let meta = Meta::new(header, slot.rest()?, self.reader.sequence(self.lane), self.directory).ok()?;
        if header.has(FLAG_MEASURED | FLAG_TARGETED | FLAG_REPLAY) {
            // All are asked at once: what names services or is a replay goes the long way.
            if header.has(FLAG_TARGETED | FLAG_REPLAY) {
                return None;
            }
            self.measured = true;
            self.stopwatch.begin(&self.directory.clock, self.stages, header);
        } else {
            self.stopwatch.skip();
        }
        Some(meta)
    }

    /// The handler has acknowledged the event in hand. False when that took long: then the event is not settled, and the
    /// run ends.
    #[inline(always)]
    pub(crate) fn settle(&mut self) -> bool {
        if self.measured && !self.measure() {
            return false;
        }
        self.step_over();
        true
    }

    #[inline(always)]
    pub(crate) fn step_over(&mut self) {
        self.reader.advance(self.lane);
        self.served += 1;
    }

    /// Books the time of the event in hand. False when it was long, or the turn is.
    fn measure(&mut self) -> bool {
        let (now, elapsed) = self.stopwatch.end(&self.directory.clock, self.stages);
        self.subscription.delivered_at(now);
        self.measured = false;
        self.elapsed = Some(elapsed);
        elapsed < self.slow_ns && !self.stopwatch.is_turn_long()
    }

    /// The run has ended with an event in hand. How long its handler took, when that was too long.
    pub(crate) fn stop(&mut self) -> Option<u64> {
        if self.measured {
            self.measure();
        }
        self.elapsed.filter(|&elapsed| elapsed >= self.slow_ns)
    }

    /// The event in hand, and how far the worker lags in its lane.
    pub(crate) fn in_hand(&self) -> Option<(Meta<'_>, u64)> {
        let slot = self.reader.peek(self.lane)?;
        let header = Header::of_words(slot.head);
        let meta = Meta::new(header, slot.rest()?, self.reader.sequence(self.lane), self.directory).ok()?;
        Some((meta, self.reader.lag(self.lane)))
    }
}
