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

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrayvec::ArrayString;

use crate::event::{Directory, EventId, FLAG_STAMPED, Header, KnownAs, Meta};
use crate::metrics::HistogramCells;
use crate::ring::{ATTEMPTS_MAX, Attempt, Attempts, Block, Frame, LANES, Overdue, Rest, Returned, Taken};

use crate::sync::bell::Bell;
use crate::sync::contain::contained;
use crate::sync::mutant::mutant;
use crate::sync::primitive::{ArrayQueue, AtomicU32, Ordering};
use crate::sync::transit::Transit;

use super::mailbox::MailboxCounts;
use super::{
    Crew, DeadLetterStore, DeadReason, Death, Fed, Hang, Key, Notice, Outcome, RetryPolicy, ReturningLetter,
    SubscriptionId,
};

/// Dead letters that may be on their way back to a subscription.
pub(crate) const REDRIVEN_MAX: usize = 64;
/// How long an event waits whose letter has no room before it is handed out again.
const LETTER_WAIT_NS: u64 = 100_000_000;
/// Bytes of the text of an event that took too long.
const TEXT_MAX: usize = 128;

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
    /// Its consumer is a handler on a thread or in a future: one that has an event for too long is told of.
    pub(crate) is_handled: bool,
    /// Rung when an event is taken away from its consumer.
    pub(crate) lost: Bell,
    /// Dead letters on their way back.
    pub(crate) redriven: ArrayQueue<Redriven>,
    /// How many those are, until they have a cell or are dead letters again.
    pub(crate) returning: Transit,
    /// So many dead letters in a row suspend the subscription; 0 = none do.
    pub(crate) suspend_after: u32,
    /// Why an event dies whose attempts have all failed.
    pub(crate) when_spent: DeadReason,
    /// Dead letters since the last event that was delivered.
    pub(crate) deaths: AtomicU32,
    /// The threads of a handler that is replaced when it hangs.
    pub(crate) crew: OnceLock<Arc<Crew>>,
}

/// A dead letter on its way back to its subscription.
#[derive(Debug)]
pub(crate) struct Redriven {
    pub(crate) letter: ReturningLetter,
    /// Where its bytes are, when they do not fit a cell.
    pub(crate) block: Option<Block>,
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
#[inline(always)]
pub(crate) fn meta_of<'a>(event: &'a Taken, directory: &'a Directory, failures: u8) -> Meta<'a> {
    let (head, rest) = event.parts();
    Meta::new(Header::of_words(head), rest, event.sequence(), directory)
        .expect("a worker queues only frames that it could read")
        .after(failures)
}

impl Reliable {
    /// Takes the oldest event of `lane` for an attempt.
    pub(crate) fn take(&self, lane: usize) -> Option<Attempt> {
        self.take_since(lane, self.directory.clock.now())
    }

    /// As [`take`](Self::take); it is the instant `now`.
    pub(super) fn take_since(&self, lane: usize, now: u64) -> Option<Attempt> {
        self.attempts.take(lane, now, now.saturating_add(self.timeout_ns))
    }

    /// Moves the event on by what its consumer has made of it.
    pub(super) fn settle(
        &self,
        counts: &MailboxCounts,
        ack: Option<&[HistogramCells; LANES]>,
        attempt: Attempt,
        outcome: &Outcome,
    ) -> Settled {
        let failures = attempt.failures() + 1;
        match outcome {
            Outcome::Ack => counted(
                counts,
                attempt.end(|attempt| {
                    let (event, began) = (attempt.event(), attempt.began());
                    self.acknowledged(counts, ack, Header::of_words(event.parts().0), event.lane(), began);
                }),
            ),
            Outcome::Reject(_) => self.give_up(counts, attempt, DeadReason::Rejected, outcome),
            Outcome::Release if attempt.releases() >= self.retry.releases_max => {
                self.give_up(counts, attempt, DeadReason::ReleasesExhausted, outcome)
            }
            Outcome::Release => self.again(counts, attempt, 0, false),
            Outcome::Failed(_) | Outcome::RetryAfter(_) if self.retry.is_spent(failures) => {
                self.give_up(counts, attempt, self.when_spent, outcome)
            }
            // Nobody would try it again; so its letter has the last word of its consumer.
            Outcome::Failed(_) | Outcome::RetryAfter(_) if self.attempts.custody().is_closed() => {
                self.give_up(counts, attempt, DeadReason::Closed, outcome)
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

    /// The event goes on from another mailbox.
    pub(super) fn pass_on(&self, counts: &MailboxCounts, attempt: Attempt) {
        counted(counts, attempt.end(|_| counts.passed_on.add(1)));
    }

    /// Books an event of which the first attempt began at the instant `began`.
    pub(super) fn acknowledged(
        &self,
        counts: &MailboxCounts,
        ack: Option<&[HistogramCells; LANES]>,
        header: &Header,
        lane: usize,
        began: u64,
    ) {
        counts.delivered.add(1);
        // Relaxed: which of two at one moment came first is nobody's question.
        self.deaths.store(0, Ordering::Relaxed);
        if let Some(ack) = ack
            && header.has(FLAG_STAMPED)
        {
            ack[lane].record_shared(self.directory.clock.now().saturating_sub(began));
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
            // The last one to take it has not tried it.
            attempt.end(|attempt| self.bury_closed(counts, attempt, attempt.takes() > 1)),
        );
    }

    /// Worker: what orders an event. A panic of the user's function is no key, and no reason to lose the event.
    #[inline]
    pub(super) fn key_of(&self, meta: &Meta<'_>) -> Option<u64> {
        let key = self.order.as_ref()?;
        contained(|| key.of(meta)).unwrap_or_else(|| {
            let (subscription, name) = (self.subscription, self.name.as_str());
            self.letters.notice(&Notice::HandlerPanicked { subscription, name, event: meta.id() });
            None
        })
    }

    /// Worker: gives dead letters that come back a cell each, as far as there are free ones; `count` hears of each before its
    /// consumer does.
    pub(super) fn take_back(&self, counts: &MailboxCounts, fed: &mut Fed, count: impl Fn()) {
        while fed.returns().feeder.has_room()
            && let Some(redriven) = self.redriven.pop()
        {
            let Redriven { letter: returning, block } = redriven;
            let letter = returning.letter();
            let meta = letter.meta();
            let (header, rest) = letter.frame();
            let rest = match &block {
                Some(block) => Rest::Block(block, 1),
                None => Rest::Inline(rest),
            };
            let frame = Frame { head: header.as_words(), rest };
            let key = self.key_of(&meta);
            let lane = meta.priority().lane();
            count();
            let pushed = self.attempts.push_frame(&mut fed.returns(), lane, meta.sequence(), &frame, key);
            if pushed {
                mutant!("redrive.arrived", returning.arrived() => drop(returning));
                self.returning.end();
            } else {
                // There is room, and what does not fit a cell has a block; should it not fit after all, it is the letter it was.
                counts.dead_lettered.add(1);
                self.refuse(returning);
            }
        }
    }

    /// Whether letters are on their way back. Asked before the cells are.
    pub(super) fn is_returning(&self) -> bool {
        self.returning.count() > 0
    }

    /// The subscription has ended: what was on its way back is a dead letter again, the same as before.
    fn refuse_back(&self) {
        while let Some(Redriven { letter, .. }) = self.redriven.pop() {
            self.refuse(letter);
        }
    }

    /// A letter that was on its way back is a dead letter again, the same as before.
    fn refuse(&self, letter: ReturningLetter) {
        let (id, event) = (letter.letter().id(), letter.letter().meta().id());
        drop(letter);
        self.returning.end();
        let (subscription, name) = (self.subscription, self.name.as_str());
        self.letters.notice(&Notice::LetterReturned { letter: id, subscription, name, event });
    }

    /// Sends a dead letter back to its subscription. Gives it back when 64 are on their way already.
    pub(crate) fn redrive(&self, redriven: Redriven) -> Result<(), Redriven> {
        self.returning.begin();
        self.redriven.push(redriven).inspect_err(|_| self.returning.end())?;
        if self.attempts.call_worker() {
            self.refuse_back();
        }
        Ok(())
    }

    /// Gives up what waits in a closed mailbox, which no worker attends to any more.
    pub(super) fn discard_waiting(&self, counts: &MailboxCounts) {
        self.attempts.discard_waiting(|attempt| self.bury_closed(counts, attempt, attempt.takes() > 0));
        self.refuse_back();
    }

    /// A handler has had an event for so many nanoseconds, and its time was over.
    #[cold]
    fn hangs(&self, event: EventId, elapsed: u64) {
        let (subscription, name, after) = (self.subscription, self.name.as_str(), Duration::from_nanos(elapsed));
        self.letters.notice(&Notice::HandlerHung { subscription, name, event, after });
    }

    /// Worker: relieves a thread whose handler has not come back. Returns the instant to look again at.
    fn attend_crew(&self, crew: &Crew, now: u64) -> u64 {
        let (next, hang) = crew.attend(now, self.timeout_ns);
        let (subscription, name, max) = (self.subscription, self.name.as_str(), crew.max());
        match hang {
            Some(Hang::Relieved { nth }) => {
                self.lost.ring();
                self.letters.notice(&Notice::HandlerReplaced { subscription, name, nth, max });
            }
            Some(Hang::Spent) => self.letters.notice(&Notice::HandlerNotReplaced { subscription, name, max }),
            None => {}
        }
        next
    }

    /// Worker: queues what is due, takes away what has been in hand for too long. Returns the instant to look again at, and how many
    /// were taken away.
    pub(super) fn attend(&self, counts: &MailboxCounts, fed: &mut Fed, now: u64) -> (u64, u64) {
        let overdue = |cell, failures| {
            // Failures are counted up to a limit only.
            let lives_on = || failures <= ATTEMPTS_MAX && !self.may_die();
            if self.retry.is_spent(failures) {
                return if lives_on() { Overdue::Again(now.saturating_add(LETTER_WAIT_NS)) } else { Overdue::Over };
            }
            Overdue::Again(now.saturating_add(self.retry.delay_ns(failures, self.seed_for(cell, failures))))
        };
        let mut lost_count = 0;
        let lost = |event: &Taken, late: u64| {
            lost_count += 1;
            counts.timed_out.add(1);
            if self.is_handled {
                let id = meta_of(event, &self.directory, 0).id();
                self.hangs(id, self.timeout_ns.saturating_add(late));
            }
            if let Some(crew) = self.crew.get() {
                crew.suspect(now.saturating_add(self.timeout_ns));
            }
        };
        let bury = |attempt: &Attempt| {
            let text = self.timed_out(attempt.failures());
            self.bury(counts, attempt, attempt.failures(), DeadReason::TimedOut, Some(&text));
        };
        let next = self.attempts.attend(&mut fed.returns(), now, overdue, lost, bury);
        if lost_count > 0 {
            self.lost.ring();
        }
        // Nobody stands by when the subscription has ended.
        let crew = self.crew.get().filter(|_| !self.attempts.custody().is_closed());
        let next = crew.map_or(next, |crew| next.min(self.attend_crew(crew, now)));
        (next, lost_count)
    }

    /// What the letter of an event says whose last attempt took too long.
    fn timed_out(&self, attempts: u8) -> ArrayString<TEXT_MAX> {
        let (timeout, max) = (Duration::from_nanos(self.timeout_ns), self.retry.attempts_max);
        let mut text = ArrayString::new();
        let written = write!(
            text,
            "not settled within its `timeout` ({timeout:?}, unless extended): attempt {attempts} of {max}"
        );
        debug_assert!(written.is_ok(), "a time of at most a day and two numbers have room");
        text
    }

    /// The event is not tried: the breaker is open.
    pub(super) fn give_up_untried(&self, counts: &MailboxCounts, attempt: Attempt) {
        let bury = |attempt: &Attempt| {
            // The last one to take it has not tried it.
            let began = if attempt.takes() > 1 { attempt.began() } else { 0 };
            self.bury_since(began, counts, attempt, attempt.failures(), DeadReason::BreakerOpen, None);
        };
        counted(counts, attempt.end(bury));
    }

    fn seed_for(&self, cell: usize, failures: u8) -> u64 {
        let now = self.directory.clock.now().rotate_left(16);
        self.seed ^ now ^ (cell as u64) << 8 ^ u64::from(failures)
    }

    fn again(&self, counts: &MailboxCounts, attempt: Attempt, delay_ns: u64, failed: bool) -> Settled {
        self.again_by(counts, attempt, |attempt, now| attempt.again(now, now.saturating_add(delay_ns), failed))
    }

    fn again_by(
        &self,
        counts: &MailboxCounts,
        attempt: Attempt,
        back: impl FnOnce(Attempt, u64) -> Returned,
    ) -> Settled {
        let returned = mutant!("retry.lost", back(attempt, self.directory.clock.now()) => {
            if attempt.end(|_| ()) { Returned::Waiting } else { Returned::Late }
        });
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

    /// Whether an event may be given up now: there is room for its letter, or nobody to try it again.
    fn may_die(&self) -> bool {
        self.letters.has_room() || self.attempts.custody().is_closed()
    }

    fn give_up(&self, counts: &MailboxCounts, attempt: Attempt, reason: DeadReason, outcome: &Outcome) -> Settled {
        if !self.may_die() {
            return self
                .again_by(counts, attempt, |attempt, now| attempt.put_off(now, now.saturating_add(LETTER_WAIT_NS)));
        }
        let attempts = attempt.failures() + u8::from(*outcome != Outcome::Release);
        counted(counts, attempt.end(|attempt| self.bury(counts, attempt, attempts, reason, Some(outcome.reason()))))
    }

    /// Whether there were so many dead letters in a row that the subscription is to be suspended. Says so once.
    pub(super) fn takes_suspension(&self) -> bool {
        // One that has ended hands nothing out any more, and a pause would hide what is in hands from a flush.
        if self.suspend_after == 0 || self.attempts.custody().is_closed() {
            return false;
        }
        // Relaxed (both): which of two at one moment came first is nobody's question.
        let is_enough = self.deaths.load(Ordering::Relaxed) >= self.suspend_after;
        is_enough && self.deaths.swap(0, Ordering::Relaxed) >= self.suspend_after
    }

    /// Nobody tries the event any more; whether somebody has tells how far its story goes.
    fn bury_closed(&self, counts: &MailboxCounts, attempt: &Attempt, was_tried: bool) {
        let began = if was_tried { attempt.began() } else { 0 };
        self.bury_since(began, counts, attempt, attempt.failures(), DeadReason::Closed, None);
    }

    /// Worker: an event found no cell, or came over the rate.
    pub(super) fn turn_away(&self, counts: &MailboxCounts, meta: &Meta<'_>, reason: DeadReason) {
        counts.dead_lettered.add(1);
        self.letters.put(&Death {
            meta: *meta,
            subscription: self.subscription,
            name: &self.name,
            known_as: self.known_as,
            reason,
            attempts: 0,
            error: None,
            first_attempt: 0,
        });
    }

    fn bury(&self, counts: &MailboxCounts, attempt: &Attempt, attempts: u8, reason: DeadReason, error: Option<&str>) {
        self.bury_since(attempt.began(), counts, attempt, attempts, reason, error);
    }

    fn bury_since(
        &self,
        first_attempt: u64,
        counts: &MailboxCounts,
        attempt: &Attempt,
        attempts: u8,
        reason: DeadReason,
        error: Option<&str>,
    ) {
        counts.dead_lettered.add(mutant!("letter.twice", 1 => 2));
        if reason != DeadReason::BreakerOpen {
            // Relaxed: see `takes_suspension`.
            self.deaths.fetch_add(1, Ordering::Relaxed);
        }
        self.letters.put(&Death {
            meta: meta_of(attempt.event(), &self.directory, attempts.saturating_sub(1)),
            subscription: self.subscription,
            name: &self.name,
            known_as: self.known_as,
            reason,
            attempts: u32::from(attempts),
            error,
            first_attempt,
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
