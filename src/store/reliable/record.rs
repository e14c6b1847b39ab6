//! What is kept of the event in hand.
//!
//! ```text
//!   key     bytes of the subscription's name 1 │ name
//!   value   format 1 │ phase 1 │ attempts 1 │ 0 │ releases 2 │ 0 0 │ position 8 │ the event's id 16
//!           │ first attempt 8, waits since 8, due 8: Unix ns, 0 = none │ bytes of the error 4 │ as much of the error as is kept
//! ```

use std::time::{Duration, SystemTime};

use crate::EventId;

use super::super::Position;
use super::super::snapshot::{time, unix_ns};

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 60;
/// Bytes of an error that are kept, as of that of a dead letter.
const ERROR_BYTES_MAX: usize = 1_024;

/// How far the event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// An attempt is under way.
    Begun = 1,
    /// It is to be tried again.
    Waiting = 2,
    /// It is a dead letter.
    Settled = 3,
}

/// An event, and the attempts at it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) position: Position,
    pub(super) id: EventId,
    pub(super) phase: Phase,
    pub(super) attempts: u8,
    pub(super) releases: u16,
    first_attempt: i64,
    waits_since: i64,
    due: i64,
    /// What the last attempt said, as much as is kept.
    pub(super) error: String,
    pub(super) error_bytes: u32,
}

impl Record {
    /// Of an event that was not tried yet.
    pub(super) fn new(position: Position, id: EventId) -> Self {
        let (first_attempt, waits_since, due) = (0, 0, 0);
        let (phase, attempts, releases) = (Phase::Waiting, 0, 0);
        let (error, error_bytes) = (String::new(), 0);
        Self { position, id, phase, attempts, releases, first_attempt, waits_since, due, error, error_bytes }
    }

    /// With one more attempt, which begins now.
    pub(super) fn begun(&self, now: SystemTime) -> Self {
        let first_attempt = if self.first_attempt == 0 { unix_ns(now) } else { self.first_attempt };
        let attempts = self.attempts.saturating_add(1);
        Self { phase: Phase::Begun, attempts, first_attempt, waits_since: 0, due: 0, ..self.clone() }
    }

    /// The attempt has failed.
    pub(super) fn failed(&mut self, error: &str) {
        self.error_bytes = u32::try_from(error.len()).unwrap_or(u32::MAX);
        shortened(error).clone_into(&mut self.error);
    }

    /// The attempt was none.
    pub(super) fn released(&mut self) {
        self.attempts -= 1;
        self.releases += 1;
    }

    /// As a dead letter.
    pub(super) fn settled(&self) -> Self {
        Self { phase: Phase::Settled, ..self.clone() }
    }

    pub(super) fn wait_until(&mut self, now: SystemTime, due: SystemTime) {
        self.phase = Phase::Waiting;
        (self.waits_since, self.due) = (unix_ns(now), unix_ns(due));
    }

    /// How long it has to wait yet; `None` when it is due.
    pub(super) fn wait(&self, now: SystemTime) -> Option<Duration> {
        let now = unix_ns(now);
        let waits = self.phase == Phase::Waiting && (self.waits_since..self.due).contains(&now);
        waits.then(|| Duration::from_nanos(self.due.abs_diff(now)))
    }

    pub(super) fn due(&self) -> Option<SystemTime> {
        (self.phase == Phase::Waiting && self.due != 0).then(|| time(self.due))
    }

    pub(super) fn first_attempt(&self) -> Option<SystemTime> {
        (self.first_attempt != 0).then(|| time(self.first_attempt))
    }

    /// What its delays are drawn from.
    pub(super) fn seed(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = *self.id.as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from(self.attempts)
    }

    pub(super) fn written(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(HEAD_BYTES + self.error.len());
        value.extend_from_slice(&[FORMAT, self.phase as u8, self.attempts, 0]);
        value.extend_from_slice(&self.releases.to_le_bytes());
        value.extend_from_slice(&[0; 2]);
        value.extend_from_slice(&self.position.get().to_le_bytes());
        value.extend_from_slice(self.id.as_bytes());
        for unix_ns in [self.first_attempt, self.waits_since, self.due] {
            value.extend_from_slice(&unix_ns.to_le_bytes());
        }
        value.extend_from_slice(&self.error_bytes.to_le_bytes());
        value.extend_from_slice(self.error.as_bytes());
        value
    }

    /// `None` for what is no record.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let (head, error) = value.split_first_chunk::<HEAD_BYTES>()?;
        let long = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let phase = match (head[0], head[1]) {
            (FORMAT, 1) => Phase::Begun,
            (FORMAT, 2) => Phase::Waiting,
            (FORMAT, 3) => Phase::Settled,
            _ => return None,
        };
        Some(Self {
            position: Position::new(long(8)?)?,
            id: EventId::from_bytes(head[16..32].try_into().ok()?),
            phase,
            attempts: head[2],
            releases: u16::from_le_bytes([head[4], head[5]]),
            first_attempt: long(32)? as i64,
            waits_since: long(40)? as i64,
            due: long(48)? as i64,
            error: std::str::from_utf8(error).ok()?.to_owned(),
            error_bytes: head[56..].try_into().map(u32::from_le_bytes).ok()?,
        })
    }
}

/// The beginning of an error that is too long to be kept.
fn shortened(error: &str) -> &str {
    let end = (0..=error.len().min(ERROR_BYTES_MAX)).rev().find(|end| error.is_char_boundary(*end));
    &error[..end.expect("0 is a boundary")]
}
