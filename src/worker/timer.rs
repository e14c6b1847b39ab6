//! Events that are not due yet: taken in from publishers without a lock, held by worker 0 until their time.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::event::Header;
use crate::ring::{Block, LANES};
use crate::sync::intake::Intake;

/// One event that waits.
#[derive(Debug)]
pub(crate) struct Scheduled {
    /// When it is due (instant).
    pub(crate) due: u64,
    pub(crate) header: Header,
    /// Extension and payload.
    pub(crate) rest: Block,
}

/// What publishers hand over, and what worker 0 keeps of it.
pub(crate) type Schedule = Intake<Scheduled>;

/// Bytes that the intake and worker 0's heaps reserve for `max` events.
pub(crate) const fn schedule_bytes(max: usize) -> usize {
    let intake = if max == 0 { 1 } else { max };
    let heaps = max.saturating_mul(LANES * size_of::<Entry>());
    intake.saturating_mul(size_of::<(usize, Scheduled)>()).saturating_add(heaps)
}

#[derive(Debug)]
struct Entry {
    event: Scheduled,
    /// Keeps events of one instant in order of arrival.
    arrival: u64,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap's greatest is the one due first.
    fn cmp(&self, other: &Self) -> Order {
        (other.event.due, other.arrival).cmp(&(self.event.due, self.arrival))
    }
}

/// Worker 0's heaps, one a lane: a full lane keeps the events of no other waiting. Their memory is reserved when they
/// are made.
#[derive(Debug)]
pub(super) struct Timers {
    heaps: [BinaryHeap<Entry>; LANES],
    arrivals: u64,
}

impl Timers {
    pub(super) fn new(max: usize) -> Self {
        Self { heaps: std::array::from_fn(|_| BinaryHeap::with_capacity(max)), arrivals: 0 }
    }

    /// Takes over what publishers have put in.
    pub(super) fn collect(&mut self, schedule: &Schedule) {
        while let Some(event) = schedule.take() {
            self.arrivals += 1;
            let lane = LANES - 1 - usize::from(event.header.priority & 3);
            self.heaps[lane].push(Entry { event, arrival: self.arrivals });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heaps.iter().all(BinaryHeap::is_empty)
    }

    /// When the next event is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.heaps.iter().filter_map(BinaryHeap::peek).map(|entry| entry.event.due).min()
    }

    /// Hands over every event due by `now`, in order, as long as `publish` takes it. Returns how many went.
    pub(super) fn run(
        &mut self,
        now: u64,
        schedule: &Schedule,
        mut publish: impl FnMut(&mut Scheduled) -> bool,
    ) -> usize {
        let mut count = 0;
        for heap in &mut self.heaps {
            while let Some(mut entry) = heap.peek_mut() {
                // The key does not change, so the peek's sift on drop finds everything in place.
                if entry.event.due > now || !schedule.go_on(|| publish(&mut entry.event)) {
                    break;
                }
                PeekMut::pop(entry);
                count += 1;
            }
        }
        count
    }
}
