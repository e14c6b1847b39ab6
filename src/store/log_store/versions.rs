//! At which version aggregates are: those looked at lately, and those of events that are being written.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::{Aggregate, Frame};

use super::super::index::{Term, TermHash};

/// An aggregate and its version, as far as the log goes.
#[derive(Debug)]
struct Known {
    kind: Box<str>,
    id: Box<str>,
    version: u64,
}

type ByTerm<V> = HashMap<Term, V, TermHash>;

/// Versions of aggregates. What it does not know has to be looked up in the indices.
#[derive(Debug)]
pub(super) struct Versions {
    /// Two halves: what is asked for moves to the young one; when that is full, the old one is forgotten.
    young: ByTerm<Known>,
    old: ByTerm<Known>,
    aggregates_max: usize,
    /// Counts what makes a version that was looked up before perhaps an old one: aggregates forgotten, and events written
    /// of aggregates that were not known.
    losses: u64,
    /// Events that are laid out for the next write.
    staged: ByTerm<SmallVec<[Frame; 1]>>,
}

impl Versions {
    pub(super) fn new(aggregates_max: usize) -> Self {
        let (young, old, staged) = Default::default();
        Self { young, old, aggregates_max, losses: 0, staged }
    }

    /// The version of an aggregate, if it is known.
    pub(super) fn get(&mut self, kind: &str, id: &str) -> Option<u64> {
        let term = Term::aggregate(kind, id);
        if let Some(known) = self.young.get(&term).filter(|known| known.is(kind, id)) {
            return Some(known.version);
        }
        let known = self.old.get(&term).filter(|known| known.is(kind, id))?;
        let version = known.version;
        self.learn(kind, id, version);
        Some(version)
    }

    /// Takes a version that is that of the log.
    pub(super) fn learn(&mut self, kind: &str, id: &str, version: u64) {
        if self.young.len() >= self.aggregates_max.div_ceil(2) {
            self.old = std::mem::take(&mut self.young);
            self.losses += 1;
        }
        let term = Term::aggregate(kind, id);
        self.old.remove(&term);
        let known = Known { kind: kind.into(), id: id.into(), version };
        // Another aggregate with the same term is forgotten.
        if self.young.insert(term, known).is_some_and(|before| !before.is(kind, id)) {
            self.losses += 1;
        }
    }

    /// Forgets all but what is laid out: events were removed.
    pub(super) fn forget(&mut self) {
        (self.young, self.old) = Default::default();
        self.losses += 1;
    }

    /// To be handed to [`learn_if`](Self::learn_if).
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Takes a version that was looked up after `losses` was read, if it cannot have become an old one meanwhile.
    pub(super) fn learn_if(&mut self, losses: u64, kind: &str, id: &str, version: u64) {
        if self.losses == losses && self.get(kind, id).is_none() {
            self.learn(kind, id, version);
        }
    }

    /// The greatest version of an aggregate among events that are laid out; 0 if there are none.
    pub(super) fn staged(&self, kind: &str, id: &str) -> u64 {
        let staged = self.staged.get(&Term::aggregate(kind, id)).into_iter().flatten();
        let version = |frame: &Frame| {
            let meta = frame.meta();
            meta.aggregate().filter(|of| (of.kind, of.id) == (kind, id)).map_or(0, |of| of.version)
        };
        staged.map(version).max().unwrap_or(0)
    }

    /// Events are laid out.
    pub(super) fn stage(&mut self, frames: &[Frame]) {
        for frame in frames {
            if let Some(Aggregate { kind, id, .. }) = frame.meta().aggregate() {
                self.staged.entry(Term::aggregate(kind, id)).or_default().push(frame.clone());
            }
        }
    }

    /// The oldest that are laid out were written. `is_checked` says that the last one's version follows on the log's.
    pub(super) fn written(&mut self, frames: &[Frame], is_checked: bool) {
        for frame in frames {
            let meta = frame.meta();
            let Some(Aggregate { kind, id, version }) = meta.aggregate() else { continue };
            let term = Term::aggregate(kind, id);
            if let Some(staged) = self.staged.get_mut(&term) {
                staged.remove(0);
                if staged.is_empty() {
                    self.staged.remove(&term);
                }
            }
            let halves = [&mut self.young, &mut self.old];
            let known = halves.into_iter().find_map(|half| half.get_mut(&term).filter(|known| known.is(kind, id)));
            match known {
                Some(known) => known.version = known.version.max(version),
                None if is_checked => self.learn(kind, id, version),
                None => self.losses += 1,
            }
        }
    }

    /// What was laid out was not written.
    pub(super) fn lost(&mut self) {
        self.staged.clear();
    }
}

impl Known {
    fn is(&self, kind: &str, id: &str) -> bool {
        (&*self.kind, &*self.id) == (kind, id)
    }
}
