//! Rates as they ought to be kept: in any stretch of time at most the share at the mean comes, and one burst.

use ringmain::{OverLimit, Rate, SubscriptionLedger};

use crate::draw::Draw;
use crate::sub::{Sub, Way};
use crate::world::World;

/// Time is counted in sixteenths of a nanosecond.
const TICKS_PER_NS: u64 = 16;

/// What a subscription asked for, and what it has had of it.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    burst: u32,
    /// What comes over it is turned away, and waits otherwise.
    pub(crate) rejects: bool,
    /// When the next event would come if all came at the mean.
    due: u64,
    /// Events turned away since the workers began to turn, as far as their letters say.
    pub(crate) turned_away: u64,
    /// Some event may have passed that nobody has told of.
    is_vague: bool,
}

impl Pace {
    pub(crate) fn draw(draw: &mut Draw, rejects: bool) -> Self {
        let (per_second, burst) = (draw.pick(&[0.5, 7.0, 300.0, 40_000.0]), draw.pick(&[1, 2, 4, 8]));
        Self { per_second, burst, rejects, due: 0, turned_away: 0, is_vague: false }
    }

    /// The same rate, of which nothing was had yet.
    pub(crate) fn fresh(&self) -> Self {
        Self { due: 0, turned_away: 0, is_vague: false, ..*self }
    }

    /// One that some hundred events pass within a few minutes.
    pub(crate) fn draw_wide(draw: &mut Draw) -> Self {
        let mut pace = Self::draw(draw, false);
        pace.burst = draw.pick(&[4, 8, 40]);
        pace
    }

    /// As a subscriber asks for it.
    pub(crate) fn rate(&self) -> (Rate, OverLimit) {
        let over = if self.rejects { OverLimit::Reject } else { OverLimit::Queue };
        (Rate::per_second(self.per_second).burst(self.burst), over)
    }

    fn interval(&self) -> u64 {
        (1e9 * TICKS_PER_NS as f64 / self.per_second).round() as u64
    }

    pub(crate) fn has_room(&self, now: u64) -> bool {
        now * TICKS_PER_NS + self.interval() * u64::from(self.burst - 1) >= self.due
    }

    /// An event comes.
    pub(crate) fn pass(&mut self, now: u64) -> Result<(), String> {
        if !self.has_room(now) {
            return Err(format!("it comes over its rate: {self:?}"));
        }
        self.due = self.due.max(now * TICKS_PER_NS) + self.interval();
        Ok(())
    }
}

impl Sub {
    /// What comes over its rate is turned away.
    pub(crate) fn turns_away(&self) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.rejects)
    }

    /// Whether what is queued waits for its rate.
    pub(crate) fn waits_for_pace(&self, now: u64) -> bool {
        self.pace.as_ref().is_some_and(|pace| !pace.rejects && !pace.has_room(now))
    }
}

impl World {
    /// What a rate that turns away made of events, while workers turned and no consumer took anything.
    pub(crate) fn check_turned_away(
        &mut self,
        nth: usize,
        before: &SubscriptionLedger,
        after: &SubscriptionLedger,
    ) -> Result<(), String> {
        let Self { subs, now, is_closed, census, overruns, .. } = self;
        let sub = &mut subs[nth];
        let returning = sub.trials.as_ref().map_or(0, |trials| trials.returning_before);
        let has_cells = sub.way != Way::Inline;
        let Some(pace) = sub.pace.as_mut().filter(|pace| pace.rejects && !*is_closed) else { return Ok(()) };
        let gone = |ledger: &SubscriptionLedger| {
            let dropped = &ledger.dropped;
            dropped.expired + dropped.duplicate + dropped.paused + dropped.closed
        };
        let (matched, gone) = (after.matched - before.matched, gone(after) - gone(before));
        let turned_away = after.dropped.rate_limited - before.dropped.rate_limited + pace.turned_away;
        // Of what is gone it is not known whether it was let in before, nor how many letters came back; and what an open
        // breaker has is none of the rate's. Where time went on meanwhile, it is not known when they came.
        let is_untimed = sub.breaker.is_some() || overruns.has_moved;
        let is_guess = is_untimed || sub.trials.is_some() && has_cells && (gone > 0 || returning > 0);
        pace.is_vague |= is_guess && matched > 0;
        let came = matched.saturating_sub(gone + turned_away + returning);
        for _ in 0..if is_untimed { 0 } else { came } {
            pace.pass(*now)?;
        }
        if turned_away > 0 {
            census.count("turned away by a rate");
            if !pace.is_vague && pace.has_room(*now) {
                return Err(format!("{turned_away} events were turned away, and the rate has room: {pace:?}"));
            }
        }
        Ok(())
    }
}
