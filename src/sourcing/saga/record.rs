//! What is kept of a saga between its steps.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::definition::Saga;
use crate::sourcing::persist::Mark;

/// The last byte is the version of the layout.
pub(super) const MARK: Mark = *b"ringmain saga\0\0\x02";
/// No instant.
pub(super) const NEVER: u64 = u64::MAX;
/// Bytes of an error that are kept.
const TEXT_BYTES_MAX: usize = 1_024;

/// Where a saga is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[non_exhaustive]
pub enum SagaPhase {
    /// A step is under way, or waits for its next attempt.
    Executing,
    /// A step waits for an event.
    Waiting,
    /// A step is being undone, or waits for its next attempt.
    Compensating,
    /// A step could not be undone: see [`Sagas::retry`](super::Sagas::retry).
    Stuck,
    /// All steps are done.
    Completed,
    /// All that was done was undone.
    Compensated,
}

impl SagaPhase {
    /// Whether nothing more happens to it.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }
}

impl fmt::Display for SagaPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Executing => "executing",
            Self::Waiting => "waiting",
            Self::Compensating => "compensating",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        })
    }
}

/// A saga as it is kept. Instants are nanoseconds of Unix time, by the clock of the run that has kept it.
#[derive(Debug, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) phase: SagaPhase,
    /// The step that the phase speaks of, from 0.
    pub(super) step: u32,
    /// Of executing or compensating that step, from 1.
    pub(super) attempt: u32,
    /// The attempt is not made before.
    pub(super) due: u64,
    pub(super) step_deadline: u64,
    pub(super) deadline: u64,
    /// Events that ended a step: the same comes again when whoever brings it does not know.
    pub(super) heard: Vec<[u8; 16]>,
    /// Why it is compensated.
    pub(super) reason: Option<String>,
    /// Why the last attempt failed.
    pub(super) error: Option<String>,
    pub(super) data: Vec<u8>,
    pub(super) kept: Kept,
}

/// When a saga was kept, and by which clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Kept {
    pub(super) at: u64,
    /// Runs of one process have the same clock; 0 = one of the user's.
    pub(super) run: u64,
    /// What is to be added to its instants for those of the wall clock.
    pub(super) to_wall: i64,
}

impl Record {
    pub(super) fn new<D>(definition: &Saga<D>, data: Vec<u8>, now: u64) -> Self {
        let mut record = Self {
            version: definition.version,
            phase: SagaPhase::Executing,
            step: 0,
            attempt: 1,
            due: now,
            step_deadline: NEVER,
            deadline: after(now, definition.timeout),
            heard: Vec::new(),
            reason: None,
            error: None,
            data,
            kept: Kept::default(),
        };
        record.begin(definition, 0, now);
        record
    }

    /// Moves all its instants.
    pub(super) fn shift(&mut self, by: i64) {
        for instant in [&mut self.due, &mut self.step_deadline, &mut self.deadline, &mut self.kept.at] {
            if *instant != NEVER {
                *instant = instant.saturating_add_signed(by).min(NEVER - 1);
            }
        }
    }

    /// Begins a step; behind the last one the saga is completed.
    pub(super) fn begin<D>(&mut self, definition: &Saga<D>, step: usize, now: u64) {
        (self.attempt, self.due, self.error) = (1, now, None);
        match definition.steps.get(step) {
            Some(begun) => {
                (self.phase, self.step) = (SagaPhase::Executing, step as u32);
                self.step_deadline = after(now, begun.timeout);
            }
            None => self.phase = SagaPhase::Completed,
        }
    }

    /// Begins to undo, with this step or the last one before it that can be undone; without one the saga is compensated.
    pub(super) fn undo<D>(&mut self, definition: &Saga<D>, step: Option<usize>, now: u64) {
        (self.attempt, self.due, self.error) = (1, now, None);
        match step.and_then(|step| definition.to_compensate(step)) {
            Some(step) => (self.phase, self.step) = (SagaPhase::Compensating, step as u32),
            None => self.phase = SagaPhase::Compensated,
        }
    }

    /// When a step or the saga was to be done.
    pub(super) fn time_limit(&self) -> u64 {
        self.step_deadline.min(self.deadline)
    }

    /// When it has something to do.
    pub(super) fn wakes_at(&self) -> u64 {
        match self.phase {
            SagaPhase::Executing => self.due.min(self.time_limit()),
            SagaPhase::Waiting => self.time_limit(),
            SagaPhase::Compensating => self.due,
            SagaPhase::Stuck | SagaPhase::Completed | SagaPhase::Compensated => NEVER,
        }
    }

    pub(super) fn status<D>(&self, id: &str, definition: Option<&Saga<D>>) -> SagaStatus {
        let step = definition.and_then(|definition| definition.steps.get(self.step as usize));
        let wakes_at = self.wakes_at();
        SagaStatus {
            id: id.to_owned(),
            version: self.version,
            phase: self.phase,
            step: step.filter(|_| !self.phase.is_end()).map(|step| step.name.clone()),
            attempt: self.attempt,
            reason: self.reason.clone(),
            error: self.error.clone(),
            due: (wakes_at != NEVER).then(|| UNIX_EPOCH + Duration::from_nanos(wakes_at)),
        }
    }
}

/// How a saga stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SagaStatus {
    /// Which one.
    pub id: String,
    /// The version of its definition.
    pub version: u32,
    /// Where it is.
    pub phase: SagaPhase,
    /// The step that the phase speaks of; `None` when it has ended, or its definition is not known.
    pub step: Option<String>,
    /// Which attempt at that step comes next or is under way, from 1.
    pub attempt: u32,
    /// Why it is compensated.
    pub reason: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it has something to do; `None` when it only waits for an event or for somebody, or has ended.
    pub due: Option<SystemTime>,
}

/// Nanoseconds of Unix time; 0 for what was before.
pub(super) fn unix_ns(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos()).unwrap_or(NEVER)
}

/// The instant so long after another; never, if it may take for ever.
pub(super) fn after(now: u64, time: Option<Duration>) -> u64 {
    time.map_or(NEVER, |time| now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(NEVER)))
}

/// The beginning of a text that is too long to be kept.
pub(super) fn shortened(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.expect("0 is a boundary"));
    }
    text
}
