//! The word of a cell, which says where its event is, and the memory of all words.
//!
//! ```text
//!   63            29 28      22 21     10 9       3 2    0
//!   │ due (ticks)   │ failures │ takes   │ holders │ state │
//! ```

use super::super::memory::{OutOfMemory, boxed};
use super::dues::Dues;
use crate::sync::mutant::mutant;
use crate::sync::primitive::AtomicU64;

/// An event fails at most so often, so that its failures and those who still hold it can be counted.
pub const ATTEMPTS_MAX: u8 = 100;
/// An event is given back without an attempt at most so often, so that the number of its takes tells them apart.
pub const RELEASES_MAX: u16 = 3_900;
/// The longest wait, in nanoseconds.
pub const WAIT_MAX_NS: u64 = 10 * 24 * 3_600 * 1_000_000_000;

/// Due times are kept to 2^18 ns, 262 µs: ticks of a wheel that goes round in 104 days. Nothing waits for more than 10 of them, so
/// whatever seems to be due later than in 11 is late: by up to 93 days, which the machine may have slept.
pub(super) const TICK_SHIFT: u32 = 18;
const TICKS: u64 = 1 << (64 - DUE);
/// A day more than the longest wait: who looks may have read the clock before the word was written.
const AHEAD_MAX: u64 = (WAIT_MAX_NS / 10 * 11) >> TICK_SHIFT;

pub(super) const STATE: u64 = 0b111;
pub(super) const OVER: u64 = 0;
pub(super) const QUEUED: u64 = 1;
pub(super) const IN_HAND: u64 = 2;
pub(super) const WAITING: u64 = 3;
pub(super) const HELD_BACK: u64 = 4;
pub(super) const HOLDER: u64 = 1 << 3;
pub(super) const HOLDERS: u64 = TAKE - HOLDER;
pub(super) const TAKE: u64 = 1 << 10;
pub(super) const FAILURE: u64 = 1 << 22;
const DUE: u32 = 29;

pub(super) fn takes(word: u64) -> u16 {
    (word / TAKE % (FAILURE / TAKE)) as u16
}

pub(super) fn failures(word: u64) -> u8 {
    (word / FAILURE % ((1 << DUE) / FAILURE)) as u8
}

pub(super) fn with_state(word: u64, state: u64) -> u64 {
    word & !STATE | state
}

pub(super) fn with_due(word: u64, tick: u64) -> u64 {
    word & ((1 << DUE) - 1) | (tick % TICKS) << DUE
}

/// How many ticks `word` is due after the tick `now`; `None` when it is due.
pub(super) fn ticks_left(word: u64, now: u64) -> Option<u64> {
    let left = mutant!("attempts.wheel", (word >> DUE).wrapping_sub(now) % TICKS => (word >> DUE).saturating_sub(now));
    (left != 0 && left <= AHEAD_MAX).then_some(left)
}

/// How many ticks `word`, which is due, is late at the tick `now`.
pub(super) fn ticks_late(word: u64, now: u64) -> u64 {
    now.wrapping_sub(word >> DUE) % TICKS
}

/// The first tick that begins no earlier than `due`, which is at most the longest wait after `now`.
pub(super) fn tick_after(due: u64, now: u64) -> u64 {
    (due.min(now.saturating_add(WAIT_MAX_NS)) + ((1 << TICK_SHIFT) - 1)) >> TICK_SHIFT
}

pub(super) fn instant_of(tick: u64) -> u64 {
    tick << TICK_SHIFT
}

/// The memory of attempts.
#[derive(Debug)]
pub struct AttemptWords {
    pub(super) words: Box<[AtomicU64]>,
    /// The instant of the first attempt at each event. Written by its first taker; before, it is another event's.
    pub(super) began: Box<[AtomicU64]>,
    pub(super) dues: Dues,
}

impl AttemptWords {
    /// For so many cells.
    ///
    /// # Errors
    /// When the system has not so much memory.
    pub fn new(cells: usize) -> Result<Self, OutOfMemory> {
        Ok(Self {
            words: boxed(cells, |_| AtomicU64::new(OVER))?,
            began: boxed(cells, |_| AtomicU64::new(0))?,
            dues: Dues::new(cells)?,
        })
    }

    /// What so many cells take.
    pub const fn bytes_for(cells: usize) -> u64 {
        (cells as u64).saturating_mul(2 * size_of::<AtomicU64>() as u64).saturating_add(Dues::bytes_for(cells))
    }
}
