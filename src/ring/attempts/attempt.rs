//! One attempt at an event: whoever has it in hand, and what becomes of it by that one's word.

use std::sync::Arc;

use super::super::cells::Taken;
use super::word::{
    FAILURE, HOLDER, HOLDERS, IN_HAND, OVER, STATE, TAKE, TICK_SHIFT, WAIT_MAX_NS, WAITING, failures, instant_of,
    takes, tick_after, ticks_left, with_due, with_state,
};
use super::{Attempts, Tried};
use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU64, BeforeWrite, Ordering};

/// What is to become of an event whose consumer has had it for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// It comes back at this instant.
    Again(u64),
    /// It has had its attempts.
    Over,
}

/// What an event that was given back met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// It waits.
    Waiting,
    /// It waits, and the mailbox is closed: whoever finds this calls [`Attempts::discard_returned`].
    Closed,
    /// Its time was over before.
    Late,
}

/// An event in somebody's hands, for an attempt. Whose time is over may go on reading it, and has no say any more.
///
/// Dropped without a word it stays in hand until its time is over.
#[derive(Debug)]
pub struct Attempt {
    attempts: Arc<Attempts>,
    /// Present until it is let go of.
    taken: Option<Taken>,
    /// The cell's word when the attempt began. The number of its takes tells this attempt from later ones at the same event.
    word: u64,
}

impl Attempt {
    pub(super) fn new(attempts: &Arc<Attempts>, taken: Taken, word: u64) -> Self {
        Self { attempts: Arc::clone(attempts), taken: Some(taken), word }
    }

    fn taken(&self) -> &Taken {
        self.taken.as_ref().expect("an attempt holds its cell until it is let go of")
    }

    /// Which cell the event is in.
    pub fn cell(&self) -> usize {
        self.taken().cell()
    }

    /// The event, to be read.
    pub fn event(&self) -> &Taken {
        self.taken()
    }

    /// Failures before this attempt, or with it, if it is the worker that took the event away.
    pub fn failures(&self) -> u8 {
        failures(self.word)
    }

    /// How often the event was taken, this time among them.
    pub fn takes(&self) -> u16 {
        takes(self.word)
    }

    /// How often the event was given back before without an attempt.
    pub fn releases(&self) -> u16 {
        self.takes().saturating_sub(1).saturating_sub(u16::from(self.failures()))
    }

    /// The instant at which the first attempt at the event began; 0 when nobody has taken it.
    pub fn began(&self) -> u64 {
        if mutant!("attempts.untaken", takes(self.word) == 0 => false) {
            return 0;
        }
        // Relaxed: shown with the cell.
        self.attempts.began[self.cell()].load(Ordering::Relaxed)
    }

    /// What was tried with it.
    pub fn tried(&self) -> Tried {
        Tried { failures: self.failures(), began: self.began() }
    }

    fn word(&self) -> &AtomicU64 {
        &self.attempts.words[self.cell()]
    }

    fn is_mine(&self, word: u64) -> bool {
        word & STATE == IN_HAND && mutant!("attempts.takes", takes(word) == takes(self.word) => true)
    }

    /// Whether the attempt still counts.
    pub fn is_current(&self) -> bool {
        // Relaxed: a hint; the exchange decides.
        self.is_mine(self.word().load(Ordering::Relaxed))
    }

    /// Whether it took longer than it was to, whether or not somebody has noticed.
    pub fn is_overdue(&self, now: u64) -> bool {
        // Relaxed: only the holder moves the end; who takes the event away decides by an exchange of its own.
        ticks_left(self.word().load(Ordering::Relaxed), now >> TICK_SHIFT).is_none()
    }

    /// Moves the event on by `step`, if the attempt still counts.
    fn exchange(&self, step: impl Fn(u64) -> u64) -> bool {
        let word = self.word();
        // Relaxed: the exchange decides.
        let mut seen = word.before_write();
        while self.is_mine(seen) {
            // SYNC(attempts.word): Release. Pairs with `attend`; what was done with the event is seen by who has it next.
            // Relaxed: an exchange that failed has done nothing.
            let release = mutant!("attempts.exchange", Ordering::Release);
            match word.compare_exchange_weak(seen, step(seen), release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Moves the end of the attempt to the instant `due`. False when it is over already.
    pub fn extend(&self, now: u64, due: u64) -> bool {
        let tick = tick_after(due, now);
        let extended = self.exchange(|word| mutant!("attempts.extend", with_due(word, tick) => word));
        if extended {
            // An end may also be moved forward.
            mutant!("attempts.shorten", self.attempts.look_at(self.cell(), instant_of(tick)) => ());
        }
        extended
    }

    /// Gives the event back, to come again at the instant `due`; as a failure, or as if it had not been taken.
    pub fn again(self, now: u64, due: u64, failed: bool) -> Returned {
        let failure = if failed { FAILURE } else { 0 };
        self.back(now, due, |word| word + failure)
    }

    /// Worker: gives the event back, to come again at the instant `due`, as if nobody had taken it: this take is not counted either,
    /// so that it may be put off any number of times.
    pub fn put_off(self, now: u64, due: u64) -> Returned {
        self.back(now, due, |word| mutant!("attempts.put_off", word - TAKE => word))
    }

    fn back(mut self, now: u64, due: u64, count: impl Fn(u64) -> u64) -> Returned {
        let attempts = Arc::clone(&self.attempts);
        let tick = due.min(now.saturating_add(WAIT_MAX_NS)) >> TICK_SHIFT;
        attempts.waiting.begin();
        if !self.exchange(|word| count(with_due(with_state(word, WAITING), tick)) - HOLDER) {
            attempts.waiting.end();
            return Returned::Late;
        }
        let cell = self.cell();
        if let Some(taken) = self.taken.take() {
            taken.leave();
        }
        attempts.custody.returned();
        // Its barrier also orders the event's return before the look whether the mailbox is closed.
        attempts.look_at(cell, instant_of(tick));
        let is_closed = mutant!("attempts.closed", attempts.custody.is_closed() => false);
        if is_closed { Returned::Closed } else { Returned::Waiting }
    }

    /// Ends the event. `book` hears of it before anybody finds it over. False, and nothing is booked, when the attempt's time
    /// was over before.
    pub fn end(self, book: impl FnOnce(&Self)) -> bool {
        if !self.exchange(|word| with_state(word, OVER)) {
            return false;
        }
        book(&self);
        self.finish();
        true
    }

    /// Worker: ends an event that waits, see [`Attempts::waiting_from`]. `book` hears of it before anybody finds it over. False,
    /// and nothing is booked, when it was given up meanwhile.
    pub fn end_waiting(self, book: impl FnOnce(&Self)) -> bool {
        // Relaxed: what is read of the event was seen when it was held.
        let mut seen = self.word().load(Ordering::Relaxed);
        while seen & STATE == WAITING {
            let next = with_state(seen, OVER);
            // Relaxed (both): of this and `discard` one gets the event.
            let ended = self.word().compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
            match mutant!("attempts.end_waiting", ended => Ok(seen)) {
                Ok(_) => {
                    book(&self);
                    self.attempts.waiting.end();
                    self.call_for_next();
                    self.close();
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// The event is over and booked, and leaves the hands.
    pub(super) fn finish(self) {
        self.attempts.custody.returned();
        self.call_for_next();
        self.close();
    }

    /// Calls the worker for the event that is held back behind this one.
    fn call_for_next(&self) {
        if self.attempts.is_keyed {
            self.attempts.look_at(self.cell(), 0);
        }
    }

    /// The event is over and booked.
    pub(super) fn close(self) {
        self.attempts.cells().end(self.cell() as u32);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        let word = &self.attempts.words[taken.cell()];
        // SYNC(attempts.word): AcqRel. Our reads come before the cell's next filling: by this if we are the last, by the
        // last one's if we are not.
        let before = word.fetch_sub(HOLDER, mutant!("attempts.leave", Ordering::AcqRel));
        if before & STATE == OVER && mutant!("attempts.last", before & HOLDERS == HOLDER => true) {
            drop(taken);
            mutant!("attempts.room", self.attempts.custody.made_room() => ());
        } else {
            taken.leave();
        }
    }
}
