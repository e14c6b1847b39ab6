//! What stands between a mailbox and its consumer: first the circuit breaker, then the rate limit.
//!
//! ```text
//!   queued ──► expired? ──► breaker ──► rate ──► in hand
//!                 ▲           │           │
//!                 └── held ◄──┴───────────┘      the worker's alarm wakes the consumer when it may ask again
//! ```
//!
//! One consumer asks; whoever settles attempts tells the breaker what came of them. No lock, no allocation.

use std::sync::Arc;

use crate::sync::alarm::{Alarm, NEVER};
use crate::sync::breaker::{Breaker, BreakerLook, BreakerState};
use crate::sync::limiter::Limiter;
use crate::sync::mutant::mutant;
use crate::sync::parker::Parker;

use super::{BreakerPolicy, Outcome, OverLimit, WhileOpen};

/// The guard of one mailbox. Instants are nanoseconds of the bus clock.
#[derive(Debug)]
pub(crate) struct Guard {
    breaker: Option<(Breaker, WhileOpen)>,
    /// Of a subscription whose events wait for their rate. Its consumer alone takes from it.
    limiter: Option<Limiter>,
    alarm: Arc<Alarm>,
    parker: Arc<Parker>,
}

/// What a consumer may do about the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Take it: nothing stands in between.
    Free,
    /// Take it for an attempt that was asked for at this instant.
    At(u64),
    /// Take it to give it up.
    GiveUp,
    /// Leave it where it is.
    Held,
}

/// Why the next event does not come to its consumer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The subscription is suspended after dead letters in a row.
    Suspended,
    /// Its circuit breaker; and what becomes of events meanwhile.
    Breaker(WhileOpen),
    /// Its rate; and what becomes of events over it.
    Rate(OverLimit),
}

impl Guard {
    /// `None` when nothing is to stand in between. `alarm` is the worker's.
    pub(crate) fn new(
        breaker: Option<BreakerPolicy>,
        limiter: Option<Limiter>,
        alarm: &Arc<Alarm>,
        parker: &Arc<Parker>,
    ) -> Option<Self> {
        let breaker = breaker.map(|policy| (policy.breaker(), policy.while_open));
        (breaker.is_some() || limiter.is_some()).then(|| Self {
            breaker,
            limiter,
            alarm: Arc::clone(alarm),
            parker: Arc::clone(parker),
        })
    }

    /// Consumer: asks for an attempt. `At` must be followed by `took`; `half_opened` hears when it is the breaker's first probe.
    pub(super) fn ask(&self, now: u64, half_opened: impl FnOnce()) -> Pass {
        if let Some((breaker, while_open)) = &self.breaker {
            match breaker.admit(now) {
                Ok(is_first_probe) => {
                    if is_first_probe {
                        half_opened();
                    }
                }
                Err(until) if until != NEVER && *while_open == WhileOpen::DeadLetter => return Pass::GiveUp,
                Err(until) => return self.hold(until),
            }
        }
        let from = self.limiter.as_ref().map_or(now, |limiter| limiter.passes_at(now));
        if from > now {
            self.take_back(now);
            return self.hold(from);
        }
        Pass::At(now)
    }

    /// The worker looks again at `until`; `NEVER`: whoever changes that calls it.
    fn hold(&self, until: u64) -> Pass {
        if until != NEVER {
            self.alarm.set(until, &self.parker);
        }
        Pass::Held
    }

    /// Consumer: took an event for the attempt that was asked for at `now`; or found none, or one that had expired.
    pub(super) fn took(&self, now: u64, is_attempt: bool) {
        if mutant!("breaker.probe", !is_attempt => false) {
            self.take_back(now);
        } else if let Some(limiter) = &self.limiter {
            let passed = limiter.pass(now);
            debug_assert_eq!(passed, Ok(()), "nobody else takes from it since it was asked");
        }
    }

    /// An attempt that the breaker has admitted is not made.
    fn take_back(&self, now: u64) {
        if let Some((breaker, _)) = &self.breaker {
            breaker.take_back(now);
        }
    }

    pub(super) fn has_breaker(&self) -> bool {
        self.breaker.is_some()
    }

    /// Tells the breaker what came of an attempt; `None`, it took too long, which is a failure whatever else it came to. The
    /// breaker's new state when it changed by this.
    pub(super) fn tell(&self, now: u64, outcome: Option<&Outcome>) -> Option<BreakerState> {
        let (breaker, _) = self.breaker.as_ref()?;
        match outcome {
            None | Some(Outcome::Failed(_) | Outcome::RetryAfter(_)) => breaker.record(now, false),
            // Who rejects an event works.
            Some(Outcome::Ack | Outcome::Reject(_)) => breaker.record(now, true),
            Some(Outcome::Release) => {
                breaker.take_back(now);
                // It may have been the probe that the others wait for.
                self.call_worker();
                None
            }
        }
    }

    /// Lets the worker look at the mailbox again.
    pub(super) fn call_worker(&self) {
        self.alarm.set(0, &self.parker);
    }

    /// The instant from which the consumer may have the next event, to try it or to give it up: `now` if at once, `NEVER` while
    /// probes are out.
    pub(super) fn due(&self, now: u64) -> u64 {
        let by_breaker = match &self.breaker {
            None => now,
            Some((breaker, while_open)) => match breaker.admits_at(now) {
                until if until > now && until != NEVER && *while_open == WhileOpen::DeadLetter => return now,
                until => until,
            },
        };
        self.limiter.as_ref().map_or(by_breaker, |limiter| limiter.passes_at(by_breaker))
    }

    /// What would keep an event from the consumer at the instant `now`. A look, which changes nothing.
    pub(super) fn obstacle(&self, now: u64) -> Option<Obstacle> {
        if let Some((_, while_open)) = &self.breaker {
            match self.admits_at(now) {
                // Whatever the policy: the probes decide.
                NEVER => return Some(Obstacle::Breaker(WhileOpen::Hold)),
                until if until > now => return Some(Obstacle::Breaker(*while_open)),
                _ => {}
            }
        }
        let is_spent = self.limiter.as_ref().is_some_and(|limiter| limiter.passes_at(now) > now);
        is_spent.then_some(Obstacle::Rate(OverLimit::Queue))
    }

    /// The instant from which its breaker lets an attempt be made: `now` if at once, `NEVER` while probes are out.
    pub(super) fn admits_at(&self, now: u64) -> u64 {
        self.breaker.as_ref().map_or(now, |(breaker, _)| breaker.admits_at(now))
    }

    /// Whether events go on to the next target while its breaker is open.
    pub(super) fn goes_on(&self) -> bool {
        matches!(&self.breaker, Some((_, WhileOpen::NextTarget)))
    }

    /// The state of its breaker, when it has one.
    pub(super) fn breaker_state(&self, now: u64) -> Option<BreakerState> {
        self.breaker.as_ref().map(|(breaker, _)| breaker.state(now))
    }

    /// How its breaker stands, when it has one.
    pub(super) fn breaker_look(&self, now: u64) -> Option<BreakerLook> {
        self.breaker.as_ref().map(|(breaker, _)| breaker.look(now))
    }
}
