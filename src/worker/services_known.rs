//! Which names services have, for publishers, who look at no table; and which other names have been told of as targets.

use std::hash::{BuildHasher, RandomState};

use crate::delivery::SERVICES_MAX;
use crate::sync::primitive::{AtomicU64, Ordering};

/// Names that are told of.
const TOLD_MAX: usize = 64;

/// The names of a bus's services, as their hashes. Written under the control plane's lock, read by any publisher.
#[derive(Debug)]
pub(crate) struct ServicesKnown {
    names: [AtomicU64; SERVICES_MAX],
    /// Names that no service had, each told of once.
    told: [AtomicU64; TOLD_MAX],
    hasher: RandomState,
}

impl ServicesKnown {
    pub(crate) fn new() -> Self {
        Self {
            names: std::array::from_fn(|_| AtomicU64::new(0)),
            told: std::array::from_fn(|_| AtomicU64::new(0)),
            hasher: RandomState::new(),
        }
    }

    /// Never 0, which is no name.
    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name) | 1
    }

    /// There is a service of this name.
    pub(crate) fn add(&self, name: &str) {
        self.replace(0, self.hash(name));
    }

    /// There is none of this name any more.
    pub(crate) fn remove(&self, name: &str) {
        self.replace(self.hash(name), 0);
    }

    fn replace(&self, old: u64, new: u64) {
        // Relaxed: the control plane alone writes.
        let place = self.names.iter().find(|place| place.load(Ordering::Relaxed) == old);
        debug_assert!(place.is_some(), "there are as many places as services, and each has one");
        if let Some(place) = place {
            // Relaxed: a name is all there is to read.
            place.store(new, Ordering::Relaxed);
        }
    }

    /// Whether a service has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        let hash = self.hash(name);
        // Relaxed: as above.
        self.names.iter().any(|place| place.load(Ordering::Relaxed) == hash)
    }

    /// Whether this is the first time that a target has this name, which no service has. Never for names that come when 64 others
    /// have.
    pub(crate) fn is_news(&self, name: &str) -> bool {
        let hash = self.hash(name);
        for place in &self.told {
            // Relaxed (all): of several who find the same place empty one writes it, and nothing is read by it.
            match place.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(told) if told == hash => return false,
                Err(_) => {}
            }
        }
        false
    }
}

#[cfg(all(test, not(any(ringmain_loom, ringmain_shuttle))))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_names_known_are_those_of_the_services_there_are(changes in proptest::collection::vec(0_u8..90, 0..200)) {
            let known = ServicesKnown::new();
            let mut model = HashSet::new();
            for name in changes {
                if model.remove(&name) {
                    known.remove(&name.to_string());
                } else if model.len() < SERVICES_MAX {
                    model.insert(name);
                    known.add(&name.to_string());
                }
                for name in 0..90 {
                    prop_assert_eq!(known.has(&name.to_string()), model.contains(&name));
                }
            }
        }
    }

    #[test]
    fn each_name_is_news_once_and_after_64_none_is() {
        let known = ServicesKnown::new();
        let news = |name: usize| known.is_news(&name.to_string());
        assert!((0..TOLD_MAX).all(news));
        assert!(!(0..2 * TOLD_MAX).any(news));
    }
}
