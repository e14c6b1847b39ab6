//! Reliable delivery: what becomes of an event after each attempt, until it is delivered or dead.
//!
//! | the consumer says | the event |
//! |---|---|
//! | ack | is delivered |
//! | failed, retry after | comes again, unless this was the last of its attempts |
//! | release | comes again, and the attempt does not count, unless it was given back too often |
//! | reject | is a dead letter |
//! | nothing in time | comes again, as if it had failed |
//!
//! Whoever is too late has no say: of the consumer and the worker one moves the event on, and one moment decides which.

use std::sync::Arc;

use crate::event::{Directory, Header, KnownAs, Meta};
use crate::ring::{Attempt, Attempts, Overdue, Returned, Taken};

use crate::sync::bell::Bell;

use super::mailbox::MailboxCounts;
use super::{DeadLetterStore, DeadReason, Death, Fed, Key, Outcome, RetryPolicy, SubscriptionId};

/// The settings of a reliable subscription, its attempts under way, and its counts.
pub(crate) struct Reliable {
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) timeout_ns: u64,
    pub(crate) retry: RetryPolicy,
    /// Events with this in common keep their order.
    pub(crate) order: Option<Key>,
    /// All chance is drawn from it.
    pub(crate) seed: u64,
    pub(crate) subscription: SubscriptionId,
    pub(crate) name: String,
    pub(crate) known_as: KnownAs,
    pub(crate) letters: Arc<DeadLetterStore>,
    pub(crate) directory: Arc<Directory>,
    /// Rung when an event is taken away from its consumer.
    pub(crate) lost: Bell,
}

/// What a word about an event came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It counts.
    Counted,
    /// It came too late: the event had been taken away, to be tried again or given up. Nothing changed.
    TooLate,
}

/// The event of an attempt, but for its payload.
pub(crate) fn meta_of<'a>(event: &'a Taken, directory: &'a Directory, failures: u8) -> Meta<'a> {
    let (head, rest) = event.parts();
    Meta::new(Header::of_words(head), rest, event.sequence(), directory)
        .expect("a worker queues only frames that it could read")
        .after(failures)
}

impl Reliable {
    /// Takes the oldest event of `lane` for an attempt.
    pub(crate) fn take(&self, lane: usize) -> Option<Attempt> {
        let now = self.directory.clock.now();
        self.attempts.take(lane, now, now.saturating_add(self.timeout_ns))
    }

    /// Moves the event on by what its consumer has made of it.
    pub(super) fn settle(&self, counts: &MailboxCounts, attempt: Attempt, outcome: &Outcome) -> Settled {
        let failures = attempt.failures() + 1;
        match outcome {
            Outcome::Ack => counted(counts, attempt.end(|_| counts.delivered.add(1))),
            Outcome::Reject(_) => self.give_up(counts, attempt, DeadReason::Rejected, outcome),
            Outcome::Release if attempt.releases() >= self.retry.releases_max => {
                self.give_up(counts, attempt, DeadReason::ReleasesExhausted, outcome)
            }
            Outcome::Release => self.again(counts, attempt, 0, false),
            Outcome::Failed(_) | Outcome::RetryAfter(_) if self.retry.is_spent(failures) => {
                self.give_up(counts, attempt, DeadReason::AttemptsExhausted, outcome)
            }
            Outcome::Failed(_) => {
                let delay = self.retry.delay_ns(failures, self.seed_for(attempt.cell(), failures));
                self.again(counts, attempt, delay, true)
            }
            Outcome::RetryAfter(delay) => {
                self.again(counts, attempt, u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), true)
            }
        }
    }

    /// The event's deadline has passed.
    pub(super) fn expire(&self, counts: &MailboxCounts, attempt: Attempt) {
        counted(counts, attempt.end(|_| counts.expired.add(1)));
    }

    /// The subscription has ended before its handler was called.
    pub(super) fn discard(&self, counts: &MailboxCounts, attempt: Attempt) {
        counted(
            counts,
            attempt.end(|attempt| self.bury(counts, attempt, attempt.failures(), DeadReason::Closed, None)),
        );
    }

    /// Gives up what waits in a closed mailbox, which no worker attends to any more.
    pub(super) fn discard_waiting(&self, counts: &MailboxCounts) {
        self.attempts
            .discard_waiting(|attempt| self.bury(counts, attempt, attempt.failures(), DeadReason::Closed, None));
    }

    /// Worker: queues what is due, takes away what has been in hand for too long. Returns the instant to look again at.
    pub(super) fn attend(&self, counts: &MailboxCounts, fed: &mut Fed, now: u64) -> u64 {
        let overdue = |cell, failures| {
            if self.retry.is_spent(failures) {
                return Overdue::Over;
            }
            Overdue::Again(now.saturating_add(self.retry.delay_ns(failures, self.seed_for(cell, failures))))
        };
        let before = self.attempts.overdue();
        let mut is_one_dead = false;
        let next = self.attempts.attend(&mut fed.returns(), now, overdue, |attempt| {
            is_one_dead = true;
            self.bury(counts, attempt, attempt.failures(), DeadReason::TimedOut, None);
        });
        if is_one_dead || self.attempts.overdue() != before {
            self.lost.ring();
        }
        next
    }

    fn seed_for(&self, cell: usize, failures: u8) -> u64 {
        let now = self.directory.clock.now().rotate_left(16);
        self.seed ^ now ^ (cell as u64) << 8 ^ u64::from(failures)
    }

    fn again(&self, counts: &MailboxCounts, attempt: Attempt, delay_ns: u64, failed: bool) -> Settled {
        let now = self.directory.clock.now();
        let returned = attempt.again(now, now.saturating_add(delay_ns), failed);
        match returned {
            Returned::Late => {}
            Returned::Waiting => counts.retried.add(1),
            // Nobody would queue it any more.
            Returned::Closed => {
                let bury = |attempt: &_| self.bury(counts, attempt, attempt.failures(), DeadReason::Closed, None);
                self.attempts.discard_returned(bury);
            }
        }
        counted(counts, returned != Returned::Late)
    }

    fn give_up(&self, counts: &MailboxCounts, attempt: Attempt, reason: DeadReason, outcome: &Outcome) -> Settled {
        let attempts = attempt.failures() + u8::from(*outcome != Outcome::Release);
        counted(counts, attempt.end(|attempt| self.bury(counts, attempt, attempts, reason, Some(outcome.reason()))))
    }

    fn bury(&self, counts: &MailboxCounts, attempt: &Attempt, attempts: u8, reason: DeadReason, error: Option<&str>) {
        counts.dead_lettered.add(1);
        self.letters.put(&Death {
            meta: meta_of(attempt.event(), &self.directory, attempts.saturating_sub(1)),
            subscription: self.subscription,
            name: &self.name,
            known_as: self.known_as,
            reason,
            attempts: u32::from(attempts),
            error,
            first_attempt: attempt.began(),
        });
    }
}

fn counted(counts: &MailboxCounts, counted: bool) -> Settled {
    if counted {
        return Settled::Counted;
    }
    counts.late.add(1);
    Settled::TooLate
}

impl std::fmt::Debug for Reliable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reliable")
            .field("timeout_ns", &self.timeout_ns)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
