//! Events in a row for one inline handler: the common case, in one virtual call and one net under panics for all.
//!
//! ```text
//!   worker ──► Dispatch::run ──► next ──► closure ──► settle ──┐     as long as the next event of the lane is of the
//!                                  ▲──────────────────────────┘     same type, plain, and nothing more urgent came
//! ```
//!
//! Whatever is unusual ends the run *before* its event, and the worker takes that one the long way.

use crate::event::{Directory, FLAG_MEASURED, Header, Meta};
use crate::metrics::Stages;
use crate::ring::LaneReader;
use crate::sync::snapshot::Watch;

use super::{Scene, State, Stopwatch, SubscriptionState};

/// What a run needs to know and does not change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunPlan<'a> {
    /// The most events to serve.
    pub(crate) max: u32,
    pub(crate) type_id: u32,
    pub(crate) subscription: &'a SubscriptionState,
    pub(crate) directory: &'a Directory,
    pub(crate) stages: &'a Stages,
    /// A newer table, or the end of the bus.
    pub(crate) interrupt: Watch<'a>,
    /// Nanoseconds of one handler call after which the worker is told.
    pub(crate) slow_ns: u64,
    /// Nanoseconds of handlers after which the turn ends.
    pub(crate) turn_ns: u64,
    pub(crate) scene: Scene,
}

/// A run under way. The event that `next` shows is at the head of its lane until it is settled.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    plan: RunPlan<'a>,
    reader: LaneReader<'a>,
    stopwatch: &'a mut Stopwatch,
    left: u32,
    /// The event in hand is measured, and its time not booked yet.
    measured: bool,
    /// How long the handler of the event in hand took; of an earlier one that was not long.
    elapsed: Option<u64>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(plan: RunPlan<'a>, reader: LaneReader<'a>, stopwatch: &'a mut Stopwatch) -> Self {
        Self { left: plan.max, plan, reader, stopwatch, measured: false, elapsed: None }
    }

    /// What the handler may know of its calls.
    #[inline(always)]
    pub(crate) fn scene(&self) -> Scene {
        self.plan.scene
    }

    /// Events settled.
    pub(crate) fn served(&self) -> u32 {
        self.plan.max - self.left
    }

    /// The next event, unless the run ends here.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Meta<'_>> {
        let RunPlan { subscription, interrupt, directory, .. } = self.plan;
        let is_over = self.left == 0 || interrupt.is_stale() || subscription.state() != State::Active;
        if is_over || self.reader.is_pressed() {
            return None;
        }
        let slot = self.reader.peek()?;
        let header = Header::of_words(slot.head);
        if header.type_id != self.plan.type_id || header.deadline != 0 {
            return None;
        }
        let meta = Meta::new(header, slot.rest()?, self.reader.sequence(), directory).ok()?;
        if header.has(FLAG_MEASURED) {
            self.measured = true;
            self.stopwatch.begin(&directory.clock, self.plan.stages, header);
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
        self.reader.advance();
        self.left -= 1;
    }

    /// Books the time of the event in hand. False when it was long, or the turn is.
    fn measure(&mut self) -> bool {
        let RunPlan { subscription, directory, stages, .. } = self.plan;
        let Some(slot) = self.reader.peek() else { return false };
        let header = Header::of_words(slot.head);
        let (now, elapsed) = self.stopwatch.end(&directory.clock, stages, header);
        subscription.delivered_at(now);
        self.measured = false;
        self.elapsed = Some(elapsed);
        elapsed < self.plan.slow_ns && self.stopwatch.turn_ns() <= self.plan.turn_ns
    }

    /// The run has ended with an event in hand. How long its handler took, when it is measured, and how far the worker
    /// lags in the lane.
    pub(crate) fn stop(&mut self) -> (Option<u64>, u64) {
        if self.measured {
            self.measure();
        }
        (self.elapsed, self.reader.lag())
    }

    /// The event in hand, after `stop`.
    pub(crate) fn in_hand(&self) -> Option<Meta<'_>> {
        let slot = self.reader.peek()?;
        Meta::new(Header::of_words(slot.head), slot.rest()?, self.reader.sequence(), self.plan.directory).ok()
    }
}
