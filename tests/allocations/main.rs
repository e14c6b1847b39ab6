//! Memory: what the bus asks of the allocator, of the system, and what it says it has. One binary, because it brings an
//! allocator that counts.

#[cfg(feature = "json")]
mod asked_once;
#[path = "../support/books.rs"]
mod books;
mod events;
#[cfg(target_os = "linux")]
mod limits;
mod reserved;
#[cfg(target_os = "linux")]
mod resident;

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

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

const ALONE: &str = "RINGMAIN_TEST_ALONE";

/// Runs `body` in a process of its own, where nobody else allocates: this binary once more, with this test alone.
#[track_caller]
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|alone| alone == test) {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, test).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}{told}");
    assert!(output.status.success() && said.contains("1 passed"), "{test}: {}\n{said}{told}", output.status);
}

/// Fails unless the two are within a tenth of each other.
#[track_caller]
fn assert_within_a_tenth(what: &str, reported: u64, found: u64) {
    println!("{what}: {} KiB reported, {} KiB found", reported >> 10, found >> 10);
    let off = reported.abs_diff(found);
    assert!(off * 10 <= reported.min(found), "{what}: {reported} reported, {found} found");
}
