//! The compiled routing table: an event type's id is an index, and behind it is its route, nothing else.
//!
//! Patterns, type lists and priorities are resolved when a subscription or a type is added, so a lookup costs the same
//! whatever the number of subscriptions that do not match. Tables are values: the control plane edits its own and
//! hands each worker a clone, which shares all chunks that did not change.

use std::sync::Arc;

const CHUNK: usize = 64;

#[derive(Debug)]
struct Chunk<R> {
    routes: [Option<Arc<R>>; CHUNK],
}

impl<R> Clone for Chunk<R> {
    fn clone(&self) -> Self {
        Self { routes: self.routes.clone() }
    }
}

/// Routes by type id.
#[derive(Debug)]
pub(crate) struct Table<R> {
    chunks: Vec<Arc<Chunk<R>>>,
    /// Ids from here on were not known when the table was compiled.
    types: u32,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), types: self.types }
    }
}

impl<R> Table<R> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), types: 0 }
    }

    /// Whether the table is as young as the type.
    #[inline(always)]
    pub(crate) fn knows(&self, type_id: u32) -> bool {
        type_id < self.types
    }

    /// The route of a type, if it has one.
    #[inline(always)]
    pub(crate) fn route(&self, type_id: u32) -> Option<&R> {
        let chunk = self.chunks.get(type_id as usize / CHUNK)?;
        chunk.routes[type_id as usize % CHUNK].as_deref()
    }

    /// Sets the route of a type, and makes the table know all types up to it.
    pub(crate) fn set(&mut self, type_id: u32, route: Option<R>) {
        self.types = self.types.max(type_id + 1);
        let empty = || Arc::new(Chunk { routes: [const { None }; CHUNK] });
        self.chunks.resize_with((self.types as usize).div_ceil(CHUNK), empty);
        let chunk = Arc::make_mut(&mut self.chunks[type_id as usize / CHUNK]);
        chunk.routes[type_id as usize % CHUNK] = route.map(Arc::new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    // Miri looks at each step, and takes its time.
    const EDITS_MAX: usize = if cfg!(miri) { 6 } else { 60 };

    proptest! {
        #[test]
        fn a_table_agrees_with_a_map_and_clones_do_not_change(
            edits in proptest::collection::vec((0_u32..300, proptest::option::of(0_u16..9)), 1..EDITS_MAX),
        ) {
            let mut table = Table::new();
            let mut map = HashMap::new();
            let mut clones = Vec::new();
            for (id, route) in edits {
                clones.push((table.clone(), map.clone()));
                table.set(id, route);
                map.insert(id, route);
            }
            clones.push((table, map));
            for (table, map) in clones {
                let known = map.keys().max().map_or(0, |max| max + 1);
                for id in 0..310 {
                    prop_assert_eq!(table.knows(id), id < known);
                    prop_assert_eq!(table.route(id), map.get(&id).and_then(Option::as_ref));
                }
            }
        }
    }
}
