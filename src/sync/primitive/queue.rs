//! crossbeam's bounded queue as loom is to see it: who pushes shows the next one who pops what it did, and the other way
//! round; whoever has been shown nothing may find less in it, or less room, than there is.

use std::collections::VecDeque;
use std::sync::Mutex;

// Not from the door where orderings are weakened: these are crossbeam's, and not ours to weaken.
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{AcqRel, Relaxed};

/// As `crossbeam::queue::ArrayQueue`.
#[derive(Debug)]
pub struct ArrayQueue<T> {
    capacity: usize,
    len: AtomicUsize,
    /// std's lock orders nothing under loom, and no thread of a model gives way between a step of `len` and one of these.
    items: Mutex<VecDeque<T>>,
}

impl<T> ArrayQueue<T> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, len: AtomicUsize::new(0), items: Mutex::new(VecDeque::new()) }
    }

    pub fn push(&self, item: T) -> Result<(), T> {
        let room = |len| (len < self.capacity).then_some(len + 1);
        match self.len.fetch_update(AcqRel, Relaxed, room) {
            Ok(_) => {
                self.items.lock().expect("no execution panicked").push_back(item);
                Ok(())
            }
            Err(_) => Err(item),
        }
    }

    pub fn pop(&self) -> Option<T> {
        // Relaxed on failure: an attempt that found nothing has seen nothing.
        self.len.fetch_update(AcqRel, Relaxed, |len: usize| len.checked_sub(1)).ok()?;
        self.items.lock().expect("no execution panicked").pop_front()
    }

    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_full(&self) -> bool {
        self.len() == self.capacity
    }
}
