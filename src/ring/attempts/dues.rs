//! When to look at which cells: of each 64 together, an instant before which nothing is due there.
//!
//! ```text
//!   who moves the word of a cell           the worker
//!   write the word                         is a bound due? take it away
//!   lower the bound of its 64 cells        look at their words, lower the bound to what is next
//!   set the alarm                          set the alarm to the earliest bound
//! ```
//!
//! Both change the bound by an exchange that reads it, whatever it was: either the worker takes what was set, and finds the
//! word, or what was set is still there when it has looked. A bound may be too early, when what it was set for is over.

use super::super::memory::{OutOfMemory, boxed};
use crate::sync::alarm::NEVER;
use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU64, Ordering};

/// Cells that share a bound: their words are read together, 512 bytes.
const CELLS: usize = 64;

/// The bounds of one mailbox's cells. Instants are nanoseconds of the bus clock.
#[derive(Debug)]
pub(super) struct Dues(Box<[AtomicU64]>);

impl Dues {
    /// For so many cells, of which none is due.
    pub(super) fn new(cells: usize) -> Result<Self, OutOfMemory> {
        Ok(Self(boxed(cells.div_ceil(CELLS), |_| AtomicU64::new(NEVER))?))
    }

    /// What so many cells take.
    pub(super) const fn bytes_for(cells: usize) -> u64 {
        (cells.div_ceil(CELLS) * size_of::<AtomicU64>()) as u64
    }

    /// How many bounds there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The cells of a bound, of so many there are.
    pub(super) fn cells(nth: usize, cells: usize) -> std::ops::Range<usize> {
        nth * CELLS..cells.min((nth + 1) * CELLS)
    }

    /// Sees to it that the worker looks at `cell` at `instant`, or before, if its alarm is set to no later. The cell's word
    /// was written before.
    pub(super) fn set(&self, cell: usize, instant: u64) {
        let bound = &self.0[cell / CELLS];
        // SYNC(attempts.due): Release. Pairs with `take`; the word is seen by who takes this, or what was lowered after it.
        bound.fetch_min(instant, mutant!("attempts.due", Ordering::Release));
    }

    /// Worker: takes a bound away that is due, before it looks at its cells. One that is not is said.
    pub(super) fn take(&self, nth: usize, now: u64) -> Result<(), u64> {
        let bound = &self.0[nth];
        // Relaxed: what is set after the alarm was taken sets it anew; what was set before is seen, see there.
        let at = bound.load(Ordering::Relaxed);
        if at > now {
            return Err(at);
        }
        // SYNC(attempts.due): Acquire. Pairs with `set`.
        let taken = bound.swap(NEVER, mutant!("attempts.due_taken", Ordering::Acquire));
        debug_assert!(taken <= at, "others only lower it");
        Ok(())
    }

    /// Worker: lowers a bound to what it has found to be next at its cells.
    pub(super) fn resume(&self, nth: usize, instant: u64) {
        // Relaxed: the worker's own look; somebody may have set an earlier one since.
        self.0[nth].fetch_min(instant, Ordering::Relaxed);
    }
}
