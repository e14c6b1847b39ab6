//! Memory: what the bus asks of the allocator, of the system, and what it says it has. One binary, because it brings an
//! allocator that counts.

#[path = "../support/alone.rs"]
#[allow(dead_code, reason = "faults need the rest")]
mod alone;
#[cfg(feature = "json")]
mod asked_once;
#[path = "../support/books.rs"]
mod books;
mod endless;
mod events;
#[cfg(feature = "store")]
#[path = "../support/folder.rs"]
mod folder;
#[cfg(target_os = "linux")]
mod limits;
mod patterns;
#[path = "../support/proof.rs"]
mod proof;
#[cfg(feature = "store")]
mod reading;
mod reserved;
#[cfg(target_os = "linux")]
mod resident;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::alone::alone;

/// The system's allocator, which counts how often it is asked, and the bytes that are out.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicU64 = AtomicU64::new(0);

/// How often memory was asked for so far, on all threads.
fn asked() -> u64 {
    // Relaxed: who looks has waited for all threads that it asks about.
    ASKED.load(Ordering::Relaxed)
}

/// Bytes that were given out and not taken back.
fn live() -> u64 {
    // Relaxed: as in `asked`.
    LIVE.load(Ordering::Relaxed)
}

fn given(pointer: *mut u8, layout: Layout) -> *mut u8 {
    // Relaxed (both): counts.
    ASKED.fetch_add(1, Ordering::Relaxed);
    if !pointer.is_null() {
        LIVE.fetch_add(layout.size() as u64, Ordering::Relaxed);
    }
    pointer
}

// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are System's conditions.
        given(unsafe { System.alloc(layout) }, layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are System's conditions.
        given(unsafe { System.alloc_zeroed(layout) }, layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Relaxed: a count.
        LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are System's conditions.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Relaxed (all): counts.
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are System's conditions.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        if !moved.is_null() {
            LIVE.fetch_add(size as u64, Ordering::Relaxed);
            LIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        }
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Fails unless the two are within a tenth of each other.
#[track_caller]
fn assert_within_a_tenth(what: &str, reported: u64, found: u64) {
    println!("{what}: {} KiB reported, {} KiB found", reported >> 10, found >> 10);
    let off = reported.abs_diff(found);
    assert!(off * 10 <= reported.min(found), "{what}: {reported} reported, {found} found");
}
