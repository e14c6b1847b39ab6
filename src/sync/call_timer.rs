//! How long a consumer has been in a call of its handler: its worker finds out when that is too long.
//!
//! ```text
//!   consumer                                worker, when its alarm rings
//!   leave which event it is, and since when
//!   begin: until when
//!   the handler                             the same call, and its time is over? it is overrun
//!   end: was it overrun?
//! ```
//!
//! The end of its time, its number and whether it is overrun are one word: of the end of a call and the end of its time one comes
//! first, and both sides know which.

use std::sync::Arc;

use super::alarm::{Alarm, NEVER};
use super::mutant::mutant;
use super::parker::Parker;
use super::primitive::{AtomicU64, Ordering};

/// The longest time of a call, in nanoseconds: 10 days.
pub const CALL_MAX_NS: u64 = 10 * 24 * 3_600 * 1_000_000_000;

const STATE: u64 = 0b11;
const IDLE: u64 = 0;
const RUNNING: u64 = 1;
const OVERRUN: u64 = 2;
const CALL: u64 = 1 << 2;
const NUMBER: u64 = TICK - CALL;
/// Ends are kept to 2^16 ns, 66 µs. No consumer makes 2^14 calls within that, so that number and end tell each from all others.
const TICK: u64 = 1 << 16;
const DUE: u64 = !(TICK - 1);

/// A call whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun {
    /// What it was begun with.
    pub event: u128,
    /// Nanoseconds since then.
    pub elapsed: u64,
}

/// The calls of one consumer, one at a time. Instants are nanoseconds of the bus clock.
#[derive(Debug)]
pub struct CallTimer {
    /// Nanoseconds that a call may take.
    limit_ns: u64,
    /// Written by the consumer; by the worker when a call is overrun.
    word: AtomicU64,
    /// Since when the consumer is in its call, and with which event.
    began: AtomicU64,
    event: [AtomicU64; 2],
    alarm: Arc<Alarm>,
    parker: Arc<Parker>,
}

impl CallTimer {
    /// For calls of at most `limit_ns`; `alarm` is that of the worker that attends to them.
    pub fn new(limit_ns: u64, alarm: Arc<Alarm>, parker: Arc<Parker>) -> Self {
        let zero = || AtomicU64::new(0);
        Self { limit_ns, word: zero(), began: zero(), event: [zero(), zero()], alarm, parker }
    }

    /// Consumer: begins a call with `event` at the instant `now`.
    pub fn begin(&self, event: u128, now: u64) -> TimedCall<'_> {
        let [high, low] = [(event >> 64) as u64, event as u64];
        // Relaxed (all three): shown by the word; what the worker has read of the call before, `end` has ordered before this.
        self.event[0].store(high, Ordering::Relaxed);
        self.event[1].store(low, Ordering::Relaxed);
        self.began.store(now, Ordering::Relaxed);
        // Relaxed: between calls the word is the consumer's own.
        let number = self.word.load(Ordering::Relaxed).wrapping_add(CALL) & NUMBER;
        let due = due_after(now.saturating_add(self.limit_ns));
        // SYNC(call_timer.word): Release. Pairs with `attend`; event and instant are the call's.
        self.word.store(due | number | RUNNING, mutant!("call_timer.begin", Ordering::Release));
        mutant!("call_timer.alarm", self.alarm.set(due, &self.parker) => ());
        TimedCall { timer: self }
    }

    fn end(&self) -> bool {
        // Relaxed: nobody but the consumer changes the number.
        let number = self.word.load(Ordering::Relaxed) & NUMBER;
        // SYNC(call_timer.overrun): Acquire. Pairs with `attend`; it has read event and instant before the next call writes them.
        let before = self.word.swap(number | IDLE, Ordering::Acquire);
        before & STATE == OVERRUN
    }

    /// Whether the time of the call under way is over, and the worker has said so.
    pub fn is_overrun(&self) -> bool {
        // Relaxed: a hint; the end of the call decides.
        self.word.load(Ordering::Relaxed) & STATE == OVERRUN
    }

    /// Within a call: moves its end to the instant `due`. False when it was over before.
    pub fn extend(&self, now: u64, due: u64) -> bool {
        let due = due_after(due.min(now.saturating_add(CALL_MAX_NS)));
        let moved = |word: u64| (word & STATE == RUNNING).then_some(word & !DUE | due);
        // Relaxed (both): of this and the worker's own exchange one comes first, and nothing rides on it.
        if self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved).is_err() {
            return false;
        }
        // It may also have been moved forward.
        self.alarm.set(due, &self.parker);
        true
    }

    /// Worker: the call whose time is over at the instant `now`, once; else the instant at which to look again.
    pub fn attend(&self, now: u64) -> Result<Overrun, u64> {
        loop {
            // SYNC(call_timer.word): Acquire. Pairs with `begin`.
            let seen = self.word.load(mutant!("call_timer.attend", Ordering::Acquire));
            if seen & STATE != RUNNING {
                return Err(NEVER);
            }
            if seen & DUE > now {
                return Err(seen & DUE);
            }
            // Relaxed (all three): shown by the look above; if they are a later call's, the exchange fails.
            let (high, low) = (self.event[0].load(Ordering::Relaxed), self.event[1].load(Ordering::Relaxed));
            let elapsed = now.saturating_sub(self.began.load(Ordering::Relaxed));
            // SYNC(call_timer.overrun): Release. Pairs with `end`.
            // Relaxed: an exchange that failed has done nothing.
            let overrun =
                self.word.compare_exchange(seen, seen & !STATE | OVERRUN, Ordering::Release, Ordering::Relaxed);
            if mutant!("call_timer.once", overrun.is_ok() => true) {
                return Ok(Overrun { event: u128::from(high) << 64 | u128::from(low), elapsed });
            }
        }
    }
}

/// The first end that is kept and no earlier than `due`: nobody gets less than was promised.
fn due_after(due: u64) -> u64 {
    due.saturating_add(TICK - 1) & DUE
}

/// A call under way. Who gives it up, and does not end it, begins no other.
#[derive(Debug)]
#[must_use = "a call lasts until it is ended"]
pub struct TimedCall<'a> {
    timer: &'a CallTimer,
}

impl TimedCall<'_> {
    /// Ends it. Whether it was overrun before.
    pub fn end(self) -> bool {
        self.timer.end()
    }
}

#[cfg(all(test, not(any(ringmain_loom, ringmain_shuttle))))]
mod tests {
    use super::*;
    use crate::sync::barrier::Barrier;

    const LIMIT: u64 = 10 * TICK;

    fn timer() -> CallTimer {
        let barrier = Barrier::fences();
        CallTimer::new(LIMIT, Arc::new(Alarm::new(0, barrier)), Arc::new(Parker::new(1, barrier)))
    }

    #[test]
    fn a_call_is_overrun_once_and_not_before_its_time() {
        let timer = timer();
        assert_eq!(timer.attend(u64::MAX - TICK), Err(NEVER), "there is none");
        let call = timer.begin(7 << 64 | 3, 1);
        assert_eq!(timer.alarm.at(), LIMIT + TICK, "rounded up");
        assert_eq!(timer.attend(LIMIT + 1), Err(LIMIT + TICK));
        assert_eq!(timer.attend(LIMIT + TICK), Ok(Overrun { event: 7 << 64 | 3, elapsed: LIMIT + TICK - 1 }));
        assert_eq!((timer.attend(LIMIT * 9), timer.is_overrun()), (Err(NEVER), true));
        assert!(!timer.extend(LIMIT * 2, LIMIT * 3), "it is over");
        assert!(call.end());
        let call = timer.begin(4, LIMIT * 2);
        assert_eq!((timer.attend(LIMIT * 2), timer.is_overrun()), (Err(LIMIT * 3), false));
        assert!(!call.end());
        assert_eq!(timer.attend(LIMIT * 9), Err(NEVER), "it came back in time");
    }

    #[test]
    fn a_call_that_is_extended_is_overrun_at_its_new_end_and_one_that_is_dropped_is_not() {
        let timer = timer();
        let call = timer.begin(1, 0);
        assert!(timer.extend(LIMIT, LIMIT * 5));
        assert_eq!(timer.attend(LIMIT), Err(LIMIT * 5));
        assert!(timer.extend(LIMIT, LIMIT + TICK), "an end may be moved forward");
        assert_eq!(timer.alarm.at(), LIMIT, "an alarm that is set rings in any case");
        assert_eq!(timer.attend(LIMIT + TICK).map(|overrun| overrun.event), Ok(1));
        assert!(call.end());
        assert!(!timer.begin(2, LIMIT * 2).end());
        assert_eq!((timer.attend(LIMIT * 9), timer.is_overrun()), (Err(NEVER), false));
        let call = timer.begin(3, 0);
        assert!(timer.extend(0, u64::MAX));
        assert_eq!(timer.attend(CALL_MAX_NS - 1), Err(due_after(CALL_MAX_NS)), "at most so long");
        assert!(!call.end());
    }
}
