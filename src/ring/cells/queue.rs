//! A queue of cells, or of keys: one worker fills it, it and the consumer take from it.

use crossbeam::utils::CachePadded;

use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU32, AtomicU64, BeforeWrite, Ordering};

use super::super::memory::{OutOfMemory, boxed};
use super::NONE;

#[derive(Debug)]
pub(in crate::ring) struct IndexRing {
    pub(super) entries: Box<[AtomicU32]>,
    /// Next to take. Moved by whoever takes.
    head: CachePadded<AtomicU64>,
    /// Next to fill. Moved by the worker.
    tail: CachePadded<AtomicU64>,
}

impl IndexRing {
    pub(super) fn new(capacity: usize, first: u64) -> Result<Self, OutOfMemory> {
        Ok(Self {
            entries: boxed(capacity, |_| AtomicU32::new(mutant!("cells.queue", NONE => 0)))?,
            head: CachePadded::new(AtomicU64::new(first)),
            tail: CachePadded::new(AtomicU64::new(first)),
        })
    }

    fn entry(&self, at: u64) -> &AtomicU32 {
        &self.entries[at as usize & (self.entries.len() - 1)]
    }

    /// Worker only. There is room: a ring has an entry for every cell or key, and none is in it twice.
    pub(in crate::ring) fn push(&self, cell: u32) {
        // Relaxed: only the worker writes the tail.
        let tail = self.tail.before_write();
        // Relaxed: published by the tail below. A taker that reads an entry of an earlier lap fails its exchange.
        self.entry(tail).store(cell, Ordering::Relaxed);
        // SYNC(cells.queue): Release. Pairs with `take`; the cell's bytes and its number are visible with the tail.
        self.tail.store(tail.wrapping_add(1), mutant!("cells.queue", Ordering::Release));
    }

    pub(in crate::ring) fn take(&self) -> Option<u32> {
        // SYNC(cells.head): Acquire. Pairs with the other taker's exchange.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            // SYNC(cells.queue): Acquire. Pairs with `push`.
            let tail = self.tail.load(Ordering::Acquire);
            if mutant!("cells.wrap", tail == head => tail <= head) {
                return None;
            }
            // Relaxed: the tail's Acquire made it visible; if another taker was first, the exchange fails.
            let cell = self.entry(head).load(Ordering::Relaxed);
            let next = head.wrapping_add(1);
            // SYNC(cells.head): Release. Our read of the entry comes before the worker fills it again a lap later.
            let taken = self.head.compare_exchange_weak(head, next, Ordering::Release, Ordering::Acquire);
            match mutant!("cells.head", taken => Ok(head)) {
                Ok(_) => return Some(cell),
                Err(now) => head = now,
            }
        }
    }

    pub(super) fn len(&self) -> u64 {
        // SYNC(cells.head): Acquire. Head first, so that the tail read after it is not behind.
        let head = self.head.load(mutant!("cells.len", Ordering::Acquire));
        // Relaxed: whoever moved the head had seen the tail, and nothing but the number is taken from it.
        self.tail.load(Ordering::Relaxed).wrapping_sub(head)
    }
}
