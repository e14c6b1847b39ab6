//! An event in a consumer's hands, until it says what it has made of it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::event::{DecodeError, KnownAs, Meta, Payload};
use crate::ring::{Attempt, Taken};
use crate::routing::Pattern;

use super::reliable::meta_of;
use super::{Interest, MailboxShared, Outcome, Settled, TimedCall};

/// How an event is held.
#[derive(Debug)]
pub(crate) enum Hold {
    /// Best effort: until it is let go of.
    Once(Taken),
    /// Reliable: until it is settled, or its time is over.
    Attempt(Attempt),
}

impl Hold {
    #[inline(always)]
    pub(crate) fn event(&self) -> &Taken {
        match self {
            Self::Once(taken) => taken,
            Self::Attempt(attempt) => attempt.event(),
        }
    }

    /// Attempts that failed before.
    pub(crate) fn failures(&self) -> u8 {
        match self {
            Self::Once(_) => 0,
            Self::Attempt(attempt) => attempt.failures(),
        }
    }
}

/// An event in a consumer's hands. It may move between threads.
///
/// Dropped without a word it counts as delivered under best-effort delivery, and as a failed attempt under
/// [reliable](crate::DeliveryMode::Reliable) delivery.
pub struct Delivery<I: Interest> {
    /// Present until it is settled.
    hold: Option<Hold>,
    shared: Arc<MailboxShared>,
    known_as: KnownAs,
    interest: PhantomData<fn(I)>,
}

impl<I: Interest> Delivery<I> {
    #[inline(always)]
    pub(crate) fn new(hold: Hold, shared: Arc<MailboxShared>, known_as: KnownAs) -> Self {
        Self { hold: Some(hold), shared, known_as, interest: PhantomData }
    }

    fn hold(&self) -> &Hold {
        self.hold.as_ref().expect("a delivery holds its cell until it is settled")
    }

    /// Events waiting in the mailbox it came from.
    pub(crate) fn queued_behind(&self) -> u64 {
        self.shared.custody().queued()
    }

    /// Everything about the event but its payload.
    pub fn meta(&self) -> Meta<'_> {
        meta_of(self.hold().event(), &self.shared.directory, self.hold().failures())
    }

    /// Older events of its key that it took the place of while they waited: what the consumer has missed since the one it
    /// took before, under [latest-only](crate::DeliveryMode::LatestOnly) delivery. 0 in other modes.
    pub fn skipped(&self) -> u64 {
        self.hold().event().skipped()
    }

    /// The event, read in place.
    ///
    /// # Errors
    /// For typed topics, when the payload is in another encoding or, coming from outside, is not valid.
    pub fn event(&self) -> Result<I::View<'_>, DecodeError> {
        I::view(&self.meta(), self.known_as)
    }

    /// Settles the event as handled.
    pub fn ack(self) -> Settled {
        self.settle(&Outcome::Ack)
    }

    /// Settles the attempt as failed, for this reason.
    pub fn fail(self, reason: impl Into<String>) -> Settled {
        self.settle(&Outcome::Failed(reason.into()))
    }

    /// Settles the attempt as failed; the event comes again after `delay`, at most 10 days: a longer one is cut to them. Under
    /// best-effort delivery it does not.
    pub fn retry_after(self, delay: Duration) -> Settled {
        self.settle(&Outcome::RetryAfter(delay))
    }

    /// Gives the event back, to come again behind what is queued. Under best-effort delivery it does not.
    pub fn release(self) -> Settled {
        self.settle(&Outcome::Release)
    }

    /// Gives the event up, for this reason: under reliable delivery it is a dead letter at once.
    pub fn reject(self, reason: impl Into<String>) -> Settled {
        self.settle(&Outcome::Reject(reason.into()))
    }

    /// Settles the delivery by an outcome, as a handler that returned it would.
    pub fn settle(mut self, outcome: &Outcome) -> Settled {
        // There always is one: settling takes the delivery.
        self.hold.take().map_or(Settled::TooLate, |hold| self.shared.settle(hold, outcome))
    }

    /// Gives the attempt until `time` from now to be over, instead of what it had; at most 10 days: a longer one is cut to them. Returns whether it still
    /// counted. Without reliable delivery that holds for the call of a [`run`](crate::Subscribe::run) handler; what is taken from a
    /// mailbox has no end there, and always counts.
    pub fn extend(&self, time: Duration) -> bool {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match self.hold() {
            Hold::Once(_) => self.shared.extend_call(time_ns),
            Hold::Attempt(attempt) => {
                let now = self.shared.directory.clock.now();
                attempt.extend(now, now.saturating_add(time_ns))
            }
        }
    }

    /// Whether a word about the event still counts: false when its time was over and it was taken away.
    pub fn is_current(&self) -> bool {
        match self.hold() {
            Hold::Once(_) => !self.shared.is_call_over(),
            Hold::Attempt(attempt) => attempt.is_current(),
        }
    }

    /// A call of the handler with this event begins at the instant `now`; `None` where the attempt has a time of its own.
    pub(crate) fn begin_call(&self, now: u64) -> Option<TimedCall<'_>> {
        self.shared.begin_call(self.meta().id(), now)
    }

    /// Lets `waker` hear when the event is taken away; `known` is the one that was left last. For the mailbox's own consumer.
    pub(crate) fn wait(&self, waker: &Waker, known: &mut Option<Waker>) {
        self.shared.wait_for_loss(waker, known);
    }

    /// Whether the mailbox has been closed and what stands before its consumer does not let the event through. For a handler's.
    pub(crate) fn is_held_at_end(&self) -> bool {
        self.shared.is_held_at_end()
    }

    /// Gives the event up: its subscription has ended before its handler was called. For the mailbox's own consumer.
    pub(crate) fn discard(mut self) {
        if let Some(hold) = self.hold.take() {
            self.shared.discard_one(hold);
        }
    }
}

impl<I: Interest> Delivery<I> {
    #[cold]
    fn drop_unsettled(&self, hold: Hold) {
        self.shared.settle(hold, &Outcome::Failed("it was dropped without a word".to_owned()));
    }
}

impl Delivery<Pattern> {
    /// The payload as it is.
    pub fn payload(&self) -> Payload<'_> {
        self.meta().payload()
    }
}

impl<I: Interest> Drop for Delivery<I> {
    #[inline]
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        // Best effort: what was dropped without a word was handled, unless a panic dropped it, or its handler was too late.
        if matches!(hold, Hold::Once(_)) && !std::thread::panicking() && !self.shared.is_call_over() {
            self.shared.settle(hold, &Outcome::Ack);
        } else {
            self.drop_unsettled(hold);
        }
    }
}

impl<I: Interest> fmt::Debug for Delivery<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("meta", &self.meta()).finish_non_exhaustive()
    }
}
