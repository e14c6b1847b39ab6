//! Pinning workers to cores the process may use.

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

/// How many cores the process may use; 1 when the platform does not say.
pub(crate) fn allowed_cores() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len()).max(1)
}

/// Pins the calling thread. False when the platform refuses.
pub(super) fn pin(core: CoreId) -> bool {
    core_affinity::set_for_current(core)
}
