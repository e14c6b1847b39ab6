//! A worker's end of the lanes: look, read in place, step over, and now and then let the slots go.

use std::sync::Arc;

use super::broadcast::{LANES, Lanes};
use super::pool::BlockHandle;
use super::slot::{Head, Place, Round, block_word};
use crate::sync::mutant::mutant;
use crate::sync::primitive::Ordering;

/// Whether `worker` is one of those a slot's block was shared with.
fn counted(tail: &[u8], worker: usize) -> bool {
    let workers = tail.first_chunk().map_or(0, |workers| u64::from_ne_bytes(*workers));
    mutant!("block.counted", workers & (1 << worker) != 0 => true)
}

/// One event in its slot.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    pub head: &'a Head,
    pub(super) rest: SlotRest<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum SlotRest<'a> {
    /// Behind the head, to the end of the slot.
    Inline(&'a [u8]),
    Block(BlockHandle, &'a [u8]),
    /// In a block that was not shared with this worker: the event was published before the worker had any target for
    /// it, and is not its business.
    Foreign,
}

impl<'a> Slot<'a> {
    /// What follows the head, padding included. `None` when the event is not this worker's business.
    #[inline(always)]
    pub fn rest(&self) -> Option<&'a [u8]> {
        match self.rest {
            SlotRest::Inline(rest) | SlotRest::Block(_, rest) => Some(rest),
            SlotRest::Foreign => None,
        }
    }
}

/// Where a reader stands in one lane.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// Next sequence to read; ahead of the shared cursor until `release`.
    next: u64,
    /// Where that lies.
    place: Place,
    /// The slot's stamp once the event is committed.
    ready: u64,
}

impl Cursor {
    fn at(lanes: &Lanes, lane: usize, next: u64) -> Self {
        Self { next, place: lanes.place(lane, next), ready: next.wrapping_add(1) }
    }

    /// Whether the next event is committed. One load.
    #[inline(always)]
    fn is_ready(self, lanes: &Lanes) -> bool {
        // SYNC(slot.commit): Acquire. Pairs with `show` of the claim; the body is visible with the stamp.
        mutant!("slot.ready", lanes.memory().stamp(self.place).load(Ordering::Acquire) == self.ready => true)
    }

    /// The slot of a committed event.
    ///
    /// # Safety
    /// `is_ready` was true, `worker` is active, and its reader does not pass the slot while the references live.
    #[inline(always)]
    unsafe fn slot(self, lanes: &Lanes, worker: usize) -> Slot<'_> {
        // SAFETY: the stamp says that the body is committed, and it is not reused before this worker's shared cursor
        // passes it, which by contract comes after the references.
        let (head, tail) = unsafe { lanes.memory().parts(self.place) };
        let rest = match BlockHandle::from_word(block_word(head)) {
            None => SlotRest::Inline(tail),
            // SAFETY: by contract, as here.
            Some(handle) => unsafe { Self::block(lanes, worker, handle, tail) },
        };
        Slot { head, rest }
    }

    /// The bytes of a slot's block, if it was shared with `worker`.
    ///
    /// # Safety
    /// As for [`slot`](Self::slot).
    #[cold]
    unsafe fn block<'a>(lanes: &'a Lanes, worker: usize, handle: BlockHandle, tail: &[u8]) -> SlotRest<'a> {
        if !counted(tail, worker) {
            return SlotRest::Foreign;
        }
        // SAFETY: one of the block's counts is this worker's until it steps over the slot.
        SlotRest::Block(handle, unsafe { lanes.pool().bytes(handle) })
    }

    /// Gives the block of a committed event back, if it has one.
    ///
    /// # Safety
    /// As for [`slot`](Self::slot), once for each event, and no reference to it is left.
    #[inline(always)]
    unsafe fn give_back(self, lanes: &Lanes, worker: usize) {
        // SAFETY: as in `slot`.
        let (head, tail) = unsafe { lanes.memory().parts(self.place) };
        if let Some(handle) = BlockHandle::from_word(block_word(head)) {
            // SAFETY: by contract, as here.
            unsafe { Self::release(lanes, worker, handle, tail) };
        }
    }

    /// # Safety
    /// As for [`give_back`](Self::give_back).
    #[cold]
    unsafe fn release(lanes: &Lanes, worker: usize, handle: BlockHandle, tail: &[u8]) {
        if counted(tail, worker) {
            // SAFETY: the count is ours, and by contract nobody reads through it any more.
            unsafe { lanes.pool().release(handle) };
        }
    }
}

/// A worker's end of the lanes.
#[derive(Debug)]
pub struct Reader {
    lanes: Arc<Lanes>,
    worker: usize,
    cursors: [Cursor; LANES],
    rounds: [Round; LANES],
    /// The shared cursor, a lane, as this reader last wrote it.
    released: [u64; LANES],
    active: bool,
}

impl Reader {
    /// The reader of `worker`, not active yet. One a worker.
    pub fn new(lanes: Arc<Lanes>, worker: usize) -> Self {
        let released: [u64; LANES] = std::array::from_fn(|lane| lanes.cursor(worker, lane));
        let cursors = std::array::from_fn(|lane| Cursor::at(&lanes, lane, released[lane]));
        let rounds = std::array::from_fn(|lane| lanes.round(lane));
        Self { lanes, worker, cursors, rounds, released, active: false }
    }

    /// Lets this worker's cursors gate the lanes, from the present end of each on: what is claimed later is read.
    pub fn activate(&mut self) {
        if self.active {
            return;
        }
        self.catch_up();
        self.lanes.activate(self.worker);
        mutant!("lanes.catch_up", self.catch_up() => ());
        self.active = true;
    }

    fn catch_up(&mut self) {
        for lane in 0..LANES {
            self.cursors[lane] = Cursor::at(&self.lanes, lane, self.lanes.claimed(lane));
        }
        self.release();
    }

    pub fn is_active(&self) -> bool {
        self.active
    }

    /// The sequence that `peek` looks at.
    #[inline(always)]
    pub fn sequence(&self, lane: usize) -> u64 {
        self.cursors[lane % LANES].next
    }

    /// Lanes whose next event is committed, a bit each. One load a lane.
    #[inline(always)]
    pub fn ready(&self) -> u8 {
        if !self.active {
            return 0;
        }
        let [zero, one, two, three] = self.cursors.map(|cursor| u8::from(cursor.is_ready(&self.lanes)));
        zero | one << 1 | two << 2 | three << 3
    }

    /// Whether one of `lanes`, a bit each, has a committed event. One load for each of them.
    #[inline(always)]
    pub fn has_any(&self, lanes: u8) -> bool {
        let [zero, one, two, three] = &self.cursors;
        debug_assert!(self.active, "one that is not may stand in front of what others read");
        // Bit by bit: a loop over one or two lanes costs more than these tests.
        (lanes & 1 != 0 && zero.is_ready(&self.lanes))
            || (lanes & 2 != 0 && one.is_ready(&self.lanes))
            || (lanes & 4 != 0 && two.is_ready(&self.lanes))
            || (lanes & 8 != 0 && three.is_ready(&self.lanes))
    }

    /// The next event of `lane`, or `None` when it is not committed yet.
    #[inline(always)]
    pub fn peek(&self, lane: usize) -> Option<Slot<'_>> {
        let cursor = self.cursors[lane % LANES];
        if !self.active || !cursor.is_ready(&self.lanes) {
            return None;
        }
        // SAFETY: it is ready and this worker active; to step over it takes `&mut self`.
        Some(unsafe { cursor.slot(&self.lanes, self.worker) })
    }

    /// The event at `sequence` of `lane`, one that this reader has still to read; `None` when it is not committed yet.
    pub fn look(&self, lane: usize, sequence: u64) -> Option<Slot<'_>> {
        let cursor = Cursor::at(&self.lanes, lane, sequence);
        let is_ahead = (sequence.wrapping_sub(self.sequence(lane)) as i64) >= 0;
        if !self.active || !is_ahead || !cursor.is_ready(&self.lanes) {
            return None;
        }
        // SAFETY: it is ready, this worker active, and the event ahead of it; to step over it takes `&mut self`.
        Some(unsafe { cursor.slot(&self.lanes, self.worker) })
    }

    /// Steps over the event that `peek` shows and gives its block back. Other threads learn of it with `release`.
    #[inline(always)]
    pub fn advance(&mut self, lane: usize) {
        let cursor = &mut self.cursors[lane % LANES];
        debug_assert!(cursor.is_ready(&self.lanes), "only an event that was seen is stepped over");
        // SAFETY: the caller has seen the event, and its references have ended with the borrow of `self`.
        unsafe { cursor.give_back(&self.lanes, self.worker) };
        let place = self.rounds[lane % LANES].after(cursor.place);
        let after = cursor.ready.wrapping_add(1);
        *cursor = Cursor { next: cursor.ready, place, ready: mutant!("lanes.u32", after => u64::from(after as u32)) };
    }

    /// Publishes the cursors: the slots passed may be reused. Returns whether any moved.
    #[inline]
    pub fn release(&mut self) -> bool {
        let shared = self.lanes.cursors(self.worker);
        let mut moved = false;
        for ((shared, released), cursor) in shared.iter().zip(&mut self.released).zip(&self.cursors) {
            if *released != cursor.next {
                // SYNC(lanes.cursor): Release. Pairs with `Lanes::cursor`; our reads come before any reuse.
                shared.store(cursor.next, mutant!("lanes.cursor_store", Ordering::Release));
                *released = cursor.next;
                moved = true;
            }
        }
        moved
    }

    /// Events of `lane` claimed and not yet read by this worker.
    pub fn lag(&self, lane: usize) -> u64 {
        let lag = self.lanes.claimed(lane).wrapping_sub(self.cursors[lane].next);
        if (lag as i64) < 0 { 0 } else { lag }
    }
}

#[cfg(all(test, not(ringmain_loom)))]
mod tests {
    use super::*;
    use crate::ring::{Claimant, Frame, HEAD_WORDS, LanesLayout, Pages, Pool, Rest};

    #[test]
    fn a_reader_that_is_not_active_has_no_event() {
        let layout = LanesLayout { slots: 2, slot_bytes: 128, limit: 1, workers: 2, first: 0, pages: Pages::Any };
        let pool = Arc::new(Pool::new(&[], Pages::Any).expect("no blocks"));
        let lanes = Arc::new(Lanes::new(layout, pool).expect("a few slots"));
        let mut active = Reader::new(Arc::clone(&lanes), 0);
        let mut idle = Reader::new(Arc::clone(&lanes), 1);
        active.activate();
        let frame = Frame { head: &[0; HEAD_WORDS], rest: Rest::Inline(&[]) };
        Claimant::new(lanes, false).push(1, frame).expect("the lane is empty");
        let seen = |reader: &Reader| (reader.ready(), reader.peek(1).is_some());
        assert_eq!((seen(&active), active.has_any(0b1111)), ((0b10, true), true));
        assert_eq!(seen(&idle), (0, false));
        idle.activate();
        assert_eq!((seen(&idle), idle.has_any(0b1111)), ((0, false), false), "it reads what is claimed from now on");
    }
}
