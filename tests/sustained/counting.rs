//! The system's allocator, which counts how often some threads ask it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

static ASKED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is one of those. The others take samples and print.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// From now on what this thread asks for is counted.
pub(crate) fn count_here() {
    IS_COUNTED.set(true);
}

/// How often they have asked.
pub(crate) fn asked() -> u64 {
    // Relaxed: a figure that is to stand still.
    ASKED.load(Ordering::Relaxed)
}

fn count() {
    // A thread that ends has no cell any more.
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        // Relaxed: a figure.
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
}

struct Counting;

// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are System's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are System's conditions.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are System's conditions.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are System's conditions.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
