//! A circuit breaker in one word: who asks whether an attempt may be made, and who tells what came of one, meet here.
//!
//! ```text
//!            failures in a row, or their share
//!   closed ─────────────────────────────────► open
//!     ▲                                        │ the time is over
//!     │ all probes went well                   ▼
//!     └───────────────────────────────── half open ──► a probe failed: open again
//! ```
//!
//! ```text
//!   63                    16 15 14       13        7 6          0
//!   │ half opens at (ticks) │  │ probed │ went well  │ probes out │     0 while it is closed
//! ```
//!
//! Nothing rides on the word but itself: every access is Relaxed, and of several who would move it on one exchange wins.

use super::mutant::mutant;
use super::primitive::{AtomicU32, AtomicU64, Ordering};

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Every attempt may be made.
    Closed,
    /// None may.
    Open,
    /// A few may, to see.
    HalfOpen,
}

/// When a breaker opens, and how it closes again. Times are nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct BreakerLimits {
    /// Failures in a row that open it.
    pub failures_max: u32,
    /// Failures of a thousand attempts that open it, once there were `events_min` within the window.
    pub per_mille_max: u32,
    pub events_min: u32,
    pub window_ns: u64,
    pub open_ns: u64,
    /// Attempts let through when it half opens, which must all go well; at most [`PROBES_MAX`].
    pub probes: u8,
}

/// Probes are counted in 7 bits.
pub const PROBES_MAX: u8 = 100;

/// The window moves in so many steps, so it is up to a step shorter than it says. Models could not explore ten.
const SLICES: usize = if cfg!(ringmain_loom) { 2 } else { 10 };

/// Instants are kept to 2^16 ns, 66 µs.
const TICK_SHIFT: u32 = 16;
const OUT: u64 = 0x7f;
const PROVED_SHIFT: u32 = 7;
/// A probe has been let through.
const PROBED: u64 = 1 << 14;
const UNTIL_SHIFT: u32 = 16;

/// Attempts and failures of a slice of time: its number, 24 bits, and 20 for each count.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// A breaker as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerLook {
    pub state: BreakerState,
    /// Failures since the last attempt that went well.
    pub failures: u32,
    /// The instant of the last failure.
    pub failed_at: Option<u64>,
    /// The instant at which it half opens, when it is open.
    pub half_opens_at: Option<u64>,
}

/// One breaker. Instants are nanoseconds of the bus clock.
#[derive(Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    word: AtomicU64,
    /// Failures in a row since it opened or closed: what it opens by.
    in_a_row: AtomicU32,
    /// Failures in a row, to be told of.
    failures: AtomicU32,
    /// The instant of the last failure; 0 = there was none.
    failed_at: AtomicU64,
    slices: [AtomicU64; SLICES],
}

fn half_opens_at(word: u64) -> u64 {
    (word >> UNTIL_SHIFT) << TICK_SHIFT
}

fn out(word: u64) -> u64 {
    word & OUT
}

fn proved(word: u64) -> u64 {
    word >> PROVED_SHIFT & OUT
}

impl Breaker {
    /// A closed one.
    pub fn new(limits: BreakerLimits) -> Self {
        let slices = std::array::from_fn(|_| AtomicU64::new(0));
        let zero = || AtomicU32::new(0);
        Self {
            limits,
            word: AtomicU64::new(0),
            in_a_row: zero(),
            failures: zero(),
            failed_at: AtomicU64::new(0),
            slices,
        }
    }

    pub fn state(&self, now: u64) -> BreakerState {
        self.look(now).state
    }

    pub fn look(&self, now: u64) -> BreakerLook {
        // Relaxed: see the head of this file; so are all below.
        let (state, half_opens_at) = match self.word.load(Ordering::Relaxed) {
            0 => (BreakerState::Closed, None),
            word if now < half_opens_at(word) => (BreakerState::Open, Some(half_opens_at(word))),
            _ => (BreakerState::HalfOpen, None),
        };
        // Relaxed (both): figures.
        let (failures, failed_at) = (self.failures.load(Ordering::Relaxed), self.failed_at.load(Ordering::Relaxed));
        BreakerLook { state, failures, failed_at: (failed_at != 0).then_some(failed_at), half_opens_at }
    }

    /// Lets an attempt be made now, which `record` or `take_back` must follow; true when it is the first probe, which half opens
    /// it. `Err` is the instant at which to ask again; `u64::MAX` when its probes are out, and what comes of them decides.
    #[inline]
    pub fn admit(&self, now: u64) -> Result<bool, u64> {
        // Relaxed: see above.
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word == 0 {
                return Ok(false);
            }
            if now < half_opens_at(word) {
                return Err(half_opens_at(word));
            }
            if self.is_probed(word) {
                return Err(u64::MAX);
            }
            // Relaxed (both): see above.
            let moved =
                self.word.compare_exchange_weak(word, (word + 1) | PROBED, Ordering::Relaxed, Ordering::Relaxed);
            match mutant!("breaker.admit", moved => Ok(word)) {
                Ok(_) => return Ok(word & PROBED == 0),
                Err(seen) => word = seen,
            }
        }
    }

    /// Whether all its probes are out, or went well.
    fn is_probed(&self, word: u64) -> bool {
        mutant!("breaker.probes", out(word) + proved(word) >= u64::from(self.limits.probes) => false)
    }

    /// The instant from which an attempt may be made: `now` if at once, `u64::MAX` while its probes are out.
    pub fn admits_at(&self, now: u64) -> u64 {
        // Relaxed: see above.
        match self.word.load(Ordering::Relaxed) {
            0 => now,
            word if now < half_opens_at(word) => half_opens_at(word),
            word if self.is_probed(word) => u64::MAX,
            _ => now,
        }
    }

    /// An attempt that was admitted is not made.
    pub fn take_back(&self, now: u64) {
        self.step(|word| {
            let is_probe = now >= half_opens_at(word) && out(word) > 0;
            is_probe.then(|| word - 1)
        });
    }

    /// What came of an attempt. The new state when it changed by this.
    ///
    /// An attempt from before the breaker opened says nothing while it is open, and may answer for a probe when it is half
    /// open.
    pub fn record(&self, now: u64, went_well: bool) -> Option<BreakerState> {
        let mut changed = None;
        let is_too_much = mutant!("breaker.opens", self.count(now, went_well) => false);
        self.step(|word| {
            changed = None;
            let open = (((now + self.limits.open_ns) >> TICK_SHIFT).max(1)) << UNTIL_SHIFT;
            if word == 0 {
                changed = is_too_much.then_some(BreakerState::Open);
                return is_too_much.then_some(open);
            }
            if now < half_opens_at(word) || out(word) == 0 {
                return None;
            }
            if !went_well {
                changed = Some(BreakerState::Open);
                return Some(open);
            }
            let next = word - 1 + (1 << PROVED_SHIFT);
            if proved(next) < u64::from(self.limits.probes) {
                return Some(next);
            }
            changed = Some(BreakerState::Closed);
            Some(0)
        });
        if changed.is_some() {
            self.forget();
        }
        changed
    }

    /// Moves the word on by `step`, unless that is `None`.
    fn step(&self, mut step: impl FnMut(u64) -> Option<u64>) {
        // Relaxed: see above.
        let mut word = self.word.load(Ordering::Relaxed);
        while let Some(next) = step(word) {
            // Relaxed (both): see above.
            let moved = self.word.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed);
            match mutant!("breaker.exchange", moved => Ok(word)) {
                Ok(_) => return,
                Err(seen) => word = seen,
            }
        }
    }

    /// Counts an attempt. Whether there were too many failures, in a row or in the window.
    fn count(&self, now: u64, went_well: bool) -> bool {
        self.note(now, went_well);
        // Relaxed (all): figures; two at one moment may be taken for one after the other, either way.
        let in_a_row = if !went_well {
            self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
        } else {
            // Relaxed (both): as above.
            if self.in_a_row.load(Ordering::Relaxed) != 0 {
                self.in_a_row.store(0, Ordering::Relaxed);
            }
            0
        };
        let number = numbered(now / (self.limits.window_ns / SLICES as u64).max(1));
        let slice = &self.slices[(number % SLICES as u64) as usize];
        let counted = |slice: u64| {
            let (attempts, failures) = counts_of(slice, number);
            let attempts = (attempts + 1).min(COUNT_MAX);
            let failures = (failures + u64::from(!went_well)).min(COUNT_MAX);
            Some(number << (2 * COUNT_BITS) | attempts << COUNT_BITS | failures)
        };
        // Relaxed (both): a figure.
        let _ = slice.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
        !went_well && (in_a_row >= self.limits.failures_max || self.is_share_too_large(number))
    }

    /// Notes an attempt, to be told of. Nothing is decided by that, so models leave it out.
    fn note(&self, now: u64, went_well: bool) {
        if cfg!(ringmain_loom) {
            return;
        }
        if !went_well {
            // Relaxed (both): figures.
            self.failed_at.store(now, Ordering::Relaxed);
            self.failures.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Relaxed (both): as above.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    #[cold]
    fn is_share_too_large(&self, number: u64) -> bool {
        let (mut attempts, mut failures) = (0, 0);
        for back in 0..SLICES as u64 {
            let number = numbered(number.wrapping_sub(back));
            // Relaxed: a figure.
            let slice = self.slices[(number % SLICES as u64) as usize].load(Ordering::Relaxed);
            let (of_slice, failed) = counts_of(slice, number);
            attempts += of_slice;
            failures += failed;
        }
        attempts >= u64::from(self.limits.events_min)
            && failures * 1_000 >= attempts * u64::from(self.limits.per_mille_max)
    }

    /// Begins anew.
    fn forget(&self) {
        // Relaxed (all): figures.
        self.in_a_row.store(0, Ordering::Relaxed);
        self.slices.iter().for_each(|slice| slice.store(0, Ordering::Relaxed));
    }
}

/// The number of a slice, as far as it is kept.
fn numbered(slice: u64) -> u64 {
    slice & ((1 << (64 - 2 * COUNT_BITS)) - 1)
}

/// Attempts and failures in a slice, if it is the one of this number.
fn counts_of(slice: u64, number: u64) -> (u64, u64) {
    if slice >> (2 * COUNT_BITS) == number { (slice >> COUNT_BITS & COUNT_MAX, slice & COUNT_MAX) } else { (0, 0) }
}

#[cfg(all(test, not(any(ringmain_loom, ringmain_shuttle))))]
mod tests;
