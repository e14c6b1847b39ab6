//! Who wants a type: one word a type, read by every publish, written when subscriptions change.
//!
//! Publishers never look into a routing table. They read one word: a bit for each worker and lane that has a target
//! for the type. No bit, no slot: the event is counted and goes nowhere. The bits also say whom to wake.

use super::memory::{OutOfMemory, boxed};
use crate::sync::primitive::{AtomicU64, BeforeWrite, Ordering};

/// Workers that fit beside four lanes in a word.
pub const WORKERS_MAX: usize = 16;

/// The words of all type ids, 0 included, and a last one for events that name whom they are for.
#[derive(Debug)]
pub struct Wants {
    words: Box<[AtomicU64]>,
}

impl Wants {
    /// Words for the ids up to `types`.
    ///
    /// # Errors
    /// When the system has not so much memory.
    pub fn new(types: usize) -> Result<Self, OutOfMemory> {
        Ok(Self { words: boxed(types + 2, |_| AtomicU64::new(0))? })
    }

    pub fn reserved_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// The id of no type: whom events reach that name whom they are for.
    #[inline]
    pub fn named(&self) -> u32 {
        (self.words.len() - 1) as u32
    }

    /// Workers with a target for `type_id` in `lane`, one bit each.
    #[inline(always)]
    pub fn workers(&self, type_id: u32, lane: usize) -> u64 {
        let word = self.words.get(type_id as usize);
        // SYNC(wants): Acquire. Pairs with `set`: a worker whose bit is seen has activated its cursors before, so what
        // is claimed from now on will be read by it.
        word.map_or(0, |word| (word.load(Ordering::Acquire) >> (lane * WORKERS_MAX)) & 0xffff)
    }

    /// Sets or clears the bits of `worker`, as `lanes` (a bit each) says. Control plane, under its lock, after the worker has
    /// acknowledged the table with its new targets.
    pub fn set(&self, type_id: u32, worker: usize, lanes: u8) {
        let mut bits = 0;
        let mut all = 0;
        for lane in 0..super::LANES {
            let bit = 1_u64 << (lane * WORKERS_MAX + worker);
            all |= bit;
            if lanes & (1 << lane) != 0 {
                bits |= bit;
            }
        }
        let word = &self.words[type_id as usize];
        // Relaxed: only the control plane writes, under its lock.
        let old = word.before_write();
        // SYNC(wants): Release. Pairs with `workers`.
        word.store((old & !all) | bits, Ordering::Release);
    }
}
