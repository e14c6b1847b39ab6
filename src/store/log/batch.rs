//! Records on their way into the log, laid out as the log will hold them: only what the log alone knows is missing.

use std::error;
use std::fmt;

use super::record::{HEADER_BYTES, Header, Kind, Place, VERSION, check, padded};

/// A record that is to be appended.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// What it is.
    pub kind: Kind,
    /// The user's.
    pub flags: u32,
    /// The lane the event came by.
    pub lane: u32,
    /// The event's sequence in its lane.
    pub sequence: u64,
    /// Any bytes.
    pub body: &'a [u8],
}

/// Records that are appended together: after a crash all of them are in the log, or none.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u32,
    longest_bytes: usize,
}

/// A body is longer than any record's may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyTooLong {
    /// Bytes of the body.
    pub bytes: usize,
    /// The limit.
    pub max: usize,
}

impl fmt::Display for BodyTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the body of a record is {} bytes, no record may have more than {}; split it", self.bytes, self.max)
    }
}

impl error::Error for BodyTooLong {}

impl Batch {
    /// Bytes of a body that the format has room for; a log's own limit is lower.
    pub const BODY_BYTES_MAX: usize = u32::MAX as usize - HEADER_BYTES;

    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record: copies its body and computes the body's check.
    ///
    /// # Errors
    /// [`BodyTooLong`]. The batch is as it was.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), BodyTooLong> {
        let bytes = record.body.len();
        if bytes > Self::BODY_BYTES_MAX {
            return Err(BodyTooLong { bytes, max: Self::BODY_BYTES_MAX });
        }
        let begin = self.bytes.len();
        self.bytes.resize(begin + HEADER_BYTES, 0);
        self.bytes.extend_from_slice(record.body);
        self.bytes.resize(begin + HEADER_BYTES + padded(bytes as u64) as usize, 0);
        let header = Header {
            version: VERSION,
            kind: record.kind,
            flags: record.flags,
            lane: record.lane,
            position: 0,
            durable: 0,
            written_unix_ns: 0,
            sequence: record.sequence,
            batch_left: 0,
            body_bytes: bytes as u32,
            body_check: check(&self.bytes[begin + HEADER_BYTES..]),
        };
        // `place` writes the rest, and the header's check.
        self.bytes[begin..begin + HEADER_BYTES].copy_from_slice(&header.encode_unsealed());
        self.records += 1;
        self.longest_bytes = self.longest_bytes.max(bytes);
        Ok(())
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes it takes in a segment.
    pub fn extent_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes all records out and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
        self.longest_bytes = 0;
    }

    /// Where each record is when the first is at an offset.
    pub fn offsets(&self, first: u64) -> impl Iterator<Item = u64> + '_ {
        let mut at = 0;
        (0..self.records).map(move |_| {
            let offset = first + at as u64;
            let header = self.bytes[at..].first_chunk().expect("a batch holds whole records");
            at += Header::unchecked(header).extent_bytes() as usize;
            offset
        })
    }

    /// Bytes of the longest body.
    pub(super) fn longest_bytes(&self) -> usize {
        self.longest_bytes
    }

    /// Appends the records to `staged` as they lie in a segment from `place` on; tells `each` the position and offset of
    /// every one.
    pub(super) fn place(&self, stamp: Stamp, place: Place, staged: &mut Vec<u8>, mut each: impl FnMut(u64, u64)) {
        let begin = staged.len();
        staged.extend_from_slice(&self.bytes);
        let mut at = begin;
        for nth in 0..self.records {
            let bytes: &mut [u8; HEADER_BYTES] = staged[at..].first_chunk_mut().expect("a batch holds whole records");
            let header = Header {
                position: stamp.position + u64::from(nth),
                durable: stamp.durable,
                written_unix_ns: stamp.written_unix_ns,
                batch_left: self.records - 1 - nth,
                ..Header::unchecked(bytes)
            };
            let offset = place.offset + (at - begin) as u64;
            *bytes = header.encode(Place { offset, ..place });
            each(header.position, offset);
            at += header.extent_bytes() as usize;
        }
    }
}

/// What only the log knows of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    /// Of the first record.
    pub(super) position: u64,
    pub(super) durable: u64,
    pub(super) written_unix_ns: u64,
}
