//! Handlers on workers that take their time, and sometimes too much of it. Nobody can take their events away, so that their word
//! counts; the call is counted and told of, and to a breaker it is a failure.
//!
//! Time goes on amid the turns of the workers then, at most once while all of them turn until they are idle, and only as far as
//! nothing comes due that the model takes note of before they turn.

use std::time::Duration;

use ringmain::EventId;

use crate::draw::Draw;
use crate::sight::Sight;
use crate::sub::Way;
use crate::subscribe::draw_call_max_ns;
use crate::trials::{is_call_over, is_over};
use crate::world::World;

/// One handler's call in so many takes time, where that may be.
const ONE_IN: usize = 3;

/// Calls that take time, in scenarios that have such.
#[derive(Debug, Default)]
pub(crate) struct Overruns {
    draw: Option<Draw>,
    /// All workers turn, until none of them finds anything, and need not take anything away.
    pub(crate) is_possible: bool,
    /// Time went on while workers turned.
    pub(crate) has_moved: bool,
    /// When they began to turn.
    pub(crate) begun: u64,
    /// Calls that took too long, of which the bus is to tell within this step: subscription, event and nanoseconds.
    untold: Vec<(usize, EventId, u64)>,
}

impl Overruns {
    /// Drawn apart from all else, so that seeds are what they were.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut draw = Draw::new(seed ^ 0x0e44);
        Self { draw: draw.one_in(2).then_some(draw), ..Self::default() }
    }

    /// How long a handler on a worker may have an event.
    pub(crate) fn draw_call_max_ns(&mut self) -> Option<u64> {
        self.draw.as_mut().map(draw_call_max_ns)
    }
}

impl World {
    /// The handler of subscription `nth`, on a worker, has been given an event. Returns how long it takes over it.
    pub(crate) fn take_time(&mut self, nth: usize, Sight { index, .. }: Sight) -> u64 {
        let sub = &self.subs[nth];
        // One that is called in its lane counts the time of calls that are measured, and of runs of them.
        let Some(call_max_ns) = sub.call_max_ns.filter(|_| sub.way != Way::Inline) else { return 0 };
        let limit = sub.trials.as_ref().map_or(call_max_ns, |trials| trials.rule.timeout_ns.min(call_max_ns));
        let Some(draw) = &mut self.overruns.draw else { return 0 };
        let takes = match draw.below(3 * ONE_IN) {
            0 => limit - 1,
            1 => limit,
            2 => limit + draw.below(limit as usize) as u64,
            _ => return 0,
        };
        if !self.overruns.is_possible || self.overruns.has_moved || !self.is_quiet_until(self.now + takes, (nth, index))
        {
            return 0;
        }
        self.note(format_args!("{nth} takes {takes} ns over {index}"));
        self.now += takes;
        self.overruns.has_moved = true;
        if takes < limit {
            self.census.count("call within its time");
        } else {
            self.census.count("call overrun");
            self.subs[nth].timed_out += 1;
            let id = self.events[index].id;
            self.overruns.untold.push((nth, id, takes));
        }
        takes
    }

    /// Whether nothing comes due by then but what is asked of the clock at the moment when it matters; `in_hand` is the event whose
    /// handler takes its time.
    fn is_quiet_until(&self, then: u64, in_hand: (usize, usize)) -> bool {
        let now = self.now;
        let comes = |due: u64| now < due && due <= then;
        let ends = |due: u64| !is_over(due, now) && is_over(due, then);
        let call_ends = |due: u64| !is_call_over(due, now) && is_call_over(due, then);
        let is_sub_quiet = |(nth, sub): (usize, &crate::sub::Sub)| {
            let mut hands = sub.trials.iter().flat_map(|trials| trials.in_hand());
            let mut requests = sub.requests.iter().flat_map(|requests| requests.waiting.values());
            !hands.any(|(index, due)| (nth, index) != in_hand && ends(due))
                && !requests.any(|request| comes(request.deadline))
                && !sub.call.is_some_and(|(due, is_overrun)| !is_overrun && call_ends(due))
        };
        self.throttle.is_none()
            && !self.is_closed
            && !self.pending.iter().any(|&index| self.events[index].due.is_some_and(comes))
            && self.subs.iter().enumerate().all(is_sub_quiet)
    }

    /// The bus says that a handler of subscription `nth` has had an event for too long.
    pub(crate) fn hung(&mut self, nth: usize, id: EventId, after: Duration) {
        // Those elsewhere lose their events to their workers, which is checked there.
        if !self.subs[nth].is_inline {
            return;
        }
        let told = (nth, id, after.as_nanos() as u64);
        match self.overruns.untold.iter().position(|untold| *untold == told) {
            Some(at) => drop(self.overruns.untold.swap_remove(at)),
            None => self.broken(format!("{told:?} is said to hang, and {:?} were to be told of", self.overruns.untold)),
        }
    }

    /// Between any two steps: each call that took too long has been told of.
    pub(crate) fn check_hung(&self) -> Result<(), String> {
        match self.overruns.untold.first() {
            Some(untold) => Err(format!("nobody has told of a call that took too long: {untold:?}")),
            None => Ok(()),
        }
    }
}
