//! A worker's end of the lanes: look, read in place, step over, and now and then let the slots go.

use std::sync::Arc;

use super::broadcast::{LANES, Lanes};
use super::pool::BlockHandle;
use super::slot::{Head, Place, Round, block_word};
use crate::sync::primitive::{AtomicU64, Ordering};

/// Whether `worker` is one of those a slot's block was shared with.
fn counted(tail: &[u8], worker: usize) -> bool {
    let workers = tail.first_chunk().map_or(0, |workers| u64::from_ne_bytes(*workers));
    workers & (1 << worker) != 0
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
}

impl Cursor {
    fn at(lanes: &Lanes, lane: usize, next: u64) -> Self {
        Self { next, place: lanes.place(lane, next) }
    }

    /// Whether the next event is committed. One load.
    #[inline(always)]
    fn is_ready(self, lanes: &Lanes) -> bool {
        // SYNC(slot.commit): Acquire. Pairs with `Claimant::commit`; the body is visible with the stamp.
        lanes.memory().stamp(self.place).load(Ordering::Acquire) == self.next.wrapping_add(1)
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
            Some(handle) if counted(tail, worker) => {
                // SAFETY: one of the block's counts is this worker's until it steps over the slot.
                SlotRest::Block(handle, unsafe { lanes.pool().bytes(handle) })
            }
            Some(_) => SlotRest::Foreign,
        };
        Slot { head, rest }
    }

    /// Gives the block of a committed event back, if it has one.
    ///
    /// # Safety
    /// As for [`slot`](Self::slot), once for each event, and no reference to it is left.
    #[inline(always)]
    unsafe fn give_back(self, lanes: &Lanes, worker: usize) {
        // SAFETY: as in `slot`.
        let (head, tail) = unsafe { lanes.memory().parts(self.place) };
        if let Some(handle) = BlockHandle::from_word(block_word(head))
            && counted(tail, worker)
        {
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
    /// The shared cursor, a lane, as this reader last wrote it.
    released: [u64; LANES],
    active: bool,
}

impl Reader {
    /// The reader of `worker`, not active yet. One a worker.
    pub fn new(lanes: Arc<Lanes>, worker: usize) -> Self {
        let released: [u64; LANES] = std::array::from_fn(|lane| lanes.cursor(worker, lane));
        let cursors = std::array::from_fn(|lane| Cursor::at(&lanes, lane, released[lane]));
        Self { lanes, worker, cursors, released, active: false }
    }

    /// Lets this worker's cursors gate the lanes, from the present end of each on: what is claimed later is read.
    pub fn activate(&mut self) {
        if self.active {
            return;
        }
        self.catch_up();
        self.lanes.activate(self.worker);
        self.catch_up();
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
        self.cursors[lane].next
    }

    /// Whether the next event of `lane` is committed. One load.
    #[inline(always)]
    pub fn is_ready(&self, lane: usize) -> bool {
        self.cursors[lane].is_ready(&self.lanes)
    }

    /// The next event of `lane`, or `None` when it is not committed yet.
    #[inline(always)]
    pub fn peek(&self, lane: usize) -> Option<Slot<'_>> {
        if !self.active || !self.is_ready(lane) {
            return None;
        }
        // SAFETY: it is ready and this worker active; to step over it takes `&mut self`.
        Some(unsafe { self.cursors[lane].slot(&self.lanes, self.worker) })
    }

    /// Steps over the event that `peek` shows and gives its block back. Other threads learn of it with `release`.
    #[inline(always)]
    pub fn advance(&mut self, lane: usize) {
        let cursor = self.cursors[lane];
        // SAFETY: the caller has seen the event, and its references have ended with the borrow of `self`.
        unsafe { cursor.give_back(&self.lanes, self.worker) };
        self.cursors[lane] = Cursor::at(&self.lanes, lane, cursor.next.wrapping_add(1));
    }

    /// `lane` alone, to read events in a row. `urgent` has a bit for each other lane that [`is_pressed`] watches.
    ///
    /// [`is_pressed`]: LaneReader::is_pressed
    #[inline(always)]
    pub fn lane(&mut self, lane: usize, urgent: u8) -> LaneReader<'_> {
        let lanes = &*self.lanes;
        let watch = |cursor: Cursor| (lanes.memory().stamp(cursor.place), cursor.next.wrapping_add(1));
        let mut others = (0..LANES).filter(|&other| other != lane && urgent & (1 << other) != 0);
        // Always as many: three looks in a row cost less than a loop over one or two.
        let pressing = others.next().map(|first| {
            let mut rest = || watch(self.cursors[others.next().unwrap_or(first)]);
            [rest(), rest(), watch(self.cursors[first])]
        });
        let (worker, active, round) = (self.worker, self.active, lanes.round(lane));
        LaneReader { lanes, worker, lane, active, round, cursor: &mut self.cursors[lane], pressing }
    }

    /// Publishes the cursors: the slots passed may be reused. Returns whether any moved.
    #[inline]
    pub fn release(&mut self) -> bool {
        let shared = self.lanes.cursors(self.worker);
        let mut moved = false;
        for ((shared, released), cursor) in shared.iter().zip(&mut self.released).zip(&self.cursors) {
            if *released != cursor.next {
                // SYNC(lanes.cursor): Release. Pairs with `Lanes::cursor`; our reads come before any reuse.
                shared.store(cursor.next, Ordering::Release);
                *released = cursor.next;
                moved = true;
            }
        }
        moved
    }

    /// Events of `lane` claimed and not yet read by this worker.
    pub fn lag(&self, lane: usize) -> u64 {
        lag(&self.lanes, lane, self.cursors[lane].next)
    }
}

fn lag(lanes: &Lanes, lane: usize, next: u64) -> u64 {
    let lag = lanes.claimed(lane).wrapping_sub(next);
    if (lag as i64) < 0 { 0 } else { lag }
}

/// One lane of a [`Reader`], with what does not change while it is read at hand.
#[derive(Debug)]
pub struct LaneReader<'a> {
    lanes: &'a Lanes,
    worker: usize,
    lane: usize,
    active: bool,
    round: Round,
    cursor: &'a mut Cursor,
    /// Stamps of the next slots of lanes that press, and what they say when an event is there.
    pressing: Option<[(&'a AtomicU64, u64); LANES - 1]>,
}

impl LaneReader<'_> {
    /// The sequence that `peek` looks at.
    #[inline(always)]
    pub fn sequence(&self) -> u64 {
        self.cursor.next
    }

    /// As [`Reader::peek`].
    #[inline(always)]
    pub fn peek(&self) -> Option<Slot<'_>> {
        if !self.active || !self.cursor.is_ready(self.lanes) {
            return None;
        }
        // SAFETY: it is ready and this worker active; to step over it takes `&mut self`.
        Some(unsafe { self.cursor.slot(self.lanes, self.worker) })
    }

    /// As [`Reader::advance`].
    #[inline(always)]
    pub fn advance(&mut self) {
        // SAFETY: the caller has seen the event, and its references have ended with the borrow of `self`.
        unsafe { self.cursor.give_back(self.lanes, self.worker) };
        let next = self.cursor.next.wrapping_add(1);
        *self.cursor = Cursor { next, place: self.round.after(self.cursor.place) };
    }

    /// Whether one of the urgent lanes has an event.
    #[inline(always)]
    pub fn is_pressed(&self) -> bool {
        let Some([one, two, three]) = &self.pressing else { return false };
        // SYNC(slot.commit): Acquire. Pairs with `Claimant::commit`; whoever turns to that lane finds the body.
        let has_come = |(stamp, ready): &(&AtomicU64, u64)| stamp.load(Ordering::Acquire) == *ready;
        has_come(one) || has_come(two) || has_come(three)
    }

    /// As [`Reader::lag`].
    pub fn lag(&self) -> u64 {
        lag(self.lanes, self.lane, self.cursor.next)
    }
}
