//! How long the handler that consumes a mailbox has an event, where no attempt has a time.

use std::task::Waker;

use crate::event::EventId;
use crate::sync::bell::Bell;
use crate::sync::call_timer::{CallTimer, Overrun, TimedCall};

use super::MailboxShared;

/// The calls of a handler that is a mailbox's consumer, on a thread of its own or in a future.
#[derive(Debug)]
pub(crate) struct Timed {
    timer: CallTimer,
    /// Rung when the time of a call is over.
    over: Bell,
}

impl Timed {
    pub(crate) fn new(timer: CallTimer, over: Bell) -> Self {
        Self { timer, over }
    }
}

/// Leaves `waker` at `bell`. `known` is the one that was left the last time: it need not be left again while nobody has rung, for
/// leaving it is dear.
fn wait_at(bell: &Bell, waker: &Waker, known: &mut Option<Waker>) {
    if !bell.is_awaited() || !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
        bell.wait(waker);
        *known = Some(waker.clone());
    }
}

impl MailboxShared {
    /// Consumer: a call of its handler with `event` begins at the instant `now`. `None` where nothing but an attempt has a time.
    pub(crate) fn begin_call(&self, event: EventId, now: u64) -> Option<TimedCall<'_>> {
        Some(self.timed.as_ref()?.timer.begin(event.into(), now))
    }

    /// Worker: the call whose time is over at the instant `now`; else the instant at which to look again. Says each once, and counts
    /// it.
    pub(crate) fn attend_call(&self, now: u64) -> Option<Result<Overrun, u64>> {
        let timed = self.timed.as_ref()?;
        let looked = timed.timer.attend(now);
        if looked.is_ok() {
            self.counts.timed_out.add(1);
            timed.over.ring();
        }
        Some(looked)
    }

    /// Whether its worker keeps the time of its consumer's calls.
    pub(crate) fn times_calls(&self) -> bool {
        self.timed.is_some()
    }

    /// Whether the time of the call under way is over.
    pub(crate) fn is_call_over(&self) -> bool {
        self.timed.as_ref().is_some_and(|timed| timed.timer.is_overrun())
    }

    /// Within a call: moves its end. False when it was over before.
    pub(crate) fn extend_call(&self, time_ns: u64) -> bool {
        self.timed.as_ref().is_none_or(|timed| {
            let now = self.directory.clock.now();
            timed.timer.extend(now, now.saturating_add(time_ns))
        })
    }

    /// Consumer: `waker` hears when an event is taken away from its hands, or the time of its call is over. `known` is the one that
    /// was left the last time.
    pub(crate) fn wait_for_loss(&self, waker: &Waker, known: &mut Option<Waker>) {
        match (&self.reliable, &self.timed) {
            (Some(reliable), _) => wait_at(&reliable.lost, waker, known),
            (None, Some(timed)) => wait_at(&timed.over, waker, known),
            (None, None) => {}
        }
    }
}
