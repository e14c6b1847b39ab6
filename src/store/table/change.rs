//! A change of a table, and the record that it is in the log.

use std::fmt;

use super::super::log::{ALIGN, HEADER_BYTES, Kind, NewRecord, Record};

/// What a key is the key of. Keys of different kinds are different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyKind(u32);

impl KeyKind {
    /// States of aggregates.
    pub const SNAPSHOT: Self = Self(1);
    /// Positions of subscriptions.
    pub const CURSOR: Self = Self(2);
    /// Dead letters.
    pub const LETTER: Self = Self(3);
    /// Schedules, retries, timeouts.
    pub const TIMER: Self = Self(4);
    /// States of sagas and process managers.
    pub const SAGA: Self = Self(5);

    /// The number that is written.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::SNAPSHOT => "snapshot",
            Self::CURSOR => "cursor",
            Self::LETTER => "letter",
            Self::TIMER => "timer",
            Self::SAGA => "saga",
            Self(other) => return write!(f, "kind {other}"),
        })
    }
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// It has this value from now on.
    Put {
        /// What it is the key of.
        kind: KeyKind,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// It has no value from now on, if it had one.
    Remove {
        /// What it is the key of.
        kind: KeyKind,
        /// The key.
        key: &'a [u8],
    },
}

impl<'a> Change<'a> {
    /// What the key is the key of.
    pub fn kind(&self) -> KeyKind {
        let (Self::Put { kind, .. } | Self::Remove { kind, .. }) = self;
        *kind
    }

    /// The key.
    pub fn key(&self) -> &'a [u8] {
        let (Self::Put { key, .. } | Self::Remove { key, .. }) = self;
        key
    }

    /// The value it has then.
    pub fn value(&self) -> Option<&'a [u8]> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Remove { .. } => None,
        }
    }

    /// The record that says it, whose body is laid out in `body`.
    pub(super) fn record<'b>(&self, body: &'b mut Vec<u8>) -> NewRecord<'b> {
        body.clear();
        body.extend_from_slice(self.value().unwrap_or_default());
        body.extend_from_slice(self.key());
        let kind = if self.value().is_some() { Kind::PUT } else { Kind::REMOVE };
        NewRecord { kind, flags: self.key().len() as u32, lane: self.kind().0, sequence: 0, body }
    }

    /// What a record says; none if it is no table's.
    pub(super) fn of(record: &Record<'a>) -> Option<Self> {
        let key_at = record.body.len().checked_sub(record.header.flags as usize)?;
        let (value, key) = record.body.split_at(key_at);
        let kind = KeyKind(record.header.lane);
        match record.header.kind {
            Kind::PUT => Some(Self::Put { kind, key, value }),
            Kind::REMOVE if value.is_empty() => Some(Self::Remove { kind, key }),
            _ => None,
        }
    }

    /// Bytes of its record in the log.
    pub(super) fn extent_bytes(&self) -> u64 {
        extent_bytes(self.key().len() + self.value().map_or(0, <[u8]>::len))
    }
}

/// Bytes of a record with such a body.
pub(super) fn extent_bytes(body_bytes: usize) -> u64 {
    (HEADER_BYTES + body_bytes.next_multiple_of(ALIGN)) as u64
}
