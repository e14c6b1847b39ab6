//! A change of a table, and the record that it is in the log.

use super::super::log::{ALIGN, HEADER_BYTES, Kind, NewRecord, Record};
use super::super::state::{StateChange, StateKind};

impl<'a> StateChange<'a> {
    /// The record that says it, whose body is laid out in `body`.
    pub(super) fn record<'b>(&self, body: &'b mut Vec<u8>) -> NewRecord<'b> {
        body.clear();
        body.extend_from_slice(self.value().unwrap_or_default());
        body.extend_from_slice(self.key());
        let kind = if self.value().is_some() { Kind::PUT } else { Kind::REMOVE };
        NewRecord { kind, flags: self.key().len() as u32, lane: self.kind().number(), sequence: 0, body }
    }

    /// What a record says; none if it is no table's.
    pub(super) fn of(record: &Record<'a>) -> Option<Self> {
        let key_at = record.body.len().checked_sub(record.header.flags as usize)?;
        let (value, key) = record.body.split_at(key_at);
        let kind = StateKind::of_number(record.header.lane);
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
