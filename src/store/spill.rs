//! Reads back from a journal's store what subscriptions could not take in time.
//!
//! ```text
//!   lane      … 7   8   9  10  11 …        sequences, which the journal writes into its records
//!   store     … │ 7 8 9 │ 10 11 │ …        batches: the trail knows the position behind some of them, and the next sequence
//!                       ▲
//!                       └ whoever wants 9 begins behind the last mark that knows no more than 8
//! ```
//!
//! What came out of the store has a record already, at a place of its own: of the latest of those the trail knows where they are.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::{EventId, Pattern, Priority, SpillError, SpillPage, SpillReader, SpillSource, SpilledEvent};

use super::guard::guarded;
use super::journal::JournalState;
use super::journal::shared::Shared;
use super::{EventStore, Position, Query, ReadError, StoredEvent};

/// Priorities, most urgent first: lanes have these numbers.
const LANES: usize = Priority::ALL.len();
/// Marks that are kept; beyond it every second one goes.
const MARKS_MAX: usize = 1_024;
/// Events that came out of the store, of which it is known where they are.
const REFERENCES_MAX: usize = 65_536;

/// The next sequence of each lane; `None` while no event of it has come.
type Sequences = [Option<u64>; LANES];

/// An event that came out of the store: its place in a lane, and in the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference {
    pub(super) lane: usize,
    pub(super) sequence: u64,
    pub(super) position: Position,
    pub(super) event: EventId,
}

/// How far a journal has come in each lane, and where in the store that is.
pub(super) struct Trail {
    /// What records are told by.
    writer: u64,
    /// Somebody may read them: they have their places.
    is_read: bool,
    is_over: bool,
    /// Changes with each step.
    steps: u64,
    /// Behind what the journal has taken.
    seen: Sequences,
    /// Before these everything is in the store, or never will be.
    passed: Sequences,
    /// Behind each position is everything that was not passed then.
    marks: VecDeque<(Option<Position>, Sequences)>,
    /// Positions from one mark to the next, at least.
    every: u64,
    /// What came out of the store has a record without a place in a lane: the latest of them.
    references: VecDeque<Reference>,
}

impl Trail {
    pub(super) fn new(last: Option<Position>) -> Self {
        Self {
            writer: RandomState::new().hash_one(0),
            is_read: false,
            is_over: false,
            steps: 0,
            seen: [None; LANES],
            passed: [None; LANES],
            marks: VecDeque::from([(last, [None; LANES])]),
            every: 1,
            references: VecDeque::new(),
        }
    }

    /// An event came out of the store.
    pub(super) fn refer(&mut self, reference: Reference) {
        if self.is_read {
            if self.references.len() == REFERENCES_MAX {
                self.references.pop_front();
            }
            self.references.push_back(reference);
        }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// The journal has taken an event. Returns who is to write down its place, if that is to be.
    pub(super) fn see(&mut self, lane: usize, sequence: u64) -> Option<u64> {
        self.seen[lane] = Some(sequence.wrapping_add(1));
        self.is_read.then_some(self.writer)
    }

    /// The event is in the store, or never will be, and so are those of its lane before it.
    pub(super) fn pass(&mut self, lane: usize, sequence: u64) {
        self.passed[lane] = Some(sequence.wrapping_add(1));
        self.steps += 1;
    }

    /// Nothing that the journal has taken waits, if `is_idle`.
    pub(super) fn pass_all(&mut self, is_idle: bool) {
        if is_idle {
            self.passed = self.seen;
            self.steps += 1;
        }
    }

    /// The store ends at `last`, as far as the journal has written it.
    pub(super) fn mark(&mut self, last: Option<Position>) {
        if self.marks.len() == MARKS_MAX {
            let mut nth = 0;
            self.marks.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.every *= 2;
        }
        // Positions are dense, so that the marks are evenly spread.
        let is_due = self.marks.back().is_none_or(|(before, _)| {
            let number = |position: Option<Position>| position.map_or(0, Position::get);
            number(last).saturating_sub(number(*before)) >= self.every
        });
        if is_due {
            self.marks.push_back((last, self.passed));
        }
    }

    pub(super) fn end(&mut self) {
        self.passed = self.seen;
        self.is_over = true;
        self.steps += 1;
    }

    /// A position behind which all of these events are, if they are in the store.
    fn before(&self, first: &[(Priority, u64)]) -> Option<Position> {
        let is_before = |passed: &Sequences| {
            first.iter().all(|&(priority, sequence)| {
                passed[lane_of(priority)].is_none_or(|passed| (passed.wrapping_sub(sequence) as i64) <= 0)
            })
        };
        let mark = self.marks.iter().rev().find(|(_, passed)| is_before(passed));
        mark.or(self.marks.front()).and_then(|(position, _)| *position)
    }
}

/// What a journal keeps, for those who missed it.
pub(super) struct JournalSpill {
    /// None: all.
    patterns: Vec<Pattern>,
    shared: Arc<Shared>,
    writer: u64,
}

impl JournalSpill {
    pub(super) fn new(patterns: &[Pattern], shared: &Arc<Shared>) -> Self {
        let mut inner = shared.inner();
        inner.trail.is_read = true;
        let writer = inner.trail.writer;
        drop(inner);
        Self { patterns: patterns.to_vec(), shared: Arc::clone(shared), writer }
    }
}

impl SpillSource for JournalSpill {
    fn covers(&self, pattern: &Pattern) -> bool {
        self.patterns.is_empty() || self.patterns.iter().any(|kept| kept.covers(pattern))
    }

    fn read_from(&self, first: &[(Priority, u64)]) -> Box<dyn SpillReader> {
        let looked_at = self.shared.inner().trail.before(first);
        let mut next = [None; LANES];
        for &(priority, sequence) in first {
            next[lane_of(priority)] = Some(sequence);
        }
        Box::new(JournalReader { shared: Arc::clone(&self.shared), writer: self.writer, looked_at, steps: None, next })
    }
}

struct JournalReader {
    shared: Arc<Shared>,
    writer: u64,
    /// Up to where it has looked.
    looked_at: Option<Position>,
    /// How far the journal had come when it was said last that everything was read.
    steps: Option<u64>,
    /// The next sequence of each lane that is read.
    next: Sequences,
}

impl JournalReader {
    /// The events of a lane before a sequence that came out of the store.
    fn referred(&mut self, store: &dyn EventStore, lane: usize, before: u64, events: &mut Vec<SpilledEvent>) {
        let Some(next) = self.next[lane] else { return };
        let is_before = |sequence: u64, other: u64| (sequence.wrapping_sub(other) as i64) < 0;
        if !is_before(next, before) {
            return;
        }
        self.next[lane] = Some(before);
        let inner = self.shared.inner();
        let meant =
            |one: &&Reference| one.lane == lane && !is_before(one.sequence, next) && is_before(one.sequence, before);
        let meant: Vec<_> = inner.trail.references.iter().filter(meant).copied().collect();
        drop(inner);
        for Reference { sequence, position, event: id, .. } in meant {
            let query = Query::new().from_position(position).to_position(position);
            // What cannot be read is missed when the lane is complete. So is what another store has at this position: a relay may give
            // events of one.
            let page = guarded(|| store.query(&query), ReadError::Failed).ok();
            let found = page.and_then(|page| page.events.into_iter().next()).filter(|event| event.meta().id() == id);
            let event = |event: StoredEvent| SpilledEvent {
                sequence,
                position: Some(position.get()),
                frame: event.frame().clone(),
            };
            events.extend(found.map(event));
        }
    }
}

/// The lane of a priority: Critical's is the first.
fn lane_of(priority: Priority) -> usize {
    Priority::Critical as usize - priority as usize
}

impl SpillReader for JournalReader {
    fn next_page(&mut self, limit: Duration) -> Result<SpillPage, SpillError> {
        if let Some(steps) = self.steps {
            self.shared.wait_beyond(steps, limit);
        }
        let inner = self.shared.inner();
        let (store, last, steps) = (inner.store.clone(), inner.last, inner.trail.steps);
        let (passed, is_over, failure) = (inner.trail.passed, inner.trail.is_over, failure_of(&inner.state));
        drop(inner);
        let mut page = SpillPage::default();
        let store = store.ok_or_else(|| match is_over {
            true => SpillError::Over(failure.clone()),
            false => SpillError::Failed(failure.clone()),
        })?;
        if let Some(last) = last.filter(|last| self.looked_at < Some(*last)) {
            let query = Query::new().up_to(last);
            let query = match self.looked_at {
                Some(looked_at) => query.behind(looked_at),
                None => query,
            };
            let read = guarded(|| store.query(&query), ReadError::Failed).map_err(|error| match error.behind() {
                Some(behind) => {
                    self.looked_at = Some(behind).max(self.looked_at);
                    SpillError::Unreadable(error.to_string())
                }
                None => SpillError::Failed(error.to_string()),
            })?;
            self.looked_at = read.next.or(Some(last));
            self.steps = None;
            for event in &read.events {
                let Some(sequence) = event.frame().sequence_by(self.writer) else { continue };
                let lane = lane_of(event.meta().priority());
                self.referred(&*store, lane, sequence, &mut page.events);
                page.events.push(SpilledEvent { sequence, position: None, frame: event.frame().clone() });
            }
        } else if is_over && self.steps == Some(steps) {
            return Err(SpillError::Over(failure));
        }
        if self.looked_at >= last {
            self.steps = Some(steps);
            for priority in Priority::ALL {
                let lane = lane_of(priority);
                if let Some(before) = passed[lane] {
                    self.referred(&*store, lane, before, &mut page.events);
                    page.complete_before.push((priority, before));
                }
            }
        }
        Ok(page)
    }
}

fn failure_of(state: &JournalState) -> String {
    match state {
        JournalState::Retrying(error) | JournalState::Lost(error) => error.clone(),
        JournalState::Writing | JournalState::Ended => "the journal has ended".to_owned(),
    }
}
