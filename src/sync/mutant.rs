//! Bugs planted by hand, each in the place where it would be made, to show that it would be found. Under
//! `--cfg ringmain_loom` a model switches one on, under `--cfg ringmain_shuttle` a scenario, under `--cfg ringmain_planted`
//! the environment variable `RINGMAIN_PLANTED` names the one that is on. In any other build they do not exist.
//!
//! ```text
//! stamp.store(sequence, mutant!("slot.commit", Ordering::Release)); // The bug: Relaxed.
//! if mutant!("batch.limit", depth > limit => false) {} // What is right => the bug.
//! ```

#[cfg(any(ringmain_loom, ringmain_shuttle))]
static PLANTED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

#[cfg(all(ringmain_planted, not(any(ringmain_loom, ringmain_shuttle))))]
static PLANTED: std::sync::LazyLock<Option<String>> =
    std::sync::LazyLock::new(|| std::env::var("RINGMAIN_PLANTED").ok());

/// Switches the mutant `name` on, for as long as the process lives.
///
/// # Panics
/// When one is on already.
#[cfg(any(ringmain_loom, ringmain_shuttle))]
pub fn plant(name: &str) {
    PLANTED.set(name.to_owned()).expect("one mutant a process");
}

#[cfg(any(ringmain_loom, ringmain_shuttle))]
pub(crate) fn is_planted(name: &str) -> bool {
    PLANTED.get().is_some_and(|planted| planted == name)
}

#[cfg(all(ringmain_planted, not(any(ringmain_loom, ringmain_shuttle))))]
pub(crate) fn is_planted(name: &str) -> bool {
    PLANTED.as_deref() == Some(name)
}

#[cfg(any(ringmain_loom, ringmain_shuttle, ringmain_planted))]
macro_rules! mutant {
    ($name:literal, $right:expr) => {
        // Relaxed: the bug.
        $crate::sync::mutant::mutant!($name, $right => $crate::sync::primitive::Ordering::Relaxed)
    };
    ($name:literal, $right:expr => $bug:expr) => {
        if $crate::sync::mutant::is_planted($name) { $bug } else { $right }
    };
}

#[cfg(not(any(ringmain_loom, ringmain_shuttle, ringmain_planted)))]
macro_rules! mutant {
    ($name:literal, $right:expr $(=> $bug:expr)?) => {
        $right
    };
}

pub(crate) use mutant;
