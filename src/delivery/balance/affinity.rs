//! Affinity: the same key goes to the same instance, and stays when others come and go.
//!
//! Each instance has a score for each key, a hash of both; the key belongs to the highest. So when an instance leaves only
//! its keys move, to the second of each, and when one comes it takes only what scores highest there. There is no ring of
//! points to build, keep and store: a pick is one hash an instance.

use crate::chance::mixed;

use super::{InstanceView, ServiceHealth};

/// The instance that the key belongs to, of those that are not unhealthy.
pub(super) fn owner(key: u64, instances: &[InstanceView]) -> Option<usize> {
    let alive = instances.iter().enumerate().filter(|(_, one)| one.health != ServiceHealth::Unhealthy);
    // Ids differ, and so do the scores of one key: `mixed` maps no two numbers to one.
    alive.max_by_key(|(_, one)| mixed(key ^ mixed(one.id))).map(|(at, _)| at)
}
