//! What of a mailbox's events is elsewhere, lane by lane: how many, from which sequence on, and what is to be read back.
//!
//! ```text
//!   worker                                     whoever flushes
//!   event went elsewhere: first, open + 1      open = 0, or first behind the end asked for?
//!   event is back in its cell: first, open − 1 then look into the cells
//! ```
//!
//! An event shows here until it is in its cell: who looks here first and into the cells then misses none.

use super::mutant::mutant;
use super::primitive::{AtomicU32, AtomicU64, Ordering};

/// What is to be read back of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Which order this is. What was read for an earlier one is for nobody.
    pub epoch: u32,
    /// From which sequence on; `None`: nothing any more.
    pub from: Option<u64>,
}

#[derive(Debug)]
struct LaneBacklog {
    open: AtomicU64,
    first: AtomicU64,
    from: AtomicU64,
    /// The number of the order in the upper bits, and whether there is something to read.
    order: AtomicU32,
}

/// The backlog of one mailbox, written by its worker.
#[derive(Debug)]
pub struct Backlog<const LANES: usize>([LaneBacklog; LANES]);

impl<const LANES: usize> Default for Backlog<LANES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const LANES: usize> Backlog<LANES> {
    /// Nothing is elsewhere.
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| LaneBacklog {
            open: AtomicU64::new(0),
            first: AtomicU64::new(0),
            from: AtomicU64::new(0),
            order: AtomicU32::new(0),
        }))
    }

    /// Worker: an event goes elsewhere. Before the worker says that it has passed it.
    pub fn add(&self, lane: usize, sequence: u64) {
        let LaneBacklog { open, first, .. } = &self.0[lane];
        // Relaxed: the worker alone writes.
        let before = open.load(Ordering::Relaxed);
        if before == 0 {
            // Relaxed: who is to see the event has seen the worker pass it (SYNC(lanes.cursor)).
            first.store(sequence, Ordering::Relaxed);
        }
        // Relaxed: as above.
        open.store(before + 1, Ordering::Relaxed);
    }

    /// Worker: so many events are back, given up or in their cells, and everything before `next` is.
    pub fn remove(&self, lane: usize, events: u64, next: u64) {
        let LaneBacklog { open, first, .. } = &self.0[lane];
        // SYNC(backlog): Release. Pairs with `has_passed`; the events are in their cells.
        first.store(next, mutant!("backlog.first", Ordering::Release));
        // Relaxed: the worker alone writes.
        let left = open.load(Ordering::Relaxed).saturating_sub(events);
        // SYNC(backlog): Release. Pairs with `has_passed` and `open`, as above.
        open.store(left, mutant!("backlog.open", Ordering::Release));
    }

    /// The worker has left: nothing of a lane is elsewhere any more. Returns how many events were.
    pub fn take(&self, lane: usize) -> u64 {
        // Relaxed: of those who do this at once one gets the number, and nothing else rides on it.
        self.0[lane].open.swap(0, Ordering::Relaxed)
    }

    /// Events of a lane that are elsewhere.
    pub fn open(&self, lane: usize) -> u64 {
        // SYNC(backlog): Acquire. Pairs with `remove`; what is gone from here is in its cell.
        self.0[lane].open.load(Ordering::Acquire)
    }

    /// Events of all lanes that are elsewhere.
    pub fn total(&self) -> u64 {
        (0..LANES).map(|lane| self.open(lane)).sum()
    }

    /// Whether no event from before `ends`, a sequence a lane, is elsewhere. The worker has passed these ends, as far as the caller
    /// has seen. Asked before the cells are.
    pub fn has_passed(&self, ends: &[u64; LANES]) -> bool {
        self.0.iter().zip(ends).all(|(lane, &end)| {
            // SYNC(backlog): Acquire. Pairs with `remove`; what is gone from here is in its cell.
            let is_none = lane.open.load(mutant!("backlog.passed_open", Ordering::Acquire)) == 0;
            is_none || {
                // SYNC(backlog): Acquire. Pairs with `remove`, as above.
                let first = lane.first.load(mutant!("backlog.passed_first", Ordering::Acquire));
                (first.wrapping_sub(end) as i64) >= 0
            }
        })
    }

    /// Worker: has a lane read back from a sequence on, or no more. Returns the number of the order.
    pub fn set_order(&self, lane: usize, sequence: Option<u64>) -> u32 {
        let LaneBacklog { from, order, .. } = &self.0[lane];
        // Relaxed (both): the worker alone writes, and the order publishes where it begins. Who reads the new beginning with the old
        // order reads for an order that is over.
        let epoch = (order.load(Ordering::Relaxed) >> 1).wrapping_add(1) & (u32::MAX >> 1);
        from.store(sequence.unwrap_or(0), Ordering::Relaxed);
        let word = epoch << 1 | u32::from(sequence.is_some());
        // SYNC(backlog.order): Release. Pairs with `order`; the beginning is visible with it.
        order.store(word, mutant!("backlog.order", Ordering::Release));
        epoch
    }

    /// What is to be read back of a lane.
    pub fn order(&self, lane: usize) -> Order {
        let LaneBacklog { from, order, .. } = &self.0[lane];
        // SYNC(backlog.order): Acquire. Pairs with `set_order`.
        let word = order.load(mutant!("backlog.order_load", Ordering::Acquire));
        // Relaxed: visible with the order.
        let from = from.load(Ordering::Relaxed);
        Order { epoch: word >> 1, from: (word & 1 != 0).then_some(from) }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_elsewhere_is_passed_when_it_is_back_or_behind_the_end() {
        let backlog: Backlog<2> = Backlog::new();
        assert!(backlog.has_passed(&[9, 9]));
        backlog.add(1, u64::MAX);
        backlog.add(1, 0);
        assert_eq!((backlog.open(0), backlog.open(1), backlog.total()), (0, 2, 2));
        assert!(backlog.has_passed(&[9, u64::MAX]), "the first one is behind the end");
        assert!(!backlog.has_passed(&[9, 0]));
        backlog.remove(1, 1, 0);
        assert!(backlog.has_passed(&[9, 0]));
        assert!(!backlog.has_passed(&[9, 1]));
        backlog.remove(1, 1, 1);
        assert!(backlog.has_passed(&[9, 1]));
    }

    #[test]
    fn an_order_has_a_number_of_its_own() {
        let backlog: Backlog<1> = Backlog::new();
        assert_eq!(backlog.order(0).from, None);
        let first = backlog.set_order(0, Some(7));
        assert_eq!(backlog.order(0), Order { epoch: first, from: Some(7) });
        let second = backlog.set_order(0, None);
        assert_ne!(first, second);
        assert_eq!(backlog.order(0), Order { epoch: second, from: None });
    }
}
