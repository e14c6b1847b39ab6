//! What a store does to old events by itself, in the trail.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::{LogStore, Upkeep};
use super::{AuditAct, AuditError, AuditTrail};

/// How long a store that failed is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Records what a store archives and removes, until it is dropped.
///
/// The actor is `ringmain`, the action `store.archived` or `store.removed`, the object `store` and the name given. Old events are
/// archived and removed whether that is recorded or not, for it is done when it is told of: while no record is taken it is tried
/// again each second, and what is done meanwhile is in the same one. A process that is killed in between has not recorded it.
#[must_use = "nothing more is recorded when it is dropped"]
pub struct AuditRetention {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// What is not recorded yet.
    done: Upkeep,
    is_ending: bool,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Changed by steps that do not panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuditTrail {
    /// Records what a store archives and removes by its retention, also that it has done since it was opened. A store tells
    /// one of it: the last that asked.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn retention(&self, of: &LogStore, name: &str) -> Result<AuditRetention, AuditError> {
        let shared = Arc::<Shared>::default();
        let (trail, own, object) = (self.clone(), Arc::clone(&shared), format!("store {name}"));
        let thread = thread::Builder::new().name("ringmain-audit-retention".to_owned());
        let thread = thread.spawn(move || own.run(&trail, &object));
        let thread = thread.map_err(|error| AuditError::Thread(error.to_string()))?;
        let told = Arc::clone(&shared);
        of.on_upkeep(move |done| {
            let mut inner = told.inner();
            inner.done = inner.done.and(done);
            drop(inner);
            told.changed.notify_all();
        });
        Ok(AuditRetention { shared, thread: Some(thread) })
    }
}

impl Shared {
    /// The thread. It is not that of the store, which the append may wait for.
    fn run(&self, trail: &AuditTrail, object: &str) {
        loop {
            let nothing = |inner: &mut Inner| !inner.done.has_done() && !inner.is_ending;
            let waited = self.changed.wait_while(self.inner(), nothing);
            let mut inner = waited.unwrap_or_else(PoisonError::into_inner);
            let (done, is_ending) = (std::mem::take(&mut inner.done), inner.is_ending);
            drop(inner);
            let left = record(trail, object, done);
            if is_ending {
                return;
            }
            if left.has_done() {
                let mut inner = self.inner();
                inner.done = left.and(inner.done);
                drop(self.changed.wait_timeout_while(inner, AGAIN, |inner| !inner.is_ending));
            }
        }
    }
}

/// Returns what could not be recorded.
fn record(trail: &AuditTrail, object: &str, mut done: Upkeep) -> Upkeep {
    let by = trail.by("ringmain");
    if done.removed_segments > 0 {
        let to = done.removed_to.map_or(0, super::super::Position::get);
        let before =
            format!("{} events, up to position {to}, in {} segments", done.removed_events, done.removed_segments);
        if by.record(AuditAct::new("store.removed", object).before(before)).is_ok() {
            (done.removed_segments, done.removed_events, done.removed_to, done.unread_events) = (0, 0, None, 0);
        }
    }
    if done.archived_segments > 0 {
        let after = format!("{} segments, {} bytes less", done.archived_segments, done.archived_bytes);
        if by.record(AuditAct::new("store.archived", object).after(after)).is_ok() {
            (done.archived_segments, done.archived_bytes) = (0, 0);
        }
    }
    done
}

impl Drop for AuditRetention {
    fn drop(&mut self) {
        self.shared.inner().is_ending = true;
        self.shared.changed.notify_all();
        // Its panic has been printed.
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for AuditRetention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditRetention").finish_non_exhaustive()
    }
}
