//! A store-load barrier with a hot side that costs nothing and a cold side that pays for both.
//!
//! Two threads each store one word and then load the other's ("I published" against "I sleep"). Without a full
//! barrier on both sides each may miss the other's store, and a worker sleeps on a filled lane. Publishing is hot
//! and going to sleep is rare, so where the kernel has `membarrier` the sleeper makes every running thread of the
//! process execute a barrier, and the publisher needs none. Elsewhere both sides fence.

use super::mutant::mutant;
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

    /// Fences on both sides: the portable form, and the one of loom and shuttle.
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
        mutant!("barrier.light", fence(Ordering::SeqCst) => ());
    }

    /// The cold side. With `membarrier` 0.2 to 8 µs, else one fence. Milliseconds where the kernel takes back what it
    /// has granted: a process may forbid itself system calls after the bus was built.
    pub fn heavy(self) {
        if self.asymmetric {
            membarrier::on_all_threads();
        }
        // SYNC(barrier): SeqCst fence. Pairs with `light`; with membarrier it orders the caller's own accesses.
        mutant!("barrier.heavy", fence(Ordering::SeqCst) => ());
    }
}

#[cfg(all(target_os = "linux", not(miri), not(any(ringmain_loom, ringmain_shuttle))))]
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
        let done = |command| call(command) == 0;
        if !done(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) && !done(libc::MEMBARRIER_CMD_GLOBAL) {
            outwait_store_buffers();
        }
    }

    /// The hot side has no fence, so nothing but time orders its stores: a running thread's reach memory within
    /// microseconds, and a thread that is switched out meanwhile passes a barrier in the kernel.
    #[cold]
    fn outwait_store_buffers() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }

    #[inline(always)]
    pub(super) fn keep_program_order() {
        // SYNC(barrier): SeqCst for the compiler only. The processor's half is the partner's membarrier.
        compiler_fence(Ordering::SeqCst);
    }
}

#[cfg(not(all(target_os = "linux", not(miri), not(any(ringmain_loom, ringmain_shuttle)))))]
mod membarrier {
    pub(super) fn register() -> bool {
        false
    }
    pub(super) fn on_all_threads() {}
    #[inline(always)]
    pub(super) fn keep_program_order() {}
}

#[cfg(all(test, target_os = "linux", not(miri)))]
#[path = "../../tests/support/forbidden.rs"]
mod forbidden;

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_takes_membarrier_back_is_outwaited() {
        let before = Barrier::detect();
        let checked = std::thread::spawn(move || {
            if !forbidden::forbid(libc::SYS_membarrier) {
                eprintln!("SKIP: this kernel lets no thread filter its system calls");
                return;
            }
            assert_eq!(Barrier::detect(), Barrier::fences(), "a bus that is built now fences");
            before.heavy();
        });
        checked.join().expect("a barrier that is refused does not panic");
    }
}
