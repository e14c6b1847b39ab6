//! Which subscription a worker is calling: publishers that find its lanes full, other workers and who asks for metrics tell how long that has
//! lasted, for a worker in a call that does not end can tell nobody.
//!
//! ```text
//!   worker                        who looks
//!   count another run of calls    nobody is called? no matter
//!   name whom it calls            the same run, and the same one called, as in an earlier look? so long ago
//!   nobody, when its turn ends
//! ```

use crossbeam::utils::CachePadded;

use super::mutant::mutant;
use super::primitive::{AtomicU64, Ordering};

/// Odd, so that different runs make different keys.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What one worker is at.
#[derive(Debug)]
pub struct UnderWay {
    /// Written by the worker alone.
    calls: CachePadded<Calls>,
    looks: CachePadded<Looks>,
}

#[derive(Debug)]
struct Calls {
    run: AtomicU64,
    /// Whose handler: a number of its own; 0 = none.
    whom: AtomicU64,
}

/// What others have seen of it.
#[derive(Debug)]
struct Looks {
    /// Run and handler of the last look.
    seen: AtomicU64,
    /// The instant of the first look that found these.
    since: AtomicU64,
    /// Run and handler of whom it is known until when there is nothing to tell.
    patient: AtomicU64,
    until: AtomicU64,
    /// Run and handler that were told of.
    told: AtomicU64,
}

/// Calls that have not ended since an earlier look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    /// Whose.
    pub whom: u64,
    /// Nanoseconds since the first look.
    pub elapsed: u64,
    key: u64,
    since: u64,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self::new()
    }
}

impl UnderWay {
    /// Of a worker that is at nothing.
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            calls: CachePadded::new(Calls { run: zero(), whom: zero() }),
            looks: CachePadded::new(Looks {
                seen: zero(),
                since: zero(),
                patient: zero(),
                until: zero(),
                told: zero(),
            }),
        }
    }

    /// Worker: another run of calls begins.
    #[inline(always)]
    pub fn begin_run(&self) {
        self.rest();
        // Relaxed: the worker reads its own last store.
        let run = self.calls.run.load(Ordering::Relaxed).wrapping_add(1);
        // SYNC(under_way.run): Release. Pairs with `look`; whom the run before called shows in no look at this one.
        self.calls.run.store(run, mutant!("under_way.run", Ordering::Release));
    }

    /// Worker: calls this one, or several times.
    #[inline(always)]
    pub fn call(&self, whom: u64) {
        // Relaxed: a number and nothing else; a look that misses it is an earlier one.
        self.calls.whom.store(whom, Ordering::Relaxed);
    }

    /// Worker: calls nobody now.
    #[inline(always)]
    pub fn rest(&self) {
        // Relaxed: see `call`.
        self.calls.whom.store(0, Ordering::Relaxed);
    }

    /// Whether somebody is being called.
    #[inline(always)]
    pub fn is_calling(&self) -> bool {
        // Relaxed: a hint.
        self.calls.whom.load(Ordering::Relaxed) != 0
    }

    /// The calls that were under way in an earlier look and still are, unless they were told of, or there is nothing to tell yet.
    pub fn look(&self, now: impl FnOnce() -> u64) -> Option<Lasting> {
        // SYNC(under_way.run): Acquire. Pairs with `begin_run`.
        let run = self.calls.run.load(mutant!("under_way.look", Ordering::Acquire));
        // Relaxed: of this run, or of a later one, and then nobody sees the two together again.
        let whom = self.calls.whom.load(Ordering::Relaxed);
        if whom == 0 {
            return None;
        }
        let key = whom ^ run.wrapping_mul(SPREAD);
        // After the look: they were under way by then.
        let now = now();
        let looks = &self.looks;
        // SYNC(under_way.seen): Acquire. Pairs with the store below; the instant is no earlier than the first look's.
        if looks.seen.load(mutant!("under_way.seen", Ordering::Acquire)) != key {
            // Relaxed: shown by the store below. It only rises, so that who comes late to this does not move it back.
            looks.since.fetch_max(now, Ordering::Relaxed);
            // SYNC(under_way.seen): Release. Pairs with the look above.
            looks.seen.store(key, mutant!("under_way.show", Ordering::Release));
            return None;
        }
        // Relaxed (all three): `seen` has shown the first; a wrong one of the others costs a question to the control plane, or
        // delays what is told.
        let since = looks.since.load(Ordering::Relaxed);
        let is_early = looks.patient.load(Ordering::Relaxed) == key && now < looks.until.load(Ordering::Relaxed);
        // Relaxed: whoever tells asks again.
        if is_early || looks.told.load(Ordering::Relaxed) == key {
            return None;
        }
        Some(Lasting { whom, elapsed: now.saturating_sub(since), key, since })
    }

    /// They may last this many nanoseconds.
    pub fn wait_for(&self, lasting: Lasting, limit_ns: u64) {
        // Relaxed (both): see `look`.
        self.looks.until.store(lasting.since.saturating_add(limit_ns), Ordering::Relaxed);
        self.looks.patient.store(lasting.key, Ordering::Relaxed);
    }

    /// Whether the caller is to tell of them, as one of all who look does.
    pub fn is_mine_to_tell(&self, lasting: Lasting) -> bool {
        // Relaxed: it decides who tells, and nothing else.
        let before = self.looks.told.swap(lasting.key, Ordering::Relaxed);
        mutant!("under_way.told", before != lasting.key => true)
    }
}

#[cfg(all(test, not(any(ringmain_loom, ringmain_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_lasts_is_told_of_and_only_once() {
        let worker = UnderWay::new();
        assert_eq!(worker.look(|| 5), None, "it is at nothing");
        worker.begin_run();
        worker.call(9);
        assert!(worker.is_calling());
        assert_eq!(worker.look(|| 10), None, "the first look");
        let lasting = worker.look(|| 25).unwrap();
        assert_eq!((lasting.whom, lasting.elapsed), (9, 15));
        worker.wait_for(lasting, 30);
        assert_eq!(worker.look(|| 39), None, "not yet");
        let lasting = worker.look(|| 40).unwrap();
        assert!(worker.is_mine_to_tell(lasting) && !worker.is_mine_to_tell(lasting));
        assert_eq!(worker.look(|| 90), None, "told");
        worker.begin_run();
        worker.call(9);
        assert_eq!(worker.look(|| 100), None, "another call of the same handler");
        assert_eq!(worker.look(|| 101).map(|lasting| lasting.elapsed), Some(1));
        worker.call(8);
        assert_eq!(worker.look(|| 200), None, "another handler at the same event");
        worker.rest();
        assert!(!worker.is_calling());
        assert_eq!(worker.look(|| 300), None);
    }
}
