//! Which event caused which: the events of one correlation as a tree.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::time::SystemTime;

use crate::EventId;

use super::{Page, Position, Query, ReadError, StoredEvent};

/// Levels that are drawn as branches; deeper ones say how deep they are.
const DRAWN_DEPTH_MAX: usize = 32;

/// The events of one correlation, each below the one that caused it.
///
/// Its `Display` draws the tree:
///
/// ```text
/// task.created 0193… at 1
/// ├─ agent.assigned 0193… at 2
/// │  └─ task.completed 0193… at 4
/// └─ task.audited 0193… at 3
/// ```
#[derive(Debug, Clone)]
pub struct CausationTree {
    correlation: EventId,
    nodes: Vec<CausationNode>,
    roots: Vec<usize>,
    repeats: usize,
    is_cut: bool,
}

/// An event of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CausationNode {
    /// The event.
    pub id: EventId,
    /// Its topic.
    pub topic: String,
    /// Who published it.
    pub source: String,
    /// Its place in the store.
    pub position: Position,
    /// When it was created.
    pub created_at: SystemTime,
    /// The event that caused it.
    pub causation: Option<EventId>,
    /// What it is in the tree.
    pub link: CausationLink,
    /// The events that it caused, as indices of [`CausationTree::nodes`], by position.
    pub children: Vec<usize>,
}

/// How an event hangs in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CausationLink {
    /// It names no cause.
    Root,
    /// It is below its cause.
    Caused,
    /// Its cause is not among the events: of another correlation, not kept, or behind the limit.
    MissingCause,
    /// Its cause is below it: they cause each other. The first of them by position stands for a root.
    Cycle,
}

impl CausationTree {
    /// Events that a tree has at most.
    pub const EVENTS_MAX: usize = 10_000;

    /// Reads the events of a correlation and makes the tree.
    pub(super) fn read(
        correlation: EventId,
        mut query: impl FnMut(&Query) -> Result<Page, ReadError>,
    ) -> Result<Self, ReadError> {
        let mut tree = Self { correlation, nodes: Vec::new(), roots: Vec::new(), repeats: 0, is_cut: false };
        let mut places = HashMap::new();
        let mut next = Query::new().correlation(correlation);
        loop {
            let page = query(&next)?;
            for event in &page.events {
                match places.entry(event.meta().id()) {
                    Entry::Occupied(_) => tree.repeats += 1,
                    Entry::Vacant(_) if tree.nodes.len() == Self::EVENTS_MAX => tree.is_cut = true,
                    Entry::Vacant(place) => {
                        place.insert(tree.nodes.len());
                        tree.nodes.push(CausationNode::of(event));
                    }
                }
            }
            match page.next {
                Some(position) if !tree.is_cut => next = next.behind(position),
                _ => break,
            }
        }
        tree.link(&places);
        Ok(tree)
    }

    fn link(&mut self, places: &HashMap<EventId, usize>) {
        let causes: Vec<_> = self.nodes.iter().map(|node| places.get(&node.causation?).copied()).collect();
        for (at, cause) in causes.iter().enumerate() {
            match cause {
                Some(cause) => self.nodes[*cause].children.push(at),
                None => {
                    let is_root = self.nodes[at].causation.is_none();
                    self.nodes[at].link = if is_root { CausationLink::Root } else { CausationLink::MissingCause };
                    self.roots.push(at);
                }
            }
        }
        let mut is_reached = vec![false; self.nodes.len()];
        self.roots.iter().for_each(|root| self.reach(*root, &mut is_reached));
        for start in 0..self.nodes.len() {
            if is_reached[start] {
                continue;
            }
            // No root is above it, so its causes lead round a cycle.
            let cause = |at: usize| causes[at].expect("what has no cause here is a root");
            let mut on_path = HashMap::new();
            let mut path = Vec::new();
            let mut at = start;
            while !on_path.contains_key(&at) {
                on_path.insert(at, path.len());
                path.push(at);
                at = cause(at);
            }
            let first = path[on_path[&at]..].iter().copied().min().expect("a cycle has an event");
            self.nodes[cause(first)].children.retain(|child| *child != first);
            self.nodes[first].link = CausationLink::Cycle;
            self.roots.push(first);
            self.reach(first, &mut is_reached);
        }
        self.roots.sort_unstable();
    }

    /// Marks an event and all below it.
    fn reach(&self, root: usize, is_reached: &mut [bool]) {
        let mut rest = vec![root];
        while let Some(at) = rest.pop() {
            is_reached[at] = true;
            rest.extend(&self.nodes[at].children);
        }
    }

    /// The correlation.
    pub fn correlation(&self) -> EventId {
        self.correlation
    }

    /// All events, by position. Roots and children are indices of them.
    pub fn nodes(&self) -> &[CausationNode] {
        &self.nodes
    }

    /// Events that are below no other, by position.
    pub fn roots(&self) -> impl ExactSizeIterator<Item = &CausationNode> {
        self.roots.iter().map(|at| &self.nodes[*at])
    }

    /// Events below one, by position.
    pub fn children<'a>(&'a self, node: &'a CausationNode) -> impl ExactSizeIterator<Item = &'a CausationNode> {
        node.children.iter().map(|at| &self.nodes[*at])
    }

    /// How often an event was kept once more: only the first is in the tree.
    pub fn repeats(&self) -> usize {
        self.repeats
    }

    /// Whether there are more events than [`EVENTS_MAX`](Self::EVENTS_MAX): those behind are not in the tree.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl CausationNode {
    fn of(event: &StoredEvent) -> Self {
        let meta = event.meta();
        Self {
            id: meta.id(),
            topic: meta.topic().to_owned(),
            source: meta.source().to_owned(),
            position: event.position(),
            created_at: meta.timestamp(),
            causation: meta.causation(),
            link: CausationLink::Caused,
            children: Vec::new(),
        }
    }
}

impl fmt::Display for CausationNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.topic, self.id, self.position)?;
        match (self.link, self.causation) {
            (CausationLink::MissingCause, Some(cause)) => write!(f, " (its cause {cause} is not here)"),
            (CausationLink::Cycle, Some(cause)) => write!(f, " (its cause {cause} is below it)"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for CausationTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is still to be drawn, the next one last: event, level, what its line and those of its children begin with.
        let mut rest: Vec<(usize, usize, String, String)> =
            self.roots.iter().rev().map(|root| (*root, 0, String::new(), String::new())).collect();
        while let Some((at, level, first, below)) = rest.pop() {
            f.write_str(&first)?;
            if level > DRAWN_DEPTH_MAX {
                write!(f, "[{level}] ")?;
            }
            let node = &self.nodes[at];
            writeln!(f, "{node}")?;
            for (nth, child) in node.children.iter().rev().enumerate() {
                let (branch, trunk) = match nth {
                    _ if level >= DRAWN_DEPTH_MAX => ("", ""),
                    0 => ("└─ ", "   "),
                    _ => ("├─ ", "│  "),
                };
                rest.push((*child, level + 1, format!("{below}{branch}"), format!("{below}{trunk}")));
            }
        }
        if self.repeats > 0 {
            writeln!(f, "kept more than once, shown once: {} times", self.repeats)?;
        }
        if self.is_cut {
            writeln!(f, "cut: there are more than {} events", Self::EVENTS_MAX)?;
        }
        Ok(())
    }
}
