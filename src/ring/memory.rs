//! Where lanes, blocks and cells get their bytes: from the process's allocator, or in pages of their own.
//!
//! All memory begins zeroed and on a page boundary, and becomes resident page by page when it is first written. A
//! system that has not so much says so here, and nobody aborts.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::hint::black_box;
use std::ptr::NonNull;

/// Slots start on page boundaries, so that a slot of 64 n bytes never straddles a cache line it need not.
const PAGE_BYTES: usize = 4096;
/// What a [`Piece`] has: as much as a huge page of most processors.
const PIECE_BYTES: usize = 2 << 20;

/// The system does not give so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Asked for in one piece.
    pub bytes: usize,
}

/// Which pages a region is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// As the process's allocator has them: some may be resident already, near whoever used them before.
    #[default]
    Any,
    /// Pages that nobody has touched, so that whoever does it first decides where they lie. Elsewhere than on Linux
    /// the same as `Any`.
    Fresh,
    /// Fresh, and huge ones where the system has them.
    Huge,
}

/// What came of the wish for huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// Nobody asked.
    #[default]
    NotAsked,
    /// The system was told to use them for the lanes, and does as far as it has any when a slot is first written.
    Granted,
    /// The platform has none, its administrator has turned them off, or the lanes are shorter than one.
    Refused,
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotAsked => "not asked",
            Self::Granted => "granted",
            Self::Refused => "refused",
        })
    }
}

/// A run of zeroed bytes that begins on a page boundary.
#[derive(Debug)]
pub(super) struct Region {
    base: NonNull<u8>,
    bytes: usize,
    held: Held,
    huge: HugePages,
}

/// To whom the bytes go back.
#[derive(Debug)]
enum Held {
    Allocated(NonNull<u8>, Layout),
    /// The whole pages from `base` on.
    #[cfg(all(target_os = "linux", not(miri), not(ringmain_loom)))]
    Mapped(usize),
}

// SAFETY: the memory is owned, and a region gives no reference to it but through `&mut self`.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// # Errors
    /// When the system has not so much.
    pub(super) fn new(bytes: usize, pages: Pages) -> Result<Self, OutOfMemory> {
        match pages {
            Pages::Any => Self::allocate(bytes),
            Pages::Fresh => own_pages::region(bytes, None),
            Pages::Huge => match own_pages::huge_page_bytes().filter(|&huge| huge <= bytes) {
                Some(huge) => own_pages::region(bytes, Some(huge)),
                None => {
                    let mut region = own_pages::region(bytes, None)?;
                    region.huge = HugePages::Refused;
                    Ok(region)
                }
            },
        }
    }

    fn allocate(bytes: usize) -> Result<Self, OutOfMemory> {
        let short = OutOfMemory { bytes };
        // Asked for with its alignment, zeroed memory would be cleared by hand and become resident at once; asked for
        // with a small one it comes from the kernel as it is needed. So the boundary is found by hand.
        let layout = bytes.checked_add(PAGE_BYTES).and_then(|bytes| Layout::from_size_align(bytes, 16).ok());
        let layout = layout.ok_or(short)?;
        // SAFETY: the layout's size is at least a page, so not zero.
        let allocation = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(short)?;
        // SAFETY: the offset is below a page, and the allocation is a page longer than the region.
        let base = unsafe { allocation.add(allocation.align_offset(PAGE_BYTES)) };
        Ok(Self { base, bytes, held: Held::Allocated(allocation, layout), huge: HugePages::NotAsked })
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn huge_pages(&self) -> HugePages {
        self.huge
    }

    /// What it takes from the system, alignment included.
    pub(super) fn reserved_bytes(&self) -> usize {
        match self.held {
            Held::Allocated(_, layout) => layout.size(),
            #[cfg(all(target_os = "linux", not(miri), not(ringmain_loom)))]
            Held::Mapped(bytes) => bytes,
        }
    }

    /// All of it in pieces to touch, as long as nothing was written.
    pub(super) fn pieces(&mut self) -> impl Iterator<Item = Piece<'_>> {
        // SAFETY: inside the allocation, initialised (zeroed at birth), and `&mut self` is the only access meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) };
        bytes.chunks_mut(PIECE_BYTES).map(Piece)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match self.held {
            Held::Allocated(allocation, layout) => {
                // SAFETY: made by alloc_zeroed with this layout, and `&mut self` is the last access.
                unsafe { dealloc(allocation.as_ptr(), layout) }
            }
            #[cfg(all(target_os = "linux", not(miri), not(ringmain_loom)))]
            Held::Mapped(bytes) => {
                // SAFETY: these pages were mapped by `own_pages::region` and `&mut self` is the last access.
                unsafe { own_pages::unmap(self.base, bytes) }
            }
        }
    }
}

/// Some pages that nobody has written yet.
#[derive(Debug)]
pub struct Piece<'a>(&'a mut [u8]);

impl Piece<'_> {
    /// Makes all pages resident, near the core that the calling thread is on.
    ///
    /// # Cost
    /// A page fault each: some tenths of a millisecond a MiB.
    pub fn touch(&mut self) {
        // Written without a look: a page that is read first is touched twice, and a huge one is split by it.
        for page in self.0.chunks_mut(PAGE_BYTES) {
            page[0] = black_box(0);
        }
    }
}

/// `count` values in memory that the system may refuse.
pub(super) fn boxed<T>(count: usize, make: impl FnMut(usize) -> T) -> Result<Box<[T]>, OutOfMemory> {
    let mut values = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    values.try_reserve_exact(count).map_err(|_| OutOfMemory { bytes })?;
    values.extend((0..count).map(make));
    Ok(values.into_boxed_slice())
}

/// Whether the system would give so many bytes now: asked before something is made that cannot fail.
///
/// # Errors
/// When it would not. That it would is no promise: another thread may be faster.
pub fn probe(bytes: usize) -> Result<(), OutOfMemory> {
    let mut memory = Vec::<u8>::new();
    memory.try_reserve_exact(bytes).map_err(|_| OutOfMemory { bytes })?;
    // Memory that nobody looks at need not be asked for.
    black_box(memory.as_ptr());
    Ok(())
}

#[cfg(all(target_os = "linux", not(miri), not(ringmain_loom)))]
mod own_pages {
    use std::ptr::{NonNull, null_mut};

    use super::{Held, HugePages, OutOfMemory, Region};

    const SWITCH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    const SIZE: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

    /// The bytes of a huge page. `None` when there are none, or their switch is off.
    pub(super) fn huge_page_bytes() -> Option<usize> {
        let switch = std::fs::read_to_string(SWITCH).ok()?;
        let bytes = std::fs::read_to_string(SIZE).ok()?.trim().parse().ok()?;
        (!switch.contains("[never]")).then_some(bytes).filter(|bytes: &usize| bytes.is_power_of_two())
    }

    fn page_bytes() -> usize {
        // SAFETY: sysconf takes a number and returns one.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).expect("Linux knows its page size")
    }

    /// Maps pages for `bytes`, from a boundary of `huge` on where that is given.
    pub(super) fn region(bytes: usize, huge: Option<usize>) -> Result<Region, OutOfMemory> {
        let short = OutOfMemory { bytes };
        let page = page_bytes();
        let wanted = bytes.checked_next_multiple_of(page).ok_or(short)?;
        let slack = huge.map_or(0, |huge| huge - page);
        let mapped = wanted.checked_add(slack).ok_or(short)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping, placed by the kernel, touches no memory of ours.
        let start = unsafe { libc::mmap(null_mut(), mapped, access, kind, -1, 0) };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED).ok_or(short)?;
        let before = huge.map_or(0, |huge| start.as_ptr().addr().next_multiple_of(huge) - start.as_ptr().addr());
        // SAFETY: the mapping has room for `wanted` bytes behind a boundary that is at most `slack` away.
        let base = unsafe { start.add(before) };
        let mut region = Region { base, bytes, held: Held::Mapped(wanted), huge: HugePages::NotAsked };
        if before > 0 {
            // SAFETY: whole pages of the mapping in front of the region.
            unsafe { unmap(start, before) };
        }
        if slack > before {
            // SAFETY: `slack - before` bytes of the mapping follow the region.
            let behind = unsafe { base.add(wanted) };
            // SAFETY: as above, whole pages.
            unsafe { unmap(behind, slack - before) };
        }
        if huge.is_some() {
            // SAFETY: advice about pages that are mapped; it changes no byte.
            let refused = unsafe { libc::madvise(base.as_ptr().cast(), wanted, libc::MADV_HUGEPAGE) } != 0;
            region.huge = if refused { HugePages::Refused } else { HugePages::Granted };
        }
        Ok(region)
    }

    /// # Safety
    /// Whole pages that `region` has mapped and nobody uses any more.
    pub(super) unsafe fn unmap(base: NonNull<u8>, bytes: usize) {
        // SAFETY: by contract.
        let failed = unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
        debug_assert_eq!(failed, 0, "mapped pages can be unmapped");
    }
}

/// Where the bus does not map pages itself the allocator has to do.
#[cfg(not(all(target_os = "linux", not(miri), not(ringmain_loom))))]
mod own_pages {
    use super::{OutOfMemory, Region};

    pub(super) fn huge_page_bytes() -> Option<usize> {
        None
    }

    pub(super) fn region(bytes: usize, _huge: Option<usize>) -> Result<Region, OutOfMemory> {
        Region::allocate(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each byte is looked at twice, and Miri needs a minute for a few MiB.
    const SIZES: &[usize] =
        if cfg!(miri) { &[64, 4_096, 4_160] } else { &[64, 4_096, 100_000, 4 << 20, (5 << 20) + 64] };

    #[test]
    fn every_kind_of_page_is_zeroed_aligned_and_holds_what_was_asked() {
        for pages in [Pages::Any, Pages::Fresh, Pages::Huge] {
            for &bytes in SIZES {
                let mut region = Region::new(bytes, pages).expect("there is so much memory");
                assert_eq!(region.base().as_ptr().addr() % PAGE_BYTES, 0);
                let slack = region.reserved_bytes() - bytes;
                assert!(slack <= 64 * 1024, "{pages:?}: {slack} bytes more than {bytes}");
                let mut seen = 0;
                for mut piece in region.pieces() {
                    assert!(piece.0.iter().all(|&byte| byte == 0));
                    piece.touch();
                    piece.0.fill(7);
                    seen += piece.0.len();
                }
                assert_eq!((seen, region.bytes()), (bytes, bytes));
                assert_eq!(region.huge_pages() == HugePages::NotAsked, pages != Pages::Huge);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends where memory does, instead of refusing it")]
    fn what_no_address_space_holds_is_refused() {
        for pages in [Pages::Any, Pages::Fresh, Pages::Huge] {
            for bytes in [usize::MAX, usize::MAX / 2, usize::MAX - 4_096, 1 << (usize::BITS - 4)] {
                assert_eq!(Region::new(bytes, pages).err(), Some(OutOfMemory { bytes }), "{pages:?}");
            }
        }
        assert!(boxed(usize::MAX, |_| 0_u64).is_err());
        assert_eq!(probe(usize::MAX / 2), Err(OutOfMemory { bytes: usize::MAX / 2 }));
        assert_eq!(probe(1 << 20), Ok(()));
    }
}
