//! One preallocated block of memory, cut into equal slots of a stamp and a body.
//!
//! The stamp is an atomic word; the body is plain bytes behind it. References are only ever made to a body, never
//! over a stamp, so a reader's `&[u8]` and a writer's store to the stamp do not overlap.

use std::ops::Range;
use std::ptr::NonNull;

use super::memory::{HugePages, OutOfMemory, Pages, Piece, Region};
use crate::sync::primitive::AtomicU64;
#[cfg(any(ringmain_loom, ringmain_shuttle))]
use crate::sync::primitive::UnsafeCell;

/// Bytes of a slot's stamp.
pub const STAMP_BYTES: usize = 8;

/// The start of a body, in words.
pub type Head = [u64; HEAD_WORDS];
/// Words of a head.
pub const HEAD_WORDS: usize = HEAD_BYTES / size_of::<u64>();

/// Bytes at the start of a body whose meaning floor 5 knows, but for the last four: the ring's own block word.
pub const HEAD_BYTES: usize = 56;
/// Slots are whole lines, and what follows stamp and head starts with one.
pub(super) const LINE_BYTES: usize = STAMP_BYTES + HEAD_BYTES;

/// Where a slot of some [`SlotMemory`] starts, for that memory to open. Kept where a slot is met often, for it takes a
/// multiplication to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(NonNull<u8>);

// SAFETY: an address; only `SlotMemory` goes there, which is Sync.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// Slots that follow each other, the first after the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    first: Place,
    last: Place,
    stride: usize,
}

impl Round {
    /// Where the slot after the one at `place` lies.
    #[inline(always)]
    pub(crate) fn after(&self, place: Place) -> Place {
        if place == self.last {
            return self.first;
        }
        // SAFETY: another slot of the same memory follows, for the round's last one has been dealt with.
        Place(unsafe { place.0.add(self.stride) })
    }
}

/// `count` slots of `stride` bytes each.
#[derive(Debug)]
pub(crate) struct SlotMemory {
    /// The first slot: where the region begins.
    base: NonNull<u8>,
    region: Region,
    stride: usize,
    /// Under loom and shuttle, whose atomics are no plain words, the stamps live here, and each body has a cell whose accesses
    /// loom tracks.
    #[cfg(any(ringmain_loom, ringmain_shuttle))]
    shadow: Vec<(AtomicU64, UnsafeCell<()>)>,
}

// SAFETY: the memory is owned; all access goes through methods whose callers hold a claim or a cursor on the slot.
unsafe impl Send for SlotMemory {}
// SAFETY: as above: stamps are atomics, and the contracts of `write` and `body` exclude overlapping access.
unsafe impl Sync for SlotMemory {}

impl SlotMemory {
    /// Reserves zeroed memory; pages are touched on first use.
    ///
    /// # Errors
    /// When the system has not so much.
    pub(crate) fn new(count: usize, stride: usize, pages: Pages) -> Result<Self, OutOfMemory> {
        let stride = stride.next_multiple_of(64);
        let region = Region::new(count.saturating_mul(stride), pages)?;
        Ok(Self {
            base: region.base(),
            region,
            stride,
            #[cfg(any(ringmain_loom, ringmain_shuttle))]
            shadow: (0..count).map(|_| (AtomicU64::new(0), UnsafeCell::new(()))).collect(),
        })
    }

    /// Bytes of one body.
    pub(crate) fn body_bytes(&self) -> usize {
        self.stride - STAMP_BYTES
    }

    pub(crate) fn reserved_bytes(&self) -> usize {
        self.region.reserved_bytes()
    }

    pub(crate) fn huge_pages(&self) -> HugePages {
        self.region.huge_pages()
    }

    /// All slots in pieces to touch, before the first is written.
    pub(crate) fn pieces(&mut self) -> impl Iterator<Item = Piece<'_>> {
        self.region.pieces()
    }

    /// Where `slot` lies, which is below `count`.
    #[inline(always)]
    pub(crate) fn place(&self, slot: usize) -> Place {
        let byte = slot * self.stride;
        debug_assert!(byte < self.region.bytes(), "slot {slot} is inside the block");
        // SAFETY: callers pass a slot below `count`, so its first byte is in the allocation.
        Place(unsafe { self.base.add(byte) })
    }

    /// The round of `slots`.
    #[inline(always)]
    pub(crate) fn round(&self, slots: Range<usize>) -> Round {
        Round { first: self.place(slots.start), last: self.place(slots.end - 1), stride: self.stride }
    }

    /// A byte of the slot at `place`.
    #[inline(always)]
    fn at(&self, place: Place, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.stride && self.holds(place), "{place:?} is inside the block");
        // SAFETY: the slot's bytes are in the allocation, up to its end.
        unsafe { place.0.as_ptr().add(offset) }
    }

    fn holds(&self, place: Place) -> bool {
        place.0.addr().get().checked_sub(self.base.addr().get()).is_some_and(|byte| byte < self.region.bytes())
    }

    #[cfg(any(ringmain_loom, ringmain_shuttle))]
    fn shadow(&self, place: Place) -> &(AtomicU64, UnsafeCell<()>) {
        &self.shadow[(place.0.addr().get() - self.base.addr().get()) / self.stride]
    }

    /// The stamp of the slot at `place`.
    #[inline(always)]
    pub(crate) fn stamp(&self, place: Place) -> &AtomicU64 {
        #[cfg(any(ringmain_loom, ringmain_shuttle))]
        return &self.shadow(place).0;
        #[cfg(not(any(ringmain_loom, ringmain_shuttle)))]
        // SAFETY: places are of this memory's slots, so the word is inside the allocation, aligned to 64, zeroed at
        // birth, and only ever used as this atomic.
        return unsafe { &*self.at(place, 0).cast::<AtomicU64>() };
    }

    /// Copies `tail` and then `head` into the body of the slot at `place`, with `block_word` in the last four bytes of the head:
    /// the line with the stamp is written last, and changes hands once.
    ///
    /// # Safety
    /// The caller owns the slot: nobody reads or writes its body until the caller hands it on through the stamp or
    /// another Release store. Head and tail together fit the body.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, place: Place, head: &Head, block_word: u32, tail: &[u8]) {
        debug_assert!(HEAD_BYTES + tail.len() <= self.body_bytes(), "the caller has checked the length");
        // SAFETY: the destination is ours by contract and long enough; `tail` cannot overlap it.
        self.writing(place, || unsafe { self.rest(place).copy_from_nonoverlapping(tail.as_ptr(), tail.len()) });
        // SAFETY: the caller owns the slot.
        unsafe { self.write_head(place, *head, block_word) };
    }

    /// Writes the head, with `block_word` in its last four bytes.
    ///
    /// # Safety
    /// The caller owns the slot as for [`write`](Self::write).
    #[inline(always)]
    pub(crate) unsafe fn write_head(&self, place: Place, mut head: Head, block_word: u32) {
        let [a, b, c, d, ..] = head[HEAD_WORDS - 1].to_ne_bytes();
        let [e, f, g, h] = block_word.to_ne_bytes();
        head[HEAD_WORDS - 1] = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let body = self.at(place, STAMP_BYTES).cast::<Head>();
        // SAFETY: the destination is ours by contract; 8 bytes into a 64-byte aligned slot is aligned to a word.
        self.writing(place, || unsafe { body.write(head) });
    }

    /// Copies whole lines behind the head.
    ///
    /// # Safety
    /// The caller owns the slot as for [`write`](Self::write), and the lines fit behind its head.
    #[inline(always)]
    pub(crate) unsafe fn write_lines(&self, place: Place, lines: &[[u8; LINE_BYTES]]) {
        debug_assert!((1 + lines.len()) * LINE_BYTES <= self.stride, "the caller has checked the length");
        let rest = self.rest(place).cast::<[u8; LINE_BYTES]>();
        // A constant count becomes a few vector moves and no call.
        let copy = |count| {
            // SAFETY: the destination is ours by contract; so many lines fit, and cannot overlap it.
            unsafe { rest.copy_from_nonoverlapping(lines.as_ptr(), count) }
        };
        self.writing(place, || match lines.len() {
            1 => copy(1),
            2 => copy(2),
            count => copy(count),
        });
    }

    /// What follows the head, to fill in place: whole lines.
    ///
    /// # Safety
    /// The caller owns the slot as for [`write`](Self::write), for as long as the reference lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "ownership of the slot is the caller's claim, not a borrow of the block")]
    pub(crate) unsafe fn rest_mut(&self, place: Place) -> &mut [u8] {
        self.writing(place, || ());
        // SAFETY: inside the allocation, initialised, and exclusively the caller's by contract.
        unsafe { std::slice::from_raw_parts_mut(self.rest(place), self.stride - LINE_BYTES) }
    }

    #[inline(always)]
    fn rest(&self, place: Place) -> *mut u8 {
        self.at(place, LINE_BYTES)
    }

    /// Writes into a body, and lets loom know.
    #[inline(always)]
    fn writing(&self, place: Place, write: impl FnOnce()) {
        #[cfg(any(ringmain_loom, ringmain_shuttle))]
        self.shadow(place).1.with_mut(|_| write());
        #[cfg(not(any(ringmain_loom, ringmain_shuttle)))]
        {
            let _ = place;
            write();
        }
    }

    /// The whole body of the slot at `place`. Bytes that were never written are zero.
    ///
    /// # Safety
    /// Nobody writes the body while the reference lives.
    #[inline]
    pub(crate) unsafe fn body(&self, place: Place) -> &[u8] {
        // loom cannot follow a borrow; it checks that no write is concurrent with its beginning.
        #[cfg(any(ringmain_loom, ringmain_shuttle))]
        self.shadow(place).1.with(|_| ());
        let body = self.at(place, STAMP_BYTES);
        // SAFETY: inside the allocation, initialised (zeroed at birth), and not written meanwhile by contract.
        unsafe { std::slice::from_raw_parts(body, self.body_bytes()) }
    }

    /// The body in two: its head and what follows.
    ///
    /// # Safety
    /// As for [`body`](Self::body); and a body is longer than a head.
    #[inline(always)]
    pub(crate) unsafe fn parts(&self, place: Place) -> (&Head, &[u8]) {
        #[cfg(any(ringmain_loom, ringmain_shuttle))]
        self.shadow(place).1.with(|_| ());
        debug_assert!(self.body_bytes() >= HEAD_BYTES, "a body is longer than a head");
        let head = self.at(place, STAMP_BYTES).cast::<Head>();
        let tail = self.at(place, STAMP_BYTES + HEAD_BYTES);
        // SAFETY: inside the allocation, 8 bytes after a boundary of 64, initialised, not written meanwhile by contract.
        let head = unsafe { &*head };
        // SAFETY: as above.
        (head, unsafe { std::slice::from_raw_parts(tail, self.body_bytes() - HEAD_BYTES) })
    }

    /// The head of the slot at `place`, for who has the memory alone: loom, which does not see how std's `Arc` orders its last
    /// drop after the others, does not look.
    pub(crate) fn head_mut(&mut self, place: Place) -> &mut Head {
        let head = self.at(place, STAMP_BYTES).cast::<Head>();
        // SAFETY: inside the allocation, 8 bytes after a boundary of 64, initialised, and borrowed mutably with the memory.
        unsafe { &mut *head }
    }

    /// The whole body of the slot at `place`, to fill in place.
    ///
    /// # Safety
    /// The caller owns the slot as for [`write`](Self::write), for as long as the reference lives.
    #[allow(clippy::mut_from_ref, reason = "ownership of the slot is the caller's claim, not a borrow of the block")]
    pub(crate) unsafe fn body_mut(&self, place: Place) -> &mut [u8] {
        #[cfg(any(ringmain_loom, ringmain_shuttle))]
        self.shadow(place).1.with_mut(|_| ());
        let body = self.at(place, STAMP_BYTES);
        // SAFETY: inside the allocation, initialised, and exclusively the caller's by contract.
        unsafe { std::slice::from_raw_parts_mut(body, self.body_bytes()) }
    }
}

/// The block word of a head.
#[inline(always)]
pub(crate) fn block_word(head: &Head) -> u32 {
    head[HEAD_WORDS - 1].to_ne_bytes().last_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
}
