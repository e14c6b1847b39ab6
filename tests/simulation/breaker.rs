//! Circuit breakers as they ought to be: each attempt that may be made, and each change of state, to the event.

use std::collections::VecDeque;
use std::time::Duration;

use ringmain::{BreakerPolicy, BreakerState, Outcome, WhileOpen};

use crate::draw::Draw;
use crate::sub::Sub;
use crate::trials::is_over;
use crate::world::World;

/// Instants are kept to so many nanoseconds.
const TICK_NS: u64 = 1 << 16;
/// Steps in which the window moves.
const SLICES: u64 = 10;

/// What a subscription asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    failures_max: u32,
    percent_max: u8,
    events_min: u32,
    window: Duration,
    open_for: Duration,
    probes: u8,
    while_open: WhileOpen,
}

impl Limits {
    pub(crate) fn draw(draw: &mut Draw, of_instance: bool) -> Self {
        let others = [WhileOpen::DeadLetter, WhileOpen::Hold, WhileOpen::Hold];
        Self {
            failures_max: draw.pick(&[1, 2, 3, 1_000]),
            percent_max: draw.pick(&[30, 50, 100]),
            events_min: 2 + draw.below(5) as u32,
            window: Duration::from_millis(draw.pick(&[10, 1_000, 60_000])),
            open_for: Duration::from_millis(draw.pick(&[1, 20, 2_000, 100_000])),
            probes: 1 + draw.below(3) as u8,
            while_open: if of_instance && !draw.one_in(3) { WhileOpen::NextTarget } else { draw.pick(&others) },
        }
    }

    pub(crate) fn policy(&self) -> BreakerPolicy {
        BreakerPolicy::default()
            .failures_max(self.failures_max)
            .share_max(self.percent_max, self.events_min, self.window)
            .open_for(self.open_for)
            .probes(self.probes)
            .while_open(self.while_open)
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.while_open == WhileOpen::NextTarget
    }
}

/// One breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) limits: Limits,
    in_a_row: u32,
    /// What came of each attempt since the last change: the slice of time it fell in, and whether it failed.
    attempts: Vec<(u64, bool)>,
    /// When it half opens; 0 while it is closed.
    until: u64,
    /// Probes under way, and those that went well.
    out: u8,
    proved: u8,
    /// The bus has said that it is half open.
    is_probed: bool,
    /// Changes that the bus is to tell of within this step.
    untold: VecDeque<BreakerState>,
}

impl Breaker {
    pub(crate) fn new(limits: Limits) -> Self {
        let (attempts, untold) = (Vec::new(), VecDeque::new());
        Self { limits, in_a_row: 0, attempts, until: 0, out: 0, proved: 0, is_probed: false, untold }
    }

    pub(crate) fn state(&self, now: u64) -> BreakerState {
        match self.until {
            0 => BreakerState::Closed,
            until if now < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// Whether an attempt may be made now.
    pub(crate) fn admits(&self, now: u64) -> bool {
        match self.state(now) {
            BreakerState::Closed => true,
            BreakerState::HalfOpen => self.out + self.proved < self.limits.probes,
            _ => false,
        }
    }

    /// Whether an event is given up now, untried.
    pub(crate) fn gives_up(&self, now: u64) -> bool {
        self.limits.while_open == WhileOpen::DeadLetter && self.state(now) == BreakerState::Open
    }

    /// An attempt is made. Whether it is a probe.
    fn admit(&mut self, now: u64) -> Result<bool, String> {
        if !self.admits(now) {
            return Err(format!("it is tried although its breaker is {:?}", self.state(now)));
        }
        let is_probe = self.until != 0;
        self.out += u8::from(is_probe);
        if is_probe && !self.is_probed {
            Err("nobody has said that its breaker half opens".to_owned())
        } else {
            Ok(is_probe)
        }
    }

    /// What came of an attempt; `None`: it was given back.
    pub(crate) fn record(&mut self, now: u64, went_well: Option<bool>) {
        let is_probing = self.until != 0 && now >= self.until && self.out > 0;
        let Some(went_well) = went_well else {
            self.out -= u8::from(is_probing);
            return;
        };
        self.in_a_row = if went_well { 0 } else { self.in_a_row.saturating_add(1) };
        let slice = now / (self.limits.window.as_nanos() as u64 / SLICES);
        self.attempts.push((slice, !went_well));
        if self.until == 0 {
            if !went_well && (self.in_a_row >= self.limits.failures_max || self.is_share_too_large(slice)) {
                self.turn(BreakerState::Open, now);
            }
        } else if is_probing && !went_well {
            self.turn(BreakerState::Open, now);
        } else if is_probing {
            (self.out, self.proved) = (self.out - 1, self.proved + 1);
            if self.proved == self.limits.probes {
                self.turn(BreakerState::Closed, now);
            }
        }
    }

    fn is_share_too_large(&self, slice: u64) -> bool {
        let recent = self.attempts.iter().filter(|(at, _)| slice - at < SLICES);
        let (attempts, failures) = recent.fold((0, 0), |(all, failed), one| (all + 1, failed + u64::from(one.1)));
        attempts >= u64::from(self.limits.events_min) && failures * 100 >= attempts * u64::from(self.limits.percent_max)
    }

    fn turn(&mut self, state: BreakerState, now: u64) {
        let opens = state == BreakerState::Open;
        let half = (now + self.limits.open_for.as_nanos() as u64) / TICK_NS * TICK_NS;
        self.until = if opens { half.max(TICK_NS) } else { 0 };
        (self.out, self.proved, self.is_probed, self.in_a_row) = (0, 0, false, 0);
        self.attempts.clear();
        self.untold.push_back(state);
    }

    /// The bus tells of a change.
    fn told(&mut self, now: u64, state: BreakerState) -> Result<(), String> {
        if state == BreakerState::HalfOpen && self.untold.is_empty() && !self.is_probed && self.state(now) == state {
            self.is_probed = true;
            return Ok(());
        }
        match self.untold.pop_front() {
            Some(change) if change == state => Ok(()),
            other => Err(format!("its breaker is said to be {state:?}, and {other:?} was to be told: {self:?}")),
        }
    }
}

impl Sub {
    /// Whether something stands between its mailbox and its consumer.
    pub(crate) fn is_guarded(&self) -> bool {
        self.breaker.is_some() || self.pace.as_ref().is_some_and(|pace| !pace.rejects)
    }

    /// Whether what is queued has to wait now.
    pub(crate) fn is_held_back(&self, now: u64) -> bool {
        let gives_up = self.breaker.as_ref().is_some_and(|breaker| breaker.gives_up(now));
        let admits = self.breaker.as_ref().is_none_or(|breaker| breaker.admits(now));
        !gives_up && (!admits || self.waits_for_pace(now))
    }

    /// A consumer gets an event for an attempt.
    pub(crate) fn admit(&mut self, now: u64, is_stopped: bool) -> Result<bool, String> {
        // A mailbox that has ended gives out all that it has; handlers of the bus are left alone to the last.
        if self.is_pulled && (self.is_closed || is_stopped) {
            return Ok(false);
        }
        let is_probe = self.breaker.as_mut().map_or(Ok(false), |breaker| breaker.admit(now))?;
        if let Some(pace) = self.pace.as_mut().filter(|pace| !pace.rejects) {
            pace.pass(now)?;
        }
        Ok(is_probe)
    }

    /// What came of an attempt that was to be over by `due`.
    pub(crate) fn record(&mut self, now: u64, due: u64, outcome: &Outcome) {
        let Some(breaker) = &mut self.breaker else { return };
        let went_well = match outcome {
            _ if is_over(due, now) => Some(false),
            Outcome::Ack | Outcome::Reject(_) => Some(true),
            Outcome::Release => None,
            _ => Some(false),
        };
        breaker.record(now, went_well);
    }
}

impl World {
    /// The bus says that the breaker of subscription `nth` changed.
    pub(crate) fn breaker_told(&mut self, nth: usize, state: BreakerState) {
        let now = self.now;
        self.census.count(match state {
            BreakerState::Closed => "breaker closed",
            BreakerState::Open => "breaker opened",
            _ => "breaker half opened",
        });
        self.note(format_args!("the breaker of {nth} is {state:?}"));
        let told = match self.subs[nth].breaker.as_mut() {
            Some(breaker) => breaker.told(now, state),
            None => Err("it has no breaker".to_owned()),
        };
        if let Err(what) = told {
            self.broken(format!("subscription {nth}: {what}"));
        }
        if self.is_turning {
            self.let_drift_from(nth);
        }
    }

    /// Between any two steps: every change has been told.
    pub(crate) fn check_breakers(&self) -> Result<(), String> {
        let untold = |sub: &Sub| sub.breaker.as_ref().is_some_and(|breaker| !breaker.untold.is_empty());
        match self.subs.iter().position(untold) {
            Some(nth) => Err(format!("nobody has told that the breaker of subscription {nth} has changed")),
            None => Ok(()),
        }
    }
}
