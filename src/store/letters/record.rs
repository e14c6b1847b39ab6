//! A dead letter as state.
//!
//! ```text
//!   key     bytes of the name of the queue 1 │ that name │ id 8, big-endian
//!   value   format 1 │ reason 1 │ parts 2 │ attempts 4 │ died 8 │ first attempt 8, Unix ns, 0 = none │ bytes of the error 4
//!           │ of the name 4 │ of the error that is kept 2 │ name │ error │ the event's frame
//!   a frame too long for one value goes on in parts, whose keys have the part's number behind the id: 2, big-endian
//! ```

use std::time::SystemTime;

use crate::{DeadLetter, DeadReason, Frame};

use super::super::name::Name;
use super::super::snapshot::{time, unix_ns};
use super::super::state::{STATE_VALUE_BYTES_MAX, StateKind};
use super::DeadLetterQueueError;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 34;

/// A dead letter in a store: an event, and the story of its end.
#[derive(Debug, Clone)]
pub struct StoredLetter {
    id: u64,
    frame: Frame,
    name: Box<str>,
    reason: DeadReason,
    attempts: u32,
    error: Option<Box<str>>,
    error_bytes: usize,
    first_attempt: Option<SystemTime>,
    died: SystemTime,
}

impl StoredLetter {
    /// Its number in the queue: they rise in the order of deaths, also from process to process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The event.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The name of the subscription that gave it up.
    pub fn subscription_name(&self) -> &str {
        &self.name
    }

    /// Why.
    pub fn reason(&self) -> DeadReason {
        self.reason
    }

    /// Attempts at delivery there were; 0 when it never came to one.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What the last attempt said, as far as the letter has it.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Bytes of what the last attempt said, before it was cut.
    pub fn error_bytes(&self) -> usize {
        self.error_bytes
    }

    /// When the first attempt at delivery began.
    pub fn first_attempt(&self) -> Option<SystemTime> {
        self.first_attempt
    }

    /// When it was given up.
    pub fn died(&self) -> SystemTime {
        self.died
    }
}

/// What a letter is written of.
pub(in super::super) struct NewLetter<'a> {
    pub(in super::super) frame: &'a Frame,
    /// Of the subscription that gave it up.
    pub(in super::super) name: &'a str,
    pub(in super::super) reason: DeadReason,
    pub(in super::super) attempts: u32,
    /// At most as many bytes as [`DeadLetter::error`] has.
    pub(in super::super) error: Option<&'a str>,
    pub(in super::super) error_bytes: usize,
    pub(in super::super) first_attempt: Option<SystemTime>,
    pub(in super::super) died: SystemTime,
}

impl<'a> NewLetter<'a> {
    pub(super) fn of(letter: &'a DeadLetter, frame: &'a Frame) -> Self {
        Self {
            frame,
            name: letter.subscription_name(),
            reason: letter.reason(),
            attempts: letter.attempts(),
            error: letter.error(),
            error_bytes: letter.error_bytes(),
            first_attempt: letter.first_attempt(),
            died: letter.died(),
        }
    }
}

/// The number of a reason, which never changes.
fn number(reason: DeadReason) -> u8 {
    match reason {
        DeadReason::AttemptsExhausted => 1,
        DeadReason::Rejected => 2,
        DeadReason::TimedOut => 3,
        DeadReason::ReleasesExhausted => 4,
        DeadReason::MailboxFull => 5,
        DeadReason::BreakerOpen => 6,
        DeadReason::RateLimited => 7,
        DeadReason::NoInstance => 8,
        DeadReason::Closed => 9,
    }
}

/// The reason of a number.
fn reason(number: u8) -> Option<DeadReason> {
    Some(match number {
        1 => DeadReason::AttemptsExhausted,
        2 => DeadReason::Rejected,
        3 => DeadReason::TimedOut,
        4 => DeadReason::ReleasesExhausted,
        5 => DeadReason::MailboxFull,
        6 => DeadReason::BreakerOpen,
        7 => DeadReason::RateLimited,
        8 => DeadReason::NoInstance,
        9 => DeadReason::Closed,
        _ => return None,
    })
}

/// The values of a letter: its own, and those of its parts.
pub(super) fn write(letter: &NewLetter<'_>) -> Vec<Vec<u8>> {
    let NewLetter { frame, name, error, .. } = letter;
    let bytes = HEAD_BYTES + name.len() + error.map_or(0, str::len) + frame.bytes().len();
    let parts = (bytes - 1) / STATE_VALUE_BYTES_MAX;
    let mut all = Vec::with_capacity(bytes);
    all.extend_from_slice(&[FORMAT, number(letter.reason)]);
    all.extend_from_slice(&(parts as u16).to_le_bytes());
    all.extend_from_slice(&letter.attempts.to_le_bytes());
    all.extend_from_slice(&unix_ns(letter.died).to_le_bytes());
    all.extend_from_slice(&letter.first_attempt.map_or(0, unix_ns).to_le_bytes());
    all.extend_from_slice(&u32::try_from(letter.error_bytes).unwrap_or(u32::MAX).to_le_bytes());
    all.extend_from_slice(&(name.len() as u32).to_le_bytes());
    // No text at all is one more than the longest that is kept.
    all.extend_from_slice(&error.map_or(u16::MAX, |error| error.len() as u16).to_le_bytes());
    all.extend_from_slice(name.as_bytes());
    all.extend_from_slice(error.unwrap_or_default().as_bytes());
    all.extend_from_slice(frame.bytes());
    all.chunks(STATE_VALUE_BYTES_MAX).map(<[u8]>::to_vec).collect()
}

/// The keys of a letter, in the order of its values.
pub(super) fn keys(name: &Name, id: u64, parts: u16) -> Vec<(StateKind, Vec<u8>)> {
    let first = (StateKind::DEAD_LETTER, name.key(&id.to_be_bytes()));
    let part = |nth: u16| {
        let rest = [&id.to_be_bytes()[..], &nth.to_be_bytes()].concat();
        (StateKind::DEAD_LETTER_PART, name.key(&rest))
    };
    std::iter::once(first).chain((1..=parts).map(part)).collect()
}

/// The id of a letter, by what its key has behind the name, and how many parts it has.
pub(super) fn known(key: &[u8], value: &[u8]) -> Result<(u64, u16), DeadLetterQueueError> {
    let id = key.try_into().map(u64::from_be_bytes).map_err(|_| DeadLetterQueueError::Record { id: 0 })?;
    Ok((id, parts(value).ok_or(DeadLetterQueueError::Record { id })?))
}

/// How many parts a letter has beside its first value.
fn parts(value: &[u8]) -> Option<u16> {
    match value {
        [FORMAT, _, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    }
}

/// The letter of an id, if there is one.
pub(super) fn read(name: &Name, id: u64) -> Result<Option<StoredLetter>, DeadLetterQueueError> {
    let get = |kind, key: &[u8]| name.state().get(kind, key);
    let Some(first) = get(StateKind::DEAD_LETTER, &name.key(&id.to_be_bytes()))? else { return Ok(None) };
    let parts = parts(&first).ok_or(DeadLetterQueueError::Record { id })?;
    let mut all = first.to_vec();
    for (kind, key) in keys(name, id, parts).iter().skip(1) {
        // It is leaving.
        let Some(part) = get(*kind, key)? else { return Ok(None) };
        all.extend_from_slice(&part);
    }
    parse(id, &all).map(Some).ok_or(DeadLetterQueueError::Record { id })
}

/// `None` for what is no letter.
fn parse(id: u64, bytes: &[u8]) -> Option<StoredLetter> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let word = |at: usize| head[at..at + 4].try_into().map(u32::from_le_bytes);
    let long = |at: usize| head[at..at + 8].try_into().map(i64::from_le_bytes);
    let (name, rest) = rest.split_at_checked(word(28).ok()? as usize)?;
    let error_bytes = Some(u16::from_le_bytes([head[32], head[33]])).filter(|bytes| *bytes != u16::MAX);
    let (error, frame) = rest.split_at_checked(error_bytes.unwrap_or(0).into())?;
    let error = std::str::from_utf8(error).ok()?;
    Some(StoredLetter {
        id,
        frame: Frame::copied_from(frame).ok()?,
        name: std::str::from_utf8(name).ok()?.into(),
        reason: reason(head[1])?,
        attempts: word(4).ok()?,
        error: error_bytes.map(|_| error.into()),
        error_bytes: word(24).ok()? as usize,
        first_attempt: long(16).ok().filter(|unix_ns| *unix_ns != 0).map(time),
        died: time(long(8).ok()?),
    })
}
