//! A store-load barrier with a hot side that costs nothing and a cold side that pays for both.
//!
//! Two threads each store one word and then load the other's ("I published" against "I sleep"). Without a full
//! barrier on both sides each may miss the other's store, and a worker sleeps on a filled lane. Publishing is hot
//! and going to sleep is rare, so where the kernel has `membarrier` the sleeper makes every running thread of the
//! process execute a barrier, and the publisher needs none. Elsewhere both sides fence.

use super::primitive::{Ordering, fence};

/// How this process gets its store-load barriers. `Copy`, so that the hot side reads it from its own cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    asymmetric: bool,
}

impl Barrier {
    /// Registers with `membarrier` where the kernel has it, else falls back to fences. Costs a system call.
    pub fn detect() -> Self {
        Self { asymmetric: membarrier::register() }
    }

    /// Fences on both sides: the portable form, and the one loom models.
    pub const fn fences() -> Self {
        Self { asymmetric: false }
    }

    /// The hot side: orders the caller's earlier stores before its later loads, for a partner that calls `heavy`.
    #[inline(always)]
    pub fn light(self) {
        if self.asymmetric {
            membarrier::keep_program_order();
        } else {
            Self::light_fence();
        }
    }

    /// Out of the way of the common case, and dear enough for a call more not to matter.
    #[cold]
    fn light_fence() {
        // SYNC(barrier): SeqCst fence. Pairs with `heavy`; of two threads that store, pass a barrier and load, at least
        // one sees the other's store.
        fence(Ordering::SeqCst);
    }

    /// The cold side. With `membarrier` 0.2 to 8 µs, else one fence.
    pub fn heavy(self) {
        if self.asymmetric {
            membarrier::on_all_threads();
        }
        // SYNC(barrier): SeqCst fence. Pairs with `light`; with membarrier it orders the caller's own accesses.
        fence(Ordering::SeqCst);
    }

    pub fn is_asymmetric(self) -> bool {
        self.asymmetric
    }
}

#[cfg(all(target_os = "linux", not(miri), not(ringmain_loom)))]
mod membarrier {
    use crate::sync::primitive::{Ordering, compiler_fence};

    fn call(command: libc::c_int) -> libc::c_long {
        // SAFETY: membarrier takes no pointer and changes no memory; an unknown command returns an error.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }
    }

    pub(super) fn register() -> bool {
        let offered = call(libc::MEMBARRIER_CMD_QUERY);
        let wanted = libc::c_long::from(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        offered > 0 && offered & wanted != 0 && call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0
    }

    pub(super) fn on_all_threads() {
        let failed = call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        assert_eq!(failed, 0, "membarrier was registered at start, so the kernel has it");
    }

    #[inline(always)]
    pub(super) fn keep_program_order() {
        // SYNC(barrier): compiler fence only. The processor's half is the partner's membarrier.
        compiler_fence(Ordering::SeqCst);
    }
}

#[cfg(not(all(target_os = "linux", not(miri), not(ringmain_loom))))]
mod membarrier {
    pub(super) fn register() -> bool {
        false
    }
    pub(super) fn on_all_threads() {}
    #[inline(always)]
    pub(super) fn keep_program_order() {}
}
