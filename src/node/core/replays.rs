//! Replays that were asked for from outside: so many at a time, and what came of the latest.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::store::{Replay, ReplayProgress};

/// Replays that go on at one time.
const RUNNING_MAX: usize = 8;
/// Replays that are remembered.
const KEPT_MAX: usize = 100;

/// Replays by their numbers, which rise.
#[derive(Debug, Default)]
pub(in super::super) struct Replays(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    kept: BTreeMap<u64, Kept>,
}

#[derive(Debug)]
struct Kept {
    /// What was asked for, as whoever asked says it.
    asked: serde_json::Value,
    begun: SystemTime,
    /// Until it is over.
    replay: Option<Replay>,
    progress: ReplayProgress,
    error: Option<String>,
}

/// A replay as it is.
#[derive(Debug, Clone)]
pub(in super::super) struct ReplayStatus {
    pub(in super::super) id: u64,
    pub(in super::super) asked: serde_json::Value,
    pub(in super::super) begun: SystemTime,
    pub(in super::super) progress: ReplayProgress,
    /// Why it failed.
    pub(in super::super) error: Option<String>,
}

impl Replays {
    /// Begins one, if there are not too many.
    ///
    /// # Errors
    /// `None` when there are, and what `begin` says.
    pub(in super::super) fn begin<E>(
        &self,
        asked: serde_json::Value,
        begin: impl FnOnce() -> Result<Replay, E>,
    ) -> Result<ReplayStatus, Option<E>> {
        let mut inner = self.inner();
        inner.look();
        if inner.kept.values().filter(|kept| kept.replay.is_some()).count() >= RUNNING_MAX {
            return Err(None);
        }
        let replay = begin().map_err(Some)?;
        let (progress, begun) = (replay.progress(), SystemTime::now());
        inner.last += 1;
        let id = inner.last;
        inner.kept.insert(id, Kept { asked, begun, replay: Some(replay), progress, error: None });
        if inner.kept.len() > KEPT_MAX {
            let oldest = inner.kept.iter().find(|(_, kept)| kept.replay.is_none()).map(|(id, _)| *id);
            oldest.and_then(|oldest| inner.kept.remove(&oldest));
        }
        Ok(inner.kept[&id].status(id))
    }

    /// All that are remembered.
    pub(in super::super) fn list(&self) -> Vec<ReplayStatus> {
        let mut inner = self.inner();
        inner.look();
        inner.kept.iter().map(|(id, kept)| kept.status(*id)).collect()
    }

    /// One of them.
    pub(in super::super) fn get(&self, id: u64) -> Option<ReplayStatus> {
        let mut inner = self.inner();
        inner.look();
        inner.kept.get(&id).map(|kept| kept.status(id))
    }

    /// Ends one after the event that it is at. Returns whether there is one.
    pub(in super::super) fn cancel(&self, id: u64) -> bool {
        let inner = self.inner();
        inner.kept.get(&id).map(|kept| kept.replay.iter().for_each(Replay::cancel)).is_some()
    }

    /// Ends all of them.
    pub(super) fn end(&self) {
        let mut inner = self.inner();
        // Dropped, they are cancelled and waited for.
        inner.kept.values_mut().for_each(|kept| drop(kept.replay.take()));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each step leaves it as it is to be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes down how far each has come.
    fn look(&mut self) {
        for kept in self.kept.values_mut() {
            let Some(replay) = &kept.replay else { continue };
            kept.progress = replay.progress();
            if kept.progress.is_over
                && let Some(replay) = kept.replay.take()
            {
                kept.error = replay.wait().err().map(|error| error.to_string());
            }
        }
    }
}

impl Kept {
    fn status(&self, id: u64) -> ReplayStatus {
        let Self { asked, begun, progress, error, .. } = self;
        ReplayStatus { id, asked: asked.clone(), begun: *begun, progress: *progress, error: error.clone() }
    }
}
