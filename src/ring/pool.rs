//! Blocks for payloads that do not fit a slot: preallocated, counted, given back by whoever is last.
//!
//! A block is taken by a publisher, filled while it is exclusive, and then shared with a count: one for each worker
//! that the event was routed to, and one for each mailbox cell that holds it. Counts only go down from then on,
//! except that a holder may add one for another holder.
//!
//! Lanes and cells keep the counts; above this floor a block is just bytes.

use std::cell::Cell;
use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::memory::{OutOfMemory, Pages, Piece, boxed};
use super::slot::{STAMP_BYTES, SlotMemory};
use crate::sync::mutant::mutant;
use crate::sync::primitive::{AtomicU32, AtomicU64, BeforeWrite, Ordering};

const NONE: u32 = u32::MAX;
const CLASS_SHIFT: u32 = 28;
/// Tags begin at their end: every pool, in tests as in production, passes the wrap with its first block.
const TAG_FIRST: u64 = u32::MAX as u64;
/// A block starts this far into its slot of memory: the unused stamp and padding that aligns it.
const ALIGN: usize = 16;

/// Blocks of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolClass {
    pub block_bytes: usize,
    pub blocks: usize,
}

/// Names a shared block: class and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHandle(u32);

impl BlockHandle {
    /// The block word of a body that leads to this block: never 0.
    pub(super) fn word(self) -> u32 {
        self.0 + 1
    }

    /// The handle in a block word.
    #[inline(always)]
    pub(super) fn from_word(word: u32) -> Option<Self> {
        word.checked_sub(1).map(Self)
    }
}

#[derive(Debug)]
struct Class {
    memory: SlotMemory,
    block_bytes: usize,
    /// Top of the free stack: number in the low half, a tag in the high half that changes with every push and pop,
    /// so that a stale exchange fails although the same block is on top again.
    free: CachePadded<AtomicU64>,
    /// The block below, for blocks on the free stack.
    below: Box<[AtomicU32]>,
    counts: Box<[AtomicU32]>,
    free_blocks: CachePadded<AtomicU32>,
}

/// All classes, smallest blocks first.
#[derive(Debug)]
pub struct Pool {
    classes: Box<[Class]>,
}

impl Class {
    fn new(size: PoolClass, pages: Pages) -> Result<Self, OutOfMemory> {
        let blocks = u32::try_from(size.blocks).expect("the builder bounds the blocks of a class");
        assert!(blocks < 1 << CLASS_SHIFT, "the builder bounds the blocks of a class");
        // The largest first: what there is no room for is refused before anything is written.
        let memory = SlotMemory::new(size.blocks, size.block_bytes.saturating_add(ALIGN), pages)?;
        let below = |n: usize| AtomicU32::new(if n + 1 == size.blocks { NONE } else { n as u32 + 1 });
        Ok(Self {
            memory,
            block_bytes: size.block_bytes,
            free: CachePadded::new(AtomicU64::new(TAG_FIRST << 32 | if blocks == 0 { u64::from(NONE) } else { 0 })),
            below: boxed(size.blocks, below)?,
            counts: boxed(size.blocks, |_| AtomicU32::new(0))?,
            free_blocks: CachePadded::new(AtomicU32::new(blocks)),
        })
    }

    fn reserved_bytes(&self) -> usize {
        self.memory.reserved_bytes() + size_of_val(&*self.below) + size_of_val(&*self.counts)
    }

    fn pop(&self) -> Option<u32> {
        // SYNC(pool.free): Acquire. Pairs with `push`; what the last holder did with the block is over.
        let mut top = self.free.load(Ordering::Acquire);
        loop {
            let block = top as u32;
            if block == NONE {
                return None;
            }
            // Relaxed: if the block is taken meanwhile this may be stale, and then the tag makes the exchange fail.
            let below = self.below[block as usize].load(Ordering::Relaxed);
            let next = retag(top, below);
            // Relaxed: on success `top` is, tag and all, what was loaded with Acquire. A failure is such a load.
            match self.free.compare_exchange_weak(top, next, Ordering::Relaxed, Ordering::Acquire) {
                Ok(_) => {
                    // Relaxed: a figure.
                    self.free_blocks.fetch_sub(1, Ordering::Relaxed);
                    return Some(block);
                }
                Err(now) => top = now,
            }
        }
    }

    fn push(&self, block: u32) {
        // Relaxed: a figure; counted before the block can be taken, so that it never runs below zero.
        self.free_blocks.fetch_add(1, Ordering::Relaxed);
        // Relaxed: the exchange decides.
        let mut top = self.free.before_write();
        loop {
            // Relaxed: published by the exchange below.
            self.below[block as usize].store(top as u32, Ordering::Relaxed);
            let next = retag(top, block);
            // SYNC(pool.free): Release. Pairs with `pop`.
            let release = mutant!("pool.free", Ordering::Release);
            // Relaxed: an exchange that failed has done nothing.
            match self.free.compare_exchange_weak(top, next, release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}

fn retag(old: u64, block: u32) -> u64 {
    let tag = (old >> 32) as u32;
    let next = mutant!("pool.tag", mutant!("pool.tag_wrap", tag.wrapping_add(1) => tag.saturating_add(1)) => tag);
    (u64::from(next) << 32) | u64::from(block)
}

impl Pool {
    /// Reserves all blocks. `sizes` ascend in `block_bytes`; at most 15 classes.
    ///
    /// # Errors
    /// When the system has not so much memory.
    pub fn new(sizes: &[PoolClass], pages: Pages) -> Result<Self, OutOfMemory> {
        assert!(sizes.len() < 16, "a handle has four bits for the class");
        let classes = sizes.iter().map(|&size| Class::new(size, pages));
        Ok(Self { classes: classes.collect::<Result<_, _>>()? })
    }

    /// What blocks of this class reserve, but for rounding.
    pub const fn class_bytes(size: PoolClass) -> u64 {
        let block = (size.block_bytes as u64).saturating_add(ALIGN as u64).next_multiple_of(64);
        (size.blocks as u64).saturating_mul(block + 2 * size_of::<u32>() as u64)
    }

    pub fn reserved_bytes(&self) -> usize {
        self.classes.iter().map(Class::reserved_bytes).sum()
    }

    /// All blocks in pieces to touch, before the first is taken.
    pub fn pieces(&mut self) -> impl Iterator<Item = Piece<'_>> {
        self.classes.iter_mut().flat_map(|class| class.memory.pieces())
    }

    /// The largest payload that a block can hold.
    pub fn block_bytes_max(&self) -> usize {
        self.classes.iter().map(|class| class.block_bytes).max().unwrap_or(0)
    }

    /// Free blocks, over all classes.
    pub fn free_blocks(&self) -> usize {
        // Relaxed: a figure.
        self.classes.iter().map(|class| class.free_blocks.load(Ordering::Relaxed) as usize).sum()
    }

    /// How full the pool is for whom it is fullest, from 0 to 1: an event may go into any block that is large enough, so
    /// each size counts together with all larger ones, by their bytes.
    pub fn fill(&self) -> f64 {
        let (mut all, mut free, mut fill) = (0.0, 0.0, 0.0_f64);
        for class in self.classes.iter().rev() {
            let bytes = class.block_bytes as f64;
            all += class.counts.len() as f64 * bytes;
            // Relaxed: a figure.
            free += f64::from(class.free_blocks.load(Ordering::Relaxed)) * bytes;
            fill = fill.max((all - free) / all);
        }
        fill
    }

    /// Takes a block of at least `bytes`: the smallest class that has one free. `None` when none has.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Block> {
        let fitting = self.classes.iter().enumerate().filter(|(_, class)| class.block_bytes >= bytes);
        for (number, class) in fitting {
            if let Some(block) = class.pop() {
                let handle = BlockHandle((number as u32) << CLASS_SHIFT | block);
                return Some(Block { pool: Arc::clone(self), handle, shared: Cell::new(false) });
            }
        }
        None
    }

    fn place(&self, handle: BlockHandle) -> (&Class, usize) {
        (&self.classes[(handle.0 >> CLASS_SHIFT) as usize], (handle.0 & ((1 << CLASS_SHIFT) - 1)) as usize)
    }

    /// The bytes of a shared block.
    ///
    /// # Safety
    /// The caller holds one of the block's counts for as long as the reference lives.
    #[inline]
    pub(super) unsafe fn bytes(&self, handle: BlockHandle) -> &[u8] {
        let (class, block) = self.place(handle);
        // SAFETY: a block is written only while exclusive, before it was shared; the caller's count keeps it shared.
        let body = unsafe { class.memory.body(class.memory.place(block)) };
        &body[ALIGN - STAMP_BYTES..][..class.block_bytes]
    }

    /// Adds a holder. The caller holds a count itself.
    pub(super) fn retain(&self, handle: BlockHandle) {
        let (class, block) = self.place(handle);
        // Relaxed: the caller's own count keeps the block alive, and handing it on publishes it.
        let before = class.counts[block].fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0, "only a holder adds a holder");
    }

    /// Gives one count back; the last one frees the block.
    ///
    /// # Safety
    /// The count is the caller's, and it does not use the block any more.
    pub(super) unsafe fn release(&self, handle: BlockHandle) {
        let (class, block) = self.place(handle);
        // SYNC(pool.count): AcqRel. Pairs with itself. Release: our reads are over; Acquire: so are those of all
        // holders before us.
        let before = class.counts[block].fetch_sub(1, mutant!("pool.count", Ordering::AcqRel));
        debug_assert!(before > 0, "a count is given back once");
        if before == 1 {
            class.push(block as u32);
        }
    }
}

/// A block that one publisher fills. Dropped, it goes back, unless a lane has taken it over.
#[derive(Debug)]
pub struct Block {
    pool: Arc<Pool>,
    handle: BlockHandle,
    shared: Cell<bool>,
}

impl Block {
    /// All bytes of the block, aligned to 16; their old content shows through.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(!self.shared.get(), "a block is filled before it is published");
        let (class, block) = self.pool.place(self.handle);
        // SAFETY: the block was popped from the free stack and not shared yet, so it is ours; `&mut self` makes the
        // borrow exclusive.
        let body = unsafe { class.memory.body_mut(class.memory.place(block)) };
        &mut body[ALIGN - STAMP_BYTES..][..class.block_bytes]
    }

    /// The bytes, to read.
    pub fn bytes(&mut self) -> &[u8] {
        self.bytes_mut()
    }

    /// Hands the block to `holders`, each of whom gives its count back with [`Pool::release`].
    pub(super) fn share(&self, holders: u32) -> BlockHandle {
        assert!(!self.shared.replace(true) && holders > 0, "a block is published once, to somebody");
        let (class, block) = self.pool.place(self.handle);
        // Relaxed: nobody else knows the block yet; the commit of its event publishes count and bytes.
        class.counts[block].store(holders, Ordering::Relaxed);
        self.handle
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if mutant!("block.drop", !self.shared.get() => false) {
            let (class, block) = self.pool.place(self.handle);
            class.push(block as u32);
        }
    }
}
