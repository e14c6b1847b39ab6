//! Cells that belong together, in the order they came: of each key one is let through, the others wait behind it.
//!
//! Keys are hashes, and those that share a bucket share a line: that orders more than was asked for, and never less.

use super::memory::{OutOfMemory, boxed};

const NONE: u32 = u32::MAX;

/// The lines of one mailbox's cells. The worker's own.
#[derive(Debug)]
pub struct Keyed {
    /// The last cell of the line in each bucket.
    last: Box<[u32]>,
    /// The bucket of each cell that stands in a line.
    buckets: Box<[u32]>,
    /// The cell behind each.
    behind: Box<[u32]>,
    /// Cells that stand in a line.
    standing: usize,
}

impl Keyed {
    /// For so many cells, a power of two.
    ///
    /// # Errors
    /// When the system has not so much memory.
    pub fn new(cells: usize) -> Result<Self, OutOfMemory> {
        let none = |count| boxed(count, |_| NONE);
        Ok(Self { last: none(2 * cells)?, buckets: none(cells)?, behind: none(cells)?, standing: 0 })
    }

    /// What so many cells take.
    pub const fn bytes_for(cells: usize) -> u64 {
        (cells as u64).saturating_mul(4 * size_of::<u32>() as u64)
    }

    /// Whether no cell stands in any line, those that are over among them.
    pub fn is_empty(&self) -> bool {
        self.standing == 0
    }

    /// Puts a cell at the end of its key's line. Whether it is the first there.
    pub(super) fn join(&mut self, cell: u32, key: u64) -> bool {
        let bucket = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & (self.last.len() - 1);
        self.buckets[cell as usize] = bucket as u32;
        self.behind[cell as usize] = NONE;
        self.standing += 1;
        let ahead = std::mem::replace(&mut self.last[bucket], cell);
        if ahead != NONE {
            self.behind[ahead as usize] = cell;
        }
        ahead == NONE
    }

    /// Takes the first of a line out. The one that is first then, if there is one.
    pub(super) fn leave(&mut self, cell: u32) -> Option<u32> {
        let bucket = std::mem::replace(&mut self.buckets[cell as usize], NONE);
        let next = self.behind[cell as usize];
        self.standing -= usize::from(bucket != NONE);
        if bucket != NONE && next == NONE {
            self.last[bucket as usize] = NONE;
        }
        (bucket != NONE && next != NONE).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_are_those_of_plain_queues(steps in proptest::collection::vec((any::<bool>(), 0..5_u64), 1..200)) {
            let mut keyed = Keyed::new(16).expect("a few words");
            let mut free: Vec<u32> = (0..16).collect();
            let mut lines: HashMap<u64, VecDeque<u32>> = HashMap::new();
            for (joins, key) in steps {
                let line = lines.entry(key).or_default();
                if joins {
                    let Some(cell) = free.pop() else { continue };
                    // Five keys fall into buckets of their own here.
                    prop_assert_eq!(keyed.join(cell, key), line.is_empty());
                    line.push_back(cell);
                } else if let Some(cell) = line.pop_front() {
                    prop_assert_eq!(keyed.leave(cell), line.front().copied());
                    prop_assert_eq!(keyed.leave(cell), None, "it has left");
                    free.push(cell);
                }
                prop_assert_eq!(keyed.is_empty(), free.len() == 16);
            }
        }
    }
}
