//! Cells in front of a pull subscriber: a worker fills them, one consumer takes them in turn, anyone frees them.
//!
//! ```text
//!   worker ──pop──► free stack ◄──push── whoever settles a delivery
//!      │ fill cell n                          ▲
//!      └─push n──► index ring, one a lane ──take n──► consumer (or the worker itself, to drop the oldest)
//! ```
//!
//! One worker pushes; it and the one consumer take. A cell belongs to whoever took its number, until it is freed. Where
//! only the newest event of each key counts, the rings hold keys instead, and `latest` finds the cell of each.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU8, AtomicU32, BeforeWrite, Ordering};

use super::broadcast::LANES;
use super::claim::{Frame, Rest};
use super::latest::Newest;
use super::memory::{OutOfMemory, Pages, boxed};
use super::pool::{BlockHandle, Pool};
use super::reader::{Slot, SlotRest};
use super::slot::{HEAD_BYTES, Head, STAMP_BYTES, SlotMemory, block_word};

mod queue;
mod taken;

pub(super) use queue::IndexRing;
pub use taken::Taken;

const NONE: u32 = u32::MAX;

/// The cells of one mailbox.
#[derive(Debug)]
pub struct Cells {
    memory: SlotMemory,
    /// Bytes of head and rest that fit a cell.
    body_bytes: usize,
    pool: Arc<Pool>,
    /// Of cells, or of keys where only the newest event of each counts.
    queues: [IndexRing; LANES],
    newest: Option<Arc<Newest>>,
    /// Top of the free stack. Anyone pushes; only the worker pops, so a block cannot leave and come back under it.
    free: CachePadded<AtomicU32>,
    below: Box<[AtomicU32]>,
    /// The lane of the event in each cell, counted from 1; 0 = free.
    lanes: Box<[AtomicU8]>,
}

/// The worker's end of a mailbox. There is one: its methods take `&mut self`.
#[derive(Debug)]
pub struct Feeder {
    pub(super) cells: Arc<Cells>,
}

/// What a cell is filled with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filling<'a> {
    head: &'a Head,
    block_word: u32,
    tail: &'a [u8],
}

impl<'a> Filling<'a> {
    /// `rest_bytes` of what follows the head of `slot`, or its block. `None` when there are not so many, or the event is
    /// not this worker's business.
    #[inline(always)]
    pub(super) fn new(slot: &Slot<'a>, rest_bytes: usize) -> Option<Self> {
        let (block_word, tail) = match slot.rest {
            SlotRest::Inline(rest) => (0, rest.get(..rest_bytes)?),
            SlotRest::Block(handle, _) => (handle.word(), &[][..]),
            SlotRest::Foreign => return None,
        };
        Some(Self { head: slot.head, block_word, tail })
    }
}

impl Cells {
    /// `capacity` cells (a power of two) with room for a slot's body of `body_bytes`; positions start at `first`. Fresh
    /// pages are touched at once.
    ///
    /// # Errors
    /// When the system has not so much memory.
    pub fn new(
        capacity: usize,
        body_bytes: usize,
        first: u64,
        pool: Arc<Pool>,
        pages: Pages,
    ) -> Result<(Feeder, Arc<Self>), OutOfMemory> {
        assert!(capacity.is_power_of_two() && capacity < NONE as usize, "the builder rounds up and bounds");
        Self::with_queues(capacity, body_bytes, first, pool, pages, None)
    }

    /// `capacity` cells, and queues of them, or of keys: of so many, a power of two, of which only the newest counts.
    pub(super) fn with_queues(
        capacity: usize,
        body_bytes: usize,
        first: u64,
        pool: Arc<Pool>,
        pages: Pages,
        keys: Option<(usize, Arc<Newest>)>,
    ) -> Result<(Feeder, Arc<Self>), OutOfMemory> {
        let (entries, newest) = keys.map_or((capacity, None), |(keys, newest)| (keys, Some(newest)));
        let mut memory = SlotMemory::new(capacity, body_bytes + STAMP_BYTES, pages)?;
        if pages != Pages::Any {
            memory.pieces().for_each(|mut piece| piece.touch());
        }
        let [critical, high, normal, low] = std::array::from_fn(|_| IndexRing::new(entries, first));
        let below = |n: usize| AtomicU32::new(if n + 1 == capacity { NONE } else { n as u32 + 1 });
        let cells = Arc::new(Self {
            memory,
            body_bytes,
            pool,
            queues: [critical?, high?, normal?, low?],
            newest,
            free: CachePadded::new(AtomicU32::new(0)),
            below: boxed(capacity, below)?,
            lanes: boxed(capacity, |_| AtomicU8::new(0))?,
        });
        Ok((Feeder { cells: Arc::clone(&cells) }, cells))
    }

    /// What so many cells reserve, but for rounding.
    pub const fn bytes_for(capacity: usize, body_bytes: usize) -> u64 {
        let cell = body_bytes + STAMP_BYTES + (LANES + 1) * size_of::<u32>() + size_of::<u8>();
        (capacity as u64).saturating_mul(cell as u64)
    }

    pub fn reserved_bytes(&self) -> usize {
        let rings: usize = self.queues.iter().map(|queue| size_of_val(&*queue.entries)).sum();
        let newest = self.newest.as_ref().map_or(0, |newest| newest.reserved_bytes());
        let tables = size_of_val(&*self.below) + size_of_val(&*self.lanes) + newest;
        self.memory.reserved_bytes() + rings + tables + size_of::<Self>()
    }

    /// Takes the oldest cell of `lane`; where only the newest counts, that of the key that stands there longest.
    pub fn take(self: &Arc<Self>, lane: usize) -> Option<Taken> {
        self.next(lane).map(|cell| self.taken(cell, lane))
    }

    /// One more pair of hands for a cell that is the caller's. All but the last must `leave` it.
    #[inline(always)]
    pub(super) fn hold(self: &Arc<Self>, cell: u32, lane: usize) -> Taken {
        Taken { cells: Arc::clone(self), cell, lane: lane as u8, frees: true }
    }

    /// The next cell of `lane`, which is then the caller's.
    #[inline(always)]
    fn next(&self, lane: usize) -> Option<u32> {
        match &self.newest {
            None => self.queues[lane].take(),
            Some(newest) => newest.next(&self.queues[lane], lane),
        }
    }

    /// `cell`, which came off the queue of `lane` and is the caller's.
    #[inline(always)]
    pub(super) fn taken(self: &Arc<Self>, cell: u32, lane: usize) -> Taken {
        let lane = match &self.newest {
            None => lane,
            // Relaxed: made visible with the cell. A key may stand in a more urgent lane than its newest event.
            Some(_) => usize::from(self.lanes[cell as usize].load(Ordering::Relaxed)) - 1,
        };
        self.hold(cell, lane)
    }

    pub(super) fn queue(&self, lane: usize) -> &IndexRing {
        &self.queues[lane]
    }

    /// Events that wait, over all lanes.
    pub fn waiting(&self) -> u64 {
        match &self.newest {
            None => self.queues.iter().map(IndexRing::len).sum(),
            Some(newest) => newest.waiting(),
        }
    }

    /// Whether the next event finds no room while consumers hold so many; where only the newest counts, the next of a key
    /// of which nothing waits. Exact for a consumer, who alone takes and settles, as far as the worker has come.
    pub fn is_full(&self, held: u64) -> bool {
        let waiting = self.waiting();
        waiting + held >= self.capacity() as u64
            || self.newest.as_ref().is_some_and(|newest| waiting >= newest.keys_max())
    }

    /// Bytes behind the head of an event that fit a cell.
    pub fn rest_bytes_max(&self) -> usize {
        self.body_bytes - HEAD_BYTES
    }

    /// Cells there are, queued, taken and free.
    pub fn capacity(&self) -> usize {
        self.below.len()
    }

    /// Queued cells of `lane`; where only the newest counts, keys that stand there, and maybe elsewhere too or for
    /// nothing any more.
    #[inline]
    pub fn queued(&self, lane: usize) -> u64 {
        self.queues[lane].len()
    }

    /// Whether a cell, queued or taken, has an event from before `ends`, a sequence a lane. The worker has passed these
    /// ends, as far as the caller has seen. Looks at every cell.
    pub fn has_before(&self, ends: &[u64; LANES]) -> bool {
        (0..self.lanes.len()).any(|cell| {
            // SYNC(cells.lane): Acquire. Pairs with `free`; what was done with an event that is gone is seen.
            let lane = usize::from(self.lanes[cell].load(mutant!("cells.lane_load", Ordering::Acquire)));
            if lane == 0 {
                return false;
            }
            let stamp = self.memory.stamp(self.memory.place(cell));
            // SYNC(cells.sequence): Acquire. Pairs with `write`: if it is another event than the lane's, that one is gone.
            let sequence = stamp.load(mutant!("cells.sequence_load", Ordering::Acquire));
            let end = ends[lane - 1];
            mutant!("cells.before", (sequence.wrapping_sub(end) as i64) < 0 => sequence < end)
        })
    }

    /// Whether a cell is free. True stays true until the feeder pushes.
    #[inline]
    pub fn has_room(&self) -> bool {
        // Relaxed: `claim` looks again before it touches the cell.
        self.free.load(Ordering::Relaxed) != NONE
    }

    /// Whether no cell holds an event that is not over. Looks at every cell.
    pub fn is_over(&self) -> bool {
        // SYNC(cells.lane): Acquire. Pairs with `end`.
        (0..self.lanes.len()).all(|cell| self.lanes[cell].load(mutant!("cells.lane_over", Ordering::Acquire)) == 0)
    }

    /// The lane of the event in `cell`, which is the caller's.
    pub(super) fn lane(&self, cell: u32) -> usize {
        // Relaxed: written by the worker, and the cell came to the caller since.
        usize::from(self.lanes[cell as usize].load(Ordering::Relaxed)).saturating_sub(1)
    }

    /// The event in `cell` is over, though somebody may still read it.
    pub(super) fn end(&self, cell: u32) {
        // SYNC(cells.lane): Release. Pairs with `has_before`; the event was handled and counted before.
        self.lanes[cell as usize].store(0, mutant!("cells.lane_free", Ordering::Release));
    }

    fn free(&self, cell: u32) {
        self.end(cell);
        // Relaxed: the exchange decides.
        let mut top = self.free.before_write();
        loop {
            // Relaxed: published by the exchange below.
            self.below[cell as usize].store(top, Ordering::Relaxed);
            // SYNC(cells.free): Release. Pairs with `claim`; our reads of the cell come before its next filling.
            let release = mutant!("cells.free", Ordering::Release);
            match self.free.compare_exchange_weak(top, cell, release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Frees a cell and its block, when it has one.
    ///
    /// # Safety
    /// As for [`release_block`](Self::release_block).
    pub(super) unsafe fn give_back(&self, cell: u32) {
        // SAFETY: by contract.
        mutant!("cells.release_block", unsafe { self.release_block(cell) } => ());
        self.free(cell);
    }

    /// Gives the block of a cell back, when it has one.
    ///
    /// # Safety
    /// The caller owns the cell, with no reference into it left, and its body was written.
    pub(super) unsafe fn release_block(&self, cell: u32) {
        // SAFETY: by contract nobody writes the cell.
        let (head, _) = unsafe { self.memory.parts(self.memory.place(cell as usize)) };
        if let Some(handle) = BlockHandle::from_word(block_word(head)) {
            // SAFETY: the cell holds a count of its block, and by contract nobody reads through it any more.
            unsafe { self.pool.release(handle) };
        }
    }
}

impl Feeder {
    /// Whether `push` would find a cell. True stays true until this feeder pushes.
    pub fn has_room(&self) -> bool {
        self.cells.has_room()
    }

    pub(super) fn claim(&mut self) -> Option<u32> {
        let cells = &self.cells;
        // SYNC(cells.free): Acquire. Pairs with `free`; the last reader of the cell is done.
        let mut top = cells.free.load(Ordering::Acquire);
        loop {
            if top == NONE {
                return None;
            }
            // Relaxed: only this feeder pops, so `top` stays on the stack and its link stays as it is.
            let below = cells.below[top as usize].load(Ordering::Relaxed);
            // Relaxed: on success `top` is what was loaded with Acquire, for nobody else pops. A failure is such a load.
            match cells.free.compare_exchange_weak(top, below, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => return Some(top),
                Err(now) => top = now,
            }
        }
    }

    /// Copies the event of `slot` into a free cell and queues it. `rest_bytes` of what follows the head are copied,
    /// or its block gets one more holder. False when all cells are in use, or the event is not this worker's business.
    #[inline]
    pub fn push(&mut self, lane: usize, sequence: u64, slot: &Slot<'_>, rest_bytes: usize) -> bool {
        let Some(cell) = self.fill(lane, sequence, slot, rest_bytes) else { return false };
        self.enqueue(lane, cell);
        true
    }

    /// As `push`, with an event that comes from elsewhere; its block is the cell's alone. False when there is no free cell, or it does
    /// not fit one.
    pub fn push_frame(&mut self, lane: usize, sequence: u64, frame: &Frame<'_>) -> bool {
        let cell = self.fill_frame(lane, sequence, frame);
        cell.inspect(|&cell| self.enqueue(lane, cell)).is_some()
    }

    /// As `push`, but the cell is not queued: it is the caller's.
    #[inline(always)]
    pub(super) fn fill(&mut self, lane: usize, sequence: u64, slot: &Slot<'_>, rest_bytes: usize) -> Option<u32> {
        let filling = Filling::new(slot, rest_bytes)?;
        let cell = self.claim()?;
        // SAFETY: the cell was free and is ours now.
        unsafe { self.copy(cell, lane, sequence, filling) };
        Some(cell)
    }

    /// As `fill`, with an event that comes from elsewhere; its block is the cell's alone.
    pub(super) fn fill_frame(&mut self, lane: usize, sequence: u64, frame: &Frame<'_>) -> Option<u32> {
        let tail = match frame.rest {
            Rest::Inline(bytes) if bytes.len() > self.cells.body_bytes - HEAD_BYTES => return None,
            Rest::Inline(bytes) => bytes,
            Rest::Block(..) => &[],
        };
        let cell = self.claim()?;
        let block_word = match frame.rest {
            Rest::Inline(_) => 0,
            Rest::Block(block, _) => block.share(1).word(),
        };
        // SAFETY: the cell was free and is ours now.
        unsafe { self.write(cell, lane, sequence, Filling { head: frame.head, block_word, tail }) };
        Some(cell)
    }

    /// Copies an event into a cell. Its block, when it has one, gets one more holder.
    ///
    /// # Safety
    /// As for [`write`](Self::write).
    #[inline(always)]
    pub(super) unsafe fn copy(&mut self, cell: u32, lane: usize, sequence: u64, filling: Filling<'_>) {
        if let Some(handle) = BlockHandle::from_word(filling.block_word) {
            mutant!("cells.retain", self.cells.pool.retain(handle) => ());
        }
        // SAFETY: by contract.
        unsafe { self.write(cell, lane, sequence, filling) };
    }

    /// Writes a cell, which then holds the block.
    ///
    /// # Safety
    /// The caller owns the cell, which holds no block, until it hands it on by a Release store.
    #[inline(always)]
    unsafe fn write(&mut self, cell: u32, lane: usize, sequence: u64, filling: Filling<'_>) {
        let Filling { head, block_word, tail } = filling;
        let place = self.cells.memory.place(cell as usize);
        // SAFETY: the cell is ours by contract; a slot's body fits a cell, and head and tail are no more.
        unsafe { self.cells.memory.write(place, head, block_word, tail) };
        // SYNC(cells.sequence): Release. Pairs with `has_before`; the event that was here before is gone.
        self.cells.memory.stamp(place).store(sequence, mutant!("cells.sequence_store", Ordering::Release));
        // Relaxed: who asks has seen this worker pass the event (SYNC(lanes.cursor)), or need not know of it.
        self.cells.lanes[cell as usize].store(lane as u8 + 1, Ordering::Relaxed);
    }

    /// Queues a cell that is in no queue and nobody's but the caller's, or only being read.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, lane: usize, cell: u32) {
        self.cells.queues[lane].push(cell);
    }

    /// Frees the oldest queued cell of `lane` without anyone having seen it. False when none is queued.
    pub fn drop_oldest(&mut self, lane: usize) -> bool {
        self.cells.take(lane).is_some()
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        for cell in 0..self.lanes.len() {
            // Relaxed: the last owner is dropping, after all others.
            let in_use = self.lanes[cell].load(Ordering::Relaxed) != 0;
            let place = self.memory.place(cell);
            if mutant!("cells.drop", in_use => false)
                && let Some(handle) = BlockHandle::from_word(block_word(self.memory.head_mut(place)))
            {
                // SAFETY: the cell was written and holds a count of its block, and nobody uses it any more.
                mutant!("cells.release_block", unsafe { self.pool.release(handle) } => ());
            }
        }
    }
}
