//! The compiled routing table: an event type's id is an index, and behind it are the targets, nothing else.
//!
//! Patterns, type lists and priorities are resolved when a subscription or a type is added, so a lookup costs the same
//! whatever the number of subscriptions that do not match. Tables are values: the control plane edits its own and
//! hands each worker a clone, which shares all chunks that did not change.

use std::sync::Arc;

const CHUNK: usize = 64;

#[derive(Debug, Clone)]
struct Chunk<T> {
    routes: [Option<Arc<[T]>>; CHUNK],
}

/// Targets by type id.
#[derive(Debug, Clone)]
pub(crate) struct Table<T> {
    chunks: Vec<Arc<Chunk<T>>>,
    /// Ids from here on were not known when the table was compiled.
    types: u32,
}

impl<T: Clone> Table<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), types: 0 }
    }

    /// The targets of a type. `None` when the table is older than the type.
    #[inline(always)]
    pub(crate) fn targets(&self, type_id: u32) -> Option<&[T]> {
        if type_id >= self.types {
            return None;
        }
        let chunk = &self.chunks[type_id as usize / CHUNK];
        Some(chunk.routes[type_id as usize % CHUNK].as_deref().unwrap_or(&[]))
    }

    /// Sets the targets of a type, and makes the table know all types up to it.
    pub(crate) fn set(&mut self, type_id: u32, targets: Vec<T>) {
        self.types = self.types.max(type_id + 1);
        let empty = || Arc::new(Chunk { routes: [const { None }; CHUNK] });
        self.chunks.resize_with((self.types as usize).div_ceil(CHUNK), empty);
        let chunk = Arc::make_mut(&mut self.chunks[type_id as usize / CHUNK]);
        chunk.routes[type_id as usize % CHUNK] = if targets.is_empty() { None } else { Some(targets.into()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn a_table_agrees_with_a_map_and_clones_do_not_change(
            edits in proptest::collection::vec((0_u32..300, proptest::collection::vec(0_u16..9, 0..4)), 1..60),
        ) {
            let mut table = Table::new();
            let mut map = HashMap::new();
            let mut clones = Vec::new();
            for (id, targets) in edits {
                clones.push((table.clone(), map.clone()));
                table.set(id, targets.clone());
                map.insert(id, targets);
            }
            clones.push((table, map));
            for (table, map) in clones {
                let known = map.keys().max().map_or(0, |max| max + 1);
                for id in 0..310 {
                    let expected = (id < known).then(|| map.get(&id).cloned().unwrap_or_default());
                    prop_assert_eq!(table.targets(id).map(<[u16]>::to_vec), expected);
                }
            }
        }
    }
}
