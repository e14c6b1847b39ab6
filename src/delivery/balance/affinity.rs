//! Affinity: the same key goes to the same instance, and stays when others come and go.
//!
//! Each instance has a score for each key, a hash of both; the key belongs to the highest. So when an instance leaves only
//! its keys move, to the second of each, and when one comes it takes only what scores highest there. There is no ring of
//! points to build, keep and store: a pick is one hash an instance.

use std::fmt;
use std::sync::Arc;

use super::{InstanceHealth, InstanceView};
use crate::event::Meta;
use crate::sync::contain::contained;

type KeyOf = Arc<dyn Fn(&Meta<'_>) -> Option<u64> + Send + Sync>;

/// What of an event decides which instance it belongs to.
///
/// ```
/// use ringmain::{AffinityKey, Balance};
/// let per_customer = Balance::Affinity(AffinityKey::metadata("customer"));
/// let per_topic = Balance::Affinity(AffinityKey::by(|meta| Some(meta.topic().len() as u64)));
/// # let _ = (per_customer, per_topic);
/// ```
#[derive(Clone)]
pub struct AffinityKey(Key);

#[derive(Clone)]
enum Key {
    Source,
    Correlation,
    Aggregate,
    Metadata(String),
    By(KeyOf),
}

impl AffinityKey {
    /// Who published.
    pub fn source() -> Self {
        Self(Key::Source)
    }

    /// What the event belongs to.
    pub fn correlation() -> Self {
        Self(Key::Correlation)
    }

    /// The aggregate that changed: its kind and id.
    pub fn aggregate() -> Self {
        Self(Key::Aggregate)
    }

    /// The value of a metadata entry.
    pub fn metadata(key: impl Into<String>) -> Self {
        Self(Key::Metadata(key.into()))
    }

    /// A number that `key` makes of the event. It runs on a worker, for each event: keep it short. A panic counts as None.
    pub fn by(key: impl Fn(&Meta<'_>) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self(Key::By(Arc::new(key)))
    }

    /// The event's key as a number; None when it has none.
    pub(super) fn hash(&self, event: &Meta<'_>) -> Option<u64> {
        match &self.0 {
            Key::Source => Some(event.source()).filter(|source| !source.is_empty()).map(|source| hashed([source])),
            Key::Correlation => event.correlation().map(|id| hashed([id.as_bytes()])),
            Key::Aggregate => event.aggregate().map(|aggregate| hashed([aggregate.kind, "\0", aggregate.id])),
            Key::Metadata(key) => event.get(key).map(|value| hashed([value])),
            Key::By(key) => contained(|| key(event)).flatten(),
        }
    }
}

impl fmt::Debug for AffinityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Key::Source => "source",
            Key::Correlation => "correlation",
            Key::Aggregate => "aggregate",
            Key::Metadata(key) => return write!(f, "metadata.{key}"),
            Key::By(_) => "by(..)",
        })
    }
}

/// The instance that the key belongs to, of those that are not unhealthy.
pub(super) fn owner(key: u64, instances: &[InstanceView]) -> Option<usize> {
    let alive = instances.iter().enumerate().filter(|(_, one)| one.health != InstanceHealth::Unhealthy);
    // Ids differ, and so do the scores of one key: `mixed` maps no two numbers to one.
    alive.max_by_key(|(_, one)| mixed(key ^ mixed(one.id))).map(|(at, _)| at)
}

/// FNV-1a over all parts.
fn hashed<T: AsRef<[u8]>, const N: usize>(parts: [T; N]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.as_ref());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The finish of SplitMix64: each bit of the result depends on all bits of the number, and no two numbers give the same.
pub(super) const fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
