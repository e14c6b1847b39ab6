//! Bugs planted by hand. Under `--cfg ringmain_loom` a model switches one on, to show that it would find it; in any
//! other build they do not exist.
//!
//! ```text
//! stamp.store(sequence, mutant!("slot.commit", Ordering::Release)); // The bug: Relaxed.
//! if mutant!("batch.limit", depth > limit => false) {} // What is right => the bug.
//! ```

#[cfg(ringmain_loom)]
static PLANTED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Switches the mutant `name` on, for as long as the process lives.
///
/// # Panics
/// When one is on already.
#[cfg(ringmain_loom)]
pub fn plant(name: &str) {
    PLANTED.set(name.to_owned()).expect("one mutant a process");
}

#[cfg(ringmain_loom)]
pub(crate) fn is_planted(name: &str) -> bool {
    PLANTED.get().is_some_and(|planted| planted == name)
}

#[cfg(ringmain_loom)]
macro_rules! mutant {
    ($name:literal, $right:expr) => {
        // Relaxed: the bug.
        $crate::sync::mutant::mutant!($name, $right => $crate::sync::primitive::Ordering::Relaxed)
    };
    ($name:literal, $right:expr => $bug:expr) => {
        if $crate::sync::mutant::is_planted($name) { $bug } else { $right }
    };
}

#[cfg(not(ringmain_loom))]
macro_rules! mutant {
    ($name:literal, $right:expr $(=> $bug:expr)?) => {
        $right
    };
}

pub(crate) use mutant;
