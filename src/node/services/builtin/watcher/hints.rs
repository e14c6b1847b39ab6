//! Hints of the system that something happened, between its thread, the one that looks, and whoever asks.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::WatcherOptions;
use super::pending::Pending;

/// What became of what happened to files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatcherCounts {
    /// Changes that are events.
    pub published: u64,
    /// Changes for which the bus had no room.
    pub unpublished: u64,
    /// Times that all was looked at since hints were lost.
    pub rescans: u64,
}

/// Between the system's thread, the one that looks, and whoever asks.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) begun: Instant,
    hints: Mutex<Hints>,
    pub(super) woken: Condvar,
}

#[derive(Debug)]
pub(super) struct Hints {
    pub(super) pending: Pending,
    /// Of the start that counts. Whoever looks for an earlier one ends.
    pub(super) run: u64,
    /// Why not all of it is watched.
    pub(super) failed: Option<String>,
    pub(super) counts: WatcherCounts,
    /// Changes without room of which a check of health has told.
    pub(super) unpublished_told: u64,
}

impl Shared {
    pub(super) fn new(options: &WatcherOptions) -> Self {
        let pending = Pending::new(options.debounce, options.pending_max);
        let counts = WatcherCounts::default();
        let hints = Hints { pending, run: 0, failed: None, counts, unpublished_told: 0 };
        Self { begun: Instant::now(), hints: Mutex::new(hints), woken: Condvar::new() }
    }

    pub(super) fn hints(&self) -> MutexGuard<'_, Hints> {
        // What a panic interrupts is a hint more or less.
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run, which ends the one before. Returns its number.
    pub(super) fn begin(&self, options: &WatcherOptions) -> u64 {
        let mut hints = self.hints();
        (hints.pending, hints.failed) = (Pending::new(options.debounce, options.pending_max), None);
        hints.run += 1;
        hints.run
    }

    /// Ends a run, if it is the one that counts.
    pub(super) fn end(&self, run: u64) {
        let mut hints = self.hints();
        hints.run += u64::from(hints.run == run);
        drop(hints);
        self.woken.notify_all();
    }

    pub(super) fn take(&self, hint: notify::Result<notify::Event>) {
        let now = self.begun.elapsed();
        let mut hints = self.hints();
        match hint {
            Ok(event) if event.need_rescan() => hints.pending.hint_all(now),
            Ok(event) if event.kind.is_access() => return,
            Ok(event) => event.paths.into_iter().for_each(|path| hints.pending.hint(path, now)),
            Err(_) => hints.pending.hint_all(now),
        }
        drop(hints);
        self.woken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use notify::event::{AccessKind, CreateKind, Flag};
    use notify::{Error, Event, EventKind};

    use super::super::Due;
    use super::*;

    /// What is to be looked at after these hints.
    fn after(hints: impl IntoIterator<Item = notify::Result<Event>>) -> Due {
        let shared = Shared::new(&WatcherOptions { debounce: Default::default(), ..WatcherOptions::new("files", "/") });
        hints.into_iter().for_each(|hint| shared.take(hint));
        shared.hints().pending.take(shared.begun.elapsed())
    }

    #[test]
    fn when_the_system_lost_count_everything_is_looked_at() {
        let created = || Event::new(EventKind::Create(CreateKind::File)).add_path("/a".into());
        assert_eq!(after([Ok(created())]), Due { paths: vec![PathBuf::from("/a")], all: false });
        let everything = Due { paths: Vec::new(), all: true };
        assert_eq!(after([Ok(created()), Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan))]), everything);
        assert_eq!(after([Err(Error::generic("the queue is gone"))]), everything);
        assert_eq!(after([Ok(Event::new(EventKind::Access(AccessKind::Read)).add_path("/a".into()))]), Due::default());
    }
}
