//! An event in a cell, in somebody's hands.

use std::sync::Arc;

use crate::sync::primitive::Ordering;

use super::super::pool::BlockHandle;
use super::super::reader::{Slot, SlotRest};
use super::super::slot::{Head, block_word};
use super::Cells;

/// A cell in its taker's hands. Dropped, it is free again.
#[derive(Debug)]
pub struct Taken {
    pub(super) cells: Arc<Cells>,
    pub(super) cell: u32,
    pub(super) lane: u8,
    pub(super) frees: bool,
}

impl Taken {
    /// Which cell.
    pub fn cell(&self) -> usize {
        self.cell as usize
    }

    /// Lets go of the cell without freeing it: it is queued again, or others hold it.
    pub(in crate::ring) fn leave(mut self) {
        self.frees = false;
    }

    pub fn lane(&self) -> usize {
        usize::from(self.lane)
    }

    /// Events of its key that it has superseded while they waited. 0 where all count.
    pub fn skipped(&self) -> u64 {
        self.cells.newest.as_ref().map_or(0, |newest| newest.skipped(self.cell))
    }

    /// The sequence of the event.
    pub fn sequence(&self) -> u64 {
        // Relaxed: made visible by the queue that the cell was taken from.
        self.cells.memory.stamp(self.cells.memory.place(self.cell as usize)).load(Ordering::Relaxed)
    }

    /// The head of the event and what follows it, padding included.
    #[inline]
    pub fn parts(&self) -> (&Head, &[u8]) {
        // SAFETY: a taken cell is written again only after it was freed, by the last of those who hold it.
        let (head, rest) = unsafe { self.cells.memory.parts(self.cells.memory.place(self.cell as usize)) };
        match BlockHandle::from_word(block_word(head)) {
            None => (head, rest),
            // SAFETY: the cell holds a count of its block until it is freed.
            Some(handle) => (head, unsafe { self.cells.pool.bytes(handle) }),
        }
    }
}

impl Taken {
    /// The event as a lane's slot shows it, to be put into another mailbox.
    pub fn slot(&self) -> Slot<'_> {
        let (head, bytes) = self.parts();
        let rest = match BlockHandle::from_word(block_word(head)) {
            None => SlotRest::Inline(bytes),
            Some(handle) => SlotRest::Block(handle, bytes),
        };
        Slot { head, rest }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.frees {
            // SAFETY: the cell is ours and was written, and no borrow of `parts` outlives `self`.
            unsafe { self.cells.give_back(self.cell) };
        }
    }
}
