//! Atomics, cells, locks and threads from std; from loom when the crate is built with `--cfg ringmain_loom`, for models
//! of one structure each; from shuttle with `--cfg ringmain_shuttle`, for schedules of the whole bus. Under loom, and under
//! `--cfg ringmain_weaken`, the atomics stand behind a door of their own, where an ordering may be weakened.
//!
//! No other file than that door's names `std::sync::atomic`. The switches are cfgs of our own, so that an embedder who
//! model-checks with `--cfg loom` does not flip ringmain. loom has what its models need, and std serves the rest of the crate.

#[cfg(ringmain_loom)]
mod queue;
#[cfg(ringmain_shuttle)]
mod scheduled;

#[cfg(not(any(ringmain_loom, ringmain_weaken, ringmain_shuttle)))]
pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(any(ringmain_loom, ringmain_weaken))]
pub use super::weaken::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(any(ringmain_loom, ringmain_shuttle)))]
pub use std::sync::atomic::compiler_fence;

#[cfg(ringmain_shuttle)]
pub use shuttle::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// Locks of the control plane, which are held across atomics: shuttle must see who waits for one.
#[cfg(ringmain_shuttle)]
pub use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(ringmain_shuttle))]
pub use std::sync::{Mutex, MutexGuard};

/// Bounded queues whose order against the words beside them matters: loom must see both.
#[cfg(not(ringmain_loom))]
pub use crossbeam::queue::ArrayQueue;
#[cfg(ringmain_loom)]
pub use queue::ArrayQueue;

/// Time by which the control plane bounds its waits.
#[cfg(ringmain_shuttle)]
pub use scheduled::Instant;
#[cfg(not(ringmain_shuttle))]
pub use std::time::Instant;

#[cfg(ringmain_loom)]
pub use loom::hint::spin_loop;
#[cfg(ringmain_shuttle)]
pub use shuttle::hint::spin_loop;
#[cfg(not(any(ringmain_loom, ringmain_shuttle)))]
pub use std::hint::spin_loop;

/// How workers tell that they have left.
pub mod channel {
    #[cfg(ringmain_shuttle)]
    pub use super::scheduled::{Receiver, Sender, bounded};
    #[cfg(not(ringmain_shuttle))]
    pub use flume::{Receiver, Sender, bounded};
}

/// Atomics on which nothing rides, not even a figure of the ledger: no scheduler need look at them.
pub mod unscheduled {
    pub use std::sync::atomic::{AtomicBool, AtomicU64};
}

/// A word that the caller is about to write.
///
/// loom finds races by the last access of each word alone, so a writer's plain load just before its write would hide
/// what other threads loaded earlier, and models would never see them load later. Under loom the look is therefore a
/// write of its own.
pub trait BeforeWrite {
    type Value;

    /// The word's value: the newest if only the caller writes it, else a guess for an exchange. Relaxed.
    fn before_write(&self) -> Self::Value;
}

macro_rules! before_write {
    ($($atomic:ty => $value:ty),*) => {$(
        impl BeforeWrite for $atomic {
            type Value = $value;

            #[inline(always)]
            fn before_write(&self) -> $value {
                // Relaxed (both): whoever needs more gets it from the write that follows.
                #[cfg(not(ringmain_loom))]
                return self.load(Ordering::Relaxed);
                #[cfg(ringmain_loom)]
                return self.fetch_add(0, Ordering::Relaxed);
            }
        }
    )*};
}

before_write!(AtomicU32 => u32, AtomicU64 => u64);
#[cfg(ringmain_loom)]
pub use loom::thread_local;
#[cfg(ringmain_shuttle)]
pub use shuttle::thread_local;
#[cfg(not(any(ringmain_loom, ringmain_shuttle)))]
pub use std::thread_local;

/// Threads.
pub mod thread {
    #[cfg(ringmain_shuttle)]
    pub use super::scheduled::{Builder, JoinHandle, park_timeout};
    #[cfg(ringmain_loom)]
    pub use loom::thread::{Thread, current, park, yield_now};
    #[cfg(ringmain_shuttle)]
    pub use shuttle::thread::{Thread, current, park, yield_now};
    #[cfg(not(ringmain_shuttle))]
    pub use std::thread::{Builder, JoinHandle};
    #[cfg(not(any(ringmain_loom, ringmain_shuttle)))]
    pub use std::thread::{Thread, current, park, park_timeout, yield_now};

    /// Whether `handle` is the calling thread's.
    pub fn is_current<T>(handle: &JoinHandle<T>) -> bool {
        #[cfg(not(ringmain_shuttle))]
        return handle.thread().id() == std::thread::current().id();
        #[cfg(ringmain_shuttle)]
        return handle.is_current();
    }

    /// loom has no clock: a bounded wait is an unbounded one there, and a model that needs the bound hangs visibly.
    #[cfg(ringmain_loom)]
    pub fn park_timeout(_limit: std::time::Duration) {
        park();
    }
}

/// A cell whose accesses loom tracks.
#[derive(Debug)]
pub struct UnsafeCell<T>(
    #[cfg(not(ringmain_loom))] std::cell::UnsafeCell<T>,
    #[cfg(ringmain_loom)] loom::cell::UnsafeCell<T>,
);

impl<T> UnsafeCell<T> {
    pub fn new(value: T) -> Self {
        #[cfg(not(ringmain_loom))]
        return Self(std::cell::UnsafeCell::new(value));
        #[cfg(ringmain_loom)]
        return Self(loom::cell::UnsafeCell::new(value));
    }

    /// Runs `f` with a pointer for writing; loom reports any access beside it as a race.
    #[inline]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(not(ringmain_loom))]
        return f(self.0.get());
        #[cfg(ringmain_loom)]
        return self.0.with_mut(f);
    }

    /// Runs `f` with a pointer for reading; loom reports a write beside it as a race.
    #[cfg(any(ringmain_loom, ringmain_shuttle))]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        #[cfg(not(ringmain_loom))]
        return f(self.0.get());
        #[cfg(ringmain_loom)]
        return self.0.with(f);
    }
}
