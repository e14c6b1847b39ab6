//! One preallocated block of memory, cut into equal slots of a stamp and a body.
//!
//! The stamp is an atomic word; the body is plain bytes behind it. References are only ever made to a body, never
//! over a stamp, so a reader's `&[u8]` and a writer's store to the stamp do not overlap.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::sync::primitive::AtomicU64;
#[cfg(ringmain_loom)]
use crate::sync::primitive::UnsafeCell;

/// Bytes of a slot's stamp.
pub const STAMP_BYTES: usize = 8;

/// Bytes at the start of a body whose meaning floor 5 knows, but for the last four: the ring's own block word.
pub const HEAD_BYTES: usize = 56;
/// Where the block word is: 0, or 1 + the handle of the block that holds the rest of the body.
const BLOCK_WORD_AT: usize = HEAD_BYTES - 4;
/// Words of a head.
pub const HEAD_WORDS: usize = HEAD_BYTES / size_of::<u64>();
/// Slots are whole lines, and what follows stamp and head starts with one.
pub(super) const LINE_BYTES: usize = STAMP_BYTES + HEAD_BYTES;

/// Slots start on page boundaries, so that a slot of 64 n bytes never straddles a cache line it need not.
const ALIGN: usize = 4096;

/// `count` slots of `stride` bytes each.
#[derive(Debug)]
pub(crate) struct SlotMemory {
    /// The first slot: the first page boundary of the allocation.
    base: NonNull<u8>,
    allocation: NonNull<u8>,
    layout: Layout,
    stride: usize,
    /// Under loom the stamps live here, and each body has a cell whose accesses loom tracks.
    #[cfg(ringmain_loom)]
    shadow: Vec<(AtomicU64, UnsafeCell<()>)>,
}

// SAFETY: the memory is owned; all access goes through methods whose callers hold a claim or a cursor on the slot.
unsafe impl Send for SlotMemory {}
// SAFETY: as above: stamps are atomics, and the contracts of `write` and `body` exclude overlapping access.
unsafe impl Sync for SlotMemory {}

impl SlotMemory {
    /// Reserves zeroed memory; pages are touched on first use.
    ///
    /// # Panics
    /// When `count * stride` overflows: the builder checks its sizes first.
    pub(crate) fn new(count: usize, stride: usize) -> Self {
        let stride = stride.next_multiple_of(64);
        let bytes = count.checked_mul(stride).expect("the builder bounds slots and slot size");
        // Asked for with its alignment, zeroed memory would be cleared by hand and become resident at once; asked for
        // with a small one it comes from the kernel as it is needed. So the boundary is found by hand.
        let layout = Layout::from_size_align(bytes + ALIGN, 16).expect("the builder bounds slots and slot size");
        // SAFETY: the layout's size is at least ALIGN, so not zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        let Some(allocation) = NonNull::new(allocation) else { handle_alloc_error(layout) };
        // SAFETY: the offset is below ALIGN, and the allocation is ALIGN bytes longer than the slots.
        let base = unsafe { allocation.add(allocation.align_offset(ALIGN)) };
        Self {
            base,
            allocation,
            layout,
            stride,
            #[cfg(ringmain_loom)]
            shadow: (0..count).map(|_| (AtomicU64::new(0), UnsafeCell::new(()))).collect(),
        }
    }

    /// Bytes of one body.
    pub(crate) fn body_bytes(&self) -> usize {
        self.stride - STAMP_BYTES
    }

    pub(crate) fn reserved_bytes(&self) -> usize {
        self.layout.size()
    }

    #[inline(always)]
    fn at(&self, slot: usize, offset: usize) -> NonNull<u8> {
        let byte = slot * self.stride + offset;
        debug_assert!(byte + ALIGN <= self.layout.size(), "slot {slot} is inside the block");
        // SAFETY: callers pass a slot below `count` and an offset within the stride, so the byte is in the allocation.
        unsafe { self.base.add(byte) }
    }

    /// The stamp of `slot`, which is below `count`.
    #[inline(always)]
    pub(crate) fn stamp(&self, slot: usize) -> &AtomicU64 {
        #[cfg(ringmain_loom)]
        return &self.shadow[slot].0;
        #[cfg(not(ringmain_loom))]
        // SAFETY: the word is inside the allocation, aligned to 64, zeroed at birth, and only ever used as this atomic.
        return unsafe { self.at(slot, 0).cast::<AtomicU64>().as_ref() };
    }

    /// Copies `tail` and then `head` into the body of `slot`, with `block_word` in the last four bytes of the head:
    /// the line with the stamp is written last, and changes hands once.
    ///
    /// # Safety
    /// The caller owns `slot`: nobody reads or writes its body until the caller hands it on through the stamp or
    /// another Release store. Head and tail together fit the body.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, slot: usize, head: &[u8; HEAD_BYTES], block_word: u32, tail: &[u8]) {
        debug_assert!(HEAD_BYTES + tail.len() <= self.body_bytes(), "the caller has checked the length");
        let place = self.place(slot);
        // SAFETY: the destination is ours by contract and long enough; `tail` cannot overlap it.
        place.writing(|| unsafe { place.rest().copy_from_nonoverlapping(tail.as_ptr(), tail.len()) });
        let (words, _) = head.as_chunks();
        // SAFETY: the caller owns the slot.
        unsafe { place.write_head(std::array::from_fn(|nth| u64::from_ne_bytes(words[nth])), block_word) };
    }

    /// `slot`, which is below `count`, for its writer.
    #[inline(always)]
    pub(crate) fn place(&self, slot: usize) -> Place<'_> {
        debug_assert!((slot + 1) * self.stride + ALIGN <= self.layout.size(), "slot {slot} is inside the block");
        Place { memory: self, slot, at: self.at(slot, 0) }
    }

    /// The whole body of `slot`. Bytes that were never written are zero.
    ///
    /// # Safety
    /// Nobody writes the body while the reference lives.
    #[inline(always)]
    pub(crate) unsafe fn body(&self, slot: usize) -> &[u8] {
        // loom cannot follow a borrow; it checks that no write is concurrent with its beginning.
        #[cfg(ringmain_loom)]
        self.shadow[slot].1.with(|_| ());
        let body = self.at(slot, STAMP_BYTES).as_ptr();
        // SAFETY: inside the allocation, initialised (zeroed at birth), and not written meanwhile by contract.
        unsafe { std::slice::from_raw_parts(body, self.body_bytes()) }
    }

    /// The whole body of `slot`, to fill in place.
    ///
    /// # Safety
    /// The caller owns `slot` as for [`write`](Self::write), for as long as the reference lives.
    #[allow(clippy::mut_from_ref, reason = "ownership of the slot is the caller's claim, not a borrow of the block")]
    pub(crate) unsafe fn body_mut(&self, slot: usize) -> &mut [u8] {
        #[cfg(ringmain_loom)]
        self.shadow[slot].1.with_mut(|_| ());
        let body = self.at(slot, STAMP_BYTES).as_ptr();
        // SAFETY: inside the allocation, initialised, and exclusively the caller's by contract.
        unsafe { std::slice::from_raw_parts_mut(body, self.body_bytes()) }
    }
}

/// A slot whose address was computed once, for the steps of writing it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    memory: &'a SlotMemory,
    #[cfg_attr(not(ringmain_loom), allow(dead_code, reason = "loom's shadow goes by number"))]
    slot: usize,
    /// The slot's first byte: `stride` bytes from here are inside the block.
    at: NonNull<u8>,
}

impl<'a> Place<'a> {
    /// Writes the head, with `block_word` in its last four bytes.
    ///
    /// # Safety
    /// The caller owns the slot as for [`SlotMemory::write`].
    #[inline(always)]
    pub(crate) unsafe fn write_head(self, mut head: [u64; HEAD_WORDS], block_word: u32) {
        let [a, b, c, d, ..] = head[HEAD_WORDS - 1].to_ne_bytes();
        let [e, f, g, h] = block_word.to_ne_bytes();
        head[HEAD_WORDS - 1] = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        // SAFETY: the head lies inside the slot.
        let place = unsafe { self.at.add(STAMP_BYTES) }.cast::<[u64; HEAD_WORDS]>();
        // SAFETY: the destination is ours by contract; 8 bytes into a 64-byte aligned slot is aligned to a word.
        self.writing(|| unsafe { place.write(head) });
    }

    /// Copies whole lines behind the head.
    ///
    /// # Safety
    /// The caller owns the slot as for [`SlotMemory::write`], and the lines fit behind its head.
    #[inline(always)]
    pub(crate) unsafe fn write_lines(self, lines: &[[u8; LINE_BYTES]]) {
        debug_assert!((1 + lines.len()) * LINE_BYTES <= self.memory.stride, "the caller has checked the length");
        let rest = self.rest().cast::<[u8; LINE_BYTES]>();
        // A constant count becomes a few vector moves and no call.
        let copy = |count| {
            // SAFETY: the destination is ours by contract; so many lines fit, and cannot overlap it.
            unsafe { rest.copy_from_nonoverlapping(lines.as_ptr(), count) }
        };
        self.writing(|| match lines.len() {
            1 => copy(1),
            2 => copy(2),
            count => copy(count),
        });
    }

    /// What follows the head, to fill in place: whole lines.
    ///
    /// # Safety
    /// The caller owns the slot as for [`SlotMemory::write`], for as long as the reference lives.
    #[inline(always)]
    pub(crate) unsafe fn rest_mut(self) -> &'a mut [u8] {
        self.writing(|| ());
        // SAFETY: inside the allocation, initialised, and exclusively the caller's by contract.
        unsafe { std::slice::from_raw_parts_mut(self.rest(), self.memory.stride - LINE_BYTES) }
    }

    /// The stamp.
    #[inline(always)]
    pub(crate) fn stamp(self) -> &'a AtomicU64 {
        #[cfg(ringmain_loom)]
        return self.memory.stamp(self.slot);
        #[cfg(not(ringmain_loom))]
        // SAFETY: as in `SlotMemory::stamp`; it is the slot's first word.
        return unsafe { self.at.cast::<AtomicU64>().as_ref() };
    }

    #[inline(always)]
    fn rest(self) -> *mut u8 {
        // SAFETY: a slot is at least a line long.
        unsafe { self.at.add(LINE_BYTES) }.as_ptr()
    }

    /// Writes into the body, and lets loom know.
    #[inline(always)]
    fn writing(self, write: impl FnOnce()) {
        #[cfg(ringmain_loom)]
        self.memory.shadow[self.slot].1.with_mut(|_| write());
        #[cfg(not(ringmain_loom))]
        write();
    }
}

/// The block word of a body.
#[inline(always)]
pub(crate) fn block_word(body: &[u8]) -> u32 {
    body[BLOCK_WORD_AT..HEAD_BYTES].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
}

impl Drop for SlotMemory {
    fn drop(&mut self) {
        // SAFETY: made by alloc_zeroed with this layout, and `&mut self` is the last access.
        unsafe { dealloc(self.allocation.as_ptr(), self.layout) };
    }
}
