//! The thread that writes the indices of segments, so that whoever appends does not.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::super::Position;
use super::super::log::Fault;
use super::part::Part;
use super::retention::Upkeep;
use super::shared::Shared;

/// Old events are looked for this often, beside when a segment is full.
const UPKEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// Indices in memory that may wait to be written; whoever fills one more segment waits.
const WAITING_MAX: usize = 8;

/// An index that could not be written. Queries read its events instead, slower and not wrong; it is made again when the store
/// is opened next.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IndexFault {
    /// The position of the first event in it.
    pub first: Position,
    /// The position of the last event in it.
    pub last: Position,
    /// What failed.
    pub fault: Fault,
}

impl fmt::Display for IndexFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, fault } = self;
        write!(
            f,
            "the index of positions {first} to {last} was not written: {fault}; mend that and open the store again"
        )
    }
}

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Indexer {
    state: Mutex<State>,
    /// The thread waits here for work, whoever appends for room.
    changed: Condvar,
    panicked: OnceLock<IndexerPanicked>,
}

/// The thread that writes indices and sees to old events has panicked. What is appended is kept and found, but indices would
/// stay in memory, more of them with every segment: so nothing more is appended until the store is opened again.
#[derive(Debug, Clone)]
pub(super) struct IndexerPanicked(Arc<str>);

impl fmt::Display for IndexerPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the thread that writes indices panicked: {}; open the store again, and report this", self.0)
    }
}

impl Error for IndexerPanicked {}

#[derive(Debug, Default)]
struct State {
    parts: VecDeque<Arc<Part>>,
    /// A segment was filled, or an hour went by, since old events were looked for.
    is_upkeep_due: bool,
    upkeep_fault: Option<Fault>,
    last_upkeep: Upkeep,
    /// Of segments whose index could not be written, by their first positions.
    faults: BTreeMap<u64, IndexFault>,
    /// Nothing more comes: the thread ends when all is done.
    is_ending: bool,
    /// The thread ends after what it is doing.
    is_closed: bool,
}

impl Indexer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in a segment that is full. Blocks while too many wait.
    pub(super) fn hand_in(&self, part: Arc<Part>) {
        let mut state = self.state();
        while state.parts.len() >= WAITING_MAX && !state.is_closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.parts.push_back(part);
        state.is_upkeep_due = true;
        drop(state);
        self.changed.notify_all();
    }

    /// Hands in a segment that has to be read again for its index. Does not block.
    pub(super) fn remake(&self, part: &Arc<Part>) {
        let mut state = self.state();
        if !state.parts.iter().any(|waiting| Arc::ptr_eq(waiting, part)) {
            state.parts.push_back(Arc::clone(part));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Has the thread look for old events again.
    pub(super) fn look_again(&self) {
        self.state().is_upkeep_due = true;
        self.changed.notify_all();
    }

    /// Why old events were not dealt with when that was last tried.
    pub(super) fn upkeep_fault(&self) -> Option<Fault> {
        self.state().upkeep_fault.clone()
    }

    /// What was done to old events when that was last tried.
    pub(super) fn last_upkeep(&self) -> Upkeep {
        self.state().last_upkeep
    }

    /// Indices that could not be written, oldest first.
    pub(super) fn faults(&self) -> Vec<IndexFault> {
        self.state().faults.values().cloned().collect()
    }

    /// Lets the thread end: when all is done, or after what it is doing.
    pub(super) fn end(&self, when_done: bool) {
        let mut state = self.state();
        state.is_ending = true;
        state.is_closed |= !when_done;
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the thread has panicked.
    pub(super) fn check(&self) -> Result<(), IndexerPanicked> {
        self.panicked.get().map_or(Ok(()), |panicked| Err(panicked.clone()))
    }

    /// The thread. A panic is remembered, and whoever waits for it does not.
    pub(super) fn run(&self, shared: &Shared) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work(shared))) {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it did not say why");
            self.panicked.get_or_init(|| IndexerPanicked(text.into()));
        }
        self.end(false);
    }

    fn work(&self, shared: &Shared) {
        let mut state = self.state();
        state.is_upkeep_due = true;
        loop {
            if state.is_closed {
                return;
            }
            if let Some(part) = state.parts.front().cloned() {
                drop(state);
                // One that cannot be written is done without: its segment is read instead, and the index is made again
                // when the store is opened next.
                let written = part.write_index(&*shared.disk, &shared.folder, &shared.reader);
                state = self.state();
                state.parts.pop_front();
                state.faults.remove(&part.first);
                if let Err(fault) = written {
                    let [first, last] =
                        [part.first, part.last].map(|number| Position::new(number).expect("positions count from 1"));
                    state.faults.insert(part.first, IndexFault { first, last, fault });
                }
                self.changed.notify_all();
            } else if state.is_ending {
                return;
            } else if state.is_upkeep_due {
                state.is_upkeep_due = false;
                drop(state);
                // Indices and the end go first: it goes on after them.
                let is_to_stop = || {
                    let state = self.state();
                    state.is_closed || state.is_ending || !state.parts.is_empty()
                };
                let kept = shared.keep(shared.retention, &is_to_stop, |_| {});
                let is_stopped = is_to_stop();
                state = self.state();
                state.is_upkeep_due |= is_stopped;
                match kept {
                    Ok(done) => (state.last_upkeep, state.upkeep_fault) = (done, None),
                    Err(fault) => state.upkeep_fault = Some(fault),
                }
            } else {
                let waited = self.changed.wait_timeout(state, UPKEEP_EVERY).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
                state.is_upkeep_due |= waited.1.timed_out();
            }
        }
    }
}
