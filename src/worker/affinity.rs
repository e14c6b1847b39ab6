//! Pinning workers to cores the process may use.

use std::io;
use std::thread;

use core_affinity::CoreId;

/// One core a worker, from the allowed set; `None` for all when there are fewer cores than workers, because then
/// pinning would only keep the scheduler from helping.
pub(super) fn plan(workers: usize) -> Vec<Option<CoreId>> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if allowed.len() < workers {
        return vec![None; workers];
    }
    allowed.into_iter().map(Some).take(workers).collect()
}

/// Does each piece of work on a thread that is pinned as the worker of its number will be, and waits for all.
///
/// # Errors
/// When the system refuses a thread.
pub(crate) fn on_worker_cores<W: FnOnce() + Send>(work: Vec<W>, is_pinned: bool) -> io::Result<()> {
    let cores = if is_pinned { plan(work.len()) } else { vec![None; work.len()] };
    thread::scope(|scope| {
        for (work, core) in work.into_iter().zip(cores) {
            let near_its_core = move || {
                if let Some(core) = core {
                    // Where the platform refuses, the work is done all the same.
                    let _ = pin(core);
                }
                work();
            };
            thread::Builder::new().spawn_scoped(scope, near_its_core)?;
        }
        Ok(())
    })
}

/// How many cores the process may use; 1 when the platform does not say.
pub(crate) fn allowed_cores() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len()).max(1)
}

/// Pins the calling thread. False when the platform refuses.
pub(super) fn pin(core: CoreId) -> bool {
    core_affinity::set_for_current(core)
}
