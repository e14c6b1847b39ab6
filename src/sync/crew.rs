//! Threads that relieve each other at one mailbox: when the handler of one hangs, the next goes on with a handler of its own.
//!
//! ```text
//!   thread on duty                        worker, when an event has been taken away from it
//!   leave the mailbox to who relieves me  remember the call that is under way
//!   begin a call
//!   the handler                           one time of an attempt later still the same call? relieve: the next
//!   end the call                          thread is on duty, and takes the mailbox
//!   relieved meanwhile? go
//!   take the mailbox back
//! ```
//!
//! Shift, call and whether it is under way are one word: of the end of a call and the relief one comes first. Who stands by is
//! another: a thread that leaves because its subscription has ended is not called, and one that is called does not leave.

use super::alarm::NEVER;
use super::mutant::mutant;
use super::primitive::{AtomicU32, AtomicU64, Ordering};

/// Threads that may follow the first one.
pub const REPLACEMENTS_MAX: u32 = 64;

/// A thread that stands by and that the worker is about to call.
const CALLED: u32 = 1 << 31;
/// Who stood by has left, and nobody comes after it.
const GONE: u32 = u32::MAX;

const CALLING: u64 = 1;
const CALL: u64 = 2;
const SHIFT: u32 = 56;

fn shift_of(word: u64) -> u32 {
    (word >> SHIFT) as u32
}

/// What the worker has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    /// The thread on duty was relieved; of the replacements this is the nth, from 1.
    Relieved { nth: u32 },
    /// It would be, and there is nobody left.
    Spent,
}

/// Who is on duty at a mailbox, and who follows.
#[derive(Debug)]
pub struct Crew {
    /// Written by the thread on duty; by the worker when it relieves that one.
    word: AtomicU64,
    /// Shifts there may be after the first.
    max: AtomicU32,
    /// The last shift whose thread stands by, and whether it is about to be called.
    standby: AtomicU32,
    /// The call that has had its event for too long. The worker's.
    suspect: AtomicU64,
    /// The instant at which that one is relieved. The worker's.
    relieve_at: AtomicU64,
}

impl Crew {
    pub fn new(max: u32) -> Self {
        Self {
            word: AtomicU64::new(0),
            max: AtomicU32::new(max),
            standby: AtomicU32::new(0),
            suspect: AtomicU64::new(0),
            relieve_at: AtomicU64::new(NEVER),
        }
    }

    /// Shifts there may be after the first.
    pub fn max(&self) -> u32 {
        // Relaxed: a number.
        self.max.load(Ordering::Relaxed)
    }

    /// The thread of this shift stands by.
    pub fn stands_by(&self, shift: u32) {
        // Relaxed (both): whether it can be called, and nothing else.
        let _ = self.standby.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now != GONE).then_some(shift));
    }

    /// The thread of this shift, which stands by, leaves: its subscription has ended. False when it is about to be called, or
    /// the thread on duty to be found back: then it looks once more.
    pub fn leaves(&self, shift: u32) -> bool {
        // Relaxed (both): of this and the worker's own exchange one comes first, and nothing rides on it.
        let left = self
            .standby
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now != shift | CALLED).then_some(GONE));
        mutant!("crew.leave", left.is_ok() => true)
    }

    /// The system has no thread for this shift: there is none from it on.
    pub fn ends_before(&self, shift: u32) {
        // Relaxed: a number.
        self.max.store(shift - 1, Ordering::Relaxed);
    }

    /// Whether this shift is on duty, or was.
    pub fn is_called(&self, shift: u32) -> bool {
        // SYNC(crew.word): Acquire. Pairs with `begin`; the mailbox is where the thread before has left it.
        shift_of(self.word.load(mutant!("crew.called", Ordering::Acquire))) >= shift
    }

    /// On duty: begins the next call. The mailbox is where who relieves finds it.
    pub fn begin(&self) -> u64 {
        // Relaxed: our own word; nobody relieves us between calls.
        let word = (self.word.load(Ordering::Relaxed) & !CALLING) + CALL + CALLING;
        // SYNC(crew.word): Release. Pairs with `is_called`, through the exchange in `attend`.
        self.word.store(word, mutant!("crew.begin", Ordering::Release));
        word
    }

    /// On duty: ends the call `word`. False: relieved meanwhile, and the mailbox is somebody else's.
    pub fn end(&self, word: u64) -> bool {
        // Relaxed (both): of this and the relief one comes first, and nothing rides on it.
        let ended = self.word.compare_exchange(word, word & !CALLING, Ordering::Relaxed, Ordering::Relaxed);
        mutant!("crew.end", ended.is_ok() => true)
    }

    /// Worker: the thread on duty has had its event for too long; if it still has it at the instant `relieve_at`, it is relieved.
    pub fn suspect(&self, relieve_at: u64) {
        // Relaxed: the relief compares it again.
        let word = self.word.load(Ordering::Relaxed);
        // Between its calls it has taken the event and not begun with it, so that it is the next call.
        let suspect = if word & CALLING == 0 { word + CALL + CALLING } else { word };
        // Relaxed (both): the worker's own.
        self.suspect.store(suspect, Ordering::Relaxed);
        self.relieve_at.store(relieve_at, Ordering::Relaxed);
    }

    /// Worker: relieves the thread that is still in the call of which it was suspected. Returns when to look again; who is not
    /// there yet is waited for another `grace`.
    pub fn attend(&self, now: u64, grace: u64) -> (u64, Option<Hang>) {
        // Relaxed (both): the worker's own.
        let (at, suspect) = (self.relieve_at.load(Ordering::Relaxed), self.suspect.load(Ordering::Relaxed));
        if at > now {
            return (at, None);
        }
        // Relaxed: the exchange decides.
        let is_back = self.word.load(Ordering::Relaxed) != suspect;
        let shift = shift_of(suspect);
        let next = shift + 1;
        if is_back || shift >= self.max() {
            // Relaxed: the worker's own.
            self.relieve_at.store(NEVER, Ordering::Relaxed);
            return (NEVER, (!is_back).then_some(Hang::Spent));
        }
        // Relaxed (both): see `leaves`.
        let called = self.standby.compare_exchange(next, next | CALLED, Ordering::Relaxed, Ordering::Relaxed);
        let again = match called {
            Ok(_) | Err(GONE) => NEVER,
            Err(_) => now.saturating_add(grace),
        };
        // Relaxed: the worker's own.
        self.relieve_at.store(again, Ordering::Relaxed);
        if called.is_err() {
            return (again, None);
        }
        let on_duty = u64::from(next) << SHIFT;
        // Relaxed (both): it carries on what `begin` has released, so who finds itself called is shown the mailbox.
        let relieved = self.word.compare_exchange(suspect, on_duty, Ordering::Relaxed, Ordering::Relaxed);
        if relieved.is_err() {
            // Relaxed: it stands by as before.
            mutant!("crew.stand_down", self.standby.store(next, Ordering::Relaxed) => ());
        }
        (NEVER, relieved.is_ok().then_some(Hang::Relieved { nth: next }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_end_is_relieved_once_and_one_that_ends_is_not() {
        let crew = Crew::new(2);
        crew.stands_by(1);
        assert_eq!(crew.attend(0, 5), (NEVER, None), "nobody is suspected");
        let call = crew.begin();
        crew.suspect(10);
        assert_eq!(crew.attend(9, 5), (10, None));
        assert!(crew.end(call));
        assert_eq!(crew.attend(10, 5), (NEVER, None), "it came back");
        let second = crew.begin();
        crew.suspect(20);
        assert_eq!(crew.attend(20, 5), (NEVER, Some(Hang::Relieved { nth: 1 })));
        assert!(!crew.end(second), "it is not on duty any more");
        assert!(crew.is_called(1) && !crew.is_called(2));
    }

    #[test]
    fn who_has_taken_an_event_and_not_begun_with_it_is_suspected_of_the_next_call_alone() {
        let crew = Crew::new(1);
        crew.stands_by(1);
        crew.suspect(10);
        crew.begin();
        assert_eq!(crew.attend(10, 5).1, Some(Hang::Relieved { nth: 1 }));
        let crew = Crew::new(1);
        crew.stands_by(1);
        crew.suspect(10);
        let first = crew.begin();
        assert!(crew.end(first));
        crew.begin();
        assert_eq!(crew.attend(10, 5), (NEVER, None));
    }

    #[test]
    fn who_does_not_stand_by_yet_is_waited_for_and_nobody_comes_after_the_last() {
        let crew = Crew::new(1);
        crew.begin();
        crew.suspect(10);
        assert_eq!(crew.attend(10, 5), (15, None));
        crew.stands_by(1);
        assert_eq!(crew.attend(15, 5), (NEVER, Some(Hang::Relieved { nth: 1 })));
        crew.begin();
        crew.suspect(20);
        assert_eq!(crew.attend(20, 5), (NEVER, Some(Hang::Spent)));
        assert_eq!(crew.attend(30, 5), (NEVER, None), "said once");
    }
}
