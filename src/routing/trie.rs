//! The pattern trie: which of many patterns match one name, without asking each of them.
//!
//! Patterns that begin alike share the nodes of their beginning. A node is "these segments have been matched"; its
//! entries are what was inserted under the pattern that ends there. For `a.b` → 1, `a.**` → 2 and `a.**.c` → 3:
//!
//! ```text
//!     root ── a ─┬─ b [1]
//!                └─ ** [2] ── c [3]
//! ```
//!
//! A lookup reads the name as [`Pattern::matches`] does, only that the live states are nodes and belong to all
//! patterns at once. They are a set, rebuilt a segment: however `**` are nested, a node is looked at once a segment,
//! and a lookup costs at most name segments × nodes. In practice it costs the few nodes the name leads to.
//!
//! Used by the control plane only: it allocates.

use std::collections::BTreeMap;

use super::pattern::{Pattern, Segment};
use crate::sync::mutant::mutant;

/// Values filed under patterns.
///
/// The same value may be filed twice; patterns that mean the same (`*` and `**`) are the same here.
#[derive(Debug)]
pub(crate) struct PatternTrie<T> {
    /// Nodes name each other by index. The root is never freed.
    nodes: Vec<Node<T>>,
    /// Indices of `nodes` that are out of use, and empty.
    free: Vec<usize>,
    /// The number of the next entry.
    next_entry: u64,
}

#[derive(Debug)]
struct Node<T> {
    /// By the segment as it is written, wildcards too. A name that holds a `*` does no harm: it finds the child of a
    /// wildcard that matches it anyway.
    children: BTreeMap<Box<str>, usize>,
    /// Whether the segment that leads here is `**`, which stays live whatever is read. Then no child is `**`.
    is_run: bool,
    /// Numbered in the order of insertion.
    entries: Vec<(u64, T)>,
}

const ROOT: usize = 0;

impl<T> PatternTrie<T> {
    /// An empty trie.
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::new(false)], free: Vec::new(), next_entry: 0 }
    }

    /// Files `value` under `pattern`.
    pub(crate) fn insert(&mut self, pattern: &Pattern, value: T) {
        let mut at = ROOT;
        for segment in pattern.segments() {
            at = match self.nodes[at].children.get(segment.as_str()) {
                Some(&child) => child,
                None => self.add_child(at, segment),
            };
        }
        self.nodes[at].entries.push((self.next_entry, value));
        self.next_entry += 1;
    }

    /// Removes the oldest entry of `value` under `pattern`, and the nodes nobody needs any more. False: there is none.
    pub(crate) fn remove(&mut self, pattern: &Pattern, value: &T) -> bool
    where
        T: Eq,
    {
        let mut path = Vec::with_capacity(pattern.segments().len());
        let mut at = ROOT;
        for segment in pattern.segments() {
            let Some(&child) = self.nodes[at].children.get(segment.as_str()) else {
                return false;
            };
            path.push((at, segment, child));
            at = child;
        }
        let entries = &mut self.nodes[at].entries;
        let Some(index) = entries.iter().position(|(_, held)| held == value) else {
            return false;
        };
        entries.remove(index);

        for (parent, segment, child) in path.into_iter().rev() {
            if !self.nodes[child].is_empty() {
                break;
            }
            self.nodes[parent].children.remove(segment.as_str());
            self.free.push(child);
        }
        true
    }

    /// Appends to `found` the value of each entry whose pattern matches `name`, in the order of insertion.
    pub(crate) fn matches_into(&self, name: &str, found: &mut Vec<T>)
    where
        T: Copy,
    {
        let nodes = self.walk(name, || {});
        let mut entries: Vec<(u64, T)> =
            nodes.into_iter().flat_map(|node| self.nodes[node].entries.iter().copied()).collect();
        entries.sort_unstable_by_key(|&(number, _)| number);
        found.extend(entries.into_iter().map(|(_, value)| value));
    }

    /// The nodes where the patterns that match `name` end, each once. Calls `visited` for each node it looks at, so
    /// that a test can count the work.
    fn walk(&self, name: &str, mut visited: impl FnMut()) -> Vec<usize> {
        let mut live = Vec::new();
        self.enter(ROOT, &mut live);
        for read in name.split('.') {
            let mut next = Vec::new();
            for at in live {
                visited();
                let node = &self.nodes[at];
                if mutant!("trie.run", node.is_run => false) {
                    next.push(at);
                }
                for key in [read, Segment::One.as_str()] {
                    if let Some(&child) = node.children.get(key) {
                        self.enter(child, &mut next);
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            live = next;
            if live.is_empty() {
                break;
            }
        }
        live
    }

    /// Makes `node` live, and its `**` with it: a run may stay empty.
    fn enter(&self, node: usize, live: &mut Vec<usize>) {
        live.push(node);
        live.extend(self.nodes[node].children.get(Segment::Run.as_str()));
    }

    fn add_child(&mut self, parent: usize, segment: &Segment) -> usize {
        let node = Node::new(*segment == Segment::Run);
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[parent].children.insert(segment.as_str().into(), child);
        child
    }
}

impl<T> Node<T> {
    fn new(is_run: bool) -> Self {
        Self { children: BTreeMap::new(), is_run, entries: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::pattern::tests::{names, pattern, patterns};
    use super::*;

    // Each is looked for among all the others.
    const OPERATIONS_MAX: usize = if cfg!(miri) { 12 } else { 40 };

    fn found(trie: &PatternTrie<u32>, name: &str) -> Vec<u32> {
        let mut found = Vec::new();
        trie.matches_into(name, &mut found);
        found
    }

    fn visits(trie: &PatternTrie<u32>, name: &str) -> usize {
        let mut visits = 0;
        trie.walk(name, || visits += 1);
        visits
    }

    fn nodes_in_use(trie: &PatternTrie<u32>) -> usize {
        trie.nodes.len() - trie.free.len()
    }

    #[test]
    fn an_entry_that_matches_in_several_ways_is_found_once() {
        let mut trie = PatternTrie::new();
        trie.insert(&pattern("**.a.**"), 1);
        trie.insert(&pattern("**.*.**"), 2);
        trie.insert(&pattern("*"), 3);
        assert_eq!(found(&trie, "a.a.a"), [1, 2, 3]);
    }

    #[test]
    fn found_values_are_appended_in_the_order_of_insertion() {
        let mut trie = PatternTrie::new();
        for (value, text) in (0..).zip(["b", "**", "a", "*.*", "a.**", "a", "*"]) {
            trie.insert(&pattern(text), 9 - value);
        }
        let mut values = vec![100];
        trie.matches_into("a", &mut values);
        assert_eq!(values, [100, 8, 7, 5, 4, 3]);
    }

    #[test]
    fn what_is_not_there_cannot_be_removed() {
        let mut trie = PatternTrie::new();
        trie.insert(&pattern("a.b"), 1);
        for (text, value) in [("a.b", 2), ("a", 1), ("a.b.c", 1), ("b", 1), ("*.b", 1)] {
            assert!(!trie.remove(&pattern(text), &value), "{text}");
        }
        assert_eq!(found(&trie, "a.b"), [1]);
    }

    #[test]
    fn removed_nodes_are_used_again() {
        let mut trie = PatternTrie::new();
        for text in ["a.b.c", "**.a.*", "c.**.d"] {
            trie.insert(&pattern(text), 1);
            assert!(trie.remove(&pattern(text), &1));
        }
        assert_eq!(trie.nodes.len(), 4);
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts more steps than Miri makes in minutes")]
    fn a_lookup_among_100_000_patterns_looks_at_a_few_nodes() {
        let mut trie = PatternTrie::new();
        for value in 0..100_000_u32 {
            let (group, item) = (value / 100, value % 100);
            let text = match value % 4 {
                0 => format!("service{group}.*.item{item}"),
                1 => format!("service{group}.**.item{item}"),
                _ => format!("service{group}.part.item{item}"),
            };
            trie.insert(&pattern(&text), value);
        }
        assert_eq!(found(&trie, "service7.part.item4"), [704]);
        assert_eq!(found(&trie, "service7.x.y.item5"), [705]);
        assert_eq!(found(&trie, "service7.part.item6"), [706]);
        // The root, `service7`, then its three children.
        assert!(visits(&trie, "service7.part.item6") <= 6);
        assert!(visits(&trie, "nobody.part.item6") <= 2);
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts more steps than Miri makes in minutes")]
    fn nested_runs_cost_at_most_segments_times_nodes() {
        // Every pattern of six segments over three words.
        let words = ["**", "*", "a"];
        let mut trie = PatternTrie::new();
        let mut values = Vec::new();
        for value in 0..3_u32.pow(6) {
            let parts: Vec<&str> = (0..6).map(|digit| words[(value / 3_u32.pow(digit) % 3) as usize]).collect();
            trie.insert(&pattern(&parts.join(".")), value);
            if parts.contains(&"**") {
                values.push(value);
            }
        }
        let name = ["a"; 64].join(".");
        assert_eq!(found(&trie, &name), values);
        assert!(visits(&trie, &name) <= 64 * nodes_in_use(&trie));
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_a_scan_finds(
            operations in prop::collection::vec((patterns(), 0..3_u32, any::<Option<Index>>()), 1..OPERATIONS_MAX),
            names in prop::collection::vec(names(), 1..8),
        ) {
            let mut trie = PatternTrie::new();
            let mut model: Vec<(Pattern, u32)> = Vec::new();
            for (pattern, value, remove) in operations {
                // Removes what is there more often than chance would.
                let (pattern, value) = match remove {
                    Some(index) if !model.is_empty() => index.get(&model).clone(),
                    _ => (pattern, value),
                };
                if remove.is_some() {
                    let oldest = model.iter().position(|(held, held_value)| {
                        held.segments() == pattern.segments() && *held_value == value
                    });
                    prop_assert_eq!(trie.remove(&pattern, &value), oldest.is_some());
                    if let Some(oldest) = oldest {
                        model.remove(oldest);
                    }
                } else {
                    trie.insert(&pattern, value);
                    model.push((pattern, value));
                }
                for name in &names {
                    let scan: Vec<u32> = model
                        .iter()
                        .filter(|(pattern, _)| pattern.matches(name))
                        .map(|&(_, value)| value)
                        .collect();
                    prop_assert_eq!(found(&trie, name), scan, "{}", name);
                    prop_assert!(visits(&trie, name) <= name.split('.').count() * nodes_in_use(&trie));
                }
            }
            for (pattern, value) in model {
                prop_assert!(trie.remove(&pattern, &value));
            }
            prop_assert_eq!(nodes_in_use(&trie), 1);
            prop_assert!(trie.nodes.iter().all(Node::is_empty));
        }
    }
}
